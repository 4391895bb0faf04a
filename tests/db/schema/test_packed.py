"""Packed verdicts: what is stored is what is read, a list of samples is stored once, and what is damaged is refused."""

from __future__ import annotations

import math
from typing import Any

import pytest
from sqlalchemy import text

from db.questions.judging import judgements
from db.questions.stats import stats
from db.records import SessionRecord
from db.schema import packed
from db.schema.engine import reading
from db.schema.forms import oddity
from db.store import AntibodyStore
from immuno_core.errors import SetupError
from immuno_core.records import Verdict
from tests.db.build import antibody, draft

ODD = ["a/1.png", "odd \x00 name", "\ud800", "", "\u241b0000", "a\nb", *(f"{i}.png" for i in range(20))]


def verdicts(*, shift: float = 0.0, firing: str | None = None) -> tuple[Verdict, ...]:
    return tuple(
        Verdict(name, sample, i + shift, i % 3 == 0, f"class {i % 5}\x00", firing if i % 2 else None)
        for name in ("near", "far")
        for i, sample in enumerate(ODD)
    )


@pytest.fixture(autouse=True)
def small_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "MOST", 7)


def test_generations_share_their_lists_and_each_sample_is_found(store: AntibodyStore, session: SessionRecord) -> None:
    one = antibody("wolf", seed=1)
    first = draft(session.id, antibodies=(one,), effects=(), bank=(), verdicts=verdicts(firing=one.id))
    second = draft(session.id, 1, antibodies=(), vectors={}, effects=(), bank=(), verdicts=verdicts(shift=0.5))
    saved = [store.save_generation(one) for one in (first, second)]
    key = lambda verdict: (verdict.set_name, verdict.sample_id)  # noqa: E731
    for generation, given in zip(saved, (first, second), strict=True):
        assert store.verdicts(generation.id) == tuple(sorted(given.verdicts, key=key))
    with reading(store.engine) as transaction:
        assert transaction.scalar(text("SELECT count(*) FROM sample_lists")) == 2 * 4
        assert transaction.scalar(text("SELECT count(*) FROM verdicts")) == 2 * 2 * 4
    assert {one.name: one.number for one in stats(store)}["verdicts"] == 2 * 2 * len(ODD)
    for i, sample in enumerate(ODD):
        found = judgements(store, sample)
        assert [(one.generation, one.set_name, one.score, one.accepted) for one in found] == [
            (g, name, i + g / 2, i % 3 == 0) for g in (0, 1) for name in ("far", "near")
        ]
        assert found[0].nearest_antibody == ("wolf" if i % 2 else None)
        assert found[0].nearest_antibody_id == (one.id if i % 2 else None)
    accepted = [store.accepted(generation.id) for generation in saved]
    assert accepted[0] == accepted[1]
    assert {name: (len(of), sum(of)) for name, of in accepted[0].items()} == {"near": (26, 9), "far": (26, 9)}


def test_what_is_packed_is_unpacked() -> None:
    given = [Verdict("near", "a", math.inf, True, "dog", "x"), Verdict("near", "b", -0.0, False, "cat", None)]
    (one,) = packed.packed(given)
    names = packed.names_of(one.samples["names"])
    found = [packed.verdict_at(i, "near", name, one.verdicts) for i, name in enumerate(names)]
    assert repr(sorted(found, key=lambda verdict: verdict.sample_id)) == repr(given)
    assert len(one.verdicts["judged"]) == 2 * 13
    assert one.samples["first"] <= packed.key_of("a") <= one.samples["last"]


def _lists(**changes: Any) -> dict[str, Any]:
    (one,) = packed.packed([Verdict("near", name, 0.5, True, "dog", "x") for name in "abc"])
    return one.samples | changes


def _verdicts(**changes: Any) -> dict[str, Any]:
    (one,) = packed.packed([Verdict("near", name, 0.5, True, "dog", "x") for name in "abc"])
    return one.verdicts | changes


@pytest.mark.parametrize(
    ("table", "row", "wrong"),
    [
        ("sample_lists", _lists(), None),
        ("sample_lists", _lists(count=2), "'names'"),
        ("sample_lists", _lists(first=0), "'first' and 'last'"),
        ("sample_lists", _lists(set_name="far"), "'digest'"),
        ("sample_lists", _lists() | packed.pack_names("near", ["a", "b", "c"][::-1]), "'names'|'first'"),
        ("verdicts", _verdicts(), None),
        ("verdicts", _verdicts(classes=[]), "'judged' names"),
        ("verdicts", _verdicts(antibodies=[]), "'judged' names"),
        ("verdicts", _verdicts(judged=b"\x00" * 12), "'judged' is not"),
        ("verdicts", _verdicts(classes=[3]), "'judged' is not"),
    ],
)
def test_rows_of_other_databases_are_looked_at(table: str, row: dict[str, Any], wrong: str | None) -> None:
    found = oddity(table, row)
    assert (found is None) if wrong is None else any(part in str(found) for part in wrong.split("|"))


@pytest.mark.parametrize("raw", [b"", b"no zlib", packed.zlib.compress(b"{"), packed.zlib.compress(b"[1]")])
def test_names_that_cannot_be_read_are_said(raw: bytes) -> None:
    with pytest.raises(SetupError, match="names of samples that are stored cannot be read"):
        packed.names_of(raw)


def test_a_bomb_of_names_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "_MOST_BYTES", 100)
    with pytest.raises(SetupError, match="cannot be read"):
        packed.names_of(packed.zlib.compress(b'["' + b"a" * 1000 + b'"]'))


def test_verdicts_that_are_not_whole_are_said() -> None:
    with pytest.raises(SetupError, match="not whole"):
        packed.verdict_at(7, "near", "a", _verdicts())
