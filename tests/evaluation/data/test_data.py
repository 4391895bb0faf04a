"""Image sets from folders, lists and the mini-world, and the class list that goes with them."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluation.data import contents, sources
from evaluation.data import sources as data
from evaluation.data.classes import read_classes
from evaluation.data.feature_files import read_feature_set
from evaluation.data.sources import Listing, hold_out, read_images
from evaluation.miniworld.world import Sizes, build
from immuno_core.config.run import SourceConfig
from immuno_core.errors import SetupError
from immuno_core.records import ImageSet
from immuno_core.text import fill_template
from tests.configs import make_config

Touch = Callable[..., Path]


@pytest.fixture
def touch(tmp_path: Path) -> Touch:
    """Makes files below a folder; what they hold does not matter, as nobody opens them here."""

    def make(*names: str) -> Path:
        for name in names:
            path = tmp_path / "set" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(name.encode())
        return tmp_path / "set"

    return make


def read(path: Path, role: data.Role = "outlier", name: str = "near") -> ImageSet:
    return read_images(SourceConfig(path=path), name=name, role=role, split="feedback", seed=0)


def ids(images: ImageSet) -> list[str]:
    return [sample.id for sample in images.samples]


def labels(images: ImageSet) -> list[str]:
    return [sample.label for sample in images.samples]


def test_class_folders_give_labels_however_deep_the_image_lies(touch: Touch) -> None:
    root = touch("dog/b.JPG", "cat/kitten/1.png", "cat/2.webp", "dog/a.tiff", "dog/c.gif", "dog/d.bmp", "dog/e.jpeg")
    found = read(root, "id", "known")
    assert ids(found) == [
        "cat/2.webp",
        "cat/kitten/1.png",
        "dog/a.tiff",
        "dog/b.JPG",
        "dog/c.gif",
        "dog/d.bmp",
        "dog/e.jpeg",
    ]
    assert labels(found) == ["cat"] * 2 + ["dog"] * 5
    assert found.samples[0].path == str(root / "cat/2.webp")
    assert (found.name, found.role, found.split) == ("known", "id", "feedback")


def test_a_flat_folder_is_for_outliers_and_has_no_labels(touch: Touch) -> None:
    root = touch("2.png", "1.png", "deep/3.png")
    assert (ids(read(root)), labels(read(root))) == (["1.png", "2.png", "deep/3.png"], ["", "", "deep"])
    with pytest.raises(SetupError, match=r"2 image\(s\) in .* have no label \(first: '1.png'\)"):
        read(root, "id")


def test_a_compressed_archive_and_a_feature_file_are_told_what_to_do(touch: Touch) -> None:
    root = touch("a.tar.gz", "b.npz")
    with pytest.raises(SetupError, match="is compressed, and images are read by seeking; unpack it"):
        read(root / "a.tar.gz")
    with pytest.raises(SetupError, match=r'holds no images; write features = "b.npz"'):
        read(root / "b.npz")


def test_what_is_no_image_is_passed_over(touch: Touch) -> None:
    root = touch("a/1.png", "a/notes.txt", "a/1.jpg.json", ".git/x", "labels.csv", "README", "Thumbs.db")
    (root / "a" / "folder.png").mkdir()
    found = read(root)
    assert (ids(found), found.left_out) == (["a/1.png"], ())


def test_links_are_followed_and_never_in_circles(touch: Touch, tmp_path: Path) -> None:
    root = touch("a/1.png")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "2.png").write_bytes(b"2")
    (root / "b").symlink_to(elsewhere)
    (root / "a" / "3.png").symlink_to(elsewhere / "2.png")
    (root / "a" / "gone.png").symlink_to(elsewhere / "nothing.png")
    (root / "a" / "back").symlink_to(root)
    found = read(root)
    assert ids(found) == ["a/1.png", "a/3.png", "b/2.png"]
    assert [one.path for one in found.left_out] == [str(root / "a" / "gone.png")]


def test_the_digest_tells_whether_the_files_are_the_same(touch: Touch) -> None:
    root = touch("a/1.png", "b/2.png")
    first = read(root).digest
    assert read(root).digest == read(root, "id", "other").digest == first
    os.utime(root / "a/1.png", ns=(1, 1))
    touched = read(root).digest
    (root / "a/1.png").write_bytes(b"longer than it was")
    os.utime(root / "a/1.png", ns=(1, 1))
    longer = read(root).digest
    (root / "b/2.png").rename(root / "b/3.png")
    assert len({first, touched, longer, read(root).digest}) == 4


def test_missing_empty_and_mistaken_paths_are_refused_by_name(touch: Touch, tmp_path: Path) -> None:
    root = touch("a/notes.md", "b/1.png")
    for path, said in (
        (tmp_path / "nowhere", "set 'near': there is no folder, no image list and no tar at .*nowhere"),
        (root / "a", "no image in .*a; it looks for"),
        (root / "b" / "1.png", "is a single image"),
    ):
        with pytest.raises(SetupError, match=said):
            read(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may list every folder")
def test_a_folder_that_may_not_be_listed_is_refused(touch: Touch) -> None:
    root = touch("a/1.png")
    (root / "a").chmod(0)
    with pytest.raises(SetupError, match="cannot list the folder"):
        read(root)


# ---- image lists


def listed(root: Path, content: str) -> Path:
    path = root / "list.txt"
    path.write_text(content, encoding="utf-8")
    return path


def subset(root: Path, names: str, how: str = "keep", **source: Any) -> ImageSet:
    path = root.parent / "names.txt"
    path.write_text(names, encoding="utf-8")
    config = SourceConfig(**{"path": root, **source, how: path})
    return read_images(config, name="near", role="outlier", split="feedback", seed=0)


def test_a_clean_subset_keeps_or_drops_the_images_that_a_file_names(touch: Touch) -> None:
    root = touch("a/1.png", "a/2.png", "b/1.png", "b/3 c.png", "b/4.heic")
    names = '# clean\n\nset/a/1.png 0\n  2.png\n"b/3 c.png"\n'
    kept, dropped = subset(root, names), subset(root, names, "drop")
    assert ids(kept) == ["a/1.png", "a/2.png", "b/3 c.png"]
    assert ids(dropped) == ["b/1.png"]
    assert labels(dropped) == ["b"]
    reasons = [[(Path(one.path).name, one.reason) for one in images.left_out] for images in (kept, dropped)]
    unread = ("4.heic", "Pillow does not read .heic")
    assert reasons[0] == [unread, ("1.png", "not named in names.txt")]
    assert reasons[1] == [unread, *((name, "named in names.txt") for name in ("1.png", "2.png", "3 c.png"))]
    assert {one.set_name for one in kept.left_out} == {"feedback near"}
    assert len({images.digest for images in (kept, dropped, read(root))}) == 3


@pytest.mark.parametrize(
    ("names", "how", "said"),
    [
        ("a/1.png\nc/9.png\n8.png\n", "keep", r"set 'near': 2 of the 3 names in .*names.txt .* \(first: 'c/9.png'\)"),
        ("c/1.png\n", "drop", "1 of the 1 names in .* are of no image of the set"),
        ("1.png\n", "keep", r"'1.png' in .*names.txt may be 'a/1.png' or 'b/1.png'; write more of its path"),
        ("# nothing\n", "keep", "names.txt names no image"),
        ("a/1.png\n'b.png\n\"x\n", "keep", "names.txt, line 3: unbalanced quotes"),
        ("a/1.png\nb/1.png\n", "drop", "leaves no image of it"),
    ],
)
def test_a_list_of_names_that_does_not_fit_the_set_is_refused(touch: Touch, names: str, how: str, said: str) -> None:
    with pytest.raises(SetupError, match=said):
        subset(touch("a/1.png", "b/1.png"), names, how)


def test_subsets_are_of_feature_files_too_and_of_one_kind(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", features=np.eye(3, dtype=np.float32), ids=np.array(["p/1.jpg", "2.jpg", "3.jpg"]))
    (tmp_path / "names.txt").write_text("1.jpg\n3.jpg\n")

    def found(**given: Any) -> ImageSet:
        config = make_config(tmp_path, data={"id": "id", "ood": [{"name": "far", "features": "x.npz", **given}]})
        return read_images(config.data.ood[0], name="far", role="outlier", split="feedback", seed=0)

    assert ids(found(keep="names.txt")) == ["p/1.jpg", "3.jpg"]
    assert read_feature_set(found(drop="names.txt"), dim=3).features.tolist() == [[0, 1, 0]]
    with pytest.raises(SetupError, match="give keep or drop, not both"):
        found(keep="names.txt", drop="names.txt")
    with pytest.raises(SetupError, match="the built-in world is clean"):
        make_config(data={"id": "id", "ood": [{"name": "near", "builtin": "miniworld", "keep": "names.txt"}]})
    with pytest.raises(SetupError, match=r"leave it out of \[data.id\]"):
        make_config(data={"id": {"path": "id", "distance": "near"}, "ood": {"far": "far"}})


def test_a_list_names_images_with_optional_labels(touch: Touch, tmp_path: Path) -> None:
    root = touch("1.png", "sub/2.jpg", "with blanks 3.png", "4 tab.png", "any.name", "o'clock.png", "#5.png")
    (tmp_path / "outside.png").write_bytes(b"")
    path = listed(
        root,
        "\ufeff# a comment\r\n\n"
        "1.png cat\n"
        "sub/2.jpg   golden retriever  \n"
        '"with blanks 3.png" "tabby cat"\n'
        "4 tab.png\tsea lion\n"
        "  any.name  \n"
        "o'clock.png clock\n"
        '"#5.png" five\n'
        "../outside.png dog\n",
    )
    found = read(path)
    assert ids(found) == [
        "1.png",
        "sub/2.jpg",
        "with blanks 3.png",
        "4 tab.png",
        "any.name",
        "o'clock.png",
        "#5.png",
        (tmp_path / "outside.png").as_posix(),
    ]
    assert labels(found) == ["cat", "golden retriever", "tabby cat", "sea lion", "", "clock", "five", "dog"]
    assert found.samples[1].path == str(root / "sub/2.jpg")
    assert ids(read(listed(root, f"{root}/./sub/../1.png cat"), "id")) == ["1.png"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("1.png a\nnone.png b\nnothing.png c", r"2 of 3 images do not exist \(first: line 2, '.*none.png'\)"),
        ("with blanks 3.png", "blanks in one need double quotes"),
        ("1.png a\n\n./1.png b", "line 3: '1.png' stands in line 1 already"),
        ('"1.png a', "line 1: unbalanced quotes"),
        ("# nothing\n", "names no image"),
        ("1.png a\x00b\n1\x00.png", "do not exist|NUL"),
        ("sub", "do not exist"),
    ],
)
def test_a_list_that_points_nowhere_is_refused_with_its_line(touch: Touch, content: str, said: str) -> None:
    root = touch("1.png", "sub/2.jpg", "with blanks 3.png")
    with pytest.raises(SetupError, match=said):
        read(listed(root, content))


def test_an_openood_list_is_relative_to_a_data_folder_and_has_class_indices(touch: Touch, tmp_path: Path) -> None:
    root = touch("val/1.png", "val/2.png", "ninco/3.png")
    lists = tmp_path / "lists"
    lists.mkdir()
    path = lists / "test.txt"
    path.write_text("val/1.png 2\nval/2.png 0\n")
    source = SourceConfig(path=path, root=root)
    known = read_images(source, name="id", role="id", split="fit", seed=0, classes=("a", "b", "c"))
    assert (ids(known), labels(known)) == (["val/1.png", "val/2.png"], ["c", "a"])
    assert known.samples[0].path == str(root / "val/1.png")
    path.write_text("ninco/3.png -1\n")
    assert labels(read_images(source, name="ninco", role="outlier", split="feedback", seed=0)) == [""]
    with pytest.raises(SetupError, match=r"1 label\(s\) out of range \(first: label -1, of .*ninco/3.png\).* 0 to 2"):
        read_images(source, name="id", role="id", split="fit", seed=0, classes=("a", "b", "c"))
    path.write_text("ninco/4.png -1\n")
    with pytest.raises(SetupError, match=r"paths are relative to .*set, and blanks"):
        read_images(source, name="ninco", role="outlier", split="feedback", seed=0)
    with pytest.raises(SetupError, match=r"no folder at .*nowhere, the root of the image list"):
        read_images(
            SourceConfig(path=path, root=tmp_path / "nowhere"), name="x", role="outlier", split="feedback", seed=0
        )
    with pytest.raises(SetupError, match="root goes with an image list"):
        read_images(SourceConfig(path=root, root=root), name="x", role="outlier", split="feedback", seed=0)


def test_an_id_list_needs_labels_and_any_list_must_be_text(touch: Touch) -> None:
    root = touch("1.png", "2.png")
    with pytest.raises(SetupError, match=r"1 image\(s\) .* no label \(first: '2.png'\)"):
        read(listed(root, "1.png cat\n2.png"), "id")
    (root / "list.bin").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(SetupError, match=r"cannot read the list of images .*list.bin"):
        read(root / "list.bin")


def test_a_label_that_changes_in_a_list_changes_the_digest(touch: Touch) -> None:
    root = touch("1.png")
    assert read(listed(root, "1.png cat")).digest != read(listed(root, "1.png dog")).digest


# ---- the mini-world


@pytest.fixture
def small_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The mini-world that `builtin` draws, with two images per set instead of hundreds."""
    sizes = Sizes(1, *[2] * 10)
    root = tmp_path / "world"
    monkeypatch.setattr(sources, "default_root", lambda seed: root / str(seed))
    monkeypatch.setattr(sources, "build", partial(build, sizes=sizes, workers=1))
    return root


