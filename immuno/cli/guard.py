"""`immuno guard`: export a shield, look at it, judge images with it, set its thresholds, let it grow."""

from __future__ import annotations

import csv
import itertools
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from immuno.cli.options import (
    OUTPUT_FOLDER,
    database_option,
    json_option,
    needs_serving,
    print_json,
    progress_option,
    ray_option,
    real,
    whole,
)
from immuno_core.errors import SetupError
from immuno_core.text import count, printable, safe_cell

if TYPE_CHECKING:
    from evaluation.shield.artefact import Manifest
    from evaluation.shield.head import JudgedArrays
    from evaluation.shield.verdicts import ShieldVerdict
    from immuno.shield.log import RejectedLog
    from immuno.shield.shield import Shield

Command = TypeVar("Command", bound=Callable[..., Any])
_SHOWN = 20


@click.group(name="guard")
def command() -> None:
    """Deploy what a session found: a shield accepts an image as a class, rejects it, or hands it over to a person."""


def _shield_options(command: Command) -> Command:
    """Add what loading a shield takes."""
    model = click.option("--model", metavar="NAME", help="Where the encoder lies here: local-dir:PATH, or a name.")
    pretrained = click.option("--pretrained", metavar="TAG", help="Its tag or weight file, for a model given by name.")
    device = click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
    return model(pretrained(device(command)))


@command.command()
@click.argument("config", type=click.Path(path_type=Path), required=False)
@click.option(
    "--session", metavar="NAME", help="The session whose bank guards; its configuration serves without CONFIG."
)
@click.option("--generation", metavar="N|best", help="Of the session. Default: the best one.")
@click.option("--method", default="immuno_vlm", show_default=True, help="Label of a method, or a calibrated score.")
@click.option("--out", "-o", type=OUTPUT_FOLDER, required=True, help="Folder of the shield; what is there is replaced.")
@click.option("--accept", type=real(0, 1, above=True), default=0.95, show_default=True, help="Share of known images.")
@click.option("--review", type=real(0, 0.5), default=0.02, show_default=True, help="Share that a person decides on.")
@click.option("--per-class", is_flag=True, help="A threshold for each class with 20 known images or more.")
@click.option("--no-known", is_flag=True, help="Leave the embeddings of known images out; add-class needs them.")
@click.option("--onnx", is_flag=True, help="Write the part behind the encoder for onnxruntime too.")
@click.option("--licence", default="", help="Of the model and the images, to be told to whoever deploys it.")
@database_option
@ray_option
@progress_option
def export(
    config: Path | None,
    session: str | None,
    generation: str | None,
    method: str,
    out: Path,
    accept: float,
    review: float,
    per_class: bool,
    no_known: bool,
    onnx: bool,
    licence: str,
    database: str | None,
    ray_address: str | None,
    progress: str | None,
) -> None:
    """Write a shield from a session, or from CONFIG and the bank that it names. The sealed test stays closed.

    The score is fitted as the benchmark fits it; its threshold accepts the asked share of known images that it was not
    fitted on.
    """
    from evaluation.shield.artefact import SHIELD_FILE
    from evaluation.shield.onnx_export import head_as_onnx
    from immuno.cli.options import open_database
    from immuno.shield.exporting import chosen_bank, config_of, export
    from immuno.workplace import Workplace, with_overrides
    from immuno_core.config.run import read_config

    if config is None and session is None:
        raise SetupError("give --session, or a configuration that names a bank: immuno guard export CONFIG -o DIR")
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / SHIELD_FILE).exists())):
        raise SetupError(f"{out} holds something else than a shield; choose another folder with -o")
    if config is not None:
        chosen = read_config(config)
    else:
        with open_database(database) as store:
            record = store.session(str(session))
        chosen = with_overrides(config_of(record), seed=record.seed)
    chosen = chosen_bank(with_overrides(chosen, session=session), generation)
    with Workplace.open(chosen, database=database, ray_address=ray_address, progress=progress) as place:
        artefact = export(
            place,
            method=method,
            accept=accept,
            review=review,
            per_class=per_class,
            keep_known=not no_known,
            licence=licence,
        )
        manifest = artefact.save(out, onnx=head_as_onnx(artefact.head) if onnx else None)
    click.echo(f"shield: {out}", err=True)
    for line in _told(manifest):
        click.echo(printable(line))


