"""Is each baseline at its best? What the benchmark says of it, against a sweep of its settings that is written anew.

    python -m benchmarks.baselines [--seeds 1001,1002,1003] [--out FILE.json]

On mini-worlds for development, as configs/miniworld.toml says; FPR95 in per cent, mean over near and contextual:

    published  the setting of its paper
    chosen     [[methods]] choose = true: some candidates, judged by the feedback
    sweep      the formula in NumPy and a finer grid, the setting with the lowest FPR95 on the feedback
    best       of the same grid, the lowest on the test itself, which nobody may choose

Ends with status 1 where `chosen` is more than a point above `sweep`, on the mean over the worlds.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from benchmarks.loop import CONFIG, TOLD, World, arms_of, figures, open_world
from db import open_store
from evaluation.antibodies.bank_files import read_bank_file
from evaluation.benchmark.arms import Arms
from evaluation.scores.base import Score
from evaluation.scores.choice import choose_settings
from evaluation.scores.registry import make_score
from evaluation.space import Bank
from immuno.workplace import with_overrides
from immuno_core.config.run import RunConfig, read_config
from immuno_core.text import fill_template

Array = np.ndarray[Any, np.dtype[np.float64]]
Sweep = Iterator[tuple[str, Callable[[Array], Array]]]
"""Settings, each with the score (n,) of images (n, d)."""
TEMPERATURES = (0.003, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0)
MOST = 0.01
"""By which `chosen` may be above `sweep`."""


@dataclass(frozen=True)
class Given:
    """What a sweep works with: class texts (K, d), fit images (n, d) with labels (n,), negatives (A, d)."""

    texts: Array
    fit: Array
    labels: Array
    negatives: Array


def main() -> int:
    """Compare on each world, print the table, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="1001,1002,1003")
    parser.add_argument("--out", type=Path, help="write all figures here, as JSON")
    given = parser.parse_args()
    seeds = [int(one) for one in given.seeds.split(",")]
    if min(seeds) < 1000:
        parser.error("--seeds: only worlds for development, from 1000 up; the others are not looked at to choose")
    found = [compared(with_overrides(read_config(CONFIG), seed=seed)) for seed in seeds]
    print(f"worlds {given.seeds}: FPR95 in per cent, near + contextual")
    print(f"{'':16}{'published':>11}{'chosen':>9}{'sweep':>9}{'best':>9}   chosen - sweep")
    worse = []
    for name in found[0]:
        shares = [fmean(one[name][column] for one in found) for column in ("published", "chosen", "sweep", "best")]
        gap = shares[1] - shares[2]
        worse += [name] if gap > MOST else []
        print(f"{name:16}" + "".join(f"{100 * share:9.1f}" for share in (*shares, gap)) + f"   {found[0][name]['at']}")
    if given.out is not None:
        given.out.write_text(json.dumps(dict(zip(seeds, found, strict=True)), indent=1) + "\n", encoding="utf-8")
    if worse:
        print(f"not at their best: {', '.join(worse)}", file=sys.stderr)
    return 1 if worse else 0


def compared(config: RunConfig) -> dict[str, dict[str, Any]]:
    """The four figures of every baseline on one world."""
    with tempfile.TemporaryDirectory() as folder, open_store(str(Path(folder) / "immuno.db")) as store:
        world = open_world(config, store)
    if config.antibodies.file is None:
        raise SystemExit(f"{CONFIG} names no bank")
    proposals = read_bank_file(config.antibodies.file)
    vectors = world.embedder.embed_texts(fill_template(config.antibodies.template, [one.text for one in proposals]))
    arms = arms_of(world, config, Bank.of(proposals, vectors))
    return {name: of_baseline(world, arms, make_score(name), sweep) for name, sweep in SWEEPS.items()}


def of_baseline(world: World, arms: Arms, score: Score, sweep: Callable[[Given], Sweep]) -> dict[str, Any]:
    """What is said of one baseline, and what the sweep finds."""
    space = arms.space(score.default_arm if score.uses_bank else "bank", score)
    if space.fit is None or space.fit_labels is None or space.feedback is None:
        raise SystemExit("the mini-world has fit images and feedback")
    given = Given(
        *(rows.astype(np.float64) for rows in (space.texts, space.fit.features)),
        space.fit_labels,
        space.bank.vectors.astype(np.float64),
    )
    feedback, known = dict(space.feedback.outliers), space.feedback.known
    tried = [
        (
            mean_fpr95(of, known.features, {name: one.features for name, one in feedback.items()}),
            mean_fpr95(of, world.known.features, {name: world.outliers[name].features for name in TOLD}),
            setting,
        )
        for setting, of in sweep(given)
    ]
    _, on_test, setting = min(tried)
    chosen = choose_settings(score, space).score
    return {
        "published": figures(world, score.fit(space), 0).told,
        "chosen": figures(world, chosen.fit(space), 0).told,
        "sweep": on_test,
        "best": min(figure for _, figure, _ in tried),
        "at": f"{', '.join(f'{name} = {getattr(chosen, name)}' for name in score.choices)}; sweep: {setting}",
    }


