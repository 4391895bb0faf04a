"""The gallery: mis-accepted outliers as small embedded pictures, grouped by what the bank did to them.

Scores of two methods are on scales of their own, so each stands as the share of known test images that score lower.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from evaluation.benchmark.gallery import GalleryItem
from evaluation.metrics import Scores
from immuno_core.images import containing_files, feature_row, open_on_white

MOST_PER_GROUP = 24
SHOWN = 6
"""Of the cards of a group, before the rest folds."""
_LARGEST_SIDE = 176
_LARGEST_PNG = 4096
"""Bytes; a noisy picture that needs more is a JPEG of high quality."""
_TINY_SIDE = 96
"""Pictures up to this size are enlarged pixel by pixel: smoothing would hide what the encoder saw."""


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A picture as a data URI."""

    uri: str
    tiny: bool


@dataclass(frozen=True, slots=True)
class Card:
    """One outlier. Without a `picture` there is a word for it: its file is gone, is no picture, or is no file at all.

    `before` and `after`: the share of known images that score lower; None where their scores are not stored.
    """

    item: GalleryItem
    name: str
    picture: Thumbnail | None
    without: str
    before: float | None
    after: float | None


@dataclass(frozen=True, slots=True)
class Group:
    """Outliers with one fate: `caught`, `still` (accepted before and after) or `newly` (accepted only after)."""

    fate: str
    cards: tuple[Card, ...]
    total: int

    @property
    def first(self) -> tuple[Card, ...]:
        """Those that are shown before the others: with a picture where there is one."""
        return tuple(sorted(self.cards, key=lambda card: card.picture is None))[:SHOWN]

    @property
    def others(self) -> tuple[Card, ...]:
        """The rest of the cards."""
        return tuple(card for card in self.cards if card not in self.first)


@dataclass(frozen=True, slots=True)
class Gallery:
    """The groups by fate, without the empty ones, and how many pictures could not be read that should be there."""

    groups: dict[str, Group]
    unreadable: int
    has_pictures: bool
    """Whether any image is more than a row of a file with embeddings."""


Known = tuple[Scores | None, Scores | None]
"""The scores of the known test images under the two methods, before and after; None where they are not stored."""


def build_gallery(items: Sequence[GalleryItem], folder: Path, known: Known = (None, None)) -> Gallery:
    """Choose and embed the pictures; relative paths are taken from `folder`. What was never accepted is left out."""
    fates = {
        "caught": [i for i in items if i.accepted_before and not i.accepted_after],
        "still": [i for i in items if i.accepted_before and i.accepted_after],
        "newly": [i for i in items if not i.accepted_before and i.accepted_after],
    }
    ranked: Known = (_ranked(known[0]), _ranked(known[1]))
    groups = {
        fate: Group(
            fate, tuple(_card(item, folder, ranked) for item in _spread(members)[:MOST_PER_GROUP]), len(members)
        )
        for fate, members in fates.items()
        if members
    }
    without = [card for group in groups.values() for card in group.cards if card.picture is None]
    lost = [card for card in without if feature_row(card.item.image) is None]
    return Gallery(groups, len(lost), any(feature_row(item.image) is None for item in items))


def _ranked(scores: Scores | None) -> Scores | None:
    return None if scores is None else np.sort(scores)


def _spread(items: Sequence[GalleryItem]) -> list[GalleryItem]:
    """Take from each set in turn, so that a bounded gallery shows all of them."""
    by_set: dict[str, list[GalleryItem]] = {}
    for item in items:
        by_set.setdefault(item.set, []).append(item)
    longest = max((len(members) for members in by_set.values()), default=0)
    return [members[k] for k in range(longest) for members in by_set.values() if k < len(members)]


def _card(item: GalleryItem, folder: Path, known: Known) -> Card:
    path = folder / item.image
    picture = thumbnail(path)
    return Card(
        item=item,
        name=Path(item.image).name,
        picture=picture,
        without="" if picture else _without(str(path)),
        before=_lower(item.score_before, known[0]),
        after=_lower(item.score_after, known[1]),
    )


def _without(path: str) -> str:
    if feature_row(path) is not None:
        return "an embedding, no picture"
    there = all(Path(file).is_file() for file in containing_files(path))
    return "its file is no picture" if there else "its file is gone"


def _lower(score: float | None, ranked: Scores | None) -> float | None:
    """The share of known images (n,), in rising order, that score lower."""
    return None if score is None or ranked is None else float(np.searchsorted(ranked, score)) / ranked.size


def thumbnail(path: Path) -> Thumbnail | None:
    """Embed a picture, made small if it is large; None where the file is missing or no picture."""
    picture = open_on_white(str(path), _LARGEST_SIDE)
    if picture is None:
        return None
    tiny = max(picture.size) <= _TINY_SIDE
    content = _encoded(picture, "PNG", optimize=True) if tiny else b""
    form = "png"
    if not 0 < len(content) <= _LARGEST_PNG:
        form, content = "jpeg", _encoded(picture, "JPEG", quality=92 if tiny else 82, subsampling=0 if tiny else 2)
    encoded = base64.b64encode(content).decode("ascii")
    return Thumbnail(f"data:image/{form};base64,{encoded}", tiny)


def _encoded(picture: Image.Image, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()
