"""How well a score tells known images from outliers: the formulas, and `METRICS`, the table of all that is measured.

Every formula gives a share in [0, 1]. A new one is one entry of the table; results.json, results.csv, SQL, terminal,
page and summaries over seeds take their columns from it.

All take known scores (n,) and outlier scores (m,), n, m >= 1; higher = more in-distribution; an image is accepted iff
score >= threshold. All raise SetupError for an empty array and for NaN; infinities rank as numbers do. A score that is
the same for every image gives AUROC 0.5, both FPR95 1, as AUPR the share of positives, and as OSCR half the accuracy.

Papers call two different things FPR95; see `fpr95_id` and `fpr95_ood`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from immuno_core.errors import SetupError
from immuno_core.features import IntArray

Scores = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.intp]
Counts = NDArray[np.int32]
ACCEPTANCE = 0.95


def auroc(id_scores: Scores, outlier_scores: Scores) -> float:
    """Return the probability that a known image scores above an outlier, ties counting half (Mann-Whitney)."""
    known, outliers = checked(id_scores, "known"), np.sort(checked(outlier_scores, "outlier"))
    return twice_pairs_won(known, outliers) / (2 * known.size * outliers.size)


def twice_pairs_won(id_scores: Scores, sorted_outliers: Scores) -> int:
    """Return over all pairs: 2 where the known image scores higher, 1 for a tie. An integer, so sums of it are
    exact."""
    below = np.searchsorted(sorted_outliers, id_scores, side="left")
    not_above = np.searchsorted(sorted_outliers, id_scores, side="right")
    return int(below.sum()) + int(not_above.sum())


def aupr_in(id_scores: Scores, outlier_scores: Scores) -> float:
    """Return the average precision with known images as positives: sum over thresholds of (R_i - R_{i-1}) P_i."""
    return _average_precision(checked(id_scores, "known"), checked(outlier_scores, "outlier"))


def aupr_out(id_scores: Scores, outlier_scores: Scores) -> float:
    """Return the average precision with outliers as positives, ranked by the negated score."""
    return _average_precision(-checked(outlier_scores, "outlier"), -checked(id_scores, "known"))


def fpr95_id(id_scores: Scores, outlier_scores: Scores, acceptance: float = ACCEPTANCE) -> float:
    """Return the share of outliers accepted at the threshold that accepts 95 % of known images (MCM, NegLabel, EOE)."""
    threshold = threshold_at(id_scores, acceptance)
    return float(np.mean(checked(outlier_scores, "outlier") >= threshold))


def fpr95_ood(id_scores: Scores, outlier_scores: Scores, rejection: float = ACCEPTANCE) -> float:
    """Return the share of known images rejected at the threshold that rejects 95 % of outliers (OpenOOD, pytorch-ood).

    It is `fpr95_id` with the roles exchanged and the scores negated; a known image that ties with the threshold counts
    as rejected.
    """
    return fpr95_id(-checked(outlier_scores, "outlier"), -checked(id_scores, "known"), rejection)


def threshold_at(scores: Scores, acceptance: float = ACCEPTANCE) -> float:
    """Return the largest threshold that accepts at least the share `acceptance` of the scores (n,).

    It is the order statistic sorted(descending)[ceil(acceptance n) - 1]: always one of the scores, exact for small n
    and for ties, where an interpolated quantile is wrong. Raises SetupError for a share outside (0, 1].
    """
    known = checked(scores, "known")
    rank = rank_of_share(acceptance, known.size)
    return float(np.partition(known, known.size - rank)[known.size - rank])


def rank_of_share(share: float, count: int) -> int:
    """Return ceil(share * count), from 1 to count, in spite of products like 0.07 * 100 = 7.000000000000001.

    Raises SetupError for a share outside (0, 1].
    """
    if not 0 < share <= 1:
        raise SetupError(f"an acceptance of {share}; give a share above 0 and up to 1, such as 0.95")
    return min(count, max(1, math.ceil(share * count - 1e-9)))


def id_accuracy(predicted: IntArray, labels: IntArray) -> float:
    """Return the share of known images (n,) whose predicted class is their own, accepted or not.

    Raises SetupError for no images or arrays of unequal shape.
    """
    if predicted.shape != labels.shape or predicted.ndim != 1 or not predicted.size:
        raise SetupError(f"accuracy needs a prediction per image, not {predicted.shape} for {labels.shape}")
    return float(np.mean(predicted == labels))


def h_score(id_accuracy: float, auroc: float) -> float:
    """Return the harmonic mean 2 a b / (a + b) of ID accuracy a and AUROC b; 0 where both are 0.

    What the Immuno-VLM paper calls H-score it does not define; this fits its figures.
    """
    total = id_accuracy + auroc
    return 2 * id_accuracy * auroc / total if total > 0 else 0.0


def oscr(id_scores: Scores, right: Bools, outlier_scores: Scores) -> float:
    """Return the area under correct classification rate against false positive rate (Dhamija et al., NeurIPS 2018).

    At a threshold, CCR is the share of known images that are accepted and `right` (n,) classified, and FPR the share of
    outliers accepted. The curve runs from (0, 0) through the points of all thresholds, joined by straight lines
    (trapezoids), to (1, ID accuracy). So scores that tie count half, and the area is the AUROC in which a wrongly
    classified known image wins no pair: at most the ID accuracy, and the AUROC where all are right.
    """
    known, outliers = checked(id_scores, "known"), np.sort(checked(outlier_scores, "outlier"))
    won = twice_pairs_won(known[checked_right(right, known)], outliers)
    return won / (2 * known.size * outliers.size)


FEWEST_OF_A_CLASS = 10
"""Images of an outlier class, below which its share accepted says nothing."""


def fpr95_by_class(id_scores: Scores, outlier_scores: Scores, classes: Sequence[str]) -> dict[str, tuple[float, int]]:
    """Return `fpr95_id` of the outliers of each class (m,), and how many they are; "" is no class.

    Classes of fewer than `FEWEST_OF_A_CLASS` images are left out.
    """
    accepted = checked(outlier_scores, "outlier") >= threshold_at(id_scores)
    names, own, counts = np.unique(np.asarray(classes, dtype=object), return_inverse=True, return_counts=True)
    shares = np.bincount(own, weights=accepted) / counts
    return {
        str(name): (float(share), int(count))
        for name, share, count in zip(names, shares, counts, strict=True)
        if name and count >= FEWEST_OF_A_CLASS
    }


class Deployed(NamedTuple):
    """What a shield with this threshold does, as shares in [0, 1]."""

    threshold: float
    acceptance: float
    """Share of known images accepted."""
    rejection: float
    """Share of outliers rejected."""
    accepted_accuracy: float | None
    """Share of the accepted known images that are rightly classified; None where none is accepted."""


def deployed(id_scores: Scores, right: Bools, outlier_scores: Scores, threshold: float) -> Deployed:
    """Return how a threshold, chosen on other images, fares on these; `right` (n,): the known image's class was hit.

    Raises SetupError for a threshold that is NaN.
    """
    if math.isnan(threshold):
        raise SetupError("the threshold is NaN, which accepts nothing; choose one with evaluation.metrics.threshold_at")
    known, outliers = checked(id_scores, "known"), checked(outlier_scores, "outlier")
    accepted = known >= threshold
    right_accepted = checked_right(right, known)[accepted]
    return Deployed(
        threshold=float(threshold),
        acceptance=float(np.mean(accepted)),
        rejection=float(np.mean(outliers < threshold)),
        accepted_accuracy=float(np.mean(right_accepted)) if right_accepted.size else None,
    )


def _average_precision(positives: Scores, negatives: Scores) -> float:
    """Precision at every positive's score, ties taken together, averaged over the positives."""
    positives, negatives = np.sort(positives), np.sort(negatives)
    thresholds, counts = np.unique(positives, return_counts=True)
    true = positives.size - np.searchsorted(positives, thresholds, side="left")
    false = negatives.size - np.searchsorted(negatives, thresholds, side="left")
    return float(np.sum(counts * (true / (true + false))) / positives.size)


