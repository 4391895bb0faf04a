"""A vision-language encoder: image files and texts in, unit vectors out.

    encoder = load_encoder(EncoderSpec("ViT-B-16", "openai"))
    features, failures, *_ = encoder.embed_image_files(paths)

One encoder belongs to one process and one device; `cluster.actors.actor` holds one in each Ray actor. Several threads
may use it at a time: they share its decode workers (`cluster.encoder.reading`) and take turns at its model
(`cluster.encoder.batching`).
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections import deque
from collections.abc import Generator, Sequence
from typing import Any, Literal, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from cluster.encoder.batching import (
    CPU_BATCH_SIZE,
    BatchResult,
    BatchRunner,
    Call,
    Step,
    find_gpu_batch_size,
)
from cluster.encoder.loading import (
    LoadedModel,
    architecture_digest,
    beyond_context,
    check_names,
    load_model,
    preprocess_digest,
    resolve_device,
    weights_digest,
)
from cluster.encoder.patches import best_match, patch_tower
from cluster.encoder.pixels import Preprocessing
from cluster.encoder.reading import DecodedBatch, Decoder, Source, place_of
from cluster.encoder.spec import FAST_DECODE_VERSION, EncoderSpec
from cluster.records import EmbeddedImages, ShardStats, total
from immuno_core.errors import SetupError
from immuno_core.features import FloatArray, LocalRequest
from immuno_core.records import EncoderInfo, FailedImage

BatchSize = int | Literal["auto"]
_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class MeasuredImages(NamedTuple):
    """The embeddings of a list of image files, and what they took."""

    embedded: EmbeddedImages
    stats: ShardStats


class Encoder:
    """A model ready to embed, in batches. Made by `load_encoder`."""

    def __init__(
        self,
        loaded: LoadedModel,
        info: EncoderInfo,
        spec: EncoderSpec,
        device: torch.device,
        *,
        batch_size: BatchSize,
        decode_threads: int,
        gpu_share: float,
    ) -> None:
        """Finds the batch size where it is "auto". Raises SetupError for a model that `fast_decode` does not suit."""
        self.info = info
        self.device = device
        self.preprocessing = Preprocessing(loaded.preprocess, fast=spec.fast_decode, label=spec.label)
        self.image_shape = _height_and_width(loaded.image_settings["size"])
        """(height, width) of what the model takes."""
        self._model: Any = loaded.model
        self._tokenizer = loaded.tokenizer
        self._dtype = _DTYPES[info.precision]
        self._encode_image = cast(Step, self._model.encode_image)
        self._padded = spec.compile
        self._decoder = Decoder(
            self.preprocessing, self.image_shape, threads=decode_threads, pinned=device.type == "cuda"
        )
        self._runner = BatchRunner(device, CPU_BATCH_SIZE if batch_size == "auto" else batch_size)
        if batch_size == "auto" and device.type == "cuda":
            self._runner.batch_size = find_gpu_batch_size(
                lambda size: self._image_rows(self._blank(size)), device, gpu_share
            )
        if spec.compile:
            # Not the tower itself: `match_patches` looks into that one. One shape, since each costs a compilation.
            self._encode_image = torch.compile(self._encode_image, dynamic=False)

    @property
    def batch_size(self) -> int:
        """The most images the model is given at once; lower than at first once memory has run out."""
        return self._runner.batch_size

    def embed_image_files(self, paths: Sequence[Source]) -> EmbeddedImages:
        """Read, preprocess and embed image files, be they named, in memory, or opened by Pillow.

        A file that is empty, truncated, not an image or too large to decode safely becomes a failure with its reason,
        and so does an image over which the model raises; the others of its batch are embedded.
        Raises SetupError where memory does not suffice for one image, ImmunoError where the model always raises.
        """
        return self.measure_image_files(paths).embedded

    def measure_image_files(self, paths: Sequence[Source]) -> MeasuredImages:
        """Do what `embed_image_files` does, and say what it took."""
        started = time.perf_counter()
        parts: list[FloatArray] = [self._none()]
        failures: dict[int, FailedImage] = {}
        transient: set[int] = set()
        stats = ShardStats()
        with contextlib.closing(self._through_model(paths, self._image_rows, padded=self._padded)) as batches:
            for batch, answer in batches:
                failures |= batch.failures | _refused(batch, answer, paths)
                transient |= batch.transient
                work = (batch.seconds, answer.wait_seconds, answer.model_seconds, answer.halvings)
                stats = total((stats, ShardStats(0, 0, 0.0, *work)))
                rows = [row for i, row in enumerate(batch.rows) if i not in answer.refused]
                if not rows:
                    continue
                finite = np.isfinite(answer.rows).all(axis=1)
                overflow = f"its embedding is not finite at precision {self.info.precision}"
                failures |= {
                    rows[i]: FailedImage("", place_of(paths[rows[i]], rows[i]), overflow)
                    for i in np.flatnonzero(~finite)
                }
                parts.append(answer.rows[finite])
        embedded = EmbeddedImages(np.concatenate(parts), dict(sorted(failures.items())), frozenset(transient))
        seconds = time.perf_counter() - started
        return MeasuredImages(embedded, stats._replace(images=len(paths), failures=len(failures), seconds=seconds))

    def match_patches(self, paths: Sequence[str], request: LocalRequest) -> NDArray[np.float64]:
        """Return the request's answer (n,) for n image files. No patch leaves this method.

        Raises SetupError for a model without patch embeddings in the space of its texts (see cluster.encoder.patches),
        a file that cannot be read, patches that are not finite (half precision), and as `embed_image_files` does.
        """
        tower = patch_tower(self._model.visual, label=self.info.model)
        texts = torch.from_numpy(np.array(request.texts)).to(self.device)

        def match(pixels: torch.Tensor) -> torch.Tensor:
            images = self.preprocessing.normalise(pixels).to(self._dtype)
            return best_match(tower(images), texts, request.temperature)

        parts = [np.empty(0)]
        with contextlib.closing(self._through_model(paths, match)) as batches:
            for batch, answer in batches:
                unread = [*batch.failures.values(), *_refused(batch, answer, paths).values()]
                if unread:
                    raise SetupError(
                        f"gl_mcm looks at the images themselves, and {unread[0].path} cannot be read on "
                        f"{socket.gethostname()} ({unread[0].reason}); put it back, or leave gl_mcm out"
                    )
                if not np.isfinite(answer.rows).all():
                    bad = paths[batch.rows[int(np.flatnonzero(~np.isfinite(answer.rows))[0])]]
                    raise SetupError(
                        f"the patches of {bad} are not finite at precision {self.info.precision}; "
                        'use precision = "fp32" for gl_mcm'
                    )
                parts.append(answer.rows)
        return np.concatenate(parts)

    def embed_texts(self, texts: Sequence[str]) -> FloatArray:
        """Return (len(texts), d) float32 unit rows; a text longer than the model's context is cut (`cut_texts`).

        Raises SetupError for a text that the model cannot embed or whose embedding is not finite (half precision), and
        where memory does not suffice for one text.
        """
        parts = [self._none()]
        size = self.batch_size
        for start in range(0, len(texts), size):
            batch = texts[start : start + size]
            answer = self._runner.run(self._text_rows, self._tokenizer(list(batch)))
            if answer.refused:
                place, reason = next(iter(answer.refused.items()))
                raise SetupError(f"the encoder '{self.info.model}' cannot embed {batch[place][:60]!r}: {reason}")
            parts.append(answer.rows)
        features = np.concatenate(parts)
        overflow = np.flatnonzero(~np.isfinite(features).all(axis=1))
        if overflow.size:
            raise SetupError(
                f"the embedding of {texts[overflow[0]][:60]!r} is not finite at precision {self.info.precision}; "
                'use precision = "fp32"'
            )
        return features

    def cut_texts(self, texts: Sequence[str]) -> list[int]:
        """Return the places of the texts of which the model sees the beginning only."""
        return beyond_context(self._tokenizer, texts)

    def probes(self) -> FloatArray:
        """Return the (n, d) float32 unit rows of texts and images that never change.

        They tell whether the same files are still the same model.
        """
        picture = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
        images = [Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC) for size in ((211, 157), (64, 96))]
        pixels = np.stack([self.preprocessing.pixels(image) for image in images])
        tokens = self._tokenizer(["a photo of a dog.", "two red stones on a table"])
        texts = self._runner.run(self._text_rows, tokens).rows
        return np.concatenate(
            [texts, self._runner.run(self._image_rows, torch.from_numpy(pixels), padded=self._padded).rows]
        )

    def _through_model(
        self, paths: Sequence[Source], step: Step, *, padded: bool = False
    ) -> Generator[tuple[DecodedBatch, BatchResult], None, None]:
        """Decode files and give them to the model, batch by batch; yields in the order of the list.

        The next batch is with the model before this one's rows are looked at, and further ones are being decoded.
        """
        given: deque[tuple[DecodedBatch, Call]] = deque()
        with self._runner.asked(), contextlib.closing(self._decoder.batches(paths, self.batch_size)) as batches:
            try:
                for batch in batches:
                    given.append((batch, self._runner.submit(step, batch.pixels, padded=padded)))
                    if len(given) > 1:
                        before, call = given.popleft()
                        yield before, call.answer()
                while given:
                    last, call = given.popleft()
                    yield last, call.answer()
            finally:
                for _, call in given:
                    call.drop()

    def _image_rows(self, pixels: torch.Tensor) -> torch.Tensor:
        """(n, h, w, 3) uint8 -> (n, d) float32 unit rows, on the device."""
        return _unit_rows(self._encode_image(self.preprocessing.normalise(pixels).to(self._dtype)))

    def _text_rows(self, tokens: torch.Tensor) -> torch.Tensor:
        return _unit_rows(self._model.encode_text(tokens))

    def _blank(self, count: int) -> torch.Tensor:
        return torch.zeros((count, *self.image_shape, 3), dtype=torch.uint8, device=self.device)

    def _none(self) -> FloatArray:
        return np.empty((0, self.info.dim), dtype=np.float32)


def load_encoder(
    spec: EncoderSpec, *, batch_size: BatchSize = "auto", decode_threads: int = 1, gpu_share: float = 1.0
) -> Encoder:
    """Load a model onto its device and work out what fixes its embeddings.

    `batch_size` "auto" is found within a GPU's free memory (`cluster.encoder.batching`), of which a share may be this
    process's, and is 64 without a GPU.
    Raises SetupError for everything that the user can put right: see `cluster.encoder.loading`.
    """
    check_names(spec)
    device = resolve_device(spec.device)
    if device.type == "cuda" and spec.precision == "fp32":
        torch.backends.cudnn.allow_tf32 = False  # TF32 convolutions keep only 10 bits of a float32's 23
    loaded = load_model(spec, device)
    model: Any = loaded.model
    with torch.inference_mode():
        probe = model.encode_text(loaded.tokenizer(["a probe"]).to(device))
    image_side = dict(loaded.image_settings)
    if spec.fast_decode:
        image_side["fast_decode"] = FAST_DECODE_VERSION
    info = EncoderInfo(
        model=spec.model,
        pretrained=spec.pretrained,
        dim=probe.shape[-1],
        logit_scale=float(model.logit_scale.detach().float().exp()),
        image_size=int(np.max(loaded.image_settings["size"])),
        precision=spec.precision,
        weights_digest=weights_digest(model.state_dict()) + architecture_digest(spec),
        preprocess_digest=preprocess_digest(image_side, loaded.tokenizer),
    )
    return Encoder(
        loaded, info, spec, device, batch_size=batch_size, decode_threads=decode_threads, gpu_share=gpu_share
    )


def _unit_rows(raw: torch.Tensor) -> torch.Tensor:
    """Normalise (n, d) in float32: half precision would leave rows up to 1e-3 off the sphere."""
    rows = raw.float()
    lengths = torch.linalg.vector_norm(rows, dim=-1, keepdim=True)
    # F.normalize would leave a row of zeros, or make one of an overflow; such a row becomes NaN here.
    return torch.where(lengths.isfinite(), rows / lengths, torch.nan)


def _refused(batch: DecodedBatch, answer: BatchResult, paths: Sequence[Source]) -> dict[int, FailedImage]:
    """The images of a batch over which the model raised, by their places in the list."""
    return {
        batch.rows[i]: FailedImage(
            "", place_of(paths[batch.rows[i]], batch.rows[i]), f"the model fails on it: {reason}"
        )
        for i, reason in answer.refused.items()
    }


def _height_and_width(size: int | Sequence[int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])
