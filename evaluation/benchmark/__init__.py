"""Every method on every sealed set: arms, controls, the verdict, the results. This door loads what is asked for."""

from typing import TYPE_CHECKING

from immuno_core.doors import door

if TYPE_CHECKING:
    from evaluation.benchmark.results import Results as Results
    from evaluation.benchmark.seeds import Summary as Summary
    from evaluation.benchmark.settle import Verdict as Verdict

__getattr__ = door(__name__, {"Results": "results", "Summary": "seeds", "Verdict": "settle"})
