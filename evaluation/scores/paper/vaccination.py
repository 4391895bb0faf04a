"""Vaccination: a residual adapter pulls images to the prototype of their class and pushes them off the antibodies.

Immuno-VLM (Fang, Fang & Ji, ICML 2026, arXiv 2605.30745), phase 3, for a unit image embedding z:

    f(z)   = normalise(z + MLP(z)),  MLP(z) = relu(z W1 + b1) W2 + b2
    L      = L_pull + lambda_push L_push + eta |theta|^2
    L_pull = mean over (x, y) of the cross entropy of softmax_k(kappa_k mu_k . f(x)) with y
    L_push = mean over (x, a) of max(0, c(f(x), a) - m)^2

mu_k and kappa_k are the prototypes and concentrations (evaluation.scores.prototypes) of the images that train the
adapter; the antibodies a and the mu_k stay where they are. The paper leaves these open; ours:

- *kappa.* The closed form gives hundreds to thousands in 512 dimensions: softmax of that is an argmax, and since
  kappa_k differs from class to class while mu_k . f(x) is about the same for all of them, the most concentrated class
  would win every image. So kappa_k is capped at `most_kappa` (the score uses the encoder's own logit scale, the
  sharpness its embeddings were trained at); with CLIP that makes all of them equal. A class of which nothing is known
  has the cap. `most_kappa=1e9` is the formula as written.
- *m.* 0.2 is a cosine, and encoders differ: half of the mini-world's pairs of an image and an antibody exceed it, while
  with CLIP an image and the text of its own class are near 0.26. `margin_quantile` sets m to that quantile of c(x, a)
  over training images and antibodies instead: at 0.99 the push acts on the nearest percent of the pairs at the outset,
  whatever the encoder.
- *Early stopping.* A share of every class is held out (seeded; of one image none), and makes neither mu_k nor kappa_k.
  After each epoch L_pull + lambda_push L_push is measured on it; the best epoch is restored, and training ends
  `patience` epochs after it. Epoch 0 is the identity (W2 and b2 begin at zero): where nothing improves on it, the
  adapter *is* the identity and changes no bit. So it is where no class has a second image to hold out.

Adam in float32 on the CPU. One seed gives one adapter, to the bit: random numbers come from NumPy's generator, so that
nothing depends on the global state of torch. We found the same bits with 1 and 2 threads; what torch does not promise
is that another CPU, or another build of it, adds up in the same order.

1,000 classes x 16 images x 512 d with 1,000 antibodies took 0.5 s per epoch on 2 CPU cores, 10 s for all 20 epochs (on
random data of which 83 % are rightly classified at the outset, and on which all epochs improve).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from evaluation.scores.prototypes import DEFAULT_ALPHA, DEFAULT_XI, prototypes
from immuno_core.arrays import blocks, check_unit_rows, in_blocks
from immuno_core.config.numbers import MOST_SEED, real, whole
from immuno_core.errors import SetupError
from immuno_core.features import FloatArray, Floats, IntArray

if TYPE_CHECKING:
    import torch


_NAMES = ("w1", "b1", "w2", "b2")
# An embedding that its residual cancels has no direction left: it stays where it was.
_NO_DIRECTION = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class Adapter:
    """f, with float32 `w1` (d, h), `b1` (h,), `w2` (h, d), `b2` (d,). Raises SetupError for others, and for NaN."""

    w1: FloatArray
    b1: FloatArray
    w2: FloatArray
    b2: FloatArray

    def __post_init__(self) -> None:
        shapes = tuple(array.shape for array in self.arrays)
        if self.w1.ndim != 2 or shapes[1:] != (self.w1.shape[1:], self.w1.shape[::-1], self.w1.shape[:1]):
            raise SetupError(f"an adapter's arrays are (d, h), (h,), (h, d) and (d,), not {shapes}")
        for name, array in zip(_NAMES, self.arrays, strict=True):
            if array.dtype != np.float32 or not np.isfinite(array).all():
                raise SetupError(f"the adapter's {name} are not finite float32 numbers; train it again")

    @classmethod
    def identity(cls, dim: int) -> Adapter:
        """Return the adapter that changes nothing, for embeddings of `dim` dimensions."""
        zeros = np.zeros((dim, 0), np.float32)
        return cls(zeros, zeros[0], zeros.T, np.zeros(dim, np.float32))

    @property
    def arrays(self) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        """W1, b1, W2, b2."""
        return self.w1, self.b1, self.w2, self.b2

    @property
    def is_identity(self) -> bool:
        """Whether it changes nothing, not even the last bits."""
        return not (self.w2.any() or self.b2.any())

    def block(self, z: Floats) -> Floats:
        """Return f of a block of unit rows (b, d), in float64."""
        if self.is_identity:
            return z
        moved = z + np.maximum(z @ self.w1 + self.b1, 0) @ self.w2 + self.b2
        sizes = np.linalg.norm(moved, axis=1, keepdims=True)
        return np.where(sizes < _NO_DIRECTION, z, moved / np.maximum(sizes, _NO_DIRECTION))

    def apply(self, features: FloatArray) -> FloatArray:
        """Return f of unit rows (n, d), n >= 0, as float32 unit rows.

        Raises SetupError for another d, NaN, and rows that are not of unit norm.
        """
        check_unit_rows(features, what="images to adapt", dim=len(self.w1))
        if self.is_identity:
            return features
        width = 3 * len(self.w1) + len(self.b1)
        return in_blocks(features, width, lambda z: self.block(z).astype(np.float32))


_MOST_PAIRS = 2**22
"""Of an image and an antibody, over which the margin's quantile is taken: more would tell no more."""
MOST_ANTIBODIES = 256
"""Per training step; of more, each step draws its own, which leaves the mean of the push loss as it is."""
_WORTH_WHILE = 0.01
"""Share by which the validation loss has to fall for a later epoch to be better."""


