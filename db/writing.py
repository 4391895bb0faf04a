"""Every INSERT: rows that are there already are left alone, and a generation is written in one piece.

The functions take an ORM session within a write transaction (db.schema.engine.writing); whatever they raise undoes all
of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib import import_module
from itertools import islice
from typing import TYPE_CHECKING, Any

from sqlalchemy import Select, UniqueConstraint, func, insert, select
from sqlalchemy.orm import DeclarativeBase, InstrumentedAttribute
from sqlalchemy.orm import Session as Transaction
from uuid_utils.compat import uuid7

from db.records import GenerationDraft
from db.schema import models as m
from db.schema.forms import check_form
from db.schema.packed import packed
from db.schema.types import to_json
from db.schema.vectors import DTYPE, to_bytes
from immuno_core.errors import SetupError
from immuno_core.records import Antibody, EncoderInfo, ResultRow, text_digest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


_LONGEST_NAME = 200
_AT_ONCE = 10_000
"""Values in one statement: SQLite takes 32,766, PostgreSQL 65,535."""


def new_id() -> str:
    """Return a new key: a UUID of version 7, 36 characters; later ones sort after earlier ones of the same process."""
    return str(uuid7())


def is_id(name: str) -> bool:
    """Whether a text may be a key. (What is none, such as half a character, no database would even look for.)"""
    return len(name) == len("01a2150b-3f97-7167-8191-5dbe9a98d51a") and name.isascii() and name.isprintable()


def now() -> datetime:
    """Return the present time, in UTC."""
    return datetime.now(UTC)


def check_session_name(name: str) -> None:
    """Raise SetupError for a name of a session that is empty, long or unprintable."""
    if not name.strip() or not name.isprintable() or len(name) > _LONGEST_NAME:
        raise SetupError(f"{name!r} cannot name a session; use 1 to {_LONGEST_NAME} printable characters")


def insert_new(transaction: Transaction, model: type[DeclarativeBase], rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Insert the rows whose unique keys are not taken; of equal keys the first one wins. Return the new ones' keys."""
    table = model.metadata.tables[model.__tablename__]
    for row in rows:
        check_form(table.name, row, f"a row for '{table.name}'")
    uniques = [one for one in table.constraints if isinstance(one, UniqueConstraint)]
    key = [column.name for column in min(uniques, key=lambda one: str(one.name), default=table.primary_key).columns]
    # In one order, whoever inserts: else two processes could each wait for a row of the other.
    ordered = sorted(rows, key=lambda row: [str(row[name]) for name in key])
    dialect = import_module(f"sqlalchemy.dialects.{transaction.connection().dialect.name}")  # sqlite or postgresql
    statement = dialect.insert(model).on_conflict_do_nothing().returning(*table.primary_key.columns)
    return [key for key, *_ in transaction.execute(statement, ordered)] if rows else []


def write_generation(transaction: Transaction, draft: GenerationDraft, *, renumber: bool = False) -> int:
    """Write a generation, unless its number is taken; return its number: with `renumber` the next that is free.

    Raises SetupError for a draft that contradicts itself or the database.
    """
    session = _locked_session(transaction, draft.session_id)
    encoder = transaction.get_one(m.Encoder, session.encoder_digest)
    of_session = m.Generation.session_id == draft.session_id
    if renumber:
        last = transaction.scalar(select(func.max(m.Generation.number)).where(of_session))
        draft = replace(draft, number=0 if last is None else last + 1)
    elif transaction.scalar(select(m.Generation.id).where(of_session, m.Generation.number == draft.number)):
        return draft.number
    generation_id, time = new_id(), now()
    what = f"generation {draft.number} of session '{session.name}'"
    _write_prompts(transaction, draft, what, time)
    transaction.execute(
        insert(m.Generation).values(
            row_of(m.Generation, draft)
            | {"id": generation_id, "parent_id": _parent_id(transaction, draft, what)}
            | {name: to_json(getattr(draft, name), name) for name in ("metrics", "random_state", "versions")}
        )
    )
    antibodies = _without_repeats(draft.antibodies)
    _check_parents(transaction, antibodies, what)
    known = {antibody.id for antibody in antibodies} | _stored_antibodies(transaction, draft)
    insert_rows(transaction, m.Antibody, _antibody_rows(antibodies, generation_id, time))
    _check_known({one.id for one in draft.antibodies}, draft.vectors, f"{what}: an embedding", "one of its antibodies")
    embeddings = [
        embedding_row(
            antibody.id, generation_id, encoder, draft.vectors[antibody.id], f"the antibody '{antibody.text}'"
        )
        for antibody in antibodies
        if antibody.id in draft.vectors
    ]
    insert_rows(transaction, m.Embedding, embeddings)
    _check_known(known, (effect.antibody_id for effect in draft.effects), f"{what}: an effect")
    insert_rows(transaction, m.Effect, _effect_rows(draft, generation_id))
    _check_known(known, (verdict.nearest_antibody for verdict in draft.verdicts), f"{what}: a verdict")
    for samples, verdicts in packed(draft.verdicts):  # made here: their form is right, and takes long to check
        if transaction.get(m.SampleList, samples["digest"]) is None:
            insert_new(transaction, m.SampleList, [samples])
        transaction.execute(insert(m.Verdicts), verdicts | {"generation_id": generation_id})
    usable = (
        select(m.Embedding.antibody_id)
        .join(m.Generation, m.Generation.id == m.Embedding.generation_id)
        .where(of_session, m.Embedding.encoder_digest == encoder.digest)
    )
    embedded = found_among(transaction, usable, m.Embedding.antibody_id, draft.bank)
    _check_known(embedded, draft.bank, f"{what}: its bank", "an antibody with an embedding")
    members = [{"generation_id": generation_id, "antibody_id": key} for key in draft.bank]
    insert_rows(transaction, m.BankMember, members)
    return draft.number


