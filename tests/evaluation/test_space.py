"""A space holds together, or says what is wrong before anything is computed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from evaluation.space import Bank, Space
from immuno_core.errors import SetupError

from .synthetic import bank_of, feature_set, make_space, unit_rows

RNG = np.random.default_rng(0)
NAN = unit_rows(RNG, 5, 8)
NAN[3, 2] = np.nan


def changed(**changes: Any) -> Space:
    return replace(make_space(0, fit=20), **changes)


def test_fit_images_and_antibodies_are_optional() -> None:
    assert changed(fit=None, fit_labels=None, bank=Bank.empty(8)).dim == 8
    assert changed(classes=("only",), texts=unit_rows(RNG, 1, 8), fit_labels=np.zeros(20, np.int64)).dim == 8


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"texts": NAN}, r"class texts: 1 row\(s\) hold NaN or infinity \(first: row 3\)"),
        ({"texts": np.zeros((5, 8), np.float32)}, "class texts: 5 row.* unit norm .*norm 0"),
        ({"texts": unit_rows(RNG, 5, 8)[0]}, "class texts: an array of shape"),
        ({"texts": unit_rows(RNG, 4, 8)}, r"5 class name\(s\) with 4 text embedding"),
        ({"classes": (), "texts": np.zeros((0, 8), np.float32)}, "0 class name"),
        ({"classes": ("a", "b", "c", "a", "d")}, "names a class twice"),
        ({"logit_scale": 0.0}, "logit scale is 0.0"),
        ({"logit_scale": float("nan")}, "logit scale is nan"),
        ({"bank": Bank.empty(7)}, "antibody vectors: vectors of 7 dimensions where the class texts have 8"),
        ({"bank": bank_of(unit_rows(RNG, 2, 9))}, "9 dimensions"),
        ({"fit_labels": None}, "give both or neither"),
        ({"fit": None}, "give both or neither"),
        ({"fit_labels": np.zeros(19, np.int64)}, "fit set 'fit': labels of shape"),
        ({"fit_labels": np.full(20, 5)}, "labels from 5 to 5 where there are 5 classes"),
        ({"fit_labels": np.full(20, -1)}, "labels from -1"),
        ({"fit_labels": np.zeros(20)}, "float64"),
        ({"fit": feature_set(unit_rows(RNG, 20, 7), split="fit")}, "fit set 'set': vectors of 7 dimensions"),
        ({"fit": feature_set(2 * unit_rows(RNG, 20, 8), split="fit")}, "unit norm"),
        ({"fit": feature_set(unit_rows(RNG, 20, 8), split="test")}, "of the sealed test split"),
        (
            {"fit": feature_set(np.zeros((0, 8), np.float32), split="fit"), "fit_labels": np.zeros(0, np.int64)},
            "has no images",
        ),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(SetupError, match=said):
        changed(**changes)
