"""`immuno init`: a configuration for the user's own images, with their splits, checked before it is written."""

from __future__ import annotations

import json
import os
import sys
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from evaluation.data.labels import is_number
from immuno.cli.options import json_option, print_json
from immuno_core.config.run import RunConfig, parse_config
from immuno_core.errors import SetupError
from immuno_core.files import write_atomically
from immuno_core.text import composed, count, duration, printable

if TYPE_CHECKING:
    from immuno.workplace import Sets

_MODEL: Final = "ViT-B-16/openai"
_LLM: Final = "lexicon"
_FEWEST_FIT: Final = 4
"""Images of a class, below which its prototype is hardly more than one picture."""
_TRIED: Final = 8
_MOST_NAMED: Final = 5


@click.command(name="init")
@click.option("--known", type=click.Path(path_type=Path), help="Folder of known images, with a folder for each class.")
@click.option(
    "--outliers",
    type=click.Path(path_type=Path),
    multiple=True,
    help="Folder of images of no known class; once for each kind of outlier.",
)
@click.option("--model", metavar="NAME/TAG", help=f"open_clip's, or local-dir:/path, hf-hub:NAME. Default: {_MODEL}.")
@click.option("--llm", metavar="MODEL", help=f"The chat model: openai:NAME, ... Default: {_LLM}, which is none.")
@click.option("--base-url", metavar="URL", help="Address of an OpenAI-compatible server for --llm.")
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("immuno.toml"), show_default=True)
@json_option
def command(
    known: Path | None,
    outliers: tuple[Path, ...],
    model: str | None,
    llm: str | None,
    base_url: str | None,
    output: Path,
    as_json: bool,
) -> None:
    """Write a configuration for your own images, their splits made, and check it.

    Of known images 40 % are to fit, 30 % for feedback and 30 % the sealed test; of outliers half and half. An image's
    content decides, so that it stays where it is when others are added. What is missing is asked for on a terminal.
    Folders, class names and counts are checked, and 8 images embedded, before anything is written.
    """
    asks = sys.stdin.isatty() and not as_json
    if output.exists():
        if not asks:
            raise SetupError(f"{output} exists; delete it, or name another file with -o")
        click.confirm(f"{output} exists; write over it?", abort=True)
    if asks:
        known = known or Path(click.prompt("Folder of known images, with a folder for each class"))
        outliers = outliers or tuple(_asked_outliers())
        model = model or click.prompt("Model", default=_MODEL)
        llm = llm or click.prompt(f"Chat model ({_LLM}: none, words are combined)", default=_LLM)
    if known is None or not outliers:
        missing = "--known DIR" if known is None else "--outliers DIR"
        raise SetupError(f"give {missing}, as in: immuno init --known photos/known --outliers photos/others")
    kinds = _kinds(known, outliers)
    with _class_list(known, output) as class_list:
        text = _text(output, known, kinds, class_list, model or _MODEL, llm or _LLM, base_url)
        checked = _checked(parse_config(tomllib.loads(text), origin=str(output), folder=output.absolute().parent))
        write_atomically(output, text)
    if as_json:
        print_json({"config": str(output), **asdict(checked)})
    else:
        _tell(checked, output)


def _asked_outliers() -> Iterator[Path]:
    yield Path(click.prompt("Folder of outliers, images of no known class"))
    while more := click.prompt("Another one, of another kind (Enter: no more)", default="", show_default=False):
        yield Path(more)


def _kinds(known: Path, outliers: Sequence[Path]) -> dict[str, Path]:
    """The folders of outliers by the names of their sets. Raises SetupError for one missing, and for shared images."""
    kinds: dict[str, Path] = {}
    real: list[str] = []
    for folder in (known, *outliers):
        if not folder.is_dir():
            raise SetupError(f"there is no folder at {folder}; put the path right")
        place = os.path.realpath(folder)
        if inside := [other for other in real if os.path.commonpath([place, other]) in (place, other)]:
            raise SetupError(
                f"{inside[0]} and {place} share images; known images, and each kind of outlier, need a folder apart"
            )
        real.append(place)
        name = composed(Path(place).name)
        if not name.isprintable() or not str(folder).isprintable():
            raise SetupError(f"the name of the folder {str(folder)!r} cannot stand in a configuration; rename it")
        taken = (*kinds, "id")
        kinds[next(n for n in (name, *(f"{name} {i}" for i in range(2, 999))) if n not in taken)] = folder
    return dict(list(kinds.items())[1:])


