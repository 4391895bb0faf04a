"""Feature files: embeddings made elsewhere, instead of images.

    x.npz            arrays `features` (n, d) floating point; `labels` (n,), class indices or names, and `ids` (n,),
                     names of the images, both optional
    x.safetensors    a tensor `features`, and `labels` where they are integers; names stand in x.json beside it, an
                     object with lists "labels" and "ids"

Rows need not be of unit norm: they are normalised as they are read. Nothing is ever unpickled: an array of Python
objects is refused.
"""

from __future__ import annotations

import math
import os
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from immuno_core.arrays import blocks
from immuno_core.errors import SetupError
from immuno_core.features import FeatureSet, FloatArray
from immuno_core.files import check_regular, read_text
from immuno_core.images import FeatureRow, feature_row
from immuno_core.records import ImageSet, Sample
from immuno_core.text import read_json

SUFFIXES = (".npz", ".safetensors")
Array = NDArray[Any]
_ROW_BYTES = 512
"""About what a row takes as a sample, whatever its embedding does."""


def list_feature_file(path: Path) -> tuple[Sample, ...]:
    """Return the rows of a feature file as samples: ids are those of the file, else the rows' numbers.

    Reads no embedding. Raises SetupError naming the file and the array for what is missing or of another form.
    """
    count = _shape(path)[0]
    labels = _names(path, "labels", count)
    ids = _names(path, "ids", count)
    if count == 0:
        raise SetupError(f"{path}: the array `features` has no row")
    if ids is not None and len(set(ids)) < count:
        twice = Counter(ids).most_common(1)[0][0]
        raise SetupError(f"{path}: the array `ids` holds '{twice}' twice; ids tell the images apart")
    return tuple(
        Sample(ids[row] if ids else str(row), str(FeatureRow(str(path), row)), labels[row] if labels else "")
        for row in range(count)
    )


def is_feature_set(images: ImageSet) -> bool:
    """Whether the samples of a set are rows of a feature file."""
    return bool(images.samples) and feature_row(images.samples[0].path) is not None


def read_feature_set(images: ImageSet, *, dim: int) -> FeatureSet:
    """Return the embeddings of a set that `is_feature_set`, rows in the order of its samples.

    Raises SetupError as `read_features` does, and for vectors that are not of `dim` dimensions, the encoder's.
    """
    places = [place for sample in images.samples if (place := feature_row(sample.path)) is not None]
    path = Path(places[0].file)
    features = read_features(path)
    if features.shape[1] != dim:
        raise SetupError(
            f"set '{images.name}': {path} has vectors of {features.shape[1]} dimensions, the encoder's have {dim}; "
            "name the encoder they were made with"
        )
    rows = np.array([place.row for place in places], dtype=np.int64)
    if len(rows) and int(rows.max()) >= len(features):
        raise SetupError(f"set '{images.name}': {path} has fewer rows than when it was listed; run again")
    return FeatureSet(
        name=images.name,
        split=images.split,
        features=features if np.array_equal(rows, np.arange(len(features))) else features[rows],
        ids=tuple(sample.id for sample in images.samples),
        label_names=tuple(sample.label for sample in images.samples),
        paths=tuple(sample.path for sample in images.samples),
    )


def read_features(path: Path) -> FloatArray:
    """Return the array `features` (n, d) of a file as float32 unit rows.

    Raises SetupError naming the file, and the first row that holds NaN or infinity or has no direction (norm 0).
    """
    raw = _required(path, "features")
    _check_matrix(path, raw.shape, raw.dtype)
    rows = np.empty(raw.shape, dtype=np.float32)
    norms = np.empty(len(raw), dtype=np.float64)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        for block in blocks(len(raw), raw.shape[1]):
            part = np.asarray(raw[block], dtype=np.float64)
            norms[block] = np.sqrt(np.einsum("ij,ij->i", part, part))
            rows[block] = part / norms[block, None]
    for bad, problem in (
        (np.flatnonzero(~np.isfinite(norms)), "hold NaN or infinity"),
        (np.flatnonzero(norms == 0), "are all zeros"),
    ):
        if bad.size:
            raise SetupError(
                f"{path}: {bad.size} row(s) of `features` {problem} (first: row {bad[0]}); embed them again"
            )
    return rows


def read_names(path: Path, name: str, count: int) -> tuple[str, ...]:
    """Return an array of `count` strings of a file. Raises SetupError where it is missing or of another form."""
    names = _names(path, name, count)
    if names is None:
        raise SetupError(f"{path} has no array `{name}`{_where_names_stand(path)}")
    return names


def _names(path: Path, name: str, count: int) -> tuple[str, ...] | None:
    array = _array(path, name)
    if array is None:
        return None
    if array.dtype.kind == "S":
        with _reading(path, name):
            array = np.char.decode(array, "utf-8")
    if array.shape != (count,) or array.dtype.kind not in "Uiu":
        raise SetupError(
            f"{path}: the array `{name}` is of shape {array.shape} and type {array.dtype}, not {count} strings or "
            "integers, one for each row of `features`"
        )
    return tuple(str(value) for value in array.tolist())


