"""Measures a checkpoint of the mini-world on a world made for nothing else.

The figures go into the checkpoint's PROVENANCE.json. They say how much room there is between the zero-shot baselines
(maximum softmax probability, "MCM", and plain maximum cosine) and perfect rejection; nothing is ever tuned on them.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from evaluation.metrics import Scores, auroc, fpr95_id
from evaluation.miniworld.model import LoadedModel, load
from evaluation.miniworld.vocabulary import nouns
from evaluation.miniworld.world import MiniWorld, Sizes, build

MEASURING_SEED: Final = 20_260_607
"""The seed of the world that is measured on. Use it for nothing else."""
MEASURING_SIZES: Final = Sizes(
    fit_per_class=1,
    feedback_id=1,
    feedback_near=1,
    feedback_contextual=1,
    feedback_far=1,
    test_id=1600,
    test_near=1600,
    test_contextual=1600,
    test_far=1600,
    test_near_unseen=1600,
    test_contextual_unseen=1600,
)
TEMPLATE: Final = "a photo of a {}."
_BATCH: Final = 200
Matrix = NDArray[np.float64]


def measure_on_fresh_world(checkpoint: Path) -> dict[str, Any]:
    """Draws the measuring world into a temporary folder and measures a checkpoint on its test split."""
    with tempfile.TemporaryDirectory(prefix="miniworld-measure-") as folder:
        world = build(Path(folder), seed=MEASURING_SEED, sizes=MEASURING_SIZES)
        return measure(load(checkpoint), world)


def measure(model: LoadedModel, world: MiniWorld) -> dict[str, Any]:
    """Accuracy on known classes, and how well two baselines tell them from each set of outliers.

    `mcm` is the largest softmax probability of the cosines at temperature 1, as in the MCM paper; `mcm_scaled` the same
    at the model's own logit scale; `max_cosine` the largest cosine. Higher means known. `fpr95_id` is the share of
    outliers above the score that 95 % of the known images reach; `auroc` the probability that a known image scores
    higher than an outlier.
    """
    classes = list(world.classes)
    texts = embed_texts(model, [TEMPLATE.format(nouns(name)[0]) for name in classes])
    labels: dict[str, list[str]] = {}
    cosines: dict[str, Matrix] = {}
    for name in world.set_names("test"):
        paths = sorted(world.folder("test", name).glob("*/*.png"))
        labels[name] = [path.parent.name for path in paths]
        cosines[name] = embed_images(model, paths) @ texts.T
    scale = model.model.logit_scale.exp().item()
    outliers = [name for name in cosines if name != "id"]

    def accuracy(name: str) -> float:
        # The label of a contextual anomaly begins with the class it shows: fish_in_lava.
        shown = [classes.index(label.split("_in_")[0]) for label in labels[name]]
        return _rounded(np.mean(cosines[name].argmax(1) == shown))

    def separation(scores: dict[str, Scores]) -> dict[str, dict[str, float]]:
        return {
            name: {
                "fpr95_id": _rounded(fpr95_id(scores["id"], scores[name])),
                "auroc": _rounded(auroc(scores["id"], scores[name])),
            }
            for name in outliers
        }

    return {
        "world_seed": world.seed,
        "images_per_set": {name: len(names) for name, names in labels.items()},
        "template": TEMPLATE,
        "logit_scale": _rounded(scale),
        "id_accuracy": accuracy("id"),
        "contextual_accuracy": accuracy("contextual"),
        "contextual_unseen_accuracy": accuracy("contextual_unseen"),
        "mcm": separation({name: _largest_probability(values) for name, values in cosines.items()}),
        "mcm_scaled": separation({name: _largest_probability(scale * values) for name, values in cosines.items()}),
        "max_cosine": separation({name: values.max(1) for name, values in cosines.items()}),
    }


def embed_texts(model: LoadedModel, texts: list[str]) -> Matrix:
    """Unit embeddings of n texts, (n, d)."""
    with torch.inference_mode():
        embeddings = model.model.encode_text(model.tokenizer(texts), normalize=True)
    return np.asarray(embeddings.double().numpy())


def embed_images(model: LoadedModel, paths: list[Path]) -> Matrix:
    """Unit embeddings of n image files, (n, d)."""
    parts = []
    with torch.inference_mode():
        for start in range(0, len(paths), _BATCH):
            images = torch.stack([model.preprocess(Image.open(path)) for path in paths[start : start + _BATCH]])
            parts.append(model.model.encode_image(images, normalize=True).double().numpy())
    return np.concatenate(parts)


def _largest_probability(logits: Matrix) -> Scores:
    """The largest softmax probability of each row; (n, k) to (n,)."""
    shifted = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(shifted.max(1) / shifted.sum(1))


def _rounded(value: float | np.floating[Any]) -> float:
    return round(float(value), 4)
