"""How a session's prompt evolved: versions of the guideline, what each was made from, and what it measured.

Every generation tries one version. A version is *kept* when a generation that tried it was kept: better on the first
half of the feedback and confirmed on the second. What reflection writes after such a generation is made from its
version. After a generation that was not kept, reflection goes back to the version that its parent was made with: a
guideline that brought nothing has no offspring.

What is no advice is no guideline, and a session whose guidelines never helped asks for no more.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from db import GenerationRecord, PromptRecord
from evaluation.antibodies.wording import ADVICE, PLACEHOLDERS

GUIDELINE = "guideline"
"""The step of a prompt that evolves; the others are the texts around it."""


_FEWEST_WORDS = 8
_MOST_TRIALS = 4
_WORD = re.compile(r"[^\W\d_]+")


def guideline_flaw(text: str) -> str:
    """Return why a text is no guideline; "" where it may be one. Of words in other letters nothing is known."""
    said = [word.casefold() for word in _WORD.findall(text)]
    if not text.isascii():
        return "" if said else "it has no words"
    if len(said) < _FEWEST_WORDS:
        return f"it has {len(said)} words, fewer than {_FEWEST_WORDS}"
    if len(set(said)) < _FEWEST_WORDS / 2 or PLACEHOLDERS.issuperset(said):
        return "it only repeats placeholders"
    return "" if ADVICE.intersection(said) else "it has no verb of advice"


def reflection_pays(generations: Sequence[GenerationRecord]) -> bool:
    """Return whether a better guideline is asked for: not once four generations tried one that reflection had written,
    and none of them was kept."""
    tried = [generation for generation in generations if generation.prompt_version]
    return len(tried) < _MOST_TRIALS or any(generation.accepted for generation in tried)


@dataclass(frozen=True, slots=True)
class Continued:
    """The prompt of the next generation."""

    version: int
    guideline: str
    kept_version: int
    """Version and text of the guideline that the parent was made with: what is gone back to."""
    kept_guideline: str
    dropped: tuple[str, ...]
    """Guidelines made from the kept one that no kept generation tried, oldest first."""
    written_after: int
    """The generation whose reflection wrote it."""

    @property
    def parent(self) -> int | None:
        """The version that this one was made from; None where it is no new one."""
        return self.kept_version if self.version != self.kept_version else None


@dataclass(frozen=True, slots=True)
class Trial:
    """One generation that tried a version: whether it was kept, and the change of mean FPR95 on each half."""

    generation: int
    kept: bool
    first_half: float | None
    second_half: float | None


@dataclass(frozen=True, slots=True)
class PromptVersion:
    """One version of the guideline in the family tree. `diff` is to the parent's, line by line, "" for the root."""

    version: int
    parent: int | None
    guideline: str
    diff: str
    reason: str
    trials: tuple[Trial, ...]

    @property
    def kept(self) -> bool:
        """Whether a generation that tried it was kept."""
        return any(trial.kept for trial in self.trials)

    @property
    def measured(self) -> float | None:
        """The mean change of mean FPR95 on the second half over its trials; below 0: better. None: nothing measured."""
        values = [trial.second_half for trial in self.trials if trial.second_half is not None]
        return sum(values) / len(values) if values else None


def prompt_tree(generations: Sequence[GenerationRecord], prompts: Sequence[PromptRecord]) -> tuple[PromptVersion, ...]:
    """Return a session's versions of the guideline by number; each names its parent."""
    guidelines = {prompt.version: prompt for prompt in prompts if prompt.step == GUIDELINE}
    return tuple(
        PromptVersion(
            version=version,
            parent=prompt.parent_version,
            guideline=prompt.text,
            diff="" if prompt.parent_version is None else _diff(guidelines[prompt.parent_version].text, prompt.text),
            reason=prompt.reason,
            trials=tuple(_trial(generation) for generation in generations if generation.prompt_version == version),
        )
        for version, prompt in sorted(guidelines.items())
    )


def continue_prompt(
    parent: GenerationRecord, generations: Sequence[GenerationRecord], prompts: Sequence[PromptRecord]
) -> Continued:
    """Return the prompt of a generation that continues from `parent`: the newest guideline written from its version.

    A guideline that is word for word one that was tried keeps its number.
    """
    source = next(
        generation
        for generation in reversed(generations)
        if generation.number == parent.number or (generation.parent == parent.number and not generation.accepted)
    )
    guidelines = {prompt.version: prompt for prompt in prompts if prompt.step == GUIDELINE}
    kept = guidelines[parent.prompt_version]
    made_from_it = [prompt for prompt in guidelines.values() if prompt.parent_version == kept.version]
    known = next((prompt.version for prompt in (kept, *made_from_it) if prompt.text == source.guideline), None)
    tried_well = {generation.prompt_version for generation in generations if generation.accepted}
    return Continued(
        version=max(guidelines) + 1 if known is None else known,
        guideline=source.guideline,
        kept_version=kept.version,
        kept_guideline=kept.text,
        dropped=tuple(prompt.text for prompt in made_from_it if prompt.version not in tried_well),
        written_after=source.number,
    )


def _trial(generation: GenerationRecord) -> Trial:
    def change(half: str) -> float | None:
        measured = generation.metrics.get(half)
        return measured["fpr95"] if isinstance(measured, dict) else None

    return Trial(generation.number, generation.accepted, change("first_half"), change("second_half"))


def _diff(before: str, after: str) -> str:
    """The sentences that went (-), came (+) and stayed, one a line."""
    return "\n".join(line for line in difflib.ndiff(_sentences(before), _sentences(after)) if not line.startswith("?"))


def _sentences(text: str) -> list[str]:
    return [
        part.strip() for line in text.splitlines() for part in line.replace(". ", ".\n").splitlines() if part.strip()
    ]
