"""The scores, by name. Each family is one file that states its paper, equation, defaults and direction.

To add a score here: write it, and add its class to `SCORES`. One that lives elsewhere is registered (`register_score`)
or named by its module: evaluation.scores.own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar, dataclass_transform

from pydantic import ValidationError

from evaluation.scores.base import Score
from evaluation.scores.calibrated import Calibrated
from evaluation.scores.features.distances import Knn, Mahalanobis, RelativeMahalanobis
from evaluation.scores.features.guidance import Fdbd, NnGuide
from evaluation.scores.features.subspaces import Neco, Vim
from evaluation.scores.immuno_vlm import ImmunoVlm
from evaluation.scores.negative_labels import Csp, Eoe, EoeMaxLogit, NegLabel
from evaluation.scores.own import adopt, entry_points, from_entry_point, from_module
from evaluation.scores.paper.method import ImmunoVlmPaper
from evaluation.scores.s_dis import SDis
from evaluation.scores.words.activated import Tanl
from evaluation.scores.words.grouped import Dnm, InterNeg
from evaluation.scores.words.prompts import Cma, NegRefine
from evaluation.scores.zero_shot import Energy, Gen, GlMcm, MaxLogit, Mcm, Msp
from immuno_core.config.methods import MethodConfig
from immuno_core.errors import SetupError, did_you_mean, shown

SCORES: dict[str, type[Score]] = {
    score.name: score
    for score in (
        MaxLogit,
        Msp,
        Mcm,
        Energy,
        Gen,
        GlMcm,
        Knn,
        Mahalanobis,
        RelativeMahalanobis,
        Vim,
        NnGuide,
        Fdbd,
        Neco,
        Eoe,
        EoeMaxLogit,
        NegLabel,
        Csp,
        Cma,
        InterNeg,
        Dnm,
        NegRefine,
        Tanl,
        SDis,
        ImmunoVlmPaper,
        Calibrated,
        ImmunoVlm,
    )
}
"""Every score by name, the simplest first."""


_REGISTERED: dict[str, type[Score]] = {}
"""Scores of users, by the name they were registered under."""

S = TypeVar("S", bound=Score)


@dataclass_transform(frozen_default=True, kw_only_default=False)
def register_score(kind: type[S]) -> type[S]:
    """Register a class of one's own as a score, under its `name`; a decorator.

    It becomes a frozen dataclass whose parameters are checked as those of the scores here. A class registered again
    replaces the first. Raises SetupError for a class that is not derived from Score, and the name of a built-in score.
    """
    score = adopt(kind)
    if score.name in SCORES:
        raise SetupError(f"there is a built-in score '{score.name}'; give the class {kind.__name__} another name")
    _REGISTERED[score.name] = score
    return score  # type: ignore[return-value]  # where it is another class, it is derived from this one


def score_class(name: str, folder: Path | None = None) -> type[Score]:
    """Return the class of a score: built in, registered, an entry point's, or "module:Class", looked for in `folder`.

    Raises SetupError for an unknown name, with the nearest valid one, and for a class that cannot be loaded.
    """
    if (kind := SCORES.get(name) or _REGISTERED.get(name)) is not None:
        return kind
    if ":" in name:
        return from_module(name, folder)
    offered = entry_points()
    if name not in offered:
        raise SetupError(f"there is no score '{name}'{did_you_mean(name, {*SCORES, *_REGISTERED, *offered})}")
    return from_entry_point(offered[name])


def make_score(name: str, **params: Any) -> Score:
    """Return a score with the given parameters; the others have their defaults.

    Raises SetupError for an unknown name or parameter (with the nearest valid one) and for a value out of range.
    """
    return make(score_class(name), name, params)


def configured_score(method: MethodConfig) -> Score:
    """Return the score that a configuration asks for. Raises SetupError as `make_score` does."""
    return make(score_class(method.name, method.folder), method.name, method.params)


def make(kind: type[Score], name: str, params: Mapping[str, Any]) -> Score:
    """Return a score of a class, which errors call `name`; see `make_score`."""
    known = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    for key in params:
        if key not in known:
            hint = did_you_mean(key, known) if known else "; it has none"
            raise SetupError(f"the score '{name}' has no parameter '{key}'{hint}")
    try:
        return kind(**params)
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0]) if first["loc"] else ""
        given = f", {key} = {shown(params[key])}" if key in params else f", {key}" if key else ""
        raise SetupError(f"score '{name}'{given}: {first['msg']}") from None
    except Exception as error:  # noqa: BLE001 - whatever a user's code raises
        raise SetupError(f"the score '{name}' cannot be made: {type(error).__name__}: {error}") from None
