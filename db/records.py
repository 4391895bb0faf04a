"""What the store hands out and is handed: plain frozen records. Times are UTC; undefined numbers are NaN.

Ids are made by the caller (`db.store.new_id`), so that effects, verdicts and banks can name antibodies not yet written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from statistics import fmean
from typing import TYPE_CHECKING, Any, Literal

from immuno_core.records import Antibody, Effect, EncoderInfo, Split, Verdict

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


SessionStatus = Literal["running", "paused", "finished"]
RunStatus = Literal["running", "finished", "failed"]


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """A refinement session."""

    id: str
    name: str
    status: SessionStatus
    config: dict[str, Any]
    """As it was given when the session was created."""
    seed: int
    git_sha: str | None
    versions: dict[str, str]
    encoder: EncoderInfo
    """Every embedding of the session is this encoder's."""
    llm: str | None
    """The chat model that it asks; None where it asks none, or where that was not recorded (before schema 0004)."""
    parent_generation_id: str | None
    """Of a branch: the generation of another session that it started from."""
    parent: str | None
    """The same as SESSION:NUMBER; None also where that generation is not in this database."""
    grounds: dict[str, Any]
    """Its classes and its images of fit and feedback (immuno.grounds); empty where that was not recorded."""
    created_at: datetime
    updated_at: datetime
    generations: int
    """How many are recorded."""
    best: int | None
    """Number of the best generation: the last accepted one."""


@dataclass(frozen=True, slots=True)
class GenerationRecord:
    """One round of the loop."""

    id: str
    session_id: str
    session: str
    """The session's name."""
    number: int
    parent: int | None
    """Number of the generation whose bank it started from."""
    prompt_version: int
    accepted: bool
    reason: str
    guideline: str
    metrics: dict[str, Any]
    random_state: dict[str, Any]
    """What fixes its random choices; empty where that was not recorded."""
    git_sha: str | None
    versions: dict[str, str]
    """What it was made with; None and empty where that was not recorded."""
    started_at: datetime
    finished_at: datetime
    proposed: int
    """How many antibodies it proposed, of which `kept` passed the screen; `bank` are in force after it."""
    kept: int
    bank: int
    calls: int
    """Recorded calls of the chat model, and what those reported that did not reuse an earlier reply."""
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float

    @property
    def mean_auroc(self) -> float | None:
        """The mean over the feedback sets, by which generations are compared; None where it was not recorded."""
        by_set = self.metrics.get("auroc")
        values = [one for one in by_set.values() if one is not None] if isinstance(by_set, Mapping) else []
        return fmean(values) if values else None


@dataclass(frozen=True, slots=True, kw_only=True)
class AntibodyRecord(Antibody):
    """An antibody, and where it is stored."""

    session: str
    """The session's name."""
    generation_id: str
    generation: int
    """The number of the generation that proposed it."""
    position: int
    """Its place among that generation's proposals, from 0."""
    created_at: datetime


@dataclass(frozen=True, slots=True)
class EffectRecord(Effect):
    """A measured boundary effect, and what it was measured of. `antibody_*` and `guards` are None for a bank."""

    session: str = ""
    generation_id: str = ""
    generation: int = 0
    split: Split = "feedback"
    antibody_id: str | None = None
    antibody_text: str | None = None
    guards: str | None = None


@dataclass(frozen=True, slots=True)
class PromptRecord:
    """The text of one step in one version of the prompt."""

    id: str
    session: str
    version: int
    step: str
    text: str
    parent_version: int | None
    reason: str
    """Why it was changed; empty for a first version."""
    created_at: datetime


@dataclass(frozen=True, slots=True)
class LlmCallRecord:
    """One call of the chat model: what was asked, and the reply."""

    id: str
    session_id: str
    generation: int
    step: str
    subject: str
    request_digest: str
    request_text: str
    reply_text: str | None
    """None where none came, which was recorded before schema 0005 only."""
    model: str
    parameters: dict[str, Any]
    """What was asked for besides the messages: temperature, most tokens, seed, and the like."""
    cache_key: str | None
    """Equal where model, parameters and messages are; None where it was not recorded."""
    reused: bool
    """Whether the reply is that of an earlier call with the same key, which cost nothing."""
    prompt_tokens: int | None
    completion_tokens: int | None
    cost_usd: float | None
    seconds: float | None
    """How long the reply took."""
    created_at: datetime


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One run of a benchmark."""

    id: str
    config: dict[str, Any]
    config_digest: str
    seed: int
    git_sha: str | None
    versions: dict[str, str]
    status: RunStatus
    session_id: str | None
    started_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class TestReadRecord:
    """One opening of the sealed split."""

    __test__ = False  # pytest would take the class for a test because of its name

    id: str
    run_id: str
    sets: tuple[str, ...]
    reason: str
    at: datetime


@dataclass(frozen=True, slots=True)
class EffectDraft:
    """A measured effect of an antibody (scope solo or leave_one_out) or of a bank (scope bank, no antibody)."""

    effect: Effect
    antibody_id: str | None = None
    split: Split = "feedback"


@dataclass(frozen=True, slots=True, eq=False)
class GenerationDraft:
    """One generation, complete.

    A model repeats itself: of antibodies with one text for one class only the accepted one (else the first) is
    stored, and nothing may refer to the others. `bank` lists the ids of the antibodies in force after the generation,
    its own or earlier ones, each with an embedding.
    """

    session_id: str
    number: int
    """From 0, unique in the session."""
    parent: int | None
    """Number of the generation whose bank it started from; it must be in the database."""
    prompt_version: int
    prompts: Mapping[str, str]
    """Step -> text of that version; may be empty where it is stored already. A stored text never changes."""
    accepted: bool
    reason: str
    started_at: datetime
    finished_at: datetime
    """Times need a time zone."""
    prompt_parent: int | None = None
    """The version that this version was made from."""
    prompt_reason: str = ""
    """Why this version was made."""
    guideline: str = ""
    """What reflection wrote for the next generation."""
    metrics: Mapping[str, Any] = field(default_factory=dict)
    random_state: Mapping[str, Any] = field(default_factory=dict)
    """What fixes its random choices: seeds, states of generators."""
    git_sha: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    """What it was made with: the commit, and versions of packages."""
    antibodies: tuple[Antibody, ...] = ()
    """Each with an id, and with a relation where it has a parent: of this generation or stored, in any session."""
    vectors: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    """Id -> (d,) embedding, d the encoder's; without those that were turned down before they were embedded."""
    effects: tuple[EffectDraft, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    bank: tuple[str, ...] = ()
