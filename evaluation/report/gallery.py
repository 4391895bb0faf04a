"""The gallery: mis-accepted outliers as small embedded pictures, grouped by what the bank did to them."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from evaluation.benchmark.gallery import GalleryItem
from immuno_core.images import open_on_white

MOST_PER_GROUP = 24
_LARGEST_SIDE = 176
_TINY_SIDE = 96
"""Pictures up to this size are enlarged pixel by pixel: smoothing would hide what the encoder saw."""


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A picture as a data URI."""

    uri: str
    tiny: bool


@dataclass(frozen=True, slots=True)
class Card:
    """One outlier. `picture` is None where its file could not be read."""

    item: GalleryItem
    name: str
    picture: Thumbnail | None


@dataclass(frozen=True, slots=True)
class Group:
    """Outliers with one fate: `caught`, `still` (accepted before and after) or `newly` (accepted only after)."""

    fate: str
    cards: tuple[Card, ...]
    total: int


@dataclass(frozen=True, slots=True)
class Gallery:
    """The groups that are not empty, and how many pictures could not be read."""

    groups: tuple[Group, ...]
    unreadable: int


def build_gallery(items: Sequence[GalleryItem], folder: Path) -> Gallery:
    """Choose and embed the pictures; relative paths are taken from `folder`. What was never accepted is left out."""
    fates = {
        "caught": [i for i in items if i.accepted_before and not i.accepted_after],
        "still": [i for i in items if i.accepted_before and i.accepted_after],
        "newly": [i for i in items if not i.accepted_before and i.accepted_after],
    }
    groups = tuple(
        Group(fate, tuple(_card(item, folder) for item in _spread(members)[:MOST_PER_GROUP]), len(members))
        for fate, members in fates.items()
        if members
    )
    return Gallery(groups, unreadable=sum(card.picture is None for group in groups for card in group.cards))


def _spread(items: Sequence[GalleryItem]) -> list[GalleryItem]:
    """Take from each set in turn, so that a bounded gallery shows all of them."""
    by_set: dict[str, list[GalleryItem]] = {}
    for item in items:
        by_set.setdefault(item.set, []).append(item)
    longest = max((len(members) for members in by_set.values()), default=0)
    return [members[k] for k in range(longest) for members in by_set.values() if k < len(members)]


def _card(item: GalleryItem, folder: Path) -> Card:
    return Card(item=item, name=Path(item.image).name, picture=thumbnail(folder / item.image))


def thumbnail(path: Path) -> Thumbnail | None:
    """Embed a picture, made small if it is large; None where the file is missing or no picture."""
    picture = open_on_white(str(path), _LARGEST_SIDE)
    if picture is None:
        return None
    tiny = max(picture.size) <= _TINY_SIDE
    buffer = io.BytesIO()
    if tiny:
        picture.save(buffer, "PNG", optimize=True)
    else:
        picture.save(buffer, "JPEG", quality=82, optimize=True)
    encoded = base64.b64encode(buffer.getvalue()).decode("ascii")
    return Thumbnail(f"data:image/{'png' if tiny else 'jpeg'};base64,{encoded}", tiny)