@command.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@json_option
def show(folder: Path, as_json: bool) -> None:
    """Say what a shield is: classes, antibodies, thresholds and where they come from. Checks every file."""
    from evaluation.shield.artefact import Artefact

    artefact = Artefact.load(folder)
    if as_json:
        print_json(artefact.manifest.model_dump(mode="json"))
        return
    for line in _told(artefact.manifest):
        click.echo(printable(line))


def _told(manifest: Manifest) -> Iterator[str]:
    provenance, thresholds = manifest.provenance, manifest.thresholds
    kinds = Counter(one.kind for one in manifest.antibodies)
    told = ", ".join(f"{number:,} {kind.replace('_', '-')}" for kind, number in kinds.most_common())
    encoder = manifest.encoder
    named = f"{encoder.model}{f' / {encoder.pretrained}' if encoder.pretrained else ''}"
    names = ", ".join(manifest.classes[:8]) + (", ..." if len(manifest.classes) > 8 else "")
    yield f"classes     {len(manifest.classes):,}: {names}"
    yield f"antibodies  {len(manifest.antibodies):,}{f': {told}' if told else ''}"
    yield f"method      {manifest.method}"
    yield f"encoder     {named}, {encoder.dim} dimensions, {encoder.precision}"
    share = f"{100 * thresholds.accept:g} % of known images"
    yield f"accepts     {share}, a person decides on {100 * thresholds.review:g} %"
    yield f"            {thresholds.told()}"
    if thresholds.classes:
        yield f"            thresholds of their own: {len(thresholds.classes):,} of {len(manifest.classes):,} classes"
    if provenance.session:
        yield f"session     {provenance.session}, generation {provenance.generation}"
    yield f"made        {provenance.created}, immuno-vlm {provenance.versions.get('immuno-vlm', '?')}"
    if provenance.licence:
        yield f"licence     {provenance.licence}"
    for change in provenance.changes:
        yield f"changed     {change}"
    yield f"files       {', '.join(file.name for file in manifest.files.values())}"


@command.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.argument("paths", nargs=-1, required=True)
@click.option("--review", type=real(0, 0.5), help="Share of known images that a person decides on. Default: its own.")
@click.option("--csv", "as_csv", is_flag=True, help="Print a table for a spreadsheet.")
@click.option("--batch", type=whole(1, 4096), default=64, show_default=True, help="Images at a time.")
@click.option("--log", type=OUTPUT_FOLDER, help="Keep rejected images there, as feedback for the next session.")
@_shield_options
@json_option
@progress_option
def judge(
    folder: Path,
    paths: tuple[str, ...],
    review: float | None,
    as_csv: bool,
    batch: int,
    log: Path | None,
    model: str | None,
    pretrained: str | None,
    device: str,
    as_json: bool,
    progress: str | None,
) -> int:
    """Judge images with the shield in DIR. PATHS are files, folders with images, or - for a list on standard input.

    With --json one JSON object a line, as soon as there is one. What cannot be read is said so, and the rest is judged;
    the exit status is 1 then. With --log, [[data.feedback]] shield_log = "DIR" shows a session what was rejected.
    """
    from immuno.shield.log import RejectedLog
    from immuno.shield.paths import image_paths
    from immuno.shield.shield import Shield

    if as_csv and as_json:
        raise SetupError("give --json or --csv, not both")
    shield = Shield.load(folder, model=model, pretrained=pretrained, device=device, review=review)
    files = image_paths(paths, sys.stdin)
    write = _writer("json" if as_json else "csv" if as_csv else None)
    outcomes: Counter[str] = Counter()
    watch, rejected = shield.watch(), None if log is None else RejectedLog(log)
    for some, said, judged in _judged(shield, files, batch, progress):
        watch.add(judged)
        if rejected is not None:
            rejected.add(some, said)
        for verdict in said:
            outcomes[verdict.outcome] += 1
            write(verdict)
    click.echo(_summary(outcomes, len(files)), err=True)
    if watch.state.drifted:
        click.echo(watch.state.told(), err=True)
    if rejected is not None:
        click.echo(printable(f"log: {count(len(rejected), 'rejected image')} in {log}{_lost(rejected)}"), err=True)
    return 1 if outcomes["failed"] else 0


