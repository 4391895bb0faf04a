"""Questions to the database, on both engines: top, nearest, lineage, diff, verdicts, stats."""

from __future__ import annotations

import math
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from db.calls import record_calls
from db.questions.diff import MetricChange, diff
from db.questions.judging import judgements
from db.questions.lineage import _family, lineage
from db.questions.nearest import Among, _candidates, _nearly_best, nearest, nearest_to_vector
from db.questions.ranking import top
from db.questions.stats import stats
from db.records import EffectDraft, SessionRecord
from db.store import AntibodyStore
from db.writing import new_id
from immuno_core.errors import SetupError
from immuno_core.records import EncoderInfo, Verdict
from tests.db.build import DIM, ENCODER, antibody, call, draft, effect, make_session, vector


class World(NamedTuple):
    """Generation 0 proposes robot and statue; 1 proposes moon; 2, refused, starts from 0."""

    store: AntibodyStore
    session: SessionRecord
    robot: str
    statue: str
    moon: str


def toward(*values: float) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.array(values, np.float32)


@pytest.fixture
def world(store: AntibodyStore, session: SessionRecord) -> World:
    robot = antibody("robot dog", embedding=toward(1, 0, 0, 0))
    statue = antibody("statue of a dog", embedding=toward(0.8, 0.6, 0, 0))
    dog = antibody("dog", seed=None, cosine=None, status="rejected", reason="names the class")
    moon = antibody("wolf on the moon", embedding=toward(0, 0, 2, 0), guards="wolf", kind="contextual")
    first = draft(
        session.id,
        antibodies=(robot, statue, dog),
        effects=(
            EffectDraft(effect("solo", "near", gain=0.5, harm=0.1), robot.id),
            EffectDraft(effect("solo", "far", gain=0.25, harm=0.3), robot.id),
            EffectDraft(effect("solo", "near", gain=0.4, harm=0.0), statue.id),
            EffectDraft(effect("solo", "far", gain=math.nan, harm=0.0), statue.id),
            EffectDraft(effect("leave_one_out", "near", gain=0.0, harm=0.0), robot.id),
            EffectDraft(effect()),
        ),
        verdicts=(
            Verdict("near", "a/1.png", 0.75, True, "dog", None),
            Verdict("far", "a/1.png", 0.5, True, "dog", None),
        ),
        bank=(robot.id, statue.id),
        metrics={"mean_fpr95": 0.5, "fpr95": {"near": 0.5}, "focus": "both", "done": False},
    )
    second = draft(
        session.id,
        1,
        antibodies=(moon,),
        prompt_version=1,
        prompt_parent=0,
        prompts={"propose": "Be bold."},
        effects=(EffectDraft(effect("solo", "near", gain=0.3, harm=0.0), moon.id),),
        verdicts=(Verdict("near", "a/1.png", math.nan, False, "dog", robot.id),),
        bank=(robot.id, moon.id),
        metrics={"mean_fpr95": 0.25, "fpr95": {"near": 0.25, "far": 0.5}},
    )
    third = draft(
        session.id,
        2,
        parent=0,
        antibodies=(),
        effects=(),
        verdicts=(),
        bank=(robot.id,),
        accepted=False,
        reason="worse",
    )
    for one in (first, second, third):
        store.save_generation(one)
    return World(store, session, robot.id, statue.id, moon.id)


# top


def test_most_mean_gain_comes_first_and_undefined_gains_count_in_no_mean(world: World) -> None:
    found = top(world.store)
    assert [(one.text, one.measured) for one in found] == [
        ("statue of a dog", 1),
        ("robot dog", 2),
        ("wolf on the moon", 1),
    ]
    assert [(one.gain, one.harm) for one in found] == [(0.4, 0.0), (0.375, pytest.approx(0.2)), (0.3, 0.0)]