def test_the_mini_world_is_drawn_where_it_is_missing(small_world: Path) -> None:
    source = SourceConfig(builtin="miniworld")
    fit = read_images(source, name="whatever", role="id", split="fit", seed=3)
    assert (fit.name, len(fit.samples)) == ("whatever", 16)
    assert set(labels(fit)) == set(Listing().miniworld(3).classes)
    near = Listing().images(source, name="near", role="outlier", split="test", seed=3, classes=())
    assert len(near.samples) == 2
    assert Path(near.samples[0].path).is_relative_to(small_world / "3" / "test" / "near")
    with pytest.raises(SetupError, match="no set 'nera'; did you mean 'near'"):
        Listing().images(source, name="nera", role="outlier", split="test", seed=3, classes=())
    with pytest.raises(SetupError, match=r"split 'feedback' .* has no set 'near_unseen'"):
        read_images(source, name="near_unseen", role="outlier", split="feedback", seed=3)
    assert classes_of("dataset", fit="miniworld", id="miniworld", seed=3) == Listing().miniworld(3).classes


# ---- halves


def test_half_of_each_class_is_held_out_and_the_seed_alone_decides_which(touch: Touch) -> None:
    root = touch(*(f"{label}/{i}.png" for label, n in (("a", 10), ("b", 5), ("c", 1)) for i in range(n)))
    images = read_images(SourceConfig(path=root), name="id", role="id", split="fit", seed=0)
    halves = hold_out(images, seed=0)
    assert {label: labels(halves.fit).count(label) for label in "abc"} == {"a": 5, "b": 3, "c": 1}
    assert {label: labels(halves.held_out).count(label) for label in "abc"} == {"a": 5, "b": 2, "c": 0}
    assert sorted(ids(halves.fit) + ids(halves.held_out)) == sorted(ids(images))
    assert (halves.fit.split, halves.held_out.split) == ("fit", "feedback")
    assert halves == hold_out(images, seed=0)
    backwards = ImageSet("id", "fit", "id", images.samples[::-1], images.digest)
    assert set(ids(hold_out(backwards, seed=0).fit)) == set(ids(halves.fit))
    other = hold_out(images, seed=1)
    assert set(ids(other.fit)) != set(ids(halves.fit))
    assert len({images.digest, *(half.digest for pair in (halves, other) for half in pair)}) == 5


