"""The antibody store: the one door to the database."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from sqlalchemy import URL, Engine, make_url

from db import queries
from db.records import (
    AntibodyRecord,
    EffectRecord,
    GenerationDraft,
    GenerationRecord,
    LlmCallRecord,
    PromptRecord,
    RunRecord,
    RunStatus,
    SessionRecord,
    SessionStatus,
    TestReadRecord,
)
from db.schema import models as m
from db.schema import revision as schema
from db.schema.engine import is_sqlite, make_engine, reading, resolve_url, shown, writing
from db.schema.types import from_json, to_json
from db.writing import add_session, check_session_name, insert_new, is_id, new_id, now, write_generation, write_results
from immuno_core.errors import SetupError, did_you_mean
from immuno_core.records import AntibodyKind, AntibodyStatus, EncoderInfo, ImageSet, ResultRow, Verdict

if TYPE_CHECKING:
    from db.claims import HeldClaim
    from immuno_core.bank import Bank

_LATER = timedelta(microseconds=1)
"""After the state before it, even where the clock was set back meanwhile: a merge takes the later state."""


class RunBook:
    """Runs, results and reads of the sealed split; what holds is said by the storage contract (db.store)."""

    _engine: Engine

    def start_run(
        self,
        *,
        config: Mapping[str, Any],
        config_digest: str,
        seed: int,
        git_sha: str | None,
        versions: Mapping[str, str],
        session_id: str | None = None,
    ) -> RunRecord:
        """Begin a run (status running); `session_id` where it measures a session's bank."""
        run = RunRecord(
            id=new_id(),
            config=from_json(to_json(config, "config")),
            config_digest=config_digest,
            seed=seed,
            git_sha=git_sha,
            versions=dict(versions),
            status="running",
            session_id=session_id,
            started_at=now(),
            finished_at=None,
        )
        with writing(self._engine) as transaction:
            transaction.add(m.Run(**asdict(run)))
        return run

    def finish_run(self, run_id: str, status: RunStatus = "finished") -> None:
        """Record that a run has ended, and how."""
        with writing(self._engine) as transaction:
            run = transaction.get(m.Run, run_id)
            if run is None:
                raise SetupError(f"there is no run with the id {run_id!r}")
            run.status, run.finished_at = status, now()

    def runs(self) -> tuple[RunRecord, ...]:
        """Return all runs."""
        with reading(self._engine) as transaction:
            return queries.runs(transaction)

    def save_results(self, run_id: str, rows: Iterable[ResultRow]) -> int:
        """Record a run's lines; return how many were new."""
        with writing(self._engine) as transaction:
            return write_results(transaction, run_id, rows)

    def results(self, run_id: str) -> tuple[ResultRow, ...]:
        """Return a run's lines. Raises SetupError for an unknown run."""
        with reading(self._engine) as transaction:
            if not is_id(run_id) or transaction.get(m.Run, run_id) is None:
                raise SetupError(f"there is no run with the id {run_id!r}")
            return queries.results(transaction, run_id)

    def record_test_read(self, run_id: str, sets: Sequence[str], reason: str) -> TestReadRecord:
        """Record that a run opens the sealed split: which sets, and why."""
        read = TestReadRecord(id=new_id(), run_id=run_id, sets=tuple(sets), reason=reason, at=now())
        with writing(self._engine) as transaction:
            transaction.add(m.TestRead(**asdict(read)))
        return read

    def test_reads(self) -> tuple[TestReadRecord, ...]:
        """Return every opening of the sealed split."""
        with reading(self._engine) as transaction:
            return queries.test_reads(transaction)


