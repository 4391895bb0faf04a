"""One way to say undefined (NULL), one embedding of an antibody by an encoder, metrics of results in rows of their own.

- `x_kind` goes: NULL is undefined, and infinity is a number that both engines store.
- A matured embedding, which earlier versions hung on the antibody of its text, becomes that of an antibody of its own,
  as maturation makes them now: the embedding's id is its id, its text ends with "(matured)".
- `results` loses its metrics and intervals to `result_metrics`: a new metric needs no migration.
- The `error` of a call without a reply goes to its parameters; a session that had failed is paused, as all that can go
  on are.
- SQLite's stamps of embeddings go.

Revision: 0005, after 0004
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_EFFECTS = ("gain", "harm", "d_fpr95", "d_auroc", "d_id_accuracy")
_MEASURED = ("auroc", "aupr_in", "aupr_out", "fpr95_id", "fpr95_ood", "id_accuracy")
"""Of every line of results, with a kind."""
_OPTIONAL = ("h_score", "oscr", "threshold", "acceptance", "rejection", "accepted_accuracy")
"""Not of every line: a kind of NULL says that it was not measured."""
_INFINITE = {"inf": math.inf, "-inf": -math.inf}
_MATURED = " (matured)"
_NEW = "hex(randomblob(16))"
_CHANGED = "token = excluded.token, epoch = excluded.epoch"
_STAMPS = (("insert", "NEW", "token = excluded.token"), ("update", "OLD", _CHANGED), ("delete", "OLD", _CHANGED))


def _rows(statement: str, **values: Any) -> list[dict[str, Any]]:
    return [dict(row._mapping) for row in op.get_bind().execute(sa.text(statement), values)]


def _execute(statement: str, rows: Iterable[dict[str, Any]]) -> None:
    if some := list(rows):
        op.get_bind().execute(sa.text(statement), some)


def _is_sqlite() -> bool:
    return op.get_bind().dialect.name == "sqlite"


def _json(value: Any) -> Any:
    """A value of a JSON column, which SQLite hands out as text."""
    return json.loads(value) if isinstance(value, str) else value


def upgrade() -> None:
    if _is_sqlite():
        for change, *_ in _STAMPS:
            op.execute(f"DROP TRIGGER immuno_stamp_{change}")
        op.drop_table("vector_stamps")
    _metrics_to_rows()
    _drop_kinds("effects", ("id",), _EFFECTS)
    _drop_kinds("verdicts", ("generation_id", "set_name", "sample_id"), ("score",))
    _matured_to_antibodies()
    _errors_to_parameters()
    op.execute("UPDATE sessions SET status = 'paused' WHERE status = 'failed'")
    with op.batch_alter_table("sessions") as batch_op:
        batch_op.drop_constraint(op.f("ck_sessions_status"), type_="check")
        batch_op.create_check_constraint(op.f("ck_sessions_status"), "status IN ('running', 'paused', 'finished')")


def downgrade() -> None:
    with op.batch_alter_table("sessions") as batch_op:
        batch_op.drop_constraint(op.f("ck_sessions_status"), type_="check")
        batch_op.create_check_constraint(
            op.f("ck_sessions_status"), "status IN ('running', 'paused', 'finished', 'failed')"
        )
    _parameters_to_errors()
    _antibodies_to_matured()
    _add_kinds("verdicts", ("generation_id", "set_name", "sample_id"), ("score",))
    _add_kinds("effects", ("id",), _EFFECTS)
    _rows_to_metrics()
    if _is_sqlite():
        op.create_table(
            "vector_stamps",
            sa.Column("encoder_digest", sa.String(length=64), nullable=False),
            sa.Column("token", sa.String(length=32), nullable=False),
            sa.Column("epoch", sa.String(length=32), nullable=False),
            sa.PrimaryKeyConstraint("encoder_digest", name=op.f("pk_vector_stamps")),
        )
        op.execute(f"INSERT INTO vector_stamps SELECT digest, {_NEW}, {_NEW} FROM encoders")
        for change, row, then in _STAMPS:
            op.execute(
                f"CREATE TRIGGER immuno_stamp_{change} AFTER {change.upper()} ON embeddings BEGIN"
                f" INSERT INTO vector_stamps VALUES ({row}.encoder_digest, {_NEW}, {_NEW})"
                f" ON CONFLICT (encoder_digest) DO UPDATE SET {then}; END"
            )


# Numbers and their kinds


def _drop_kinds(table: str, keys: tuple[str, ...], names: tuple[str, ...]) -> None:
    found = {name: _infinite(table, keys, name) for name in names}
    with op.batch_alter_table(table) as batch_op:
        for name in names:
            batch_op.drop_constraint(op.f(f"ck_{table}_{name}_kind"), type_="check")
            batch_op.drop_constraint(op.f(f"ck_{table}_{name}_finite"), type_="check")
            batch_op.drop_column(f"{name}_kind")
    same = " AND ".join(f"{key} = :{key}" for key in keys)
    for name, rows in found.items():
        values = [row | {"value": _INFINITE[row["kind"]]} for row in rows]
        _execute(f"UPDATE {table} SET {name} = :value WHERE {same}", [_without(row, "kind") for row in values])


def _infinite(table: str, keys: tuple[str, ...], name: str) -> list[dict[str, Any]]:
    return _rows(f"SELECT {', '.join(keys)}, {name}_kind AS kind FROM {table} WHERE {name}_kind IN ('inf', '-inf')")


def _without(row: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in names}


def _add_kinds(table: str, keys: tuple[str, ...], names: tuple[str, ...]) -> None:
    """Add the kind of each number."""
    with op.batch_alter_table(table) as batch_op:
        for name in names:
            batch_op.add_column(
                sa.Column(f"{name}_kind", sa.String(length=6), nullable=False, server_default="finite")
            )
    for name in names:
        for kind, value in _INFINITE.items():
            where = {"value": value, "kind": kind}
            _execute(f"UPDATE {table} SET {name}_kind = :kind, {name} = NULL WHERE {name} = :value", [where])
        op.execute(f"UPDATE {table} SET {name}_kind = 'nan' WHERE {name} IS NULL AND {name}_kind = 'finite'")
    with op.batch_alter_table(table) as batch_op:
        for name in names:
            batch_op.alter_column(
                f"{name}_kind", existing_type=sa.String(length=6), existing_nullable=False, server_default=None
            )
            _check_kind(batch_op, table, name, f"{name}_kind")


def _check_kind(batch_op: Any, table: str, name: str, kind: str) -> None:
    batch_op.create_check_constraint(
        op.f(f"ck_{table}_{name}_kind"), f"{name}_kind IN ('finite', 'nan', 'inf', '-inf')"
    )
    batch_op.create_check_constraint(op.f(f"ck_{table}_{name}_finite"), f"({kind} = 'finite') = ({name} IS NOT NULL)")


# Metrics of results


def _metrics_to_rows() -> None:
    op.create_table(
        "result_metrics",
        sa.Column("result_id", sa.String(length=36), nullable=False),
        sa.Column("metric", sa.Text(), nullable=False),
        sa.Column("value", sa.Double(), nullable=True),
        sa.Column("low", sa.Double(), nullable=True),
        sa.Column("high", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(["result_id"], ["results.id"], name=op.f("fk_result_metrics_result_id_results")),
        sa.PrimaryKeyConstraint("result_id", "metric", name=op.f("pk_result_metrics")),
    )
    metrics = []
    for row in _rows("SELECT * FROM results ORDER BY id"):
        intervals = _json(row["intervals"])
        measured = [name for name in (*_MEASURED, *_OPTIONAL) if row[f"{name}_kind"] is not None]
        for name in dict.fromkeys((*measured, *intervals)):
            low, high = (_number(end) for end in intervals.get(name, (None, None)))
            value = _INFINITE.get(row.get(f"{name}_kind") or "", row.get(name))
            metrics.append({"id": row["id"], "metric": name, "value": value, "low": low, "high": high})
    _execute("INSERT INTO result_metrics VALUES (:id, :metric, :value, :low, :high)", metrics)
    with op.batch_alter_table("results") as batch_op:
        for name in (*_MEASURED, *_OPTIONAL):
            batch_op.drop_constraint(op.f(f"ck_results_{name}_kind"), type_="check")
            batch_op.drop_constraint(op.f(f"ck_results_{name}_finite"), type_="check")
            batch_op.drop_column(f"{name}_kind")
            batch_op.drop_column(name)
        batch_op.drop_column("intervals")


def _number(end: Any) -> float | None:
    """An end of an interval, which is {"value": null, "kind": ...} where it is not finite."""
    return _INFINITE.get(end["kind"]) if isinstance(end, dict) else end


def _strict(end: float | None) -> Any:
    if end is not None and math.isfinite(end):
        return end
    return {"value": None, "kind": "nan" if end is None else str(end)}


def _rows_to_metrics() -> None:
    """Metrics that the schema before does not know are lost."""
    with op.batch_alter_table("results") as batch_op:
        for name in _MEASURED:
            batch_op.add_column(sa.Column(name, sa.Double(), nullable=True))
            batch_op.add_column(
                sa.Column(f"{name}_kind", sa.String(length=6), nullable=False, server_default="nan")
            )
        batch_op.add_column(sa.Column("intervals", sa.JSON(), nullable=False, server_default="{}"))
        for name in _OPTIONAL:
            batch_op.add_column(sa.Column(name, sa.Double(), nullable=True))
            batch_op.add_column(sa.Column(f"{name}_kind", sa.String(length=6), nullable=True))
    intervals: dict[str, dict[str, Any]] = {}
    for row in _rows("SELECT * FROM result_metrics ORDER BY result_id, metric"):
        name, value = row["metric"], row["value"]
        if (row["low"], row["high"]) != (None, None):
            intervals.setdefault(row["result_id"], {})[name] = [_strict(row["low"]), _strict(row["high"])]
        if name in (*_MEASURED, *_OPTIONAL):
            kind = "nan" if value is None else "finite" if math.isfinite(value) else str(value)
            values = {"id": row["result_id"], "value": value if kind == "finite" else None, "kind": kind}
            _execute(f"UPDATE results SET {name} = :value, {name}_kind = :kind WHERE id = :id", [values])
    dumped = [{"id": key, "intervals": json.dumps(some)} for key, some in intervals.items()]
    json_type = "" if _is_sqlite() else "::json"
    _execute(f"UPDATE results SET intervals = (:intervals){json_type} WHERE id = :id", dumped)
    op.drop_table("result_metrics")
    with op.batch_alter_table("results") as batch_op:
        for name in _MEASURED:
            batch_op.alter_column(
                f"{name}_kind", existing_type=sa.String(length=6), existing_nullable=False, server_default=None
            )
            _check_kind(batch_op, "results", name, f"{name}_kind")
        batch_op.alter_column("intervals", existing_type=sa.JSON(), existing_nullable=False, server_default=None)
        for name in _OPTIONAL:
            _check_kind(batch_op, "results", name, f"coalesce({name}_kind, '')")


# Matured embeddings


def _matured_to_antibodies() -> None:
    """Give each matured embedding an antibody, and let the banks in which it was have that one."""
    taken = {(row["generation_id"], row["digest"]) for row in _rows("SELECT generation_id, digest FROM antibodies")}
    last = _rows("SELECT generation_id, max(position) AS position FROM antibodies GROUP BY generation_id")
    positions = {row["generation_id"]: row["position"] for row in last}
    matured = _rows(
        "SELECT e.id, e.antibody_id, e.generation_id, a.text, a.kind, a.guards, a.rationale, g.finished_at AS made,"
        " p.id AS before, p.kind AS before_kind FROM embeddings e JOIN antibodies a ON a.id = e.antibody_id"
        " JOIN generations g ON g.id = e.generation_id LEFT JOIN embeddings p ON p.id = e.parent_id"
        " WHERE e.kind = 'matured' ORDER BY e.id"
    )
    made = []
    for row in matured:
        text, number = row["text"] + _MATURED, 1
        while (row["generation_id"], digest := _digest(text, row["guards"])) in taken:
            number += 1
            text = f"{row['text']}{_MATURED[:-1]} {number})"
        taken.add((row["generation_id"], digest))
        position = positions[row["generation_id"]] = positions.get(row["generation_id"], -1) + 1
        parent = row["before"] if row["before_kind"] == "matured" else row["antibody_id"]
        own = _without(row, "antibody_id", "before", "before_kind") | {"text": text, "digest": digest}
        made.append(own | {"position": position, "parent": parent})
    _execute(
        "INSERT INTO antibodies (id, generation_id, position, text, kind, guards, digest, rationale, status, reason,"
        " origin, parent_id, relation, created_at) VALUES (:id, :generation_id, :position, :text, :kind, :guards,"
        " :digest, :rationale, 'accepted', '', 'maturation', :parent, 'matured', :made)",
        made,
    )
    op.execute(
        "UPDATE bank_members SET antibody_id = embedding_id"
        " WHERE embedding_id IN (SELECT id FROM embeddings WHERE kind = 'matured')"
    )
    op.execute("UPDATE embeddings SET antibody_id = id WHERE kind = 'matured'")
    with op.batch_alter_table("bank_members") as batch_op:
        batch_op.drop_constraint(op.f("fk_bank_members_embedding_id_embeddings"), type_="foreignkey")
        batch_op.drop_column("embedding_id")
    with op.batch_alter_table("embeddings") as batch_op:
        batch_op.drop_constraint(op.f("ck_embeddings_kind"), type_="check")
        batch_op.drop_constraint(
            op.f("uq_embeddings_antibody_id_generation_id_kind_encoder_digest"), type_="unique"
        )
        batch_op.drop_constraint(op.f("fk_embeddings_parent_id_embeddings"), type_="foreignkey")
        batch_op.drop_column("kind")
        batch_op.drop_column("parent_id")
        batch_op.create_unique_constraint(op.f("uq_embeddings_antibody_id_encoder_digest"), ["antibody_id", "encoder_digest"])


def _antibodies_to_matured() -> None:
    with op.batch_alter_table("embeddings") as batch_op:
        batch_op.drop_constraint(op.f("uq_embeddings_antibody_id_encoder_digest"), type_="unique")
        batch_op.add_column(
            sa.Column("kind", sa.String(length=32), nullable=False, server_default="proposed")
        )
        batch_op.add_column(sa.Column("parent_id", sa.String(length=36), nullable=True))
    with op.batch_alter_table("bank_members") as batch_op:
        batch_op.add_column(sa.Column("embedding_id", sa.String(length=36), nullable=True))
    op.execute(
        "UPDATE bank_members SET embedding_id = (SELECT e.id FROM embeddings e JOIN generations g"
        " ON g.id = bank_members.generation_id JOIN sessions s ON s.id = g.session_id"
        " WHERE e.antibody_id = bank_members.antibody_id AND e.encoder_digest = s.encoder_digest)"
    )
    rows = _rows(
        "SELECT e.id, a.parent_id, e.encoder_digest AS encoder FROM embeddings e"
        " JOIN antibodies a ON a.id = e.id WHERE e.antibody_id = e.id"
    )
    parents = {row["id"]: row["parent_id"] for row in rows}
    changes = []
    for row in rows:
        root = row["id"]
        while root in parents:
            root = parents[root]
        changes.append(row | {"root": root})
    proposed = "(SELECT p.id FROM embeddings p WHERE p.antibody_id = :parent_id AND p.encoder_digest = :encoder)"
    for row in changes:
        values = _without(row, "root")
        _execute(f"UPDATE embeddings SET kind = 'matured', parent_id = {proposed} WHERE id = :id", [values])
    for row in changes:
        _execute("UPDATE embeddings SET antibody_id = :root WHERE id = :id", [_without(row, "parent_id", "encoder")])
        _execute("UPDATE bank_members SET antibody_id = :root WHERE antibody_id = :id", [_without(row, "parent_id", "encoder")])
    _execute("DELETE FROM antibodies WHERE id = :id", [{"id": row["id"]} for row in rows])
    with op.batch_alter_table("bank_members") as batch_op:
        batch_op.alter_column("embedding_id", existing_type=sa.String(length=36), nullable=False)
        batch_op.create_foreign_key(
            op.f("fk_bank_members_embedding_id_embeddings"), "embeddings", ["embedding_id"], ["id"]
        )
    with op.batch_alter_table("embeddings") as batch_op:
        batch_op.alter_column("kind", existing_type=sa.String(length=32), existing_nullable=False, server_default=None)
        batch_op.create_check_constraint(op.f("ck_embeddings_kind"), "kind IN ('proposed', 'matured')")
        batch_op.create_unique_constraint(
            op.f("uq_embeddings_antibody_id_generation_id_kind_encoder_digest"),
            ["antibody_id", "generation_id", "kind", "encoder_digest"],
        )
        batch_op.create_foreign_key(op.f("fk_embeddings_parent_id_embeddings"), "embeddings", ["parent_id"], ["id"])


def _digest(*texts: str) -> str:
    """An antibody's digest, as immuno_core.records.text_digest gives it of texts that are not escaped."""
    digest = hashlib.sha256()
    for text in texts:
        plain = re.sub("\u241b([0-9a-f]{4})", lambda found: chr(int(found[1], 16)), text)
        raw = plain.encode("utf-8", "surrogatepass")
        digest.update(len(raw).to_bytes(8, "big") + raw)
    return digest.hexdigest()


