"""What the chat model is shown, as frozen records, and their rendering to the one JSON block of a prompt.

Every string in a record is cleaned on the way in (one line, no control characters, bounded length), and the rendering
escapes the characters that could end the block or look like a control token of a chat template. So whatever a class
list, a word list or an earlier reply says stays data: it can change the text of an answer, never the shape of a prompt.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    TypeAdapter,
    ValidationError,
    model_validator,
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


class WordHit(_Record):
    """A word of the vocabulary that is near an image; `similarity` is their cosine."""

    word: Shown
    kind: Literal["noun", "place", "attribute"]
    similarity: Measured


class SampleBriefing(_Record):
    """One mis-accepted image, told in words; `score` is above the threshold, higher = more in-distribution.

    `nearest_antibody` came closest to firing: `missing` is the cosine that it lacked. `image` is the number of the
    picture of it that goes with the prompt, from 1; None where none does.
    """

    score: Measured
    nearest_words: tuple[WordHit, ...]
    nearest_antibody: Shown | None
    missing: Measured | None = None
    image: Annotated[int, Field(ge=1)] | None = None


class _Pair(_Record):
    """A text and what became of it; also read from a (text, value) pair."""

    text: Shown

    @model_validator(mode="before")
    @classmethod
    def _from_pair(cls, value: Any) -> Any:
        if isinstance(value, tuple | list) and len(value) == 2:
            return dict(zip(cls.model_fields, value, strict=True))
        return value


class Rejected(_Pair):
    """A text that was turned down, and why."""

    reason: Shown


class Helped(_Pair):
    """A text and its measured gain: the share of mis-accepted outliers that it makes rejected."""

    gain: Measured


class Harmed(_Pair):
    """A text and its measured harm: the share of known samples that it makes rejected."""

    harm: Measured


class ClassBriefing(_Record):
    """What a model is shown when it is asked for antibodies of one class."""

    task: Literal["propose"] = "propose"
    class_name: Shown
    accepted_outliers: Annotated[int, Field(ge=0)]
    threshold: Measured = 0.0
    """What scores at least this much is accepted."""
    samples: tuple[SampleBriefing, ...]
    bank: tuple[Shown, ...]
    """Texts that guard the class already."""
    rejected: tuple[Rejected, ...]
    helped: tuple[Helped, ...]
    harmed: tuple[Harmed, ...]
    things: tuple[Shown, ...] = ()
    """Nouns that would reject most mis-accepted samples, those not told here one by one too, best first; where none
    would, those nearest to them."""
    offered: tuple[Shown, ...] = ()
    """Of a closed vocabulary the things to choose from, the promising ones first; empty where any can be named."""
    places: tuple[Shown, ...]
    """Place phrases, the same way."""
    guideline: Annotated[str, _cleaned(_LONGEST_GUIDELINE)]
    wanted: Wanted


class ReflectionBriefing(_Record):
    """What a model is shown when it is asked to improve the guideline."""

    task: Literal["reflect"] = "reflect"
    history: tuple[dict[str, JsonValue], ...]
    """The metrics of each generation, oldest first."""
    worth: dict[TextKind, Measured]
    """Per kind: by how much the mean FPR95 would rise if all antibodies of that kind were left out."""
    helped: tuple[Helped, ...]
    harmed: tuple[Harmed, ...]
    rejected: dict[Shown, int]
    """How many texts were turned down, by reason."""
    guideline: Annotated[str, _cleaned(_LONGEST_GUIDELINE)]
    """The one to improve: the last that measured well."""
    dropped: tuple[Annotated[str, _cleaned(_LONGEST_GUIDELINE)], ...] = ()
    """Guidelines made from it before, whose generations were not kept."""


def ranked_words(rankings: Iterable[Sequence[WordHit]]) -> list[str]:
    """Return the words of rankings, nearest first: the first of each counts 1, the second 1/2, the third 1/3."""
    votes: dict[str, float] = {}
    for ranking in rankings:
        for rank, hit in enumerate(ranking, start=1):
            votes[hit.word] = votes.get(hit.word, 0.0) + 1 / rank
    return sorted(votes, key=lambda word: (-round(votes[word], 9), word))


Briefing = ClassBriefing | ReflectionBriefing
_ESCAPES = {ord(char): f"\\u{ord(char):04x}" for char in "<>`"}
_BLOCK = re.compile(r"^```json[ \t]*\n(.*?)\n```[ \t]*$", re.DOTALL | re.MULTILINE)
_READER: TypeAdapter[Briefing] = TypeAdapter(Annotated[Briefing, Field(discriminator="task")])


def render(briefing: Briefing) -> str:
    """Return the briefing as one line of JSON, to stand between a "```json" line and a "```" line of a prompt.

    `<`, `>` and backticks appear as \\uXXXX: no text can close the block, or spell a token such as <|im_end|>.
    """
    return briefing.model_dump_json().translate(_ESCAPES)


def read_briefing(prompt: str) -> Briefing | None:
    """Return the briefing in the last "```json" block of a prompt that holds one; None where there is none."""
    for block in reversed(_BLOCK.findall(prompt)):
        try:
            return _READER.validate_json(block)
        except ValidationError:
            continue
    return None
