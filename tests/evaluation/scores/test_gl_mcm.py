"""GL-MCM: what it asks of patches, and what it makes of the answer. From files to scores: tests/cluster."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from evaluation.scores.registry import make_score
from evaluation.scores.zero_shot import GlMcm
from immuno_core.errors import SetupError
from immuno_core.features import FeatureSet, LocalRequest
from tests.evaluation import reference
from tests.evaluation.synthetic import make_space, outliers

SPACE = make_space(0, fit=0)


def images_with(request: LocalRequest, n: int) -> FeatureSet:
    images = outliers(SPACE, 0, n)
    return replace(images, local={request.key: np.random.default_rng(1).uniform(0.2, 0.3, n), "another": np.zeros(n)})


@pytest.mark.parametrize("n", [0, 1, 37, 1000])
@pytest.mark.parametrize(("temperature", "weight"), [(1.0, 1.0), (0.05, 0.5), (1.0, 0.0)])
def test_the_score_is_mcm_plus_the_weighted_local_term(n: int, temperature: float, weight: float) -> None:
    score = GlMcm(temperature=temperature, lambda_local=weight)
    request = score.local_request(SPACE)
    images = images_with(request, n)
    expected = [
        reference.mcm(x, SPACE.texts, temperature) + weight * local
        for x, local in zip(images.features, images.local[request.key], strict=True)
    ]
    np.testing.assert_allclose(score.fit(SPACE).score_set(images), expected, atol=1e-12)


def test_it_asks_for_the_class_texts_at_its_temperature() -> None:
    request = GlMcm(temperature=0.5).local_request(SPACE)
    np.testing.assert_array_equal(request.texts, SPACE.texts)
    assert request.temperature == 0.5
    assert request.key == GlMcm(temperature=0.5, lambda_local=3.0).local_request(SPACE).key
    assert request.key != GlMcm().local_request(SPACE).key
    assert request.key != GlMcm(temperature=0.5).local_request(make_space(1, fit=0)).key
    assert make_score("mcm").local_request(SPACE) is None


def test_embeddings_alone_are_not_enough_and_the_error_says_what_is() -> None:
    images = outliers(SPACE, 0, 5)
    fitted = make_score("gl_mcm").fit(SPACE)
    with pytest.raises(SetupError, match=r"patches of images.* Embedder.local_matching \(score_set\)"):
        fitted.score(images.features)
    with pytest.raises(SetupError, match="set 'outliers' lacks what the score 'gl_mcm' needs"):
        fitted.score_set(images)


@pytest.mark.parametrize("local", [np.zeros(4), np.full(5, np.nan)])
def test_an_answer_that_does_not_fit_is_refused(local: np.ndarray) -> None:
    score = GlMcm()
    images = replace(outliers(SPACE, 0, 5), local={score.local_request(SPACE).key: local})
    with pytest.raises(SetupError, match="not 5 finite numbers"):
        score.fit(SPACE).score_set(images)


def test_classes_are_predicted_from_the_whole_image() -> None:
    images = outliers(SPACE, 0, 20)
    assert make_score("gl_mcm").fit(SPACE).predict(images.features).tolist() == (
        make_score("mcm").fit(SPACE).predict(images.features).tolist()
    )