def checked(scores: Scores, whose: str) -> Scores:
    """Return scores as float64 (n,), n >= 1. Raises SetupError for another shape, an empty array, and NaN."""
    array = np.asarray(scores, dtype=np.float64)
    if array.ndim != 1 or not array.size:
        raise SetupError(f"no {whose} scores to measure on (an array of shape {array.shape}); the set has no images")
    if bad := int(np.isnan(array).sum()):
        raise SetupError(f"{bad} of {array.size} {whose} scores are NaN; a score must rank every image")
    return array


def checked_right(right: Bools, id_scores: Scores) -> Bools:
    """Return which known images are rightly classified, (n,). Raises SetupError unless there is one bool per score."""
    array = np.asarray(right)
    if array.shape != id_scores.shape or array.dtype != np.bool_:
        raise SetupError(f"right or wrong must be one bool per known image, not {array.dtype} {array.shape}")
    return array


@dataclass(frozen=True, slots=True, eq=False)
class SortedScores:
    """One method's scores on known images and one outlier set: their ascending order, and where each stands.

    `known` (n,) and `outliers` (m,) are the orders (indices); `right` (n,) is in the order of `known`. Against known
    image i (in order), `below[i]` outliers and `known_below[i]` known images score less, and `not_above[i]` outliers at
    most the same; against outlier j, `known_not_above[j]` known images and `outliers_not_above[j]` outliers.
    """

    known: Ints
    outliers: Ints
    right: Scores
    below: Ints
    not_above: Ints
    known_below: Ints
    known_not_above: Ints
    outliers_not_above: Ints

    @classmethod
    def of(cls, id_scores: Scores, right: Bools, outlier_scores: Scores) -> Self:
        """Sort scores (n,), (n,), (m,). Raises SetupError as evaluation.metrics does."""
        id_scores, outlier_scores = checked(id_scores, "known"), checked(outlier_scores, "outlier")
        known, outliers = np.argsort(id_scores, kind="stable"), np.argsort(outlier_scores, kind="stable")
        a, b = id_scores[known], outlier_scores[outliers]
        return cls(
            known=known,
            outliers=outliers,
            right=checked_right(right, id_scores)[known].astype(np.float64),
            below=np.searchsorted(b, a, side="left"),
            not_above=np.searchsorted(b, a, side="right"),
            known_below=np.searchsorted(a, a, side="left"),
            known_not_above=np.searchsorted(a, b, side="right"),
            outliers_not_above=np.searchsorted(b, b, side="right"),
        )

    def measure(self, known_counts: Counts, outlier_counts: Counts, names: Collection[str]) -> dict[str, Scores]:
        """Return the metrics named, (R,) each, of R resamples: counts (R, n) and (R, m) in the order of the images.

        Raises SetupError for a metric without a formula for resamples.
        """
        resamples = Resamples(self, known_counts, outlier_counts)
        found: dict[str, Scores] = {}
        for name in names:
            if (formula := METRICS[name].resampled) is None:
                raise SetupError(f"the metric '{name}' has no formula for resamples; give its entry one in {__name__}")
            found[name] = formula(resamples)
        return found


