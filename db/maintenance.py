"""Looking after a whole database: is it sound, which schema has it, bring it up to date."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import text

from db import migrations, schema
from db.engine import is_sqlite, make_engine, reading, resolve_url, shown
from immuno.errors import SetupError

_RULES = {
    "embeddings": (
        "SELECT count(*) FROM embeddings WHERE length(vector) <> 4 * dim",
        "{} embedding(s) have another length than their dimension says",
    ),
    "banks": (
        "SELECT count(*) FROM bank_members JOIN embeddings ON embeddings.id = bank_members.embedding_id"
        " WHERE embeddings.antibody_id <> bank_members.antibody_id",
        "{} bank member(s) have another antibody's embedding",
    ),
    "prompts": (
        "SELECT count(*) FROM generations WHERE NOT EXISTS (SELECT 1 FROM prompts"
        " WHERE prompts.session_id = generations.session_id AND prompts.version = generations.prompt_version)",
        "{} generation(s) have a prompt version that is not stored",
    ),
}
"""What must hold beyond the schema's own constraints: a query that counts offenders, and what they are."""
_SQLITE_RULES = {
    "search stamps": (
        "SELECT 3 - count(*) FROM sqlite_master WHERE type = 'trigger' AND name LIKE 'immuno_stamp_%'",
        "{} of the triggers are missing by which 'nearest' learns of new embeddings",
    ),
}
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
            if is_sqlite(engine.url):
                damage = transaction.scalars(text("PRAGMA integrity_check")).all()
                checks.append(_check("integrity", [found for found in damage if found != "ok"]))
                broken = transaction.execute(text("PRAGMA foreign_key_check"))
                rows = [f"{table} row {row} -> {other}" for table, row, other, _ in broken]
                checks.append(_check("foreign keys", rows))
            rules = _RULES | (_SQLITE_RULES if is_sqlite(engine.url) else _POSTGRES_RULES)
            for name, (query, words) in rules.items():
                count = transaction.scalar(text(query))
                checks.append(_check(name, [words.format(count)] if count else []))
    finally:
        engine.dispose()
    return tuple(checks)


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
