"""Peak memory of driver and actors: does it grow with the set?

    python benchmarks/embedding_memory.py [--small N] [--large N] [--json]

Embeds a small and a large set (2,000 and 20,000 drawn images, the mini-world's model) through RayEmbedder on a private
cluster, each in a process of its own, and compares the peaks of resident memory as Linux keeps them (VmHWM). What an
embedder returns, (n, 128) float32, counts as the driver's.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from cluster import RayEmbedder
from immuno_core.config.run import ClusterConfig, EncoderConfig
from immuno_core.records import ImageSet, Sample

DISTINCT = 200
"""Pictures that are drawn; the files of a set are links to them."""


def embed(images: int) -> dict[str, float]:
    """Embed a set of that many images; return the peaks in MiB of this process and of the largest actor."""
    import numpy as np

    from evaluation.miniworld.drawing.scene import render
    from evaluation.miniworld.vocabulary import CATEGORIES, SEEN_CONTEXTS

    with tempfile.TemporaryDirectory(prefix="memory-") as folder:
        rng = np.random.default_rng(0)
        samples = []
        for i in range(images):
            drawn, path = Path(folder) / f"{i % DISTINCT:06}.png", Path(folder) / f"{i:06}.png"
            if i < DISTINCT:
                render(CATEGORIES[i % len(CATEGORIES)], SEEN_CONTEXTS[i % len(SEEN_CONTEXTS)], rng).save(path)
            else:
                os.link(drawn, path)
            samples.append(Sample(path.name, str(path), ""))
        cluster = ClusterConfig(store=Path(folder) / "store")
        with RayEmbedder(EncoderConfig(model="miniworld"), cluster, ray_address="local") as embedder:
            features = embedder.embed_images(ImageSet("set", "fit", "id", tuple(samples), digest="-"))
            actors = [peak(place.pid) for place in embedder.started().places]
        if len(features) != images:
            raise SystemExit(f"{len(features)} of {images} images were embedded")
    return {"driver": peak(os.getpid()), "actor": max(actors)}


def peak(pid: int) -> float:
    """Return the peak of a process's resident memory in MiB."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    if found is None:
        raise SystemExit("this system does not say how much memory a process has used (no VmHWM in /proc)")
    return int(found[1]) / 1024


def in_a_process_of_its_own(images: int) -> dict[str, float]:
    """Embed in a new process, whose peak is then that of this set alone."""
    done = subprocess.run(
        [sys.executable, __file__, "--only", str(images)], check=True, stdout=subprocess.PIPE, text=True
    )
    peaks: dict[str, float] = json.loads(done.stdout)
    return peaks


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", type=int, default=2_000)
    parser.add_argument("--large", type=int, default=20_000)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--only", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.only is not None:
        print(json.dumps(embed(given.only)))
        return
    small, large = in_a_process_of_its_own(given.small), in_a_process_of_its_own(given.large)
    ratios = {name: large[name] / small[name] for name in small}
    if given.json:
        print(json.dumps({"small": small, "large": large, "ratios": ratios}, indent=1))
        return
    print(f"{'peak, MiB':12}{given.small:>10,}{given.large:>10,}     ratio (target: at most 1.15)")
    for name, ratio in ratios.items():
        print(f"{name:12}{small[name]:10.0f}{large[name]:10.0f}{ratio:10.3f}")


if __name__ == "__main__":
    main()