def _lost(log: RejectedLog) -> str:
    full = f"; it is full (at most {log.most:,}), and keeps no more" if log.is_full else ""
    return full + (f"; some could not be kept ({log.lost})" if log.lost else "")


def _judged(
    shield: Shield, files: list[str], batch: int, progress: str | None
) -> Iterator[tuple[list[str], list[ShieldVerdict], JudgedArrays]]:
    """Files, the verdicts on them and the numbers behind those, a batch at a time."""
    from immuno.terminal.progress import bar
    from immuno_core.progress import make_progress, progress_mode

    with bar(make_progress(progress_mode(progress)), len(files), "judging images") as shown:
        for start in range(0, len(files), batch):
            some = files[start : start + batch]
            said, judged = shield.judged(some)
            shown.advance(len(said))
            yield some, said, judged


def _verdicts(shield: Shield, files: list[str], progress: str | None) -> list[ShieldVerdict]:
    return [one for _, said, _ in _judged(shield, files, 64, progress) for one in said]


_COLUMNS = ("image", "outcome", "label", "score", "threshold", "typicality", "reason", "antibody")


def _writer(form: str | None) -> Callable[[ShieldVerdict], None]:
    """What prints a verdict: a JSON line, a CSV row, or a line for people."""
    if form == "json":
        import json

        return lambda one: click.echo(json.dumps(one.as_dict(), allow_nan=False))
    if form == "csv":
        table = csv.writer(sys.stdout)
        table.writerow(_COLUMNS)

        def row(one: ShieldVerdict) -> None:
            values = [getattr(one, name) for name in _COLUMNS[:-1]] + [one.antibody.described if one.antibody else ""]
            table.writerow([safe_cell(printable(v)) if isinstance(v, str) else v for v in values])

        return row

    def line(one: ShieldVerdict) -> None:
        what = one.outcome if one.outcome == "failed" else f"{one.outcome:<8} {one.label}"
        share = "" if one.typicality is None else f"  {100 * one.typicality:5.1f} %"
        click.echo(printable(f"{what}{share}  {one.image}{f'  ({one.reason})' if one.reason else ''}"))

    return line


def _summary(outcomes: Counter[str], images: int) -> str:
    from evaluation.shield.verdicts import OUTCOMES

    parts = [f"{outcomes[one]:,} {one} ({100 * outcomes[one] / images:.1f} %)" for one in OUTCOMES if outcomes[one]]
    return f"{count(images, 'image')}: {', '.join(parts)}"


@command.command()
@click.argument("before", metavar="A", type=click.Path(path_type=Path))
@click.argument("after", metavar="B", type=click.Path(path_type=Path))
@click.argument("paths", metavar="IMAGES...", nargs=-1, required=True)
@_shield_options
@json_option
@progress_option
def compare(
    before: Path,
    after: Path,
    paths: tuple[str, ...],
    model: str | None,
    pretrained: str | None,
    device: str,
    as_json: bool,
    progress: str | None,
) -> None:
    """Say what changes on images from shield A to shield B, before one takes the place of the other."""
    from evaluation.shield.verdicts import OUTCOMES
    from immuno.shield.calibrating import compare
    from immuno.shield.paths import image_paths
    from immuno.shield.shield import Shield

    first, second = (Shield.load(one, model=model, pretrained=pretrained, device=device) for one in (before, after))
    files = image_paths(paths, sys.stdin)
    of_first = _verdicts(first, files, progress)
    found = compare(of_first, _verdicts(second.with_encoder_of(first), files, progress))
    if as_json:
        moves = [{"before": a, "after": b, "images": number} for (a, b), number in found.moves.items()]
        changes = [
            {"image": one.image, "before": one.before.as_dict(), "after": one.after.as_dict()} for one in found.changes
        ]
        print_json({"images": found.images, "moves": moves, "relabelled": found.relabelled, "changes": changes})
        return
    for a, b in itertools.permutations(OUTCOMES, 2):
        if number := found.moves.get((a, b)):
            click.echo(f"{a} -> {b}: {count(number, 'image')} of {found.images:,}")
    if found.relabelled:
        click.echo(f"accepted as another class: {count(found.relabelled, 'image')} of {found.images:,}")
    if not found.changes:
        click.echo(f"nothing changes on {count(found.images, 'image')}")
    for one in found.changes[:_SHOWN]:
        old, new = (f"{verdict.outcome} ({verdict.label})" for verdict in (one.before, one.after))
        click.echo(printable(f"  {one.image}: {old} -> {new}{f': {one.after.reason}' if one.after.reason else ''}"))
    if len(found.changes) > _SHOWN:
        click.echo(f"  and {len(found.changes) - _SHOWN:,} more; --json has them all")


