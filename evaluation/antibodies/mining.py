"""Negative labels mined from a word list, as NegLabel and CSP do it: the words that are far from every known class.

NegLabel (Jiang et al., ICLR 2024, arXiv 2403.20078): a candidate's nearness to the known classes is the 0.95 quantile,
over the classes, of its cosine to their texts; the 15 % of the candidates with the lowest are kept. Nouns and
adjectives are mined separately. The quantile interpolates linearly, as torch.quantile does in the authors' code.

CSP (Chen et al., NeurIPS 2024, arXiv 2410.08611) says every name in eight ways and takes the mean (`ensemble`), and has
no adjective stand alone: it is put before a superclass ("striped creature"), a word that names nothing in particular.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from immuno_core.arrays import blocks, check_unit_rows
from immuno_core.errors import SetupError
from immuno_core.features import FloatArray, IntArray, TextEmbedder, embed_whole
from immuno_core.text import fill_template

NEGLABEL_TEMPLATE = "The nice {}"
"""How NegLabel names classes and nouns."""
NEGLABEL_ADJECTIVE_TEMPLATE = "This is a {} photo"
"""How NegLabel names what an adjective describes."""
CSP_TEMPLATES = (
    "{}",
    "the {}",
    "the good {}",
    "the nice {}",
    "a photo of the nice {}.",
    "a photo with the nice {}.",
    "a good photo with the nice {}.",
    "a close-up photo of the nice {}.",
)
"""The eight ways in which CSP says a class or a noun."""
CSP_ADJECTIVE_TEMPLATES = ("{}", "a nice photo of {}", "a good photo of {}", "a close-up photo of {}")
"""The four ways in which CSP says an adjective with its superclass."""
SUPERCLASSES = (
    "area",
    "creature",
    "environment",
    "item",
    "landscape",
    "object",
    "pattern",
    "place",
    "scene",
    "space",
    "structure",
    "thing",
    "view",
    "vista",
)
"""CSP's fourteen nouns for anything at all. Its authors draw one of them for each adjective."""
MINED_SHARE = 0.15
"""Of the candidates."""
# Cosines that differ by less are the rounding of matrix products of other shapes.
_DECIMALS = 12


@dataclass(frozen=True, slots=True)
class WordList:
    """The words that controls and mined arms draw from."""

    nouns: tuple[str, ...]
    adjectives: tuple[str, ...]
    places: tuple[str, ...] = ()
    """Phrases that can follow a noun: "in the desert"."""


def mine(candidates: FloatArray, texts: FloatArray, *, quantile: float = 0.95, keep: float = MINED_SHARE) -> IntArray:
    """Return the rows of the candidates (P, d) that are farthest from the class texts (K, d), the farthest first.

    `quantile` in [0, 1] is over the classes, `keep` in [0, 1] the share of the candidates that is kept (rounded down,
    but at least one candidate where there is any and `keep` is above 0). Of equals the earlier one comes first. Works
    in float64, in blocks of candidates: no more than a block of the P x K cosines is held.
    Raises SetupError for rows that are not of unit norm or of another dimension, no class, and shares out of range.
    """
    check_unit_rows(texts, what="class texts")
    check_unit_rows(candidates, what="words to mine", dim=texts.shape[1])
    if not len(texts):
        raise SetupError("there is no class to mine negative labels for")
    for name, share in (("quantile", quantile), ("keep", keep)):
        if not 0 <= share <= 1:
            raise SetupError(f"{name} = {share}: a share from 0 to 1")
    classes = texts.astype(np.float64).T
    nearness = np.empty(len(candidates))
    for rows in blocks(len(candidates), 3 * len(texts) + texts.shape[1]):
        cosines = candidates[rows].astype(np.float64) @ classes
        nearness[rows] = np.quantile(cosines, quantile, axis=1, overwrite_input=True)
    # The small number keeps a product such as 0.29 * 100 = 28.999... from losing a word.
    count = int(keep * len(candidates) + 1e-9)
    if keep > 0 and len(candidates):
        count = max(1, count)
    return np.argsort(nearness.round(_DECIMALS), kind="stable")[:count].astype(np.int64)


def ensemble(
    embedder: TextEmbedder, templates: Sequence[str], names: Sequence[str], *, whole: str | None = None
) -> FloatArray:
    """Return (n, d) float32 unit rows: for each name the mean of its unit embeddings in the templates, normalised.

    With one template that is the embedding itself, unchanged. Holds the embeddings of one template at a time.
    Raises SetupError for no template, a template without `{}`, and a name whose embeddings cancel out; with `whole`,
    what the names are, also as `embed_whole` does.
    """
    if not templates:
        raise SetupError("an ensemble needs at least one template, such as 'a photo of a {}.'")
    embed = embedder.embed_texts if whole is None else partial(embed_whole, embedder, what=whole)
    first = embed(fill_template(templates[0], names))
    if len(templates) == 1:
        return first
    total = first.astype(np.float64)
    for template in templates[1:]:
        total += embed(fill_template(template, names))
    lengths = np.linalg.norm(total, axis=1, keepdims=True)
    if (lost := np.flatnonzero(lengths < 1e-6)).size:
        raise SetupError(f"the embeddings of '{names[lost[0]]}' in {len(templates)} templates cancel out; use fewer")
    unit: FloatArray = (total / lengths).astype(np.float32)
    return unit
