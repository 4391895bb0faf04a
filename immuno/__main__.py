"""`python -m immuno`: the canonical command; run in a checkout, its rooms win over other packages of their names."""

import contextlib
import os
import sys

from immuno.obstacles import in_the_way


def run() -> None:
    """Run the command line as a program; first see that its own packages are the ones that it would import."""
    if (obstacle := in_the_way()) is not None:
        sys.stderr.write(f"error: {obstacle}\n")
        raise SystemExit(2)
    from immuno.cli import STOPPED, main

    try:
        main()
    except SystemExit as stopped:
        if stopped.code not in (0, STOPPED):
            raise
        # Everything is closed by now. The interpreter's own teardown, with native threads still about, has crashed
        # after a Ctrl-C (status -11 in 1 of 8 tries), and a Ctrl-C in the midst of it makes a finished program look
        # killed: it is left out.
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(int(stopped.code))


if __name__ == "__main__":
    run()
