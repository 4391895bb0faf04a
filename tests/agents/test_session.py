"""A refinement session: what it stores, how it goes on after a stop, and what it does with bad replies."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from pydantic import Field
from sqlalchemy import text

from agents import Proposal, Ruling, graph
from agents import session as sessions
from agents.acceptance import Acceptance, Decision
from agents.chat.calls import Request
from agents.chat.failures import ModelUnavailable
from agents.chat.review import ReviewedCaller
from agents.drafting import Began, draft_branch
from agents.feedback import Boundary, Gauge, feedback_of, halve
from agents.graph import STEPS
from agents.guidelines import prompt_tree
from agents.policies import new_generator, state_of
from agents.prompts.briefing import read_briefing
from agents.prompts.inspection import Inspector, ShownMistakes
from agents.replies import Proposals, Reply
from agents.session import RefinementSession
from db import ClaimLostError
from db.records import GenerationRecord
from db.schema.engine import writing
from db.store import AntibodyStore, open_store
from evaluation.space import Space
from immuno_core.config.methods import MethodConfig
from immuno_core.config.refine import RefineConfig
from immuno_core.errors import SetupError

from . import word_world as world

GENERATIONS = 3
CONFIG = RefineConfig(
    generations=GENERATIONS,
    classes_per_generation=4,
    proposals_per_class=8,
    parents="pareto",  # the policy that draws
    visual=True,
    score=MethodConfig.model_validate({"name": "calibrated", "base": "max_cosine", "eps": 0.02}),
)


def new_session(
    store: AntibodyStore, space: Space, name: str = "one", config: RefineConfig = CONFIG
) -> RefinementSession:
    embedder = world.WordEmbedder()
    record = store.create_session(name, config={}, seed=0, git_sha=None, versions={}, encoder=embedder.encoder)
    return RefinementSession(record, config, store, space, embedder)


def content(store: AntibodyStore, session_id: str) -> list[Any]:
    """Everything a session stored, ids and times aside."""
    texts = {one.id: one.text for one in store.antibodies(session_id)}
    return [
        [(g.number, g.parent, g.accepted, g.reason, g.guideline, g.metrics) for g in store.generations(session_id)],
        [(a.generation, a.text, a.kind, a.guards, a.status, a.reason, a.cosine) for a in store.antibodies(session_id)],
        sorted(
            (e.generation, e.scope, e.outlier_set, texts.get(e.antibody_id or ""), e.gain, e.harm, e.d_fpr95, e.d_auroc)
            for e in store.effects(session_id)
            if e.antibody_id is not None
        ),
        [
            [replace(v, nearest_antibody=texts.get(v.nearest_antibody or "")) for v in store.verdicts(g.id)]
            for g in store.generations(session_id)
        ],
        [(p.version, p.step, p.text, p.parent_version, p.reason) for p in store.prompts(session_id)],
        [g.random_state for g in store.generations(session_id)],
        # Recorded as they come, and several are under way at once.
        sorted((c.generation, c.step, c.subject, c.request_text, c.reply_text) for c in store.llm_calls(session_id)),
    ]


class Finished(NamedTuple):
    """A session that nothing interrupted, for tests that only look."""

    store: AntibodyStore
    session: RefinementSession
    generations: tuple[GenerationRecord, ...]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, space: Space) -> Iterator[Finished]:
    with open_store(str(tmp_path_factory.mktemp("whole") / "immuno.db")) as opened:
        session = new_session(opened, space)
        yield Finished(opened, session, session.run())


def test_the_loop_lowers_the_share_of_accepted_outliers(finished: Finished) -> None:
    generations = finished.generations
    assert len(generations) == GENERATIONS + 1
    accepted = [one.metrics["mean_fpr95"] for one in generations if one.accepted]
    assert accepted[-1] < 0.6 * accepted[0]
    assert accepted[-1] <= min(accepted) + 0.01
    assert generations[-1].metrics["id_accuracy"] >= generations[0].metrics["id_accuracy"] - 0.01


def test_everything_is_stored(finished: Finished, space: Space) -> None:
    store, session, _ = finished
    feedback = feedback_of(space)
    best = store.best_generation(session.record.id)
    assert best is not None
    bank = store.bank(best.id)
    effects = store.effects(session.record.id, generation=best.number)
    assert len(bank) == best.bank > 0
    assert bank.vectors.shape == (best.bank, world.DIM)
    gone = store.generations(session.record.id)[best.number].metrics["pruning"]
    weighed = best.bank + (gone["antibodies"] if gone and gone["kept"] else 0)
    for scope in ("solo", "leave_one_out"):
        assert len([e for e in effects if e.scope == scope]) == weighed * len(feedback.outliers)
    assert {e.outlier_set for e in effects if e.scope == "bank"} == set(feedback.outliers)
    measured = len(feedback.known) + sum(len(images) for images in feedback.outliers.values())
    assert len(store.verdicts(best.id)) == measured
    rejected = store.antibodies(session.record.id, status="rejected")
    assert all(one.reason for one in rejected)
    calls = store.llm_calls(session.record.id)
    assert {call.step for call in calls} == {"propose", "reflect"}
    assert store.session("one").status == "finished"


def test_matured_antibodies_are_stored_with_their_parents(finished: Finished) -> None:
    store, session, generations = finished
    by_id = {one.id: one for one in store.antibodies(session.record.id)}
    matured = [one for one in by_id.values() if one.relation == "matured"]
    assert matured
    for one in matured:
        parent = by_id[one.parent_id or ""]
        assert parent.status == "accepted" or parent.reason.startswith("pruned")
        assert parent.relation is None
        assert one.text == f"{parent.text} (matured)"
        assert one.generation >= parent.generation
        assert one.cosine is not None
    kept = [g for g in generations if (g.metrics.get("maturation") or {}).get("kept")]
    assert kept
    # What was matured later replaces what was matured before.
    for generation in kept:
        bank = store.bank(generation.id).antibodies
        assert {one.generation for one in bank if one.relation == "matured"} == {generation.number}
        judged = generation.metrics["maturation"]
        assert judged["like"]["auroc"] > 0
        assert judged["unlike"]["auroc"] >= -2 * judged["unlike"]["auroc_error"]


def test_the_model_is_shown_no_matured_texts_and_only_the_first_half(finished: Finished, space: Space) -> None:
    store, session, _ = finished
    shown = [c.request_text for c in store.llm_calls(session.record.id) if c.step == "propose"]
    briefings = [read_briefing(text) for text in shown]
    assert any(one.samples for one in briefings)
    assert any(one.own_tried and one.shared.tried for one in briefings)
    assert not [text for text in shown if "(matured)" in text]
    first = halve(feedback_of(space), seed=session.record.seed).first
    most = sum(len(rows) for rows in first.outliers.values())
    assert 0 < sum(one.accepted_outliers for one in briefings[: len(world.CLASSES)]) <= most


def test_visual_antibodies_are_stored_and_measured_and_never_shown_to_the_model(finished: Finished) -> None:
    store, session, generations = finished
    visual = [one for one in store.antibodies(session.record.id) if one.kind == "visual"]
    assert visual
    assert all(one.samples and not one.text and one.cosine is not None for one in visual)
    for generation in generations:
        own = [one for one in visual if one.generation == generation.number]
        kept = (generation.metrics.get("visual") or {}).get("kept", False)
        assert {one.status for one in own} <= {"accepted" if kept else "rejected"}
        if kept:  # what is new replaces what was there
            assert list(store.bank(generation.id).visual.ids) == [one.id for one in own]
            assert {one.id for one in own} <= {one.antibody_id for one in store.effects(session.record.id)}
    asked = [call.request_text for call in store.llm_calls(session.record.id)]
    assert not [request for request in asked if "visual" in request]
    briefings = [read_briefing(c.request_text) for c in store.llm_calls(session.record.id) if c.step == "propose"]
    assert not [one for one in briefings if "" in (*one.own_tried, *one.shared.tried)]


def test_each_generation_stores_the_random_state_it_left(finished: Finished) -> None:
    states = [one.random_state for one in finished.generations]
    assert states[0] == state_of(new_generator(0))
    assert all(one != other for one, other in pairwise(states))
    drawn = new_generator(0)
    drawn.random(GENERATIONS)
    assert states[-1] == state_of(drawn)


def test_a_generation_takes_no_hour_less_where_the_clock_is_set_back(monkeypatch: pytest.MonkeyPatch) -> None:
    began = Began()
    clock, tick = [began.at - timedelta(hours=1)], began.tick + 120
    monkeypatch.setattr("agents.drafting.datetime", SimpleNamespace(now=lambda _: clock[0]))
    monkeypatch.setattr("agents.drafting.time", SimpleNamespace(monotonic=lambda: tick))
    assert began.end() - began.at == timedelta(minutes=2)


def test_a_session_stops_where_its_limits_say(store: AntibodyStore, space: Space) -> None:
    config = CONFIG.model_copy(update={"stop_after_minutes": 1e-6})
    session = new_session(store, space, config=config)
    assert session.stopped_because is None
    assert len(session.run()) == 1
    assert "minutes is reached" in str(session.stopped_because)
    assert store.session("one").status == "finished"
    # A higher limit goes on from there.
    assert len(RefinementSession(session.record, CONFIG, store, space, world.WordEmbedder()).run()) == GENERATIONS + 1


def test_the_guideline_of_a_generation_that_failed_is_not_continued(
    store: AntibodyStore, space: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second of three generations is turned down: the third tries another guideline, made from the same one."""
    decide = sessions.Loop.decide

    def failing(self: Any, state: Any) -> Any:
        if state["memory"].number == 2:
            return {**decide(self, state), "decision": Decision(False, "for the test")}
        return decide(self, state)

    monkeypatch.setattr(sessions.Loop, "decide", failing)
    session = new_session(store, space)
    generations = session.run()
    tree = {one.version: one for one in prompt_tree(generations, store.prompts(session.record.id))}
    second, third = generations[2], generations[3]
    assert tree[second.prompt_version].parent == generations[1].prompt_version
    assert not tree[second.prompt_version].kept
    assert third.parent in (0, 1)
    assert tree[third.prompt_version].parent in (generations[third.parent].prompt_version, None)
    reflected = [c.request_text for c in store.llm_calls(session.record.id) if c.step == "reflect"]
    assert json.dumps(tree[second.prompt_version].guideline)[1:-1] in next(
        text for text in reflected if '"dropped":["' in text
    )


