"""What the tables are made of (db.models): kinds of columns, their mapping from Python types, and rules for them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from sqlalchemy import BigInteger, CheckConstraint, Double, MetaData, String
from sqlalchemy.orm import DeclarativeBase, mapped_column

from db.types import LosslessText, StrictJson, UtcDateTime
from db.values import KINDS

Key = Annotated[str, mapped_column(String(36))]
PrimaryKey = Annotated[str, mapped_column(String(36), primary_key=True)]
Digest = Annotated[str, mapped_column(String(64))]
Word = Annotated[str, mapped_column(String(32))]
"""One of a few words fixed by the program."""
Seed = Annotated[int, mapped_column(BigInteger)]
NumberKind = Annotated[str, mapped_column(String(6))]


class Base(DeclarativeBase):
    """The base of every table: one naming convention, one mapping from Python types to columns."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 (SQLAlchemy reads it as a plain class attribute)
        str: LosslessText(),
        float: Double(),
        datetime: UtcDateTime(),
        dict[str, Any]: StrictJson(),
        dict[str, str]: StrictJson(),
        list[str]: StrictJson(),
    }


def one_of(column: str, words: tuple[str, ...]) -> CheckConstraint:
    """The column holds one of the words."""
    return CheckConstraint(f"{column} IN ({', '.join(repr(word) for word in words)})", name=column)


def numbers_of(*columns: str, optional: bool = False) -> tuple[CheckConstraint, ...]:
    """Each column has a value exactly where its kind is finite. Without a kind (`optional`) nothing was measured."""
    kind = "coalesce({}_kind, '')" if optional else "{}_kind"
    return tuple(
        constraint
        for column in columns
        for constraint in (
            one_of(f"{column}_kind", KINDS),
            CheckConstraint(f"({kind.format(column)} = 'finite') = ({column} IS NOT NULL)", name=f"{column}_finite"),
        )
    )
