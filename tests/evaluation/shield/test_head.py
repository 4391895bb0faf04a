"""The head of a shield says what the fitted score says, as a module, exported by torch, and in onnxruntime."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from evaluation.antibodies.visual import visual_antibodies
from evaluation.scores.calibrated import Calibrated, FittedCalibrated
from evaluation.scores.registry import make_score
from evaluation.shield.head import Head, Judged
from evaluation.shield.onnx_export import head_as_onnx
from evaluation.space import Bank, Space
from immuno_core.errors import SetupError
from immuno_core.records import VISUAL
from tests.evaluation.synthetic import feature_set, held_out, make_space, outliers, unit_rows

BARE = make_space(3, classes=4, dim=12, antibodies=6, fit=120)
KNOWN, LABELS = held_out(BARE, 3, 200)
SEEN = visual_antibodies({"far": feature_set(outliers(BARE, 3, 90).features, name="far")}, 3)


def guarded(space: Space) -> Space:
    """With antibodies for one class, two of them contextual."""
    kinds = ("contextual", "look_alike", "contextual", "look_alike", "look_alike", "look_alike")
    antibodies = tuple(
        replace(one, kind=kind, guards=space.classes[i % 3] if i < 4 else "")
        for i, (one, kind) in enumerate(zip(space.bank.antibodies, kinds, strict=True))
    )
    return replace(space, bank=Bank(antibodies, space.bank.vectors).concat(SEEN))


SPACE = guarded(BARE)
TEST = np.concatenate(
    [KNOWN.features, outliers(BARE, 9, 80).features, BARE.bank.vectors, unit_rows(np.random.default_rng(0), 40, 12)]
).astype(np.float32)
VARIANTS: dict[str, tuple[Space, dict[str, Any]]] = {
    "all terms": (SPACE, {"v": 0.4, "shrinkage": 0.2, "visual_weight": 2.0, "eps": 0.05}),
    "sum, five classes": (SPACE, {"combine": "sum", "margin": "top5", "eps": 0.1}),
    "guarded": (SPACE, {"guarded": True, "eps": 0.1, "w": 1.0}),
    "no antibodies": (replace(BARE, bank=Bank.empty(12)), {"v": 0.4}),
    "only visual ones": (replace(BARE, bank=SEEN), {}),
    "no fit images": (replace(BARE, fit=None, fit_labels=None), {}),
    "one class": (make_space(1, classes=1, dim=8, antibodies=3, fit=30), {"v": 0.3}),
}


def fitted(name: str) -> FittedCalibrated:
    space, params = VARIANTS[name]
    return Calibrated(**params).fit(space)


def rows_for(name: str) -> np.ndarray:
    dim = VARIANTS[name][0].dim
    return TEST if dim == 12 else unit_rows(np.random.default_rng(1), 50, dim).astype(np.float32)


@pytest.mark.parametrize("name", VARIANTS)
def test_the_head_scores_as_the_fitted_score(name: str) -> None:
    score, x = fitted(name), rows_for(name)
    judged = Head.of(score).judge(x)
    assert judged.score == pytest.approx(score.score(x), abs=1e-5)
    assert (judged.parts.sum(axis=1) - judged.repelled - judged.seen) == pytest.approx(judged.score, abs=1e-5)
    assert judged.classes[:, 0].tolist() == score.predict(x).tolist()
    expected = score.exceedance(x)
    same = judged.antibody == expected.antibody
    # Where two antibodies take as much, or one hardly fires, float32 may name another.
    slight = np.abs(score.score(x) - score.base.values(x.astype(np.float64), x.astype(np.float64) @ score.texts.T))
    assert (same | (slight < 1e-4)).mean() > 0.97
    assert not ((judged.antibody < 0) & (judged.repelled + judged.seen > 1e-5)).any()


def test_an_antibody_is_told_with_what_it_was_compared_by() -> None:
    score = fitted("all terms")
    judged = Head.of(score).judge(TEST)
    x, row = TEST.astype(np.float64), judged.antibody
    worded = np.flatnonzero((row >= 0) & (row < 6))
    near = (x @ score.texts.T).max(axis=1)
    cosines = (x[worded] * score.antibodies[row[worded]]).sum(axis=1)
    assert len(worded) > 5
    assert judged.similarity[worded] == pytest.approx(cosines, abs=1e-6)
    assert judged.margin[worded] == pytest.approx(cosines - near[worded], abs=1e-6)
    assert (judged.margin[worded] > score.radii[row[worded]]).all()
    visual = np.flatnonzero(row >= 6)
    assert score.sight is not None
    beyond = score.sight.beyond(x[visual])[np.arange(len(visual)), row[visual] - 6]
    assert len(visual) > 1
    assert judged.margin[visual] - score.sight.radii[row[visual] - 6] == pytest.approx(beyond, abs=1e-5)
    assert {score.bank.kinds[i] for i in row[visual]} == {VISUAL}


def test_it_is_the_score_of_immuno_vlm_too() -> None:
    score = make_score("immuno_vlm").fit(SPACE)
    assert isinstance(score, FittedCalibrated)
    assert Head.of(score).judge(TEST).score == pytest.approx(score.score(TEST), abs=1e-5)


@pytest.mark.parametrize("batch", [0, 1, 2, 300])
def test_any_number_of_images_is_judged(batch: int) -> None:
    head = Head.of(fitted("all terms"))
    x = np.resize(TEST, (batch, 12))
    assert head.judge(x).score == pytest.approx(head.judge(TEST).score[np.arange(batch) % len(TEST)], abs=1e-6)
    assert len(head.judge(x).classes) == batch


def test_embeddings_that_are_none_are_refused() -> None:
    head = Head.of(fitted("all terms"))
    with pytest.raises(SetupError, match="dimensions"):
        head.judge(np.eye(5, dtype=np.float32))
    with pytest.raises(SetupError, match="NaN"):
        head.judge(np.full((2, 12), np.nan, np.float32))


@pytest.mark.parametrize("name", ["all terms", "sum, five classes", "no antibodies", "one class"])
def test_torch_exports_the_head_for_any_batch(name: str) -> None:
    head, x = Head.of(fitted(name)), torch.from_numpy(rows_for(name))
    batch = torch.export.Dim("batch", min=1)
    program = torch.export.export(head, (x[:2],), dynamic_shapes={"x": {0: batch}}).module()
    for n in (1, 7, len(x)):
        assert program(x[:n])[0].numpy() == pytest.approx(head(x[:n]).score.numpy(), abs=1e-6)


@pytest.mark.long
@pytest.mark.parametrize("name", ["all terms", "sum, five classes"])
def test_onnxruntime_gives_the_same_for_any_batch(name: str) -> None:
    score, x = fitted(name), rows_for(name)
    session = onnxruntime.InferenceSession(head_as_onnx(Head.of(score)), providers=["CPUExecutionProvider"])
    assert [one.name for one in session.get_outputs()] == list(Judged._fields)
    for n in (1, 5, len(x)):
        found = dict(zip(Judged._fields, session.run(None, {"embeddings": x[:n]}), strict=True))
        expected = Head.of(score).judge(x[:n])
        assert found["score"] == pytest.approx(score.score(x[:n]), abs=1e-5)
        assert found["antibody"].tolist() == expected.antibody.tolist()
        assert found["classes"][:, 0].tolist() == expected.classes[:, 0].tolist()