def test_one_image_per_class_leaves_nothing_to_hold_out(touch: Touch) -> None:
    with pytest.raises(SetupError, match="one image per class"):
        hold_out(read(touch("a/1.png", "b/1.png")), seed=0)


# ---- classes


def classes_of(names: str | Path, *, seed: int = 0, **sources: Any) -> tuple[str, ...]:
    config = make_config(classes={"names": names}, data={"id": "nowhere", "ood": {"near": "nowhere"}} | sources)
    return read_classes(config.classes, config.data, seed=seed)


def test_a_class_list_is_one_name_per_line_in_its_order(tmp_path: Path) -> None:
    path = tmp_path / "classes.txt"
    path.write_text("\ufeffzebra\r\n golden retriever \ncafé", encoding="utf-8")
    assert classes_of(path) == ("zebra", "golden retriever", "café")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("cat\n\ndog\n \n", r"blank lines \(2, 4\)"),
        ("cat\ndog\ncat\nowl\ncat ", r"names 'cat' more than once \(lines 1, 3, 5\)"),
        ("a\nb\na\nb", "and 1 more name"),
        ("\n" * 9 + "a", r"\(1, 2, 3, 4, 5, ...\)"),
        ("", "is empty"),
        (" \n", "is empty"),
    ],
)
def test_a_class_list_with_blank_or_repeated_lines_is_refused_with_their_numbers(
    tmp_path: Path, content: str, said: str
) -> None:
    (tmp_path / "classes.txt").write_text(content, encoding="utf-8")
    with pytest.raises(SetupError, match=said):
        classes_of(tmp_path / "classes.txt")