@command.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.argument("known", metavar="KNOWN...", nargs=-1, required=True)
@click.option("--accept", type=real(0, 1, above=True), help="Share of known images. Default: the shield's own.")
@click.option("--per-class", is_flag=True, help="A threshold for each class with 20 known images or more.")
@_shield_options
@progress_option
def calibrate(
    folder: Path,
    known: tuple[str, ...],
    accept: float | None,
    per_class: bool,
    model: str | None,
    pretrained: str | None,
    device: str,
    progress: str | None,
) -> None:
    """Set the thresholds of the shield in DIR on KNOWN images of your own: files, or folders with images.

    Give images of the known classes that did not make the shield. Its classes and antibodies stay as they are.
    """
    from immuno.shield.calibrating import recalibrate
    from immuno.shield.shield import Shield

    shield = Shield.load(folder, model=model, pretrained=pretrained, device=device)
    images = _embedded(shield, known, progress)
    before = shield.manifest.thresholds
    found = recalibrate(shield, images, accept=accept, per_class=per_class, today=f"{date.today():%Y-%m-%d}")
    found.shield.save()
    for warning in found.warnings:
        click.echo(f"warning: {warning}", err=True)
    click.echo(f"before: {before.told()}")
    click.echo(printable(f"now:    {found.shield.manifest.thresholds.told()}"))


def _embedded(shield: Shield, paths: Iterable[str], progress: str | None) -> Any:
    """The embeddings of images, a batch at a time; what cannot be read is told."""
    import numpy as np

    from immuno.shield.paths import image_paths
    from immuno.shield.shield import Embedded
    from immuno.terminal.progress import bar
    from immuno_core.progress import make_progress, progress_mode

    files = image_paths(list(paths), sys.stdin)
    parts: list[Any] = []
    rows: list[int] = []
    failures: dict[int, str] = {}
    with bar(make_progress(progress_mode(progress)), len(files), "embedding images") as shown:
        for start in range(0, len(files), 64):
            some = shield.embed(files[start : start + 64])
            parts.append(some.features)
            rows += [start + row for row in some.rows]
            failures |= {start + row: why for row, why in some.failures.items()}
            shown.advance(len(some.rows) + len(some.failures))
    for row, why in list(failures.items())[:_SHOWN]:
        click.echo(printable(f"cannot be read: {files[row]} ({why})"), err=True)
    return Embedded(np.concatenate(parts), rows, failures)