def test_of_equal_gain_the_least_harm_comes_first(store: AntibodyStore, session: SessionRecord) -> None:
    some = [antibody(f"thing {i}", seed=i) for i in range(3)]
    harms = (0.3, 0.1, 0.2)
    effects = [EffectDraft(effect("solo", gain=0.5, harm=h), one.id) for h, one in zip(harms, some, strict=True)]
    store.save_generation(
        draft(session.id, antibodies=tuple(some), effects=tuple(effects), verdicts=(), bank=(some[0].id,))
    )
    assert [one.text for one in top(store)] == ["thing 1", "thing 2", "thing 0"]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"outlier_set": "near"}, ["robot dog", "statue of a dog", "wolf on the moon"]),
        ({"outlier_set": "far"}, ["robot dog"]),
        ({"max_harm": 0.1}, ["statue of a dog", "wolf on the moon"]),
        ({"min_gain": 0.38}, ["statue of a dog"]),
        ({"scope": "leave_one_out"}, ["robot dog"]),
        ({"guards": "wolf"}, ["wolf on the moon"]),
        ({"kind": "contextual"}, ["wolf on the moon"]),
        ({"generation": 1}, ["wolf on the moon"]),
        ({"limit": 1}, ["statue of a dog"]),
        ({"session_id": "another"}, []),
    ],
    ids=str,
)
def test_top_has_filters(world: World, filters: dict[str, Any], expected: list[str]) -> None:
    assert [one.text for one in top(world.store, **filters)] == expected


# nearest


def test_nearest_by_text_and_by_id_are_the_same(world: World) -> None:
    by_text, by_id = nearest(world.store, "robot dog"), nearest(world.store, world.robot)
    assert by_text == by_id
    assert [(one.text, one.similarity) for one in by_text] == [
        ("statue of a dog", pytest.approx(0.8, abs=1e-6)),
        ("wolf on the moon", 0.0),
    ]


def test_nearest_is_what_numpy_says(store: AntibodyStore, session: SessionRecord) -> None:
    some = [antibody(f"thing {i}", seed=i) for i in range(200)]
    store.save_generation(draft(session.id, antibodies=tuple(some), effects=(), verdicts=(), bank=(some[0].id,)))
    vectors = np.stack([vector(i) for i in range(200)])
    asked = vector(999)
    expected = [f"thing {i}" for i in np.argsort(-(vectors @ asked))[:7]]
    assert [one.text for one in nearest_to_vector(store, 3 * asked, ENCODER.digest, limit=7)] == expected


def test_an_equal_text_of_another_session_is_nearest_of_all_but_another_encoder_is_not_compared(world: World) -> None:
    other = make_session(world.store, "beta")
    twin = antibody("robot dog", embedding=toward(1, 0, 0, 0))
    world.store.save_generation(draft(other.id, antibodies=(twin,), effects=(), verdicts=(), bank=(twin.id,)))
    foreign = EncoderInfo(**{name: getattr(ENCODER, name) for name in EncoderInfo.__slots__} | {"precision": "bf16"})
    third = make_session(world.store, "gamma", encoder=foreign)
    far = antibody("something else", embedding=toward(1, 0, 0, 0))
    world.store.save_generation(draft(third.id, antibodies=(far,), effects=(), verdicts=(), bank=(far.id,)))
    found = nearest(world.store, world.robot)
    assert (found[0].id, found[0].similarity, found[0].session) == (twin.id, 1.0, "beta")
    assert "something else" not in [one.text for one in found]


@pytest.mark.parametrize(
    ("among", "expected"),
    [
        (Among(guards="wolf"), ["wolf on the moon"]),
        (Among(kind="look_alike"), ["statue of a dog"]),
        (Among(status="rejected"), []),
        (Among(session_id="another"), []),
    ],
)
def test_nearest_has_filters(world: World, among: Among, expected: list[str]) -> None:
    assert [one.text for one in nearest(world.store, "robot dog", among)] == expected


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("statue", "stored are 'statue of a dog'"),
        ("a cat", "name one with --session or --config"),
        ("dog", "stored without an embedding (names the class); give it one with: immuno db embed alpha --config"),
        ("100%_", "no antibody"),
    ],
)
def test_what_has_no_embedding_is_told(world: World, name: str, says: str) -> None:
    with pytest.raises(SetupError) as refused:
        nearest(world.store, name)
    assert says in str(refused.value)


