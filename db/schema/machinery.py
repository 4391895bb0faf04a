"""Tables that are no part of the record: nobody exports or merges them, and what they hold may be lost."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import MetaData
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from db.schema.models import Base
from db.schema.types import LosslessText, UtcDateTime


class Machinery(DeclarativeBase):
    """The base of such tables."""

    metadata = MetaData(naming_convention=Base.metadata.naming_convention)
    type_annotation_map = {str: LosslessText(), datetime: UtcDateTime()}  # noqa: RUF012 (as in db.schema.models)


class Claim(Machinery):
    """Work that one process has taken on (db.claims)."""

    __tablename__ = "claims"

    work: Mapped[str] = mapped_column(primary_key=True)
    owner: Mapped[str]
    host: Mapped[str]
    pid: Mapped[int]
    boot: Mapped[str]
    claimed_at: Mapped[datetime]
    beat_at: Mapped[datetime]


def metadata_of(dialect: str) -> list[MetaData]:
    """Return all that a database of an engine holds: the record, the machinery, PostgreSQL's index."""
    if dialect != "postgresql":
        return [Base.metadata, Machinery.metadata]
    from db.schema.pgvector import halves

    return [Base.metadata, Machinery.metadata, halves.metadata]
