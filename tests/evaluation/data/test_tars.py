"""Tars are read where they lie: every image has its place in the archive, and damage is named."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from evaluation.benchmark.gallery import GalleryItem
from evaluation.data.image_names import FURTHER, HIDDEN, LINK_IN_TAR, NOT_UTF8
from evaluation.data.sources import read_images
from evaluation.report.gallery import build_gallery
from immuno_core.config.run import SourceConfig
from immuno_core.errors import SetupError
from immuno_core.images import containing_file, open_image, tar_member
from immuno_core.records import ImageSet

from .archives import write_tar


def read(path: Path, *, role: str = "outlier", classes: tuple[str, ...] = ()) -> ImageSet:
    chosen = "id" if role == "id" else "outlier"
    return read_images(SourceConfig(path=path), name="near", role=chosen, split="feedback", seed=0, classes=classes)  # type: ignore[arg-type]


def seen(images: ImageSet) -> list[tuple[str, str]]:
    return [(sample.id, sample.label) for sample in images.samples]


def test_members_are_read_by_seeking_and_hold_what_was_put_in(tmp_path: Path) -> None:
    contents = {f"{i:04}.jpg": bytes([i]) * (i + 1) for i in range(5)}
    tar = write_tar(tmp_path / "000.tar", contents.items())
    images = read(tar)
    assert [sample.id for sample in images.samples] == [f"000.tar/{name}" for name in contents]
    for sample, content in zip(images.samples, contents.values(), strict=True):
        assert containing_file(sample.path) == str(tar)
        with open_image(sample.path) as stream:
            assert stream.read() == content
    assert list(tmp_path.iterdir()) == [tar]  # nothing was extracted


def test_labels_come_from_cls_then_json_then_txt_then_the_folder(tmp_path: Path) -> None:
    tar = write_tar(
        tmp_path / "x.tar",
        [
            ("./a.jpg", b"1"),
            ("./a.cls", b"2\n"),
            ("./a.txt", b"not this"),
            ("b.json", b'{"label": "golden retriever", "width": 3}'),
            ("b.PNG", b"2"),
            ("c.jpeg", b"3"),
            ("c.txt", "\ufeff sea  lion\n".encode()),
            ("d.jpg", b"4"),
            ("d.json", b'{"width": 3}'),
            ("d.txt", b"owl"),
            ("wolf/pack/e.webp", b"5"),
            ("f.jpg", b"6"),
            ("f.json", b'{"cls": 7}'),
            ("g.jpg", b"7"),
        ],
    )
    assert seen(read(tar)) == [
        ("x.tar/a.jpg", "2"),
        ("x.tar/b.PNG", "golden retriever"),
        ("x.tar/c.jpeg", "sea lion"),
        ("x.tar/d.jpg", "owl"),
        ("x.tar/wolf/pack/e.webp", "wolf"),
        ("x.tar/f.jpg", "7"),
        ("x.tar/g.jpg", ""),
    ]


def test_what_only_looks_like_an_image_is_left_out_with_its_reason(tmp_path: Path) -> None:
    names = (
        "a/1.jpg",
        "a/._1.jpg",
        "__MACOSX/1.jpg",
        "a/1.seg.png",
        "a/readme.md",
        "a/1.heic",
        "a/\udcff.png",
        "a/raw",
    )
    tar = write_tar(tmp_path / "x.tar", [(name, b"1") for name in names])
    with tarfile.open(tar, "a") as opened:
        for kind, name in ((tarfile.LNKTYPE, "a/2.jpg"), (tarfile.SYMTYPE, "a/3.jpg"), (tarfile.FIFOTYPE, "a/4.jpg")):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "a/1.jpg"
            opened.addfile(info)
    images = read(tar)
    assert [one for one, _ in seen(images)] == ["x.tar/a/1.jpg"]
    assert {one.path.removeprefix(f"{tar}::"): one.reason for one in images.left_out} == {
        "a/._1.jpg": HIDDEN,
        "__MACOSX/1.jpg": HIDDEN,
        "a/1.seg.png": FURTHER,
        "a/1.heic": "Pillow does not read .heic",
        "a/\\xff.png": NOT_UTF8,
        "a/raw": "its name has no suffix",
        "a/2.jpg": LINK_IN_TAR,
        "a/3.jpg": LINK_IN_TAR,
        "a/4.jpg": "not stored as a plain file",
    }


def test_keys_may_have_dots(tmp_path: Path) -> None:
    members = [(f"{i}.png", b"1") for i in range(4)] + [(f"photo.{i}.png", b"1") for i in range(6)]
    labels = [("photo.cls", b"cat"), ("photo.3.cls", b"dog"), ("photo.3.txt", b"a dog")]
    images = read(write_tar(tmp_path / "x.tar", [*members, *labels]))
    assert [one.removeprefix("x.tar/") for one, _ in seen(images)] == [name for name, _ in members]
    assert [label for _, label in seen(images)] == [""] * 4 + ["cat", "cat", "cat", "dog", "cat", "cat"]
    assert images.left_out == ()
    pair = read(write_tar(tmp_path / "y.tar", [("1.input.jpg", b"1"), ("2.jpg", b"2"), ("1.cls", b"7")]))
    assert seen(pair) == [("y.tar/1.input.jpg", "7"), ("y.tar/2.jpg", "")]


def test_tars_that_were_appended_to_one_another_are_read_to_their_end(tmp_path: Path) -> None:
    parts = [
        write_tar(tmp_path / f"{i}.tar", [(f"{i}/{k}.jpg", bytes([i, k])) for k in range(3)] + [(f"{i}/0.cls", b"9")])
        for i in range(3)
    ]
    whole = tmp_path / "all.tar"
    whole.write_bytes(b"".join(part.read_bytes() for part in parts))
    images = read(whole)
    assert [one for one, _ in seen(images)] == [f"all.tar/{i}/{k}.jpg" for i in range(3) for k in range(3)]
    assert [label for _, label in seen(images)][::3] == ["9", "9", "9"]
    for sample, content in zip(images.samples, (bytes([i, k]) for i in range(3) for k in range(3)), strict=True):
        with open_image(sample.path) as stream:
            assert stream.read() == content
    whole.write_bytes(parts[0].read_bytes() + b"no tar" * 200)
    with pytest.raises(SetupError, match=r"all\.tar is truncated or damaged at byte 10240"):
        read(whole)
    whole.write_bytes(parts[0].read_bytes() + parts[1].read_bytes()[:700])
    with pytest.raises(SetupError, match=r"all\.tar is (truncated or damaged|not a whole, uncompressed tar)"):
        read(whole)


def test_a_label_may_be_written_as_a_number_with_a_fraction_of_nothing(tmp_path: Path) -> None:
    members = [("cat/1.jpg", b"1"), ("cat/1.json", b'{"label": 1.0}'), ("cat/2.jpg", b"2"), ("cat/2.cls", b"0.0")]
    images = read(write_tar(tmp_path / "x.tar", members), role="id", classes=("cat", "dog"))
    assert [label for _, label in seen(images)] == ["dog", "cat"]
    outliers = read(write_tar(tmp_path / "y.tar", [("cat/1.jpg", b"1"), ("cat/1.json", b'{"cls": -1.0}')]))
    assert [label for _, label in seen(outliers)] == [""]


def test_a_pipe_or_a_device_is_no_tar(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.tar")
    (tmp_path / "zero.tar").symlink_to("/dev/zero")
    for name in ("pipe.tar", "zero.tar"):
        with pytest.raises(SetupError, match=f"cannot read the tar .*{name}: it is no regular file"):
            read(tmp_path / name)


def test_class_indices_become_names(tmp_path: Path) -> None:
    tar = write_tar(tmp_path / "x.tar", [("a.jpg", b"1"), ("a.cls", b"1"), ("b.jpg", b"2"), ("b.cls", b"0")])
    assert [label for _, label in seen(read(tar, role="id", classes=("cat", "dog")))] == ["dog", "cat"]
    with pytest.raises(SetupError, match=r"out of range \(first: label 1, of .*x.tar::a.jpg@"):
        read(tar, role="id", classes=("cat",))


def test_ranges_and_globs_name_several_tars(tmp_path: Path) -> None:
    for number in range(8, 12):
        write_tar(tmp_path / "tars" / f"{number:03}.tar", [("1.jpg", b"1")])
    write_tar(tmp_path / "tars" / "part" / "008.tar", [("1.jpg", b"1")])
    range_of = read(tmp_path / "tars" / "{008..011}.tar")
    assert [one for one, _ in seen(range_of)] == ["008.tar/1.jpg", "009.tar/1.jpg", "010.tar/1.jpg", "011.tar/1.jpg"]
    assert seen(read(tmp_path / "tars" / "*.tar")) == seen(range_of)
    both = read(tmp_path / "tars" / "pa*" / "{008..008}.tar")
    assert [one for one, _ in seen(both)] == ["008.tar/1.jpg"]
    for pattern, said in (
        ("{008..012}.tar", r"1 of the 5 tars of .* are missing \(first: .*012.tar\)"),
        ("{9..8}.tar", r"the range \{9..8\} .* names no tar"),
        ("{0..999999999}.tar", "or too many"),
        ("x*.tar", r"no file matches .*x\*.tar"),
        ("*", "patterns are for tars only|are missing"),
    ):
        with pytest.raises(SetupError, match=said):
            read(tmp_path / "tars" / pattern)


def test_a_folder_whose_name_looks_like_a_pattern_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "set[1]").mkdir()
    (tmp_path / "set[1]" / "1.jpg").write_bytes(b"1")
    assert seen(read(tmp_path / "set[1]")) == [("1.jpg", "")]


def damaged_header(content: bytes) -> bytes:
    at = content.index(b"0002.jpg")
    return content[: at + 20] + b"\xff" * 40 + content[at + 60 :]


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:2000],  # within the second member's header
        lambda content: content[: 3 * 1024],  # where a member ends: the end mark is missing
        lambda content: content[: 5 * 512 + 100],  # within the third member's data
        damaged_header,
        lambda content: b"\x1f\x8b" + content[2:],
        lambda _: b"no tar at all, but some text that is longer than nothing" * 30,
        lambda _: b"",
    ],
    ids=["header", "end mark", "data", "checksum", "compressed", "text", "empty"],
)
def test_a_truncated_or_damaged_tar_is_an_error_that_names_it(tmp_path: Path, damage: object) -> None:
    assert callable(damage)
    tar = write_tar(tmp_path / "000.tar", [(f"{i:04}.jpg", bytes([i]) * 300) for i in range(5)])
    tar.write_bytes(damage(tar.read_bytes()))
    with pytest.raises(SetupError, match=r"000\.tar is (truncated or damaged|not a whole, uncompressed tar)"):
        read(tar)


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ([("a.txt", b"cat")], "no image in .*x.tar"),
        ([("a.jpg", b"1"), ("a.jpg", b"2")], "holds 'a.jpg' twice"),
        ([("a.jpg", b"1"), ("a.cls", b"\xff\xfe")], "the label 'a.cls' in the tar .*x.tar cannot be read"),
        ([("a.jpg", b"1"), ("a.json", b"{")], "the label 'a.json' in the tar .*x.tar cannot be read"),
        ([("a.jpg", b"1"), ("a.cls", b"1" * 70_000)], "'a.cls' in the tar .* is too large for a label"),
        ([("a.jpg", b"1"), ("a.cls", b"1"), ("./a.CLS", b"2")], "holds 'a.cls' twice"),
        ([("b/a.jpg", b"1"), ("b/a.json", b'{"label": [1]}')], "the label 'b/a.json' in the tar .* is a list"),
        (
            [("b/a.jpg", b"1"), ("b/a.json", b'{"label": ' + b"[" * 990 + b"]" * 990 + b"}")],
            "the label 'b/a.json' in the tar .* (is a list|cannot be read: it is nested too deep)",
        ),
        ([("a.jpg", b"1"), ("a.json", b"[" * 30_000)], "the label 'a.json' .* cannot be read: it is nested too deep"),
        ([("a.jpg", b"1"), ("a.json", b'{"label": "\\ud800"}')], r"the label '\\ud800' of .*x.tar.* is no text"),
    ],
)
def test_what_is_wrong_within_a_tar_is_named(tmp_path: Path, members: list[tuple[str, bytes]], said: str) -> None:
    with pytest.raises(SetupError, match=said):
        read(write_tar(tmp_path / "x.tar", members))


def test_an_id_set_needs_labels(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"1 image\(s\) in .*x.tar have no label"):
        read(write_tar(tmp_path / "x.tar", [("a.jpg", b"1")]), role="id")


def test_the_digest_tells_whether_the_tar_is_the_same(tmp_path: Path) -> None:
    tar = write_tar(tmp_path / "x.tar", [("a.jpg", b"1")])
    first = read(tar).digest
    assert read(tar).digest == first
    write_tar(tar, [("a.jpg", b"1"), ("b.jpg", b"2")])
    assert read(tar).digest != first


def test_a_member_that_the_tar_no_longer_has_is_an_error_of_that_image(tmp_path: Path) -> None:
    tar = write_tar(tmp_path / "x.tar", [("a.jpg", b"1" * 5000)])
    sample = read(tar).samples[0]
    tar.write_bytes(tar.read_bytes()[:1000])
    with pytest.raises(ValueError, match="the tar ends within this member"):
        open_image(sample.path)


def test_an_ordinary_path_is_no_member() -> None:
    for path in ("/x/a.tar/b.jpg", "/x/a::b.jpg", "/x/a.tar::b", "a.jpg"):
        assert tar_member(path) is None
        assert containing_file(path) == path


def test_the_gallery_shows_a_picture_that_lies_in_a_tar(tmp_path: Path) -> None:
    png = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(png, "PNG")
    images = read(write_tar(tmp_path / "x.tar", [("a/1.png", png.getvalue()), ("a/2.png", b"no image")]))
    items = [GalleryItem(set="near", image=one.path, accepted_before=True) for one in images.samples]
    gallery = build_gallery(items, tmp_path)
    assert [card.picture is not None for card in gallery.groups["caught"].cards] == [True, False]
    assert gallery.unreadable == 1
