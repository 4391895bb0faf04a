"""A shield ready to judge images: the artefact, and the encoder that it was made for.

    shield = Shield.load("shield/")
    for verdict in shield.judge(["cat.jpg", picture, array]):
        print(verdict.outcome, verdict.label, verdict.reason)

Needs torch, open_clip and safetensors: neither Ray nor a database nor LangChain is imported.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from evaluation.shield.artefact import Artefact, Manifest
from evaluation.shield.drift import WINDOW, Watch
from evaluation.shield.head import JudgedArrays
from evaluation.shield.verdicts import ShieldVerdict
from immuno_core.errors import SetupError
from immuno_core.features import FloatArray
from immuno_core.text import fill_template

if TYPE_CHECKING:
    from cluster.encoder.encoder import Encoder
    from cluster.encoder.spec import EncoderSpec

ImageLike = str | os.PathLike[str] | bytes | Image.Image | NDArray[np.uint8]
"""A path, what an image file holds, a picture of Pillow, or an array (h, w, 3) or (h, w) of 8 bits."""
DEFAULT_DECODERS: Final = 2


class Embedded(NamedTuple):
    """Images as their embeddings (n - failures, d), by `rows` in what was given; of the others why they have none."""

    features: FloatArray
    rows: list[int]
    failures: dict[int, str]


class Shield:
    """Judges images. Several threads may use one at a time. Made by `load`."""

    def __init__(self, artefact: Artefact, spec: EncoderSpec, folder: Path | None = None) -> None:
        """`spec` is the encoder to load when images are judged."""
        self.artefact, self.folder = artefact, folder
        self._spec, self._loading = spec, threading.Lock()
        self._encoder: Encoder | None = None

    @classmethod
    def load(
        cls,
        folder: str | os.PathLike[str],
        *,
        model: str | None = None,
        pretrained: str | None = None,
        device: str = "auto",
        review: float | None = None,
    ) -> Shield:
        """Read a shield, checking every byte of it; its encoder is loaded when images are judged for the first time.

        `model` and `pretrained` say where the encoder lies on this machine if not where it lay when the shield was
        exported ("local-dir:/models/clip"), `device` is auto, cpu, cuda or cuda:N, and `review` the share of known
        images about the threshold that a person is to decide on, in place of the shield's own.
        Raises SetupError for a folder that is no shield, a changed file, and values out of range.
        """
        from cluster.encoder.spec import EncoderSpec, check_spec

        artefact = Artefact.load(Path(folder))
        if review is not None:
            if not 0 <= review < 1:  # NaN is not
                raise SetupError(f"review = {review}: give a share from 0 to below 1, such as 0.02")
            thresholds = artefact.manifest.thresholds.model_copy(update={"review": review})
            artefact = replace(artefact, manifest=artefact.manifest.model_copy(update={"thresholds": thresholds}))
        encoder = artefact.manifest.encoder
        spec = EncoderSpec(
            model=encoder.model if model is None else model,
            pretrained=encoder.pretrained if model is None and pretrained is None else pretrained,
            precision=encoder.precision,
            device=device,
            fast_decode=encoder.fast_decode,
        )
        if encoder.kind == "open_clip":
            check_spec(spec)
        return cls(artefact, spec, Path(folder))

    @property
    def manifest(self) -> Manifest:
        """What it is, in words and numbers."""
        return self.artefact.manifest

    @property
    def classes(self) -> tuple[str, ...]:
        """The known classes."""
        return self.manifest.classes

    @property
    def encoder(self) -> Encoder:
        """The encoder, loaded when it is first asked for.

        Raises SetupError where it is missing, or another one by its digest than the shield was made for.
        """
        from cluster.encoder.encoder import load_encoder

        if self.manifest.encoder.kind == "precomputed":
            raise SetupError(
                f"this shield was made from embeddings that were computed elsewhere ('{self.manifest.encoder.model}'): "
                "it judges such embeddings (Shield.judge_embeddings), not images"
            )
        with self._loading:
            if self._encoder is None:
                found = load_encoder(self._spec, decode_threads=DEFAULT_DECODERS)
                expected = self.manifest.encoder.info
                if found.info.digest != expected.digest:
                    raise SetupError(
                        f"'{self._spec.label}' is not the encoder that this shield was made for: its weights, "
                        f"architecture or preprocessing differ (digest {found.info.digest[:12]}, the shield's "
                        f"{expected.digest[:12]}); give the one it was exported with, or export the shield again"
                    )
                self._encoder = found
            return self._encoder

    def with_artefact(self, artefact: Artefact) -> Shield:
        """Return a shield that says what another artefact for the same encoder says."""
        return Shield(artefact, self._spec, self.folder).with_encoder_of(self)

    def save(self, folder: str | os.PathLike[str] | None = None) -> None:
        """Write it, by default to the folder that it was read from. A head for onnxruntime is written again.

        Raises SetupError where that fails; what was there is then as it was.
        """
        place = self.folder if folder is None else Path(folder)
        if place is None:
            raise SetupError("this shield was not read from a folder; say where to save it")
        onnx = None
        if "onnx" in self.manifest.files:
            from evaluation.shield.onnx_export import head_as_onnx

            onnx = head_as_onnx(self.artefact.head)
        self.artefact.save(place, onnx=onnx)

    def watch(self, window: int = WINDOW) -> Watch:
        """Return what counts judged images (JudgedArrays) in a window, and tells drift from the known ones."""
        return Watch(
            self.manifest.thresholds,
            self.artefact.calibration,
            classes=self.classes,
            antibodies=tuple(one.id for one in self.manifest.antibodies),
            window=window,
        )

    def with_encoder_of(self, other: Shield) -> Shield:
        """Return this shield with the encoder that another has loaded, where it is the same one."""
        if other._encoder is not None and other._encoder.info.digest == self.manifest.encoder.info.digest:
            self._encoder = other._encoder
        return self

    def judge(self, images: Iterable[ImageLike], names: Sequence[str] | None = None) -> list[ShieldVerdict]:
        """Return what is said of each image, in their order; one that cannot be read has the outcome "failed".

        `names` are what verdicts call the images; default: their paths, or their places. Raises SetupError as
        `encoder`.
        """
        return self.judged(images, names)[0]

    def judged(
        self, images: Iterable[ImageLike], names: Sequence[str] | None = None
    ) -> tuple[list[ShieldVerdict], JudgedArrays]:
        """Return what `judge` does, and the numbers behind the verdicts on images that could be read."""
        given = list(images)
        names = list(names) if names is not None else [_name(image, row) for row, image in enumerate(given)]
        embedded = self.embed(given)
        said, judged = self.artefact.verdicts(embedded.features, [names[row] for row in embedded.rows])
        by_row = dict(zip(embedded.rows, said, strict=True))
        failed = {row: ShieldVerdict(names[row], "failed", reason=why) for row, why in embedded.failures.items()}
        return [by_row[row] if row in by_row else failed[row] for row in range(len(names))], judged

    def judge_embeddings(self, features: ArrayLike, names: Sequence[str] | None = None) -> list[ShieldVerdict]:
        """Return what is said of embeddings (n, d) by the shield's encoder; rows are divided by their lengths.

        Raises SetupError for another d, a row without a length, and NaN.
        """
        rows = np.asarray(features, dtype=np.float64)
        if rows.ndim != 2 or rows.shape[1] != self.manifest.encoder.dim:
            raise SetupError(f"embeddings of shape {rows.shape}; this shield judges (n, {self.manifest.encoder.dim})")
        with np.errstate(divide="ignore", invalid="ignore"):
            unit = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
        named = list(names) if names is not None else [_place(row) for row in range(len(rows))]
        return self.artefact.verdicts(unit, named)[0]

    def embed(self, images: Sequence[ImageLike]) -> Embedded:
        """Return the embeddings of images, and why some have none."""
        sources: list[Any] = []
        failures: dict[int, str] = {}
        kept: list[int] = []
        for row, image in enumerate(images):
            try:
                sources.append(_source(image))
                kept.append(row)
            except (TypeError, ValueError) as error:
                failures[row] = str(error)
        found = self.encoder.embed_image_files(sources)
        failures |= {kept[row]: failure.reason for row, failure in found.failures.items()}
        return Embedded(found.features, [row for row in kept if row not in failures], failures)

    def embed_texts(self, texts: Sequence[str]) -> FloatArray:
        """Return the embeddings (n, d) of class names in the shield's template."""
        return self.encoder.embed_texts(fill_template(self.manifest.class_template, texts))


def _place(row: int) -> str:
    return f"image {row + 1}"


def _name(image: ImageLike, row: int) -> str:
    return os.fspath(image) if isinstance(image, str | os.PathLike) else _place(row)


def _source(image: ImageLike) -> str | bytes | Image.Image:
    """An image as the encoder takes it. Raises ValueError or TypeError in words for what is none."""
    if isinstance(image, str | bytes | Image.Image):
        return image
    if isinstance(image, os.PathLike):
        return os.fspath(image)
    with suppress(TypeError, ValueError):
        array = np.asarray(image)
        if array.dtype == np.uint8 and (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))):
            if 0 in array.shape:
                raise ValueError("the array has no pixels")
            return Image.fromarray(array)
    raise ValueError("not an image: give a path, bytes, a Pillow image, or an array (h, w, 3) of 8 bits")
