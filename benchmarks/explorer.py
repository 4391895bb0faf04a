"""Measures how soon the explorer answers on a record of 100,000 antibodies, against the bare rows of the same page.

    python benchmarks/explorer.py                        # SQLite, in a temporary folder
    python benchmarks/explorer.py --antibodies 10000
    python benchmarks/explorer.py --db postgresql+psycopg://... # an empty database

Prints for each page the median of 9 requests (all of the answer, whose first byte leaves when it is made: target under
300 ms), the time of the plain way, and their ratio. The plain way is the driver's fetch of the page's 50 rows with
OFFSET in place of the key, sorted the same way, without anything of the page. Nine in ten antibodies are measured, on
three sets each.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import text
from starlette.testclient import TestClient

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from db import AntibodyStore, EffectDraft, GenerationDraft, new_id, open_store
from db.questions.listing import Wanted, antibody_page
from db.schema.engine import reading
from immuno.ui.app import make_app
from immuno_core.records import Antibody, Effect, EncoderInfo

ENCODER = EncoderInfo("made", None, 512, 100.0, 224, "fp32", "w" * 64, "p" * 64)
TIME = datetime(2026, 1, 1, tzinfo=UTC)
IN_GENERATION = 1000
SETS = ("near", "far", "contextual")
TIMES = 9
FAR = 50_000
_MEANS = "(SELECT antibody_id, avg(gain) AS g FROM effects WHERE scope = 'solo' GROUP BY antibody_id)"
PLAIN = {
    "newest": "SELECT * FROM antibodies ORDER BY id DESC",
    "text": "SELECT * FROM antibodies WHERE lower(text) LIKE '%thing 77%' ORDER BY id DESC",
    "gain": f"SELECT a.* FROM antibodies a LEFT JOIN {_MEANS} e ON e.antibody_id = a.id ORDER BY g DESC, a.id",  # noqa: S608
}


def fill(store: AntibodyStore, count: int) -> str:
    """Make a session of that many antibodies; return its id."""
    session = store.create_session("made", config={}, seed=0, git_sha=None, versions={}, encoder=ENCODER)
    for number, start in enumerate(range(0, count, IN_GENERATION)):
        some = tuple(
            Antibody(f"thing {i}", guards=f"class {i % 100}", id=new_id(), cosine=0.5)
            for i in range(start, min(start + IN_GENERATION, count))
        )
        effects = tuple(
            EffectDraft(Effect("solo", name, (i * 7919 % 1000) / 1000, 0.01, -0.01, 0.01, 0.0), antibody_id=one.id)
            for i, one in enumerate(some)
            if i % 10
            for name in SETS
        )
        prompts = {} if number else {"propose": "Name."}
        draft = GenerationDraft(
            session.id, number, None, 0, prompts, True, "", TIME, TIME, antibodies=some, effects=effects
        )
        store.save_generation(draft)
    return session.id


def median(call: Callable[[], Any]) -> float:
    """Milliseconds of the median of some calls, after one that is not counted."""
    taken = []
    for _ in range(TIMES + 1):
        begun = time.perf_counter()
        call()
        taken.append(1000 * (time.perf_counter() - begun))
    return statistics.median(taken[1:])


def rows(store: AntibodyStore, query: str, skipped: int = 0) -> list[Any]:
    """Fetch a page as the driver gives it."""
    with reading(store.engine) as transaction:
        return list(transaction.connection().execute(text(f"{query} LIMIT 50 OFFSET {skipped}")))


def main() -> None:
    """Fill a database and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--antibodies", type=int, default=100_000)
    parser.add_argument("--db")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, open_store(options.db or str(Path(folder) / "x.db")) as store:
        session = fill(store, options.antibodies)
        far = min(FAR, options.antibodies // 2)
        after = antibody_page(store, Wanted(), limit=far).after
        client = TestClient(make_app(store))
        pages = {
            "newest": ("/antibodies", lambda: rows(store, PLAIN["newest"])),
            f"newest, {far:,} on": (f"/antibodies?after={after}", lambda: rows(store, PLAIN["newest"], far)),
            "text contains": ("/antibodies?text=thing+77", lambda: rows(store, PLAIN["text"])),
            "by gain": ("/antibodies?sort=gain", lambda: rows(store, PLAIN["gain"])),
            "of a session, by gain": (f"/antibodies?sort=gain&session={session}", lambda: rows(store, PLAIN["gain"])),
        }
        for name, (address, plain) in pages.items():
            assert client.get(address).status_code == 200  # noqa: S101
            ours, bare = median(lambda address=address: client.get(address)), median(plain)  # type: ignore[misc]
            print(f"{name:<26} {ours:7.0f} ms   plain {bare:7.0f} ms   ratio {ours / bare:.2f}", flush=True)
        for name, address in (("sessions", "/"), ("a session", f"/session/{session}")):
            print(f"{name:<26} {median(lambda address=address: client.get(address)):7.0f} ms", flush=True)  # type: ignore[misc]


if __name__ == "__main__":
    main()
