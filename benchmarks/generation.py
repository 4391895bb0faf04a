"""Measures what evaluation costs a session: whole generations at the size of ImageNet, against an earlier commit.

    git worktree add /tmp/before COMMIT
    python benchmarks/generation.py --before /tmp/before
    python benchmarks/generation.py --classes 100 --antibodies 200 --images 4000     # smaller; only ours

Prints for each generation after the first: seconds of processor time, and the peak memory of the process. The first has
a bank of --antibodies to begin with; what is computed once a session falls into the next. Both ways run in processes of
their own, one after the other, and what they measured is compared: metrics, effects, and every verdict.

The embeddings are random unit vectors made to look like CLIP's: texts share a direction, images share another one, an
image leans to its class's text, half of the outliers to a class and an antibody. The chat model is the lexicon.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

# Before this folder, where `evaluation` is this file; PYTHONPATH says whose code is measured.
sys.path.insert(0, os.environ.get("PYTHONPATH", str(Path(__file__).resolve().parent.parent)))

from agents.feedback import measure
from agents.session import RefinementSession
from db import GenerationDraft, new_id, open_store
from db.store import AntibodyStore
from evaluation.space import Bank, Feedback, Space
from immuno_core.config.refine import RefineConfig
from immuno_core.features import FeatureSet, FloatArray
from immuno_core.records import Antibody, EncoderInfo, Split

ROOT = Path(__file__).resolve().parent.parent
FIT_PER_CLASS = 16
OF_TEXTS, OF_OWN, OF_IMAGES, OF_LEAN = 0.72, 0.69, 0.68, 0.28
CONFIG = {"classes_per_generation": 8, "proposals_per_class": 12}


class World:
    """Random embeddings: a space, and the embeddings of a bank; embeds texts, equal ones alike."""

    def __init__(self, classes: int, antibodies: int, images: int, dim: int) -> None:
        self._rng, self._dim = np.random.default_rng(0), dim
        self.encoder = EncoderInfo("made", None, dim, 100.0, 224, "fp32", "w" * 64, "p" * 64)
        self._of_texts, self._of_images = self._directions(2)
        own, repelled = self._directions(classes), self._directions(antibodies)
        names = tuple(f"class{k}" for k in range(classes))
        fit_labels, known = np.repeat(np.arange(classes), FIT_PER_CLASS), self._rng.integers(0, classes, images // 2)
        near = (images - len(known)) // 2
        lean = (
            0.35 * repelled[self._rng.integers(0, antibodies, near)] + 0.75 * own[self._rng.integers(0, classes, near)]
        )
        outliers = {"near": lean, "far": self._directions(images - len(known) - near)}
        self.space = Space(
            classes=names,
            texts=_unit(OF_TEXTS * self._of_texts + OF_OWN * own),
            logit_scale=100.0,
            fit=self._images("id", "fit", own[fit_labels], [names[k] for k in fit_labels]),
            fit_labels=fit_labels,
            bank=Bank.empty(dim),
            feedback=Feedback(
                self._images("id", "feedback", own[known], [names[k] for k in known]),
                known,
                {name: self._images(name, "feedback", leaning) for name, leaning in outliers.items()},
            ),
        )
        self.bank = Bank(
            tuple(Antibody(f"thing {j}", guards=names[j % classes], id=new_id()) for j in range(antibodies)),
            _unit(OF_TEXTS * self._of_texts + OF_OWN * repelled),
        )

    def embed_texts(self, texts: Sequence[str]) -> FloatArray:
        """Return (n, d)."""
        drawn = [np.random.default_rng(zlib.crc32(one.encode())).standard_normal(self._dim) for one in texts]
        directions = _unit(np.array(drawn, np.float32).reshape(-1, self._dim))
        return _unit(OF_TEXTS * self._of_texts + OF_OWN * directions)

    def cut_texts(self, _texts: Sequence[str]) -> tuple[str, ...]:
        """None is."""
        return ()

    def _directions(self, count: int) -> FloatArray:
        return _unit(self._rng.standard_normal((count, self._dim), dtype=np.float32))

    def _images(self, name: str, split: Split, lean: FloatArray, labels: Sequence[str] = ()) -> FeatureSet:
        noise = self._directions(len(lean))
        features = _unit(OF_IMAGES * self._of_images + OF_LEAN * lean + OF_IMAGES * noise)
        ids = tuple(f"{name}/{i}.jpg" for i in range(len(features)))
        return FeatureSet(name, split, features, ids, tuple(labels) or ("",) * len(ids), ids)


def _unit(rows: FloatArray) -> FloatArray:
    rows = rows.astype(np.float32, copy=False)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def run(given: argparse.Namespace) -> dict[str, Any]:
    """Run a session from a large bank on; return seconds by generation, peak memory, and what was measured."""
    world = World(given.classes, given.antibodies, given.images, given.dim)
    config = RefineConfig.model_validate(CONFIG | {"generations": 1 + given.generations})
    with tempfile.TemporaryDirectory() as folder, open_store(f"{folder}/immuno.db") as store:
        record = store.create_session("one", config={}, seed=0, git_sha=None, versions={}, encoder=world.encoder)
        session = RefinementSession(record, config, store, world.space, world)
        session._first_generation()
        _begin_with(store, record.id, world, config)
        last, seconds = time.process_time(), []

        def told(_: Any) -> None:
            nonlocal last
            seconds.append(time.process_time() - last)
            last = time.process_time()

        done = session.run(told)[2:]
        texts = {one.id: one.text for one in store.antibodies(record.id)}
        measured = [_measured(store, record.id, one, texts) for one in done]
    return {
        "seconds": seconds,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "measured": json.loads(json.dumps(measured, default=str)),
    }


def _begin_with(store: AntibodyStore, session_id: str, world: World, config: RefineConfig) -> None:
    """Record a generation that keeps a large bank."""
    (first,) = store.generations(session_id)
    bank, now = world.bank, datetime.now(UTC)
    boundary = measure(world.space, bank, config.score, config.acceptance)
    store.save_generation(
        GenerationDraft(
            *(session_id, 1, 0, 0, {}, True, "made", now, now),
            guideline=first.guideline,
            metrics=boundary.as_metrics(),
            random_state=first.random_state,
            antibodies=bank.antibodies,
            vectors=dict(zip(bank.ids, bank.vectors, strict=True)),
            bank=bank.ids,
        )
    )


def _measured(store: AntibodyStore, session_id: str, generation: Any, texts: dict[str, str]) -> dict[str, Any]:
    """What a generation stored, ids aside."""
    effects = [
        (one.scope, one.outlier_set, texts.get(one.antibody_id or ""), one.gain, one.harm, one.d_fpr95, one.d_auroc)
        for one in store.effects(session_id, generation=generation.number)
    ]
    verdicts = store.verdicts(generation.id)
    said = [(v.sample_id, v.accepted, v.nearest_class, texts.get(v.nearest_antibody or "")) for v in verdicts]
    return {"metrics": generation.metrics, "effects": effects, "said": said, "scores": [v.score for v in verdicts]}


def main() -> None:
    """Run ours, and the other commit's where it is given; print both and what differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--antibodies", type=int, default=2000)
    parser.add_argument("--images", type=int, default=40_000, help="of the feedback")
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--generations", type=int, default=2)
    parser.add_argument("--before", type=Path, metavar="FOLDER", help="a checkout of the commit to compare with")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(run(given)))
        return
    found = {}
    for name, folder in {"before": given.before, "ours": ROOT}.items():
        if folder is None:
            continue
        command = [sys.executable, __file__, *sys.argv[1:], "--one"]
        environment = os.environ | {"PYTHONPATH": str(folder.resolve()), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True, cwd=folder)
        found[name] = json.loads(done.stdout.splitlines()[-1])
        seconds = "  ".join(f"{one:.1f} s" for one in found[name]["seconds"])
        print(f"{name}: generations {seconds}  peak memory {found[name]['peak_mib']} MiB", flush=True)
    if "before" in found:
        before, ours = found["before"], found["ours"]
        ratios = [mine / old for mine, old in zip(ours["seconds"], before["seconds"], strict=True)]
        print("ratio: " + "  ".join(f"{one:.2f}" for one in ratios) + "  target <= 0.33")
        for old, mine in zip(before["measured"], ours["measured"], strict=True):
            same = {name: old[name] == mine[name] for name in ("metrics", "effects", "said")}
            apart = np.abs(np.array(old["scores"]) - np.array(mine["scores"]))
            print(f"the same: {same}; scores differ on {np.count_nonzero(apart)} images, by {apart.max():.1e} at most")


if __name__ == "__main__":
    main()
