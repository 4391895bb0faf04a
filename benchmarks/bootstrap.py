"""The bootstrap of all metrics against a plain loop that measures every resample anew.

    python benchmarks/bootstrap.py [--known N] [--outliers M] [--replicates R] [--loop L]

The loop is timed on L replicates and scaled to R; everything else is measured whole.
"""

from __future__ import annotations

import argparse
import time
import tracemalloc

import numpy as np

from evaluation import metrics
from evaluation.bootstrap import MethodScores, resample

SET = "outliers"


def plain_loop(scores: MethodScores, replicates: int, seed: int) -> None:
    """Draw, write the arrays out, and measure them with evaluation.metrics."""
    rng = np.random.default_rng(seed)
    known, right, outliers = scores.known, scores.right, scores.outliers[SET]
    ones = np.ones(known.size, np.int64)
    for _ in range(replicates):
        drawn = rng.integers(0, known.size, known.size)
        a, hit, b = known[drawn], right[drawn], outliers[rng.integers(0, outliers.size, outliers.size)]
        area = metrics.auroc(a, b)
        metrics.aupr_in(a, b)
        metrics.aupr_out(a, b)
        metrics.fpr95_id(a, b)
        metrics.fpr95_ood(a, b)
        metrics.h_score(metrics.id_accuracy(hit.astype(np.int64), ones), area)
        metrics.oscr(a, hit, b)


def main() -> None:
    """Print times, their ratio, and the peak of memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--known", type=int, default=50_000)
    parser.add_argument("--outliers", type=int, default=50_000)
    parser.add_argument("--replicates", type=int, default=1000)
    parser.add_argument("--loop", type=int, default=20, help="replicates of the plain loop that are timed")
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    scores = MethodScores(
        rng.normal(1, 1, given.known), rng.random(given.known) < 0.8, {SET: rng.normal(0, 1, given.outliers)}
    )

    start = time.perf_counter()
    found = resample({"method": scores}, seed=0, count=given.replicates)
    ours = time.perf_counter() - start

    start = time.perf_counter()
    plain_loop(scores, given.loop, seed=0)
    loop = (time.perf_counter() - start) * given.replicates / given.loop

    tracemalloc.start()
    resample({"method": scores}, seed=0, count=min(given.replicates, 20))
    peak = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()

    print(f"{given.known} known and {given.outliers} outlier scores, {given.replicates} replicates of all 8 metrics")
    print(f"bootstrap            {ours:8.2f} s, one thread, peak of its arrays {peak:.0f} MiB")
    print(f"plain loop           {loop:8.2f} s (timed on {given.loop} replicates, and scaled)")
    print(f"ratio                {loop / ours:8.1f} times faster")
    for metric, (low, high) in found.intervals("method", SET).items():
        print(f"{metric:20} {found.points[metric][0, 0]:8.4f}  [{low:.4f}, {high:.4f}]")


if __name__ == "__main__":
    main()
