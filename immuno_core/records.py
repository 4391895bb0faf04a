"""The records that rooms hand to one another: plain, frozen, and free of torch, Ray, LangChain and SQL.

Score direction everywhere: higher = more in-distribution; a sample is accepted iff score >= threshold.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final, Literal, Self

Split = Literal["fit", "feedback", "test"]
"""fit: ID images for prototypes and radii. feedback: what the loop measures on and may look at. test: sealed."""
TextKind = Literal["look_alike", "contextual"]
"""What the text of an antibody stands for: a thing, or a known class in another place."""
AntibodyKind = Literal[TextKind, "visual"]
"""A visual one stands for outliers that were seen, and has no text."""
VISUAL: Final = "visual"
_SAMPLES_NAMED = 2
AntibodyStatus = Literal["accepted", "rejected"]
AntibodyRelation = Literal["matured", "edited", "copied"]
"""How an antibody was made from its parent: its embedding moved, its text changed, or taken over as it is."""
LONGEST_ANTIBODY = 160
"""Characters of an antibody's text: what a chat model may write, and what the screen lets through."""
MATURATION = "maturation"
"""The origin of antibodies whose embeddings were matured: their texts stand for no embedding."""


def text_digest(*parts: str) -> str:
    """Return the SHA-256 hex digest of the parts. Their boundaries count: ("ab", "c") differs from ("a", "bc")."""
    digest = hashlib.sha256()
    for part in parts:
        raw = part.encode("utf-8", "surrogatepass")
        digest.update(len(raw).to_bytes(8, "big"))
        digest.update(raw)
    return digest.hexdigest()


def described(text: str, samples: Sequence[str]) -> str:
    """Return what stands for an antibody in a list: its text, or what a visual one is like."""
    shown = ", ".join(samples[:_SAMPLES_NAMED])
    return f"{VISUAL}: like {shown}{', ...' if len(samples) > _SAMPLES_NAMED else ''}" if samples else text


@dataclass(frozen=True, slots=True)
class Sample:
    """One image: `id` is unique and stable within its set (the path relative to the set), `label` its folder's name."""

    id: str
    path: str
    label: str


@dataclass(frozen=True, slots=True)
class FailedImage:
    """An image without an embedding: it is left out, counted, and named in the report."""

    set_name: str
    """The title of its set; "" as long as only a list of files is known."""
    path: str
    reason: str


def by_reason(images: Iterable[FailedImage]) -> dict[str, int]:
    """Return how many were left out for each reason, the most frequent first."""
    return dict(Counter(image.reason for image in images).most_common())


def told(images: Sequence[FailedImage], most: int = 5) -> list[str]:
    """Return in words how many were left out for each reason, the most frequent first, each with the first of them."""
    first = {image.reason: image.path for image in reversed(images)}
    reasons = list(by_reason(images).items())
    parts = [f"{number:,}: {why} ({first[why]}{', ...' if number > 1 else ''})" for why, number in reasons[:most]]
    rest = sum(number for _, number in reasons[most:])
    return [*parts, *([f"{rest:,}: other reasons"] if rest else [])]


ID_SET = "id"
"""The name of the known images of each split; no outlier set of the sealed test may be called so."""


def set_title(name: str, split: Split) -> str:
    """Return what a set is called beside the others of a run: a set of the sealed test by its name alone."""
    if name == ID_SET:
        return {"fit": "fit", "feedback": "known feedback", "test": name}[split]
    return f"feedback {name}" if split == "feedback" else name


@dataclass(frozen=True, slots=True)
class ImageSet:
    """A named list of images of one split. `role` says whether its images belong to the known classes."""

    name: str
    split: Split
    role: Literal["id", "outlier"]
    samples: tuple[Sample, ...]
    digest: str
    """Over ids, sizes and modification times: two sets with one digest hold the same files."""
    left_out: tuple[FailedImage, ...] = ()
    """What lies where the set is and looks like an image, and is none of its samples."""

    @property
    def title(self) -> str:
        """See `set_title`."""
        return set_title(self.name, self.split)


@dataclass(frozen=True, slots=True)
class EncoderInfo:
    """What fixes an embedding: two encoders with one digest give the same vectors."""

    model: str
    pretrained: str | None
    dim: int
    logit_scale: float
    image_size: int
    precision: str
    weights_digest: str
    """SHA-256 of the weights, followed by that of the architecture they are used in; once it was the first alone."""
    preprocess_digest: str

    @property
    def digest(self) -> str:
        """SHA-256 over everything that changes an embedding (the logit scale comes with the weights)."""
        return text_digest(self.weights_digest, self.preprocess_digest, self.precision)

    @property
    def older(self) -> Self:
        """What versions that left out the architecture called it, and every other one with the same weights."""
        return replace(self, weights_digest=self.weights_digest[:64])


