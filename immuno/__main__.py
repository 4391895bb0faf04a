"""`python -m immuno`: the canonical command; run in a checkout, its rooms win over other packages of their names."""

from immuno.cli import main

if __name__ == "__main__":
    main()
