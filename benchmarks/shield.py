"""What a shield costs beside the encoder whose images it judges, how fast it loads, and how much memory it takes.

    python benchmarks/shield.py [--classes 1000] [--antibodies 10000] [--batch 32] [--threads 2] [--rounds 7] [--json]

A head of that size, of random unit vectors and with every term of the score (prototypes, typicality, guarded
antibodies, visual ones), judges batches of embeddings. The image tower of a CLIP ViT-B-32 with random weights embeds as
many images. They take turns; shown is the head's time over the tower's (the middle of the rounds' ratios, the least and
the most). Then the shield is written and loaded again: seconds, and the bytes of the head's arrays.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch

from evaluation.scores.base import EVERY_CLASS
from evaluation.shield.artefact import Artefact, Manifest, Provenance, ShieldAntibody, ShieldEncoder
from evaluation.shield.head import NEAREST, Head, HeadSettings, JudgedArrays
from evaluation.shield.thresholds import KnownScores, Thresholds
from immuno_core.features import FloatArray

DIM = 512
VISUAL = 10
KNOWN = 2_000
MOST_SHARE, MOST_SECONDS, MOST_MIB = 0.03, 2.0, 100.0
"""What is promised: see docs/shield.md."""


def unit(rng: np.random.Generator, *shape: int) -> FloatArray:
    """Random unit vectors."""
    rows = rng.standard_normal(shape).astype(np.float32)
    unit_rows: FloatArray = rows / np.linalg.norm(rows, axis=-1, keepdims=True)
    return unit_rows


def make_shield(classes: int, antibodies: int) -> Artefact:
    """Return a shield with every term, of random vectors; a tenth of its antibodies guard a class."""
    rng = np.random.default_rng(0)
    guards = np.full(antibodies, EVERY_CLASS)
    guards[::10] = rng.integers(0, classes, len(guards[::10]))
    arrays: dict[str, np.ndarray] = {
        "texts": unit(rng, classes, DIM),
        "prototypes": unit(rng, classes, DIM),
        "antibodies": unit(rng, antibodies, DIM),
        "radii": rng.uniform(0.0, 0.05, antibodies).astype(np.float32),
        "guards": guards,
        "centre": unit(rng, DIM).astype(np.float64),
        "whitening": rng.standard_normal((DIM, DIM)),
        "means": rng.standard_normal((classes, DIM)),
        "directions": rng.standard_normal((VISUAL, DIM)),
        "visual_radii": rng.uniform(1.0, 2.0, VISUAL),
    }
    settings = HeadSettings(
        closeness=0.2,
        distinctness=(0.5, 0.1),
        typicality=(0.01, 0.2),
        beta=2.5,
        visual_weight=0.02,
        near_classes=1,
        combine="max",
    )
    zero, score = np.zeros(KNOWN), rng.standard_normal(KNOWN)
    known = JudgedArrays(
        score=score,
        parts=np.stack([score, zero, zero], axis=1),
        repelled=zero,
        seen=zero,
        classes=rng.integers(0, classes, (KNOWN, NEAREST)),
        cosines=np.zeros((KNOWN, NEAREST)),
        antibody=np.full(KNOWN, -1),
        similarity=zero,
        margin=zero,
    )
    names = tuple(f"class {k}" for k in range(classes))
    listed = [
        ShieldAntibody(id=str(i), text=f"a photo of a thing {i}.", kind="contextual" if i % 10 == 0 else "look_alike")
        for i in range(antibodies)
    ]
    seen = [ShieldAntibody(id=f"v{i}", text="", kind="visual", samples=(f"set/{i}.png",)) for i in range(VISUAL)]
    manifest = Manifest(
        encoder=ShieldEncoder(
            model="ViT-B-32",
            pretrained=None,
            dim=DIM,
            logit_scale=100.0,
            image_size=224,
            precision="fp32",
            weights_digest="",
            preprocess_digest="",
        ),
        method="immuno_vlm",
        classes=names,
        class_template="a photo of a {}.",
        antibodies=(*listed, *seen),
        head=settings,
        parameters={},
        thresholds=Thresholds.of(known, names),
        calibrated_on=KNOWN,
        provenance=Provenance(created="2026-01-01T00:00:00+00:00"),
    )
    head = Head({name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}, settings).eval()
    return Artefact(manifest, head, KnownScores.of(known, antibodies + VISUAL), None)


def seconds(work: Callable[[], object]) -> float:
    """How long it takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def measure(classes: int, antibodies: int, batch: int, threads: int, rounds: int) -> dict[str, Any]:
    """Time head and tower in turn, and loading."""
    torch.set_num_threads(threads)
    shield = make_shield(classes, antibodies)
    tower = open_clip.create_model("ViT-B-32", pretrained=None).visual.eval()
    rng = np.random.default_rng(1)
    features, images = unit(rng, batch, DIM), torch.randn(batch, 3, 224, 224)
    names = [str(row) for row in range(batch)]

    def embed() -> None:
        with torch.inference_mode():
            tower(images)

    def judge() -> None:
        shield.verdicts(features, names)

    def head() -> None:
        shield.head.judge(features)

    for work in (embed, judge, head):
        work()
    times = [[seconds(work) for work in (embed, judge, head)] for _ in range(rounds)]
    with tempfile.TemporaryDirectory() as folder:
        shield.save(Path(folder))
        loading = [seconds(lambda: Artefact.load(Path(folder))) for _ in range(3)]
        on_disk = sum(path.stat().st_size for path in Path(folder).iterdir())
    of_judging = [judging / embedding for embedding, judging, _ in times]
    return {
        "classes": classes,
        "antibodies": antibodies,
        "batch": batch,
        "threads": threads,
        "embed_ms_per_image": 1000 * statistics.median(one[0] for one in times) / batch,
        "judge_ms_per_image": 1000 * statistics.median(one[1] for one in times) / batch,
        "share": statistics.median(of_judging),
        "share_range": [min(of_judging), max(of_judging)],
        "share_of_head_alone": statistics.median(head / embedding for embedding, _, head in times),
        "load_seconds": statistics.median(loading),
        "head_mib": shield.head.size() / 2**20,
        "disk_mib": on_disk / 2**20,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("classes", 1000), ("antibodies", 10_000), ("batch", 32), ("threads", 2), ("rounds", 7)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = measure(options.classes, options.antibodies, options.batch, options.threads, options.rounds)
    if options.json:
        print(json.dumps(found))
        return
    low, high = found["share_range"]
    print(
        f"{options.classes:,} classes, {options.antibodies:,} antibodies, batches of {options.batch}, "
        f"{options.threads} threads; {options.rounds} rounds\n"
        f"judging over embedding (ViT-B-32): {100 * found['share']:.2f} % ({100 * low:.2f} to {100 * high:.2f}); "
        f"at most {100 * MOST_SHARE:g} % is promised; the head alone {100 * found['share_of_head_alone']:.2f} %\n"
        f"loading: {found['load_seconds']:.2f} s (at most {MOST_SECONDS:g})\n"
        f"memory of the head: {found['head_mib']:.1f} MiB (at most {MOST_MIB:g}); on disk {found['disk_mib']:.1f} MiB"
    )


if __name__ == "__main__":
    main()
