"""How results are arranged, in the terminal and in the report alike.

Over which sets the mean is, in which groups methods stand, which two the headline compares, and which sets are unseen:
`Measured` says all of it of the rows of a benchmark, and terminal and report only draw it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from types import MappingProxyType
from typing import Final, Literal, NamedTuple

from evaluation.metrics import METRICS
from immuno_core.records import ResultRow

HEADLINE_SETS = ("near", "contextual")
"""The sets of the headline where a benchmark has them: look-alikes and known things in impossible places."""
Group = Literal["bank", "none", "mined", "controls"]
GROUP_TITLES: Final[dict[Group, str]] = {
    "bank": "With the bank",
    "none": "Without antibodies",
    "mined": "With mined words",
    "controls": "Controls",
}
"""In the order in which they are shown."""
_GROUP_OF_ARM: Final[dict[str, Group]] = {
    "bank": "bank",
    "none": "none",
    "neglabel": "mined",
    "csp": "mined",
    "words": "mined",
    "neutral": "mined",
    "noise": "controls",
    "random_words": "controls",
    "random_places": "controls",
    "random_texts": "controls",
    "shuffled": "controls",
    "pixels": "controls",
}


def headline_sets(names: Iterable[str]) -> tuple[str, ...]:
    """The sets that a method's mean is over: those of `HEADLINE_SETS` that are there, else all."""
    found = tuple(dict.fromkeys(names))
    return tuple(name for name in found if name in HEADLINE_SETS) or found


def group_of(arm: str, antibodies: int) -> Group:
    """The group of a method, from its arm (`ResultRow.arm`). Rows without one are told by whether they use a bank.

    Ours in the arm "none" is a control where it has visual antibodies.
    """
    if arm == "none" and antibodies:
        return "controls"
    return _GROUP_OF_ARM.get(arm, "bank" if antibodies else "none")


class MethodGroup(NamedTuple):
    """The methods of one group, in the order in which they are shown."""

    name: Group
    methods: tuple[str, ...]

    @property
    def title(self) -> str:
        """For people."""
        return GROUP_TITLES[self.name]


def grouped(
    methods: Iterable[str], group: Callable[[str], Group], mean: Callable[[str], float | None]
) -> list[MethodGroup]:
    """Return the methods by group, lowest mean first in each, those without one last; no empty groups."""
    ranked = sorted(methods, key=lambda method: _rank(mean(method)))
    groups = (MethodGroup(name, tuple(each for each in ranked if group(each) == name)) for name in GROUP_TITLES)
    return [each for each in groups if each.methods]


def _rank(mean: float | None) -> tuple[bool, float]:
    return mean is None, mean or 0.0


FEEDBACK_MARK: Final = "†"
"""Beside the name of a method in whose settings or antibodies feedback outliers had a say."""
ABOUT_FEEDBACK: Final = "outliers of the feedback, told as such, had a say in its settings or in its antibodies"
"""What the mark says."""
OURS: Final = "immuno_vlm"
"""The score that headline and verdict are about where it runs."""


def ours(scores: Mapping[str, str]) -> str | None:
    """The label of `OURS` among methods that use the bank (label: score); under labels of its own the first listed."""
    found = [label for label, score in scores.items() if score == OURS]
    return OURS if OURS in found else found[0] if found else None


@dataclass(frozen=True, slots=True)
class Contrast:
    """Mean FPR95 over some sets (shares; None where not measured) of the methods that the headline compares."""

    sets: tuple[str, ...]
    before: float | None
    after: float | None
    best: float | None
    best_method: str | None
    """The best method without antibodies, which need not be the one called "before"."""

    @property
    def ratio(self) -> float | None:
        """How many times fewer outliers `after` accepts than the best without antibodies; None where undefined."""
        return self.best / self.after if self.best is not None and self.after else None


class SetChange(NamedTuple):
    """The FPR95 of one outlier set (shares) under the two methods of the headline."""

    set: str
    before: float
    after: float

    @property
    def worse(self) -> bool:
        """Whether more is accepted, as it prints."""
        return round(100 * self.after, 1) > round(100 * self.before, 1)


class Headline(NamedTuple):
    """The methods that a run comes down to, None where not measured, on the headline sets and on the unseen ones."""

    before: str | None
    after: str | None
    main: Contrast
    unseen: Contrast | None
    """None where there are no such sets, or they are those of `main`."""
    id_accuracy_before: float | None
    id_accuracy_after: float | None