class AdapterSettings(BaseModel):
    """How an adapter is trained. `lambda_push` = 0 leaves out the push; see the module for the rest."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
    lambda_push: Annotated[float, real(ge=0)] = 1.0
    eta: Annotated[float, real(ge=0)] = 1e-5
    margin: Annotated[float, real(ge=-1, most=1)] = 0.2
    """m, a cosine."""
    margin_quantile: Annotated[float, real(ge=0, most=1)] | None = None
    """Sets m by the data instead."""
    most_kappa: Annotated[float, real(gt=0)] = 100.0
    hidden: Annotated[int, whole(1, 2**16)] = 128
    """Units of the MLP."""
    held_out: Annotated[float, real(gt=0, lt=1)] = 0.25
    """Share of each class's images that decides when to stop; at least one image, at most all but one."""
    epochs: Annotated[int, whole(1)] = 20
    patience: Annotated[int, whole(1)] = 3
    batch: Annotated[int, whole(1)] = 256
    learning_rate: Annotated[float, real(gt=0)] = 1e-3
    seed: Annotated[int, whole(0, MOST_SEED)] = 0


class Losses(NamedTuple):
    """Mean losses over a set of images, and what early stopping compares: pull + lambda_push push."""

    pull: float
    push: float
    total: float


@dataclass(frozen=True, slots=True, eq=False)
class Vaccination:
    """A trained adapter, and how it came about.

    `held_out` (h,) rows of the fit images that trained neither the adapter nor the prototypes it was trained on.
    `validation` has an entry per epoch run, and entry 0 of the identity. `epoch` is the one restored, 0 for the
    identity; `margin` the m in force.
    """

    adapter: Adapter
    epoch: int
    held_out: IntArray
    validation: tuple[Losses, ...]
    margin: float


def vaccinate(
    texts: FloatArray,
    features: FloatArray,
    labels: IntArray,
    antibodies: FloatArray,
    *,
    alpha: float = DEFAULT_ALPHA,
    xi: float = DEFAULT_XI,
    settings: AdapterSettings | None = None,
) -> Vaccination:
    """Train an adapter on fit images (n, d) of classes `labels` (n,), given class texts (K, d) and antibodies (A, d).

    `alpha` and `xi` place the prototypes. A may be 0: the push is then 0. Where no class has two images nothing can be
    held out, and the adapter is the identity, with no losses.
    Raises SetupError for no images, fewer than two classes, and arrays that do not fit one another.
    """
    settings = settings or AdapterSettings()
    if not len(features):
        raise SetupError("vaccination needs fit images; give [data.fit], or leave the adapter out (adapter = false)")
    if len(texts) < 2:
        raise SetupError("vaccination needs at least 2 classes to tell apart; leave the adapter out (adapter = false)")
    check_unit_rows(antibodies, what="antibody vectors", dim=texts.shape[1])
    rng = np.random.default_rng(settings.seed)
    held_out = _held_out(labels, settings.held_out, rng)
    rest = np.setdiff1d(np.arange(len(features)), held_out)
    placed = prototypes(texts, features[rest], labels[rest], alpha=alpha, xi=xi)
    margin = _margin(features[rest], antibodies, settings)
    identity = Adapter.identity(texts.shape[1])
    if not len(held_out):
        return Vaccination(identity, 0, held_out, (), margin)
    kappa = np.minimum(np.where(placed.kappa > 0, placed.kappa, np.inf), settings.most_kappa)
    objective = _Objective(placed.mu, kappa, antibodies, margin, settings)
    return _train(features, labels, rest, held_out, objective, identity, rng)


def _held_out(labels: IntArray, share: float, rng: np.random.Generator) -> IntArray:
    """(h,) rows to hold out, in ascending order: the share of each class with two images or more."""
    chosen = []
    for k in np.unique(labels):
        rows = np.flatnonzero(labels == k)
        if len(rows) > 1:
            count = min(len(rows) - 1, max(1, round(share * len(rows))))
            chosen.append(rng.choice(rows, count, replace=False))
    return np.sort(np.concatenate(chosen)) if chosen else np.zeros(0, dtype=np.int64)