# Calls without a reply


def _errors_to_parameters() -> None:
    failed = _rows("SELECT id, parameters, error FROM llm_calls WHERE error IS NOT NULL")
    with op.batch_alter_table("llm_calls") as batch_op:
        batch_op.drop_constraint(op.f("ck_llm_calls_replied_or_failed"), type_="check")
        batch_op.drop_column("error")
    _save_parameters({row["id"]: _json(row["parameters"]) | {"error": row["error"]} for row in failed})


def _parameters_to_errors() -> None:
    with op.batch_alter_table("llm_calls") as batch_op:
        batch_op.add_column(sa.Column("error", sa.Text(), nullable=True))
    found = {row["id"]: _json(row["parameters"]) for row in _rows("SELECT id, parameters FROM llm_calls")}
    failed = {key: parameters for key, parameters in found.items() if "error" in parameters}
    errors = [{"id": key, "error": parameters["error"]} for key, parameters in failed.items()]
    _execute("UPDATE llm_calls SET error = :error WHERE id = :id", errors)
    _save_parameters({key: _without(parameters, "error") for key, parameters in failed.items()})
    op.execute("UPDATE llm_calls SET error = '' WHERE error IS NULL AND reply_text IS NULL")
    with op.batch_alter_table("llm_calls") as batch_op:
        batch_op.create_check_constraint(
            op.f("ck_llm_calls_replied_or_failed"), "reply_text IS NOT NULL OR error IS NOT NULL"
        )


def _save_parameters(parameters: dict[str, Any]) -> None:
    json_type = "" if _is_sqlite() else "::json"
    rows = [{"id": key, "parameters": json.dumps(values)} for key, values in parameters.items()]
    _execute(f"UPDATE llm_calls SET parameters = (:parameters){json_type} WHERE id = :id", rows)