def test_a_vector_of_the_wrong_size_or_encoder_is_refused(world: World) -> None:
    with pytest.raises(SetupError, match=rf"\({DIM},\)"):
        nearest_to_vector(world.store, np.ones(DIM + 1, np.float32), ENCODER.digest)
    with pytest.raises(SetupError, match="no encoder"):
        nearest_to_vector(world.store, np.ones(DIM, np.float32), "x")


def test_the_greatest_and_the_least_vectors_have_directions_too(store: AntibodyStore, session: SessionRecord) -> None:
    vectors = toward(3e38, 0, 0, 0), toward(0, 1e-38, 0, 0), toward(0, 0, 0, 0), toward(1, 1, 0, 0)
    odd = tuple(antibody(str(i), embedding=one) for i, one in enumerate(vectors))
    store.save_generation(draft(session.id, antibodies=odd, effects=(), verdicts=(), bank=()))
    for limit in (4, 2):
        found = nearest_to_vector(store, toward(1, 0, 0, 0), ENCODER.digest, limit=limit)
        assert [(one.text, one.similarity) for one in found] == [
            ("0", 1.0),
            ("3", pytest.approx(0.5**0.5, abs=1e-6)),
            ("1", 0.0),
            ("2", 0.0),
        ][:limit]


def test_thousands_of_equal_embeddings_are_ranked_by_age(
    store: AntibodyStore, session: SessionRecord, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("db.questions.nearest._MOST_MEASURED", 20)
    own = tuple(antibody(f"{i:03}", seed=5) for i in range(100))
    store.save_generation(draft(session.id, antibodies=own, effects=(), verdicts=(), bank=()))
    assert [one.text for one in nearest(store, own[0].id, limit=5)] == ["001", "002", "003", "004", "005"]
    monkeypatch.setattr("db.questions.nearest._candidates", lambda *given, **most: _candidates(*given, **most)[::-1])
    assert [one.text for one in nearest(store, own[0].id, limit=5)] == ["001", "002", "003", "004", "005"]


def test_what_float32_may_have_put_behind_is_measured_too() -> None:
    assert _nearly_best(np.array([0.5, 0.9, 0.9 - 1e-5, 0.8], np.float32), 1).tolist() == [1, 2]


# lineage


def test_a_generation_has_parents_to_the_root_and_children(world: World) -> None:
    def steps(name: str) -> list[tuple[int, int]]:
        return [(one.distance, one.number) for one in lineage(world.store, name)]

    assert steps("alpha:0") == [(0, 0), (1, 1), (1, 2)]
    assert steps("alpha:2") == [(-1, 0), (0, 2)]
    assert steps("alpha") == steps("alpha:1") == steps(world.store.generations()[1].id) == [(-1, 0), (0, 1)]
    assert "not accepted, prompt 0: worse" in [one.text for one in lineage(world.store, "alpha:2")]


def test_a_prompt_has_versions_and_the_generations_that_used_it(world: World) -> None:
    first, second = world.store.prompts()
    assert [(one.distance, one.what, one.number) for one in lineage(world.store, first.id)] == [
        (0, "prompt", 0),
        (1, "prompt", 1),
        (1, "generation", 0),
        (1, "generation", 2),
    ]
    assert [(one.distance, one.what, one.text) for one in lineage(world.store, second.id)][:2] == [
        (-1, "prompt", first.text),
        (0, "prompt", "Be bold."),
    ]


def test_an_antibody_has_its_generation_and_the_banks_it_was_in(world: World) -> None:
    found = lineage(world.store, "robot dog")
    assert found == lineage(world.store, world.robot)
    assert [(one.distance, one.what, one.number, one.text) for one in found[1:]] == [
        (0, "antibody", 0, "robot dog"),
        (1, "generation", 0, "in its bank"),
        (1, "generation", 1, "in its bank"),
        (1, "generation", 2, "in its bank"),
    ]
    assert [(one.distance, one.number) for one in lineage(world.store, world.moon)][:3] == [(-2, 0), (-1, 1), (0, 1)]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("robot", "stored are 'robot dog'"),
        ("alpha:9", "no generation 9; it has 0 to 2"),
        ("alpha:x", "write SESSION, or SESSION:NUMBER"),
        ("alhpa:1", "did you mean 'alpha'"),
    ],
)
def test_what_has_no_lineage_is_told(world: World, name: str, says: str) -> None:
    with pytest.raises(SetupError) as refused:
        lineage(world.store, name)
    assert says in str(refused.value)