def open_store(url: str | None = None, *, default: Path | None = None, read_only: bool = False) -> AntibodyStore:
    """Open the database `url` (a URL or a SQLite file), else $IMMUNO_DB, else the file `default`.

    A new database is created; one that exists is checked. `read_only` creates and changes nothing, and opens a file
    that may not be written. Raises SetupError for a database that is missing (read_only), unreachable, unwritable,
    another program's, or of another schema revision.
    """
    resolved = resolve_url(url, default)
    engine = make_engine(resolved, read_only=read_only)
    try:
        (schema.check if read_only else schema.create_or_check)(engine)
    except BaseException:
        engine.dispose()
        raise
    return AntibodyStore(engine, resolved, read_only=read_only)


def is_new(url: str | None = None, *, default: Path | None = None) -> bool:
    """Whether `open_store` would make the database: it is a file, and not there. Raises SetupError for a bad URL."""
    resolved = resolve_url(url, default)
    return is_sqlite(resolved) and not Path(resolved.database or "").exists()


class AntibodyStore(RunBook):
    """What the loop and the benchmark write down, and what everybody reads. This docstring is the storage contract.

    *Atomic.* Every method is one transaction, committed when it returns; one that raises has changed nothing. A
    process killed at any moment leaves whole methods behind: `save_generation` writes a generation with all that
    belongs to it, or nothing.

    *Repeatable.* A write that is repeated does no harm and no error: the first one wins, and is what is read. What is
    repeated is said by unique keys: a call (session, generation, step, subject, digest; db.calls writes them), a
    generation (session, number), a line of results (run, method, seed, outlier set), an encoder (digest), a data set
    (digest, name, split, role). But `create_session` refuses a name that is taken, and `start_run` and
    `record_test_read` add a row each time, as they must.

    *Shared.* Any number of threads and processes may use one database at the same time, also the same store from
    several threads. Writers wait for one another (SQLite: always; PostgreSQL: where they write the same; after 30 s
    ImmunoError), readers do not wait, and read what was committed when their method began. A store goes to another
    process by pickling: it opens the database anew there (with the URL as it was resolved here, password included). Do
    not use one across `os.fork`.

    *Faithful.* What is read equals what was written: numbers (NaN is undefined, in the database NULL), any text (NUL
    and lone surrogates too; where it is part of a unique key, up to 2 kB on PostgreSQL), vectors to the last bit, times
    in UTC. What cannot be kept is refused with a SetupError: vectors and cosines that are not finite, times without a
    time zone, values that JSON would change.

    *Ordered.* Sessions, runs and reads come oldest first, generations by number, antibodies in the order of their
    creation.

    *Errors.* SetupError for what the caller or the user can mend, ImmunoError for the rest; none of SQLAlchemy's.
    """

    def __init__(self, engine: Engine, url: URL, *, read_only: bool = False) -> None:
        self._engine = engine
        self._url = url
        self._read_only = read_only

    @property
    def url(self) -> str:
        """What may be shown of the database's URL."""
        return shown(self._url)

    @property
    def engine(self) -> Engine:
        """The database itself, for the queries of this room that are modules of their own (db.questions)."""
        return self._engine

    def close(self) -> None:
        """Close the connections. A closed store opens them again when it is used."""
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def __getstate__(self) -> tuple[str, bool]:
        return self._url.render_as_string(hide_password=False), self._read_only

    def __setstate__(self, state: tuple[str, bool]) -> None:
        url, self._read_only = state
        self._url = make_url(url)
        self._engine = make_engine(self._url, read_only=self._read_only)

    # Data sets

    def ensure_dataset(self, images: ImageSet) -> None:
        """Record an image set: its name, split, role, digest and number of images."""
        row = {"id": new_id(), "digest": images.digest, "name": images.name, "split": images.split, "role": images.role}
        with writing(self._engine) as transaction:
            insert_new(transaction, m.Dataset, [row | {"count": len(images.samples), "created_at": now()}])

    # Sessions

    def create_session(
        self,
        name: str,
        *,
        config: Mapping[str, Any],
        seed: int,
        git_sha: str | None,
        versions: Mapping[str, str],
        encoder: EncoderInfo,
        llm: str | None = None,
        parent_generation_id: str | None = None,
        grounds: Mapping[str, Any] | None = None,
        first: GenerationDraft | None = None,
    ) -> SessionRecord:
        """Begin a session (status running), with the name of its chat model.

        A branch names the generation of another session that it starts from, and hands in its `first` generation,
        whatever session that names: no stop leaves the one without the other. Raises SetupError for a name that is
        taken, empty, long or unprintable, for a generation that is not stored, and as `save_generation` does.
        """
        check_session_name(name)
        with writing(self._engine) as transaction:
            if parent_generation_id is not None and transaction.get(m.Generation, parent_generation_id) is None:
                raise SetupError(f"there is no generation with the id {parent_generation_id!r} to branch from")
            columns = {"status": "running", "config": to_json(config, "config"), "seed": seed, "git_sha": git_sha}
            columns |= {"versions": dict(versions), "llm": llm, "parent_generation_id": parent_generation_id}
            columns["grounds"] = to_json(grounds or {}, "grounds")
            if not add_session(transaction, name, encoder, **columns):
                raise SetupError(f"a session named '{name}' exists in {self.url}; resume it, or choose another name")
            session = queries.sessions(transaction, name)[0]
            if first is None:
                return session
            write_generation(transaction, replace(first, session_id=session.id))
            return queries.sessions(transaction, name)[0]

    def set_grounds(self, session_id: str, grounds: Mapping[str, Any]) -> None:
        """Record what a session measures on, where that was not recorded."""
        with writing(self._engine) as transaction:
            session = transaction.get(m.Session, session_id, with_for_update=True)
            if session is None:
                raise SetupError(f"there is no session with the id {session_id!r}")
            session.grounds = session.grounds or to_json(grounds, "grounds")
            session.updated_at = max(now(), session.updated_at + _LATER)

    def find_session(self, name: str) -> SessionRecord | None:
        """Return the session of that name."""
        with reading(self._engine) as transaction:
            return next(iter(queries.sessions(transaction, name)), None)

    def session(self, name: str) -> SessionRecord:
        """Return the session of that name. Raises SetupError where there is none, naming the nearest."""
        if (found := self.find_session(name)) is None:
            names = [record.name for record in self.sessions()]
            raise SetupError(
                f"no session '{name}' in {self.url}" + (did_you_mean(name, names) or "; it holds none yet")
            )
        return found

    def sessions(self) -> tuple[SessionRecord, ...]:
        """Return all sessions."""
        with reading(self._engine) as transaction:
            return queries.sessions(transaction)

    def set_session_status(self, session_id: str, status: SessionStatus) -> None:
        """Record that a session runs, pauses or has finished."""
        with writing(self._engine) as transaction:
            session = transaction.get(m.Session, session_id)
            if session is None:
                raise SetupError(f"there is no session with the id {session_id!r}")
            session.status, session.updated_at = status, max(now(), session.updated_at + _LATER)

    @contextmanager
    def claim_session(self, session_id: str) -> Iterator[HeldClaim]:
        """Have a session to this process alone while the context lasts, and say all the while that it is at work.

        Raises SetupError where another process is running the session, naming machine and process id; one that died is
        taken over from (db.claims says when). Call `check` of what is yielded between two pieces of the work.
        """
        from db.claims import held, session_work

        with reading(self._engine) as transaction:
            session = transaction.get(m.Session, session_id)
            if session is None:
                raise SetupError(f"there is no session with the id {session_id!r}")
            what = f"session '{session.name}'"
        with held(self._engine, session_work(session_id), what) as claim:
            yield claim

    # Calls of the chat model

    def llm_calls(self, session_id: str | None = None) -> tuple[LlmCallRecord, ...]:
        """Return the calls for a session, or for all, oldest first."""
        with reading(self._engine) as transaction:
            return queries.llm_calls(transaction, session_id)

    # Generations

    def save_generation(self, draft: GenerationDraft) -> GenerationRecord:
        """Write a generation in one transaction; where its number is taken, write nothing and return what is stored.

        Raises SetupError for a draft that contradicts itself or the database (db.records says what holds).
        """
        with writing(self._engine) as transaction:
            number = write_generation(transaction, draft)
            return queries.generations(transaction, session_id=draft.session_id, number=number)[0]

    def generations(self, session_id: str | None = None) -> tuple[GenerationRecord, ...]:
        """Return the generations of a session, or of all."""
        with reading(self._engine) as transaction:
            return queries.generations(transaction, session_id=session_id)

    def best_generation(self, session_id: str) -> GenerationRecord | None:
        """Return a session's best generation: the last accepted one, since each has to be better than those before."""
        with reading(self._engine) as transaction:
            return next(reversed(queries.generations(transaction, session_id=session_id, accepted=True)), None)

    def antibodies(
        self,
        session_id: str | None = None,
        *,
        generation: int | None = None,
        status: AntibodyStatus | None = None,
        kind: AntibodyKind | None = None,
        guards: str | None = None,
        limit: int | None = None,
    ) -> tuple[AntibodyRecord, ...]:
        """Return the antibodies, kept and turned down, that fit; `generation` is a number."""
        wanted = {m.Generation.session_id: session_id, m.Generation.number: generation, m.Antibody.status: status}
        rows = queries.narrowed(queries.antibody_rows(), wanted | {m.Antibody.kind: kind, m.Antibody.guards: guards})
        with reading(self._engine) as transaction:
            return queries.antibodies(transaction, rows.limit(limit))

    def effects(
        self,
        session_id: str | None = None,
        *,
        generation: int | None = None,
        scope: str | None = None,
        outlier_set: str | None = None,
        guards: str | None = None,
        limit: int | None = None,
    ) -> tuple[EffectRecord, ...]:
        """Return the measured effects that fit; with `guards`, of antibodies only (a bank guards no single class)."""
        wanted = {m.Generation.session_id: session_id, m.Generation.number: generation, m.Effect.scope: scope}
        wanted |= {m.Effect.outlier_set: outlier_set, m.Antibody.guards: guards}
        with reading(self._engine) as transaction:
            return queries.effects(transaction, wanted, limit)

    def verdicts(self, generation_id: str) -> tuple[Verdict, ...]:
        """Return a generation's verdicts, by set and sample."""
        with reading(self._engine) as transaction:
            return queries.verdicts(transaction, generation_id)

    def accepted(self, generation_id: str) -> dict[str, bytes]:
        """Return by set, for each sample that a generation judged, a byte: 1 where it was accepted, else 0.

        Generations that judged the same samples have them in the same order.
        """
        with reading(self._engine) as transaction:
            return queries.accepted(transaction, generation_id)

    def prompts(self, session_id: str | None = None) -> tuple[PromptRecord, ...]:
        """Return prompts by version."""
        with reading(self._engine) as transaction:
            return queries.prompts(transaction, session_id)

    def bank(self, generation_id: str) -> Bank:
        """Return the bank in force after a generation, vectors (A, d) float32. SetupError for an unknown generation."""
        with reading(self._engine) as transaction:
            return queries.bank(transaction, generation_id)


def chosen_generation(store: AntibodyStore, session: SessionRecord, number: int | None) -> GenerationRecord:
    """Return generation `number` of a session; None means its best.

    Raises SetupError for a session without generations, and for a number that it does not have.
    """
    best = store.best_generation(session.id)
    if best is None:
        raise SetupError(f"session '{session.name}' has no generation yet; run: immuno refine resume {session.name}")
    if number is None:
        return best
    generations = store.generations(session.id)
    found = next((one for one in generations if one.number == number), None)
    if found is None:
        raise SetupError(f"session '{session.name}' has no generation {number}; it has 0 to {len(generations) - 1}")
    return found