@contextmanager
def _class_list(known: Path, output: Path) -> Iterator[Path | None]:
    """A file with the names of the classes, where folders write them with underscores; gone again after an error."""
    folders = [composed(one.name) for one in known.iterdir() if one.is_dir() and not one.name.startswith((".", "__"))]
    names = sorted({name.replace("_", " ").strip() for name in folders})
    if not folders:
        raise SetupError(f"{known} has no folders in it: give each class one that is called like it, with its images")
    if len(folders) == 1:
        raise SetupError(f"{known} has one class, '{folders[0]}': known images are of two or more, a folder for each")
    if all(is_number(name) for name in folders):
        raise SetupError(f"the folders in {known} are numbers ('{folders[0]}'): call each as its class is called")
    if len(names) < len(folders) or set(names) == set(folders):
        yield None
        return
    path, content = output.with_name(f"{output.stem}-classes.txt"), "\n".join(names) + "\n"
    if path.exists() and path.read_text(encoding="utf-8") != content:
        raise SetupError(f"{path} exists and has other names in it; delete it, or name another file with -o")
    write_atomically(path, content)
    try:
        yield path
    except BaseException:
        path.unlink()
        raise


def _text(
    output: Path,
    known: Path,
    kinds: Mapping[str, Path],
    class_list: Path | None,
    model: str,
    llm: str,
    base_url: str | None,
) -> str:
    def said(value: str) -> str:
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")

    def place(path: Path) -> str:
        """Relative to the configuration where the path lies below its folder, so that both may move together."""
        whole, folder = path.absolute(), output.absolute().parent
        return said(str(whole.relative_to(folder) if whole.is_relative_to(folder) else whole))

    if model.startswith("local-dir:"):
        model = f"local-dir:{Path(model.removeprefix('local-dir:')).absolute()}"
    tagged = "/" in model and ":" not in model
    name, _, tag = model.rpartition("/") if tagged else (model, "", "")
    names = said("dataset") if class_list is None else place(class_list)
    outliers = "".join(_OUTLIERS.format(name=said(kind), path=place(path)) for kind, path in kinds.items())
    sealed = "".join(_SEALED.format(name=said(kind), path=place(path)) for kind, path in kinds.items())
    return _CONFIGURATION.format(
        output=output.name,
        model=said(name) + (f"\npretrained = {said(tag)}" if tag else ""),
        names=names,
        known=place(known),
        outliers=outliers,
        sealed=sealed,
        llm=said(llm) + (f"\nbase_url = {said(base_url)}" if base_url else ""),
    )


_OUTLIERS = """
[[data.feedback]]
name = {name}
path = {path}
part = [0.0, 0.5]
"""
_SEALED = """
[[data.ood]]
name = {name}
path = {path}
part = [0.5, 1.0]
"""
_CONFIGURATION = """\
# Made by immuno init; yours to edit. Paths are relative to this file.
#
#   immuno refine start {output} --session first
#   immuno bench {output} --session first --settle

seed = 0

[encoder]
model = {model}

[classes]
names = {names}                   # "dataset": the class folders; else a file with one name per line
template = "a photo of a {{}}."

# `part` takes those images of a folder whose content's hash, a number from 0 to 1, falls between the two. Add images
# whenever you like: those that are there stay where they are.

[data]
overlap = "drop"                    # images that are in two sets are left out of one, and counted

[data.fit]                          # known images: prototypes, radii
path = {known}
part = [0.0, 0.4]

[data.feedback_id]                  # known images that the loop measures on
path = {known}
part = [0.4, 0.7]

# Outliers that the loop may see, one kind each. A kind that it shall never see, to know how it does on what nobody
# thought of, has no [[data.feedback]], and no part in its [[data.ood]].
{outliers}
[data.id]                           # from here on: sealed until the end
path = {known}
part = [0.7, 1.0]
{sealed}
[antibodies]                        # the bank: bench --session NAME takes a session's
template = "a photo of a {{}}."

[refine]
llm = {llm}
generations = 6                     # docs/llm.md: chat models, and what they cost

[[methods]]                         # ours
name = "immuno_vlm"

[[methods]]                         # every other score, to compare
preset = "scores"
"""


@dataclass(frozen=True, slots=True)
class _Checked:
    """What there is, and what is to be said of it."""

    sets: tuple[tuple[str, str, int], ...]
    """Name, split, images."""
    classes: tuple[str, ...]
    warnings: tuple[str, ...]
    tried: int
    """Images that were embedded to see whether the model works."""
    named: int
    """Of them, by the class's text rightly."""
    seconds: float
    """That all images will take, on one CPU core or GPU."""


