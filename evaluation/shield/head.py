"""The part of a shield behind the encoder: the calibrated score as one torch module.

    S(x) = b(x) - beta max_j e_j(x) - s max_c max(0, d_c(x) - r_c)           higher = more in-distribution

the formulas of evaluation.scores.calibrated, bases and sight, on unit embeddings in float32; distances in whitened
space are taken in float64, where differences of large squares would lose digits. Equal to the fitted score to 1e-5. It
takes any number of images, and `torch.export` and ONNX take it as it is: there is no branch on what an image holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from evaluation.scores.base import EVERY_CLASS
from evaluation.scores.calibrated import FittedCalibrated
from immuno_core.arrays import check_unit_rows
from immuno_core.errors import SetupError
from immuno_core.features import FloatArray, Floats, IntArray

NEAREST: Final = 3
"""Classes named with a verdict."""
_ROUNDING: Final = 1e-6
"""Exceedances up to this are rounding of float32 and count as 0."""
_BLOCK: Final = 256
PARTS: Final = ("closeness", "distinctness", "typicality")
"""Of the base, in the order of the columns of `parts`."""


class HeadSettings(BaseModel):
    """The numbers of a score that are no arrays; see evaluation.scores.bases.Base and evaluation.scores.calibrated."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    closeness: float
    distinctness: tuple[float, float]
    """Scale and shift."""
    typicality: tuple[float, float]
    beta: float
    visual_weight: float
    near_classes: int
    """How many of the nearest class texts an antibody is compared with the mean of."""
    combine: Literal["max", "sum"]


class Judged(NamedTuple):
    """What the head says of b images. `parts` (b, 3) add up to the base; base - repelled - seen is the score."""

    score: Tensor
    parts: Tensor
    repelled: Tensor
    """(b,) what antibodies with a text take."""
    seen: Tensor
    """(b,) what visual antibodies take."""
    classes: Tensor
    """(b, 3) the nearest classes, the predicted one first; fewer where there are fewer."""
    cosines: Tensor
    """(b, 3) to them."""
    antibody: Tensor
    """(b,) the row in the bank of the antibody that takes most, -1 where none fires; those with a text come first."""
    similarity: Tensor
    """(b,) of the image to it: its cosine, or for a visual one how far the image lies in its direction."""
    margin: Tensor
    """(b,) what its radius was compared with: the similarity, for a text less that to the nearest class text."""


class JudgedArrays(NamedTuple):
    """The same as arrays; see Judged."""

    score: Floats
    parts: Floats
    repelled: Floats
    seen: Floats
    classes: IntArray
    cosines: Floats
    antibody: IntArray
    similarity: Floats
    margin: Floats

    def take(self, rows: IntArray) -> JudgedArrays:
        """Return the same of some of the images."""
        arrays: list[Any] = [values[rows] for values in self]
        return JudgedArrays(*arrays)

    @property
    def unrepelled(self) -> Floats:
        """The score (n,) without any antibody."""
        return self.score + self.repelled + self.seen


