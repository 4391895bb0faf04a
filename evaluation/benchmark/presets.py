"""Presets: methods that a configuration names all at once (`[[methods]] preset = "scores"`).

    scores      every score, the baselines with the settings their papers report best
    controls    the main method with other antibodies than the bank's (evaluation.benchmark.arms)
    ablations   the paper's method and ours, each with one part changed or left out

The main method is the one that the headline is about as well: `immuno_vlm` where the configuration names it with the
bank, else the first method that uses the bank, and `immuno_vlm` where there is none. A method of
a preset that a configuration names as well is measured once, and one that cannot be fitted (no fit images, an encoder
without patch embeddings, no bank) is left out with the reason; a method that is named is an error then.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

from evaluation.benchmark.order import OURS, ours
from evaluation.scores import Score, score_class
from immuno_core.config.methods import Arm, MethodConfig, MethodEntry
from immuno_core.errors import SetupError

CONTROLS: tuple[Arm, ...] = ("none", "noise", "random_words", "shuffled", "neglabel")
"""What the bank is compared with; see evaluation.benchmark.arms."""
GUARDED = "guarded"
"""Of scores that look at which class an antibody guards: shuffling the classes means something only to them."""


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
        return _method(OURS)
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
    return method.label or method.name


def _preset(name: str, main: MethodConfig) -> Iterator[MethodConfig]:
    if name == "scores":
        return _scores()
    return controls(main) if name == "controls" else _ablations()


def _scores() -> Iterator[MethodConfig]:
    yield _method("immuno_vlm")
    yield _method("immuno_vlm_paper")
    yield _method("max_logit", "max cosine")
    yield _method("msp")
    for temperature in (1.0, 0.1, 0.01):
        yield _method("mcm", f"MCM, T = {temperature:g}", temperature=temperature)
    for temperature in (1.0, 0.01):
        yield _method("energy", f"energy, T = {temperature:g}", temperature=temperature)
    yield _method("gl_mcm", "GL-MCM")
    yield _method("knn", "KNN, K = 50")
    yield _method("mahalanobis")
    yield _method("eoe", "EOE")
    yield _method("eoe_max_logit", "EOE, max-logit")
    yield _method("neglabel", "NegLabel")
    yield _method("neglabel", "NegLabel score, our bank", arm="bank")
    yield _method("csp", "CSP")
    yield _method("s_dis", "S_DIS")
    yield _method("calibrated", "calibrated")


def _ablations() -> Iterator[MethodConfig]:
    yield _method("immuno_vlm_paper")
    yield _method("immuno_vlm_paper", "paper: no push", push=False)
    yield _method("immuno_vlm_paper", "paper: no adapter", adapter=False)
    yield _method("immuno_vlm_paper", "paper: visual mean only", alpha=0.0)
    yield _method("immuno_vlm_paper", "paper: text only", alpha=1.0)
    yield _method("immuno_vlm_paper", "paper: no EVT", evt=False)
    yield _method("immuno_vlm_paper", "paper: noise antibodies", arm="noise")
    yield _method("immuno_vlm")
    yield _method("immuno_vlm", "ours: max-cosine base", base="max_cosine")
    yield _method("immuno_vlm", "ours: no typicality", v=0.0)
    yield _method("immuno_vlm", "ours: no radii", radii=False)
    yield _method("immuno_vlm", "ours: one radius for all classes", class_radii=False)
    yield _method("immuno_vlm", "ours: no maturation", maturation=False)
    yield _method("immuno_vlm", "ours: no antibodies", arm="none")


def _method(name: str, label: str | None = None, arm: Arm | None = None, **params: Any) -> MethodConfig:
    return MethodConfig(name=name, label=label, arm=arm, **params)
