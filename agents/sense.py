"""Does what the chat model says matter? Its bank against as many random words, through the same screen.

Any words reject some outliers: of gibberish too, a few gain a little alone. So the texts of a bank that is kept,
without what matured on the feedback, are measured beside nouns in place of its look-alikes and its guarded classes in
drawn places, on the half of the feedback that only confirms.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import cycle
from typing import Any

import numpy as np

from agents.acceptance import Z_95, Change, change_on
from agents.graph import Loop
from evaluation.antibodies.captions import Captions
from evaluation.antibodies.selection import SelectionRules, screen
from evaluation.space import Bank
from immuno_core.records import Antibody, TextKind, text_digest

_DRAWN = 2
"""Words for each that is wanted: the screen turns some down."""


def against_random_words(loop: Loop, bank: Bank) -> dict[str, Any] | None:
    """Return what a bank does beyond random words, as plain JSON values; None where there is nothing to compare.

    `said` is it in words, `words` how many there were, and the others are the differences (Change).
    """
    texts = bank.unmatured
    drawn = _random_bank(loop, texts)
    if not len(texts) or not len(drawn):
        return None
    random, own = (loop.gauge.measure(one) for one in (drawn, texts))
    change = change_on(loop.halves.second, random, own, seed=loop.seed)
    return {"said": _said(change, len(texts), len(drawn)), "words": len(drawn), **asdict(change)}


def _random_bank(loop: Loop, bank: Bank) -> Bank:
    """As many drawn words as the bank has texts of each kind, fewer where not so many pass the screen."""
    proposals = tuple(_drawn(loop, bank))
    texts = [one.text for one in proposals]
    vectors = loop.embedder.embed_texts(texts) if texts else Bank.empty(loop.space.dim).vectors
    screened = screen(
        proposals,
        vectors,
        classes=loop.space.classes,
        synonyms=loop.synonyms,
        mu=loop.class_prototypes,
        bank=Bank.empty(loop.space.dim),
        rules=SelectionRules(band=loop.config.band),
        cut=loop.embedder.cut_texts(texts),
    )
    wanted = {kind: bank.kinds.count(kind) for kind in set(bank.kinds)}
    rows = []
    for i, one in enumerate(screened):
        if one.accepted and wanted.get(one.kind, 0):
            wanted[one.kind] -= 1
            rows.append(i)
    return Bank(tuple(screened[i] for i in rows), vectors[np.array(rows, dtype=np.int64)])


def _drawn(loop: Loop, bank: Bank) -> Iterator[Antibody]:
    """Nouns, and the classes that the bank guards in places; each text once."""
    guarded = [guards for kind, guards in zip(bank.kinds, bank.guards, strict=True) if kind == "contextual"]
    things = bank.kinds.count("look_alike") * _DRAWN
    said: list[tuple[TextKind, str, str]] = [
        ("look_alike", "", noun) for noun in _shuffled(loop.vocabulary.nouns, loop.seed)[:things]
    ]
    places = cycle(_shuffled(loop.vocabulary.places, loop.seed))
    said += [("contextual", name, place) for name, place in zip(guarded * _DRAWN, places, strict=False)]
    texts: dict[str, Antibody] = {}
    for kind, guards, phrase in said:
        captions = Captions(loop.template, guards, loop.vocabulary.table)
        text = captions.caption(kind, phrase)
        if captions.known(text):
            texts.setdefault(text, Antibody(text, kind, guards, id=f"random:{len(texts)}"))
    yield from texts.values()


def _shuffled(words: Sequence[str], seed: int) -> list[str]:
    return sorted(words, key=lambda word: text_digest(str(seed), "random words", word))


def _said(change: Change, texts: int, words: int) -> str:
    def interval(value: float, error: float) -> str:
        low, high = (100 * (value + sign * Z_95 * error) for sign in (-1, 1))
        return f"{100 * value:+.2f} points (95 %: {low:+.2f} to {high:+.2f})"

    auroc = interval(change.auroc, change.auroc_error)
    if change.auroc > Z_95 * change.auroc_error:
        verdict = "The model's texts do better"
    elif change.auroc < -Z_95 * change.auroc_error:
        verdict = "Random words do better: no evidence that this model helps"
    else:
        verdict = "No evidence that this model helps"
    fpr95 = interval(change.fpr95, change.fpr95_error)
    return (
        f"{verdict}. Its {texts} texts against {words} random words through the same screen, on the half that confirms"
        f": AUROC {auroc}, FPR95 {fpr95}"
    )
