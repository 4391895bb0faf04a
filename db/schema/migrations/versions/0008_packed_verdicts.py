"""Verdicts packed: the samples that are judged once for all generations, and of a generation 13 bytes for each.

Revision: 0008, after 0007
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
import zlib
from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_MOST = 50_000
_JUDGED = struct.Struct("<dHHB")
_COLUMNS = "generation_id, set_name, sample_id, score, accepted, nearest_class, nearest_antibody_id"


def upgrade() -> None:
    lists, verdicts = _packed()
    op.drop_table("verdicts")
    of_lists = op.create_table(
        "sample_lists",
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("set_name", sa.Text(), nullable=False),
        sa.Column("first", sa.BigInteger(), nullable=False),
        sa.Column("last", sa.BigInteger(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("names", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_sample_lists")),
    )
    op.create_index(op.f("ix_sample_lists_first_last"), "sample_lists", ["first", "last"])
    of_verdicts = op.create_table(
        "verdicts",
        sa.Column("generation_id", sa.String(36), nullable=False),
        sa.Column("samples_digest", sa.String(64), nullable=False),
        sa.Column("classes", sa.JSON(), nullable=False),
        sa.Column("antibodies", sa.JSON(), nullable=False),
        sa.Column("judged", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["generation_id"], ["generations.id"], name=op.f("fk_verdicts_generation_id_generations")
        ),
        sa.ForeignKeyConstraint(
            ["samples_digest"], ["sample_lists.digest"], name=op.f("fk_verdicts_samples_digest_sample_lists")
        ),
        sa.PrimaryKeyConstraint("generation_id", "samples_digest", name=op.f("pk_verdicts")),
    )
    op.create_index(op.f("ix_verdicts_samples_digest"), "verdicts", ["samples_digest"])
    op.bulk_insert(of_lists, lists)
    op.bulk_insert(of_verdicts, verdicts)


def _packed() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The rows of the new tables. Texts stay escaped as they are (db.schema.types)."""
    lists: dict[str, dict[str, Any]] = {}
    verdicts: list[dict[str, Any]] = []
    stored = op.get_bind().execute(sa.text(f"SELECT {_COLUMNS} FROM verdicts ORDER BY generation_id, set_name"))  # noqa: S608
    for (generation, set_name), rows in groupby(map(tuple, stored), key=itemgetter(0, 1)):
        ordered = sorted(((_key(row[2]), row[2], row[3:]) for row in rows), key=itemgetter(0, 1))
        for start in range(0, len(ordered), _MOST):
            some = ordered[start : start + _MOST]
            names = [name for _, name, _ in some]
            digest = _digest(set_name, *names)
            lists[digest] = {
                **{"digest": digest, "set_name": set_name, "first": some[0][0], "last": some[-1][0]},
                **{"count": len(names), "names": zlib.compress(json.dumps(names, ensure_ascii=False).encode(), 1)},
            }
            judged = _judged([said for *_, said in some])
            verdicts.append({"generation_id": generation, "samples_digest": digest, **judged})
    return list(lists.values()), verdicts


def _judged(said: list[tuple[float | None, bool, str, str | None]]) -> dict[str, Any]:
    classes: dict[str, int] = {}
    antibodies: dict[str, int] = {}
    judged = bytearray()
    for score, accepted, nearest_class, antibody in said:
        place = classes.setdefault(nearest_class, len(classes))
        fires = 0 if antibody is None else 1 + antibodies.setdefault(antibody, len(antibodies))
        judged += _JUDGED.pack(math.nan if score is None else score, place, fires, bool(accepted))
    return {"classes": list(classes), "antibodies": list(antibodies), "judged": bytes(judged)}


def _key(sample: str) -> int:
    return int.from_bytes(hashlib.sha256(sample.encode()).digest()[:8], "big", signed=True)


def _digest(*parts: str) -> str:
    digest = hashlib.sha256()
    for raw in (part.encode() for part in parts):
        digest.update(len(raw).to_bytes(8, "big"))
        digest.update(raw)
    return digest.hexdigest()


def downgrade() -> None:
    rows = list(_unpacked())
    op.drop_table("verdicts")
    op.drop_table("sample_lists")
    table = op.create_table(
        "verdicts",
        sa.Column("generation_id", sa.String(36), nullable=False),
        sa.Column("set_name", sa.Text(), nullable=False),
        sa.Column("sample_id", sa.Text(), nullable=False),
        sa.Column("score", sa.Double(), nullable=True),
        sa.Column("accepted", sa.Boolean(), nullable=False),
        sa.Column("nearest_class", sa.Text(), nullable=False),
        sa.Column("nearest_antibody_id", sa.String(36), nullable=True),
        sa.PrimaryKeyConstraint("generation_id", "set_name", "sample_id", name=op.f("pk_verdicts")),
        sa.ForeignKeyConstraint(
            ["nearest_antibody_id"], ["antibodies.id"], name=op.f("fk_verdicts_nearest_antibody_id_antibodies")
        ),
        sa.ForeignKeyConstraint(
            ["generation_id"], ["generations.id"], name=op.f("fk_verdicts_generation_id_generations")
        ),
    )
    op.create_index(op.f("ix_verdicts_sample_id"), "verdicts", ["sample_id"])
    op.bulk_insert(table, rows)


def _unpacked() -> Iterator[dict[str, Any]]:
    query = (
        "SELECT v.generation_id, s.set_name, s.names, v.classes, v.antibodies, v.judged"
        " FROM verdicts v JOIN sample_lists s ON s.digest = v.samples_digest ORDER BY v.generation_id, s.set_name, s.first"
    )
    for generation, set_name, names, *lists, judged in op.get_bind().execute(sa.text(query)):
        classes, antibodies = (json.loads(one) if isinstance(one, str) else one for one in lists)
        of_samples = zip(json.loads(zlib.decompress(names)), _JUDGED.iter_unpack(judged), strict=True)
        for sample, (score, place, fires, accepted) in of_samples:
            yield {
                **{"generation_id": generation, "set_name": set_name, "sample_id": sample},
                **{"score": None if math.isnan(score) else score, "accepted": bool(accepted)},
                "nearest_class": classes[place],
                "nearest_antibody_id": antibodies[fires - 1] if fires else None,
            }
