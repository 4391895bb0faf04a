"""The scores, by name. Each is one file that states its paper, equation, defaults and direction.

To add a score: write its file, and add its class to `SCORES`.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from pydantic import ValidationError

from evaluation.scores.base import Score
from evaluation.scores.calibrated import Calibrated
from evaluation.scores.distances import Knn, Mahalanobis
from evaluation.scores.immuno_vlm import ImmunoVlm
from evaluation.scores.negative_labels import Csp, Eoe, EoeMaxLogit, NegLabel
from evaluation.scores.paper.method import ImmunoVlmPaper
from evaluation.scores.s_dis import SDis
from evaluation.scores.zero_shot import Energy, GlMcm, MaxLogit, Mcm, Msp
from immuno_core.errors import SetupError, did_you_mean

SCORES: dict[str, type[Score]] = {
    score.name: score
    for score in (
        MaxLogit,
        Msp,
        Mcm,
        Energy,
        GlMcm,
        Knn,
        Mahalanobis,
        Eoe,
        EoeMaxLogit,
        NegLabel,
        Csp,
        SDis,
        ImmunoVlmPaper,
        Calibrated,
        ImmunoVlm,
    )
}
"""Every score by name, the simplest first."""


def make_score(name: str, **params: Any) -> Score:
    """Return a score with the given parameters; the others have their defaults.

    Raises SetupError for an unknown name or parameter (with the nearest valid one) and for a value out of range.
    """
    kind = SCORES.get(name)
    if kind is None:
        raise SetupError(f"there is no score '{name}'{did_you_mean(name, SCORES)}")
    known = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    for key in params:
        if key not in known:
            hint = did_you_mean(key, known) if known else "; it has none"
            raise SetupError(f"the score '{name}' has no parameter '{key}'{hint}")
    try:
        return kind(**params)
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0])
        raise SetupError(f"score '{name}', {key} = {params[key]!r}: {first['msg']}") from None
