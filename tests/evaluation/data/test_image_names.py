"""What looks like an image is read, or left out with its reason; nothing vanishes."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest
from PIL import Image

from evaluation.data.classes import read_class_list
from evaluation.data.image_names import DEAD_LINK, HIDDEN, IMAGE_SUFFIXES, NO_FILE, NOT_UTF8, why_no_image
from evaluation.data.sources import Listing, hold_out, label_names, read_images
from immuno_core.config.run import SourceConfig
from immuno_core.errors import SetupError
from immuno_core.records import ImageSet

_REFUSED = {"EPS", "BUFR", "GRIB", "HDF5", "MPEG", "WMF"}
"""Ghostscript would run on the first; of the others Pillow knows the format and decodes none by itself."""


def read(path: Path, *, role: str = "outlier") -> ImageSet:
    chosen = "id" if role == "id" else "outlier"
    return read_images(SourceConfig(path=path), name="near", role=chosen, split="feedback", seed=0)  # type: ignore[arg-type]


def test_every_suffix_of_a_format_that_pillow_decodes_is_an_image_s() -> None:
    decoded = {
        suffix
        for suffix, format_ in Image.registered_extensions().items()
        if format_ in Image.OPEN and format_ not in _REFUSED
    }
    assert decoded <= IMAGE_SUFFIXES
    assert IMAGE_SUFFIXES - decoded == {".jfi", ".jif", ".mpo"}  # JPEG, though Pillow's list does not say so


def test_the_same_picture_is_read_under_any_suffix(tmp_path: Path) -> None:
    for suffix in (".jfif", ".jpe", ".avif", ".jp2", ".ppm", ".pgm", ".JPG", ".TIF"):
        Image.new("RGB", (4, 4)).save(tmp_path / f"1{suffix}")
    assert len(read(tmp_path).samples) == 8


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("a.png", ""),
        ("a.b.PNG", ""),
        ("a.heic", "Pillow does not read .heic"),
        ("a.EPS", "Pillow does not read .eps"),
        ("000123", "its name has no suffix"),
        ("a.jpg?w=640", "does not end"),
        ("a.jpg_large", "does not end"),
        ("a.jpeg:large", "does not end"),
        ("a.png~", "does not end"),
        ("a.jpg.part", "does not end"),
        ("a.jpg.1", "does not end"),
        ("a.png.gz", "does not end"),
        *(
            (name, None)
            for name in ("a.txt", "a.jpg.txt", "a.png.json", "a.csv", "README", "Makefile", "a.jpgs", "x.npz")
        ),
    ],
)
def test_a_name_says_what_a_file_is(name: str, says: str | None) -> None:
    found = why_no_image(name)
    assert found == says if not says else found is not None and says in found


def test_what_looks_like_an_image_and_is_none_is_counted_with_its_reason(tmp_path: Path) -> None:
    root = tmp_path / "set"
    for name in ("cat/1.png", "cat/2.heic", "cat/._1.png", "__MACOSX/cat/1.png", ".cache/deep/9.jpg", "cat/5.jpg~"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"1")
    os.mkfifo(root / "cat" / "pipe.png")
    os.mkfifo(root / "cat" / "pipe.txt")
    (root / "cat" / "zero.png").symlink_to("/dev/zero")
    (root / "cat" / "gone.png").symlink_to(root / "nothing.png")
    (root / "dogs").symlink_to(tmp_path / "nowhere")  # might have been a folder of images
    (root / "cat" / "self.png").symlink_to(root / "cat" / "self.png")
    reasons = {
        "cat/2.heic": "Pillow does not read .heic",
        "cat/._1.png": HIDDEN,
        "__MACOSX/cat/1.png": HIDDEN,
        ".cache/deep/9.jpg": HIDDEN,
        "cat/5.jpg~": "its name does not end in an image's suffix",
        "cat/pipe.png": NO_FILE,
        "cat/zero.png": NO_FILE,
        "cat/gone.png": DEAD_LINK,
        "dogs": DEAD_LINK,
        "cat/self.png": os.strerror(40),
    }
    try:
        (root / "cat" / os.fsdecode(b"\xff.png")).write_bytes(b"1")
        reasons["cat/\\xff.png"] = NOT_UTF8
    except OSError:  # this file system takes no such name
        pass
    found = read(root)
    assert [sample.id for sample in found.samples] == ["cat/1.png"]
    assert {one.path.removeprefix(f"{root}/"): one.reason for one in found.left_out} == reasons
    assert {one.set_name for one in found.left_out} == {"feedback near"}
    (root / "cat" / "1.png").unlink()
    with pytest.raises(
        SetupError, match=r"no image in .*; left out: 3: hidden.*/.cache/deep/9.jpg, ...\); 2: .*: other"
    ):
        read(root)


def test_what_was_left_out_of_the_fit_images_is_said_once(tmp_path: Path) -> None:
    for name in ("cat/1.png", "cat/2.png", "cat/3.heic"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"1")
    images = read_images(SourceConfig(path=tmp_path), name="id", role="id", split="fit", seed=0)
    halves = hold_out(images, seed=0)
    assert [one.set_name for one in halves.fit.left_out] == ["fit"]
    assert halves.held_out.left_out == ()


def test_names_of_folders_classes_and_labels_are_one_in_any_unicode_form(tmp_path: Path) -> None:
    decomposed, composed = unicodedata.normalize("NFD", "café"), unicodedata.normalize("NFC", "café")
    (tmp_path / "set" / decomposed).mkdir(parents=True)
    (tmp_path / "set" / decomposed / "1.png").write_bytes(b"1")
    (tmp_path / "list.txt").write_text(f"set/{decomposed}/1.png {decomposed}\n", encoding="utf-8")
    (tmp_path / "classes.txt").write_text(f"{decomposed}\n", encoding="utf-8")
    source = SourceConfig(path=tmp_path / "set")
    assert label_names(source, seed=0, listing=Listing()) == (composed,)
    assert read_class_list(tmp_path / "classes.txt") == (composed,)
    for path in (tmp_path / "set", tmp_path / "list.txt"):
        (sample,) = read(path, role="id").samples
        assert sample.label == composed
        assert Path(sample.path).is_file()
    (tmp_path / "classes.txt").write_text(f"{decomposed}\n{composed}\n", encoding="utf-8")
    with pytest.raises(SetupError, match="more than once"):
        read_class_list(tmp_path / "classes.txt")


def test_a_class_folder_whose_name_is_no_text_is_refused(tmp_path: Path) -> None:
    try:
        (tmp_path / os.fsdecode(b"caf\xe9")).mkdir()
    except OSError:
        pytest.skip("this file system takes no such name")
    (tmp_path / "cat").mkdir()
    with pytest.raises(SetupError, match=r"class folder 'caf\\udce9' .* not UTF-8"):
        label_names(SourceConfig(path=tmp_path), seed=0, listing=Listing())
