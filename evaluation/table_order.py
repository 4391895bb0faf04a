"""How results are arranged, in the terminal and in the report alike: over which sets the mean is, and in which groups.

Only names and counts are looked at, so this needs neither arrays nor the benchmark.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal

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


def same_name(one: str, other: str) -> bool:
    """Whether two names differ only in case, spaces and punctuation, as "SSB-hard" and "ssb_hard" do."""
    return _bare(one) == _bare(other)


def _bare(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter.isalnum()) or name