def test_a_class_list_that_is_not_there_or_is_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r'no class list at .*datset; .*"dataset"'):
        classes_of(tmp_path / "datset")
    (tmp_path / "c.txt").write_bytes(b"caf\xe9")
    with pytest.raises(SetupError, match="UTF-8"):
        classes_of(tmp_path / "c.txt")


def test_dataset_means_the_folders_of_the_fit_images_else_of_the_known_test_images(
    touch: Touch, tmp_path: Path
) -> None:
    root = touch("fit/dog/1.png", "fit/cat/1.png", "fit/.cache/1.png", "fit/read.me", "test/owl/1.png", "flat/1.png")
    assert classes_of("dataset", fit=root / "fit", id=root / "test") == ("cat", "dog")
    assert classes_of("dataset", id=root / "test") == ("owl",)
    assert classes_of("dataset", id=listed(root, "fit/dog/1.png wolf\nfit/cat/1.png lynx")) == ("lynx", "wolf")
    with pytest.raises(SetupError, match="no class folders"):
        classes_of("dataset", id=root / "flat")


def test_the_imagenet_list_has_a_thousand_different_names() -> None:
    names = classes_of("imagenet1k")
    assert len(set(names)) == len(names) == 1000
    assert (names[0], names[657], names[744]) == ("tench", "missile", "projectile")