def mean_fpr95(score: Callable[[Array], Array], known: Any, outliers: Mapping[str, Any]) -> float:
    """The mean over sets of the share of outliers at least as high as the lowest 95 % of known images."""
    of_known = np.sort(score(known.astype(np.float64)))[::-1]
    threshold = of_known[math.ceil(0.95 * len(of_known)) - 1]
    return fmean(float((score(x.astype(np.float64)) >= threshold).mean()) for x in outliers.values())


def log_sum_exp(values: Array) -> Array:
    """Over the last axis."""
    top = values.max(axis=-1)
    return top + np.log(np.exp(values - top[..., None]).sum(axis=-1))


def mcm(given: Given) -> Sweep:
    """T."""
    for t in TEMPERATURES:
        yield (
            f"T = {t}",
            lambda x, t=t: np.exp((x @ given.texts.T).max(axis=1) / t - log_sum_exp(x @ given.texts.T / t)),
        )


def energy(given: Given) -> Sweep:
    """T."""
    for t in TEMPERATURES:
        yield f"T = {t}", lambda x, t=t: t * log_sum_exp(x @ given.texts.T / t)


def knn(given: Given) -> Sweep:
    """K."""
    for k in (*range(1, 21), 25, 30, 40, 50, 75, 100, 150, 200, 300):
        yield f"K = {k}", lambda x, k=k: np.partition(x @ given.fit.T, -k, axis=1)[:, -k]


def mahalanobis(given: Given) -> Sweep:
    """The share of the identity in the covariance."""
    classes = np.unique(given.labels)
    means = np.array([given.fit[given.labels == k].mean(axis=0) for k in classes])
    centred = given.fit - means[np.searchsorted(classes, given.labels)]
    covariance, d = centred.T @ centred / len(centred), given.fit.shape[1]
    for s in (0.001, 0.003, 0.01, 0.02, 0.03, *np.arange(0.05, 1.01, 0.05)):
        inverse = np.linalg.inv((1 - s) * covariance + s * np.trace(covariance) / d * np.eye(d))

        def score(x: Array, inverse: Array = inverse) -> Array:
            return np.max([-np.einsum("ij,jk,ik->i", x - m, inverse, x - m, optimize=True) for m in means], axis=0)

        yield f"s = {s:.3g}", score


def eoe(given: Given) -> Sweep:
    """T and beta."""
    for t in TEMPERATURES:
        for beta in (0.0, 0.1, 0.25, 0.5, 1.0, 2.0):

            def score(x: Array, t: float = t, beta: float = beta) -> Array:
                known, negative = x @ given.texts.T / t, x @ given.negatives.T / t
                total = log_sum_exp(np.concatenate([known, negative], axis=1))
                return np.exp(known.max(axis=1) - total) - beta * np.exp(negative.max(axis=1) - total)

            yield f"T = {t}, beta = {beta}", score


def neglabel(given: Given) -> Sweep:
    """tau and the number of groups."""
    for tau in (0.003, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2):
        for groups in (1, 2, 3, 5, 10, 20, 50, 100):
            parts = np.array_split(np.random.default_rng(1).permutation(len(given.negatives)), groups)

            def score(x: Array, tau: float = tau, parts: list[Any] = parts) -> Array:
                known = log_sum_exp(x @ given.texts.T / tau)
                negative = x @ given.negatives.T / tau
                return np.mean([1 / (1 + np.exp(log_sum_exp(negative[:, part]) - known)) for part in parts], axis=0)

            yield f"tau = {tau}, G = {groups}", score


def s_dis(given: Given) -> Sweep:
    """The text's share of the prototypes, and the weight of the antibodies."""
    means = np.array([given.fit[given.labels == k].mean(axis=0) for k in range(len(given.texts))])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    for alpha in (0.7, 0.8, 0.85, 0.9, 0.95, 1.0):
        mu = (1 - alpha) * means + alpha * given.texts
        mu /= np.linalg.norm(mu, axis=1, keepdims=True)
        for weight in (0.0, 0.05, 0.1, 0.2, 0.25, 0.3, 0.5, 0.75, 1.0, 1.5):

            def score(x: Array, mu: Array = mu, weight: float = weight) -> Array:
                return (x @ mu.T).max(axis=1) - weight * (x @ given.negatives.T).max(axis=1)

            yield f"alpha = {alpha}, lambda = {weight}", score


SWEEPS: dict[str, Callable[[Given], Sweep]] = {
    "mcm": mcm,
    "energy": energy,
    "knn": knn,
    "mahalanobis": mahalanobis,
    "eoe": eoe,
    "neglabel": neglabel,
    "csp": neglabel,
    "s_dis": s_dis,
}

if __name__ == "__main__":
    sys.exit(main())