class Measured:
    """Rows by method and set, both in the order of the rows; several seeds of one are averaged.

    `unseen` and `distances` are those of results.json, `feedback` the names of the sets in the loop's feedback.
    """

    def __init__(
        self,
        rows: Sequence[ResultRow],
        unseen: Collection[str] | None = None,
        feedback: Collection[str] = (),
        distances: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        by_key: dict[tuple[str, str], list[ResultRow]] = {}
        for row in rows:
            by_key.setdefault((row.method, row.ood), []).append(row)
        self._cells = {key: _averaged(cell) for key, cell in by_key.items()}
        self._last = {row.method: row for row in rows}
        self._antibodies: dict[str, int] = {}
        for row in rows:
            self._antibodies[row.method] = max(row.antibodies, self._antibodies.get(row.method, 0))
        self.methods = tuple(self._antibodies)
        self.sets = tuple(dict.fromkeys(row.ood for row in rows))
        self.headline_sets = headline_sets(self.sets)
        self.unseen_sets = unseen_of(self.sets, unseen, feedback)
        self.by_distance = {
            distance: sets
            for distance in ("near", "far")
            if (sets := tuple(name for name in self.sets if distances.get(name) == distance))
        }
        """The sets said to be near to the known classes, and those said to be far."""
        self.seeds = max(map(len, by_key.values()), default=0)
        self.using_feedback = frozenset(row.method for row in rows if row.uses_feedback)
        """The methods in whose settings or antibodies outliers of the feedback had a say."""
        self.has_intervals = any("fpr95_id" in cell.intervals for cell in self._cells.values())

    def cell(self, method: str, outlier_set: str) -> ResultRow | None:
        """A method on a set; None where it was not measured. A mean over seeds has no intervals."""
        return self._cells.get((method, outlier_set))

    def antibodies(self, method: str) -> int:
        """How many antibodies a method uses; 0 for a method without a bank."""
        return self._antibodies[method]

    def arm(self, method: str) -> str:
        """Which antibodies a method was given; "" where that is not recorded or it uses none."""
        return self._last[method].arm

    def title(self, method: str) -> str:
        """A method's label for people: one in another arm says it in words."""
        arm = self.arm(method) if method in self._last else ""
        base = method.removesuffix(f" / {arm}")
        if not arm or base == method:
            return method
        if arm == "none":
            return f"{base} without {'texts' if self.antibodies(method) else 'antibodies'}"
        return f"{base} with {arm.replace('_', ' ')}"

    def remarks(self) -> dict[str, list[str]]:
        """What has to be known of how methods were fitted, each remark with the methods that it is about."""
        return by_remark({method: row.extra.get("remarks", ()) for method, row in self._last.items()})

    def group(self, method: str) -> Group:
        """The group of the tables in which a method stands."""
        return group_of(self.arm(method), self.antibodies(method))

    def over(
        self,
        method: str,
        metric: str,
        sets: Sequence[str] | None = None,
        summary: Callable[[Iterable[float]], float] = fmean,
    ) -> float | None:
        """Mean (or another summary) of a metric over sets (default: the headline's); None unless measured on each.

        What is of the known images alone is the same on every set, so any of them will do.
        """
        of_known = METRICS[metric].of == "known"
        wanted = self.sets if of_known else self.headline_sets if sets is None else sets
        cells = [self.cell(method, name) for name in wanted]
        found = [value for cell in cells if cell is not None and (value := cell.metrics.get(metric)) is not None]
        if of_known:
            return next(iter(found), None)
        return summary(found) if found and len(found) == len(cells) else None

    def worst(self, method: str, metric: str) -> float | None:
        """The worst of all sets on which it was measured."""
        summary = min if METRICS[metric].better == "higher" else max
        return self.over(method, metric, [name for name in self.sets if self.cell(method, name)], summary)

    def ranked(self) -> list[str]:
        """The methods, lowest mean FPR95 first; those without a mean last."""
        return sorted(self.methods, key=lambda method: _rank(self.over(method, "fpr95_id")))

    def groups(self) -> list[MethodGroup]:
        """The methods by group, in each as `ranked`."""
        return grouped(self.methods, self.group, lambda method: self.over(method, "fpr95_id"))

    def best_without_antibodies(self, sets: Sequence[str]) -> str | None:
        """The method without antibodies that has the lowest mean FPR95 over the sets; the first of equals.

        That is a published baseline, or a method of ours in the arm "none", which counts as any other: to leave it out
        would flatter the bank. Mined words, controls and visual antibodies are antibodies. None where none was measured
        on all the sets.
        """
        best = self._lowest([method for method in self.methods if not self.antibodies(method)], sets)
        return best if best and self.over(best, "fpr95_id", sets) is not None else None

    def compared(self, settled: str = "") -> tuple[str, str]:
        """The two methods that headline and pictures compare, before and after; the same one where there is no second.

        Before: the best without antibodies over the headline sets. After: the method of the verdict (`settled`) where
        there is one, else `ours` with the bank, else the best method that uses the bank.
        """
        before = self._lowest([method for method in self.methods if not self.antibodies(method)])
        using = [method for method in self.methods if self.antibodies(method) and self.group(method) == "bank"]
        own = settled if settled in using else ours({method: self._last[method].score for method in using})
        after = own or self._lowest(using)
        either = before or after or self._lowest(self.methods)
        if either is None:
            raise ValueError("there are no rows to compare")
        return before or either, after or either

    def contrast(self, sets: Sequence[str], before: str | None, after: str | None) -> Contrast:
        """Two methods, and the best without antibodies, on some sets."""
        best = self.best_without_antibodies(sets)

        def mean(method: str | None) -> float | None:
            return self.over(method, "fpr95_id", sets) if method else None

        return Contrast(tuple(sets), mean(before), mean(after), mean(best), best)

    def changes(self, sets: Iterable[str], before: str | None, after: str | None) -> tuple[SetChange, ...]:
        """What becomes of each set on which both methods were measured, the worst change first."""
        found = []
        for name in sets if before and after else ():
            old, new = (self.over(method, "fpr95_id", (name,)) for method in (before or "", after or ""))
            if old is not None and new is not None:
                found.append(SetChange(name, old, new))
        return tuple(sorted(found, key=lambda one: one.before - one.after))

    def short_list(self, before: str | None, after: str | None) -> tuple[str, ...]:
        """The methods of a short table: ours, the best without antibodies, then the best of each other group."""
        groups = {group.name: group.methods for group in self.groups()}
        listed = [*([after] if after else []), *([before] if before else []), *groups.get("none", ())[:3]]
        listed += [groups[name][0] for name in ("bank", "mined", "controls") if name in groups]
        return tuple(dict.fromkeys(listed))

    def headline(self, before: str, after: str) -> Headline:
        """Two methods, such as `compared` gives; there is no second where it has no antibodies."""
        old, new = (method if method in self.methods else None for method in (before, after))
        if new is not None and not self.antibodies(new):
            new = None
        unseen = self.unseen_sets if self.unseen_sets != self.headline_sets else ()
        return Headline(
            old,
            new,
            main=self.contrast(self.headline_sets, old, new),
            unseen=self.contrast(unseen, old, new) if unseen else None,
            id_accuracy_before=self.over(old, "id_accuracy") if old else None,
            id_accuracy_after=self.over(new, "id_accuracy") if new else None,
        )

    def _lowest(self, methods: Sequence[str], sets: Sequence[str] | None = None) -> str | None:
        return min(methods, key=lambda method: _rank(self.over(method, "fpr95_id", sets)), default=None)


def by_remark(remarks: Mapping[str, Iterable[str]]) -> dict[str, list[str]]:
    """Turn the remarks of each method into the methods of each remark."""
    found: dict[str, list[str]] = {}
    for method, said in remarks.items():
        for remark in said:
            found.setdefault(remark, []).append(method)
    return found


def _averaged(rows: Sequence[ResultRow]) -> ResultRow:
    """One row of several seeds': means of what is defined, without intervals."""
    if len(rows) == 1:
        return rows[0]
    values = {name: [value for row in rows if (value := row.metrics.get(name)) is not None] for name in rows[0].metrics}
    return replace(rows[0], metrics={name: fmean(v) if v else None for name, v in values.items()}, intervals={})


def unseen_sets(tested: Mapping[str, Collection[str]], feedback: Mapping[str, Collection[str]]) -> tuple[str, ...]:
    """The outlier sets unlike anything in the feedback, told by data; both map names of sets to their images' classes.

    A set is seen that has the name of a feedback set, or a class in common with one. Any other is unseen where classes
    can tell: every image has one ("" is none), in it and in the feedback. Where they cannot, it is unseen only where
    names can tell: other test sets have the names of feedback sets. Without feedback nothing is told apart.
    """
    known = {bare_name(label) for labels in feedback.values() for label in labels}
    same = {name for name in tested if any(same_name(name, other) for other in feedback)}
    unlike = []
    for name, labels in tested.items():
        own = {bare_name(label) for label in labels}
        seen = name in same or own & known - {""}
        told = bool(same) or (own and known and "" not in own | known)
        if told and not seen:
            unlike.append(name)
    return tuple(unlike)


def unseen_of(sets: Iterable[str], recorded: Collection[str] | None, feedback: Collection[str] = ()) -> tuple[str, ...]:
    """Those of the sets that are unseen, as results.json records it (`unseen`).

    None was recorded by versions that knew names only: there a set is unseen that is called so, or whose name the
    feedback did not have where it had that of another set.
    """
    names = tuple(dict.fromkeys(sets))
    if recorded is not None:
        return tuple(name for name in names if name in recorded)
    shared = set(feedback) & set(names)
    return tuple(name for name in names if "unseen" in name.lower() or (shared and name not in shared))


def same_name(one: str, other: str) -> bool:
    """Whether two names differ only in case, spaces and punctuation, as "SSB-hard" and "ssb_hard" do."""
    return bare_name(one) == bare_name(other)


def bare_name(name: str) -> str:
    """A name without case, spaces and punctuation; one of nothing else stays as it is."""
    return "".join(letter for letter in name.casefold() if letter.isalnum()) or name