def insert_rows(transaction: Transaction, model: type[m.Base], rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows whose unique keys are free."""
    for row in rows:
        check_form(model.__tablename__, row, f"a row for '{model.__tablename__}'")
    if rows:  # into the table: the ORM would send rows with a NULL elsewhere one by one
        transaction.execute(insert(model.metadata.tables[model.__tablename__]), list(rows))


def row_of(model: type[m.Base], record: object) -> dict[str, Any]:
    """Return a row of what a record says of a table: its fields that are columns there."""
    return {name: getattr(record, name) for name in model.__mapper__.column_attrs.keys() if hasattr(record, name)}  # noqa: SIM118


def add_encoder(transaction: Transaction, encoder: EncoderInfo) -> None:
    """Insert an encoder, where it is new."""
    insert_new(transaction, m.Encoder, [row_of(m.Encoder, encoder) | {"created_at": now()}])


def add_session(transaction: Transaction, name: str, encoder: EncoderInfo, **columns: Any) -> bool:
    """Insert a session with these further columns, and its encoder; return whether the name was free."""
    add_encoder(transaction, encoder)
    row = {"id": new_id(), "name": name, "encoder_digest": encoder.digest, "created_at": (time := now())}
    return bool(insert_new(transaction, m.Session, [row | {"updated_at": time, "grounds": {}} | columns]))


def embedding_row(
    antibody_id: str, generation_id: str, encoder: EncoderInfo | m.Encoder, vector: NDArray[np.float32], what: str
) -> dict[str, Any]:
    """Return a row of `embeddings`. Raises SetupError, naming `what`, for a vector that is not the encoder's."""
    raw = to_bytes(vector, encoder.dim, what)
    of = {"id": new_id(), "antibody_id": antibody_id, "generation_id": generation_id, "encoder_digest": encoder.digest}
    return {**of, "dim": encoder.dim, "dtype": DTYPE, "vector": raw}


def _locked_session(transaction: Transaction, session_id: str) -> m.Session:
    """Return the session; on PostgreSQL lock it: its generations come one by one.

    FOR NO KEY UPDATE: what only refers to the session (a recorded call) need not wait.
    """
    session = transaction.get(m.Session, session_id, with_for_update={"key_share": True})
    if session is None:
        raise SetupError(f"there is no session with the id {session_id!r}")
    return session


def _write_prompts(transaction: Transaction, draft: GenerationDraft, what: str, time: datetime) -> None:
    stored = _prompt_texts(transaction, draft.session_id, draft.prompt_version)
    if not stored and not draft.prompts:
        raise SetupError(f"{what} has prompt version {draft.prompt_version}, whose text is not stored; hand it in")
    parents: Mapping[str, str] = {}
    if draft.prompt_parent is not None:
        parents = _prompt_texts(transaction, draft.session_id, draft.prompt_parent)
        if not parents:
            raise SetupError(f"{what}: its prompt's parent, version {draft.prompt_parent}, is not stored")
    for step, text in draft.prompts.items():
        if stored.get(step, text) != text:
            raise SetupError(
                f"{what}: prompt version {draft.prompt_version} is stored with another text for step '{step}'; "
                "a changed prompt needs a new version"
            )
    rows = [
        {
            "id": new_id(),
            "session_id": draft.session_id,
            "version": draft.prompt_version,
            "step": step,
            "text": text,
            "parent_version": draft.prompt_parent if step in parents else None,
            "reason": draft.prompt_reason,
            "created_at": time,
        }
        for step, text in draft.prompts.items()
        if step not in stored
    ]
    insert_rows(transaction, m.Prompt, rows)


def _prompt_texts(transaction: Transaction, session_id: str, version: int) -> dict[str, str]:
    query = select(m.Prompt.step, m.Prompt.text).where(m.Prompt.session_id == session_id, m.Prompt.version == version)
    return dict(transaction.execute(query).all())


def _parent_id(transaction: Transaction, draft: GenerationDraft, what: str) -> str | None:
    if draft.parent is None:
        return None
    parent = transaction.scalar(
        select(m.Generation.id).where(m.Generation.session_id == draft.session_id, m.Generation.number == draft.parent)
    )
    if parent is None:
        raise SetupError(f"{what}: its parent, generation {draft.parent}, is not stored")
    return parent


def _without_repeats(antibodies: Iterable[Antibody]) -> list[Antibody]:
    kept: dict[tuple[str, str, tuple[str, ...]], Antibody] = {}
    for antibody in antibodies:
        first = kept.setdefault(antibody.says, antibody)
        if (first.status, antibody.status) == ("rejected", "accepted"):
            kept[antibody.says] = antibody
    return list(kept.values())


def _stored_antibodies(transaction: Transaction, draft: GenerationDraft) -> set[str]:
    """Of the antibodies that effects and verdicts name, those of the session that are stored."""
    named = {one.antibody_id for one in draft.effects} | {one.nearest_antibody for one in draft.verdicts}
    query = select(m.Antibody.id).join(m.Generation, m.Generation.id == m.Antibody.generation_id)
    query = query.where(m.Generation.session_id == draft.session_id)
    return found_among(transaction, query, m.Antibody.id, named)


def batches(keys: Iterable[str | None]) -> Iterator[tuple[str, ...]]:
    """Yield the distinct keys, as many at once as a statement takes."""
    source = iter(sorted({key for key in keys if key is not None}))
    while some := tuple(islice(source, _AT_ONCE)):
        yield some


def found_among(
    transaction: Transaction, query: Select[str], column: InstrumentedAttribute[str], keys: Iterable[str | None]
) -> set[str]:
    """Return what a query selects where the column has one of the keys."""
    return {found for some in batches(keys) for found in transaction.scalars(query.where(column.in_(some)))}


def _check_known(
    known: Set[str], ids: Iterable[str | None], what: str, expected: str = "an antibody of this session"
) -> None:
    for key in ids:
        if key is not None and key not in known:
            raise SetupError(f"{what} names {key!r}, which is not {expected}")


def _check_parents(transaction: Transaction, antibodies: Sequence[Antibody], what: str) -> None:
    for one in antibodies:
        if (one.parent_id is None) != (one.relation is None) or one.parent_id == one.id:
            raise SetupError(f"{what}: the antibody '{one.text}' needs a parent and a relation to it, or neither")
    own = {one.id for one in antibodies}
    parents = {one.parent_id for one in antibodies} - own
    stored = found_among(transaction, select(m.Antibody.id), m.Antibody.id, parents)
    _check_known(own | stored, parents, f"{what}: a parent", "a stored antibody")


def _antibody_rows(antibodies: Sequence[Antibody], generation_id: str, time: datetime) -> list[dict[str, Any]]:
    rows = []
    for position, antibody in enumerate(antibodies):
        if not antibody.id:
            raise SetupError(f"the antibody '{antibody.text}' has no id")
        if antibody.cosine is not None and not math.isfinite(antibody.cosine):
            raise SetupError(
                f"the cosine of the antibody '{antibody.text}' is {antibody.cosine}; use None where it is unknown"
            )
        row = row_of(m.Antibody, antibody) | {"generation_id": generation_id, "position": position, "created_at": time}
        row["digest"] = text_digest(antibody.text, antibody.guards, *antibody.samples)
        rows.append(row | {"cosine": None if antibody.cosine is None else float(antibody.cosine)})
    return rows


def _effect_rows(draft: GenerationDraft, generation_id: str) -> list[dict[str, Any]]:
    return [
        {"id": new_id(), "generation_id": generation_id, "antibody_id": one.antibody_id, "split": one.split}
        | asdict(one.effect)
        | {"fired_id": int(one.effect.fired_id), "fired_outliers": int(one.effect.fired_outliers)}
        for one in draft.effects
    ]


def write_results(transaction: Transaction, run_id: str, rows: Iterable[ResultRow]) -> int:
    """Write a run's lines, unless they are stored; return how many were new."""
    by_id = {new_id(): row for row in rows}
    lines = [row_of(m.Result, row) | {"id": key, "run_id": run_id} for key, row in by_id.items()]
    new = insert_new(transaction, m.Result, lines)
    metrics = []
    for key in new:
        row = by_id[key]
        for name in dict.fromkeys((*row.metrics, *row.intervals)):
            numbers = (row.metrics.get(name), *row.intervals.get(name, (None, None)))
            value, low, high = (None if number is None or math.isnan(number) else float(number) for number in numbers)
            metrics.append({"result_id": key, "metric": name, "value": value, "low": low, "high": high})
    insert_rows(transaction, m.ResultMetric, metrics)
    return len(new)
