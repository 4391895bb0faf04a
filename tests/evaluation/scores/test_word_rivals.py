"""The rivals of words: each is its paper's formula, one image and one word at a time, and says what it cannot do."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from evaluation.benchmark.arms import NEUTRAL_PROMPTS, Arms
from evaluation.benchmark.methods import run_methods
from evaluation.scores.base import FittedScore
from evaluation.scores.choice import choose_settings
from evaluation.scores.registry import make_score
from evaluation.scores.words.prompts import NegRefine
from evaluation.space import Feedback, Space
from immuno_core.config.methods import MethodConfig
from immuno_core.errors import SetupError
from immuno_core.records import MATURATION
from tests.evaluation.benchmark.test_arms import HashEmbedder
from tests.evaluation.reference import cosines, normalise, softmax
from tests.evaluation.synthetic import bank_of, feature_set, held_out, make_space, outliers, unit_rows

Array = NDArray[Any]


def powers(values: Sequence[float], temperature: float) -> list[float]:
    return [math.exp(value / temperature) for value in values]


def world(seed: int = 0, **shape: Any) -> Space:
    return make_space(seed, **{"classes": 4, "dim": 8, "antibodies": 40, "fit": 60, **shape})


def with_feedback(space: Space, seed: int = 0) -> Space:
    sets = {name: outliers(space, seed + one, 40, name) for one, name in enumerate(("near", "far"))}
    return replace(space, feedback=Feedback(*held_out(space, seed, 30), sets))


def texts_of(fitted: FittedScore) -> list[str]:
    return [str(text) for text in fitted.bank.texts]  # type: ignore[attr-defined]  # of every grouped score


# ---- DNM


def dnm(x: Array, space: Space, group: Array, temperature: float, tau: float) -> float:
    """Term by term as the paper has it, but for its constant 1 / K."""
    known, shares = powers(cosines(x, space.texts), temperature), []
    for g in range(int(group.max()) + 1):
        words = powers(cosines(x, space.bank.vectors[group == g]), temperature)
        of_words, of_known = math.fsum(words) / len(words), math.fsum(known) / len(known)
        z = math.fsum(known) + len(words) * (of_words / tau - (1 - tau) / tau * of_known)
        least = (len(known) + len(words)) * math.exp(-1 / temperature)
        shares.append(math.fsum(known) / max(z, least))
    return math.fsum(shares) / len(shares)


@pytest.mark.parametrize(("tau", "groups", "clamped"), [(0.9, 8, False), (0.5, 3, True), (0.12, 1, True)])
def test_dnm_is_its_formula(tau: float, groups: int, clamped: bool) -> None:
    space = world()
    x = outliers(space, 0, 30).features
    fitted: Any = make_score("dnm", tau=tau, groups=groups, least=1, temperature=0.1).fit(space)
    expected = [dnm(v, space, fitted.group, 0.1, tau) for v in x]
    np.testing.assert_allclose(fitted.score(x), expected, rtol=1e-9)
    assert (max(expected) > 50) == clamped  # where nothing is left of Z the score is as large as the least Z permits


@pytest.mark.parametrize("temperature", [0.01, 0.1])
def test_dnm_with_tau_1_is_neglabel(temperature: float) -> None:
    space = world(antibodies=130)
    x = outliers(space, 0, 60).features
    plain = make_score("neglabel", tau=temperature).fit(space).score(x)
    np.testing.assert_allclose(
        make_score("dnm", tau=1.0, temperature=temperature).fit(space).score(x), plain, rtol=1e-12
    )
    assert not np.allclose(make_score("dnm", tau=0.9, temperature=temperature).fit(space).score(x), plain)


def test_dnm_takes_cold_temperatures_and_no_words() -> None:
    space = world()
    x = outliers(space, 0, 20).features
    assert np.isfinite(make_score("dnm", temperature=0.002).fit(space).score(x)).all()
    assert make_score("dnm").fit(world(antibodies=0)).score(x).tolist() == [1.0] * 20


# ---- InterNeg


def test_interneg_takes_the_words_that_are_farther_from_images_than_the_classes_texts() -> None:
    space = world(1, dim=3, antibodies=60)
    assert space.fit is not None
    assert space.fit_labels is not None
    means = [normalise(space.fit.features[space.fit_labels == k].sum(axis=0, dtype=np.float64)) for k in range(4)]
    bases = [cosines(m, t[None])[0] for m, t in zip(means, space.texts, strict=True)]
    gaps = {}
    for antibody, vector in zip(space.bank.antibodies, space.bank.vectors, strict=True):
        near = cosines(vector, np.array(means))
        if all(c < base for c, base in zip(near, bases, strict=True)):
            gaps[antibody.text] = math.fsum(b - c for b, c in zip(bases, near, strict=True)) / 4
    ranked = sorted(gaps, key=lambda text: -gaps[text])
    assert 10 < len(ranked) < 60
    fitted = make_score("interneg", most=9, least=2).fit(space)
    assert texts_of(fitted) == ranked[:9]
    assert texts_of(make_score("interneg").fit(space)) == ranked
    x = outliers(space, 0, 20).features
    chosen = replace(space, bank=space.bank.take(np.array([space.bank.texts.index(text) for text in ranked[:9]])))
    plain = make_score("neglabel", groups=5, least=2).fit(chosen).score(x)
    np.testing.assert_array_equal(fitted.score(x), plain)
    assert "9 negative labels in 4 group(s) instead of 5; its authors have 2,000 in 5" in fitted.remarks


def test_interneg_without_a_word_that_is_far_enough_has_none() -> None:
    space = world(1, spread=0.05)
    named = replace(space, bank=bank_of(space.texts))
    fitted = make_score("interneg").fit(named)
    assert texts_of(fitted) == []
    assert fitted.score(space.texts).tolist() == [1.0] * 4
    with pytest.raises(SetupError, match="'interneg' needs fit images"):
        make_score("interneg").fit(world(fit=0))


# ---- CMA


def test_cma_is_its_formula_and_without_prompts_it_is_mcm() -> None:
    space = world(antibodies=3)
    x = outliers(space, 0, 20).features
    for temperature, ratio in ((1.0, 1.0), (0.1, 0.25)):
        found = make_score("cma", temperature=temperature, ratio=ratio).fit(space).score(x)
        for v, score in zip(x, found, strict=True):
            known = powers(cosines(v, space.texts), temperature)
            prompts = powers(cosines(v, space.bank.vectors), temperature)
            assert score == pytest.approx(max(known) / (math.fsum(known) + ratio * 4 / 3 * math.fsum(prompts)))
    bare = world(antibodies=0)
    np.testing.assert_allclose(make_score("cma").fit(bare).score(x), make_score("mcm").fit(bare).score(x), rtol=1e-12)


def test_its_prompts_name_nothing_and_are_embedded_as_they_are() -> None:
    embedder = HashEmbedder()
    space = world(dim=24)
    found = Arms(space, embedder).space("neutral", make_score("cma"))
    assert found.bank.texts == NEUTRAL_PROMPTS == tuple(embedder.asked)
    assert found.texts is space.texts


# ---- TANL


def order_of(space: Space, tau: float) -> list[int]:
    assert space.feedback is not None

    def activations(features: Array) -> Array:
        mass = [
            softmax([c / tau for c in cosines(v, np.concatenate([space.texts, space.bank.vectors]))]) for v in features
        ]
        return np.array(mass)[:, len(space.texts) :].mean(axis=0)

    every = np.concatenate([images.features for images in space.feedback.outliers.values()])
    gap = activations(every) - activations(space.feedback.known.features)
    return sorted(range(len(gap)), key=lambda j: -gap[j])


def tanl(x: Array, texts: Array, words: Array, tau: float) -> float:
    known, negative = math.fsum(powers(cosines(x, texts), tau)), powers(cosines(x, words), tau)
    return math.fsum(known / (known + math.fsum(negative[: m + 1])) for m in range(len(negative))) / len(negative)


def test_tanl_orders_words_by_what_outliers_and_known_images_activate() -> None:
    space = with_feedback(world(2))
    x, order = outliers(space, 9, 20).features, order_of(space, 0.1)
    for most in (1, 7, 1000):
        fitted = make_score("tanl", tau=0.1, most=most).fit(space)
        words = space.bank.vectors[order[:most]]
        np.testing.assert_allclose(fitted.score(x), [tanl(v, space.texts, words, 0.1) for v in x], rtol=1e-9)
        assert fitted.chosen == {"words": min(most, 40)}


def test_tanl_chooses_how_many_words_on_images_that_did_not_order_them() -> None:
    """Known words of the outliers are worth their number, and what is noise on one half does not help the other."""
    space = with_feedback(world(3, antibodies=400, dim=16))
    assert space.feedback is not None
    fitted = make_score("tanl", most="auto").fit(space)
    words = fitted.chosen["words"]
    assert words in (10, 30, 100, 300)
    assert 0 <= fitted.chosen["feedback_fpr95"] <= 1
    assert fitted.settled is not None
    assert fitted.settled.params["most"] == words
    x = outliers(space, 9, 20).features
    assert fitted.score(x).tolist() == fitted.settled.fit(space).score(x).tolist()
    # The judge of a half has not seen it: outliers all of one word cannot vouch for the others' words.
    one = {"near": feature_set(np.repeat(space.bank.vectors[:1], 9, axis=0), name="near")}
    alone = replace(space, feedback=replace(space.feedback, outliers=one))
    assert make_score("tanl", most="auto").fit(alone).chosen["feedback_fpr95_unlike"] is None


def test_tanl_without_feedback_keeps_the_words_in_their_order_and_says_so() -> None:
    space = world(2)
    x = outliers(space, 9, 20).features
    fitted = make_score("tanl", most=5).fit(space)
    assert fitted.score(x) == pytest.approx([tanl(v, space.texts, space.bank.vectors[:5], 0.01) for v in x])
    assert "no feedback outliers" in fitted.remarks[0]
    assert make_score("tanl").fit(world(antibodies=0)).score(x).tolist() == [1.0] * 20


def test_what_the_outliers_matured_is_no_word_of_tanl() -> None:
    space = with_feedback(world(2))
    first = replace(space.bank.antibodies[0], origin=MATURATION)
    matured = replace(space.bank, antibodies=(first, *space.bank.antibodies[1:]))
    fitted = make_score("tanl").fit(replace(space, bank=matured))
    assert fitted.chosen == {"words": 39}


def test_the_row_of_tanl_says_which_images_it_used() -> None:
    space = with_feedback(world(2))
    known, _ = held_out(space, 7, 30)
    row = run_methods(
        Arms(space), [MethodConfig(name="tanl", arm="bank")], known, [outliers(space, 8, 9)], seed=0
    ).rows[0]
    assert row.uses_feedback
    assert (row.metrics["known_used"], row.metrics["outliers_used"]) == (30, 80)


# ---- NegRefine


def second_look(x: Array, space: Space, scale: float, top: int, embedder: HashEmbedder) -> float:
    known, words = cosines(x, space.texts), cosines(x, space.bank.vectors)
    best = 0.0
    for k in sorted(range(len(known)), key=lambda k: -known[k])[:top]:
        for j in sorted(range(len(words)), key=lambda j: -words[j])[:top]:
            said = f"the {space.classes[k]} and {space.bank.texts[j]}"
            both = math.exp(scale * cosines(x, embedder.embed_texts([said]))[0])
            best = max(best, both / (both + math.exp(scale * words[j])))
    return best


def test_negrefine_looks_again_at_images_of_two_things() -> None:
    space, embedder = replace(world(dim=24, antibodies=9), logit_scale=20.0), HashEmbedder()
    images = outliers(space, 0, 12)
    for top in (2, 30):
        score = make_score("negrefine", templates=["the {}"], top=top, weight=3.0, least=2)
        prepared = score.prepared(images, space, embedder)
        found = score.fit(space).score_set(prepared)
        plain = make_score("neglabel", least=2).fit(space).score(images.features)
        second = [second_look(x, space, 20.0, top, embedder) for x in images.features]
        np.testing.assert_allclose(found, plain + 3 * np.array(second), rtol=1e-5)


def test_negrefine_embeds_each_text_once_and_needs_an_encoder() -> None:
    space, embedder = with_feedback(world(dim=24, antibodies=9)), HashEmbedder()
    known, _ = held_out(space, 7, 30)
    both = [MethodConfig(name="negrefine", arm="bank", choose=choose) for choose in (False, True)]
    result = run_methods(Arms(space, embedder), both, known, [outliers(space, 8, 9)], seed=0, embedder=embedder)  # type: ignore[arg-type]
    assert len(result.rows) == 2
    once = {method: scores["outliers"].tolist() for method, scores in result.scores.items()}
    assert once["negrefine"] != once["negrefine, chosen"] or result.rows[1].extra["chosen"]["weight"] == 2.0
    with pytest.raises(SetupError, match="needs an encoder"):
        run_methods(Arms(space), both[:1], known, [outliers(space, 8, 9)], seed=0)
    fitted = NegRefine().fit(space)
    with pytest.raises(SetupError, match=r"NegRefine\.prepared"):
        fitted.score(known.features)
    with pytest.raises(SetupError, match="lacks the second term"):
        fitted.score_set(known)


# ---- all


def test_rivals_with_free_settings_can_choose_them() -> None:
    space = with_feedback(world(4, antibodies=60))
    for name in ("cma", "interneg", "dnm"):
        chosen = choose_settings(make_score(name), space)
        assert set(make_score(name).choices) <= set(chosen.figures)


@pytest.mark.parametrize(
    ("name", "params", "said"),
    [
        ("dnm", {"tau": 0.0}, "tau = 0.0"),
        ("dnm", {"tau": 1.5}, "tau = 1.5"),
        ("tanl", {"most": "all"}, "most"),
        ("tanl", {"most": 0}, "most"),
        ("cma", {"ratio": 0.0}, "ratio = 0.0"),
        ("interneg", {"most": 0}, "most = 0"),
        ("negrefine", {"top": 0}, "top = 0"),
    ],
)
def test_wrong_parameters_are_refused(name: str, params: dict[str, Any], said: str) -> None:
    with pytest.raises(SetupError, match=said):
        make_score(name, **params)


def test_words_far_away_change_nothing() -> None:
    """An image at a class text, with words nowhere near: every rival is sure."""
    space = world(dim=64, antibodies=0, classes=3)
    far = replace(space, bank=bank_of(unit_rows(np.random.default_rng(5), 60, 64)))
    for name in ("dnm", "interneg", "tanl"):
        assert make_score(name).fit(far).score(space.texts).min() > 0.99, name