class Resamples:
    """Counts in the order of the scores, their cumulative sums, and the metrics of each of R resamples, (R,).

    What two metrics need is computed once.
    """

    def __init__(self, ordered: SortedScores, known_counts: Counts, outlier_counts: Counts) -> None:
        self.ordered = ordered
        self.n, self.m = ordered.known.size, ordered.outliers.size
        known = np.take(known_counts, ordered.known, axis=1)
        outliers = np.take(outlier_counts, ordered.outliers, axis=1)
        self.known, self.outliers = known.astype(np.float64), outliers.astype(np.float64)
        self.known_sums, self.outlier_sums = _cumulative(known), _cumulative(outliers)

    @cached_property
    def twice_won(self) -> Scores:
        """(R, n): `twice_pairs_won` of each known image."""
        beaten = np.take(self.outlier_sums, self.ordered.below, axis=1)
        beaten += np.take(self.outlier_sums, self.ordered.not_above, axis=1)
        return self.known * beaten

    @cached_property
    def auroc(self) -> Scores:
        """See the function of that name, as for the others."""
        area: Scores = self.twice_won.sum(axis=1) / (2 * self.n * self.m)
        return area

    def oscr(self) -> Scores:
        """As `auroc`, of images that are rightly classified."""
        return _dot(self.twice_won, self.ordered.right) / (2 * self.n * self.m)

    @cached_property
    def id_accuracy(self) -> Scores:
        """Of the known images drawn."""
        return _dot(self.known, self.ordered.right) / self.n

    def h_score(self) -> Scores:
        """0 where both of its parts are."""
        total = self.id_accuracy + self.auroc
        both = 2 * self.id_accuracy * self.auroc
        return np.divide(both, total, out=np.zeros_like(total), where=total > 0)

    def fpr95_id(self) -> Scores:
        """At the threshold of each resample's own known images."""
        rejected_at_most = self.n - rank_of_share(ACCEPTANCE, self.n)
        threshold = (self.known_sums[:, 1:] <= rejected_at_most).sum(axis=1)
        return (self.m - self._at(self.outlier_sums, self.ordered.below[threshold])) / self.m

    def fpr95_ood(self) -> Scores:
        """At the threshold of each resample's own outliers."""
        threshold = (self.outlier_sums[:, 1:] < rank_of_share(ACCEPTANCE, self.m)).sum(axis=1)
        return self._at(self.known_sums, self.ordered.known_not_above[threshold]) / self.n

    def aupr_in(self) -> Scores:
        """Known images are the positives."""
        true = self.n - np.take(self.known_sums, self.ordered.known_below, axis=1)
        false = self.m - np.take(self.outlier_sums, self.ordered.below, axis=1)
        return _dot(self.known, _precision(true, false)) / self.n

    def aupr_out(self) -> Scores:
        """Outliers are the positives."""
        true = np.take(self.outlier_sums, self.ordered.outliers_not_above, axis=1)
        false = np.take(self.known_sums, self.ordered.known_not_above, axis=1)
        return _dot(self.outliers, _precision(true, false)) / self.m

    @staticmethod
    def _at(sums: Counts, places: Ints) -> Scores:
        """Each resample's sum at its own place."""
        return np.take_along_axis(sums, places[:, None], axis=1)[:, 0].astype(np.float64)


