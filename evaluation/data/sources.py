"""Where images come from, as a configuration's `[data]` names it.

- Class folders, `root/label/**/image.png`: the label is the folder directly below the root. An ID set needs labels.
- A flat folder, `root/**/image.png`: for outliers only; an image directly in the root has the label "".
- An image list, see below; WebDataset tars, see evaluation.data.tars.
- `features = "x.npz"`: embeddings instead of images, see evaluation.data.feature_files.
- `shield_log = "log"`: what a deployed shield rejected (immuno.shield.log), for feedback.
- `builtin = "miniworld"`: the generated world of this seed, drawn into the cache where it is missing.

Labels that are class indices or WordNet ids become class names, see evaluation.data.labels.

An image is a file with the suffix of a format that Pillow decodes (evaluation.data.image_names), in any case. Whatever
begins with a dot or a double underscore (`.DS_Store`, `__MACOSX`) is passed over. Links are followed; those back to a
folder that contains them are passed over. What looks like an image and is none (a link that leads nowhere, a hidden
file, another format, a name that is no UTF-8) is left out, counted with its reason, and named in the report. Images are
in the order of their paths, so that it is the same everywhere. Labels are in Unicode's composed form (NFC), whichever
form the names of folders have.

An image list is a UTF-8 text file that names images, one per line, each with an optional label.

    # comment; blank lines are skipped
    cats/0001.jpg  cat
    "holiday pictures/dog 1.jpg"  golden retriever

OpenOOD's lists are of this form, with an index into the class list as label, or -1 for an outlier, and with paths
relative to a data folder: name it as the source's `root`. A path is relative to the root, by default the list's folder,
or absolute. It ends at the first blank, so one that contains blanks stands in double quotes, or is followed by a tab.
The rest of the line is the label; quotes around it are dropped. `#` begins a comment only at the start of a line, and a
backslash is a backslash. A path may stand in the list once.

`keep` and `drop` name a text file of images, one name on each line, quoted and commented as in an image list (what
follows the name is passed over). A name is that of the file, with as much of the path before it as tells it from
others; every name must be that of one image. What is left out so is counted with the rest.

`part = [0.0, 0.4]` takes those images whose content's hash, as a number from 0 to 1, falls between the two: sets of one
folder that stay what they are when images are added to it, with exact copies of an image in one and the same.

`read_images` gives the splits fit and feedback; the sealed test is not to be had here (evaluation.data.sealed opens
it). The agents' room may not import this module.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple, get_args

from evaluation.data.contents import places, samples_digest
from evaluation.data.feature_files import SUFFIXES as FEATURE_SUFFIXES
from evaluation.data.feature_files import list_feature_file
from evaluation.data.image_names import (
    DEAD_LINK,
    IMAGE_SUFFIXES,
    NO_FILE,
    NOT_UTF8,
    Listed,
    is_hidden,
    is_text,
    left_out,
    why_no_image,
)
from evaluation.data.labels import is_number, resolve_labels
from evaluation.data.tars import expand, is_pattern, read_tars
from evaluation.miniworld.world import MiniWorld, build, default_root
from immuno_core.config.run import LOGGED, SourceConfig
from immuno_core.errors import ImmunoError, SetupError
from immuno_core.features import Floats
from immuno_core.files import read_text
from immuno_core.paths import plain_path
from immuno_core.records import FailedImage, ImageSet, Sample, Split, set_title, text_digest, told
from immuno_core.text import composed

OpenSplit = Literal["fit", "feedback"]
"""The splits that the loop may see."""


class Listing:
    """What sources were found to hold. A source is listed once for all that asks through one of these.

    Not to be kept: files that come or change later are not seen.
    """

    def __init__(self) -> None:
        self._listed: dict[SourceConfig, Listed] = {}
        self._places: dict[SourceConfig, Floats] = {}
        self._sets: dict[tuple[object, ...], ImageSet] = {}
        self._worlds: dict[int, MiniWorld] = {}

    def listed(self, source: SourceConfig, *, name: str) -> Listed:
        """Return what a source that is not built in holds, with labels as they are written."""
        key = _anonymous(source)
        if key not in self._listed:
            whole = key.model_copy(update={"part": None})
            if whole not in self._listed:
                listed = list_source(source, name=name)
                listed = listed._replace(samples=_with_text(listed.samples, name))
                self._listed[whole] = _subset(listed, source, name=name)
            if source.part is not None:
                self._listed[key] = self._part(whole, source.part, name=name)
        return self._listed[key]

    def images(
        self, source: SourceConfig, *, name: str, role: Role, split: Split, seed: int, classes: Sequence[str]
    ) -> ImageSet:
        """List the images of one source as a set of this name, role and split.

        `seed` chooses the mini-world. There, an ID set is the split's `id` and an outlier set the one called `name`.
        `classes` resolve labels of known images that are not names (evaluation.data.labels).
        Raises SetupError naming the path for one that is missing, is not readable, or holds no image; for an ID set
        with images that have no label; for a bad image list, tar or feature file; and for an unknown set of the
        mini-world.
        """
        of_world = (split, name) if source.builtin else ()
        key = (_anonymous(source), role, *of_world, seed, *classes)
        if key not in self._sets:
            if source.builtin is not None:
                listed = _in_folder(self.miniworld(seed).folder(split, "id" if role == "id" else name), name)
            else:
                listed = self.listed(source, name=name)
            samples = resolve_labels(listed.samples, classes, role=role, name=name)
            unlabelled = [sample for sample in samples if not sample.label]
            if role == "id" and unlabelled:
                raise SetupError(
                    f"set '{name}': {len(unlabelled)} image(s) in {source.path or source.features} have no label "
                    f"(first: '{unlabelled[0].id}'); put known images in one folder per class, or give an image list, "
                    "tars or a feature file with labels"
                )
            self._sets[key] = ImageSet(name, split, role, samples, samples_digest(samples), listed.left_out)
        found = self._sets[key]
        title = set_title(name, split)
        return replace(
            found, name=name, split=split, left_out=tuple(replace(one, set_name=title) for one in found.left_out)
        )

    def _part(self, whole: SourceConfig, part: tuple[float, float], *, name: str) -> Listed:
        """What is left of a source by its `part`. The others are no loss, and not counted."""
        listed = self._listed[whole]
        if whole not in self._places:
            self._places[whole] = places(listed.samples)
        wanted = (part[0] <= self._places[whole]) & (self._places[whole] < part[1])
        kept = tuple(sample for sample, is_in in zip(listed.samples, wanted, strict=True) if is_in)
        if not kept:
            raise SetupError(
                f"set '{name}': none of the {len(listed.samples)} images in {whole.path} falls into the part "
                f"{list(part)}; widen it, or add images"
            )
        return listed._replace(samples=kept)

    def miniworld(self, seed: int) -> MiniWorld:
        """Return the mini-world of a seed, drawn into the cache where it is missing."""
        if seed not in self._worlds:
            self._worlds[seed] = build(default_root(seed), seed=seed)
        return self._worlds[seed]


def _anonymous(source: SourceConfig) -> SourceConfig:
    """What makes two sources hold the same images."""
    return source.model_copy(update={"name": None, "expected": None, "distance": None})


def read_images(
    source: SourceConfig,
    *,
    name: str,
    role: Role,
    split: OpenSplit,
    seed: int,
    classes: Sequence[str] = (),
    listing: Listing | None = None,
) -> ImageSet:
    """List the images of one source as a set of this name, role and split; see `Listing.images`.

    Raises SetupError as that does, and ImmunoError for the sealed test.
    """
    if split not in get_args(OpenSplit):
        raise ImmunoError(
            f"the split '{split}' is sealed; evaluation.data.sealed.SealedTest opens it, and keeps a record"
        )
    listing = listing or Listing()
    return listing.images(source, name=name, role=role, split=split, seed=seed, classes=classes)


class HeldOut(NamedTuple):
    """A fit set, and what was set aside of it."""

    fit: ImageSet
    held_out: ImageSet
    """Of the split `feedback`."""


def hold_out(images: ImageSet, *, seed: int) -> HeldOut:
    """Set half of each label's images aside for feedback; the same ones for the same seed, whatever their order.

    Of an odd number, fit keeps one more. Raises SetupError where nothing is left to set aside (one image per label).
    """
    by_label: dict[str, list[Sample]] = {}
    for sample in images.samples:
        by_label.setdefault(sample.label, []).append(sample)
    kept: set[str] = set()
    for samples in by_label.values():
        drawn = sorted(sample.id for sample in samples)
        drawn.sort(key=lambda sample_id: text_digest(str(seed), sample_id))
        kept.update(drawn[: math.ceil(len(drawn) / 2)])
    held_out = tuple(sample for sample in images.samples if sample.id not in kept)
    if not held_out:
        raise SetupError(
            f"set '{images.name}' has one image per class, so none can be held out for feedback; "
            "add images, or give [data.feedback_id]"
        )
    fit = tuple(sample for sample in images.samples if sample.id in kept)
    return HeldOut(
        ImageSet(images.name, images.split, images.role, fit, _half_digest(images, seed, "fit"), images.left_out),
        ImageSet(images.name, "feedback", images.role, held_out, _half_digest(images, seed, "held out")),
    )


def _half_digest(images: ImageSet, seed: int, half: str) -> str:
    return text_digest(images.digest, "half", str(seed), half)


_LINE = re.compile(r'(?:"(?P<quoted>[^"]+)"(?=\s|$)|(?P<tabbed>[^"\t][^\t]*)(?=\t)|(?P<plain>[^"\s]\S*))(?P<label>.*)')


def read_image_list(path: Path, *, root: Path | None = None) -> tuple[Sample, ...]:
    """Return the images of a list in its order; ids are paths relative to the root where they lie within it.

    Opens no image. Raises SetupError naming the list, and the line, for text that is not UTF-8, an unbalanced quote, a
    repeated path, a list without images, and images that do not exist (the first one, and how many).
    """
    content = read_text(path, "list of images", most=2**32)
    if root is not None and not root.is_dir():
        raise SetupError(f"there is no folder at {root}, the root of the image list {path}; put it right")
    folder = plain_path((root or path.parent).absolute())
    samples: dict[str, Sample] = {}
    lines: dict[str, int] = {}
    for number, line in enumerate(content.split("\n"), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        sample = _sample(line.strip(), folder, f"{path}, line {number}")
        if sample.id in samples:
            raise SetupError(f"{path}, line {number}: '{sample.id}' stands in line {lines[sample.id]} already")
        samples[sample.id], lines[sample.id] = sample, number
    if not samples:
        raise SetupError(f"{path} names no image; write one path per line")
    missing = [sample for sample in samples.values() if not os.path.isfile(sample.path)]  # noqa: PTH113 - never raises
    if missing:
        first = missing[0]
        base = root or "the list's folder, unless root is given"
        raise SetupError(
            f"{path}: {len(missing)} of {len(samples)} images do not exist (first: line {lines[first.id]}, "
            f"'{first.path}'); paths are relative to {base}, and "
            "blanks in one need double quotes"
        )
    return tuple(samples.values())


class _Line(NamedTuple):
    path: str
    label: str


def _line(line: str, where: str) -> _Line:
    """What stands on a line of an image list."""
    parts = _LINE.fullmatch(line)
    if parts is None:
        raise SetupError(f'{where}: unbalanced quotes; write "path with blanks.jpg" label')
    return _Line((parts["quoted"] or parts["tabbed"] or parts["plain"]).strip(), parts["label"].strip())


def _sample(line: str, folder: Path, where: str) -> Sample:
    written, label = _line(line, where)
    if len(label) > 1 and label[0] == label[-1] == '"':
        label = label[1:-1].strip()
    if "\0" in written:
        raise SetupError(f"{where}: a NUL character; a list of images is plain text")
    full = plain_path(folder / written)
    inside = full.is_relative_to(folder)
    return Sample(id=(full.relative_to(folder) if inside else full).as_posix(), path=str(full), label=label)


Role = Literal["id", "outlier"]
_COMPRESSED = frozenset({".gz", ".tgz", ".bz2", ".xz", ".zst", ".zip"})


def list_source(source: SourceConfig, *, name: str) -> Listed:
    """Return what a source that is not built in holds, with labels as they are written."""
    if source.features is not None:
        _check_exists(source.features, name, "no feature file")
        return Listed(list_feature_file(source.features))
    if source.shield_log is not None:
        _check_exists(source.shield_log / LOGGED, name, "no log of a shield")
        return Listed(read_image_list(source.shield_log / LOGGED))
    path = source.path
    if path is None:
        raise SetupError(f"set '{name}' has neither path nor features; give one of them")
    if not os.path.exists(path) and is_pattern(path):  # noqa: PTH110 - Path.exists() raises where it may not look
        return read_tars(expand(path))
    _check_exists(path, name, "no folder, no image list and no tar")
    if path.is_dir():
        if source.root is not None:
            raise SetupError(f"set '{name}': root goes with an image list, and {path} is a folder; leave it out")
        return _in_folder(path, name)
    suffix = path.suffix.lower()
    if suffix == ".tar":
        return read_tars((path,))
    if suffix in IMAGE_SUFFIXES:
        raise SetupError(f"set '{name}': {path} is a single image; name its folder, or a text file with image paths")
    if suffix in FEATURE_SUFFIXES:
        raise SetupError(f"set '{name}': {path} holds no images; write features = \"{path.name}\" instead of path")
    if suffix in _COMPRESSED:
        raise SetupError(f"set '{name}': {path} is compressed, and images are read by seeking; unpack it")
    return Listed(read_image_list(path, root=source.root))


def _subset(listed: Listed, source: SourceConfig, *, name: str) -> Listed:
    """What is left of a source by its `keep` or `drop`."""
    path = source.keep or source.drop
    if path is None:
        return listed
    by_file: dict[str, list[str]] = {}
    for sample in listed.samples:
        by_file.setdefault(PurePosixPath(sample.id).name, []).append(sample.id)
    named: set[str] = set()
    unknown: list[str] = []
    written = _names(path)
    for one in written:
        meant = [sample for sample in by_file.get(PurePosixPath(one).name, []) if _same(sample, one)]
        if len(meant) > 1:
            raise SetupError(
                f"set '{name}': '{one}' in {path} may be '{meant[0]}' or '{meant[1]}'; write more of its path"
            )
        named.update(meant)
        unknown += [] if meant else [one]
    if unknown:
        raise SetupError(
            f"set '{name}': {len(unknown)} of the {len(written)} names in {path} are of no image of the set (first: "
            f"'{unknown[0]}'); write one name on each line, as the set has it"
        )
    wanted = source.keep is not None
    kept = tuple(sample for sample in listed.samples if (sample.id in named) == wanted)
    if not kept:
        raise SetupError(f"set '{name}': {path} leaves no image of it; correct the list")
    why = f"{'not ' if wanted else ''}named in {path.name}"
    gone = tuple(left_out(sample.path, why) for sample in listed.samples if (sample.id in named) != wanted)
    return Listed(kept, (*listed.left_out, *gone))


def _names(path: Path) -> list[str]:
    """The names in a list of them."""
    lines = read_text(path, "list of image names", most=2**32).split("\n")
    names = [
        _line(line.strip(), f"{path}, line {number}").path
        for number, line in enumerate(lines, start=1)
        if line.strip() and not line.strip().startswith("#")
    ]
    if not names:
        raise SetupError(f"{path} names no image; write one name per line")
    return names


def _same(sample: str, written: str) -> bool:
    """Whether an id and a name are the same path, or one is the end of the other."""
    longer, shorter = sorted((PurePosixPath(sample).parts, PurePosixPath(written).parts), key=len, reverse=True)
    return longer[len(longer) - len(shorter) :] == shorter


def _with_text(samples: tuple[Sample, ...], name: str) -> tuple[Sample, ...]:
    """The samples with their labels composed (NFC). Raises SetupError for an id or a label that no file could hold."""
    labels: dict[str, str] = {}
    for sample in samples:
        if sample.label not in labels:
            labels[sample.label] = composed(sample.label)
            if not is_text(sample.label):
                raise SetupError(f"set '{name}': the label {sample.label!r} of {sample.path!r} is no text; correct it")
        if not is_text(sample.id + sample.path):
            raise SetupError(
                f"set '{name}': the name of an image is no text: {sample.id!r} in {sample.path!r}; rename it"
            )
    if all(label == written for written, label in labels.items()):
        return samples
    return tuple(replace(sample, label=labels[sample.label]) for sample in samples)


def label_names(source: SourceConfig, *, seed: int, listing: Listing) -> tuple[str, ...]:
    """Return the labels of a source in alphabetical order: its class folders, or those of its list, tars or features.

    Reads no image. Raises SetupError where there is none.
    """
    if source.builtin is not None:
        return listing.miniworld(seed).classes
    if source.path is not None and source.path.is_dir():
        folders = [one.name for one in _entries(str(source.path)) if not is_hidden(one.name) and _kind(one) == _FOLDER]
        if wrong := [folder for folder in folders if not is_text(folder)]:
            raise SetupError(f"the class folder {wrong[0]!r} in {source.path} is no class name: not UTF-8; rename it")
        names = {composed(folder) for folder in folders}
    else:
        names = {sample.label for sample in listing.listed(source, name="id").samples}
    names.discard("")
    if not names:
        raise SetupError(
            f"{source.path or source.features} has no class folders and no labels; name a class list in [classes] names"
        )
    if all(is_number(name) for name in names):
        raise SetupError(
            f"the labels in {source.path or source.features} are numbers, not names; name a class list in "
            "[classes] names, in the order of the numbers"
        )
    return tuple(sorted(names))


def _check_exists(path: Path, name: str, what: str) -> None:
    if not os.path.exists(path):  # noqa: PTH110 - as above
        raise SetupError(f"set '{name}': there is {what} at {path}; put the path right")


def _in_folder(root: Path, name: str) -> Listed:
    samples: list[Sample] = []
    others: list[FailedImage] = []
    start = len(os.path.join(root, ""))  # noqa: PTH118 - as below
    for path, why in _images_below(str(root), frozenset(), hidden=False):
        if why or not is_text(path):
            others.append(left_out(path, why or NOT_UTF8))
            continue
        sample_id = path[start:]
        label, slash, _ = sample_id.partition("/")
        samples.append(Sample(sample_id, path, label if slash else ""))
    if not samples:
        found = (
            f"left out: {'; '.join(told(others))}" if others else "it looks for .jpg, .png and what else Pillow reads"
        )
        raise SetupError(f"set '{name}': no image in {root}; {found}")
    return Listed(tuple(samples), tuple(others))


_FOLDER = "a folder"


def _images_below(folder: str, above: frozenset[str], *, hidden: bool) -> Iterator[tuple[str, str]]:
    """Yield what looks like an image below a folder, by path, and why it is none ("" for an image).

    `above` are the real folders on the way to it; `hidden`: nothing in it is an image of the set.
    """
    real = os.path.realpath(folder)
    if real in above:
        return
    try:
        entries = _entries(folder)
    except SetupError:
        if hidden:
            return
        raise
    for entry in entries:
        kind, out = _kind(entry), hidden or is_hidden(entry.name)
        if kind == _FOLDER and out and entry.is_symlink():
            continue  # what a hidden link leads to may be anything
        if kind == _FOLDER:
            yield from _images_below(entry.path, above | {real}, hidden=out)
            continue
        why = why_no_image(entry.name, hidden=out)
        if not out and kind and (why is not None or kind != NO_FILE):
            yield entry.path, kind
        elif why is not None:
            yield entry.path, why


def _kind(entry: os.DirEntry[str]) -> str:
    """What an entry is: "" for a file, _FOLDER, or why it is neither."""
    try:
        if entry.is_dir():
            return _FOLDER
        if entry.is_file():
            return ""
        # What a link that leads nowhere would have led to, its name need not say.
        return NO_FILE if os.path.exists(entry.path) else DEAD_LINK  # noqa: PTH110 - as below
    except OSError as error:  # a link to itself, or into a folder that may not be looked into
        return error.strerror or type(error).__name__


def _entries(folder: str) -> list[os.DirEntry[str]]:
    """What a folder holds, by name. Entries know what they are without another call."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise SetupError(f"cannot list the folder {folder}: {error.strerror}") from None