@dataclass(frozen=True, slots=True)
class Antibody:
    """A text that stands for what is not a known class: the one record of it, from a reply or a file to the report.

    Whoever adds to it hands on a new record (dataclasses.replace). What the database knows of it besides is in
    db.records.AntibodyRecord.
    """

    text: str
    kind: AntibodyKind = "look_alike"
    guards: str = ""
    """The known class whose false positives it is meant to repel; "" where it guards none in particular."""
    rationale: str = ""
    id: str = ""
    """Unique where antibodies are together (a bank, a database); "" before it has a place there."""
    status: AntibodyStatus = "accepted"
    """Accepted as long as nothing turns it down."""
    reason: str = ""
    """Why it was turned down ("category: detail"); empty where it was not."""
    cosine: float | None = None
    """To mu_k of the class it guards, else to the nearest mu_k; None where that was not measured."""
    origin: str = ""
    """Who or what proposed it: a model, a lexicon, a file, a person, MATURATION; empty where that was not recorded."""
    parent_id: str | None = None
    """The antibody that it was made from, possibly of another session or database, and how."""
    relation: AntibodyRelation | None = None
    samples: tuple[str, ...] = ()
    """Of a visual antibody the outliers that it came from, "set/image", the most typical first."""

    @property
    def is_worded(self) -> bool:
        """Whether its embedding is that of its text: it is neither matured nor visual."""
        return self.origin != MATURATION and self.kind != VISUAL

    @property
    def says(self) -> tuple[str, str, tuple[str, ...]]:
        """What tells it from others: its text and class, or the samples that it came from."""
        return self.text, self.guards, self.samples

    @property
    def described(self) -> str:
        """What stands for it in a list."""
        return described(self.text, self.samples)

    @property
    def accepted(self) -> bool:
        """Whether nothing has turned it down."""
        return self.status == "accepted"

    def turned_down(self, reason: str) -> Self:
        """Return it as turned down for a reason, "category: detail"."""
        return replace(self, status="rejected", reason=reason)


@dataclass(frozen=True, slots=True)
class Effect:
    """The measured boundary effect of an antibody (scope solo or leave_one_out) or of a bank (scope bank).

    Every change is "with it" minus "without it": `d_fpr95 < 0` is good. `gain` and `harm` are shares in [0, 1]: of the
    outliers accepted without it, those rejected with it; of the known samples accepted without it, those rejected with
    it; both at one fixed threshold, that of the state without it. `d_id_accuracy` counts, at that threshold, the known
    samples that are accepted and rightly classified.
    """

    scope: Literal["solo", "leave_one_out", "bank"]
    outlier_set: str
    gain: float
    harm: float
    d_fpr95: float
    d_auroc: float
    d_id_accuracy: float
    fired_id: int = 0
    """Known samples on which it fires (exceeds its radius)."""
    fired_outliers: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a generation's boundary said of one feedback sample."""

    set_name: str
    sample_id: str
    score: float
    accepted: bool
    nearest_class: str
    nearest_antibody: str | None
    """Id of the antibody with the largest exceedance; None where none fires."""


@dataclass(frozen=True, slots=True)
class ResultRow:
    """A method on one outlier set. What can be measured is listed once, in evaluation.metrics.METRICS."""

    method: str
    params: Mapping[str, Any]
    seed: int
    ood: str
    n_id: int
    n_ood: int
    metrics: Mapping[str, float | None]
    """By name; None where undefined. Shares in [0, 1], but for what the table of metrics calls a score."""
    antibodies: int = 0
    arm: str = ""
    """Which antibodies they are (evaluation.benchmark.arms); "" where the score uses none."""
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """95 % bootstrap intervals (evaluation.bootstrap) of the metrics named."""
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def score(self) -> str:
        """The name of its score; `method` is its label, which may be another."""
        return str(self.extra.get("score", self.method))

    @property
    def uses_feedback(self) -> bool:
        """Whether outliers of the feedback split, told as such, had a say in its settings or in its antibodies."""
        return bool(self.extra.get("uses_feedback"))

    def as_dict(self) -> dict[str, Any]:
        """Return it as a line of results.json: flat, each metric under its own name."""
        own = {key: getattr(self, key) for key in _ROW_FIELDS if key != "metrics"}
        intervals, extra = own.pop("intervals"), own.pop("extra")
        return {**own, **self.metrics, "intervals": dict(intervals), "extra": extra}

    @classmethod
    def from_dict(cls, line: Mapping[str, Any]) -> Self:
        """Read a line that `as_dict` made: what is no field of its own is a metric."""
        metrics = {key: value for key, value in line.items() if key not in _ROW_FIELDS}
        return cls(**{key: value for key, value in line.items() if key in _ROW_FIELDS}, metrics=metrics)


_ROW_FIELDS = tuple(one.name for one in fields(ResultRow))
