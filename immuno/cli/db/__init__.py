"""`immuno db`: query and look after the antibody database. Loads neither torch, Ray nor LangChain,
but for `nearest` to a text that is not stored, whose encoder is loaded.

NumPy is loaded by `nearest` and `export` alone.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from immuno.cli.db import exchange, find, lists
from immuno.cli.db.options import answer, database_option
from immuno.cli.options import open_database, whole
from immuno.terminal.output import print_json
from immuno_core import __version__
from immuno_core.paths import default_database
from immuno_core.text import printable


@click.group(name="db")
def group() -> None:
    """Query the antibody database: every prompt, generation, antibody and measured effect.

    With --json every command prints a JSON array. Numbers that are NaN or infinite are written there as
    {"value": null, "kind": "nan"}. With --csv a query prints a line for each row; texts that a terminal or a
    spreadsheet would obey are made harmless.
    """


command = group
for _query in (*lists.COMMANDS, *find.COMMANDS, *exchange.COMMANDS):
    group.add_command(_query)


@group.command()
@click.argument("session")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--generation", type=whole(), metavar="N", help="Default: the session's best generation.")
@database_option
def export(session: str, file: Path, generation: int | None, database: str | None, as_json: bool) -> None:
    """Write the bank of SESSION into FILE.

    A .jsonl holds its texts; `[antibodies] file` and `import-bank` read it. A .parquet holds the embeddings too, for
    `import-bank`, pandas and DuckDB. What matured and what is visual is in a .parquet only: with feedback images,
    immuno_vlm makes its own.
    """
    from db import chosen_generation
    from db.exchange.banks import NO_ENCODER, EmbeddedBank, is_imported, write_bank_parquet
    from evaluation.antibodies.bank_files import write_bank_jsonl
    from immuno_core.errors import SetupError

    if file.suffix not in (".jsonl", ".parquet"):
        raise SetupError(f"{file}: a bank is exported as .jsonl or .parquet; name a file that ends so")
    with open_database(database) as store:
        owner = store.session(session)
        chosen = chosen_generation(store, owner, generation)
        stored, imported = store.bank(chosen.id), is_imported(owner)
        texts = store.antibodies(owner.id, generation=chosen.number, status="accepted")
        found = texts if imported else stored.antibodies
    if file.suffix == ".jsonl":
        found = tuple(antibody for antibody in found if antibody.is_worded)
        write_bank_jsonl(file, found)
    elif owner.encoder.digest == NO_ENCODER.digest:
        raise SetupError(
            f"session '{session}' was imported as texts, which no encoder has embedded yet; export it as .jsonl, or "
            f"embed it first: immuno db embed {session} --config CONFIG"
        )
    else:
        write_bank_parquet(file, EmbeddedBank(stored, owner.encoder))
    row = {"file": str(file), "generation": chosen.number, "antibodies": len(found)}
    answer(as_json, row, f"{len(found)} antibodies of generation {chosen.number} of '{session}' written to {file}")


@group.command()
@database_option
def upgrade(database: str | None, as_json: bool) -> None:
    """Bring an older database up to date.

    Its schema is changed in one transaction: all of it or nothing. Make a copy first, as before any change.
    """
    from db.maintenance import upgrade_database

    before, after = upgrade_database(database, default_database())
    words = f"schema {after}" + (" already" if before == after else f", was {before}")
    answer(as_json, {"before": before, "after": after}, words)


@group.command()
@database_option
def check(database: str | None, as_json: bool) -> int:
    """Check the database's integrity.

    Its schema revision, tables, pages, foreign keys, the form of its rows, and what must hold beyond that. Changes
    nothing. Exit status 1 where something is wrong.
    """
    from db.maintenance import check_database

    checks = check_database(database, default_database())
    if as_json:
        print_json(asdict(one) for one in checks)
    else:
        for one in checks:
            click.echo(f"{'ok  ' if one.ok else 'FAIL'}  {one.name:<14} {printable(one.detail)}")
    return 0 if all(one.ok for one in checks) else 1


@group.command()
@database_option
def version(database: str | None, as_json: bool) -> None:
    """Print package and schema versions."""
    from db.maintenance import versions

    found = versions(database, default_database())
    if as_json:
        return print_json([{"immuno_vlm": __version__} | asdict(found)])
    click.echo(f"immuno-vlm {__version__}, schema {found.schema}")
    stored = f"schema {found.database_schema}" if found.database_schema else "nothing"
    return click.echo(f"{found.database}: {stored}")
