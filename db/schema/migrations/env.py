"""Alembic runs this file for every command; the connection is handed in by db.schema.migrations."""

from __future__ import annotations

from typing import Any, Literal

from alembic import context
from alembic.autogenerate.api import AutogenContext
from sqlalchemy.types import TypeDecorator

from db.schema.machinery import metadata_of
from db.schema.migrations import VERSION_TABLE, is_of_the_models


def _render_item(kind: str, item: Any, _context: AutogenContext) -> str | Literal[False]:
    """Write our column types as the plain types beneath them: a revision must not change when our classes do."""
    return f"sa.{item.impl!r}" if kind == "type" and isinstance(item, TypeDecorator) else False


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata_of(context.config.attributes["connection"].dialect.name),
    version_table=VERSION_TABLE,
    include_object=is_of_the_models,
    render_as_batch=True,  # SQLite alters a table by copying it
    render_item=_render_item,
)
with context.begin_transaction():
    context.run_migrations()