def _checked(config: RunConfig) -> _Checked:
    """Check what a configuration names. Raises SetupError for what the commands would not run on."""
    from immuno.workplace import FEWEST_IN_A_SET, Sets

    sets = Sets(config)
    if problems := sets.problems():
        raise SetupError(problems[0])  # the sets share folders: the others say the same
    sealed = sets.sealed.files()
    listed = [(one.name, one.split, len(one.samples)) for one in sets.open]
    listed += [(name, "test", len(paths)) for name, paths in sealed.items()]
    of_class = dict.fromkeys(sets.classes, 0)
    for sample in sets.fit.samples if sets.fit else ():
        of_class[sample.label] += 1
    few = [f"{name} ({number})" for name, number in of_class.items() if number < _FEWEST_FIT]
    warnings = [*_odd_names(sets.classes)]
    if few:
        warnings.append(f"fewer than {_FEWEST_FIT} images to fit for {_some(few)}: add images of them")
    warnings += [
        f"{name} ({split}) has {count(number, 'image')}; below {FEWEST_IN_A_SET} its figures are rough: add images"
        for name, split, number in listed
        if split != "fit" and number < FEWEST_IN_A_SET
    ]
    return _tried(config, sets, _Checked(tuple(listed), sets.classes, tuple(warnings), 0, 0, 0.0))


def _odd_names(classes: Sequence[str]) -> Iterator[str]:
    """What is to be said of class names that do not fit into "a photo of a NAME."."""
    from evaluation.antibodies.vocabulary import load_vocabulary
    from evaluation.antibodies.wording import PLACEHOLDERS, singulars, words

    nouns = set(load_vocabulary().nouns)
    said = {name: words(name) for name in classes}
    for what, odd in (
        (
            "are no nouns",
            [n for n, w in said.items() if not w or any(c.isdigit() for c in n) or PLACEHOLDERS & {w[-1]}],
        ),
        ("look like plurals", [n for n, w in said.items() if w and w[-1] not in nouns and nouns & singulars(w[-1])]),
    ):
        if odd:
            yield (
                f'{_some(odd)} {what}: the model reads "a photo of a {odd[0]}."; call the folder by a noun in the '
                "singular, such as dog or fire truck"
            )


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more


def _tried(config: RunConfig, sets: Sets, checked: _Checked) -> _Checked:
    """Embed some images of fit. Raises SetupError for a model that cannot be had, and images that cannot be read."""
    from cluster import EncoderSpec, LocalEmbedder
    from immuno_core.text import fill_template

    assert sets.fit is not None  # noqa: S101 - it is in the template
    samples = sets.fit.samples
    few = tuple(samples[i * len(samples) // _TRIED] for i in range(min(_TRIED, len(samples))))
    with LocalEmbedder(EncoderSpec.from_config(config.encoder)) as embedder:
        texts = embedder.embed_texts(fill_template(config.classes.template, checked.classes))
        embedder.embed_images(replace(sets.fit, samples=few[:1]))  # the first one is slow
        began = time.monotonic()
        found = embedder.embed_images(replace(sets.fit, samples=few))
        each = (time.monotonic() - began) / len(few)
    named = int(((found.features @ texts.T).argmax(axis=1) == found.labels(checked.classes)).sum())
    unread = tuple(f"{one.path} cannot be read: {one.reason}" for one in found.skipped if one.path)
    total = sum(number for _, _, number in checked.sets)
    warnings = (*checked.warnings, *unread)
    return replace(checked, warnings=warnings, tried=len(found), named=named, seconds=each * total)


def _tell(checked: _Checked, output: Path) -> None:
    from immuno.terminal.output import print_rows

    print_rows(("set", "split", "images"), checked.sets, "sets")
    for warning in checked.warnings:
        click.echo(f"warning: {printable(warning)}", err=True)
    click.echo(
        f"{count(len(checked.classes), 'class').replace('classs', 'classes')}; {checked.named} of "
        f"{count(checked.tried, 'image')} tried are nearest to the text of their class; "
        f"all take about {duration(checked.seconds)} for each CPU core or GPU\n\n"
        f"wrote {output}; go on with\n"
        f"  immuno refine start {output} --session first\n"
        f"  immuno bench {output} --session first --settle"
    )
