"""Banks as files: exported with their embeddings, imported as generations of their own, embedded afterwards.

A Parquet file holds text, kind, guards, rationale and vector of each antibody, and as JSON the samples of visual ones.
The encoder stands in its metadata (`immuno_encoder`, JSON), so that who takes the bank in need not embed it again.
Texts alone go into a .jsonl (evaluation.antibodies.bank_files). PyArrow is imported when a file is written or read.

Imported texts, and what was turned down before it was embedded, have no embedding. This room knows no encoder: the
front door (`immuno db embed`) embeds what `unembedded` lists, and `add_embeddings` stores it, so that `nearest` finds
it. The first encoder that embeds an imported bank becomes its session's, and the texts a bank that others can use.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence, Set
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from sqlalchemy import select
from sqlalchemy.orm import Session as Transaction

from db import queries
from db.exchange.columns import parquet_file, rows_of
from db.records import AntibodyRecord, GenerationDraft, GenerationRecord, SessionRecord
from db.schema import models as m
from db.schema.engine import reading, writing
from db.schema.types import plain_text, storable_text
from db.schema.vectors import to_bytes
from db.store import AntibodyStore
from db.writing import (
    add_encoder,
    add_session,
    batches,
    check_session_name,
    embedding_row,
    found_among,
    insert_rows,
    new_id,
    now,
    write_generation,
)
from immuno_core.errors import SetupError
from immuno_core.files import check_regular, written_whole
from immuno_core.records import VISUAL, Antibody, AntibodyKind, EncoderInfo
from immuno_core.text import read_json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from immuno_core.bank import Bank


_ENCODER = b"immuno_encoder"
_TEXTS = ("text", "kind", "guards", "rationale")
_SAMPLES = "samples"
"""A column that files of versions without visual antibodies lack."""


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddedBank:
    """A bank, and the encoder of its embeddings."""

    bank: Bank
    encoder: EncoderInfo


def write_bank_parquet(path: Path, embedded: EmbeddedBank) -> None:
    """Write the file, whole or not at all; one that is there is replaced. Raises SetupError where it cannot be."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [
        {name: storable_text(getattr(antibody, name)) for name in _TEXTS}
        | {_SAMPLES: json.dumps(antibody.samples), "vector": vector}
        for antibody, vector in zip(embedded.bank.antibodies, embedded.bank.vectors, strict=True)
    ]
    encoder = json.dumps(asdict(embedded.encoder)).encode()
    schema = pa.schema([*((name, pa.string()) for name in (*_TEXTS, _SAMPLES)), ("vector", pa.list_(pa.float32()))])
    table = pa.Table.from_pylist(rows, schema.with_metadata({_ENCODER: encoder}))
    try:
        with written_whole(path) as temporary:
            pq.write_table(table, temporary, compression="zstd")
    except OSError as error:
        raise SetupError(f"{path} cannot be written: {error.strerror}") from None


def read_bank_parquet(path: Path) -> EmbeddedBank:
    """Read the file. Raises SetupError, naming the row where there is one, for what is no such file."""
    import numpy as np

    from immuno_core.bank import Bank

    check_regular(path, "bank")
    antibodies, vectors = [], []
    with parquet_file(path) as file:
        encoder = _encoder(path, file.schema_arrow.metadata or {})
        missing = next((name for name in (*_TEXTS, "vector") if name not in file.schema_arrow.names), None)
        if missing is not None:
            raise SetupError(f"{path} has no column '{missing}'; write one with: immuno db export SESSION FILE.parquet")
        for number, row in enumerate(rows_of(file, path), start=1):
            where = f"{path}, row {number}"
            antibodies.append(_antibody(row, where))
            vector = np.array(row["vector"] if isinstance(row["vector"], list) else [], np.float32)
            to_bytes(vector, encoder.dim, f"the antibody at {where}")  # refuses a wrong size, and NaN
            vectors.append(vector)
    if not antibodies:
        raise SetupError(f"{path} holds no antibody")
    try:
        return EmbeddedBank(Bank.of(antibodies, np.stack(vectors)), encoder)
    except SetupError as error:
        raise SetupError(f"{path}: {error}") from None


def _antibody(row: dict[str, Any], where: str) -> Antibody:
    for name in _TEXTS:
        if not isinstance(row[name], str):
            raise SetupError(f"{where}: '{name}' is not a text, but {row[name]!r}")
    kind, kinds = row["kind"], get_args(AntibodyKind)
    if kind not in kinds or bool(row["text"].strip()) == (kind == VISUAL):
        raise SetupError(
            f"{where}: a text of the kind {' or '.join(kinds)} (without one) is wanted, not {row['text']!r}, {kind!r}"
        )
    return Antibody(
        plain_text(row["text"]),
        kind,
        guards=plain_text(row["guards"]),
        rationale=plain_text(row["rationale"]),
        samples=_samples(row, where) if kind == VISUAL else (),
    )