def _cumulative(counts: Counts) -> Counts:
    """(R, n) -> (R, n + 1): how many were drawn of the first i in order."""
    sums = np.zeros((counts.shape[0], counts.shape[1] + 1), np.int32)
    np.cumsum(counts, axis=1, out=sums[:, 1:])
    return sums


def _dot(rows: Scores, weights: Scores) -> Scores:
    """Each row's product with the weights. Not by BLAS, whose threads cost more here than they bring."""
    product: Scores = np.einsum("rn,rn->r", rows, np.broadcast_to(weights, rows.shape))
    return product


def _precision(true: Counts, false: Counts) -> Scores:
    """Of those accepted, the share that is right. Where nothing is, nothing was drawn there: any number will do."""
    precision: Scores = true / np.maximum(true + false, 1)
    return precision


class Used(NamedTuple):
    """How many labelled images a method has seen before the test."""

    known: int
    outliers: int


class Scored(NamedTuple):
    """What a metric is measured on; see `oscr` for the arrays."""

    known: Scores
    right: Bools
    outliers: Scores
    threshold: float | None = None
    """The deployed one: it accepts 95 % of known *feedback* images, or is the score's own. None without either."""
    used: Used | None = None
    """What was used to fit and to choose; None where that is not known."""
    classes: Sequence[str] = ()
    """(m,) of the outliers, "" where one has none; () where none has."""
    fired: Bools | None = None
    """(n,) whether any antibody fires on a known image; None where no antibody can be silent."""

    @property
    def deployed(self) -> Deployed | None:
        """What its threshold does; None without one."""
        return None if self.threshold is None else deployed(self.known, self.right, self.outliers, self.threshold)


@dataclass(frozen=True, slots=True)
class Metric:
    """Everything that is known of a metric: how it is measured and how it is shown."""

    title: str
    better: Literal["lower", "higher"] | None
    meaning: str
    """One sentence for the reader of a table."""
    formula: Callable[[Scored], float | None]
    """None where it is undefined."""
    resampled: Callable[[Resamples], Scores] | None = None
    """The same of many resamples at once, (R,); None where there is no bootstrap of it."""
    interval: bool = False
    """Whether results carry its bootstrap interval (needs `resampled`)."""
    of: Literal["set", "known"] = "set"
    """known: of the known images alone, the same whatever the outlier set."""
    deployed: bool = False
    """Whether it is about the deployed threshold."""
    unit: Literal["share", "score", "count"] = "share"
    short: str = ""
    """The title where columns are narrow, if another."""
    in_terminal: bool = True
    """Whether it stands in the terminal's table as well; everything stands on the page."""

    @property
    def arrow(self) -> str:
        """The better direction."""
        return {"lower": "↓", "higher": "↑", None: ""}[self.better]


def _worst_class(scored: Scored) -> float | None:
    """None where the outliers are not of several classes."""
    found = fpr95_by_class(scored.known, scored.outliers, scored.classes) if scored.classes else {}
    return max(share for share, _ in found.values()) if len(found) > 1 else None


def _accuracy(scored: Scored) -> float:
    return float(np.mean(scored.right))


