"""The section [[methods]] of a configuration: which scores are measured, with which antibodies."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Tag

Arm = Literal[
    "bank",
    "none",
    "noise",
    "random_words",
    "random_places",
    "random_texts",
    "shuffled",
    "pixels",
    "neglabel",
    "csp",
    "words",
    "neutral",
]
"""Which antibodies a method is given: the configured bank, or a control. See evaluation.benchmark.arms."""


class MethodConfig(BaseModel):
    """A score by name; every other key is a parameter of that score (checked when the score is made)."""

    model_config = ConfigDict(extra="allow", frozen=True)
    name: str
    """Of a score; or "module:Class", a score of one's own."""
    label: str | None = None
    """How the row is called; default: the name."""
    folder: Path | None = None
    """Where the module of a score of one's own is looked for first; default: the folder of the configuration."""
    arm: Arm | None = None
    """Default: the score's own (the configured bank; mined words for neglabel and csp)."""
    choose: bool = False
    """Whether the score's free settings, but for those given here, are chosen on the feedback (its `choices`)."""

    @property
    def params(self) -> dict[str, Any]:
        """Every other key."""
        return dict(self.model_extra or {})


class PresetConfig(BaseModel):
    """Several methods at once; evaluation.benchmark.presets says which."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    preset: Literal["scores", "peers", "test_time", "chosen", "controls", "ablations"]


def _entry_kind(entry: Any) -> str:
    return "preset" if isinstance(entry, PresetConfig) or (isinstance(entry, dict) and "preset" in entry) else "method"


MethodEntry = Annotated[
    Annotated[MethodConfig, Tag("method")] | Annotated[PresetConfig, Tag("preset")], Discriminator(_entry_kind)
]
