"""Runs a short session against every bad reply of tests.hostile.kinds, and prints how each went.

python -m tests.hostile                 # all of them; exit status 1 where a session did not go as it must
python -m tests.hostile usage redirect  # those whose names hold one of the words
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from db import open_store

from .kinds import KINDS
from .sessions import run_all


def main(words: list[str]) -> int:
    """Run and print; return the exit status."""
    kinds = tuple(kind for kind in KINDS if not words or any(word in kind.name for word in words))
    with tempfile.TemporaryDirectory() as folder:
        template = Path(folder) / "new.db"
        open_store(str(template)).close()
        sessions = failed = 0
        for one in run_all(kinds, template, Path(folder)):
            state = "WRONG" if one.wrong else "ok"
            print(f"{state:5} {one.how:6} {one.seconds:4.1f} s  {one.name}: {one.said[:150]}", flush=True)
            for wrong in one.wrong:
                print(f"      {wrong}")
            sessions, failed = sessions + 1, failed + bool(one.wrong)
    print(f"{len(kinds)} kinds, {sessions} sessions: {failed} went wrong")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
