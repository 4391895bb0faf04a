"""The roof: the Python API, the commands, and what puts the rooms together.

    import immuno

    immuno.evaluate(known, outliers)        # two arrays of scores: every metric, with its interval

What is named here is imported when it is first asked for: `import immuno` loads nothing but itself. docs/api.md has
examples.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evaluation.scores import FittedScore as FittedScore
    from evaluation.scores import Score as Score
    from evaluation.scores import make_score as make_score
    from evaluation.scores import register_score as register_score
    from evaluation.shield.verdicts import ShieldVerdict as ShieldVerdict
    from evaluation.space import Bank as Bank
    from evaluation.space import Space as Space
    from immuno.api import Evaluation as Evaluation
    from immuno.api import Lab as Lab
    from immuno.api import evaluate as evaluate
    from immuno.api import make_space as make_space
    from immuno.api import open_store as open_store
    from immuno.api import read_results as read_results
    from immuno.shield.shield import Shield as Shield
    from immuno_core import __version__ as __version__
    from immuno_core.config.run import RunConfig as RunConfig
    from immuno_core.config.run import read_config as read_config
    from immuno_core.errors import SetupError as SetupError

_PLACES = {
    **dict.fromkeys(("Evaluation", "Lab", "evaluate", "make_space", "open_store", "read_results"), "immuno.api"),
    **dict.fromkeys(("FittedScore", "Score", "make_score", "register_score"), "evaluation.scores"),
    **dict.fromkeys(("Bank", "Space"), "evaluation.space"),
    **dict.fromkeys(("RunConfig", "read_config"), "immuno_core.config.run"),
    "Shield": "immuno.shield.shield",
    "ShieldVerdict": "evaluation.shield.verdicts",
    "SetupError": "immuno_core.errors",
    "__version__": "immuno_core",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    from immuno.obstacles import in_the_way

    if (obstacle := in_the_way()) is not None:
        raise ImportError(obstacle)
    value = globals()[name] = getattr(import_module(_PLACES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_PLACES})
