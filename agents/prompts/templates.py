"""The prompt texts: files in agents/prompts, one per step, with documented variables.

propose.md: {examples}, {shared} and {briefing} (JSON of agents.prompts.briefing), {wanted}, {form}
reflect.md: {briefing} (JSON of agents.prompts.briefing.ReflectionBriefing)
guideline.md: the guideline of the first generation; no variables
examples.toml: worked examples, of which those are shown that name no known class
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Literal, NamedTuple

from evaluation.antibodies.wording import ClassNames, words

Step = Literal["propose", "reflect", "guideline"]
_FOLDER = Path(__file__).parent
_EXAMPLES_SHOWN = 2


@cache
def prompt_template(step: Step) -> str:
    """Return the text of a step's prompt, with its variables unfilled."""
    return (_FOLDER / f"{step}.md").read_text(encoding="utf-8").strip()


def fill(template: str, **values: object) -> str:
    """Fill the `{name}` variables once; braces inside the values stay as they are.

    Raises KeyError when the template names a variable that is not given: a prompt must not go out half-filled.
    """
    return template.format_map({name: str(value) for name, value in values.items()})


class Example(NamedTuple):
    """A worked example: a class, and an answer for it."""

    class_name: str
    look_alikes: tuple[str, ...]
    places: tuple[str, ...]

    def __str__(self) -> str:
        answer = {"look_alikes": self.look_alikes, "places": self.places}
        return f'For "{self.class_name}": {json.dumps(answer)}'


def examples(classes: Sequence[str], synonyms: Mapping[str, Sequence[str]]) -> tuple[Example, ...]:
    """Return the worked examples to be shown to a session of these classes."""
    return tuple(islice(_unknown(ClassNames(classes, synonyms)), _EXAMPLES_SHOWN))


def _unknown(names: ClassNames) -> Iterator[Example]:
    listed = tomllib.loads((_FOLDER / "examples.toml").read_text(encoding="utf-8"))
    for name, answer in listed.items():
        said = (words(text) for text in (name, *answer["look_alikes"]))
        if not any(names.named_only(text) or names.kind_of(text) for text in said):
            yield Example(name, tuple(answer["look_alikes"]), tuple(answer["places"]))
