"""Feature files give embeddings without an encoder, and nothing that is not one gets in."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from numpy.typing import NDArray

from evaluation.data.feature_files import read_feature_set, read_features
from evaluation.data.sources import hold_out, read_images
from immuno_core.config.run import SourceConfig
from immuno_core.errors import SetupError
from immuno_core.features import FeatureSet
from immuno_core.images import open_image
from immuno_core.records import ImageSet

from .archives import directions

CLASSES = ("cat", "dog", "owl")


def listed(path: Path, *, known: bool = False, classes: tuple[str, ...] = CLASSES) -> ImageSet:
    role: Any = "id" if known else "outlier"
    return read_images(SourceConfig(features=path), name="set", role=role, split="fit", seed=0, classes=classes)


def features(path: Path, *, dim: int = 8, **options: Any) -> FeatureSet:
    return read_feature_set(listed(path, **options), dim=dim)


def save(path: Path, **arrays: NDArray[Any]) -> Path:
    np.savez(path, **arrays)  # type: ignore[arg-type]  # numpy's stub wants a flag there
    return path


def unit(rows: NDArray[Any]) -> NDArray[np.float64]:
    wide = rows.astype(np.float64)
    scaled: NDArray[np.float64] = wide / np.linalg.norm(wide, axis=1, keepdims=True)
    return scaled


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("compressed", [False, True])
def test_rows_come_as_float32_of_unit_norm(tmp_path: Path, dtype: type[np.floating[Any]], compressed: bool) -> None:
    rows = directions(5000).astype(dtype)  # more than a block
    (np.savez_compressed if compressed else np.savez)(tmp_path / "x.npz", features=rows)
    found = features(tmp_path / "x.npz")
    assert found.features.dtype == np.float32
    np.testing.assert_allclose(found.features, unit(rows), atol=1e-7)
    assert (found.name, found.split, found.ids[17], found.label_names[17]) == ("set", "fit", "17", "")
    assert found.paths[17] == f"{tmp_path / 'x.npz'}::17"


def test_labels_are_class_indices_or_names_and_ids_are_kept(tmp_path: Path) -> None:
    rows = directions(3)
    ids = np.array(["a/1.jpg", "b/2.jpg", "b/3.jpg"])
    by_index = features(save(tmp_path / "x.npz", features=rows, labels=np.array([2, 0, 0]), ids=ids), known=True)
    assert (by_index.label_names, by_index.ids) == (("owl", "cat", "cat"), tuple(ids))
    np.testing.assert_array_equal(by_index.labels(CLASSES), [2, 0, 0])
    by_name = save(tmp_path / "y.npz", features=rows, labels=np.array(["owl", "cat", "cat"]), ids=np.arange(3))
    assert features(by_name, known=True).label_names == ("owl", "cat", "cat")
    as_bytes = save(tmp_path / "z.npz", features=rows, labels=np.array([b"owl", b"cat", b"cat"]))
    assert features(as_bytes, known=True).label_names == ("owl", "cat", "cat")
    of_none = save(tmp_path / "o.npz", features=rows, labels=np.array([-1, -1, -1]))
    assert features(of_none).label_names == ("", "", "")


def test_safetensors_have_their_names_in_json_beside_them(tmp_path: Path) -> None:
    rows, path = directions(3), tmp_path / "x.safetensors"
    safetensors.numpy.save_file({"features": rows, "labels": np.array([0, 1, 2])}, path)
    assert features(path, known=True).label_names == CLASSES
    safetensors.numpy.save_file({"features": rows}, path)
    (tmp_path / "x.json").write_text(json.dumps({"labels": ["dog", "dog", "owl"], "ids": ["p", "q", "r"]}))
    found = features(path, known=True)
    assert (found.label_names, found.ids) == (("dog", "dog", "owl"), ("p", "q", "r"))
    np.testing.assert_allclose(found.features, unit(rows), atol=1e-7)
    for content, said in (("{", "cannot read .*x.json"), ('{"labels": 3}', "lists"), ('{"ids": [null]}', "`ids`")):
        (tmp_path / "x.json").write_text(content)
        with pytest.raises(SetupError, match=said):
            listed(path)


def test_halves_of_a_feature_file_are_its_rows(tmp_path: Path) -> None:
    rows = directions(12)
    images = listed(save(tmp_path / "x.npz", features=rows, labels=np.repeat([0, 1, 2], 4)), known=True)
    halves = hold_out(images, seed=0)
    for half in halves:
        found = read_feature_set(half, dim=8)
        chosen = [int(one) for one in found.ids]
        np.testing.assert_allclose(found.features, unit(rows[chosen]), atol=1e-7)
    assert {*read_feature_set(halves.fit, dim=8).ids, *read_feature_set(halves.held_out, dim=8).ids} == {
        str(i) for i in range(12)
    }


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ([np.nan] + [1.0] * 7, r"1 row\(s\) of `features` hold NaN or infinity \(first: row 5\)"),
        ([np.inf] + [1.0] * 7, "hold NaN or infinity"),
        ([0.0] * 8, r"1 row\(s\) of `features` are all zeros \(first: row 5\)"),
    ],
)
def test_a_row_that_is_no_direction_is_refused_by_its_number(tmp_path: Path, row: list[float], said: str) -> None:
    rows = directions(9)
    rows[5] = row
    with pytest.raises(SetupError, match=said):
        read_features(save(tmp_path / "x.npz", features=rows))


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"feature": directions(3)}, "has no array `features`"),
        ({"features": directions(3)[0]}, r"shape \(8,\)"),
        ({"features": np.ones((3, 8), dtype=np.int64)}, "type int64, not"),
        ({"features": directions(0)}, "has no row"),
        ({"features": directions(3), "labels": np.array([0, 1])}, r"`labels` is of shape \(2,\)"),
        ({"features": directions(3), "labels": np.array([0.0, 1.0, 2.0])}, "`labels` is of .* type float64"),
        ({"features": directions(3), "ids": np.array(["a", "b", "a"])}, "`ids` holds 'a' twice"),
        ({"features": directions(3), "labels": np.array(["a", None, 3], dtype=object)}, "Python objects"),
        ({"features": np.array([[1.0, None]] * 3, dtype=object)}, "not|Python objects"),
        ({"features": directions(3), "labels": np.array([0, 1, 3])}, r"out of range \(first: label 3, of .*x.npz::2\)"),
    ],
)
def test_arrays_of_another_form_are_refused_by_name(tmp_path: Path, arrays: dict[str, Any], said: str) -> None:
    path = save(tmp_path / "x.npz", **arrays)
    with pytest.raises(SetupError, match=said) as refused:
        listed(path, known="labels" in arrays)
    assert "x.npz" in str(refused.value) or "set" in str(refused.value)


def test_files_that_are_no_feature_files_are_refused_by_name(tmp_path: Path) -> None:
    whole = save(tmp_path / "x.npz", features=directions(100)).read_bytes()
    tensors = safetensors.numpy.save({"features": directions(100)})
    for name, content, said in (
        ("cut.npz", whole[:2000], "cannot be read as a feature file"),
        ("text.npz", b"some text", "cannot be read as a feature file"),
        ("cut.safetensors", tensors[:2000], "cannot be read as a feature file"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(SetupError, match=f"{name} {said}"):
            listed(tmp_path / name)
    flipped = bytearray(whole)
    flipped[1500] ^= 0xFF
    (tmp_path / "flipped.npz").write_bytes(flipped)
    with pytest.raises(SetupError, match=r"flipped\.npz cannot be read as a feature file"):
        features(tmp_path / "flipped.npz")
    with pytest.raises(SetupError, match=r"there is no feature file at .*gone\.npz"):
        listed(tmp_path / "gone.npz")
    np.save(tmp_path / "single.npy", directions(3))
    (tmp_path / "single.npy").rename(tmp_path / "single.npz")
    with pytest.raises(SetupError, match=r"single\.npz"):
        listed(tmp_path / "single.npz")


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path, suffix: str, kind: str) -> None:
    path = tmp_path / f"x{suffix}"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    for asked in (listed, read_features):
        with pytest.raises(SetupError, match=f"cannot read the embeddings in .*x{suffix}: it is no regular file"):
            asked(path)


def npz(path: Path, name: str, header: dict[str, Any], content: bytes, /) -> Path:
    """An .npz whose one array says of itself what the header does, and holds these bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open(f"{name}.npy", "w") as member:
        np.lib.format.write_array_header_1_0(member, {"fortran_order": False, **header})  # type: ignore[arg-type]
        member.write(content)
    return path