def _margin(features: FloatArray, antibodies: FloatArray, settings: AdapterSettings) -> float:
    if settings.margin_quantile is None or not len(antibodies):
        return settings.margin
    sample = features[:: -(-len(features) * len(antibodies) // _MOST_PAIRS)]
    return float(np.quantile(sample @ antibodies.T, settings.margin_quantile))


class _Objective:
    """The losses of a batch, in torch."""

    def __init__(
        self,
        mu: NDArray[np.float64],
        kappa: NDArray[np.float64],
        antibodies: FloatArray,
        margin: float,
        settings: AdapterSettings,
    ) -> None:
        import torch

        self.settings, self.margin = settings, margin
        # kappa_k mu_k . f(x) is one product with the scaled prototypes.
        self.centres = torch.from_numpy((kappa[:, None] * mu).astype(np.float32))
        self.antibodies = torch.from_numpy(np.ascontiguousarray(antibodies, dtype=np.float32))

    def losses(
        self, z: torch.Tensor, labels: torch.Tensor, some: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Pull and push of adapted images (b, d), the push over the antibodies `some` (rows) or all of them."""
        from torch.nn.functional import cross_entropy

        pull = cross_entropy(z @ self.centres.T, labels)
        antibodies = self.antibodies if some is None else self.antibodies[some]
        if not self.settings.lambda_push or not len(antibodies):
            return pull, pull.new_zeros(())
        push = (z @ antibodies.T - self.margin).clamp_(min=0).square().mean()
        return pull, push

    def over(self, images: FloatArray, labels: IntArray) -> Losses:
        """The losses of images (n, d), n >= 1, block by block."""
        import torch

        pull = push = 0.0
        width = len(self.centres) + len(self.antibodies) + images.shape[1]
        with torch.no_grad():
            for rows in blocks(len(images), width):
                found = self.losses(torch.from_numpy(images[rows]), torch.from_numpy(labels[rows]))
                weight = (rows.stop - rows.start) / len(images)
                pull, push = pull + weight * float(found[0]), push + weight * float(found[1])
        return Losses(pull, push, pull + self.settings.lambda_push * push)


def _train(
    features: FloatArray,
    labels: IntArray,
    rest: IntArray,
    held_out: IntArray,
    objective: _Objective,
    identity: Adapter,
    rng: np.random.Generator,
) -> Vaccination:
    """Adam with early stopping; see the module."""
    import torch

    settings = objective.settings
    dim = features.shape[1]
    start = Adapter(
        w1=(rng.standard_normal((dim, settings.hidden)) * np.sqrt(2 / dim)).astype(np.float32),
        b1=np.zeros(settings.hidden, np.float32),
        w2=np.zeros((settings.hidden, dim), np.float32),
        b2=np.zeros(dim, np.float32),
    )
    weights = [torch.from_numpy(array.copy()).requires_grad_() for array in start.arrays]
    optimiser = torch.optim.Adam(weights, lr=settings.learning_rate)
    x, y = torch.from_numpy(features[rest]), torch.from_numpy(labels[rest])
    checked, checked_labels = features[held_out], labels[held_out]
    best, epoch, validation = identity, 0, [objective.over(checked, checked_labels)]
    for number in range(1, settings.epochs + 1):
        order = rng.permutation(len(rest))
        for step in blocks(len(order), 1, most=settings.batch):
            batch = torch.from_numpy(order[step])
            pull, push = objective.losses(_adapted(x[batch], weights), y[batch], _drawn(objective, rng))
            decay = settings.eta * sum(weight.square().sum() for weight in weights)
            optimiser.zero_grad()
            (pull + settings.lambda_push * push + decay).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        now = Adapter(*(weight.detach().numpy().copy() for weight in weights))
        validation.append(objective.over(now.apply(checked), checked_labels))
        if validation[-1].total < (1 - _WORTH_WHILE) * validation[epoch].total:
            best, epoch = now, number
        elif number - epoch >= settings.patience:
            break
    return Vaccination(best, epoch, held_out, tuple(validation), objective.margin)


def _adapted(z: torch.Tensor, weights: list[torch.Tensor]) -> torch.Tensor:
    """f(z) of a batch (b, d): what `Adapter` does, with gradients."""
    from torch.nn.functional import normalize

    w1, b1, w2, b2 = weights
    return normalize(z + (z @ w1 + b1).relu() @ w2 + b2, dim=1)


def _drawn(objective: _Objective, rng: np.random.Generator) -> torch.Tensor | None:
    """The antibodies of one step; None for all."""
    import torch

    if len(objective.antibodies) <= MOST_ANTIBODIES:
        return None
    return torch.from_numpy(rng.choice(len(objective.antibodies), MOST_ANTIBODIES, replace=False))
