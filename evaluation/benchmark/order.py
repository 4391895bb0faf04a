"""How results are arranged, in the terminal and in the report alike.

Over which sets the mean is, in which groups methods stand, which two the headline compares, and which sets are unseen.
Only names, counts and shares are looked at, so this needs neither arrays nor the benchmark.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from math import inf
from statistics import fmean
from typing import Final, Literal, Protocol

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
    "noise": "controls",
    "random_words": "controls",
    "shuffled": "controls",
}


def headline_sets(names: Iterable[str]) -> tuple[str, ...]:
    """The sets that a method's mean is over: those of `HEADLINE_SETS` that are there, else all."""
    found = tuple(dict.fromkeys(names))
    return tuple(name for name in found if name in HEADLINE_SETS) or found


def group_of(arm: str, antibodies: int) -> Group:
    """The group of a method, from its arm (`ResultRow.arm`). Rows without one are told by whether they use a bank."""
    return _GROUP_OF_ARM.get(arm, "bank" if antibodies else "none")


class MeasuredRow(Protocol):
    """What a row of results says of a method on a set; see `immuno_core.records.ResultRow`."""

    @property
    def method(self) -> str:
        """Its label."""
        ...

    @property
    def score(self) -> str:
        """The name of its score."""
        ...

    @property
    def ood(self) -> str:
        """The outlier set."""
        ...

    @property
    def arm(self) -> str:
        """Which antibodies it was given; "" where that is not recorded or it uses none."""
        ...

    @property
    def antibodies(self) -> int:
        """How many it uses."""
        ...

    @property
    def metrics(self) -> Mapping[str, float | None]:
        """Shares, None where undefined; see `evaluation.metrics.METRICS`."""
        ...


OURS: Final = "immuno_vlm"
"""The method that the headline is about where it runs."""


def best_without_antibodies(rows: Iterable[MeasuredRow], sets: Sequence[str]) -> str | None:
    """The method without antibodies that has the lowest mean FPR95 over the sets; the first of equals.

    That is a published baseline, or a method of ours in the arm "none", which counts as any other: to leave it out
    would flatter the bank. Mined words and controls are antibodies. None where none was measured on all the sets.
    """
    methods = _by_method(rows)
    found = {label: _mean(lines, sets) for label, lines in methods.items() if not _uses_antibodies(lines)}
    return _lowest({label: mean for label, mean in found.items() if mean < inf})


def compared(rows: Iterable[MeasuredRow]) -> tuple[str, str]:
    """The two methods that headline and pictures compare, before and after; the same one where there is no second.

    Before: the best without antibodies over the headline sets. After: `OURS` with the bank where it runs (under a label
    of its own the first listed), else the best method that uses the bank.
    """
    methods = _by_method(rows)
    wanted = headline_sets(row.ood for lines in methods.values() for row in lines)
    means = {label: _mean(lines, wanted) for label, lines in methods.items()}
    before = _lowest({label: means[label] for label, lines in methods.items() if not _uses_antibodies(lines)})
    using = [label for label, lines in methods.items() if _uses_antibodies(lines) and _group(lines) == "bank"]
    ours = [label for label in using if methods[label][0].score == OURS]
    after = OURS if OURS in ours else ours[0] if ours else _lowest({label: means[label] for label in using})
    either = before or after or _lowest(means)
    if either is None:
        raise ValueError("there are no rows to compare")
    return before or either, after or either


def _by_method(rows: Iterable[MeasuredRow]) -> dict[str, list[MeasuredRow]]:
    methods: dict[str, list[MeasuredRow]] = {}
    for row in rows:
        methods.setdefault(row.method, []).append(row)
    return methods


def _uses_antibodies(lines: Sequence[MeasuredRow]) -> bool:
    return any(row.antibodies for row in lines)


def _group(lines: Sequence[MeasuredRow]) -> Group:
    return group_of(lines[0].arm, max(row.antibodies for row in lines))


def _mean(lines: Sequence[MeasuredRow], sets: Sequence[str]) -> float:
    """Mean FPR95 over sets, of each over its seeds; infinite unless it was measured on every one."""
    found = [
        [value for row in lines if row.ood == name and (value := row.metrics.get("fpr95_id")) is not None]
        for name in sets
    ]
    return fmean(fmean(values) for values in found) if found and all(found) else inf


def _lowest(means: Mapping[str, float]) -> str | None:
    return min(means, key=means.__getitem__) if means else None


def unseen_sets(tested: Mapping[str, Collection[str]], feedback: Mapping[str, Collection[str]]) -> tuple[str, ...]:
    """The outlier sets unlike anything in the feedback, told by data; both map names of sets to their images' classes.

    A set is seen that has the name of a feedback set, or a class in common with one. Any other is unseen where classes
    can tell: every image has one ("" is none), in it and in the feedback. Where they cannot, it is unseen only where
    names can tell: other test sets have the names of feedback sets. Without feedback nothing is told apart.
    """
    known = {_bare(label) for labels in feedback.values() for label in labels}
    same = {name for name in tested if any(same_name(name, other) for other in feedback)}
    unlike = []
    for name, labels in tested.items():
        own = {_bare(label) for label in labels}
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
    return _bare(one) == _bare(other)


def _bare(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter.isalnum()) or name