def test_a_small_file_that_stands_for_a_large_array_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = npz(tmp_path / "said.npz", "features", {"descr": "<f4", "shape": (10**9, 512)}, bytes(2048))
    with pytest.raises(SetupError, match=r"said\.npz: the array `features` is not whole: 2,048,000,000,000 bytes"):
        listed(said)
    bomb = npz(tmp_path / "bomb.npz", "features", {"descr": "<f4", "shape": (2**17, 8)}, bytes(2**22))
    assert bomb.stat().st_size < 10_000
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 1, "SC_PHYS_PAGES": 2**21}.__getitem__)
    for asked in (listed, read_features):
        with pytest.raises(SetupError, match=r"bomb\.npz: the array `features` has 4,194,304 bytes .* memory"):
            asked(bomb)
    # Few numbers, but each row becomes a sample.
    rows = npz(tmp_path / "rows.npz", "features", {"descr": "<f2", "shape": (2**13, 1)}, bytes(2**14))
    with pytest.raises(SetupError, match=r"rows\.npz: the array `features` has 4,194,304 bytes"):
        listed(rows)


def test_labels_that_are_no_utf_8_are_refused(tmp_path: Path) -> None:
    for labels in (np.array([b"caf\xe9", b"b", b"c"]), np.array(["\udce9", "b", "c"])):
        path = save(tmp_path / "x.npz", features=directions(3), labels=labels)
        with pytest.raises(SetupError, match=r"x\.npz"):
            listed(path)


def test_vectors_of_another_encoder_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "x.npz", features=directions(3))
    with pytest.raises(SetupError, match=r"vectors of 8 dimensions, the encoder's have 512"):
        features(path, dim=512)


def test_an_embedding_cannot_be_opened_as_an_image(tmp_path: Path) -> None:
    images = listed(save(tmp_path / "x.npz", features=directions(3)))
    with pytest.raises(ValueError, match="an embedding, not an image"):
        open_image(images.samples[0].path)


def test_known_rows_need_labels(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"3 image\(s\) in .*x.npz have no label"):
        listed(save(tmp_path / "x.npz", features=directions(3)), known=True)
