"""What a model is told of what was proposed before, in words: things and places, without the captions around them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

from agents.memory import Memory
from agents.prompts.briefing import SharedBriefing
from evaluation.antibodies.captions import Captions
from immuno_core.records import AntibodyKind

_HELPED_SHOWN = 12
_OWN_HELPED_SHOWN = 6
_REFUSED_SHOWN = 6
"""Of each reason, the newest."""
_PLAIN = ("duplicate", "repeated", "surplus", "its generation was not accepted")
"""Reasons that `tried` tells already."""


def shared_briefing(memory: Memory, template: str) -> SharedBriefing:
    """Return what all requests of a generation are told. Look-alikes act on every class, so all of them know of all."""
    captions = Captions(template)
    bank = memory.bank.unmatured
    things = [text for text, kind in zip(bank.texts, bank.kinds, strict=True) if kind == "look_alike"]
    rejected = memory.rejected.get("", ())
    return SharedBriefing(
        guideline=memory.guideline,
        tried=_phrases(captions, "look_alike", (*(text for text, _ in rejected), *things)),
        refused=_refused(captions, "look_alike", rejected),
        helped=_percents(captions, (pair for pairs in memory.helped.values() for pair in pairs), _HELPED_SHOWN),
        harmed=_percents(captions, (pair for pairs in memory.harmed.values() for pair in pairs), _HELPED_SHOWN),
    )


def own_briefing(memory: Memory, class_name: str, template: str) -> dict[str, Any]:
    """Return what the request for a class is told besides: fields of ClassBriefing."""
    captions = Captions(template, class_name)
    bank = memory.bank.unmatured
    own = [text for text, guards in zip(bank.texts, bank.guards, strict=True) if guards == class_name]
    rejected = memory.rejected.get(class_name, ())
    return {
        "own_tried": _phrases(captions, "contextual", (*(text for text, _ in rejected), *own)),
        "own_refused": _refused(captions, "contextual", rejected),
        "own_helped": _percents(captions, memory.helped.get(class_name, ()), _OWN_HELPED_SHOWN),
        "own_harmed": _percents(captions, memory.harmed.get(class_name, ()), _OWN_HELPED_SHOWN),
    }


def _phrases(captions: Captions, kind: AntibodyKind, texts: Iterable[str]) -> tuple[str, ...]:
    """The phrases of captions, each where it was said last."""
    said = dict.fromkeys(captions.phrase(kind, text) for text in reversed(list(texts)))
    return tuple(reversed(said))


def _refused(captions: Captions, kind: AntibodyKind, rejected: Sequence[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    """The newest phrases that were turned down, by what a model can learn from."""
    by_reason: dict[str, list[str]] = {}
    for text, reason in rejected:
        category = reason.partition(":")[0]
        if category not in _PLAIN:
            by_reason.setdefault(category, []).append(captions.phrase(kind, text))
    return {category: tuple(dict.fromkeys(texts[-_REFUSED_SHOWN:])) for category, texts in by_reason.items()}


def _percents(captions: Captions, pairs: Iterable[tuple[str, float]], most: int) -> dict[str, float]:
    """The phrases of the largest shares, in percent, largest first."""
    ranked = sorted(pairs, key=lambda pair: (-pair[1], pair[0]))
    said = ((captions.phrase("contextual", text), 100 * share) for text, share in ranked)
    return dict(islice(((phrase, percent) for phrase, percent in said if round(percent, 1) > 0), most))
