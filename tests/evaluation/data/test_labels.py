"""Labels as people write them become class names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import pytest

from evaluation.data.labels import imagenet_names, imagenet_synsets, resolve_labels
from immuno_core.errors import SetupError
from immuno_core.records import Sample


def resolve(labels: Sequence[str], classes: Sequence[str], role: Literal["id", "outlier"] = "id") -> list[str]:
    samples = tuple(Sample(str(i), f"/{i}", label) for i, label in enumerate(labels))
    return [sample.label for sample in resolve_labels(samples, classes, role=role, name="set")]


def test_names_stay_and_so_does_what_is_neither_name_nor_index() -> None:
    assert resolve(["b", "a"], ("a", "b")) == ["b", "a"]
    assert resolve(["b", "x"], ("a", "b")) == ["b", "x"]
    assert resolve(["1", "x"], ("a", "b")) == ["1", "x"]
    assert resolve(["1", "0"], ()) == ["1", "0"]


def test_underscores_are_blanks_where_the_class_list_has_those() -> None:
    assert resolve(["fire_truck", "dog"], ("dog", "fire truck")) == ["fire truck", "dog"]
    assert resolve(["fire_truck", "dog"], ("dog", "fire_truck")) == ["fire_truck", "dog"]
    assert resolve(["fire_truck", "cat"], ("dog", "fire truck")) == ["fire_truck", "cat"]


def test_integers_are_places_unless_the_classes_are_called_so() -> None:
    assert resolve(["1", "0", "1"], ("a", "b")) == ["b", "a", "b"]
    assert resolve(["1", "0"], ("1", "0")) == ["1", "0"]


@pytest.mark.parametrize("label", ["2", "-1", "999999999"])
def test_an_index_out_of_range_is_refused_with_the_range(label: str) -> None:
    with pytest.raises(
        SetupError, match=rf"set 'set': 1 label\(s\) out of range \(first: label {label}, of .*1\).*0 to 1"
    ):
        resolve(["0", label], ("a", "b"))


def test_minus_one_means_no_class_for_an_outlier_and_other_labels_stay() -> None:
    assert resolve(["-1", "-1"], ("a", "b"), "outlier") == ["", ""]
    assert resolve(["1", "whale", "-1"], ("a", "b"), "outlier") == ["1", "whale", ""]


def test_wordnet_ids_of_imagenet_are_its_classes() -> None:
    names = imagenet_names()
    assert len(set(names)) == len(imagenet_synsets()) == 1000
    assert resolve(["n01440764", "n15075141"], names) == ["tench", names[999]]
    other_names = [f"class {i}" for i in range(1000)]
    assert resolve(["n01443537"], other_names) == ["class 1"]
    assert resolve(["n01440764", "n00000000"], names) == ["n01440764", "n00000000"]  # not of ImageNet-1K
    assert resolve(["n01440764"], names[:999]) == ["n01440764"]  # not a list of its 1,000 classes
    assert resolve(["n01440764"], names, "outlier") == ["n01440764"]  # ImageNet-O's folders are no ID labels
