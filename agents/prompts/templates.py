"""The prompt texts: files in agents/prompts, one per step, with documented variables.

propose.md: {class_name}, {guideline}, {briefing} (JSON of agents.prompts.briefing.ClassBriefing), {wanted}
reflect.md: {guideline}, {briefing} (JSON of agents.prompts.briefing.ReflectionBriefing)
guideline.md: the guideline of the first generation; no variables
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Literal

Step = Literal["propose", "reflect", "guideline"]
_FOLDER = Path(__file__).parent


@cache
def prompt_template(step: Step) -> str:
    """Return the text of a step's prompt, with its variables unfilled."""
    return (_FOLDER / f"{step}.md").read_text(encoding="utf-8").strip()


def fill(template: str, **values: object) -> str:
    """Fill the `{name}` variables once; braces inside the values stay as they are.

    Raises KeyError when the template names a variable that is not given: a prompt must not go out half-filled.
    """
    return template.format_map({name: str(value) for name, value in values.items()})
