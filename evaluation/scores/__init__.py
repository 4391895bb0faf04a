"""The scores, by name: `make_score`. What others use of scores is re-exported here, and loaded when it is asked for."""

from typing import TYPE_CHECKING

from immuno_core.doors import door

if TYPE_CHECKING:
    from evaluation.scores.base import FittedScore as FittedScore
    from evaluation.scores.base import Score as Score
    from evaluation.scores.registry import SCORES as SCORES
    from evaluation.scores.registry import configured_score as configured_score
    from evaluation.scores.registry import make_score as make_score
    from evaluation.scores.registry import register_score as register_score
    from evaluation.scores.registry import score_class as score_class

_REGISTRY = ("SCORES", "configured_score", "make_score", "register_score", "score_class")
__getattr__ = door(__name__, {"FittedScore": "base", "Score": "base"} | dict.fromkeys(_REGISTRY, "registry"))
