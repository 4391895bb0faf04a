"""The mini-world with so few images that a test can draw, embed and measure it; in this process or in another."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path

import pytest

from evaluation.miniworld import Sizes
from evaluation.miniworld import world as drawn

SMALL = Sizes(
    fit_per_class=4,
    feedback_id=48,
    feedback_near=32,
    feedback_contextual=32,
    feedback_far=8,
    test_id=48,
    test_near=32,
    test_contextual=32,
    test_far=8,
    test_near_unseen=8,
    test_contextual_unseen=8,
)

SMALLER = f"""
from evaluation.miniworld import world
sizes = world.Sizes(**{asdict(SMALL)!r})
world.build.__kwdefaults__["sizes"] = sizes
world.default_root.__defaults__ = (0, sizes)
"""
"""What a program begins with whose mini-world is to be small."""


def make_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the built-in mini-world be small."""
    monkeypatch.setitem(drawn.build.__kwdefaults__, "sizes", SMALL)
    monkeypatch.setattr(drawn.default_root, "__defaults__", (0, SMALL))


def draw_photos(folder: Path) -> Path:
    """Draw `known` and `others`, as somebody's own images, from the mini-world's pictures."""
    images = drawn.build(folder.with_name("drawn"), seed=0, sizes=SMALL)
    for split in ("fit", "feedback", "test"):
        for path in images.folder(split, "id").glob("*/*.png"):
            _copy(path, folder / "known" / path.parent.name / f"{split}-{path.name}")
    for split in ("feedback", "test"):
        for path in images.folder(split, "near").rglob("*.png"):
            _copy(path, folder / "others" / f"{split}-{path.name}")
    return folder


def _copy(path: Path, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(path, to)


def shortened(words: list[str]) -> list[str]:
    """What a newcomer types, with the model that is shipped and one generation; nothing where it needs a cluster."""
    more = {"submit": None, "init": ["--model", "miniworld"], "refine start": ["--generations", "1"]}
    added = more.get(words[0], more.get(" ".join(words[:2]), []))
    return [] if added is None else [*words, *added]
