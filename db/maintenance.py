"""Looking after a whole database: is it sound, which schema has it, bring it up to date, copy it while it is in use."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine, select, text
from sqlalchemy.orm import Session

from db.schema import migrations
from db.schema import revision as schema
from db.schema.engine import is_sqlite, make_engine, plain_errors, reading, resolve_url, shown
from db.schema.forms import oddity
from db.schema.models import Base
from db.schema.structure import differences
from immuno_core.errors import ImmunoError, SetupError
from immuno_core.files import written_whole

_RULES: dict[str, tuple[str, str]] = {
    "embeddings": (
        "SELECT count(*) FROM embeddings WHERE length(vector) <> 4 * dim",
        "{} embedding(s) have another length than their dimension says",
    ),
    "banks": (
        "SELECT count(*) FROM bank_members JOIN generations ON generations.id = bank_members.generation_id"
        " JOIN sessions ON sessions.id = generations.session_id WHERE NOT EXISTS (SELECT 1 FROM embeddings"
        " WHERE embeddings.antibody_id = bank_members.antibody_id"
        " AND embeddings.encoder_digest = sessions.encoder_digest)",
        "{} bank member(s) have no embedding of their session's encoder",
    ),
    "prompts": (
        "SELECT count(*) FROM generations WHERE NOT EXISTS (SELECT 1 FROM prompts"
        " WHERE prompts.session_id = generations.session_id AND prompts.version = generations.prompt_version)",
        "{} generation(s) have a prompt version that is not stored",
    ),
}
"""What must hold beyond the schema's own constraints: a query that counts offenders, and what they are."""
_POSTGRES_RULES = {
    "search index": (
        "SELECT count(*) FROM embeddings WHERE NOT EXISTS"
        " (SELECT 1 FROM halves WHERE halves.embedding_id = embeddings.id)",
        "{} embedding(s) are not in the index that 'nearest' searches",
    ),
}


@dataclass(frozen=True, slots=True)
class Check:
    """One check of a database."""

    name: str
    ok: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Versions:
    """Which schema this package has and which one a database has (None: there is no database yet)."""

    schema: str
    database: str
    database_schema: str | None


def check_database(url: str | None, default: Path) -> tuple[Check, ...]:
    """Check a database without changing it. Raises SetupError where it cannot be read, or has another revision."""
    engine = make_engine(resolve_url(url, default), read_only=True)
    try:
        schema.check(engine)
        checks = [Check("revision", True, migrations.HEAD)]
        with reading(engine) as transaction:
            structure = differences(transaction.connection())
            checks.append(_check("tables", structure))
            if is_sqlite(engine.url):
                damage = transaction.scalars(text("PRAGMA integrity_check")).all()
                checks.append(_check("integrity", [found for found in damage if found != "ok"]))
                broken = transaction.execute(text("PRAGMA foreign_key_check"))
                rows = [f"{table} row {row} -> {other}" for table, row, other, _ in broken]
                checks.append(_check("foreign keys", rows))
            rules = {} if structure else _RULES | ({} if is_sqlite(engine.url) else _POSTGRES_RULES)
            for name, (query, words) in rules.items():
                count = transaction.scalar(text(query))
                checks.append(_check(name, [words.format(count)] if count else []))
            if not structure:
                checks.append(_check("rows", list(_odd_rows(transaction))))
    finally:
        engine.dispose()
    return tuple(checks)


def _odd_rows(transaction: Session) -> Iterator[str]:
    """What rows say that no version would have written, a line each."""
    for table in Base.metadata.sorted_tables:
        try:
            for row in transaction.execute(select(table), execution_options={"yield_per": 1000}):
                if (odd := oddity(table.name, row._asdict())) is not None:
                    yield f"'{table}', {row[0]}: {odd}"
        except (TypeError, ValueError, SetupError) as error:  # of a value that a column of its type cannot hold
            yield f"'{table}' has a row that cannot be read ({error})"


def _check(name: str, problems: list[str], shown_problems: int = 5) -> Check:
    more = [f"and {len(problems) - shown_problems} more"] if len(problems) > shown_problems else []
    return Check(name, not problems, "; ".join([*problems[:shown_problems], *more]) or "ok")


def upgrade_database(url: str | None, default: Path) -> tuple[str | None, str]:
    """Bring an existing database's schema up to date; return the revision before and after. SetupError as in check."""
    resolved = resolve_url(url, default)
    if is_sqlite(resolved) and not Path(resolved.database or "").exists():
        raise SetupError(f"there is no database at {resolved.database}; name one with --db URL or IMMUNO_DB")
    engine = make_engine(resolved)
    try:
        return schema.upgrade(engine)
    finally:
        engine.dispose()


def versions(url: str | None, default: Path) -> Versions:
    """Return the schema revisions of this package and of a database, whatever they are."""
    resolved = resolve_url(url, default)
    if is_sqlite(resolved) and not Path(resolved.database or "").exists():
        return Versions(migrations.HEAD, shown(resolved), None)
    engine = make_engine(resolved, read_only=True)
    try:
        with reading(engine) as transaction:
            return Versions(migrations.HEAD, shown(resolved), schema.stored_revision(transaction.connection()))
    finally:
        engine.dispose()


def backup_database(url: str | None, default: Path, target: Path) -> Path:
    """Write a copy of a SQLite database, as it is at one moment, to `target`; return its absolute path.

    The copy appears whole or not at all, is compact, needs no log beside it, and has been checked. A database of an
    older schema is copied too: that is what one does before an upgrade. Raises SetupError for PostgreSQL, for what is
    no database of ours, and for a target that exists or cannot be written.
    """
    resolved = resolve_url(url, default)
    if not is_sqlite(resolved):
        raise SetupError(
            f"{shown(resolved)} is not a SQLite file; back it up with PostgreSQL's own: "
            f"pg_dump --format=custom --file={target} {resolved.database}"
        )
    target = new_file(target)
    engine = make_engine(resolved, read_only=True)
    try:
        with reading(engine) as transaction:
            if schema.stored_revision(transaction.connection()) is None:
                raise SetupError(f"{shown(resolved)} is empty: there is nothing to back up")
        with written_whole(target) as temporary:
            _copy(engine, temporary)
    except OSError as error:
        raise SetupError(f"{target} cannot be written: {error.strerror} ({error.filename})") from None
    finally:
        engine.dispose()
    return target


def new_file(path: Path) -> Path:
    """Return the absolute path. Raises SetupError where it exists."""
    path = path.expanduser().absolute()
    if path.exists() or path.is_symlink():
        raise SetupError(f"{path} exists, and is not overwritten; name a new file")
    return path


def _copy(engine: Engine, path: Path) -> None:
    path.touch(exist_ok=False)  # here, where a folder that cannot be written is told from a damaged database
    with plain_errors(engine.url), closing(engine.raw_connection()) as connection:
        cursor = connection.cursor()
        cursor.execute("PRAGMA query_only=OFF")  # SQLite counts VACUUM INTO as a write, though of another file
        cursor.execute("VACUUM INTO ?", (str(path),))
    with closing(sqlite3.connect(path)) as copy:
        damage = [found for (found,) in copy.execute("PRAGMA integrity_check") if found != "ok"]
    if damage:
        raise ImmunoError(f"{shown(engine.url)} is damaged, and so would be its backup: {damage[0]}")
