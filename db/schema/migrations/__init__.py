"""The revisions of the schema (Alembic), usable from the package alone: no alembic.ini, no command line.

To change the schema: edit db/schema/models.py; in Python, with a connection to an empty database, run
`upgrade(connection)`, then `alembic.command.revision(configuration(connection), "what changes", autogenerate=True,
rev_id="0009")`; read what it wrote; append the revision to REVISIONS; and freeze a database of the schema before
(tests/db/schema/test_frozen.py). tests/db/schema/test_migrations.py compares all of these.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # Alembic is loaded only to migrate: `immuno db` checks the revision at every start
    from alembic.config import Config
    from sqlalchemy import Connection

REVISIONS: tuple[str, ...] = ("0001", "0002", "0003", "0004", "0005", "0006", "0007", "0008")
"""Every revision, oldest first."""
HEAD = REVISIONS[-1]
VERSION_TABLE = "immuno_schema"
"""Holds a database's revision. Not Alembic's usual name, by which other programs' databases would pass for ours."""


def is_of_the_models(_object: object, name: str | None, kind: str, _reflected: bool, _other: object) -> bool:
    """Whether Alembic should compare it (its `include_object`): not the HNSW indexes, which each encoder adds."""
    return kind != "index" or not (name or "").startswith("hnsw_")


def configuration(connection: Connection) -> Config:
    """Return Alembic's configuration for a connection; migrations join the transaction that it is in."""
    from alembic.config import Config

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def upgrade(connection: Connection, revision: str = "head") -> None:
    """Bring the schema up to a revision."""
    from alembic import command

    command.upgrade(configuration(connection), revision)


def downgrade(connection: Connection, revision: str) -> None:
    """Take the schema back to a revision ("base": nothing is left)."""
    from alembic import command

    command.downgrade(configuration(connection), revision)