METRICS: dict[str, Metric] = {
    "fpr95_id": Metric(
        "FPR95",
        "lower",
        "the share of outliers accepted at the threshold that accepts 95 % of known images, as in the MCM, NegLabel "
        "and EOE papers",
        lambda scored: fpr95_id(scored.known, scored.outliers),
        Resamples.fpr95_id,
        interval=True,
    ),
    "fpr95_worst_class": Metric(
        "FPR95, worst class",
        "lower",
        "the FPR95 of that class of outliers of which most are accepted, among those with at least "
        f"{FEWEST_OF_A_CLASS} images",
        lambda scored: _worst_class(scored),
        short="worst class",
    ),
    "fpr95_ood": Metric(
        "FPR95, OOD",
        "lower",
        "the share of known images rejected at the threshold that rejects 95 % of outliers, as in OpenOOD and "
        "pytorch-ood; papers mix the two",
        lambda scored: fpr95_ood(scored.known, scored.outliers),
        Resamples.fpr95_ood,
        interval=True,
        short="FPR95 OOD",
    ),
    "auroc": Metric(
        "AUROC",
        "higher",
        "the probability that a known image scores above an outlier",
        lambda scored: auroc(scored.known, scored.outliers),
        lambda resamples: resamples.auroc,
        interval=True,
    ),
    "aupr_in": Metric(
        "AUPR in",
        "higher",
        "the area under the precision-recall curve with known images as the positives",
        lambda scored: aupr_in(scored.known, scored.outliers),
        Resamples.aupr_in,
        in_terminal=False,
    ),
    "aupr_out": Metric(
        "AUPR out",
        "higher",
        "the area under the precision-recall curve with outliers as the positives",
        lambda scored: aupr_out(scored.known, scored.outliers),
        Resamples.aupr_out,
        in_terminal=False,
    ),
    "oscr": Metric(
        "OSCR",
        "higher",
        "the area under correct classification against outliers accepted (Dhamija et al., NeurIPS 2018)",
        lambda scored: oscr(*scored[:3]),
        Resamples.oscr,
        in_terminal=False,
    ),
    "h_score": Metric(
        "H-score",
        "higher",
        "the harmonic mean of ID accuracy and AUROC",
        lambda scored: h_score(_accuracy(scored), auroc(scored.known, scored.outliers)),
        Resamples.h_score,
        short="H score",
        in_terminal=False,
    ),
    "id_accuracy": Metric(
        "ID accuracy",
        "higher",
        "the share of known test images whose nearest class is the right one",
        _accuracy,
        lambda resamples: resamples.id_accuracy,
        interval=True,
        of="known",
        short="ID acc.",
    ),
    "fired_known": Metric(
        "Known fired on",
        "lower",
        "the share of known test images on which any antibody fires (the radii bound it for each alone, by eps of the "
        "fit images, not for all together)",
        lambda scored: None if scored.fired is None else float(np.mean(scored.fired)),
        of="known",
        in_terminal=False,
    ),
    "threshold": Metric(
        "Threshold",
        None,
        "the deployed threshold: it accepts 95 % of the known feedback images, or is the score's own, so it was fixed "
        "before the test was opened",
        lambda scored: scored.threshold,
        of="known",
        deployed=True,
        unit="score",
        in_terminal=False,
    ),
    "acceptance": Metric(
        "Known accepted",
        "higher",
        "the share of known test images accepted at the deployed threshold",
        lambda scored: scored.deployed and scored.deployed.acceptance,
        of="known",
        deployed=True,
        short="ID kept",
    ),
    "accepted_accuracy": Metric(
        "Accuracy on accepted",
        "higher",
        "the share of the known test images accepted at the deployed threshold that are rightly classified",
        lambda scored: scored.deployed and scored.deployed.accepted_accuracy,
        of="known",
        deployed=True,
        short="acc. kept",
    ),
    "rejection": Metric(
        "Outliers rejected",
        "higher",
        "the share of outliers rejected at the deployed threshold",
        lambda scored: scored.deployed and scored.deployed.rejection,
        deployed=True,
        short="OOD rej.",
    ),
    "known_used": Metric(
        "Known used",
        None,
        "how many labelled known images it was fitted to, or had its settings chosen on; the deployed threshold, which "
        "is found on the known feedback images for every method, is not counted",
        lambda scored: scored.used and scored.used.known,
        of="known",
        unit="count",
        short="ID seen",
    ),
    "outliers_used": Metric(
        "Outliers used",
        None,
        "how many feedback outliers, told as such, had a say in its settings or in its antibodies",
        lambda scored: scored.used and scored.used.outliers,
        of="known",
        unit="count",
        short="OOD seen",
    ),
}
"""By name, in the order of the columns."""


def measure(scored: Scored) -> dict[str, float | None]:
    """Return every metric of the table. Raises SetupError as they do."""
    return {name: metric.formula(scored) for name, metric in METRICS.items()}
