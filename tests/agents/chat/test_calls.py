"""Many calls at once: recorded, counted, replayed by a stable digest, reused across sessions where that is wanted."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agents.chat import calls
from agents.chat.calls import RecordedCaller, Request
from agents.chat.failures import ModelUnavailable
from agents.chat.models import Chat, make_chat_model
from agents.chat.recordings import NotRecorded, RecordedCall, write_recording
from agents.replies import Proposals, Wanted, proposals_of
from db.store import AntibodyStore
from evaluation.antibodies.vocabulary import load_vocabulary
from immuno_core.config.refine import PriceConfig, RefineConfig
from immuno_core.errors import SetupError
from tests.agents import word_world as world

from .chat_server import ChatServer, Response, chat_server, completion

DOT = "data:image/png;base64,iVBORw0KGgo="
ROOT = Path(__file__).resolve().parents[3]


pytestmark = pytest.mark.usefixtures("no_waiting")


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with chat_server() as running:
        running.answer = lambda asked: proposing(f"a photo of {asked['messages'][0]['content']}.")
        yield running


def said(what: str) -> str:
    return json.dumps({"antibodies": [{"text": f"a photo of {what}.", "kind": "look_alike", "rationale": ""}]})


def proposing(text: str) -> Response:
    return completion(json.dumps({"antibodies": [{"text": text, "kind": "look_alike", "rationale": ""}]}))


def caller(server: ChatServer, store: AntibodyStore, name: str = "one", **changes: Any) -> RecordedCaller:
    """A caller with a session of its own."""
    own = {"llm": "openai:tiny", "base_url": server.address, "retries": 0, "concurrency": 4, "timeout": 30.0}
    config = RefineConfig().model_copy(update=own | changes)
    model = make_chat_model(config, seed=0, vocabulary=load_vocabulary())
    session = store.find_session(name) or store.create_session(
        name, config={}, seed=0, git_sha=None, versions={}, encoder=world.WordEmbedder().encoder
    )
    return RecordedCaller(Chat(model, config.structured, config.timeout), config, 0, store, session.id)


def request(subject: str, prompt: str = "", images: tuple[str, ...] = ()) -> Request[Proposals]:
    return Request(
        "propose", subject, prompt or f"thing {subject}", proposals_of(Wanted(look_alikes=3, places=1)), images
    )


def texts(replies: Any) -> list[str]:
    return [reply.parsed.antibodies[0].text for reply in replies]


def test_answers_come_in_the_order_of_the_requests(server: ChatServer, store: AntibodyStore) -> None:
    turn = threading.Semaphore(0)

    def last_first(asked: dict[str, Any]) -> Response:
        word = asked["messages"][0]["content"]
        if word == "thing 3":
            turn.release(3)
        else:
            turn.acquire(timeout=30)
        return proposing(f"a photo of {word}.")

    server.answer = last_first
    replies = caller(server, store).ask_all(1, [request(str(i)) for i in range(4)])
    assert texts(replies) == [f"a photo of thing {i}." for i in range(4)]


def test_never_more_at_once_than_said(server: ChatServer, store: AntibodyStore) -> None:
    server.answer = lambda asked: proposing("a photo of a shark.")._replace(delay=0.01)
    caller(server, store, concurrency=3).ask_all(1, [request(str(i)) for i in range(30)])
    assert server.most_at_once <= 3
    assert len(server.requests) == 30


def test_a_connection_serves_many_requests_and_is_closed_in_the_end(server: ChatServer, store: AntibodyStore) -> None:
    asking = caller(server, store, concurrency=3)
    asking.ask_all(1, [request(str(i)) for i in range(30)])
    assert server.connections <= 3
    assert hung_up(server)
    asking.ask_all(2, [request("again")])
    assert len(server.requests) == 31
    assert hung_up(server)


def test_connections_are_closed_when_the_server_fails(server: ChatServer, store: AntibodyStore) -> None:
    server.answer = lambda asked: Response(401, b"{}")
    with pytest.raises(ModelUnavailable):
        caller(server, store).ask_all(1, [request(str(i)) for i in range(30)])
    assert hung_up(server)


def test_a_server_that_closed_a_connection_is_asked_by_another(server: ChatServer, store: AntibodyStore) -> None:
    server.keeps = False
    assert len(texts(caller(server, store, concurrency=1).ask_all(1, [request(str(i)) for i in range(5)]))) == 5
    assert server.connections == len(server.requests) == 5


def hung_up(server: ChatServer) -> bool:
    """Whether no connection is open, at once or soon: the server sees the end of one a moment later."""
    until = time.monotonic() + 10
    while server.open_connections and time.monotonic() < until:
        time.sleep(0.01)
    return not server.open_connections


def test_what_was_answered_is_recorded_although_the_server_goes_away(server: ChatServer, store: AntibodyStore) -> None:
    """Forty requests of which the server answers twelve: those are not asked again, and the rest are not all tried."""
    good = server.answer
    asked_of: list[str] = []

    def twelve(asked: dict[str, Any]) -> Response:
        asked_of.append(asked["messages"][0]["content"])
        assert good is not None
        return good(asked) if len(asked_of) <= 12 else Response(503, b"{}")

    server.answer = twelve
    asking = caller(server, store, concurrency=1)
    with pytest.raises(ModelUnavailable, match="HTTP 503"):
        asking.ask_all(1, [request(str(i)) for i in range(40)])
    assert 12 + 8 <= len(asked_of) < 12 + 8 + 4
    assert len(store.llm_calls(asking.session_id)) == 12
    server.answer, before = good, len(server.requests)
    assert len(asking.ask_all(1, [request(str(i)) for i in range(40)])) == 40
    assert len(server.requests) - before <= 40 - 12 + 2  # what was under way when it was given up may still arrive


def test_what_was_recorded_before_says_nothing_of_a_server_that_is_gone(
    server: ChatServer, store: AntibodyStore
) -> None:
    """Every other reply is on record: eight failures in a row are eight all the same."""
    asking = caller(server, store, concurrency=1)
    asking.ask_all(1, [request(str(i)) for i in range(0, 40, 2)])
    server.answer, before = lambda _: Response(503, b"{}"), len(server.requests)
    with pytest.raises(ModelUnavailable, match="HTTP 503"):
        asking.ask_all(1, [request(str(i)) for i in range(40)])
    assert 8 <= len(server.requests) - before < 8 + 4


def test_an_answer_at_the_end_of_a_very_long_reply_is_read_and_kept(server: ChatServer, store: AntibodyStore) -> None:
    long = "so on " * 50_000 + said("a shark")
    server.answer = lambda _: completion(long)
    asking = caller(server, store)
    first, again = (asking.ask_all(1, [request("x")])[0] for _ in range(2))
    assert texts([first]) == texts([again]) == ["a photo of a shark."]
    assert first.problems == again.problems == ("the reply was longer than can be read; its end was",)
    assert len(server.requests) == 1


def test_nothing_is_under_way_after_a_failure(server: ChatServer, store: AntibodyStore) -> None:
    """One is refused for all while others are at work: those are ended, and what was answered is kept."""
    good = server.answer
    under_way = threading.Barrier(3)

    def refuse_one(asked: dict[str, Any]) -> Response:
        assert good is not None
        word = asked["messages"][0]["content"]
        if word == "thing 0":
            return good(asked)
        under_way.wait(30)
        return Response(401, b"{}") if word == "thing 1" else server.never()

    server.answer = refuse_one
    asking = caller(server, store)
    with pytest.raises(ModelUnavailable, match="HTTP 401"):
        asking.ask_all(1, [request(str(i)) for i in range(4)])
    deadline = time.monotonic() + 5
    while any(thread.name.startswith("chat_") for thread in threading.enumerate()):
        assert time.monotonic() < deadline, "requests outlive the failure"
        time.sleep(0.01)
    assert [call.subject for call in store.llm_calls(asking.session_id)] == ["0"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SetupError("the disk is full")])
def test_what_was_answered_is_kept_when_something_else_ends_it(
    server: ChatServer, store: AntibodyStore, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    asking = caller(server, store)

    def requests() -> Iterator[Request[Proposals]]:
        yield from (request(str(i)) for i in range(4))
        while len(server.requests) < 4 or server.under_way:
            time.sleep(0.01)
        time.sleep(0.2)  # the replies are on their way, and nobody has looked at them yet
        raise error

    monkeypatch.setattr(calls, "_LOOKED_UP_AT_ONCE", 4)
    with pytest.raises(type(error)):
        asking.ask_all(1, requests())
    assert len(store.llm_calls(asking.session_id)) == 4


def test_tokens_time_and_money_are_counted_for_each_generation(server: ChatServer, store: AntibodyStore) -> None:
    asking = caller(server, store, price=PriceConfig(input=2.0, output=10.0))
    asking.ask_all(1, [request(str(i)) for i in range(3)])
    calls = store.llm_calls(asking.session_id)
    assert [(call.prompt_tokens, call.completion_tokens) for call in calls] == [(11, 7)] * 3
    assert calls[0].cost_usd == pytest.approx((11 * 2 + 7 * 10) / 1e6)
    assert all(call.seconds is not None and call.seconds > 0 for call in calls)
    assert calls[0].parameters == {"temperature": 0.7, "max_tokens": 2048, "seed": 0, "structured": "json_schema"}


def test_no_price_is_made_up(server: ChatServer, store: AntibodyStore) -> None:
    asking = caller(server, store)
    asking.ask_all(1, [request("x")])
    assert store.llm_calls(asking.session_id)[0].cost_usd is None


class TestReuse:
    @pytest.mark.parametrize(
        ("changes", "asked"),
        [({"temperature": 0.0}, 1), ({"reuse": True}, 1), ({}, 2), ({"temperature": 0.0, "reuse": False}, 2)],
        ids=["temperature 0", "wanted", "temperature above 0", "not wanted"],
    )
    def test_the_same_request_of_another_session(
        self, server: ChatServer, store: AntibodyStore, changes: dict[str, Any], asked: int
    ) -> None:
        changes = changes | {"price": PriceConfig(input=2.0, output=10.0)}
        first = caller(server, store, "one", **changes).ask_all(1, [request("x")])
        asking = caller(server, store, "two", **changes)
        assert texts(asking.ask_all(1, [request("x")])) == texts(first)
        assert len(server.requests) == asked
        call = store.llm_calls(asking.session_id)[0]
        assert call.reused is (asked == 1)
        assert call.cost_usd == (None if call.reused else pytest.approx((11 * 2 + 7 * 10) / 1e6))
        assert (call.seconds is None) is call.reused

    @pytest.mark.parametrize(
        "changes",
        [{"llm": "openai:other"}, {"max_tokens": 99}, {"structured": "tool"}],
        ids=lambda one: next(iter(one)),
    )
    def test_not_what_another_model_or_other_parameters_said(
        self, server: ChatServer, store: AntibodyStore, changes: dict[str, Any]
    ) -> None:
        caller(server, store, "one", reuse=True).ask_all(1, [request("x")])
        caller(server, store, "two", reuse=True, **changes).ask_all(1, [request("x")])
        assert len(server.requests) == 2

    def test_a_server_that_moved_is_the_same_model(self, server: ChatServer, store: AntibodyStore) -> None:
        one = caller(server, store, "one")
        with chat_server() as moved:
            assert caller(moved, store, "two").digest(request("x")) == one.digest(request("x"))


def test_the_digest_is_the_same_in_every_process(server: ChatServer, store: AntibodyStore) -> None:
    code = (
        "from agents.chat.calls import *; from agents.replies import *;"
        "from immuno_core.config.run import RefineConfig;"
        "c = RecordedCaller(None, RefineConfig(llm='openai:tiny'), 0, None, '');"
        "print(c.digest(Request('propose', 'x', 'thing x', proposals_of(Wanted(look_alikes=3, places=1)))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "7"}
    )
    assert done.stdout.strip() == caller(server, store).digest(request("x"))


def test_a_recording_answers_by_generation_step_and_subject(store: AntibodyStore, tmp_path: Path) -> None:
    """The same prompt in two generations has the reply of each."""
    calls = [
        RecordedCall(step="propose", subject=subject, generation=number, request="thing x", reply=reply)
        for subject, number, reply in (("x", 4, said("four")), ("x", 3, said("three")), ("y", 3, said("other")))
    ]
    write_recording(tmp_path / "calls.jsonl", calls)
    config = RefineConfig(llm=f"replay:{tmp_path / 'calls.jsonl'}")
    model = make_chat_model(config, seed=0, vocabulary=load_vocabulary())
    session = store.create_session(
        "one", config={}, seed=0, git_sha=None, versions={}, encoder=world.WordEmbedder().encoder
    )
    replaying = RecordedCaller(Chat(model), config, 0, store, session.id)
    asked = [request("x"), request("y", "thing x")]
    assert texts(replaying.ask_all(3, asked)) == ["a photo of three.", "a photo of other."]
    assert texts(replaying.ask_all(4, [request("x")])) == ["a photo of four."]
    for generation, other, why in (
        (5, request("x"), "5/propose/x, which begins 'thing x...': the session differs"),
        (4, request("y", "thing x"), "4/propose/y, .*: the session differs"),
        (
            3,
            request("x", "another thing"),
            "3/propose/x, .*at that place answers another prompt.*record a session again",
        ),
    ):
        with pytest.raises(NotRecorded, match=why):
            replaying.ask_all(generation, [other])


def test_what_another_version_asked_within_a_generation_stays_beside_what_is_used(
    server: ChatServer, store: AntibodyStore
) -> None:
    asking = caller(server, store, price=PriceConfig(input=2.0, output=10.0))
    old, new = request("x", "what an old version asks"), request("x", "what this version asks")
    for _ in range(2):
        assert texts(asking.ask_all(1, [old])) == ["a photo of what an old version asks."]
        assert texts(asking.ask_all(1, [new])) == ["a photo of what this version asks."]
    assert len(server.requests) == 2
    calls = store.llm_calls(asking.session_id)
    assert [call.request_text for call in calls] == [old.prompt, new.prompt]
    assert all(call.cost_usd for call in calls)  # both were paid


def test_one_prompt_for_two_subjects_has_the_reply_of_each(server: ChatServer, store: AntibodyStore) -> None:
    replies = iter(["one", "two"])
    server.answer = lambda _: proposing(f"a photo of {next(replies)}.")
    asking, asked = caller(server, store, concurrency=1), [request("x", "thing"), request("y", "thing")]
    assert texts(asking.ask_all(1, asked[:1])) == ["a photo of one."]
    assert texts(asking.ask_all(1, asked)) == texts(asking.ask_all(1, asked)) == ["a photo of one.", "a photo of two."]


def test_what_a_limit_needs_and_the_server_does_not_count_is_said(server: ChatServer, store: AntibodyStore) -> None:
    counted, said_nothing = proposing("a photo of a shark."), proposing("a photo of a shark.")
    said_nothing = Response(said_nothing.status, re.sub(rb'"usage": \{[^}]*\}', b'"usage": null', said_nothing.body))
    limits = {"stop_after_tokens": 9, "stop_after_cost": 1.0}
    for answer, changes, limited in (
        (said_nothing, limits, ["stop_after_tokens", "stop_after_cost"]),
        (said_nothing, {}, []),
        (counted, limits, []),
    ):
        server.answer = lambda _, answer=answer: answer
        asking = caller(server, store, f"{len(limited)} {len(changes)} {answer is counted}", **changes)
        (reply,) = asking.ask_all(1, [request("x")])
        assert list(reply.problems) == [f"the chat model counted no tokens: {name} cannot act" for name in limited]
        (again,) = asking.ask_all(1, [request("x")])
        assert not again.problems


class TestImages:
    def test_they_are_sent_and_their_digests_are_kept(self, server: ChatServer, store: AntibodyStore) -> None:
        server.answer = lambda _: proposing("a photo of a shark.")
        asking = caller(server, store)
        asking.ask_all(1, [request("x", images=(DOT,))])
        sent = server.requests[0]["messages"][0]["content"]
        assert sent == [{"type": "text", "text": "thing x"}, {"type": "image_url", "image_url": {"url": DOT}}]
        stored = store.llm_calls(asking.session_id)[0].request_text
        assert stored.startswith("thing x\n[image sha256:")
        assert "iVBOR" not in stored
        assert asking.digest(request("x")) != asking.digest(request("x", images=(DOT,)))

    def test_nobody_is_made_to_fetch_something(self) -> None:
        with pytest.raises(SetupError, match="no data URL"):
            request("x", images=("http://169.254.169.254/latest",))


def test_the_tool_path_sends_a_tool_and_reads_its_arguments(server: ChatServer, store: AntibodyStore) -> None:
    arguments = '{"antibodies": [{"text": "a photo of a shark.", "kind": "look_alike", "rationale": ""}]}'
    call = {"id": "1", "type": "function", "function": {"name": "Proposals", "arguments": arguments}}
    server.answer = lambda _: completion(None, tool_calls=[call])
    asking = caller(server, store, structured="tool")
    assert texts(asking.ask_all(1, [request("x")])) == ["a photo of a shark."]
    assert server.requests[0]["tools"][0]["function"]["name"] == "Proposals"
    assert "response_format" not in server.requests[0]
    assert store.llm_calls(asking.session_id)[0].reply_text == arguments


def test_the_schema_in_words_for_servers_that_know_nothing_else(server: ChatServer, store: AntibodyStore) -> None:
    server.answer = lambda _: proposing("a photo of a shark.")
    asking = caller(server, store, structured="words")
    assert texts(asking.ask_all(1, [request("x")])) == ["a photo of a shark."]
    sent = server.requests[0]
    assert not {"tools", "response_format"} & set(sent)
    assert '"maxItems": 3' in sent["messages"][-1]["content"]