def test_a_branch_does_not_keep_what_only_a_generation_that_failed_turned_down(
    store: AntibodyStore, space: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    decide = sessions.Loop.decide
    monkeypatch.setattr(
        sessions.Loop,
        "decide",
        lambda self, state: {
            **decide(self, state),
            **({"decision": Decision(False, "for the test")} if state["memory"].number == 2 else {}),
        },
    )
    session = new_session(store, space, config=CONFIG.model_copy(update={"band": (0.2, 1.0)}))
    generations = session.run()

    def rejected(number: int) -> set[str]:
        return {one.text for one in store.antibodies(session.record.id, generation=number, status="rejected")}

    begun = {one.text for one in draft_branch(store, generations[3]).antibodies if not one.accepted}
    assert rejected(1)
    assert rejected(1) <= begun
    assert rejected(2) - rejected(1) - rejected(3)
    assert not begun & (rejected(2) - rejected(1) - rejected(3))


@pytest.mark.parametrize("where", ["between two generations", "within one"])
def test_a_process_that_lost_its_session_stores_nothing_more(
    store: AntibodyStore, space: Space, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    asked: list[int] = []

    def taken_over() -> None:
        with writing(store.engine) as transaction:
            transaction.execute(text("UPDATE claims SET owner = 'another'"))

    def stored(one: GenerationRecord) -> None:
        if one.number == 1 and where == "between two generations":
            taken_over()

    propose = sessions.Loop.propose

    def asking(self: Any, state: Any) -> Any:
        asked.append(state["memory"].number)
        if state["memory"].number == 2:
            taken_over()
        return propose(self, state)

    monkeypatch.setattr(sessions.Loop, "propose", asking)
    session = new_session(store, space)
    with pytest.raises(ClaimLostError):
        session.run(stored)
    assert asked == ([1] if where == "between two generations" else [1, 2])
    assert len(store.generations(session.record.id)) == 2
    assert store.session("one").status == "running"  # it is another's to say


@pytest.mark.parametrize("pruning", [True, False])
def test_new_antibodies_that_harm_do_not_cost_those_that_help(
    store: AntibodyStore, space: Space, monkeypatch: pytest.MonkeyPatch, pruning: bool
) -> None:
    """A bank with any of the first generation's last two antibodies is turned down; without them it is judged again."""
    harmful: list[str] = []
    decide = Acceptance.decide

    def suspects(self: Any, boundary: Boundary) -> tuple[str, ...]:
        if not harmful:
            harmful.extend(boundary.fitted.bank.ids[-2:])
        return tuple(key for key in boundary.fitted.bank.ids if key in harmful)

    def strict(self: Acceptance, parent: Boundary, child: Boundary, *, best: float) -> Decision:
        if len(child.fitted.bank) and (not harmful or set(harmful) & set(child.fitted.bank.ids)):
            return Decision(False, "the whole harms")
        return decide(self, parent, child, best=best)

    monkeypatch.setattr(sessions.Loop, "harmful", suspects)
    monkeypatch.setattr(Acceptance, "decide", strict)
    session = new_session(
        store,
        space,
        config=CONFIG.model_copy(update={"generations": 1, "maturation": False, "visual": False, "pruning": pruning}),
    )
    first = session.run()[1]
    new = [one for one in store.antibodies(session.record.id) if not one.reason or "withdrawn" in one.reason]
    assert first.accepted == pruning
    if pruning:
        assert first.reason.startswith(f"2 of {len(new)} new antibodies withdrawn; first half: ")
        assert first.reason.endswith("with them: the whole harms")
        assert first.metrics["withdrawn"] == 2
        assert {one.reason for one in new if one.id in harmful} == {"withdrawn: its generation is better without it"}
        assert {one.status for one in new if one.id in harmful} == {"rejected"}
        assert [one.id for one in store.bank(first.id).antibodies] == [one.id for one in new if one.id not in harmful]
    else:
        assert not len(store.bank(first.id))


@pytest.fixture(scope="module")
def undisturbed(finished: Finished) -> list[Any]:
    """What a session stores that nothing interrupts."""
    return content(finished.store, finished.session.record.id)


def test_a_session_stopped_anywhere_goes_on_as_if_it_had_not_been(
    store: AntibodyStore, space: Space, undisturbed: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its second generation is stopped before each of its nodes, one after the other."""
    cut = new_session(store, space, "cut")
    for step in STEPS:
        node = getattr(sessions.Loop, step)

        def stopping(self: Any, state: Any, node: Any = node) -> Any:
            if state["memory"].number == 2:
                raise KeyboardInterrupt
            return node(self, state)

        with monkeypatch.context() as patch:
            patch.setattr(sessions.Loop, step, stopping)
            with pytest.raises(KeyboardInterrupt):
                cut.run()
        assert store.session("cut").status == "paused"
        assert len(store.generations(cut.record.id)) == 2
    cut.run()
    assert content(store, cut.record.id) == undisturbed


def test_a_finished_session_runs_nothing_again(finished: Finished, space: Space) -> None:
    store, session, before = finished
    again = RefinementSession(session.record, CONFIG, store, space, world.WordEmbedder())
    assert again.run() == before


def test_an_edited_antibody_has_the_text_that_was_written_for_its_parent(store: AntibodyStore, space: Space) -> None:
    """Also where a person writes what the model wrote elsewhere, or the same again."""
    written: dict[str, tuple[str, ...]] = {}

    def review(subject: str, proposals: Sequence[Proposal]) -> list[Ruling]:
        first, second, third, *rest = (proposal.text for proposal in proposals)
        written[subject] = first, second, third
        texts = (second, f"a photo of a {subject} made of tin.", third)
        return [*(Ruling(action="edit", text=text) for text in texts), *(Ruling(action="keep") for _ in rest)]

    config = CONFIG.model_copy(update={"generations": 1, "maturation": False, "visual": False})
    session = replace(new_session(store, space, config=config), review=review)
    session.run()
    stored = store.antibodies(session.record.id)
    parents = {(a.guards, a.text): next((p.text for p in stored if p.id == a.parent_id), None) for a in stored}
    for subject, (first, second, third) in written.items():
        assert parents[subject, second] == first
        assert parents[subject, f"a photo of a {subject} made of tin."] == second
        assert parents[subject, third] is None
    assert {a.relation for a in stored if a.parent_id} == {"edited"}


@pytest.mark.parametrize(
    ("became", "kept"),
    [
        ("BA", {"A": "", "B": ""}),
        ("BCA", {"A": "", "B": "", "C": ""}),
        ("BAA", {"A": "", "B": ""}),
        ("XX", {"X": "A"}),
        ("B-", {"B": "A"}),
        ("BB", {"B": ""}),
        ("A", {"A": ""}),
    ],
    ids=["two swap", "three do", "one more becomes one", "both become one", "the dropped", "the other", "retyped"],
)
def test_edits_that_write_what_is_written_elsewhere(
    store: AntibodyStore, space: Space, became: str, kept: dict[str, str]
) -> None:
    """`became` says what A, B, C become ("-": dropped), `kept` what is left, and of which text it is an edit."""
    words = {"A": "a photo of tin.", "B": "a photo of brass.", "C": "a photo of wool.", "X": "a photo of felt."}
    proposals = tuple(Proposal(text=words[name], kind="look_alike", rationale="") for name in "ABC"[: len(became)])

    class Proposing:
        def ask_all(self, _: int, requests: Any) -> Any:
            return tuple(Reply(Proposals(antibodies=proposals)) for _ in requests)

    def review(_: str, shown: Sequence[Proposal]) -> list[Ruling]:
        assert tuple(shown) == proposals
        return [Ruling(action="drop") if to == "-" else Ruling(action="edit", text=words[to]) for to in became]

    reviewed = ReviewedCaller(Proposing(), review, store, new_session(store, space).record)
    (reply,) = reviewed.ask_all(1, [Request("propose", "fish", "thing", Proposals)])
    left = {one.text: reply.originals.get(one.text, "") for one in reply.parsed.antibodies}
    assert left == {words[text]: words.get(parent, "") for text, parent in kept.items()}
    assert {one.text for one in reply.refused} >= {one.text for one in proposals} - left.keys()


class Replies(BaseChatModel):
    """A model that gives one reply to everything, as a server under our control would."""

    reply: str
    asked: list[str] = Field(default_factory=list)

    @property
    def _llm_type(self) -> str:
        return "replies"

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        self.asked.append(str(messages[0].text))
        if self.reply == "unreachable":
            raise ConnectionError("refused")
        return ChatResult(generations=[ChatGeneration(message=AIMessage(self.reply))])


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "I cannot help with that.",
        '{"antibodies": [{"text": "a pho',
        "<script>alert(1)</script>",
        "[]",
        "null",
        "\x00",
    ],
)
def test_a_useless_reply_costs_its_generation_and_nothing_else(
    store: AntibodyStore, space: Space, monkeypatch: pytest.MonkeyPatch, reply: str
) -> None:
    monkeypatch.setattr(sessions, "make_chat_model", lambda *_, **__: Replies(reply=reply))
    generations = new_session(store, space).run()
    assert len(generations) == GENERATIONS + 1
    assert [one.accepted for one in generations] == [True, False, False, False]
    assert generations[1].metrics["problems"]


def test_a_proposal_beyond_the_encoders_context_is_turned_down_with_that_reason(
    store: AntibodyStore, space: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = "a " + "big " * 20 + "toy"  # the world's encoder reads 20 words
    items = [{"text": text, "kind": "look_alike", "rationale": ""} for text in (long, "a toy")]
    model = Replies(reply=json.dumps({"antibodies": items}))
    monkeypatch.setattr(sessions, "make_chat_model", lambda *_, **__: model)
    new_session(store, space, config=CONFIG.model_copy(update={"generations": 1})).run()
    reasons = {one.text: one.reason for one in store.antibodies(store.session("one").id)}
    assert reasons[long] == "too long: it has more tokens than the encoder reads"
    assert not reasons["a toy"].startswith("too long")


@pytest.mark.usefixtures("no_waiting")
def test_a_model_out_of_reach_pauses_the_session(
    store: AntibodyStore, space: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(sessions, "make_chat_model", lambda *_, **__: Replies(reply="unreachable"))
        session = new_session(store, space)
        with pytest.raises(ModelUnavailable, match="reply from the chat model"):
            session.run()
    assert store.session("one").status == "paused"
    assert len(session.run()) == GENERATIONS + 1


def test_replies_that_were_recorded_are_not_asked_for_again(
    store: AntibodyStore, space: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    reply = '{"antibodies": [{"text": "a photo of a shark.", "kind": "look_alike", "rationale": ""}]}'
    model = Replies(reply=reply)
    monkeypatch.setattr(sessions, "make_chat_model", lambda *_, **__: model)
    session = new_session(store, space)
    with monkeypatch.context() as patch:
        patch.setattr(sessions.Loop, "decide", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            session.run()
    first = list(model.asked)
    assert len(first) == len(world.CLASSES)
    session.run()
    assert not set(first) & set(model.asked[len(first) :])


def test_the_sealed_test_cannot_get_into_the_loop(space: Space) -> None:
    with pytest.raises(SetupError, match="of the split test"):
        world.with_outliers(near=world.near("test", 2, 9))
    with pytest.raises(SetupError, match="sealed test split"):
        replace(space, fit=world.known("test", 2, 9))


def test_a_loop_without_images_says_what_is_missing(store: AntibodyStore, space: Space) -> None:
    session, bare = new_session(store, space), replace(space, fit=None, fit_labels=None)
    for lacking, said in (
        (world.with_outliers(), r"\[\[data.feedback\]\]"),
        (bare, r"\[data.fit\]"),
        (replace(bare, feedback=None), r"\[data.fit\]"),
    ):
        with pytest.raises(SetupError, match=said):
            replace(session, space=lacking)


def test_nothing_of_the_outliers_names_reaches_the_model(store: AntibodyStore, space: Space) -> None:
    """File names and set names would tell the answer; words near the image are what a model may go by."""
    outliers = {
        f"quagga-{name}": replace(images, name=f"quagga-{name}") for name, images in feedback_of(space).outliers.items()
    }
    config = CONFIG.model_copy(update={"generations": 2})
    session = new_session(store, world.with_outliers(**outliers), config=config)
    session.run()
    calls = store.llm_calls(session.record.id)
    assert {call.step for call in calls} == {"propose", "reflect"}
    for call in calls:
        assert ".png" not in call.request_text
        assert "quagga" not in call.request_text


def test_the_first_half_is_shown_and_suspected_and_the_second_only_confirms(
    finished: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, session, _ = finished
    loop, memory = session.loop(), session.recall(finished.generations[:1])
    feedback, halves = feedback_of(session.space), loop.halves
    boundary = loop.gauge.measure(memory.bank)
    shown: dict[str, set[int]] = {name: set() for name in feedback.outliers}

    def brief_all(_: Any, wanted: Any, mistakes: Any, *__: Any, **___: Any) -> dict[str, ShownMistakes]:
        for name, row in (sample for samples in mistakes.values() for sample in samples):
            shown[name].add(row)
        return dict.fromkeys(wanted, ShownMistakes(None, ()))  # type: ignore[arg-type]

    monkeypatch.setattr(Inspector, "brief_all", brief_all)
    loop.inspect({"memory": memory})
    assert shown == {name: set(boundary.mis_accepted(name, halves.first)) for name in feedback.outliers}
    assert any(boundary.mis_accepted(name, halves.second).size for name in feedback.outliers)
    measured: list[Any] = []
    monkeypatch.setattr(Gauge, "effects", lambda *given: measured.append(given) or ())
    assert loop.harmful(boundary) == ()
    assert measured == [(loop.gauge, boundary.fitted, halves.first)]


def test_no_two_requests_for_all_classes_are_the_same(finished: Finished) -> None:
    loop = finished.session.loop()
    for count, distinct in ((0, 1), (2, 2), (9, 4)):
        mistakes = {"fish": tuple(("near", row) for row in range(count))}
        asked = [one.mistakes for _, one in loop._of_no_class({"class": 9, "group": 0, "far": 4}, mistakes, 1)]
        assert len(asked) == distinct
        assert sorted(sample for samples in asked for sample in samples) == sorted(mistakes["fish"])


class _Rule:
    """Stands in for the rule of acceptance: turns everything down, and remembers what it was made of and asked."""

    made: list[float] = []  # noqa: RUF012 - of a test alone
    best: list[float] = []  # noqa: RUF012

    def __init__(self, _halves: Any, _seed: int, confirmation: float) -> None:
        self.made.append(confirmation)

    def decide(self, _parent: Any, _child: Any, *, best: float) -> Decision:
        self.best.append(best)
        return Decision(False, "worse")


def test_what_is_configured_is_what_a_generation_goes_by(finished: Finished, monkeypatch: pytest.MonkeyPatch) -> None:
    own = {"confirmation": 0.25, "prompt_tokens": 1234, "pictures_per_class": 2}
    session = replace(finished.session, config=CONFIG.model_copy(update=own))
    loop, memory = session.loop(), session.recall(finished.generations)
    told: list[Any] = []
    monkeypatch.setattr(Inspector, "brief_all", lambda *_, **given: told.append(given["pictures"]) or {})
    loop.inspect({"memory": memory})
    monkeypatch.setattr(graph, "Composer", lambda *given: told.append(given) or SimpleNamespace(reflect=lambda _: ""))
    monkeypatch.setattr(graph.Loop, "_reflection_briefing", lambda *_: None)
    unread = SimpleNamespace(ask_all=lambda *_: (Reply(None, ("no answer",)),))
    replace(loop, caller=unread).reflect({"memory": replace(memory, reflects=True), "decision": Decision(True, "")})
    assert told == [2, (1234, memory.tokens_per_estimate, ())]
    monkeypatch.setattr(graph, "Acceptance", _Rule)
    monkeypatch.setattr(graph.Loop, "harmful", lambda *_: memory.bank.ids[:1])
    boundary = loop.gauge.measure(memory.bank)
    state: Any = {"memory": memory, "candidate": memory.bank, "screened": memory.bank.antibodies[:2]}
    assert not loop.decide({**state, "before": boundary, "after": boundary})["decision"].accepted
    assert (_Rule.made, _Rule.best) == ([0.25], [memory.best_mean_auroc] * 2)