def test_a_text_that_several_antibodies_have_is_named_by_id(world: World) -> None:
    other = make_session(world.store, "beta")
    twin = antibody("robot dog")
    world.store.save_generation(draft(other.id, antibodies=(twin,), effects=(), verdicts=(), bank=(twin.id,)))
    with pytest.raises(SetupError, match=rf"2 antibodies have the text.*{twin.id} \(beta:0\)"):
        lineage(world.store, "robot dog")


# diff


def test_two_generations_differ_in_antibodies_and_metrics(world: World) -> None:
    found = diff(world.store, "alpha:0", "alpha")
    assert (found.before.number, found.after.number) == (0, 1)
    assert [[one.text for one in some] for some in (found.added, found.removed, found.kept)] == [
        ["wolf on the moon"],
        ["statue of a dog"],
        ["robot dog"],
    ]
    assert found.metrics == (
        MetricChange("mean_fpr95", 0.5, 0.25),
        MetricChange("fpr95.near", 0.5, 0.25),
        MetricChange("fpr95.far", None, 0.5),
    )


def test_two_sessions_share_antibodies_by_text_and_class(world: World) -> None:
    other = make_session(world.store, "beta")
    some = antibody("robot dog"), antibody("robot dog", guards="wolf", seed=1)
    bank = tuple(one.id for one in some)
    world.store.save_generation(draft(other.id, antibodies=some, effects=(), verdicts=(), bank=bank))
    found = diff(world.store, "alpha:2", "beta")
    assert [one.guards for one in found.kept] == ["dog"]
    assert [one.guards for one in found.added] == ["wolf"]
    assert found.removed == ()


def test_a_session_whose_name_holds_a_colon_can_be_named(world: World) -> None:
    odd = make_session(world.store, "alpha:0:1")
    world.store.save_generation(draft(odd.id))
    assert diff(world.store, "alpha:0:1", "alpha:0:1:0").before.session == "alpha:0:1"


# verdicts


def test_which_generations_accepted_a_sample(world: World) -> None:
    found = judgements(world.store, "a/1.png")
    assert [(one.generation, one.set_name, one.accepted, one.nearest_antibody) for one in found] == [
        (0, "far", True, None),
        (0, "near", True, None),
        (1, "near", False, "robot dog"),
    ]
    assert math.isnan(found[2].score)
    assert [one.generation for one in judgements(world.store, "a/1.png", world.session.id, set_name="near")] == [0, 1]


def test_a_sample_that_nobody_judged_is_told(world: World) -> None:
    with pytest.raises(SetupError, match=r"did you mean .a/1\.png."):
        judgements(world.store, "1.png")


# stats


