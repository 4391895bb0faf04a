"""Records replies while another process merges a large database, again and again, and counts those that were lost.

    python -m tests.db.exchange.lost_replies --schedules 50 --rows 500000

Prints how long the slowest recording took; the exit status is 1 where a reply is missing.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from db.calls import record_calls
from db.store import open_store
from immuno_core.records import Verdict
from tests.db.build import call, draft, make_session
from tests.db.workers import finish, start

_MERGE = """
import sys
from db.exchange.joining import merge
from db.store import open_store
with open_store(sys.argv[1]) as here, open_store(sys.argv[2], read_only=True) as other:
    print(sum(one.added for one in merge(here, other)))
"""


def play(folder: Path, other: Path, seed: int) -> tuple[int, float, str]:
    """One schedule: return how many replies were recorded, the seconds of the slowest, and the rows merged."""
    here, pause = folder / f"{seed}.db", np.random.default_rng(seed)
    with open_store(str(here)) as store:
        session, count, slowest = make_session(store), 0, 0.0
        merging = start(_MERGE, str(here), str(other))
        while merging.poll() is None:
            began = time.monotonic()
            record_calls(store, session.id, [call(0, str(count))])
            count, slowest = count + 1, max(slowest, time.monotonic() - began)
            time.sleep(pause.random() / 20)
        (merged,) = finish([merging])
        stored = {one.subject for one in store.llm_calls(session.id)}
        if lost := set(map(str, range(count))) - stored:
            sys.exit(f"schedule {seed}: {len(lost)} of {count} replies are lost")
    here.unlink()
    return count, slowest, merged.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--schedules", type=int, default=50)
    parser.add_argument("--rows", type=int, default=500_000)
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with open_store(str(folder / "other.db")) as other:
            judged = tuple(Verdict("near", f"{i:07}.png", 0.5, True, "dog", None) for i in range(wanted.rows))
            other.save_generation(draft(make_session(other, "large").id, verdicts=judged))
        for seed in range(wanted.schedules):
            count, slowest, merged = play(folder, folder / "other.db", seed)
            print(f"schedule {seed}: {merged} rows merged, {count} replies, the slowest {slowest:.2f} s", flush=True)


if __name__ == "__main__":
    main()
