"""Decoding alone: threads against processes, and the fast way against open_clip's own preprocessing.

    python benchmarks/decoding.py [--workers N] [--images N] [--rounds R] [--json]

For each kind of file: images per second of one thread, of N threads (what the pipeline uses) and of N processes that
hand back the same 8-bit pixels, of one thread with fast_decode, and how far its pixels are from the exact ones. The
ways take turns; the middle of R rounds is shown.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from pictures import draw_picture, write_pictures

from cluster.encoder.pixels import Pixels, Preprocessing
from cluster.encoder.reading import read_image

KINDS = {
    "500 x 375 JPEG, to 224": ("jpg", (500, 375), 224),
    "2000 x 1500 JPEG, to 224": ("jpg", (2000, 1500), 224),
    "64 x 64 PNG, to 64": ("png", (64, 64), 64),
}
AT_ONCE = 8
"""Images in one task of a worker, as in cluster.encoder.reading."""


def decode(paths: Sequence[str], size: int, *, fast: bool = False) -> list[Pixels]:
    """Read and preprocess some files, in this process and thread."""
    torch.set_num_threads(1)
    preprocessing = Preprocessing(image_transform_v2(PreprocessCfg(size=size), is_train=False), fast=fast)
    return [read_image(path, preprocessing.pixels) for path in paths]


def shared(workers: Executor, paths: Sequence[str], size: int) -> list[Pixels]:
    """Have workers do it."""
    tasks = [paths[i : i + AT_ONCE] for i in range(0, len(paths), AT_ONCE)]
    return [pixels for done in workers.map(partial(decode, size=size), tasks) for pixels in done]


def measure(paths: list[str], size: int, workers: int, rounds: int) -> dict[str, Any]:
    """Time every way on some files."""
    spawn = multiprocessing.get_context("spawn")
    with ThreadPoolExecutor(workers) as threads, ProcessPoolExecutor(workers, mp_context=spawn) as processes:
        ways: dict[str, Callable[[], list[Pixels]]] = {
            "1 thread": lambda: decode(paths, size),
            f"{workers} threads": lambda: shared(threads, paths, size),
            f"{workers} processes": lambda: shared(processes, paths, size),
            "1 thread, fast_decode": lambda: decode(paths, size, fast=True),
        }
        results = {name: way() for name, way in ways.items()}  # also starts the workers
        rates: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(rounds):
            for name, way in ways.items():
                started = time.perf_counter()
                way()
                rates[name].append(len(paths) / (time.perf_counter() - started))
    exact, fast = results["1 thread"], results["1 thread, fast_decode"]
    off = [np.abs(a.astype(int) - b) for a, b in zip(exact, fast, strict=True)]
    return {
        "images_per_second": {name: statistics.median(values) for name, values in rates.items()},
        "ratio_to_1_thread": {
            name: statistics.median(a / b for a, b in zip(values, rates["1 thread"], strict=True))
            for name, values in rates.items()
        },
        "fast_decode_off_by": {"mean": float(np.mean(off)), "max": int(np.max(off))},
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--images", type=int, default=192)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    given = parser.parse_args()
    results = {}
    for name, (suffix, size, target) in KINDS.items():
        with tempfile.TemporaryDirectory(prefix="decoding-") as folder:
            if suffix == "jpg":
                drawn = write_pictures(Path(folder), 24, size=size)
            else:
                rng = np.random.default_rng(0)
                drawn = [Path(folder) / f"{i}.png" for i in range(24)]
                for path in drawn:
                    draw_picture(rng, size).save(path)
            paths = [str(drawn[i % len(drawn)]) for i in range(given.images)]
            results[name] = measure(paths, target, given.workers, given.rounds)
        if not given.json:
            print(name)
            for way, rate in results[name]["images_per_second"].items():
                print(f"  {way:24}{rate:9.0f} images/s{results[name]['ratio_to_1_thread'][way]:8.2f} x 1 thread")
            off = results[name]["fast_decode_off_by"]
            print(f"  fast_decode is off by {off['mean']:.3f} of 255 levels in the mean, {off['max']} at most")
    if given.json:
        print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