class Head(nn.Module):
    """The score; `forward` takes unit embeddings (b, d) float32, b >= 1."""

    texts: Tensor
    prototypes: Tensor
    antibodies: Tensor
    radii: Tensor
    guards: Tensor
    centre: Tensor
    whitening: Tensor
    means: Tensor
    directions: Tensor
    visual_radii: Tensor

    def __init__(self, tensors: Mapping[str, Tensor], settings: HeadSettings) -> None:
        """`tensors` as `Head.of` names them; whitened ones are missing where the score does not use them."""
        super().__init__()
        self.settings = settings
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor)
        self._texts, self._prototypes = tensors["texts"].shape, "prototypes" in tensors
        self._antibodies = len(tensors["antibodies"])
        self._guarding = bool((tensors["guards"] != EVERY_CLASS).any())
        self._spread, self._sight = "whitening" in tensors, "directions" in tensors

    @classmethod
    def of(cls, fitted: FittedCalibrated) -> Head:
        """Return the module that scores as a fitted score does."""
        base, sight = fitted.base, fitted.sight
        near = {"top1": 1, "top5": min(5, len(fitted.texts))}[fitted.margin]
        settings = HeadSettings(
            closeness=base.closeness,
            distinctness=tuple(base.mcm),
            typicality=tuple(base.typicality),
            beta=fitted.beta,
            visual_weight=0.0 if sight is None else sight.weight,
            near_classes=near,
            combine=fitted.combine,
        )
        arrays: dict[str, Floats | FloatArray] = {
            "texts": _single(fitted.texts),
            "antibodies": _single(fitted.antibodies).reshape(-1, fitted.dim),
            "radii": _single(fitted.radii),
        }
        if base.prototypes is not None:
            arrays["prototypes"] = _single(base.prototypes)
        if base.spread is not None:
            arrays |= {"centre": base.spread.centre, "whitening": base.spread.whitening, "means": base.spread.means}
        if sight is not None:
            arrays |= {"directions": sight.rows, "visual_radii": sight.radii}
        tensors = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}
        return cls({**tensors, "guards": torch.from_numpy(fitted.guards.astype(np.int64))}, settings).eval()

    @property
    def dim(self) -> int:
        """Dimensions of the embeddings."""
        return int(self._texts[1])

    def judge(self, features: FloatArray) -> JudgedArrays:
        """Return what is said of images (n, d), n >= 0, as arrays.

        Raises SetupError for another d, NaN, and rows that are not of unit norm.
        """
        check_unit_rows(features, what="images to judge", dim=self.dim)
        found = []
        with torch.inference_mode():
            for start in range(0, max(len(features), 1), _BLOCK):
                # A copy, since embeddings from the store cannot be written to, which torch warns of.
                block = torch.from_numpy(np.array(features[start : start + _BLOCK], dtype=np.float32))
                # No batch of none: a maximum over nothing has no value.
                found.append([values[: len(block)] for values in self(block if len(block) else _any_row(self.dim))])
        joined = [torch.cat(values).numpy() for values in zip(*found, strict=True)]
        arrays: list[Any] = [v.astype(np.float64 if v.dtype.kind == "f" else np.int64) for v in joined]
        return JudgedArrays(*arrays)

    def forward(self, x: Tensor) -> Judged:
        """Judge unit embeddings (b, d) float32."""
        said = self.settings
        text_cosines = x @ self.texts.T
        cosines = x @ self.prototypes.T if self._prototypes else text_cosines
        nearest, classes = torch.topk(cosines, min(NEAREST, self._texts[0]), dim=1)
        scale, shift = said.distinctness
        distinctness = scale * torch.softmax(text_cosines, dim=1).amax(dim=1) + shift
        near = torch.topk(text_cosines, said.near_classes, dim=1).values.mean(dim=1)
        repelled, antibody, similarity, margin = self._repelled(x, text_cosines, near)
        typical, seen = torch.zeros_like(near), torch.zeros_like(near)
        if self._spread:
            scale, shift = said.typicality
            typical = (shift - scale * self._distance(x)).float()
        if self._sight:
            along = x.double() @ self.directions.T
            beyond, visual = (along - self.visual_radii).max(dim=1)
            seen = (said.visual_weight * torch.where(beyond > _ROUNDING, beyond, 0.0)).float()
            reach = along.gather(1, visual[:, None])[:, 0].float()
            more = (seen > 0) & (seen > said.beta * self._largest(repelled, margin, antibody))
            antibody = torch.where(more, self._antibodies + visual, antibody)
            similarity, margin = torch.where(more, reach, similarity), torch.where(more, reach, margin)
        parts = torch.stack([said.closeness * nearest[:, 0], distinctness, typical], dim=1)
        return Judged(
            parts.sum(dim=1) - repelled - seen, parts, repelled, seen, classes, nearest, antibody, similarity, margin
        )

    def _repelled(self, x: Tensor, text_cosines: Tensor, near: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What the antibodies with a text take, which of them takes most, its cosine, and its margin."""
        none = torch.zeros_like(near)
        if not self._antibodies:
            return none, torch.full_like(near, -1, dtype=torch.int64), none, none
        cosines = x @ self.antibodies.T
        beyond = cosines - self.radii - near[:, None]
        if self._guarding:
            elsewhere = self.guards.ne(EVERY_CLASS) & self.guards.ne(text_cosines.argmax(dim=1)[:, None])
            beyond = beyond.masked_fill(elsewhere, -torch.inf)
        fired = torch.where(beyond > _ROUNDING, beyond, 0.0)
        most, antibody = fired.max(dim=1)
        total = most if self.settings.combine == "max" else fired.sum(dim=1)
        similarity = cosines.gather(1, antibody[:, None])[:, 0]
        fires = most > 0
        return (
            self.settings.beta * total,
            torch.where(fires, antibody, -1),
            torch.where(fires, similarity, 0.0),
            torch.where(fires, similarity - near, 0.0),
        )

    def _largest(self, repelled: Tensor, margin: Tensor, antibody: Tensor) -> Tensor:
        """The largest exceedance of the antibodies with a text."""
        if not self._antibodies:
            return torch.zeros_like(repelled)
        return torch.where(antibody >= 0, margin - self.radii[antibody.clamp(min=0)], 0.0)

    def _distance(self, x: Tensor) -> Tensor:
        """The Mahalanobis distance to the nearest class mean (b,), in float64."""
        white = (x.double() - self.centre) @ self.whitening
        squared = (white**2).sum(dim=1, keepdim=True) + (self.means**2).sum(dim=1) - 2 * (white @ self.means.T)
        return squared.amin(dim=1).clamp(min=0).sqrt()

    def size(self) -> int:
        """Bytes of its arrays."""
        return sum(buffer.numel() * buffer.element_size() for buffer in self.buffers())


def _any_row(dim: int) -> Tensor:
    row = torch.zeros(1, dim)
    row[0, 0] = 1.0
    return row


def _single(array: Floats) -> FloatArray:
    single: FloatArray = array.astype(np.float32)
    return single


def check_head(tensors: Mapping[str, Tensor], settings: HeadSettings, *, classes: int, antibodies: int) -> None:
    """Raise SetupError where the arrays of a head do not belong together."""
    d = tensors["texts"].shape[-1] if "texts" in tensors and tensors["texts"].ndim == 2 else -1
    worded = len(tensors["antibodies"]) if "antibodies" in tensors else -1
    shapes: dict[str, tuple[int, ...]] = {
        "texts": (classes, d),
        "antibodies": (worded, d),
        "radii": (worded,),
        "guards": (worded,),
    }
    if "prototypes" in tensors:
        shapes["prototypes"] = (classes, d)
    if "whitening" in tensors:
        shapes |= {"centre": (d,), "whitening": (d, d), "means": (len(tensors.get("means", ())), d)}
    if "directions" in tensors:
        shapes |= {"directions": (antibodies - worded, d), "visual_radii": (antibodies - worded,)}
    elif worded != antibodies:
        raise SetupError(f"{antibodies} antibodies are named, and there are {worded}")
    for name, shape in shapes.items():
        if name not in tensors or tuple(tensors[name].shape) != shape:
            found = tuple(tensors[name].shape) if name in tensors else "nothing"
            raise SetupError(f"'{name}' is {found}, not of shape {shape}")
        if not torch.isfinite(tensors[name]).all():
            raise SetupError(f"'{name}' holds numbers that are not finite")
    if not 1 <= settings.near_classes <= classes:
        raise SetupError(f"near_classes is {settings.near_classes}, and there are {classes} classes")