def test_everything_is_counted(world: World) -> None:
    record_calls(world.store, world.session.id, [call(prompt_tokens=10, completion_tokens=4)])
    make_session(world.store, "beta")
    counts = {one.name: one.number for one in stats(world.store)}
    expected = {"sessions": 2, "generations": 3, "generations accepted": 2, "prompts": 2, "antibodies": 4}
    expected |= {"antibodies accepted": 3, "look-alikes": 3, "contextual": 1, "visual": 0, "classes guarded": 2}
    expected |= {"embeddings": 3, "effects": 7, "verdicts": 3, "calls": 1}
    expected |= {"prompt tokens": 10, "completion tokens": 4, "runs": 0, "results": 0, "test reads": 0}
    assert counts == expected
    assert {one.name: one.number for one in stats(world.store, world.session.id)} == expected | {"sessions": 1}
    beta = stats(world.store, world.store.session("beta").id)
    assert {one.name for one in beta if one.number} == {"sessions"}


def test_as_many_neighbours_come_as_were_asked_for(store: AntibodyStore, session: SessionRecord) -> None:
    """Itself is no neighbour, and takes no neighbour's place."""
    some = [antibody(f"thing {i}", embedding=toward(1, i / 10, 0, 0)) for i in range(12)]
    store.save_generation(draft(session.id, antibodies=tuple(some), effects=(), verdicts=(), bank=()))
    for limit in (1, 5):
        found = nearest(store, some[0].id, limit=limit)
        assert [one.text for one in found] == [f"thing {i}" for i in range(1, limit + 1)]


def test_of_several_of_one_text_the_newest_is_asked_for(store: AntibodyStore, session: SessionRecord) -> None:
    for number, embedding in enumerate([toward(1, 0, 0, 0), toward(0, 1, 0, 0)]):
        other = antibody(f"other {number}", embedding=toward(*(0.9 * embedding + toward(0, 0, 0.1, 0))))
        own = antibody("twin", embedding=embedding)
        store.save_generation(draft(session.id, number, antibodies=(own, other), effects=(), verdicts=(), bank=()))
    assert [one.text for one in nearest(store, "twin", limit=1)] == ["other 1"]


def test_limits_of_effects_are_kept_and_what_is_undefined_comes_last(
    store: AntibodyStore, session: SessionRecord
) -> None:
    some = {name: antibody(name, seed=i) for i, name in enumerate(("undefined", "harmful", "harmless"))}
    harms = {"undefined": math.nan, "harmful": 0.25, "harmless": 0.125}
    effects = tuple(EffectDraft(effect("solo", gain=0.5, harm=harms[n]), one.id) for n, one in some.items())
    store.save_generation(draft(session.id, antibodies=tuple(some.values()), effects=effects, verdicts=(), bank=()))
    assert [one.text for one in top(store)] == ["harmless", "harmful", "undefined"]
    assert [one.text for one in top(store, max_harm=0.125)] == ["harmless"]
    assert len(top(store, min_gain=0.5)) == 3


def test_of_what_is_equal_the_oldest_comes_first_whatever_its_key(store: AntibodyStore, session: SessionRecord) -> None:
    keys = sorted((new_id() for _ in range(4)), reverse=True)
    for number, key in enumerate(keys):
        one = antibody(f"thing {number}", id=key, embedding=toward(1, 0, 0, 0))
        measured = (EffectDraft(effect("solo", gain=0.5, harm=0.25), key),)
        store.save_generation(draft(session.id, number, antibodies=(one,), effects=measured, verdicts=(), bank=()))
    assert [one.text for one in top(store)] == ["thing 0", "thing 1", "thing 2", "thing 3"]
    # Of equal neighbours by their keys, in which later ones sort after earlier ones of one process.
    assert [one.id for one in nearest(store, keys[0])] == sorted(keys[1:])


def test_a_lineage_in_a_circle_ends() -> None:
    """What no program of ours writes, a merged database may hold."""
    parents = {1: 2, 2: 3, 3: 1, 4: 1}
    assert list(islice(_family(1, parents), 9)) == [(-2, 3), (-1, 2), (0, 1), (1, 3), (1, 4)]
