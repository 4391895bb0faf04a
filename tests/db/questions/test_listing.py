"""Antibodies page by page: no one twice, no one left out, in every order, on both engines."""

from __future__ import annotations

import pytest

from db.questions.listing import (
    NotThereError,
    Wanted,
    antibody_count,
    antibody_page,
    classes_guarded,
    kinds_in_force,
    life,
    session_by_id,
)
from db.records import EffectDraft, SessionRecord
from db.store import AntibodyStore
from immuno_core.errors import SetupError
from tests.db.build import antibody, draft, effect, make_session, visual


@pytest.fixture
def filled(store: AntibodyStore, session: SessionRecord) -> SessionRecord:
    """Three generations of four antibodies; those of the second are measured, two of them alike."""
    for number in range(3):
        some = [antibody(f"Robot {number} {place}", guards=("dog", "cat")[place % 2]) for place in range(4)]
        gains = (0.25, 0.5, 0.5, 0.0) if number == 1 else ()
        effects = tuple(
            EffectDraft(effect("solo", outlier_set=name, gain=gain, harm=gain / 2), antibody_id=one.id)
            for one, gain in zip(some, gains, strict=False)
            for name in ("near", "far")
        )
        seen = (visual(9, "near/a.png"),) if number == 2 else ()
        parts = {"antibodies": (*some, *seen), "effects": effects, "verdicts": (), "bank": (some[0].id,)}
        store.save_generation(draft(session.id, number, **parts))
    other = make_session(store, "other")
    store.save_generation(draft(other.id))
    return session


@pytest.mark.parametrize("sort", ["newest", "generation", "gain", "harm"])
def test_pages_hold_each_antibody_once(sort: str, store: AntibodyStore, filled: SessionRecord) -> None:
    wanted = Wanted(filled.id)
    whole = antibody_page(store, wanted, sort=sort, limit=100).rows  # type: ignore[arg-type]
    paged, after = [], None
    while True:
        page = antibody_page(store, wanted, sort=sort, after=after, limit=3)  # type: ignore[arg-type]
        paged += page.rows
        after = page.after
        if after is None:
            break
    assert paged == list(whole)
    assert len({one.id for one in paged}) == antibody_count(store, wanted) == 13
    keys = {
        "newest": [one.id for one in reversed(paged)],
        "generation": [one.generation for one in paged],
        "gain": [-(one.gain if one.gain is not None else -1) for one in paged],
        "harm": [-(one.harm if one.harm is not None else -1) for one in paged],
    }[sort]
    assert keys == sorted(keys)


def test_antibodies_are_filtered_and_counted(store: AntibodyStore, filled: SessionRecord) -> None:
    def texts(wanted: Wanted) -> set[str]:
        found = antibody_page(store, wanted).rows
        assert antibody_count(store, wanted) == len(found)
        return {one.text for one in found}

    assert len(texts(Wanted())) == 15
    assert texts(Wanted(text="robot 1")) == {f"Robot 1 {place}" for place in range(4)}
    assert texts(Wanted(text="%")) == set()
    assert texts(Wanted(filled.id, guards="cat", text="0 ")) == {"Robot 0 1", "Robot 0 3"}
    assert texts(Wanted(kind="visual")) == {""}
    assert texts(Wanted(status="rejected")) == {"dog 0"}
    assert classes_guarded(store, filled.id) == ("cat", "dog")
    assert kinds_in_force(store, filled.id) == {number: {"look_alike": 1} for number in range(3)}


def test_the_life_of_an_antibody(store: AntibodyStore, filled: SessionRecord) -> None:
    best = antibody_page(store, Wanted(filled.id), sort="gain", limit=1).rows[0]
    found = life(store, best.id)
    assert found.antibody == best
    assert (best.gain, best.harm, best.measured) == (0.5, 0.25, 2)
    assert [one.outlier_set for one in found.effects] == ["near", "far"]
    assert session_by_id(store, filled.id) == store.session(filled.name)


def test_what_is_not_there(store: AntibodyStore, filled: SessionRecord) -> None:
    for name in ("", "x", filled.id, "\ud800" * 36):
        with pytest.raises(NotThereError):
            life(store, name)
    for name in ("", "x", "0" * 36):
        with pytest.raises(NotThereError):
            session_by_id(store, name)
    for after in ("", "x", "1." + "x" * 35, f"1e9.{filled.id}", f"{'9' * 40}.{filled.id}"):
        with pytest.raises(SetupError, match="no place in a list"):
            antibody_page(store, Wanted(), after=after)
    with pytest.raises(SetupError, match="sorted by"):
        antibody_page(store, Wanted(), sort="size")  # type: ignore[arg-type]
