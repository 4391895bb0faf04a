"""NegLabel and CSP: the score is its formula, groups are the same for the same bank, few antibodies are all kept."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.antibodies.mining import CSP_TEMPLATES
from evaluation.scores.negative_labels import FittedGrouped, assign_groups
from evaluation.scores.registry import make_score
from evaluation.space import Space
from immuno_core.errors import SetupError
from tests.evaluation.reference import cosines
from tests.evaluation.synthetic import bank_of, make_space, outliers, unit, with_rows


def grouped(x: Any, texts: Any, antibodies: Any, group: list[int], tau: float) -> float:
    """As the authors' code has it: softmax over the classes and one group, the classes' share, mean over the groups."""
    known, negative = [c / tau for c in cosines(x, texts)], [c / tau for c in cosines(x, antibodies)]
    shares = []
    for g in range(max(group, default=-1) + 1):
        of_group = [c for c, own in zip(negative, group, strict=True) if own == g]
        top = max(known + of_group)
        mass = math.fsum(math.exp(c - top) for c in known)
        shares.append(mass / (mass + math.fsum(math.exp(c - top) for c in of_group)))
    return math.fsum(shares) / len(shares) if shares else 1.0


def fitted_on(space: Space, name: str = "neglabel", **params: Any) -> FittedGrouped:
    fitted = make_score(name, **params).fit(space)
    assert isinstance(fitted, FittedGrouped)
    return fitted


@settings(max_examples=60)
@given(
    st.fixed_dictionaries(
        {
            "seed": st.integers(0, 10**6),
            "classes": st.integers(1, 6),
            "dim": st.integers(2, 12),
            "antibodies": st.sampled_from([0, 1, 2, 5, 9, 37]),
            "fit": st.just(0),
        }
    ),
    st.sampled_from([0, 1, 12]),
    st.sampled_from([0.01, 0.1, 1.0]),
    st.sampled_from([1, 4, 100]),
    st.sampled_from(["neglabel", "csp"]),
)
def test_the_score_is_its_formula(shape: dict[str, int], n: int, tau: float, groups: int, name: str) -> None:
    space = make_space(**shape)
    x = outliers(space, 0, n).features
    fitted = fitted_on(space, name, tau=tau, groups=groups, least=2)
    assert (fitted.tau, fitted.groups) == (tau, min(groups, max(1, len(space.bank) // 2), len(space.bank)))
    expected = [grouped(v, space.texts, space.bank.vectors, fitted.group.tolist(), tau) for v in x]
    np.testing.assert_allclose(fitted.score(x), expected, atol=1e-9)
    np.testing.assert_array_equal(fitted.antibodies, space.bank.vectors.astype(np.float64))


@pytest.mark.parametrize("n", [1, 37, 1000])
def test_the_score_is_its_formula_for_tied_and_degenerate_images(n: int) -> None:
    space = make_space(3, classes=4, dim=6, antibodies=23, fit=0)
    tied = np.concatenate([space.texts, space.bank.vectors, -space.texts])[np.arange(n) % 31]
    fitted = fitted_on(space, groups=5, least=1)
    expected = [grouped(v, space.texts, space.bank.vectors, fitted.group.tolist(), 0.01) for v in tied]
    np.testing.assert_allclose(fitted.score(tied), expected, atol=1e-9)
    one = Space(("all",), np.repeat(space.texts[:1], 1, axis=0), 100.0, None, None, bank_of(space.texts[:1]))
    np.testing.assert_array_equal(fitted_on(one).score(tied), np.full(n, 0.5))  # the class is its own negative


@given(st.integers(0, 400), st.integers(1, 120), st.integers(1, 60))
def test_every_antibody_is_in_a_group_and_groups_differ_in_size_by_at_most_one(
    count: int, groups: int, least: int
) -> None:
    group = assign_groups(count, groups, least)
    assert group.shape == (count,)
    sizes = np.bincount(group)
    if count:
        assert len(sizes) == max(1, min(groups, count // least))
        assert sizes.max() - sizes.min() <= 1
        assert sizes.min() >= min(least, count)
    assert group.tolist() == assign_groups(count, groups, least).tolist()


def test_groups_have_the_parts_of_the_bank_in_proportion() -> None:
    """Nouns come first in a mined bank, then adjectives; each part the farthest first."""
    nouns, adjectives, groups = 703, 211, 10
    group = assign_groups(nouns + adjectives, groups, 50)
    assert np.bincount(group[:nouns], minlength=groups).tolist() == pytest.approx([nouns / groups] * groups, abs=1)
    assert np.bincount(group[nouns:], minlength=groups).tolist() == pytest.approx([adjectives / groups] * groups, abs=2)
    assert np.abs(np.corrcoef(group, np.arange(nouns + adjectives))[0, 1]) < 0.1


def test_the_shipped_lists_size_makes_few_groups_and_the_authors_a_hundred() -> None:
    assert np.bincount(assign_groups(183, 100, 50)).tolist() == [61, 61, 61]
    assert np.bincount(assign_groups(11_777, 100, 50)).min() == 117


def test_the_order_of_the_bank_counts_only_through_the_groups() -> None:
    space = make_space(5, antibodies=40, fit=0)
    x, fitted = outliers(space, 0, 30).features, fitted_on(make_space(5, antibodies=40, fit=0), groups=8, least=1)
    rng = np.random.default_rng(0)
    within, renamed = np.arange(40), rng.permutation(8)
    for g in range(8):
        members = np.flatnonzero(fitted.group == g)
        within[members] = rng.permutation(members)
    swapped = np.concatenate([np.flatnonzero(fitted.group == g) for g in renamed])
    placed = np.empty(40, dtype=np.int64)
    placed[np.concatenate([np.flatnonzero(fitted.group == g) for g in range(8)])] = swapped
    for order in (within, placed):
        other = with_rows(space, order)
        np.testing.assert_allclose(fitted_on(other, groups=8, least=1).score(x), fitted.score(x), atol=1e-14)
    mixed = with_rows(space, rng.permutation(40))
    assert np.abs(fitted_on(mixed, groups=8, least=1).score(x) - fitted.score(x)).max() > 1e-4


def test_few_antibodies_are_one_group_and_none_accept_everything() -> None:
    space = make_space(7, antibodies=3, fit=0)
    x = outliers(space, 0, 20).features
    assert fitted_on(space).chosen == {"groups": 1}
    bare = fitted_on(make_space(7, antibodies=0, fit=0))
    assert bare.chosen == {"groups": 0}
    assert bare.score(x).tolist() == [1.0] * 20
    assert bare.predict(x).tolist() == fitted_on(space).predict(x).tolist()


@pytest.mark.parametrize(
    ("antibodies", "groups", "said"),
    [
        (120, 100, "120 negative labels in 2 group"),
        (120, 1, "120 negative labels in 1"),
        (1000, 21, "20 group"),
        (1000, 20, ""),
    ],
)
def test_fewer_labels_or_groups_than_they_should_be_are_remarked_on(antibodies: int, groups: int, said: str) -> None:
    fitted = fitted_on(make_space(7, antibodies=antibodies, fit=0), groups=groups)
    assert bool(fitted.remarks) == bool(said)
    assert said in "".join(fitted.remarks)


def test_the_form_it_declares_gives_the_score() -> None:
    space = make_space(8, antibodies=23, fit=0)
    x, fitted = outliers(space, 0, 20).features.astype(np.float64), fitted_on(space, groups=5, least=1, tau=0.1)
    form = fitted.form
    images = form.images(x)
    assert (form.ids, form.beta, form.temperature) == (space.bank.ids, 0.0, 0.1)
    np.testing.assert_array_equal(images.peak, images.known)  # without antibodies the score is 1
    powers = np.exp(images.points @ form.antibodies.T / form.temperature)
    known = np.exp(images.known)
    shares = [known / (known + powers[:, form.group == g].sum(axis=1)) for g in range(5)]
    np.testing.assert_allclose(np.mean(shares, axis=0), fitted.score(x.astype(np.float32)), atol=1e-12)


def test_small_temperatures_neither_overflow_nor_vanish() -> None:
    space = make_space(0, antibodies=50)
    found = fitted_on(space, tau=1e-4).score(outliers(space, 0, 40).features)
    assert ((found >= 0) & (found <= 1)).all()


def test_neglabel_and_csp_differ_in_what_is_embedded() -> None:
    neglabel, csp = make_score("neglabel"), make_score("csp")
    assert (neglabel.default_arm, neglabel.templates) == ("neglabel", ("The nice {}",))
    assert (csp.default_arm, csp.templates) == ("csp", CSP_TEMPLATES)
    assert neglabel.params == {"tau": 0.01, "groups": 100, "least": 50, "templates": ("The nice {}",)}
    space = make_space(1)
    x = outliers(space, 0, 9).features
    np.testing.assert_array_equal(neglabel.fit(space).score(x), csp.fit(space).score(x))


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"tau": 0.0}, "tau = 0.0"),
        ({"groups": 0}, "groups = 0"),
        ({"groups": 2.5}, "groups = 2.5"),
        ({"templates": []}, r"templates = \[\]"),
        ({"templates": "a {}"}, "templates = 'a {}'"),
        ({"templates": [3]}, r"templates = \[3\]"),
        ({"template": "a {}"}, "no parameter 'template'; did you mean 'templates'"),
    ],
)
def test_wrong_parameters_are_refused(params: dict[str, Any], said: str) -> None:
    with pytest.raises(SetupError, match=said):
        make_score("neglabel", **params)


def test_templates_from_a_configuration_file_are_lists() -> None:
    assert make_score("csp", templates=["a {}", "the {}"]).templates == ("a {}", "the {}")


def test_an_image_at_an_antibody_scores_below_one_at_a_class() -> None:
    space = make_space(2, classes=3, dim=64, antibodies=200, fit=0)
    fitted = fitted_on(space, least=2)
    assert fitted.score(space.texts).min() > 0.9
    # One antibody beats the classes in its own group alone: that is what groups are for.
    assert 0.5 < fitted.score(unit(space.bank.vectors)).max() < fitted.score(space.texts).min()
