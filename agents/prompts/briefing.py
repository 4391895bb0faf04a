"""What the chat model is shown, as frozen records, and their rendering to the JSON blocks of a prompt.

Every string in a record is cleaned on the way in (one line, no control characters, bounded length), and the rendering
escapes the characters that could end the block or look like a control token of a chat template. So whatever a class
list, a word list or an earlier reply says stays data: it can change the text of an answer, never the shape of a prompt.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    TypeAdapter,
    ValidationError,
)

from agents.replies import Wanted
from immuno_core.records import TextKind
from immuno_core.text import clean_text

_LONGEST_SHOWN = 240
_LONGEST_GUIDELINE = 2000


def _cleaned(most: int) -> BeforeValidator:
    return BeforeValidator(lambda value: clean_text(value, most) if isinstance(value, str) else value)


Shown = Annotated[str, _cleaned(_LONGEST_SHOWN)]
# Rounded, so that a prompt (and what is derived from its digest) does not depend on the last bits of an embedding.
Measured = Annotated[float, Field(allow_inf_nan=False), AfterValidator(lambda value: round(value, 4))]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SampleBriefing(_Record):
    """One mis-accepted image, told in words: those nearest to it, nearest first.

    `runner_up` is the known class that came second. `antibody` came closest to firing, and `missing` is the cosine that
    it lacked. `image` is the number of the picture of it that goes with the prompt, from 1; None where none does.
    """

    things: tuple[Shown, ...] = ()
    places: tuple[Shown, ...] = ()
    looks: tuple[Shown, ...] = ()
    runner_up: Shown = ""
    antibody: Shown = ""
    missing: Annotated[float, AfterValidator(lambda value: round(value, 2))] | None = None
    image: Annotated[int, Field(ge=1)] | None = None


Percents = dict[Shown, Annotated[float, Field(allow_inf_nan=False), AfterValidator(lambda value: round(value, 1))]]
"""Phrases, each with a share in percent."""
Refused = dict[Shown, tuple[Shown, ...]]
"""Phrases that were turned down, by why."""


class SharedBriefing(_Record):
    """What the requests of a generation have in common; the newest of each list stands last."""

    guideline: Annotated[str, _cleaned(_LONGEST_GUIDELINE)]
    tried: tuple[Shown, ...] = ()
    """Things that were proposed before, for any class, whatever became of them."""
    refused: Refused = {}
    helped: Percents = {}
    """The share of mis-accepted outliers that a phrase makes rejected."""
    harmed: Percents = {}
    """The share of known samples that it makes rejected."""
    left_out: int = 0
    """How many of `tried` had no room."""


class ClassBriefing(_Record):
    """What a model is shown when it is asked for antibodies: of one class; of a group of classes that are taken for one
    another; or, with neither, of none in particular."""

    task: Literal["propose"] = "propose"
    class_name: Shown = ""
    group: tuple[Shown, ...] = ()
    known: tuple[Shown, ...] = ()
    """The known classes nearest to it, nearest first."""
    accepted_outliers: Annotated[int, Field(ge=0)] = 0
    samples: tuple[SampleBriefing, ...] = ()
    near_things: tuple[Shown, ...] = ()
    """Nouns that would reject most mis-accepted samples, those not told here one by one too, best first; where none
    would, those nearest to them."""
    offered: tuple[Shown, ...] = ()
    """Of a closed vocabulary the things to choose from, the promising ones first; empty where any can be named."""
    near_places: tuple[Shown, ...] = ()
    """Place phrases, the same way."""
    own_tried: tuple[Shown, ...] = ()
    """Things and places that were proposed for the class before, the newest last."""
    own_refused: Refused = {}
    own_helped: Percents = {}
    own_harmed: Percents = {}
    wanted: Wanted
    shared: SharedBriefing = Field(default=SharedBriefing(guideline=""), exclude=True)
    """Stands in a block of its own, before those of all classes."""


class ReflectionBriefing(_Record):
    """What a model is shown when it is asked to improve the guideline."""

    task: Literal["reflect"] = "reflect"
    history: tuple[dict[str, JsonValue], ...]
    """The metrics of each generation, oldest first."""
    worth: dict[TextKind, Measured]
    """Per kind: by how much the mean FPR95 would rise if all antibodies of that kind were left out, in points."""
    helped: Percents
    harmed: Percents
    refused: dict[Shown, int]
    """How many texts were turned down, by reason."""
    guideline: Annotated[str, _cleaned(_LONGEST_GUIDELINE)]
    """The one to improve: the last that measured well."""
    dropped: tuple[Annotated[str, _cleaned(_LONGEST_GUIDELINE)], ...] = ()
    """Guidelines made from it before, whose generations were not kept."""


def ranked_words(rankings: Iterable[Sequence[str]]) -> list[str]:
    """Return the words of rankings, nearest first: the first of each counts 1, the second 1/2, the third 1/3."""
    votes: dict[str, float] = {}
    for ranking in rankings:
        for rank, word in enumerate(ranking, start=1):
            votes[word] = votes.get(word, 0.0) + 1 / rank
    return sorted(votes, key=lambda word: (-round(votes[word], 9), word))


Briefing = ClassBriefing | ReflectionBriefing
_ESCAPES = {ord(char): f"\\u{ord(char):04x}" for char in "<>`"}
_BLOCK = re.compile(r"^```json[ \t]*\n(.*?)\n```[ \t]*$", re.DOTALL | re.MULTILINE)
_READER: TypeAdapter[Briefing] = TypeAdapter(Annotated[Briefing, Field(discriminator="task")])


def render(briefing: _Record) -> str:
    """Return the briefing as one line of JSON, to stand between a "```json" line and a "```" line of a prompt.

    What is empty is left out. `<`, `>` and backticks appear as \\uXXXX: no text can close the block, or spell a token
    such as <|im_end|>.
    """
    said = briefing.model_dump(mode="json", exclude_defaults=True)
    if isinstance(briefing, Briefing):
        said = {"task": briefing.task} | said
    return json.dumps(said, ensure_ascii=False, separators=(",", ":")).translate(_ESCAPES)


def read_briefing(prompt: str) -> Briefing | None:
    """Return the briefing in the last "```json" block of a prompt that holds one, with what stands in the block before
    it for all classes; None where there is none."""
    blocks = _BLOCK.findall(prompt)
    for at in reversed(range(len(blocks))):
        try:
            briefing = _READER.validate_json(blocks[at])
        except ValidationError:
            continue
        if isinstance(briefing, ClassBriefing) and at:
            with suppress(ValidationError):
                shared = SharedBriefing.model_validate_json(blocks[at - 1])
                return briefing.model_copy(update={"shared": shared})
        return briefing
    return None
