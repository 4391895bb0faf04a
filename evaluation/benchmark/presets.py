"""Presets: methods that a configuration names all at once (`[[methods]] preset = "scores"`).

    scores      the baselines with the settings of their papers, and as in `chosen`; our scores
    peers       the rivals of 2023 to 2026, with the settings of their papers and with those chosen on the feedback
    chosen      the baselines that have free settings, with those chosen on the feedback (evaluation.scores.choice)
    test_time   methods that learn from the test images, in a block apart (evaluation.benchmark.streams)
    controls    the main method with other antibodies than the bank's (evaluation.benchmark.arms)
    ablations   the paper's method and ours, each with one part changed or left out

The main method is the one that the headline is about as well: `immuno_vlm` where the configuration names it with the
bank, else the first method that uses the bank, and `immuno_vlm` where there is none. A method of
a preset that a configuration names as well is measured once, and one that cannot be fitted (no fit images, an encoder
without patch embeddings, no bank) is left out with the reason; a method that is named is an error then.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

from evaluation.benchmark.order import OURS, ours
from evaluation.scores import Score, score_class
from immuno_core.config.methods import Arm, MethodConfig, MethodEntry
from immuno_core.errors import SetupError

CONTROLS: tuple[Arm, ...] = (
    "none", "noise", "random_words", "random_places", "random_texts", "shuffled", "pixels", "neglabel"
)  # fmt: skip
"""What the bank is compared with; see evaluation.benchmark.arms."""
GUARDED = "guarded"
"""Of scores that look at which class an antibody guards: shuffling the classes means something only to them."""
_PRESETS: Final[dict[str, list[dict[str, Any]]]] = tomllib.loads(
    Path(__file__).with_name("presets.toml").read_text(encoding="utf-8")
)
"""Methods as a configuration would name them."""
_PARTS: Final = {"scores": ("scores", "chosen")}


@dataclass(frozen=True, slots=True)
class Planned:
    """A method to measure; an optional one is left out where it cannot be fitted."""

    method: MethodConfig
    optional: bool = False

    @property
    def label(self) -> str:
        """How its row is called."""
        return _label(self.method)


def expand(entries: Sequence[MethodEntry], *, settle: bool = False) -> tuple[Planned, ...]:
    """Return the methods of a configuration with its presets written out; with `settle`, the controls too.

    Raises nothing: unknown scores are found when they are made.
    """
    main = main_method(entries)
    taken = {_label(entry) for entry in entries if isinstance(entry, MethodConfig)}
    found: list[Planned] = []
    for entry in entries:
        if isinstance(entry, MethodConfig):
            found.append(Planned(entry))
            continue
        for method in _preset(entry.preset, main):
            if _label(method) not in taken:
                taken.add(_label(method))
                found.append(Planned(method, optional=True))
    if settle:
        found += [
            Planned(method, optional=method is not main)
            for method in (main, *controls(main))
            if _label(method) not in taken
        ]
    return tuple(found)


def main_method(entries: Sequence[MethodEntry]) -> MethodConfig:
    """Return the method that the controls and the verdict are about."""
    using = {_label(entry): entry for entry in entries if isinstance(entry, MethodConfig) and _has_bank(entry)}
    if not using:
        return MethodConfig(name=OURS)
    return using[ours({label: entry.name for label, entry in using.items()}) or next(iter(using))]


def _has_bank(entry: MethodConfig) -> bool:
    score = _class_of(entry) if entry.arm in (None, "bank") else None
    return score is not None and score.uses_bank and score.default_arm == "bank"


def controls(main: MethodConfig) -> Iterator[MethodConfig]:
    """Yield the main method with each control in place of the bank.

    Where the score can look at guarded classes, the shuffled bank is compared with the bank under that variant.
    """
    for arm in CONTROLS:
        if arm == "shuffled" and can_guard(main):
            yield control(main, "bank", guarded=True)
            yield control(main, arm, guarded=True)
        else:
            yield control(main, arm)


def main_by_arm(entries: Sequence[MethodEntry]) -> dict[str, str]:
    """Return the labels of the main method by arm, as evaluation.benchmark.settle names them ("bank", ...)."""
    main = main_method(entries)
    labels = {"bank": _label(main)}
    for method in controls(main):
        labels["bank_guarded" if method.arm == "bank" else str(method.arm)] = _label(method)
    return labels


def control(main: MethodConfig, arm: Arm, *, guarded: bool = False) -> MethodConfig:
    """Return the main method in another arm, with a label that says so."""
    label = _label(main) + (", guarded" if guarded else "")
    params = main.params | ({GUARDED: True} if guarded else {})
    label = label if arm == "bank" else f"{label} / {arm}"
    return MethodConfig(name=main.name, folder=main.folder, label=label, arm=arm, **params)


def can_guard(main: MethodConfig) -> bool:
    """Whether the score has a variant in which an antibody acts only on images of the class it guards."""
    score = _class_of(main)
    return score is not None and GUARDED in (one.name for one in fields(score))  # type: ignore[arg-type]


def _class_of(method: MethodConfig) -> type[Score] | None:
    """The class of a method's score; None where there is none of the name."""
    try:
        return score_class(method.name, method.folder)
    except SetupError:
        return None


def _label(method: MethodConfig) -> str:
    return method.label or method.name + (", chosen" if method.choose else "")


def _preset(name: str, main: MethodConfig) -> Iterator[MethodConfig]:
    if name == "controls":
        return controls(main)
    return (MethodConfig(**entry) for each in _PARTS.get(name, (name,)) for entry in _PRESETS[each])
