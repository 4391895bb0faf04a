"""The control `pixels`: outliers that are drawn instead of told, and what each way costs.

Kind for kind, as many as the bank has: a look-alike's place takes a fit image of the class that it guards (any, where
that is none) under a patch of another class's, or in patches of another order, in turn; a contextual antibody's place
takes the foreground of such an image before the background of another class's (immuno_core.images.composites). The
images are made where they are embedded and lie nowhere; their embeddings are antibodies like any other.

What an antibody costs is measured anew, nothing from a store: seconds of one actor, passes of a model, and the bytes
that it is made of, the text or the image as PNG. A bank of a session also cost the chat model's tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from evaluation.benchmark.fields import Number, Part, Text
from evaluation.space import Bank, Space
from immuno_core.errors import SetupError
from immuno_core.features import Embedder, IntArray
from immuno_core.images import How, MadeImage, feature_row, made_image
from immuno_core.records import Antibody, ImageSet, Sample, text_digest

_SIDE: Final = 224
"""Pixels, for an encoder that does not say what it reads."""
_LOOK_ALIKE: Final[tuple[How, How]] = ("cutmix", "shuffled")
_MEASURED: Final = 64
"""Antibodies at most on which a cost is measured."""
Timed = Callable[[Sequence[str], Sequence[str]], tuple[float, float]]
"""Seconds that embedding takes anew: all of these texts, all of these images (paths)."""


class Cost(Part):
    """What an antibody costs on average; None where that was not measured."""

    antibodies: int = 0
    seconds: Number = None
    """Of one actor whose model is loaded."""
    passes: Number = None
    tower: Text = ""
    """Of the model, that the passes go through."""
    bytes: Number = None
    tokens: Number = None
    """Of the chat model, in and out, over the whole session."""


class Costs(Part):
    """Texts beside images made of known ones."""

    texts: Cost = Cost()
    pixels: Cost = Cost()


def drawings(base: Space, *, side: int, seed: int) -> ImageSet:
    """Return the images in the place of the bank's antibodies, none of them made yet; each id is a row of the bank.

    Raises SetupError without fit images, and where they come as embeddings alone.
    """
    fit, labels = base.fit, base.fit_labels
    if fit is None or labels is None or not len(fit):
        raise SetupError("the arm 'pixels' makes outliers of fit images, and there are none: give [data.fit]")
    if feature_row(fit.paths[0]) is not None:
        raise SetupError(
            "the arm 'pixels' makes outliers of fit images, and these came as embeddings, without the images"
        )
    rng = np.random.default_rng([seed, int(text_digest("pixels")[:8], 16)])
    row_of = {name: k for k, name in enumerate(base.classes)}
    samples = []
    for j, (kind, guards) in enumerate(zip(base.bank.kinds, base.bank.guards, strict=True)):
        how = "moved" if kind == "contextual" else _LOOK_ALIKE[j % 2]
        first, second = _pair(rng, labels, row_of.get(guards))
        made = MadeImage(how, (fit.paths[first], fit.paths[second]), side, int(rng.integers(2**31)))
        samples.append(Sample(str(j), str(made), fit.label_names[first]))
    return ImageSet("pixels", "fit", "outlier", tuple(samples), text_digest(*(one.path for one in samples)))


def drawn_bank(base: Space, embedder: Embedder, *, seed: int) -> Bank:
    """Return the bank of the arm. Raises SetupError as `drawings` does, and where none of them can be made."""
    found = embedder.embed_images(drawings(base, side=embedder.encoder.image_size or _SIDE, seed=seed))
    antibodies = []
    for key, path in zip(found.ids, found.paths, strict=True):
        made, replaced = made_image(path), base.bank.antibodies[int(key)]
        text = f"image {key}, {made.how if made else 'made'}"
        antibodies.append(Antibody(text, replaced.kind, replaced.guards, id=f"pixels:{key}"))
    return Bank(tuple(antibodies), np.array(found.features))


def costs(base: Space, texts: Sequence[str], timed: Timed, *, side: int, seed: int, tokens: float | None) -> Costs:
    """Return what an antibody of the bank and one of the arm cost; `texts` are as they are embedded, one or more.

    `tokens` is what a text of the bank cost the chat model.
    """
    drawn = [one.path for one in drawings(base, side=side or _SIDE, seed=seed).samples]
    count, some_texts, some = len(base.bank), texts[:_MEASURED], drawn[:_MEASURED]
    of_texts, of_images = timed(some_texts, some)
    images = [made.png() for path in some if (made := made_image(path)) is not None]
    return Costs(
        texts=Cost(
            antibodies=count,
            seconds=of_texts / len(some_texts),
            passes=1.0,
            tower="text",
            bytes=float(np.mean([len(text.encode()) for text in texts])),
            tokens=tokens,
        ),
        pixels=Cost(
            antibodies=count,
            seconds=of_images / len(some),
            passes=1.0,
            tower="image",
            bytes=float(np.mean([len(image) for image in images])),
        ),
    )


def _pair(rng: np.random.Generator, labels: IntArray, wanted: int | None) -> tuple[int, int]:
    """The row of a fit image, of the wanted class where it has any, and of one of another class where there is any."""
    own = np.flatnonzero(labels == wanted) if wanted is not None else labels[:0]
    first = int(rng.choice(own if len(own) else len(labels)))
    others = np.flatnonzero(labels != labels[first])
    return first, int(rng.choice(others if len(others) else len(labels)))