def _samples(row: dict[str, Any], where: str) -> tuple[str, ...]:
    try:
        samples = read_json(row.get(_SAMPLES) or "")
    except (TypeError, ValueError):
        samples = None
    if not samples or not isinstance(samples, list) or not all(isinstance(one, str) for one in samples):
        raise SetupError(f"{where}: '{_SAMPLES}' is not a JSON list of names, but {row.get(_SAMPLES)!r}")
    return tuple(samples)


def _encoder(path: Path, metadata: dict[bytes, bytes]) -> EncoderInfo:
    try:
        found = EncoderInfo(**read_json(metadata[_ENCODER]))
        sound = isinstance(found.dim, int) and isinstance(found.digest, str)
    except (KeyError, ValueError, TypeError, AttributeError):
        sound = False
    if not sound:
        raise SetupError(f"{path} does not say which encoder its vectors are of; it is no bank that immuno exported")
    return found


NO_ENCODER = EncoderInfo(
    model="none",
    pretrained=None,
    dim=1,  # none, but PostgreSQL makes an index for each encoder, which wants one
    logit_scale=0.0,
    image_size=0,
    precision="none",
    weights_digest="none",
    preprocess_digest="none",
)
"""Stands in the session of an imported bank, whose antibodies are texts without embeddings."""
CONFIG = {"imported": True}
"""The configuration of a session that holds imported banks."""


def is_imported(session: SessionRecord) -> bool:
    """Whether a session holds imported banks."""
    return session.config == CONFIG


@dataclass(frozen=True, slots=True)
class BankSource:
    """Where an imported bank came from."""

    file: str
    sha256: str
    """Of the file's bytes: the same content is imported once."""


@dataclass(frozen=True, slots=True)
class ImportedBank:
    """The generation of an imported bank, and whether this import made it."""

    generation: GenerationRecord
    is_new: bool
    embedded: int
    """How many of its texts got an embedding with it."""


def import_bank(
    store: AntibodyStore,
    session: str,
    antibodies: Sequence[Antibody],
    source: BankSource,
    embedded: EmbeddedBank | None = None,
) -> ImportedBank:
    """Store the texts of a file as the next generation of a session of imported banks, made where it is missing.

    One transaction, with the embeddings that the file brings (`embedded`). The source is kept in the generation's
    metrics (`source`) and told in its prompt. The generation's bank has the members that are embedded; a text that
    comes twice for one class is stored once. The same content in the same session adds nothing but embeddings that are
    missing. Raises SetupError for a session that was not made by imports.
    """
    check_session_name(session)
    with writing(store.engine) as transaction:
        found = _session(transaction, session, store.url)
        stored = queries.generations(transaction, session_id=found.id)
        same = [one for one in stored if one.metrics.get("source", {}).get("sha256") == source.sha256]
        if same:
            generation = same[0]
        else:
            number = write_generation(transaction, _draft(found.id, len(stored), antibodies, source), renumber=True)
            generation = queries.generations(transaction, session_id=found.id, number=number)[0]
        added = (
            0 if embedded is None else _add(transaction, embedded.encoder, _by_id(transaction, generation, embedded))
        )
        return ImportedBank(generation, not same, added)


def _session(transaction: Transaction, name: str, url: str) -> m.Session:
    columns: dict[str, Any] = {"status": "finished", "config": CONFIG, "seed": 0, "git_sha": None, "versions": {}}
    add_session(transaction, name, NO_ENCODER, **columns, llm=None, parent_generation_id=None)
    # Locked, where a database has more than one writer: the same file may be imported twice at the same time.
    found = transaction.scalars(select(m.Session).where(m.Session.name == name).with_for_update()).one()
    if found.config != CONFIG:
        raise SetupError(f"'{name}' in {url} is a session of its own; import the bank into another one with --session")
    return found


def _draft(session_id: str, version: int, antibodies: Sequence[Antibody], source: BankSource) -> GenerationDraft:
    time = now()
    return GenerationDraft(
        session_id=session_id,
        number=version,
        parent=None,
        prompt_version=version,
        prompts={"import": f"No prompt of ours: the texts of {source.file} (SHA-256 {source.sha256})."},
        accepted=True,
        reason=f"imported from {source.file}",
        started_at=time,
        finished_at=time,
        metrics={"source": asdict(source)},
        antibodies=tuple(replace(antibody, id=new_id(), origin=source.file) for antibody in antibodies),
    )


