"""A vision-language encoder: image files and texts in, unit vectors out.

    encoder = load_encoder(EncoderSpec("ViT-B-16", "openai"))
    features, failures = encoder.embed_image_files(paths)

One encoder belongs to one process and one device; `cluster.actor` holds one in each Ray actor.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cluster.digests import preprocess_digest, weights_digest
from cluster.images import EmbeddedImages, ImageFailure, read_images
from cluster.loading import LoadedModel, check_names, load_model, resolve_device
from cluster.patches import best_match, patch_tower
from cluster.spec import EncoderSpec
from evaluation.features import FloatArray, LocalRequest
from immuno.errors import SetupError
from immuno.records import EncoderInfo

__all__ = ["EmbeddedImages", "Encoder", "EncoderSpec", "load_encoder"]

_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class Encoder:
    """A model ready to embed, in batches. Made by `load_encoder`."""

    def __init__(self, loaded: LoadedModel, info: EncoderInfo, device: torch.device, batch_size: int) -> None:
        self.info = info
        self.device = device
        self.preprocess = loaded.preprocess
        """Image -> (3, h, w) float32 tensor, as `embed_image_tensors` expects it."""
        self._model: Any = loaded.model
        self._tokenizer = loaded.tokenizer
        self._batch_size = batch_size
        self._dtype = _DTYPES[info.precision]

    def embed_image_tensors(self, images: torch.Tensor) -> FloatArray:
        """Embed preprocessed images, (n, 3, h, w); return (n, d) float32 unit rows.

        A row is NaN where the model overflowed (half precision). Raises SetupError where memory runs out.
        """
        return self._rows(self._model.encode_image, images, self._dtype)

    def embed_image_files(self, paths: Sequence[str]) -> EmbeddedImages:
        """Read, preprocess and embed image files.

        A file that is empty, truncated, not an image or too large to decode safely becomes a failure with its reason;
        the others of its batch are embedded. Raises SetupError where a batch does not fit in memory.
        """
        parts, failures = [self._none()], []
        for start in range(0, len(paths), self._batch_size):
            images, unread = read_images(paths[start : start + self._batch_size], self.preprocess)
            failures += [failure._replace(row=start + failure.row) for failure in unread]
            rows = [start + row for row, image in enumerate(images) if image is not None]
            readable = [image for image in images if image is not None]
            if not readable:
                continue
            features = self.embed_image_tensors(torch.stack(readable))
            finite = np.isfinite(features).all(axis=1)
            overflow = f"its embedding is not finite at precision {self.info.precision}"
            failures += [ImageFailure(rows[i], paths[rows[i]], overflow) for i in np.flatnonzero(~finite)]
            parts.append(features[finite])
        return EmbeddedImages(np.concatenate(parts), tuple(sorted(failures)))

    def match_patches(self, paths: Sequence[str], request: LocalRequest) -> NDArray[np.float64]:
        """Return the request's answer (n,) for n image files. No patch leaves this method.

        Raises SetupError for a model without patch embeddings in the space of its texts (see cluster.patches), a file
        that cannot be read, patches that are not finite (half precision), and a batch that does not fit in memory.
        """
        tower = patch_tower(self._model.visual, label=self.info.model)
        texts = torch.from_numpy(np.array(request.texts)).to(self.device)
        parts = [np.empty(0)]
        for start in range(0, len(paths), self._batch_size):
            batch = paths[start : start + self._batch_size]
            images, unread = read_images(batch, self.preprocess)
            if unread:
                raise SetupError(
                    f"gl_mcm looks at the images themselves, and {unread[0].path} cannot be read on "
                    f"{socket.gethostname()} ({unread[0].reason}); put it back, or leave gl_mcm out"
                )
            with self._inference(len(batch)):
                pixels = torch.stack([image for image in images if image is not None]).to(self.device, self._dtype)
                matches = best_match(tower(pixels), texts, request.temperature).cpu().numpy()
            if not np.isfinite(matches).all():
                bad = batch[int(np.flatnonzero(~np.isfinite(matches))[0])]
                raise SetupError(
                    f"the patches of {bad} are not finite at precision {self.info.precision}; "
                    'use precision = "fp32" for gl_mcm'
                )
            parts.append(matches)
        return np.concatenate(parts)

    def embed_texts(self, texts: Sequence[str]) -> FloatArray:
        """Return (len(texts), d) float32 unit rows; a text longer than the model's context is cut.

        Raises SetupError for a text whose embedding is not finite (half precision), and where memory runs out.
        """
        parts = [self._none()]
        for start in range(0, len(texts), self._batch_size):
            tokens = self._tokenizer(list(texts[start : start + self._batch_size]))
            parts.append(self._rows(self._model.encode_text, tokens, torch.int64))
        features = np.concatenate(parts)
        overflow = np.flatnonzero(~np.isfinite(features).all(axis=1))
        if overflow.size:
            raise SetupError(
                f"the embedding of {texts[overflow[0]][:60]!r} is not finite at precision {self.info.precision}; "
                'use precision = "fp32"'
            )
        return features

    def _none(self) -> FloatArray:
        return np.empty((0, self.info.dim), dtype=np.float32)

    def _rows(self, encode: Any, batch: torch.Tensor, dtype: torch.dtype) -> FloatArray:
        """Encode one batch and normalise in float32: half precision would leave rows up to 1e-3 off the sphere."""
        with self._inference(len(batch)):
            raw = encode(batch.to(self.device, dtype)).float()
            lengths = torch.linalg.vector_norm(raw, dim=-1, keepdim=True)
            # F.normalize would leave a row of zeros, or make one of an overflow; such a row becomes NaN here.
            rows = torch.where(lengths.isfinite(), raw / lengths, torch.nan)
        features: FloatArray = rows.cpu().numpy()
        return features

    @contextlib.contextmanager
    def _inference(self, count: int) -> Iterator[None]:
        """Run the model on a batch of `count` without gradients. Raises SetupError where memory runs out."""
        try:
            with torch.inference_mode():
                yield
        except torch.OutOfMemoryError:
            raise SetupError(
                f"a batch of {count} does not fit in the memory of {self.device}; lower [encoder] batch_size"
            ) from None


def load_encoder(spec: EncoderSpec, *, batch_size: int = 64) -> Encoder:
    """Load a model onto its device and work out what fixes its embeddings.

    Raises SetupError for everything that the user can put right: see `cluster.loading`.
    """
    check_names(spec)
    device = resolve_device(spec.device)
    if device.type == "cuda" and spec.precision == "fp32":
        torch.backends.cudnn.allow_tf32 = False  # TF32 convolutions keep only 10 bits of a float32's 23
    loaded = load_model(spec, device)
    model: Any = loaded.model
    with torch.inference_mode():
        probe = model.encode_text(loaded.tokenizer(["a probe"]).to(device))
    info = EncoderInfo(
        model=spec.model,
        pretrained=spec.pretrained,
        dim=probe.shape[-1],
        logit_scale=float(model.logit_scale.detach().float().exp()),
        image_size=int(np.max(loaded.image_settings["size"])),
        precision=spec.precision,
        weights_digest=weights_digest(model.state_dict()),
        preprocess_digest=preprocess_digest(loaded.image_settings, loaded.tokenizer),
    )
    return Encoder(loaded, info, device, batch_size)
