"""`immuno db export-session, import-session, import-bank, merge, backup`: what goes in and out of a database whole."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from immuno.cli.db.options import answer, database_option
from immuno.cli.options import open_database, ray_option
from immuno.terminal.output import print_json
from immuno_core.paths import default_database
from immuno_core.text import printable

if TYPE_CHECKING:
    from db import AntibodyStore
    from db.exchange.joining import Joined
    from immuno_core.records import Antibody


@click.command(name="export-session")
@click.argument("session")
@click.argument("file", type=click.Path(path_type=Path))
@database_option
def export_session(session: str, file: Path, database: str | None, as_json: bool) -> None:
    """Write all of SESSION into the new FILE.

    FILE is a SQLite database of that session alone: `--db FILE` asks it, `import-session` adds it to another one.
    """
    from db.exchange.sessions import export_session as export

    with open_database(database) as store:
        written = export(store, session, file)
    rows = {one.table: one.added for one in written}
    words = f"session '{session}': {sum(rows.values())} rows written to {file}"
    answer(as_json, {"file": str(file), "rows": rows}, words)


@click.command(name="import-session")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--as", "name", metavar="NAME", help="Give the session another name here.")
@database_option
def import_session(file: Path, name: str | None, database: str | None, as_json: bool) -> None:
    """Add a session that was exported into FILE.

    All of it or, where anything is wrong, nothing; that FILE is as it was exported is verified first. What is there
    already is left alone: importing again adds nothing. Folders that older versions exported are read too.
    """
    from db.exchange.sessions import import_session as import_
    from db.exchange.sessions import open_export

    with open_export(file) as export, open_database(database, read_only=False) as store:  # which may be made: last
        joined = import_(store, export, name=name)
    _print_joined(f"session '{name or export.session}'", joined, as_json)


@click.command(name="import-bank")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--session", metavar="NAME", help="Session of imported banks to add it to. Default: the file's name.")
@click.option("--config", type=click.Path(path_type=Path), help="Embed them too, as `embed` does.")
@click.option("--keep-known", is_flag=True, help="Keep what names a known class, or was said before.")
@ray_option
@database_option
def import_bank(
    file: Path,
    session: str | None,
    config: Path | None,
    keep_known: bool,
    ray_address: str | None,
    database: str | None,
    as_json: bool,
) -> None:
    """Add the texts in FILE as a generation of their own.

    FILE is a .jsonl or .parquet of `immuno db export`, a .json of EOE, or a .txt with a text per line (NegLabel). The
    generation says which file they came from. A .parquet brings its embeddings; other texts have none without
    --config, and `nearest` does not find them; `embed` gives them some later. Importing again adds nothing.

    What names a known class is stored as turned down, and so is what was said before: the classes are those of the
    configuration, without one those that the texts guard. Once embedded, the bank can be used as a session's:
    `bench --session`, `refine compare`.
    """
    from db.exchange.banks import BankSource, read_bank_parquet
    from db.exchange.banks import import_bank as import_
    from evaluation.antibodies.bank_files import read_bank_file, told_left_out, without_known
    from immuno.workplace import sets_of
    from immuno_core.config.run import read_config

    embedded_bank = read_bank_parquet(file) if file.suffix == ".parquet" else None
    antibodies = read_bank_file(file) if embedded_bank is None else embedded_bank.bank.antibodies
    source = BankSource(file.name, hashlib.sha256(file.read_bytes()).hexdigest())
    name = file.stem if session is None else session
    settings = None if config is None else read_config(config)  # before anything is stored
    left_out: Sequence[Antibody] = ()
    if not keep_known:
        known = None if settings is None else sets_of(settings)
        guarded = tuple(dict.fromkeys(filter(None, (one.guards for one in antibodies))))
        classes, synonyms = (guarded, {}) if known is None else (known.classes, known.synonyms)
        kept, left_out = without_known(antibodies, classes, synonyms)
        antibodies = (*kept, *left_out)
    with open_database(database, read_only=False) as store:
        bank = import_(store, name, antibodies, source, embedded_bank)
        embedded = None if embedded_bank is None else bank.embedded
        if config is not None:
            embedded = (embedded or 0) + _embed(store, name, config, ray_address)
    generation = bank.generation
    found = {"session": name, "generation": generation.number, "antibodies": generation.proposed}
    if left_out:
        told = told_left_out(left_out, len(antibodies), file.name)
        click.echo(printable(f"{told}; --keep-known keeps them"), err=True)
    words = "stored as" if bank.is_new else "is there already:"
    more = "" if embedded is None else f", {embedded} embedded"
    words = f"{file.name} {words} generation {generation.number} of '{name}': {generation.proposed} antibodies{more}"
    answer(as_json, found | {"new": bank.is_new, "embedded": embedded or 0, "left_out": len(left_out)}, words)


@click.command()
@click.argument("session")
@click.option("--config", type=click.Path(path_type=Path), required=True, help="Whose encoder and template are used.")
@ray_option
@database_option
def embed(session: str, config: Path, ray_address: str | None, database: str | None, as_json: bool) -> None:
    """Embed the texts of SESSION that have no embedding.

    With the encoder and the antibodies' template of the configuration: imported banks, and texts that were turned down
    before they were embedded, are found by `nearest` then. This loads a model; what has an embedding of that encoder is
    left alone.
    """
    with open_database(database, read_only=False) as store:
        embedded = _embed(store, session, config, ray_address)
    answer(as_json, {"session": session, "embedded": embedded}, f"session '{session}': {embedded} texts embedded")


def _embed(store: AntibodyStore, session: str, config: Path, ray_address: str | None) -> int:
    """Embed a session's texts; say which cannot be."""
    from immuno.embed import embed_session

    found = embed_session(store, session, config, ray_address=ray_address)
    if found.too_long:
        click.echo(
            f"{len(found.too_long)} texts were not embedded: they have more tokens than the encoder reads, template "
            f"included (first: {printable(found.too_long[0])!r:.300})",
            err=True,
        )
    return found.embedded


@click.command()
@click.argument("other")
@click.option(
    "--rename",
    type=(str, str),
    multiple=True,
    metavar="OLD NEW",
    help="Call the session OLD of the other database NEW here. May be repeated.",
)
@database_option
def merge(other: str, rename: Sequence[tuple[str, str]], database: str | None, as_json: bool) -> None:
    """Add everything in the database OTHER.

    OTHER is a URL or a SQLite file; it is not changed. Rows that are in both are not doubled; a row that differs is
    named, and nothing is added.
    """
    from db import open_store
    from db.exchange.joining import merge as join

    with open_store(other, read_only=True) as source, open_database(database, read_only=False) as store:
        joined = join(store, source, rename=dict(rename))
        url = source.url
    _print_joined(url, joined, as_json)


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@database_option
def backup(file: Path, database: str | None, as_json: bool) -> None:
    """Copy a live SQLite database to FILE.

    Others may go on writing: the copy is of one moment, complete, and checked. For PostgreSQL use its pg_dump.
    """
    from db.maintenance import backup_database

    written = backup_database(database, default_database(), file)
    answer(as_json, {"file": str(written), "bytes": written.stat().st_size}, f"backup written to {written}")


COMMANDS = (export_session, import_session, import_bank, embed, merge, backup)


def _print_joined(what: str, joined: Sequence[Joined], as_json: bool) -> None:
    if as_json:
        return print_json(map(asdict, joined))
    present = sum(one.present for one in joined)
    new = ", ".join(f"{one.added} {one.table}" for one in joined if one.added) or "nothing new"
    return click.echo(printable(f"{what}: added {new}; {present} rows were there already"))
