"""Image lists: a UTF-8 text file that names images, one per line, each with an optional label.

    # comment; blank lines are skipped
    cats/0001.jpg  cat
    "holiday pictures/dog 1.jpg"  golden retriever

OpenOOD's lists are of this form, with an index into the class list as label, or -1 for an outlier
(evaluation.labels), and with paths relative to a data folder: name it as the source's `root`.

A path is relative to the root, by default the list's folder, or absolute. It ends at the first blank, so one that
contains blanks stands in double quotes, or is followed by a tab. The rest of the line is the label; quotes around it
are dropped. `#` begins a comment only at the start of a line, and a backslash is a backslash. A path may stand in the
list once.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from immuno.errors import SetupError
from immuno.records import Sample

_LINE = re.compile(r'(?:"(?P<quoted>[^"]+)"(?=\s|$)|(?P<tabbed>[^"\t][^\t]*)(?=\t)|(?P<plain>[^"\s]\S*))(?P<label>.*)')


def read_image_list(path: Path, *, root: Path | None = None) -> tuple[Sample, ...]:
    """Return the images of a list in its order; ids are paths relative to the root where they lie within it.

    Opens no image. Raises SetupError naming the list, and the line, for text that is not UTF-8, an unbalanced quote, a
    repeated path, a list without images, and images that do not exist (the first one, and how many).
    """
    try:
        content = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise SetupError(f"cannot read {path} as a list of images in UTF-8 text: {error}") from None
    if root is not None and not root.is_dir():
        raise SetupError(f"there is no folder at {root}, the root of the image list {path}; put it right")
    folder = Path(os.path.abspath(root or path.parent))  # noqa: PTH100 - resolve() would follow links out of the folder
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
    missing = [sample for sample in samples.values() if not Path(sample.path).is_file()]
    if missing:
        first = missing[0]
        base = root or "the list's folder, unless root is given"
        raise SetupError(
            f"{path}: {len(missing)} of {len(samples)} images do not exist (first: line {lines[first.id]}, "
            f"'{first.path}'); paths are relative to {base}, and "
            "blanks in one need double quotes"
        )
    return tuple(samples.values())


def _sample(line: str, folder: Path, where: str) -> Sample:
    parts = _LINE.fullmatch(line)
    if parts is None:
        raise SetupError(f'{where}: unbalanced quotes; write "path with blanks.jpg" label')
    written = (parts["quoted"] or parts["tabbed"] or parts["plain"]).strip()
    label = parts["label"].strip()
    if len(label) > 1 and label[0] == label[-1] == '"':
        label = label[1:-1].strip()
    if "\0" in written:
        raise SetupError(f"{where}: a NUL character; a list of images is plain text")
    full = Path(os.path.normpath(folder / written))
    inside = full.is_relative_to(folder)
    return Sample(id=(full.relative_to(folder) if inside else full).as_posix(), path=str(full), label=label)
