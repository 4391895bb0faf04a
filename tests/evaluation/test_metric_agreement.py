"""Every metric equals an independent reference, and what scikit-learn, torchmetrics and pytorch-ood compute.

Their conventions, where they differ from ours:

scikit-learn   the same definitions; FPR95 is read off `roc_curve(drop_intermediate=False)` at the first point with
               TPR >= 0.95.
torchmetrics   takes scores outside [0, 1] for logits and puts them through a sigmoid, which may make ties: it is handed
               ranks, scaled to [0, 1]. Its average precision is ours; the curve it returns is in float32.
pytorch-ood    higher = more outlier, outliers (label < 0) are the positive class: roles swapped and scores negated. So
               its FPR95TPR is our fpr95_ood, and our fpr95_id is its FPR95TPR with the two sides exchanged. Its AUPR is
               the trapezoid under the same points of the curve whose steps ours adds up (average precision): equal
               without overlap, else apart by what the rule makes of it. Its OSCR is ours.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pytorch_ood.metrics import OODMetrics, oscr_score
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve
from torchmetrics.functional.classification import binary_auroc, binary_average_precision, binary_roc

from evaluation import metrics
from evaluation.metrics import Bools, Scores

from . import reference_metrics as reference

CLOSE = 1e-6


class Case(NamedTuple):
    known: Scores
    right: Bools
    outliers: Scores


def make_case(kind: str, n: int, m: int, seed: int) -> Case:
    rng = np.random.default_rng(seed)
    known, outliers = rng.normal(0.5, 1, n), rng.normal(0, 1, m)
    if kind == "tied":
        known, outliers = np.round(known * 2) / 2, np.round(outliers * 2) / 2
    elif kind == "constant":
        known, outliers = np.full(n, 0.25), np.full(m, 0.25)
    elif kind == "separated":
        known, outliers = known + 100, outliers - 100
    elif kind == "upside down":
        known, outliers = known - 100, outliers + 100
    return Case(known, rng.random(n) < 0.7, outliers)


KINDS = ["random", "tied", "constant", "separated", "upside down"]
SIZES = [(1, 1), (1, 37), (37, 1), (37, 37), (1000, 37), (37, 1000)]
CASES = [pytest.param(make_case(kind, n, m, 7), id=f"{kind}-{n}-{m}") for kind in KINDS for n, m in SIZES]
CASES += [pytest.param(make_case(kind, 300, 300, 8), id=f"{kind}-300-300") for kind in ("random", "tied")]

few = st.integers(-3, 3).map(lambda v: v / 4)
many = st.floats(-1, 1, allow_nan=False, width=32)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    values = draw(st.sampled_from([few, many]))
    known = draw(st.lists(values, min_size=1, max_size=37))
    outliers = draw(st.lists(values, min_size=1, max_size=37))
    right = draw(st.lists(st.booleans(), min_size=len(known), max_size=len(known)))
    return Case(np.array(known, dtype=float), np.array(right, dtype=bool), np.array(outliers, dtype=float))


def measured(case: Case) -> dict[str, float]:
    known, right, outliers = case
    found = {
        name: getattr(metrics, name)(known, outliers)
        for name in ("auroc", "aupr_in", "aupr_out", "fpr95_id", "fpr95_ood")
    }
    accuracy = metrics.id_accuracy(right.astype(np.int64), np.ones(right.size, np.int64))
    return found | {
        "id_accuracy": accuracy,
        "h_score": metrics.h_score(accuracy, found["auroc"]),
        "oscr": metrics.oscr(known, right, outliers),
    }


def expected(case: Case) -> dict[str, float]:
    known, right, outliers = list(case.known), list(case.right), list(case.outliers)
    accuracy = sum(right) / len(right)
    return {
        "auroc": reference.auroc(known, outliers),
        "aupr_in": reference.aupr_in(known, outliers),
        "aupr_out": reference.aupr_out(known, outliers),
        "fpr95_id": reference.fpr95_id(known, outliers),
        "fpr95_ood": reference.fpr95_ood(known, outliers),
        "id_accuracy": accuracy,
        "h_score": reference.h_score(accuracy, reference.auroc(known, outliers)),
        "oscr": reference.oscr(known, right, outliers),
    }


@pytest.mark.parametrize("case", CASES)
def test_every_metric_equals_the_reference(case: Case) -> None:
    assert measured(case) == pytest.approx(expected(case), abs=CLOSE)


@given(cases())
def test_every_metric_equals_the_reference_on_whatever_hypothesis_finds(case: Case) -> None:
    assert measured(case) == pytest.approx(expected(case), abs=CLOSE)


@given(cases(), few)
def test_what_is_deployed_equals_the_reference(case: Case, threshold: float) -> None:
    found = metrics.deployed(*case, threshold)
    wanted = reference.deployed(list(case.known), list(case.right), list(case.outliers), threshold)
    assert found[:3] == pytest.approx(wanted[:3], abs=CLOSE)
    assert found.accepted_accuracy == (None if wanted[3] is None else pytest.approx(wanted[3], abs=CLOSE))


# ---- scikit-learn


@pytest.mark.parametrize("case", CASES)
def test_scikit_learn(case: Case) -> None:
    known, _, outliers = case
    truth, both = np.r_[np.ones(known.size), np.zeros(outliers.size)], np.r_[known, outliers]

    def fpr95(positive: NDArray[Any], scores: Scores) -> float:
        fpr, tpr, _ = roc_curve(positive, scores, drop_intermediate=False)
        return float(fpr[np.argmax(tpr >= 0.95)])

    found = measured(case)
    assert found["auroc"] == pytest.approx(roc_auc_score(truth, both), abs=CLOSE)
    assert found["aupr_in"] == pytest.approx(average_precision_score(truth, both), abs=CLOSE)
    assert found["aupr_out"] == pytest.approx(average_precision_score(1 - truth, -both), abs=CLOSE)
    assert found["fpr95_id"] == pytest.approx(fpr95(truth, both), abs=CLOSE)
    assert found["fpr95_ood"] == pytest.approx(fpr95(1 - truth, -both), abs=CLOSE)


# ---- torchmetrics


@pytest.mark.parametrize("case", CASES)
def test_torchmetrics(case: Case) -> None:
    known, _, outliers = case
    both = np.r_[known, outliers]
    ranks = np.unique(both, return_inverse=True)[1].reshape(-1) / both.size
    truth = torch.tensor(np.r_[np.ones(known.size), np.zeros(outliers.size)], dtype=torch.int64)
    up, down = torch.tensor(ranks), torch.tensor(1 - ranks)

    def fpr95(positive: torch.Tensor, scores: torch.Tensor) -> float:
        fpr, tpr, _ = binary_roc(scores, positive)
        # float32: a share that is 0.95 exactly may come out as 0.94999999
        return float(fpr[int(torch.argmax((tpr >= 0.95 - 1e-6).int()))])

    found = measured(case)
    assert found["auroc"] == pytest.approx(float(binary_auroc(up, truth)), abs=CLOSE)
    assert found["aupr_in"] == pytest.approx(float(binary_average_precision(up, truth)), abs=CLOSE)
    assert found["aupr_out"] == pytest.approx(float(binary_average_precision(down, 1 - truth)), abs=CLOSE)
    assert found["fpr95_id"] == pytest.approx(fpr95(truth, up), abs=CLOSE)
    assert found["fpr95_ood"] == pytest.approx(fpr95(1 - truth, down), abs=CLOSE)


# ---- pytorch-ood


def ood_metrics(inliers: Scores, positives: Scores) -> dict[str, float]:
    """Its metrics of outlier scores (higher = more outlier)."""
    scores = np.r_[inliers, positives]
    labels = np.r_[np.zeros(inliers.size), -np.ones(positives.size)]
    return OODMetrics().update(torch.tensor(scores), torch.tensor(labels, dtype=torch.int64)).compute()


@pytest.mark.filterwarnings("ignore:AUTC is undefined:UserWarning")  # a metric of theirs that constant scores have not
@pytest.mark.parametrize("case", CASES)
def test_pytorch_ood(case: Case) -> None:
    known, right, outliers = case
    theirs, exchanged, ours = ood_metrics(-known, -outliers), ood_metrics(outliers, known), measured(case)
    assert ours["auroc"] == pytest.approx(theirs["AUROC"], abs=CLOSE)
    assert ours["fpr95_ood"] == pytest.approx(theirs["FPR95TPR"], abs=CLOSE)
    assert ours["fpr95_id"] == pytest.approx(exchanged["FPR95TPR"], abs=CLOSE)
    labels = torch.tensor(np.r_[np.zeros(known.size), -np.ones(outliers.size)], dtype=torch.int64)
    predictions = torch.tensor(np.r_[np.where(right, 0, 1), np.zeros(outliers.size)], dtype=torch.int64)
    oscr = oscr_score(torch.tensor(-np.r_[known, outliers]), predictions, labels)
    assert ours["oscr"] == pytest.approx(oscr, abs=CLOSE)


@pytest.mark.filterwarnings("ignore:AUTC is undefined:UserWarning")
@pytest.mark.parametrize("case", CASES)
def test_pytorch_ood_draws_lines_where_average_precision_takes_steps(case: Case) -> None:
    known, _, outliers = case
    theirs, ours = ood_metrics(-known, -outliers), measured(case)
    a, b = list(known), list(outliers)
    assert theirs["AUPR-IN"] == pytest.approx(reference.trapezoid_under_precision(a, b), abs=CLOSE)
    assert theirs["AUPR-OUT"] == pytest.approx(
        reference.trapezoid_under_precision([-o for o in b], [-k for k in a]), abs=CLOSE
    )
    if known.min() > outliers.max():
        assert ours["aupr_in"] == pytest.approx(theirs["AUPR-IN"], abs=CLOSE)
        assert ours["aupr_out"] == pytest.approx(theirs["AUPR-OUT"], abs=CLOSE)


@settings(max_examples=30)
@given(cases())
@pytest.mark.filterwarnings("ignore:AUTC is undefined:UserWarning")
def test_the_two_fpr95_are_those_of_the_two_camps(case: Case) -> None:
    found = measured(case)
    assert found["fpr95_ood"] == pytest.approx(ood_metrics(-case.known, -case.outliers)["FPR95TPR"], abs=CLOSE)
    assert found["fpr95_id"] == pytest.approx(ood_metrics(case.outliers, case.known)["FPR95TPR"], abs=CLOSE)
