"""CSP, the conjugated semantic pool (Chen et al., NeurIPS 2024, arXiv 2410.08611): NegLabel with better labels.

    S(x) = 1/G sum_g sigmoid(L(x) - N_g(x))                   higher = more in-distribution

The score is that of evaluation.scores.neglabel, with its defaults (tau = 0.01, G = 100) and its behaviour for few or no
antibodies. What differs is what is embedded: every class and noun is the mean of eight templates, and adjectives come
with one of fourteen superclasses ("striped creature"), see evaluation.mining. Antibodies are by default mined so from a
word list; the arm "bank" gives it the configured ones.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from evaluation.mining import CSP_TEMPLATES
from evaluation.scores.base import PARAMETERS, Score
from evaluation.scores.neglabel import FittedGrouped, Templates, fit_grouped
from evaluation.space import Space
from immuno.config import Arm


@dataclass(frozen=True, config=PARAMETERS)
class Csp(Score):
    """Known classes against groups of ensembled labels. `tau` > 0, `groups` >= 1."""

    name: ClassVar[str] = "csp"
    uses_bank: ClassVar[bool] = True
    default_arm: ClassVar[Arm] = "csp"
    tau: Annotated[float, Field(gt=0)] = 0.01
    groups: Annotated[int, Field(ge=1)] = 100
    templates: Templates = CSP_TEMPLATES

    def fit(self, space: Space) -> FittedGrouped:
        """Take the class texts, and put the antibodies into groups."""
        return fit_grouped(space, self.name, tau=self.tau, groups=self.groups)
