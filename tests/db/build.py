"""Small, complete things to store."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np

from db.calls import CallDraft
from db.records import EffectDraft, GenerationDraft, SessionRecord
from db.store import AntibodyStore
from db.writing import new_id
from immuno_core.records import Antibody, Effect, EncoderInfo, ResultRow, Verdict
from tests.rows import result_row

DIM = 4
ENCODER = EncoderInfo(
    model="tiny",
    pretrained=None,
    dim=DIM,
    logit_scale=100.0,
    image_size=64,
    precision="fp32",
    weights_digest="w" * 64,
    preprocess_digest="p" * 64,
)
STARTED = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
FINISHED = datetime(2026, 5, 1, 12, 3, 0, 250, tzinfo=UTC)


def make_session(store: AntibodyStore, name: str = "alpha", **changes: Any) -> SessionRecord:
    values: dict[str, Any] = {"config": {"seed": 7}, "seed": 7, "git_sha": "abc", "versions": {"numpy": "2"}}
    return store.create_session(name, **(values | {"encoder": ENCODER} | changes))


def vector(seed: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    values = np.random.default_rng(seed).normal(size=DIM).astype(np.float32)
    return values / np.float32(np.linalg.norm(values))


embeddings: dict[str, Any] = {}
"""Of every antibody made here, by its id; `draft` hands in those of its antibodies."""


def antibody(text: str, *, seed: int | None = 0, embedding: Any = None, **changes: Any) -> Antibody:
    """An antibody of the embedding given, else of that of a seed; None: it was never embedded."""
    made = Antibody(text, **({"id": new_id(), "guards": "dog", "cosine": 0.5} | changes))
    if embedding is not None or seed is not None:
        embeddings[made.id] = vector(seed or 0) if embedding is None else embedding
    return made


def visual(seed: int, *samples: str) -> Antibody:
    """A visual antibody of the embedding of a seed."""
    return antibody("", seed=seed, kind="visual", guards="", origin="visual", cosine=None, samples=samples)


def effect(scope: Any = "bank", outlier_set: str = "near", **changes: Any) -> Effect:
    values: dict[str, Any] = {"gain": 0.5, "harm": 0.25, "d_fpr95": -0.125, "d_auroc": 0.0625, "d_id_accuracy": 0.0}
    return Effect(scope=scope, outlier_set=outlier_set, **(values | {"fired_id": 1, "fired_outliers": 9} | changes))


def draft(session_id: str, number: int = 0, **changes: Any) -> GenerationDraft:
    """A generation with one kept and one rejected antibody, effects, a verdict, and the kept one as its bank."""
    kept = antibody(f"robot dog {number}", seed=number)
    turned_down = antibody(f"dog {number}", seed=None, cosine=None, status="rejected", reason="names the class")
    values: dict[str, Any] = {
        "parent": number - 1 if number else None,
        "prompt_version": 0,
        "prompts": {"propose": "Name what looks like a {class}."},
        "accepted": True,
        "reason": "mean FPR95 fell",
        "started_at": STARTED,
        "finished_at": FINISHED,
        "metrics": {"mean_fpr95": 0.5},
        "antibodies": (kept, turned_down),
        "effects": (EffectDraft(effect()), EffectDraft(effect("solo"), antibody_id=kept.id)),
        "verdicts": (Verdict("near", f"{number}.png", 0.75, True, "dog", kept.id),),
        "bank": (kept.id,),
    }
    values |= changes
    vectors = {one.id: embeddings[one.id] for one in values["antibodies"] if one.id in embeddings}
    return GenerationDraft(session_id=session_id, number=number, **({"vectors": vectors} | values))


def call(generation: int = 0, subject: str = "dog", reply: str = "reply", **changes: Any) -> CallDraft:
    values: dict[str, Any] = {"step": "propose", "request_digest": "r" * 64, "request_text": "Propose.", "model": "m"}
    values |= {"parameters": {}, "prompt_tokens": None, "completion_tokens": None}
    return CallDraft(generation=generation, subject=subject, reply_text=reply, **(values | changes))


def result(**changes: Any) -> ResultRow:
    return result_row(**{"params": {"T": 1.0}, "antibodies": 3, "extra": {"lambda": 0.5}} | changes)
