"""Whole sessions out of a database and into another one, as a SQLite file: export_session, import_session."""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import ColumnElement, select

from db.exchange.joining import Joined, join
from db.exchange.old_exports import restore
from db.maintenance import backup_database, new_file, upgrade_database
from db.schema import models as m
from db.store import AntibodyStore, open_store
from immuno_core.errors import SetupError
from immuno_core.system.temporary import OwnedFolder


def belongs(session_id: str) -> dict[str, ColumnElement[bool]]:
    """Return, for every table, which rows belong to a session.

    Its encoders, and the data sets that its effects and verdicts name (their names may be those of more than one), and
    the benchmark runs of its banks belong to it too.
    """
    generations = select(m.Generation.id).where(m.Generation.session_id == session_id)
    runs = select(m.Run.id).where(m.Run.session_id == session_id)
    encoders = select(m.Session.encoder_digest).where(m.Session.id == session_id)
    embedded = select(m.Embedding.encoder_digest).where(m.Embedding.generation_id.in_(generations))
    sets = select(m.Effect.outlier_set).where(m.Effect.generation_id.in_(generations))
    judged = select(m.Verdicts.samples_digest).where(m.Verdicts.generation_id.in_(generations))
    seen = select(m.SampleList.set_name).where(m.SampleList.digest.in_(judged))
    rules: dict[type[m.Base], ColumnElement[bool]] = {
        m.Encoder: m.Encoder.digest.in_(encoders) | m.Encoder.digest.in_(embedded),
        m.Dataset: m.Dataset.name.in_(sets) | m.Dataset.name.in_(seen),
        m.Session: m.Session.id == session_id,
        m.Prompt: m.Prompt.session_id == session_id,
        m.Generation: m.Generation.session_id == session_id,
        m.LlmCall: m.LlmCall.session_id == session_id,
        m.Run: m.Run.session_id == session_id,
    }
    rules |= {one: one.generation_id.in_(generations) for one in (m.Antibody, m.Embedding, m.BankMember)}
    rules |= {one: one.generation_id.in_(generations) for one in (m.Effect, m.Verdicts)}
    rules[m.SampleList] = m.SampleList.digest.in_(judged)
    rules |= {one: one.run_id.in_(runs) for one in (m.Result, m.TestRead)}
    rules[m.ResultMetric] = m.ResultMetric.result_id.in_(select(m.Result.id).where(m.Result.run_id.in_(runs)))
    return {model.__tablename__: rule for model, rule in rules.items()}


_SEAL = "immuno_export"
"""Table of an exported file: the SHA-256 of all its other tables, as they were written."""


def export_session(store: AntibodyStore, name: str, file: Path) -> tuple[Joined, ...]:
    """Write everything that belongs to a session into a new SQLite file of the present schema; return what, by table.

    The file appears whole or not at all, and holds what was committed at one moment. Raises SetupError for an unknown
    session, and for a file that exists or cannot be made.
    """
    session, target = store.session(name), new_file(file)
    with OwnedFolder("export-") as folder:
        work = Path(folder) / "session.db"
        with open_store(str(work)) as new:
            joined = join(new, store, store.url, only=belongs(session.id))
        with closing(sqlite3.connect(work)) as database:
            database.execute(f"CREATE TABLE {_SEAL} (sha256 TEXT NOT NULL)")
            database.execute(f"INSERT INTO {_SEAL} VALUES (?)", (_digest(database),))  # noqa: S608
            database.commit()
        backup_database(str(work), work, target)
    return joined


@dataclass(frozen=True, slots=True)
class Export:
    """An exported session, found whole."""

    path: Path
    session: str
    """The session's name when it was exported."""
    store: AntibodyStore
    """It alone, in the present schema."""


@contextmanager
def open_export(path: Path) -> Iterator[Export]:
    """Open a copy of what export_session wrote, or older versions into a folder (db.exchange.old_exports).

    Raises SetupError for what is no export, and for one that was changed since.
    """
    with OwnedFolder("import-") as folder:
        work = Path(folder) / "session.db"
        if path.is_dir():
            restore(path, work)
        else:
            _check_seal(path)
            shutil.copyfile(path, work)
        try:
            upgrade_database(str(work), work)
        except (KeyError, TypeError, ValueError) as error:
            raise SetupError(f"{path} holds what no version of immuno-vlm exported ({error!r})") from None
        with open_store(str(work), read_only=True) as opened:
            names = [session.name for session in opened.sessions()]
            if len(names) != 1:
                raise SetupError(f"{path} holds {len(names)} sessions, not one; see: immuno db merge")
            yield Export(path, names[0], opened)


def import_session(store: AntibodyStore, export: Export, *, name: str | None = None) -> tuple[Joined, ...]:
    """Add an exported session in one transaction; return what was added.

    `name` gives it another name here. Importing again adds nothing. Raises SetupError for a row that contradicts the
    database (db.exchange.joining), naming it, for instance a session of the same name that is another one.
    """
    renamed = {} if name is None else {export.session: name}
    return join(store, export.store, str(export.path), rename=renamed)


def _check_seal(path: Path) -> None:
    if not path.is_file():
        raise SetupError(f"there is no exported session at {path}; make one with: immuno db export-session")
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro&immutable=1", uri=True)) as database:
            (sealed,) = database.execute(f"SELECT sha256 FROM {_SEAL}").fetchone()  # noqa: S608
            same = sealed == _digest(database)
    except (sqlite3.Error, TypeError) as error:
        raise SetupError(
            f"{path} is not an exported session ({error}); make one with: immuno db export-session, or add all of a "
            "database with: immuno db merge"
        ) from None
    if not same:
        raise SetupError(f"{path} has been changed since it was exported (its SHA-256 is another); export again")


def _digest(database: sqlite3.Connection) -> str:
    """The SHA-256 over every row of every table but the seal, whatever their schema."""
    digest = hashlib.sha256()
    database.text_factory = bytes
    tables = database.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name <> ?", (_SEAL,)).fetchall()
    for (raw,) in sorted(tables):
        digest.update(raw)
        name = '"' + raw.decode().replace('"', '""') + '"'
        columns = len(database.execute(f"SELECT * FROM {name} LIMIT 0").description)  # noqa: S608
        order = ", ".join(str(i + 1) for i in range(min(columns, 3)))  # no key has more columns
        for row in database.execute(f"SELECT * FROM {name} ORDER BY {order}"):  # noqa: S608
            digest.update(repr(row).encode())
    database.text_factory = str
    return digest.hexdigest()