@command.command(name="add-class")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.argument("name")
@click.argument("images", nargs=-1)
@click.option("--out", "-o", type=OUTPUT_FOLDER, help="Write the new shield there. Default: in place of the old one.")
@_shield_options
@json_option
@progress_option
def add_class(
    folder: Path,
    name: str,
    images: tuple[str, ...],
    out: Path | None,
    model: str | None,
    pretrained: str | None,
    device: str,
    as_json: bool,
    progress: str | None,
) -> None:
    """Make NAME a known class of the shield in DIR, with IMAGES of it where you have some.

    Antibodies that name the class are left out, and those that would reject its images fall silent: it is said which.
    """
    import numpy as np

    from evaluation.shield.growth import add_class
    from immuno.shield.shield import Shield

    shield = Shield.load(folder, model=model, pretrained=pretrained, device=device)
    shield.artefact.space()
    features = _embedded(shield, images, progress).features if images else np.zeros((0, shield.manifest.encoder.dim))
    told = f"{len(features)} images" if len(features) else "no image"
    grown = add_class(
        shield.artefact,
        name,
        shield.embed_texts([name])[0],
        features.astype(np.float32),
        change=f"{date.today():%Y-%m-%d}: class '{name}' added with {told}",
    )
    shield.with_artefact(grown.shield).save(out)
    if as_json:
        print_json(
            {
                "class": name,
                "images": len(features),
                "named": [one.text for one in grown.named],
                "silenced": [one.described for one in grown.silenced],
                "accepted_before": grown.accepted_before,
                "accepted": grown.accepted,
            }
        )
        return
    for title, antibodies in (("left out, they name it", grown.named), ("silent on it now", grown.silenced)):
        if antibodies:
            click.echo(f"{title}: {len(antibodies):,} of the antibodies")
            for one in antibodies[:_SHOWN]:
                click.echo(printable(f"  {one.described}"))
    if grown.accepted is not None and grown.accepted_before is not None:
        click.echo(
            f"of its images {100 * grown.accepted:.1f} % are accepted now, each by a score that has not seen it; "
            f"{100 * grown.accepted_before:.1f} % were before"
        )
    click.echo(printable(grown.shield.manifest.thresholds.told()))


@command.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--host", default="127.0.0.1", show_default=True, help="Where it listens; elsewhere a token is needed.")
@click.option("--port", type=whole(0, 65_535), default=8080, show_default=True, help="0 takes a free one.")
@click.option("--token-file", type=click.Path(path_type=Path), help="File of the token. Default: $IMMUNO_TOKEN.")
@click.option("--review", type=real(0, 0.5), help="Share of known images that a person decides on. Default: its own.")
@click.option("--batch", type=whole(1, 4096), default=32, show_default=True, help="Images that are judged at a time.")
@click.option("--megabytes", type=whole(1, 4096), default=32, show_default=True, help="Most of a request.")
@click.option("--megapixels", type=whole(1, 10_000), default=50, show_default=True, help="Most of an image.")
@click.option("--images", type=whole(1, 4096), default=64, show_default=True, help="Most of a request.")
@click.option(
    "--seconds", type=real(0.1, 3600), default=30.0, show_default=True, help="For a request to come, to wait."
)
@click.option("--log", type=OUTPUT_FOLDER, help="Keep rejected images there, as feedback for the next session.")
@click.option("--queue", type=whole(1), default=256, show_default=True, help="Most images that wait.")
@_shield_options
def serve(
    folder: Path,
    host: str,
    port: int,
    token_file: Path | None,
    review: float | None,
    batch: int,
    megabytes: int,
    megapixels: int,
    images: int,
    seconds: float,
    log: Path | None,
    queue: int,
    model: str | None,
    pretrained: str | None,
    device: str,
) -> int:
    """Serve the shield in DIR over HTTP: POST /judge takes images, / is a page for people, /docs says the rest.

    SIGHUP, or POST /reload with the token, loads DIR anew and drops no request. SIGTERM and Ctrl-C answer what has
    come, and end.
    """
    from immuno.shield.log import RejectedLog
    from immuno.shield.shield import Shield
    from immuno_core.system.signals import stopped_status

    with needs_serving():
        from immuno.serving.access import LOOPBACK_NAMES
        from immuno.serving.listening import address_of, listen, read_token
        from immuno.shield.service import app, intake, server

    def say(line: str) -> None:
        click.echo(printable(line), err=True)

    def load() -> Shield:
        return Shield.load(folder, model=model, pretrained=pretrained, device=device, review=review)

    load()  # what is wrong with the folder is said before anything listens
    token = read_token(token_file)
    listening = listen(host, port, token=token)
    service = app.Service(
        load,
        limits=intake.Limits(megabytes * 2**20, megapixels * 10**6, images, seconds, queue, batch),
        token=token,
        hosts={*LOOPBACK_NAMES, host.lower()},
        log=None if log is None else RejectedLog(log),
        say=say,
    )
    say(f"serving {folder} on {address_of(host, listening)}")
    try:
        server.serve(service, listening)
    except KeyboardInterrupt:
        say("stopped; what had come was answered")
        return stopped_status()
    return 0