def test_a_class_list_is_found_relative_to_the_configuration(tmp_path: Path) -> None:
    assert make_config(tmp_path, classes={"names": "lists/classes.txt"}).classes.names == tmp_path / "lists/classes.txt"
    assert make_config(tmp_path, classes={"names": "dataset"}).classes.names == "dataset"


def test_a_template_takes_every_name_as_it_is() -> None:
    assert fill_template("a photo of a {}.", ["cat", "{0} & {}"]) == ["a photo of a cat.", "a photo of a {0} & {}."]
    assert fill_template("{}", []) == []
    with pytest.raises(SetupError, match=r"'a photo of a \{name\}' has no \{\}"):
        fill_template("a photo of a {name}", ["cat"])


def test_parts_of_a_folder_are_apart_by_what_the_images_hold(touch: Touch, monkeypatch: pytest.MonkeyPatch) -> None:
    root = touch(*(f"{i}.png" for i in range(40)))
    (root / "a copy.png").write_bytes((root / "7.png").read_bytes())

    def part(start: float, end: float) -> list[str]:
        source = SourceConfig(path=root, part=(start, end))
        return ids(read_images(source, name="near", role="outlier", split="feedback", seed=0))

    ends = (0.0, 0.3, 0.5, 1.0)
    parts = [part(*pair) for pair in itertools.pairwise(ends)]
    assert sorted(itertools.chain(*parts)) == sorted(path.name for path in root.iterdir())
    assert sum("7.png" in one and "a copy.png" in one for one in parts) == 1
    assert all(len(one) > 3 for one in parts)
    # The first hexadecimal digit of a hash is the sixteenth of the way that it lies at.
    digits = {name: int(hashlib.sha256((root / name).read_bytes()).hexdigest()[0], 16) for name in part(0.0, 0.5)}
    assert max(digits.values()) < 8
    monkeypatch.setattr(contents, "open_image", None)  # what was read is known
    assert [part(*pair) for pair in itertools.pairwise(ends)] == parts
    monkeypatch.undo()
    with pytest.raises(SetupError, match=r"none of the 41 images in .* falls into the part \[0\.5, 0\.5000001\]"):
        part(0.5, 0.5000001)


@pytest.mark.parametrize(
    "source",
    [{"path": "x", "part": (0.5, 0.5)}, {"features": "x.npz", "part": (0.0, 0.5)}, {"path": "x", "part": (0, 2)}],
)
def test_a_part_that_is_none_is_refused(source: dict[str, Any]) -> None:
    with pytest.raises(SetupError, match="part"):
        make_config(data={"id": source, "ood": {"near": "miniworld"}})
