"""The part of the store that keeps book of benchmark runs: their lines, and each opening of the sealed split."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Engine

from db import models as m
from db import queries
from db.engine import reading, writing
from db.records import RunRecord, RunStatus, TestReadRecord
from db.values import from_json, to_json
from db.writing import insert_new, is_id, new_id, now, result_rows
from immuno.errors import SetupError
from immuno.records import ResultRow


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
            transaction.add(m.Run(**{name: getattr(run, name) for name in RunRecord.__slots__}))
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
            return insert_new(transaction, m.Result, result_rows(run_id, rows))

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
            transaction.add(m.TestRead(id=read.id, run_id=run_id, sets=list(sets), reason=reason, at=read.at))
        return read

    def test_reads(self) -> tuple[TestReadRecord, ...]:
        """Return every opening of the sealed split."""
        with reading(self._engine) as transaction:
            return queries.test_reads(transaction)
