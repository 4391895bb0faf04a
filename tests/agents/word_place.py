"""The word world on disk, with a configuration: `immuno refine` runs on it in a second, without a model or Ray."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from agents.feedback import feedback_of, fit_of
from evaluation.data.feature_files import read_feature_set
from immuno_core.features import FeatureSet
from immuno_core.records import ImageSet
from tests.configs import write_config

from . import word_world as world


class WordPlaceEmbedder(world.WordEmbedder):
    """Embeds words, and takes images as they come: with their embeddings."""

    def embed_images(self, images: ImageSet) -> FeatureSet:
        return read_feature_set(images, dim=world.DIM)


@contextmanager
def word_embedder(*_: Any, **__: Any) -> Iterator[WordPlaceEmbedder]:
    """Stands in for cluster.ray_embedder.make_embedder: the encoder "words" is of these tests alone."""
    yield WordPlaceEmbedder()


def write_word_world(folder: Path, **refine: Any) -> Path:
    """Write features, classes and configuration, with more keys of [refine]; return the configuration's path."""
    feedback = feedback_of(world.space())
    sets = {"fit": fit_of(world.space())[0], "known": feedback.known, **feedback.outliers}
    sets |= {"sealed_known": feedback.known, "sealed_near": feedback.outliers["near"]}  # there, and never opened
    for name, images in sets.items():
        of_classes = name in ("fit", "known", "sealed_known")
        labels = np.array(images.label_names) if of_classes else np.array([""] * len(images))
        np.savez(folder / f"{name}.npz", features=images.features, labels=labels, ids=np.array(images.ids))
    (folder / "classes.txt").write_text("\n".join(world.CLASSES))
    score = {"name": "calibrated", "base": "max_cosine", "eps": 0.02}
    return write_config(
        folder / "words.toml",
        encoder={"model": "words"},
        classes={"names": "classes.txt"},
        data={
            "fit": "fit.npz",
            "feedback_id": "known.npz",
            "feedback": {"near": "near.npz", "contextual": "contextual.npz"},
            "id": "sealed_known.npz",
            "ood": {"near": "sealed_near.npz"},
        },
        refine={"generations": 2, "classes_per_generation": 4, "proposals_per_class": 8, "score": score} | refine,
    )
