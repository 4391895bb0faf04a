"""Before anything is computed, everything that is wrong with the data is said at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluation.data.checks import check_sources
from tests.configs import make_config

from .archives import directions, write_tar


def problems(folder: Path, data: dict[str, Any], **sections: Any) -> list[str]:
    (folder / "classes.txt").write_text("cat\ndog\n")
    return check_sources(make_config(folder, **{"classes": {"names": "classes.txt"}, "data": data} | sections))


def images(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"1")


def test_nothing_is_said_where_all_is_well(tmp_path: Path) -> None:
    images(tmp_path, "id/cat/1.jpg", "id/dog/1.jpg", "fit/cat/2.jpg", "fit/dog/2.jpg", "near/1.jpg")
    write_tar(tmp_path / "000.tar", [("1.jpg", b"1")])
    data = {
        "fit": {"path": "fit"},
        "id": {"path": "id", "expected": 2},
        "ood": [{"name": "near", "path": "near", "expected": 1}, {"name": "far", "path": "{000..000}.tar"}],
        "feedback": [{"name": "drawn", "builtin": "miniworld"}],
    }
    assert problems(tmp_path, data) == []


def test_all_problems_of_all_sets_are_listed(tmp_path: Path) -> None:
    images(tmp_path, "id/cat/1.jpg", "id/dogg/1.jpg", "near/1.jpg", "near/2.jpg")
    (tmp_path / "list.txt").write_text("near/1.jpg\nnear/3.jpg\n")
    (tmp_path / "cut.tar").write_bytes(write_tar(tmp_path / "x.tar", [("1.jpg", b"1" * 5000)]).read_bytes()[:2000])
    bad = directions(4)
    bad[2] = 0
    np.savez(tmp_path / "zero.npz", features=bad)
    data = {
        "fit": {"path": "nothing"},
        "feedback_id": {"path": "near"},
        "id": {"path": "id", "expected": 50000},
        "ood": [
            {"name": "near", "path": "near", "expected": 3},
            {"name": "list", "path": "list.txt"},
            {"name": "tar", "path": "cut.tar"},
            {"name": "zero", "features": "zero.npz"},
        ],
        "feedback": [{"name": "tars", "path": "{000..003}.tar"}],
    }
    found = problems(tmp_path, data)
    expected = [
        "set 'data.fit': there is no folder, no image list and no tar at",
        "set 'data.feedback_id': 2 image(s) in",
        "4 of the 4 tars of",
        "set 'data.id': 2 images in",
        "set 'data.id': 1 of its 2 labels are not in the class list, 'dogg' among them; did you mean 'dog'?",
        "set 'data.ood near': 2 images in",
        "1 of 2 images do not exist",
        "truncated or damaged|not a whole",
        "1 row(s) of `features` are all zeros (first: row 2)",
    ]
    assert len(found) == len(expected), found
    for line, parts in zip(found, expected, strict=True):
        assert any(part in line for part in parts.split("|")), (line, parts)
        assert "\n" not in line
    assert "expected 50000" in found[3]
    assert "expected 3" in found[5]


def test_a_missing_class_list_is_one_of_the_problems(tmp_path: Path) -> None:
    images(tmp_path, "id/cat/1.jpg")
    data = {"id": {"path": "id"}, "ood": [{"name": "near", "path": "nowhere"}]}
    found = problems(tmp_path, data, classes={"names": "clases.txt"})
    assert ["no class list at" in found[0], "there is no folder" in found[1], len(found)] == [True, True, 2]
    assert len(problems(tmp_path, data, classes={"names": "dataset"})) == 1


def test_a_precomputed_encoder_needs_its_table_and_embeddings_of_its_size(tmp_path: Path) -> None:
    images(tmp_path, "near/1.jpg")
    np.savez(tmp_path / "id.npz", features=directions(2), labels=np.array([0, 1]))
    np.savez(tmp_path / "far.npz", features=directions(2, dim=9))
    np.savez(tmp_path / "texts.npz", features=directions(2), texts=np.array(["a cat", "a dog"]))
    data = {
        "id": {"features": "id.npz"},
        "ood": [{"name": "near", "path": "near"}, {"name": "far", "features": "far.npz"}],
    }
    found = problems(tmp_path, data, encoder={"kind": "precomputed", "texts": "texts.npz"})
    assert "'data.ood near' has images, which an encoder of kind precomputed cannot embed" in found[0]
    assert "far.npz has vectors of 9 dimensions, the texts have 8" in found[1]
    assert len(found) == 2
    gone = problems(tmp_path, data, encoder={"kind": "precomputed", "texts": "gone.npz"})
    assert "cannot read the embeddings in" in gone[0]


def test_a_file_that_is_open_and_sealed_is_found_before_the_seal_is_broken(tmp_path: Path) -> None:
    images(tmp_path, "all/cat/1.jpg", "all/dog/2.jpg", "fit/cat/3.jpg", "fit/dog/3.jpg", "near/1.jpg")
    (tmp_path / "fit" / "cat" / "1.jpg").symlink_to(tmp_path / "all" / "cat" / "1.jpg")
    data = {"fit": {"path": "fit"}, "id": {"path": "all"}, "ood": [{"name": "near", "path": "near"}]}
    (line,) = problems(tmp_path, data)
    assert "1 image(s) of data.id are in data.fit too" in line
    assert 'overlap = "drop"' in line
    assert problems(tmp_path, {**data, "overlap": "drop"}) == []


def test_files_in_two_sets_that_must_be_apart_are_found_and_outlier_sets_of_the_test_may_share(tmp_path: Path) -> None:
    images(tmp_path, "fit/cat/1.jpg", "fit/dog/2.jpg", "id/cat/3.jpg", "id/dog/4.jpg", "near/1.jpg")
    ood = [{"name": "near", "path": "near"}, {"name": "again", "path": "near"}]
    data: dict[str, Any] = {"fit": {"path": "fit"}, "id": {"path": "id"}, "ood": ood}
    assert problems(tmp_path, data) == []
    both = [{"name": "a", "path": "fit/cat"}, {"name": "b", "path": "fit"}]
    assert [
        line.partition("(")[0] + line.partition(")")[2].partition("(")[0]
        for line in problems(tmp_path, {**data, "feedback_id": {"path": "fit"}, "feedback": both})
    ] == [
        "2 image of data.feedback_id are in data.fit too ",
        "1 image of data.feedback a are in data.fit too ",
        "1 image of data.feedback a are in data.feedback_id too ",
        "2 image of data.feedback b are in data.fit too ",
        "2 image of data.feedback b are in data.feedback_id too ",
        "1 image of data.feedback b are in data.feedback a too ",
    ]
    (line,) = problems(tmp_path, {**data, "ood": [{"name": "near", "path": "id/cat"}]})
    assert line.startswith("1 image(s) of data.ood near are in data.id too")


def test_labels_of_the_test_are_compared_with_those_of_the_fit_set(tmp_path: Path) -> None:
    images(tmp_path, "fit/cat/1.jpg", "fit/cat/2.jpg", "id/cat/3.jpg", "id/owl/4.jpg", "near/1.jpg")
    data = {"fit": {"path": "fit"}, "id": {"path": "id"}, "ood": [{"name": "near", "path": "near"}]}
    (line,) = problems(tmp_path, data, classes={"names": "dataset"})
    assert "set 'data.id': 1 of its 2 labels are not in the class list, 'owl' among them" in line


@pytest.mark.parametrize("names", ["classes.txt", "dataset"])
@pytest.mark.parametrize("fit", [True, False])
def test_a_class_without_an_image_is_refused_unless_it_is_allowed(tmp_path: Path, names: str, fit: bool) -> None:
    images(tmp_path, "fit/cat/1.jpg", "id/cat/3.jpg", "near/1.jpg")
    for name in ("fit", "id"):
        (tmp_path / name / "dog").mkdir()
        (tmp_path / name / "dog" / "notes.txt").write_text("no image")
    data: dict[str, Any] = {"id": {"path": "id"}, "ood": [{"name": "near", "path": "near"}]}
    if fit:
        data["fit"] = {"path": "fit"}
    found = problems(tmp_path, data, classes={"names": names})
    # A list may name classes that the test has no image of; a folder without any is no class.
    assert len(found) == (1 if fit or names == "dataset" else 0)
    for line in found:
        assert f"1 of 2 known class(es) have no image in {tmp_path / ('fit' if fit else 'id')} (first: 'dog')" in line
        assert "allow_empty = true" in line
    assert problems(tmp_path, data, classes={"names": names, "allow_empty": True}) == []


def test_a_wrong_number_of_images_is_explained_by_what_was_left_out(tmp_path: Path) -> None:
    images(tmp_path, "id/cat/1.jpg", "id/dog/1.heic", "id/dog/2.jpg", "near/1.jpg")
    data = {"id": {"path": "id", "expected": 3}, "ood": [{"name": "near", "path": "near"}]}
    (line,) = problems(tmp_path, data)
    assert f"2 images in {tmp_path / 'id'}, expected 3" in line
    assert f"1: Pillow does not read .heic ({tmp_path / 'id/dog/1.heic'})" in line


def test_numbers_are_no_class_names(tmp_path: Path) -> None:
    images(tmp_path, "id/0/1.jpg", "id/1/2.jpg", "near/1.jpg")
    data = {"id": {"path": "id"}, "ood": [{"name": "near", "path": "near"}]}
    (line,) = problems(tmp_path, data, classes={"names": "dataset"})
    assert "are numbers, not names; name a class list in [classes] names" in line
