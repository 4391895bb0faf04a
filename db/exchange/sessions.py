"""Whole sessions out of a database and into another one: export_session, import_session."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Table, select
from sqlalchemy.orm import Session as Transaction

from db.exchange.joining import TABLES, Joined, join_rows, parents_first
from db.exchange.rows import Row
from db.exchange.session_files import Form, SessionFolder, write_manifest, write_table
from db.schema import models as m
from db.schema.engine import reading, writing
from db.store import AntibodyStore
from db.writing import check_session_name
from immuno_core.errors import SetupError

_AT_ONCE = 1000


def belongs(session_id: str) -> dict[str, ColumnElement[bool]]:
    """Return, for every table, which rows belong to a session.

    Its encoders, and the data sets that its effects and verdicts name (their names may be those of more than one), and
    the benchmark runs of its banks belong to it too.
    """
    generations = select(m.Generation.id).where(m.Generation.session_id == session_id)
    runs = select(m.Run.id).where(m.Run.session_id == session_id)
    encoders = select(m.Session.encoder_digest).where(m.Session.id == session_id)
    embedded = select(m.Embedding.encoder_digest).where(m.Embedding.generation_id.in_(generations))
    sets = select(m.Effect.outlier_set).where(m.Effect.generation_id.in_(generations))
    seen = select(m.Verdict.set_name).where(m.Verdict.generation_id.in_(generations))
    rules: dict[type[m.Base], ColumnElement[bool]] = {
        m.Encoder: m.Encoder.digest.in_(encoders) | m.Encoder.digest.in_(embedded),
        m.Dataset: m.Dataset.name.in_(sets) | m.Dataset.name.in_(seen),
        m.Session: m.Session.id == session_id,
        m.Prompt: m.Prompt.session_id == session_id,
        m.Generation: m.Generation.session_id == session_id,
        m.LlmCall: m.LlmCall.session_id == session_id,
        m.Run: m.Run.session_id == session_id,
    }
    rules |= {one: one.generation_id.in_(generations) for one in (m.Antibody, m.Embedding, m.BankMember)}
    rules |= {one: one.generation_id.in_(generations) for one in (m.Effect, m.Verdict)}
    rules |= {one: one.run_id.in_(runs) for one in (m.Result, m.TestRead)}
    rules[m.ResultMetric] = m.ResultMetric.result_id.in_(select(m.Result.id).where(m.Result.run_id.in_(runs)))
    return {model.__tablename__: rule for model, rule in rules.items()}


def export_session(store: AntibodyStore, name: str, folder: Path, *, form: Form = "jsonl") -> dict[str, int]:
    """Write everything that belongs to a session into a new folder (db.exchange.session_files); return rows by file.

    As JSONL with the vectors as safetensors, or as Parquet.

    The folder appears whole or not at all, and holds what was committed at one moment. Raises SetupError for an unknown
    session, and for a folder that exists or cannot be made.
    """
    session = store.session(name)
    folder = folder.expanduser().absolute()
    if folder.exists() or folder.is_symlink():
        raise SetupError(f"{folder} exists; name a new folder for the export")
    temporary = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.tmp")
    try:
        temporary.mkdir(parents=True)
        try:
            files = _write(store, session.id, name, temporary, form)
            temporary.rename(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise SetupError(f"the folder {folder} cannot be written: {error.strerror} ({error.filename})") from None
    return {name: entry["rows"] for name, entry in files.items()}


def _write(store: AntibodyStore, session_id: str, name: str, folder: Path, form: Form) -> dict[str, Any]:
    rules, files = belongs(session_id), dict[str, Any]()
    with reading(store.engine) as transaction:
        for table in TABLES:
            files |= write_table(folder, table, _rows(transaction, table, rules[table.name]), form)
    write_manifest(folder, session_id, name, files)
    return files


def _rows(transaction: Transaction, table: Table, where: ColumnElement[bool]) -> Iterator[Row]:
    for row in transaction.execute(parents_first(table, where), execution_options={"yield_per": _AT_ONCE}):
        yield dict(row._mapping)


def import_session(store: AntibodyStore, folder: SessionFolder, *, name: str | None = None) -> tuple[Joined, ...]:
    """Add an exported session (db.exchange.session_files.open_folder) in one transaction; return what was added.

    `name` gives it another name here. Importing again adds nothing. Raises SetupError naming file and line for a row
    that contradicts the database (db.exchange.joining), for instance a session of the same name that is another one.
    """
    with writing(store.engine) as transaction:
        return tuple(join_rows(transaction, table, _named(folder, table, name)) for table in TABLES)


def _named(folder: SessionFolder, table: Table, name: str | None) -> Iterator[tuple[str, Row]]:
    for place, row in folder.rows(table):
        if table.name == m.Session.__tablename__:
            row["name"] = row["name"] if name is None else name
            check_session_name(row["name"])
        yield place, row
