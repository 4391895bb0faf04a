"""Texts from a file of antibodies (EOE's, NegLabel's, our own) as a generation of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session as Transaction

from db import models as m
from db import queries
from db.drafts import AntibodyDraft, GenerationDraft
from db.engine import writing
from db.records import GenerationRecord, SessionRecord
from db.store import AntibodyStore
from db.writing import check_session_name, insert_new, new_id, now, write_generation
from immuno.errors import SetupError
from immuno.records import EncoderInfo, ProposedAntibody

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


def import_bank(
    store: AntibodyStore, session: str, antibodies: Sequence[ProposedAntibody], source: BankSource
) -> ImportedBank:
    """Store the texts of a file as the next generation of a session of imported banks, made where it is missing.

    One transaction. The source is kept in the generation's metrics (`source`) and told in its prompt. The texts have no
    embedding, so the generation's bank has no members; a text that comes twice for one class is stored once. The same
    content in the same session adds nothing. Raises SetupError for a session that was not made by imports.
    """
    check_session_name(session)
    with writing(store.engine) as transaction:
        found = _session(transaction, session, store.url)
        stored = queries.generations(transaction, session_id=found.id)
        same = [one for one in stored if one.metrics.get("source", {}).get("sha256") == source.sha256]
        if same:
            return ImportedBank(same[0], is_new=False)
        number = write_generation(transaction, _draft(found.id, len(stored), antibodies, source), renumber=True)
        return ImportedBank(queries.generations(transaction, session_id=found.id, number=number)[0], is_new=True)


def _session(transaction: Transaction, name: str, url: str) -> m.Session:
    time = now()
    insert_new(transaction, m.Encoder, [asdict(NO_ENCODER) | {"digest": NO_ENCODER.digest, "created_at": time}])
    row = {"id": new_id(), "name": name, "status": "finished", "config": CONFIG, "seed": 0, "git_sha": None}
    row |= {"llm": None, "parent_generation_id": None}
    more = {"versions": {}, "encoder_digest": NO_ENCODER.digest, "created_at": time, "updated_at": time}
    insert_new(transaction, m.Session, [row | more])
    # Locked, where a database has more than one writer: the same file may be imported twice at the same time.
    found = transaction.scalars(select(m.Session).where(m.Session.name == name).with_for_update()).one()
    if found.config != CONFIG:
        raise SetupError(f"'{name}' in {url} is a session of its own; import the bank into another one with --session")
    return found


def _draft(
    session_id: str, version: int, antibodies: Sequence[ProposedAntibody], source: BankSource
) -> GenerationDraft:
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
        antibodies=tuple(
            AntibodyDraft(
                *(new_id(), one.text, one.kind, one.guards),
                status="accepted",
                rationale=one.rationale,
                origin=source.file,
            )
            for one in antibodies
        ),
    )
