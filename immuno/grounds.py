"""What a session measures on: its classes, with their synonyms, and its images of fit and feedback. Stored with it.

Figures on other images cannot be compared: who goes on with a session must find it on the same grounds. What counts is
content: a folder that moved, or whose files were only touched, is the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from pydantic import BaseModel, ConfigDict, ValidationError

from agents import feedback_of
from db import SessionRecord
from evaluation.data.contents import content_digest
from evaluation.space import Space
from immuno.workplace import Sets
from immuno_core.errors import SetupError
from immuno_core.records import ImageSet

_SHOWN = 5
_Synonyms = Mapping[str, tuple[str, ...]]
_FIT, _KNOWN, _OUTLIERS = "fit images", "known feedback images", "feedback images '{}'"


class _Images(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    images: int
    digest: str
    """Over names, sizes and times: had without reading a file."""
    content: str


class Grounds(BaseModel):
    """The classes, with their other names; the sets as they are listed, and how many images of them are measured on."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    classes: tuple[str, ...]
    sets: dict[str, _Images]
    used: dict[str, int]
    synonyms: dict[str, tuple[str, ...]] | None = None
    """None where an older version did not record them."""
    crossed: bool = False
    """Whether the fit images are the known feedback images too, each left out in turn (Feedback.parts). Without, and
    without such images of their own, half of the fit images are held out, as versions did that do not record it."""


def grounds_of(sets: Sets, space: Space) -> Grounds:
    """Return what a session measures on that begins now. Reads every file once."""
    parts = {
        what: _Images(images=len(images.samples), digest=images.digest, content=content_digest(images, sets.progress))
        for what, images in _sets(sets)
    }
    crossed = feedback_of(space).parts is not None
    return Grounds(classes=sets.classes, sets=parts, used=_used(space), synonyms=sets.synonyms, crossed=crossed)


def halved(session: SessionRecord) -> bool:
    """Return whether a session holds half of the fit images out, where it has no known feedback images."""
    grounds = stored_grounds(session)
    return grounds is None or not grounds.crossed


def stored_grounds(session: SessionRecord) -> Grounds | None:
    """Return what a session was begun on; None where that was not recorded. Raises SetupError for what is no record."""
    if not session.grounds:
        return None
    try:
        return Grounds.model_validate(session.grounds)
    except ValidationError:
        raise SetupError(f"what session '{session.name}' was measured on cannot be read; start a new session") from None


def changes_of(grounds: Grounds, sets: Sets) -> tuple[str, ...]:
    """Return what is not as it was, in words. Files are read only where their times or places differ."""
    said = [*_changed_classes(grounds.classes, sets.classes), *_changed_synonyms(grounds.synonyms, sets.synonyms)]
    before, now = grounds.sets, dict(_sets(sets))
    said += [f"{what} are gone" for what in before if what not in now]
    for what, images in now.items():
        old, count = before.get(what), len(images.samples)
        if old is None:
            said.append(f"{what} are new")
        elif images.digest == old.digest:
            continue
        elif count != old.images:
            said.append(f"{what}: {count:,}, were {old.images:,}")
        elif content_digest(images, sets.progress) != old.content:
            said.append(f"{what} are others, of another label, or changed")
    return tuple(said)


def changes_in_use(grounds: Grounds, space: Space) -> tuple[str, ...]:
    """Return, in words, where other images are used than before: of the same files others can be read, or overlap."""
    before, now = grounds.used, _used(space)
    return tuple(
        f"{what}: {now.get(what, 0):,} are used, before {before.get(what, 0):,}"
        for what in dict.fromkeys((*before, *now))
        if before.get(what) != now.get(what)
    )


def _sets(sets: Sets) -> Iterator[tuple[str, ImageSet]]:
    if sets.fit is not None:
        yield _FIT, sets.fit
    if sets.known is not None:
        yield _KNOWN, sets.known
    for images in sets.outliers:
        yield _OUTLIERS.format(images.name), images


def _used(space: Space) -> dict[str, int]:
    feedback = feedback_of(space)
    outliers = {_OUTLIERS.format(name): len(images) for name, images in feedback.outliers.items()}
    return {_FIT: 0 if space.fit is None else len(space.fit), _KNOWN: len(feedback.known), **outliers}


def _changed_classes(before: tuple[str, ...], now: tuple[str, ...]) -> Iterator[str]:
    for word, some in (
        ("new", [name for name in now if name not in before]),
        ("gone", [name for name in before if name not in now]),
    ):
        if some:
            yield f"{word} in the class list: {_named(some)}"
    if sorted(before) == sorted(now) and before != now:
        yield "the class list has another order"


def _changed_synonyms(before: _Synonyms | None, now: _Synonyms) -> Iterator[str]:
    if before is not None and (some := [one for one in {**before, **now} if before.get(one) != now.get(one)]):
        yield f"other synonyms of {_named(some)}"


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(repr(name) for name in names[:_SHOWN]) + more