def _required(path: Path, name: str) -> Array:
    array = _array(path, name)
    if array is None:
        raise SetupError(f"{path} has no array `{name}`")
    return array


def _check_matrix(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    if len(shape) != 2 or shape[1] == 0 or dtype.kind != "f":
        raise SetupError(
            f"{path}: the array `features` is of shape {shape} and type {dtype}, not (n, d) floating-point embeddings"
        )


def _array(path: Path, name: str) -> Array | None:
    """An array of a file, None where it has none of this name."""
    with _reading(path, name):
        if path.suffix.lower() == ".safetensors":
            with safe_open(path, framework="numpy") as tensors:
                if name in tensors.keys():  # noqa: SIM118 - not a mapping
                    array: Array = tensors.get_tensor(name)
                    return array
            return _listed_beside(path, name)
        with np.load(path, allow_pickle=False) as arrays:
            if not isinstance(arrays, np.lib.npyio.NpzFile):
                raise SetupError(f"{path} is not an .npz file; write it with numpy.savez")
            if arrays.zip is None or name not in arrays.files:
                return None
            _header(arrays.zip, path, name)
            return arrays[name]


def _header(archive: zipfile.ZipFile, path: Path, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """The shape and type of an array of an .npz, which is not read: a small file may hold one of any size.

    Raises SetupError for an array that the file does not hold in full, and for one larger than the memory.
    """
    info = archive.getinfo(f"{name}.npy")
    with archive.open(info) as member:
        old = np.lib.format.read_magic(member) == (1, 0)
        read = np.lib.format.read_array_header_1_0 if old else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(member)
        size = math.prod(shape) * dtype.itemsize
        if not dtype.hasobject and size != info.file_size - member.tell():
            raise SetupError(f"{path}: the array `{name}` is not whole: {size:,} bytes are said, others are there")
    _check_room(path, name, size)
    return shape, dtype


def _check_room(path: Path, name: str, size: int) -> None:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if size > memory:
        raise SetupError(
            f"{path}: the array `{name}` has {size:,} bytes when it is read, more than this machine's memory; split it"
        )


def _shape(path: Path) -> tuple[int, ...]:
    """The shape of `features`. Of an .npz only the header is read: the array itself may be gigabytes."""
    with _reading(path, "features"):
        if path.suffix.lower() == ".safetensors":
            with safe_open(path, framework="numpy") as tensors:
                if "features" not in tensors.keys():  # noqa: SIM118 - not a mapping
                    raise SetupError(f"{path} has no tensor `features`")
                # Whether numpy knows the type is seen when the array is read.
                shape, dtype = tuple(tensors.get_slice("features").get_shape()), np.dtype(np.float32)
        else:
            with zipfile.ZipFile(path) as archive:
                if "features.npy" not in archive.namelist():
                    raise SetupError(f"{path} has no array `features`")
                shape, dtype = _header(archive, path, "features")
    _check_matrix(path, shape, dtype)
    _check_room(path, "features", shape[0] * _ROW_BYTES)
    return shape


@contextmanager
def _reading(path: Path, name: str) -> Iterator[None]:
    """What goes wrong while an array of a file is read becomes a SetupError."""
    try:
        if path.exists():
            check_regular(path, "embeddings in", hint="put the path right")
        yield
    except OSError as error:
        raise SetupError(
            f"cannot read the embeddings in {path}: {error.strerror or error}; put the path right"
        ) from None
    except (ValueError, TypeError, AttributeError, EOFError, zipfile.BadZipFile, zlib.error, SafetensorError) as error:
        raise SetupError(_unreadable(path, name, error)) from None


def _listed_beside(path: Path, name: str) -> Array | None:
    beside = path.with_suffix(".json")
    if not beside.exists():
        return None
    try:
        content = read_json(read_text(beside, "list of names", most=2**32))
    except ValueError as error:
        raise SetupError(f"cannot read {beside}, the names that go with {path.name}: {error}") from None
    if not isinstance(content, dict) or not isinstance(content.get(name, []), list):
        raise SetupError(f'{beside} is not an object of lists such as {{"{name}": ["...", ...]}}')
    if name not in content:
        return None
    if not all(isinstance(value, str | int) and not isinstance(value, bool) for value in content[name]):
        raise SetupError(f"{beside}: the list `{name}` holds something else than strings and integers")
    return np.array([str(value) for value in content[name]], dtype=np.str_)


def _where_names_stand(path: Path) -> str:
    return f" and there is none in {path.with_suffix('.json').name}" if path.suffix.lower() == ".safetensors" else ""


def _unreadable(path: Path, name: str, error: Exception) -> str:
    if "allow_pickle" in str(error) or "Object arrays" in str(error):
        return (
            f"{path}: the array `{name}` holds Python objects, which are never unpickled; save it as numbers, or as "
            "strings with numpy.array(names, dtype=str)"
        )
    return (
        f"{path} cannot be read as a feature file ({type(error).__name__}: {error}); is it whole, .npz or .safetensors?"
    )