def unembedded(store: AntibodyStore, session_id: str, encoder_digest: str) -> tuple[AntibodyRecord, ...]:
    """Return the antibodies of a session with a text and no embedding of an encoder, oldest first."""
    embedded = select(m.Embedding.id).where(
        m.Embedding.antibody_id == m.Antibody.id,
        m.Embedding.encoder_digest == encoder_digest,
    )
    with reading(store.engine) as transaction:
        rows = queries.antibody_rows().where(m.Generation.session_id == session_id, ~embedded.exists())
        rows = rows.where(m.Antibody.kind != VISUAL)
        return queries.antibodies(transaction, rows)


def add_embeddings(store: AntibodyStore, encoder: EncoderInfo, vectors: Mapping[str, NDArray[np.float32]]) -> int:
    """Store the (d,) embeddings of stored antibodies, by their ids, as if they had been proposed with them.

    One transaction; an antibody that has one of that encoder keeps it. Return how many were added. Raises SetupError
    for an antibody that is not stored, and for a vector of another size than the encoder's.
    """
    with writing(store.engine) as transaction:
        return _add(transaction, encoder, vectors)


def _add(transaction: Transaction, encoder: EncoderInfo, vectors: Mapping[str, NDArray[np.float32]]) -> int:
    add_encoder(transaction, encoder)
    made_in = _generations(transaction, list(vectors))
    query = select(m.Embedding.antibody_id).where(m.Embedding.encoder_digest == encoder.digest)
    embedded = found_among(transaction, query, m.Embedding.antibody_id, vectors)
    rows = [
        embedding_row(key, made_in[key], encoder, vector, f"the antibody {key}")
        for key, vector in vectors.items()
        if key not in embedded
    ]
    insert_rows(transaction, m.Embedding, rows)
    _make_banks(transaction, set(made_in.values()), encoder)
    return len(rows)


def _make_banks(transaction: Transaction, generations: Set[str], encoder: EncoderInfo) -> None:
    """Put the embedded texts of imported generations into their banks; the first encoder becomes their session's."""
    for some in batches(sorted(generations)):
        rows = transaction.execute(
            select(m.Generation.id, m.Session)
            .join(m.Session, m.Session.id == m.Generation.session_id)
            .where(m.Generation.id.in_(some))
        ).all()
        for generation_id, session in rows:
            if session.config != CONFIG:
                continue
            if session.encoder_digest == NO_ENCODER.digest:
                session.encoder_digest, session.updated_at = encoder.digest, now()
            elif session.encoder_digest != encoder.digest:
                continue
            members = select(m.BankMember.antibody_id).where(m.BankMember.generation_id == generation_id)
            query = (
                select(m.Antibody.id)
                .join(m.Embedding, m.Embedding.antibody_id == m.Antibody.id)
                .where(m.Antibody.generation_id == generation_id, m.Antibody.status == "accepted")
                .where(m.Embedding.encoder_digest == encoder.digest, m.Antibody.id.not_in(members))
            )
            new = [{"generation_id": generation_id, "antibody_id": key} for key in transaction.scalars(query)]
            insert_rows(transaction, m.BankMember, new)


def _by_id(
    transaction: Transaction, generation: GenerationRecord, embedded: EmbeddedBank
) -> Mapping[str, NDArray[np.float32]]:
    """The vectors of a bank by the ids of its antibodies, as they are stored."""
    rows = queries.narrowed(queries.antibody_rows(), {m.Generation.id: generation.id})
    keys = {one.says: one.id for one in queries.antibodies(transaction, rows)}
    pairs = zip(embedded.bank.antibodies, embedded.bank.vectors, strict=True)
    return {keys[one.says]: vector for one, vector in pairs}


def _generations(transaction: Transaction, keys: list[str]) -> dict[str, str]:
    """Antibody id -> the generation that proposed it. On PostgreSQL it is locked: of two who embed it one waits."""
    found: dict[str, str] = {}
    for some in batches(keys):
        query = select(m.Antibody.id, m.Antibody.generation_id).where(m.Antibody.id.in_(some))
        found |= dict(transaction.execute(query).all())
    for some in batches(found.values()):
        mine = select(m.Generation.id).where(m.Generation.id.in_(some)).order_by(m.Generation.id)
        transaction.execute(mine.with_for_update(key_share=True))
    missing = next((key for key in keys if key not in found), None)
    if missing is not None:
        raise SetupError(f"there is no antibody with the id {missing!r}")
    return found
