"""Measures evaluation.effects.antibody_effects: every antibody's exact solo and leave-one-out effects.

    python benchmarks/effects.py                  # 2,000 antibodies x 20,000 images x 512 dimensions, and peak memory
    python benchmarks/effects.py --memory-antibodies 0 --json

Prints, for each score:

- product: seconds for the bare matrix product antibodies x images in float64, the precision of the effects;
- effects: seconds for all effects, and how many products that is;
- again: seconds for scoring the images again with each antibody alone and with each left out, and for their metrics,
  without fitting anything again. Timed on a few antibodies and scaled up to all of them;
- differs: the largest difference of an effect between the two ways, on those few antibodies. A score with groups
  (neglabel) would form its groups anew, so it is compared on solo effects only.

Then, in a process of its own, the peak memory of a larger bank on more images. The embeddings are random unit vectors
made to look like CLIP's: texts share a direction, images share another one, an image leans to its class's text, half of
the outliers lean to an antibody.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from evaluation.effects.antibody_effects import antibody_effects
from evaluation.metrics import auroc, fpr95_id, threshold_at
from evaluation.scores.base import FittedScore
from evaluation.scores.negative_labels import assign_groups
from evaluation.scores.registry import make_score
from evaluation.space import Bank, Space
from immuno_core.features import FeatureSet, FloatArray, IntArray
from immuno_core.records import Antibody, Split

SCORES: dict[str, dict[str, Any]] = {
    "calibrated": {"name": "calibrated"},
    "calibrated sum": {"name": "calibrated", "combine": "sum"},
    "s_dis": {"name": "s_dis"},
    "eoe": {"name": "eoe"},
    "neglabel": {"name": "neglabel"},
}
FIT_PER_CLASS = 4


class World:
    """Random embeddings: a space with a bank, known images and two outlier sets, of `samples` images together."""

    def __init__(self, *, antibodies: int, samples: int, dim: int, classes: int) -> None:
        self._rng = np.random.default_rng(0)
        self._dim = dim
        self._of_texts, self._of_images = self._directions(2)
        own = self._directions(classes)
        repelled = self._directions(antibodies)
        labels, fit_labels = (self._rng.integers(0, classes, n) for n in (samples // 2, FIT_PER_CLASS * classes))
        names = tuple(f"class {k}" for k in range(classes))
        self.space = Space(
            classes=names,
            texts=_unit(0.72 * self._of_texts + 0.69 * own),
            logit_scale=100.0,
            fit=self._images("fit", "fit", own[fit_labels]),
            fit_labels=fit_labels,
            bank=Bank.empty(dim) if not antibodies else _bank(_unit(0.72 * self._of_texts + 0.69 * repelled)),
        )
        self.known, self.labels = self._images("id", "feedback", own[labels]), labels
        far = self._directions(samples // 4)
        near = repelled[self._rng.integers(0, antibodies, samples - samples // 2 - len(far))]
        self.outliers = {name: self._images(name, "feedback", lean) for name, lean in (("near", near), ("far", far))}

    def _directions(self, count: int) -> FloatArray:
        return _unit(self._rng.standard_normal((count, self._dim), dtype=np.float32))

    def _images(self, name: str, split: Split, lean: FloatArray) -> FeatureSet:
        features = _unit(0.68 * self._of_images + 0.28 * lean + 0.68 * self._directions(len(lean)))
        ids = tuple(str(i) for i in range(len(features)))
        return FeatureSet(name, split, features, ids, ("",) * len(ids), ids)


def _unit(rows: FloatArray) -> FloatArray:
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def _bank(vectors: FloatArray) -> Bank:
    return Bank.of((Antibody(str(j)) for j in range(len(vectors))), vectors)


def with_antibodies(fitted: Any, rows: IntArray) -> Any:
    """Return a fitted score with some of its antibodies; groups form anew."""
    parts = {key: getattr(fitted, key)[rows] for key in ("antibodies", "radii", "guards") if hasattr(fitted, key)}
    if hasattr(fitted, "group"):
        parts["group"] = assign_groups(len(rows), fitted.groups)
    return replace(fitted, bank=fitted.bank.take(rows), **parts)


def measure(world: World, params: dict[str, Any], few: int) -> dict[str, Any]:
    """Time all effects, the bare product, and scoring again for a few antibodies."""
    fitted = make_score(**params).fit(world.space)
    count = len(world.space.bank)
    images = np.concatenate([world.known.features, *(one.features for one in world.outliers.values())])
    vectors, points = world.space.bank.vectors.astype(np.float64), images.astype(np.float64)
    product = min(_seconds(lambda: vectors @ points.T) for _ in range(3))
    start = time.perf_counter()
    effects = antibody_effects(fitted, world.known, world.labels, world.outliers)
    seconds = time.perf_counter() - start
    everyone = np.arange(count)
    bare, full = _scores(with_antibodies(fitted, everyone[:0]), world), _scores(fitted, world)
    differs, spent = 0.0, 0.0
    some = np.linspace(0, count - 1, few, dtype=int)
    for j in some:
        start = time.perf_counter()
        alone = _scores(with_antibodies(fitted, everyone[j : j + 1]), world)
        without = _scores(with_antibodies(fitted, np.delete(everyone, j)), world)
        again = [_changes(bare, alone), _changes(without, full)]
        spent += time.perf_counter() - start
        scopes = 1 if hasattr(fitted, "group") else 2
        for i in range(len(world.outliers)):
            for scope in range(scopes):
                effect = effects[(j * len(world.outliers) + i) * 2 + scope].effect
                found = effect.gain, effect.harm, effect.d_fpr95, effect.d_auroc
                differs = max(differs, *(abs(a - b) for a, b in zip(found, again[scope][i], strict=True)))
    total = spent / few * count
    return {
        "product_s": product,
        "effects_s": seconds,
        "products": seconds / product,
        "again_s": total,
        "times_faster": total / seconds,
        "differs": differs,
        "timed_again": few,
    }


def _scores(fitted: FittedScore, world: World) -> list[Any]:
    return [fitted.score(one.features) for one in (world.known, *world.outliers.values())]


def _changes(before: list[Any], after: list[Any]) -> list[tuple[float, ...]]:
    """Gain, harm and changes of FPR95 and AUROC, by outlier set."""
    threshold = threshold_at(before[0])
    lost = []
    for old, new in zip(before, after, strict=True):
        accepted = old >= threshold
        lost.append(float(np.mean(new[accepted] < threshold)) if accepted.any() else 0.0)
    return [
        (
            lost[i],
            lost[0],
            fpr95_id(after[0], after[i]) - fpr95_id(before[0], before[i]),
            auroc(after[0], after[i]) - auroc(before[0], before[i]),
        )
        for i in range(1, len(before))
    ]


def _seconds(work: Any) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def peak(world: World, params: dict[str, Any]) -> dict[str, float]:
    """Measure all effects once; the peak memory is that of this whole process."""
    fitted = make_score(**params).fit(world.space)
    seconds = _seconds(lambda: antibody_effects(fitted, world.known, world.labels, world.outliers))
    return {"effects_s": seconds, "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}


def main() -> None:
    """Parse the arguments, measure, print."""
    parser = argparse.ArgumentParser(description="Speed and memory of boundary effects.")
    parser.add_argument("--antibodies", type=int, default=2000)
    parser.add_argument("--samples", type=int, default=20000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--scores", nargs="+", choices=SCORES, default=list(SCORES))
    parser.add_argument("--few", type=int, default=3, help="antibodies to score again, scaled up to all of them")
    parser.add_argument("--memory-antibodies", type=int, default=10000, help="0: leave out the measurement of memory")
    parser.add_argument("--memory-samples", type=int, default=100000)
    parser.add_argument(
        "--memory-scores", nargs="+", choices=SCORES, default=["calibrated", "s_dis", "eoe", "neglabel"]
    )
    parser.add_argument("--json", action="store_true", help="print JSON on stdout and nothing else there")
    parser.add_argument("--peak-of", choices=SCORES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    world = World(antibodies=args.antibodies, samples=args.samples, dim=args.dim, classes=args.classes)
    if args.peak_of:
        print(json.dumps(peak(world, SCORES[args.peak_of])))
        return
    found: dict[str, Any] = {"antibodies": args.antibodies, "samples": args.samples, "dim": args.dim, "speed": {}}
    if not args.json:
        print(f"{args.antibodies:,} antibodies x {args.samples:,} images x {args.dim} d, random embeddings like CLIP's")
    for name in args.scores:
        one = found["speed"][name] = measure(world, SCORES[name], args.few)
        if not args.json:
            print(
                f"  {name:<15} effects {one['effects_s']:6.2f} s = {one['products']:5.2f} x the product "
                f"({one['product_s']:.2f} s); scoring again {one['again_s']:8.0f} s (scaled up from "
                f"{one['timed_again']}) = {one['times_faster']:6.0f} x as long; differs by {one['differs']:.1e}"
            )
    if args.memory_antibodies:
        del world
        found["memory"] = {"antibodies": args.memory_antibodies, "samples": args.memory_samples}
        if not args.json:
            print(f"{args.memory_antibodies:,} antibodies x {args.memory_samples:,} images x {args.dim} d")
        for name in args.memory_scores:
            sizes = {"antibodies": args.memory_antibodies, "samples": args.memory_samples, "dim": args.dim}
            options = [str(part) for key, value in sizes.items() for part in (f"--{key}", value)]
            command = [sys.executable, __file__, *options, "--classes", str(args.classes), "--peak-of", name]
            one = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            found["memory"][name] = one
            if not args.json:
                print(f"  {name:<15} effects {one['effects_s']:6.1f} s; peak {one['peak_gib']:.2f} GiB, all included")
    if args.json:
        print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
