"""The sealed test shares no image with what was fitted or chosen on, and no outlier is a known image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluation.data.overlap import Disjoint, feedback_without_overlap, without_overlap
from immuno_core.errors import SetupError
from immuno_core.features import FeatureSet
from immuno_core.records import FailedImage

from .archives import directions


def made(name: str, split: Any, paths: Sequence[str], *, seed: int) -> FeatureSet:
    rows = directions(len(paths), seed=seed)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    ids = tuple(path.rpartition("/")[2] for path in paths)
    return FeatureSet(name, split, rows, ids, ("",) * len(paths), tuple(paths))


def numbered(name: str, split: Any, count: int, *, seed: int) -> FeatureSet:
    return made(name, split, [f"/{name}-{split}/{i}.jpg" for i in range(count)], seed=seed)


@pytest.fixture
def sets() -> dict[str, FeatureSet]:
    return {
        "fit": numbered("id", "fit", 20, seed=1),
        "feedback": numbered("near", "feedback", 20, seed=2),
        "known": numbered("id", "test", 20, seed=3),
        "near": numbered("near", "test", 20, seed=4),
        "far": numbered("far", "test", 20, seed=5),
    }


def check(sets: dict[str, FeatureSet], overlap: Any = "error") -> Disjoint:
    return without_overlap(
        sets["known"], [sets["near"], sets["far"]], open_sets=[sets["fit"], sets["feedback"]], overlap=overlap
    )


def with_row(images: FeatureSet, row: int, of: FeatureSet, other: int) -> FeatureSet:
    features = images.features.copy()
    features[row] = of.features[other]
    return replace(images, features=features)


def with_path(images: FeatureSet, row: int, path: str) -> FeatureSet:
    return replace(images, paths=(*images.paths[:row], path, *images.paths[row + 1 :]))


def test_sets_that_share_nothing_come_back_as_they_are(sets: dict[str, FeatureSet]) -> None:
    found = check(sets)
    assert (found.known, found.outliers, found.dropped) == (sets["known"], (sets["near"], sets["far"]), ())
    assert without_overlap(sets["known"], [], open_sets=[], overlap="error").known is sets["known"]


@pytest.mark.parametrize("where", ["fit", "feedback"])
@pytest.mark.parametrize("which", ["known", "near", "far"])
def test_a_test_image_that_was_seen_before_is_refused_by_file_and_by_embedding(
    sets: dict[str, FeatureSet], where: str, which: str
) -> None:
    seen = sets[where]
    by_row = {**sets, which: with_row(sets[which], 3, seen, 7)}
    said = rf"'3.jpg' of test set '{sets[which].name}' is '7.jpg' of {where} set '{seen.name}' \(the same embedding\)"
    with pytest.raises(SetupError, match=said):
        check(by_row)
    by_file = {**sets, which: with_path(sets[which], 3, seen.paths[7])}
    with pytest.raises(SetupError, match=said.replace("embedding", "file")):
        check(by_file)


def test_an_image_cannot_be_known_and_an_outlier(sets: dict[str, FeatureSet]) -> None:
    sets["far"] = with_row(sets["far"], 0, sets["known"], 19)
    with pytest.raises(SetupError, match=r"'0.jpg' of test set 'far' is '19.jpg' of test set 'id'"):
        check(sets)
    dropped = check(sets, "drop")
    assert (len(dropped.known), [len(one) for one in dropped.outliers]) == (20, [20, 19])


def test_the_error_counts_every_pair_of_sets_and_says_how_to_mend_it(sets: dict[str, FeatureSet]) -> None:
    for row in range(3):
        sets["near"] = with_row(sets["near"], row, sets["fit"], row)
    sets["far"] = with_path(sets["far"], 5, sets["feedback"].paths[0])
    with pytest.raises(SetupError) as refused:
        check(sets)
    text = str(refused.value)
    assert "3 of test set 'near' in fit set 'id' (the same embedding)" in text
    assert "1 of test set 'far' in feedback set 'near' (the same file)" in text
    assert '[data] overlap = "drop"' in text
    assert "\n" not in text


def test_dropping_leaves_out_the_test_copy_and_says_how_many(sets: dict[str, FeatureSet]) -> None:
    skipped = (FailedImage("near", "/x.jpg", "not an image"),)
    sets["near"] = replace(with_row(sets["near"], 2, sets["fit"], 0), skipped=skipped)
    sets["near"] = with_path(sets["near"], 4, sets["fit"].paths[1])
    before = sets["near"]
    found = check(sets, "drop")
    near = found.outliers[0]
    assert near.ids == tuple(f"{i}.jpg" for i in range(20) if i not in (2, 4))
    np.testing.assert_array_equal(near.features, np.delete(before.features, [2, 4], axis=0))
    assert near.skipped == skipped
    assert found.outliers[1] is sets["far"]
    assert [(one.set, one.count, one.first, one.of_set, one.how) for one in found.dropped] == [
        ("near", 1, "2.jpg", "fit set 'id'", "the same embedding"),
        ("near", 1, "4.jpg", "fit set 'id'", "the same file"),
    ]


@pytest.mark.parametrize("overlap", ["error", "drop"])
def test_sets_of_the_feedback_are_apart_from_fit_and_from_one_another(overlap: Any) -> None:
    fit, known = numbered("id", "fit", 20, seed=1), numbered("id", "feedback", 20, seed=2)
    near, far = numbered("near", "feedback", 20, seed=3), numbered("far", "feedback", 20, seed=4)
    assert feedback_without_overlap(known, [near, far], fit=fit, overlap=overlap) == (known, (near, far), ())
    known = with_row(known, 0, fit, 1)
    near = with_path(with_row(near, 2, fit, 3), 4, known.paths[5])
    far = with_row(with_row(far, 6, near, 7), 8, known, 9)
    if overlap == "error":
        with pytest.raises(
            SetupError, match=r"feedback overlaps .* '0.jpg' of feedback set 'id' is '1.jpg' of fit set"
        ):
            feedback_without_overlap(known, [near, far], fit=fit, overlap=overlap)
        return
    found = feedback_without_overlap(known, [near, far], fit=fit, overlap=overlap)
    assert [len(images) for images in (found.known, *found.outliers)] == [19, 18, 18]
    assert [(one.set, one.count, one.of_set) for one in found.dropped] == [
        ("id", 1, "fit set 'id'"),
        ("near", 1, "fit set 'id'"),
        ("near", 1, "feedback set 'id'"),
        ("far", 1, "feedback set 'near'"),
        ("far", 1, "feedback set 'id'"),
    ]


def test_a_set_of_which_nothing_is_left_is_refused(sets: dict[str, FeatureSet]) -> None:
    sets["far"] = replace(sets["fit"], name="far", split="test")
    with pytest.raises(SetupError, match="every image of test set 'far' is in another set too"):
        check(sets, "drop")


def test_outlier_sets_may_share_images_and_a_set_may_repeat_one(sets: dict[str, FeatureSet]) -> None:
    sets["far"] = with_row(with_row(sets["far"], 1, sets["near"], 1), 2, sets["near"], 1)
    assert check(sets).dropped == ()


def test_links_lead_to_the_same_file(tmp_path: Path, sets: dict[str, FeatureSet]) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "1.jpg").write_bytes(b"1")
    (tmp_path / "link.jpg").symlink_to(tmp_path / "train" / "1.jpg")
    (tmp_path / "folder").symlink_to(tmp_path / "train")
    for one, other in (("link.jpg", "train/1.jpg"), ("folder/1.jpg", "link.jpg"), ("train/1.jpg", "folder/1.jpg")):
        linked = {
            **sets,
            "fit": with_path(sets["fit"], 0, str(tmp_path / one)),
            "known": with_path(sets["known"], 0, str(tmp_path / other)),
        }
        with pytest.raises(SetupError, match="the same file"):
            check(linked)


def test_members_of_a_tar_are_told_apart(tmp_path: Path, sets: dict[str, FeatureSet]) -> None:
    (tmp_path / "x.tar").write_bytes(b"")
    (tmp_path / "y.tar").symlink_to(tmp_path / "x.tar")
    sets["fit"] = with_path(sets["fit"], 0, f"{tmp_path}/x.tar::a/1.jpg@512+10")
    sets["known"] = with_path(sets["known"], 0, f"{tmp_path}/y.tar::a/2.jpg@1536+10")
    assert check(sets).dropped == ()
    sets["known"] = with_path(sets["known"], 0, f"{tmp_path}/y.tar::a/1.jpg@512+10")
    with pytest.raises(SetupError, match="the same file"):
        check(sets)


def test_rows_that_only_look_alike_are_two_and_zero_has_one_sign(sets: dict[str, FeatureSet]) -> None:
    row = sets["fit"].features[0].copy()
    row[0] = 0.0
    features = sets["fit"].features.copy()
    features[0] = row
    sets["fit"] = replace(sets["fit"], features=features)
    almost = sets["near"].features.copy()
    almost[0] = row
    almost[0, 1] = np.nextafter(row[1], np.float32(2))
    sets["near"] = replace(sets["near"], features=almost)
    assert check(sets).dropped == ()
    almost = almost.copy()
    almost[0] = row
    almost[0, 0] = -0.0
    sets["near"] = replace(sets["near"], features=almost)
    assert check(sets, "drop").dropped[0].count == 1
