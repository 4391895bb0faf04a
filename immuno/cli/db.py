"""`immuno db`: query and look after the antibody database. Loads neither torch, Ray, LangChain nor NumPy.

The texts in it come from language models and file names: in tables, whatever could steer a terminal is written out.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

import immuno
from immuno.cli.options import json_option
from immuno.paths import DEFAULT_DATABASE

if TYPE_CHECKING:  # SQLAlchemy and rich are loaded by the commands: `--help` is immediate
    from db.store import AntibodyStore

Command = TypeVar("Command", bound=Callable[..., Any])

DEMO_DATABASE = Path("runs") / "demo" / "immuno.db"
_WIDTH_OF_PIPES = 160
_NARROWEST_COLUMN = 9
_JOINERS = "\u200c\u200d"  # harmless, and some scripts and emoji are not legible without them


@click.group(name="db")
def group() -> None:
    """Query the antibody database: every prompt, generation, antibody and measured effect.

    With --json every command prints a JSON array. Numbers that are NaN or infinite are written there as
    {"value": null, "kind": "nan"}.
    """


command = group


def _database_option(function: Command) -> Command:
    return click.option(
        "--db",
        "database",
        metavar="URL",
        envvar="IMMUNO_DB",
        help="Database: an SQLAlchemy URL or a SQLite file. "
        f"Default: $IMMUNO_DB, else {DEFAULT_DATABASE}, else {DEMO_DATABASE}.",
    )(json_option(function))


def _default() -> Path:
    return DEFAULT_DATABASE if DEFAULT_DATABASE.exists() else DEMO_DATABASE


def _open(database: str | None) -> AntibodyStore:
    from db.store import open_store

    return open_store(database, default=_default(), read_only=True)


def _session_id(store: AntibodyStore, name: str | None) -> str | None:
    return None if name is None else store.session(name).id


_limit_option = click.option("--limit", type=click.IntRange(min=1), metavar="N", help="The first N only. Default: all.")
_generation_option = click.option("--generation", type=int, metavar="N", help="Of this generation only.")
_class_option = click.option("--class", "guards", metavar="NAME", help="That guard this known class only.")


@group.command()
@_database_option
def sessions(database: str | None, as_json: bool) -> None:
    """List the refinement sessions."""
    with _open(database) as store:
        records = store.sessions()
    if as_json:
        return _print_json(asdict(record) for record in records)
    rows = [
        (s.name, s.status, s.generations, s.best, s.seed, s.encoder.model, s.created_at.strftime("%Y-%m-%d %H:%M"))
        for s in records
    ]
    return _print_rows(
        ("session", "status", "generations", "best", "seed", "encoder", "created (UTC)"), rows, "sessions"
    )


@group.command()
@click.argument("session", required=False)
@_database_option
def generations(session: str | None, database: str | None, as_json: bool) -> None:
    """List generations.

    Those of SESSION, or of all sessions.
    """
    with _open(database) as store:
        records = store.generations(_session_id(store, session))
    if as_json:
        return _print_json(asdict(record) for record in records)
    heads = ("session", "generation", "parent", "prompt", "proposed", "kept", "bank", "accepted", "metrics", "reason")
    rows = [
        (
            *(g.session, g.number, g.parent, g.prompt_version, g.proposed, g.kept, g.bank),
            "yes" if g.accepted else "no",
            ", ".join(f"{name} {x:.4g}" for name, x in g.metrics.items() if _is_number(x) and name not in heads),
            g.reason,
        )
        for g in records
    ]
    return _print_rows(heads, rows, "generations")


@group.command()
@click.argument("session", required=False)
@_generation_option
@click.option("--status", type=click.Choice(["accepted", "rejected"]), help="With this status only.")
@_class_option
@click.option("--kind", type=click.Choice(["look_alike", "contextual"]), help="Of this kind only.")
@_limit_option
@_database_option
def antibodies(
    session: str | None,
    generation: int | None,
    status: Any,
    guards: str | None,
    kind: Any,
    limit: int | None,
    database: str | None,
    as_json: bool,
) -> None:
    """List antibodies, kept and turned down.

    Those of SESSION, or of all sessions, in the order of their creation; with the reason where one was turned down.
    """
    with _open(database) as store:
        records = store.antibodies(
            _session_id(store, session), generation=generation, status=status, kind=kind, guards=guards, limit=limit
        )
    if as_json:
        return _print_json(asdict(record) for record in records)
    rows = [
        (a.session, a.generation, a.status, a.kind, a.guards, a.text, _signed(a.cosine, ""), a.reason) for a in records
    ]
    heads = ("session", "generation", "status", "kind", "guards", "text", "cosine", "reason")
    return _print_rows(heads, rows, "antibodies")


@group.command()
@click.argument("session", required=False)
@_generation_option
@click.option("--scope", type=click.Choice(["solo", "leave_one_out", "bank"]), help="Of this scope only.")
@click.option("--set", "outlier_set", metavar="NAME", help="On this outlier set only.")
@_class_option
@_limit_option
@_database_option
def effects(
    session: str | None,
    generation: int | None,
    scope: str | None,
    outlier_set: str | None,
    guards: str | None,
    limit: int | None,
    database: str | None,
    as_json: bool,
) -> None:
    """List measured boundary effects.

    Those of SESSION, or of all sessions. gain: share of accepted outliers that it rejects; harm: share of accepted
    known samples that it rejects; the changes of FPR95, AUROC and ID accuracy are "with it" minus "without it"; fired:
    on how many known samples and on how many outliers it fires.
    """
    with _open(database) as store:
        records = store.effects(
            _session_id(store, session),
            generation=generation,
            scope=scope,
            outlier_set=outlier_set,
            guards=guards,
            limit=limit,
        )
    if as_json:
        return _print_json(asdict(record) for record in records)
    rows = [
        (
            *(e.session, e.generation, e.scope, e.outlier_set, e.guards, e.antibody_text),
            *(_signed(share, "") for share in (e.gain, e.harm)),
            *(_signed(change) for change in (e.d_fpr95, e.d_auroc, e.d_id_accuracy)),
            f"{e.fired_id} / {e.fired_outliers}",
        )
        for e in records
    ]
    heads = ("session", "generation", "scope", "set", "guards", "antibody", "gain", "harm", "dFPR95", "dAUROC", "dACC")
    return _print_rows((*heads, "fired"), rows, "effects")


@group.command()
@click.argument("session", required=False)
@_database_option
def prompts(session: str | None, database: str | None, as_json: bool) -> None:
    """List prompts, version by version.

    Those of SESSION, or of all sessions.
    """
    with _open(database) as store:
        records = store.prompts(_session_id(store, session))
    if as_json:
        return _print_json(asdict(record) for record in records)
    rows = [(p.session, p.version, p.step, p.parent_version, p.text) for p in records]
    return _print_rows(("session", "version", "step", "parent", "text"), rows, "prompts")


@group.command()
@click.argument("session")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--generation", type=int, metavar="N", help="Default: the session's best generation.")
@_database_option
def export(session: str, file: Path, generation: int | None, database: str | None, as_json: bool) -> None:
    """Write the bank of SESSION into FILE, a .jsonl that `[antibodies] file` reads."""
    from db.generations import chosen_generation
    from evaluation.bank import write_bank_jsonl
    from immuno.errors import SetupError
    from immuno.records import ProposedAntibody

    if file.suffix != ".jsonl":
        raise SetupError(f"{file}: a bank is exported as .jsonl; name a file that ends so")
    with _open(database) as store:
        chosen = chosen_generation(store, store.session(session), generation)
        found = store.bank(chosen.id).antibodies
    write_bank_jsonl(file, [ProposedAntibody(one.text, one.kind, one.guards) for one in found])
    if as_json:
        _print_json([{"file": str(file), "generation": chosen.number, "antibodies": len(found)}])
    else:
        click.echo(f"{len(found)} antibodies of generation {chosen.number} of '{session}' written to {file}")


@group.command()
@_database_option
def upgrade(database: str | None, as_json: bool) -> None:
    """Bring an older database up to date.

    Its schema is changed in one transaction: all of it or nothing. Make a copy first, as before any change.
    """
    from db.maintenance import upgrade_database

    before, after = upgrade_database(database, _default())
    if as_json:
        return _print_json([{"before": before, "after": after}])
    return click.echo(f"schema {after}" + (" already" if before == after else f", was {before}"))


@group.command()
@_database_option
def check(database: str | None, as_json: bool) -> int:
    """Check the database's integrity.

    Its schema revision, pages, foreign keys, and what must hold beyond them. Changes nothing. Exit status 1 where
    something is wrong.
    """
    from db.maintenance import check_database

    checks = check_database(database, _default())
    if as_json:
        _print_json(asdict(one) for one in checks)
    else:
        for one in checks:
            click.echo(f"{'ok  ' if one.ok else 'FAIL'}  {one.name:<14} {printable(one.detail)}")
    return 0 if all(one.ok for one in checks) else 1


@group.command()
@_database_option
def version(database: str | None, as_json: bool) -> None:
    """Print package and schema versions."""
    from db.maintenance import versions

    found = versions(database, _default())
    if as_json:
        return _print_json([{"immuno_vlm": immuno.__version__} | asdict(found)])
    click.echo(f"immuno-vlm {immuno.__version__}, schema {found.schema}")
    return click.echo(
        f"{found.database}: " + (f"schema {found.database_schema}" if found.database_schema else "nothing")
    )


def printable(text: str) -> str:
    """Return the text with everything invisible (control and direction characters, lone surrogates) written out."""
    return "".join(
        character
        if unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Zl", "Zp") or character in _JOINERS
        else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _signed(value: float | None, sign: str = "+") -> str:
    return "" if value is None else f"{value:{sign}.3f}"


def _print_json(rows: Iterable[dict[str, Any]]) -> None:
    """Print strict JSON in ASCII: whatever a model wrote, it is valid, and cannot steer a terminal."""
    from db.values import to_json

    click.echo(json.dumps([to_json(_with_text_times(row)) for row in rows], indent=2, allow_nan=False))


def _with_text_times(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value.isoformat() if isinstance(value, datetime) else value for key, value in row.items()}


def _print_rows(heads: Sequence[str], rows: Sequence[Sequence[Any]], what: str) -> None:
    """Print a table; where the terminal is too narrow for its columns, a block of lines for each row."""
    if not rows:
        return click.echo(f"no {what}", err=True)
    columns = {
        head: ["" if cell is None else printable(str(cell)) for cell in cells]
        for head, cells in zip(heads, zip(*rows, strict=True), strict=True)
    }
    title = None
    if what != "sessions" and len(set(columns["session"])) == 1:
        title = f"session {columns.pop('session')[0]}"
    return _print_columns(title, {head: cells for head, cells in columns.items() if any(cells)})


def _print_columns(title: str | None, columns: Mapping[str, Sequence[str]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDTH_OF_PIPES)
    if console.width < _NARROWEST_COLUMN * len(columns):
        click.echo(title or "")
        for row in zip(*columns.values(), strict=True):
            click.echo("\n" + "\n".join(f"{head}: {cell}" for head, cell in zip(columns, row, strict=True) if cell))
        return
    table = Table(box=SIMPLE_HEAD, pad_edge=False, title=Text(title) if title else None, title_justify="left")
    for head in columns:
        table.add_column(head, overflow="fold")
    for row in zip(*columns.values(), strict=True):
        table.add_row(*map(Text, row))  # Text: what looks like rich's markup is shown, not obeyed
    console.print(table)
