"""What is handed to the store to be written: one generation, complete, in one piece.

Ids are made by the caller (`db.store.new_id`), so that effects, verdicts and banks can name antibodies not yet written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from db.records import AntibodyRelation
from immuno.records import AntibodyKind, AntibodyStatus, Effect, Split, Verdict

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class AntibodyDraft:
    """A proposed antibody with the screen's decision."""

    id: str
    text: str
    kind: AntibodyKind
    guards: str
    """The known class that it guards."""
    status: AntibodyStatus
    rationale: str = ""
    reason: str = ""
    """Why it was turned down; empty where it was accepted."""
    cosine: float | None = None
    """Cosine to mu_k; None where it was turned down before it was embedded."""
    vector: NDArray[np.float32] | None = None
    """(d,) its text embedding, d the encoder's; None where it was turned down before it was embedded."""
    origin: str = ""
    """Who or what proposed it: a model, a lexicon, a file, a person."""
    parent_id: str | None = None
    """The antibody that it was made from, of this generation or stored, in any session; with it goes its `relation`."""
    relation: AntibodyRelation | None = None


@dataclass(frozen=True, slots=True, eq=False)
class MaturedDraft:
    """A matured embedding of an antibody of this session, old or new: it is in force from this generation on."""

    antibody_id: str
    vector: NDArray[np.float32]


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
    its own or earlier ones, each with an embedding; the embedding in force is the one matured here, else the one it
    had in the parent's bank, else the one it was proposed with.
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
    antibodies: tuple[AntibodyDraft, ...] = ()
    matured: tuple[MaturedDraft, ...] = ()
    effects: tuple[EffectDraft, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    bank: tuple[str, ...] = ()
