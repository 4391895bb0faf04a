"""Set selection: greedy with exact gains, and no noise gets past the held-out half."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.effects.set_selection import Selected, select_set
from evaluation.scores.registry import make_score
from evaluation.space import Space
from immuno_core.errors import SetupError
from immuno_core.features import FeatureSet
from tests.evaluation import reference
from tests.evaluation.synthetic import bank_of, feature_set, held_out, make_space, outliers, unit, unit_rows

METHODS: dict[str, dict[str, Any]] = {
    "max": {"name": "calibrated", "eps": 0.1},
    "sum": {"name": "calibrated", "eps": 0.2, "combine": "sum", "beta": 1.0},
    "s_dis": {"name": "s_dis", "lambda_inf": 0.5},
}


def with_rows(space: Space, rows: list[int]) -> Space:
    bank = space.bank.take(np.array(rows, dtype=np.int64))
    return Space(space.classes, space.texts, space.logit_scale, space.fit, space.fit_labels, bank)


def halves(known: FeatureSet, sets: dict[str, FeatureSet], seed: int) -> tuple[list[FeatureSet], list[FeatureSet]]:
    """Drawn as the module says: by the seed, set by set."""
    rng = np.random.default_rng(seed)
    order = [(images, rng.permutation(len(images))) for images in (known, *sets.values())]
    return [one.take(np.sort(rows[: len(one) // 2])) for one, rows in order], [
        one.take(np.sort(rows[len(one) // 2 :])) for one, rows in order
    ]


def fpr95(space: Space, rows: list[int], params: dict[str, Any], sets: list[FeatureSet]) -> tuple[float, float]:
    fitted = make_score(**params).fit(with_rows(space, rows))
    known, *others = [list(fitted.score(one.features).round(11)) for one in sets]
    shares = [reference.fpr95_id(known, scores, 0.9) for scores in others]
    return reference.mean(shares), max(shares)


@pytest.mark.parametrize("method", list(METHODS))
@settings(max_examples=12)
@given(seed=st.integers(0, 10**6), antibodies=st.integers(0, 8), n=st.integers(2, 40))
def test_each_step_is_the_best_there_is_and_is_measured_exactly(
    method: str, seed: int, antibodies: int, n: int
) -> None:
    space = make_space(seed, classes=3, antibodies=antibodies, fit=30, spread=0.5)
    known, _ = held_out(space, seed, n, spread=0.6)
    sets = {"one": outliers(space, seed, 31), "two": outliers(space, seed + 1, 12)}
    params = METHODS[method]
    found = select_set(make_score(**params).fit(space), known, sets, seed=seed, acceptance=0.9, patience=3)
    first, second = halves(known, sets, seed)
    rows: list[int] = []
    best, kept = fpr95(space, [], params, second), 0
    assert found.empty == pytest.approx(best)
    for step in found.steps:
        candidates = {j: fpr95(space, [*rows, j], params, first)[0] for j in range(antibodies) if j not in rows}
        j = min(candidates, key=lambda j: (round(candidates[j], 9), j))
        assert candidates[j] < fpr95(space, rows, params, first)[0]
        assert step.antibody_id == f"a{j}"
        rows.append(j)
        assert step.chosen_on == pytest.approx(fpr95(space, rows, params, first))
        assert step.held_out == pytest.approx(fpr95(space, rows, params, second))
        if step.held_out.mean < best[0] - 1e-9:
            best, kept = step.held_out, len(rows)
    assert found.rows == tuple(rows[:kept])
    assert found.ids == tuple(f"a{j}" for j in rows[:kept])
    assert found.best == pytest.approx(best)
    assert found.whole == pytest.approx(fpr95(space, list(range(antibodies)), params, second))
    if len(rows) - kept < 3:  # it ran out of antibodies that gain
        now = fpr95(space, rows, params, first)[0]
        assert all(fpr95(space, [*rows, j], params, first)[0] > now - 1e-9 for j in range(antibodies) if j not in rows)


def world(antibodies: int, useful: int, seed: int = 0) -> tuple[Space, FeatureSet, dict[str, FeatureSet]]:
    """Outliers lie between a class and one of the first `useful` antibodies; the others are anywhere."""
    space = make_space(seed, classes=6, dim=64, antibodies=antibodies, fit=300, spread=0.08)
    known, _ = held_out(space, seed, 600, spread=0.08)
    rng = np.random.default_rng(seed + 7)
    sets = {}
    for name in ("near", "nearer"):
        near = space.bank.vectors[rng.integers(0, useful, 400)] + 1.5 * space.texts[rng.integers(0, 6, 400)]
        sets[name] = feature_set(unit(near + 0.1 * rng.standard_normal(near.shape)), name=name)
    return space, known, sets


def test_it_finds_those_that_help_and_leaves_those_that_do_not() -> None:
    space, known, sets = world(antibodies=60, useful=4)
    found = select_set(make_score("calibrated").fit(space), known, sets, seed=0)
    assert {0, 1, 2, 3} <= set(found.rows)
    assert len(found.rows) < 12
    assert found.best.mean < 0.5 * found.empty.mean
    assert found.best.worst >= found.best.mean


def test_noise_is_not_chosen() -> None:
    """Outliers that are known images in truth: whatever gains on one half is noise, and is stopped by the other."""
    space = make_space(3, classes=4, dim=16, antibodies=80, fit=100, spread=0.2)
    known, _ = held_out(space, 3, 200, spread=0.2)
    same, _ = held_out(space, 4, 200, spread=0.2)
    fitted = make_score("calibrated", eps=0.05).fit(space)
    runs = [select_set(fitted, known, {"same": same}, seed=seed, patience=5) for seed in range(6)]
    gains_chosen = [run.steps[-1].chosen_on.mean for run in runs if run.steps]
    assert np.mean([len(run.rows) for run in runs]) < np.mean([len(run.steps) for run in runs])
    assert gains_chosen


def test_the_same_seed_gives_the_same_set_and_patience_and_most_end_it() -> None:
    space, known, sets = world(antibodies=30, useful=6)
    fitted = make_score("calibrated").fit(space)

    def run(**options: Any) -> Selected:
        return select_set(fitted, known, sets, **options)

    assert run(seed=1) == run(seed=1)
    assert run(seed=1).steps != run(seed=2).steps
    assert len(run(seed=1, most=2).steps) == 2
    path = run(seed=1, patience=1)
    assert len(path.steps) <= len(path.rows) + 1


def test_two_thousand_antibodies_and_five_thousand_images_take_seconds() -> None:
    rng = np.random.default_rng(0)
    space = make_space(0, classes=20, dim=64, antibodies=0, fit=400, spread=0.1)
    space = Space(space.classes, space.texts, 100.0, space.fit, space.fit_labels, bank_of(unit_rows(rng, 2000, 64)))
    known, _ = held_out(space, 0, 2500, spread=0.1)
    sets = {"one": outliers(space, 0, 1500), "two": outliers(space, 1, 1000)}
    for name in ("calibrated", "s_dis"):
        start = time.perf_counter()
        found = select_set(make_score(name).fit(space), known, sets, seed=0)
        assert time.perf_counter() - start < 60
        assert found.best.mean <= found.empty.mean


def test_what_cannot_be_selected_is_refused() -> None:
    space = make_space(0)
    known, _ = held_out(space, 0, 20)
    images = outliers(space, 0, 20)
    for name in ("mcm", "eoe"):
        with pytest.raises(SetupError, match=f"'{name}' cannot select"):
            select_set(make_score(name).fit(space), known, {"o": images}, seed=0)
    fitted = make_score("calibrated").fit(space)
    with pytest.raises(SetupError, match="needs an outlier set"):
        select_set(fitted, known, {}, seed=0)
    with pytest.raises(SetupError, match="one for each half"):
        select_set(fitted, known, {"o": images.take(np.arange(1))}, seed=0)
