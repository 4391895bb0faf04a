"""Chat models are made from their names and asked for structured replies; a server may fail in any way it likes."""

import json
import time

import jsonschema
import pytest
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_core.runnables import RunnableLambda

from agents.chat.failures import ModelUnavailable
from agents.chat.models import Chat, make_chat_model
from agents.lexicon.model import LexiconChatModel
from agents.replies import Reflection, Wanted, proposals_of, wire_schema
from evaluation.antibodies.captions import Captions
from evaluation.antibodies.vocabulary import load_vocabulary
from immuno_core.config.refine import RefineConfig
from immuno_core.errors import ImmunoError, SetupError
from tests.agents.prompts.briefings import class_briefing, in_a_prompt

from .chat_server import Response, chat_server, completion

SHARK = {"text": "a photo of a shark.", "kind": "look_alike", "rationale": "it has fins"}
GOOD = json.dumps({"antibodies": [SHARK]})
FISH = Captions(class_name="fish")
FOUR = proposals_of(Wanted(look_alikes=4, places=0))
MESSAGES = [SystemMessage("You write antibodies."), HumanMessage("Write some.")]


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch):
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_API_BASE", "LANGSMITH_TRACING", "LANGCHAIN_TRACING_V2"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def server():
    with chat_server() as running:
        yield running


def make(spec, *, base_url=None, timeout=10.0):
    config = RefineConfig(llm=spec, base_url=base_url, temperature=0.5, max_tokens=300, timeout=timeout)
    return make_chat_model(config, seed=3, vocabulary=load_vocabulary())


def ask_server(server, reply, schema=None, **options):
    server.reply = reply
    return ask_at(server.address, schema, **options)


def ask_at(address, schema=None, **options):
    chat = Chat(make("openai:tiny", base_url=address, **options))
    try:
        return chat.ask(MESSAGES, schema or FOUR)
    finally:
        chat.hang_up()


class TestMakingAModel:
    def test_lexicon_needs_nothing(self):
        model = make("lexicon")
        assert isinstance(model, LexiconChatModel)
        assert model.seed == 3

    @pytest.mark.parametrize(
        ("spec", "message"),
        [
            ("lexcion", r"'lexcion' names no chat model; did you mean 'lexicon'\?; write 'lexicon', or provider:NAME"),
            ("opnai:gpt", r"'opnai:gpt' names no chat model; did you mean 'openai'"),
            ("qwen2.5", "names no chat model"),
            ("openai:", "has no name"),
            ("openai:gpt-x", r"'openai:gpt-x' needs a key; set OPENAI_API_KEY in the environment"),
            ("mistralai:x", r"'mistralai:x' cannot be used: .*pip install langchain-mistralai"),
        ],
    )
    def test_a_wrong_name_or_a_missing_key_is_one_clear_line(self, spec, message):
        with pytest.raises(SetupError, match=message) as caught:
            make(spec)
        assert "\n" not in str(caught.value)

    def test_an_address_without_a_scheme_is_refused(self):
        with pytest.raises(ValueError, match="that is not the address of a server"):
            make("openai:tiny", base_url="localhost:8000")

    def test_no_key_ever_stands_in_what_is_printed(self, monkeypatch):
        monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
        assert "secret" not in repr(make("openai:tiny", base_url="http://127.0.0.1:9/v1"))


class TestWhatIsSent:
    def test_the_schema_the_bounds_and_the_seed_reach_the_server(self, server):
        ask_server(server, completion(GOOD))
        sent = server.requests[0]
        asked = sent["response_format"]["json_schema"]
        assert asked["strict"] is True
        assert asked["name"] == "Proposals"
        assert asked["schema"]["properties"]["look_alikes"]["maxItems"] == 4
        assert {key: sent[key] for key in ("model", "seed", "temperature", "max_completion_tokens")} == {
            "model": "tiny",
            "seed": 3,
            "temperature": 0.5,
            "max_completion_tokens": 300,
        }
        assert [message["content"] for message in sent["messages"]] == ["You write antibodies.", "Write some."]

    def test_the_schema_sent_is_the_one_that_is_tested(self, server):
        ask_server(server, completion(GOOD))
        sent = server.requests[0]["response_format"]["json_schema"]["schema"]
        jsonschema.validate({"look_alikes": ["shark", "ray", "eel", "kite"]}, sent)
        assert sent == wire_schema(FOUR)

    def test_without_a_key_a_server_of_ones_own_gets_a_placeholder(self, server):
        ask_server(server, completion(GOOD))
        assert server.headers[0]["authorization"] == "Bearer none-needed"
        told = {name for name in server.headers[0] if name.startswith("x-stainless-")}
        assert told == {"x-stainless-raw-response"}  # of this machine a server learns nothing

    def test_a_key_of_the_environment_is_used(self, server, monkeypatch):
        monkeypatch.setenv("OPENAI_API_KEY", "sk-mine")
        ask_server(server, completion(GOOD))
        assert server.headers[0]["authorization"] == "Bearer sk-mine"


class TestWhatComesBack:
    def test_a_good_reply(self, server):
        answer = ask_server(server, completion(GOOD))
        assert answer.parsed.antibodies[0].text == "a photo of a shark."
        assert answer.raw_text == GOOD
        assert answer.problems == ()
        assert (answer.prompt_tokens, answer.completion_tokens) == (11, 7)

    def test_a_good_reflection(self, server):
        said = {"guideline": "Write more contexts.", "focus": "contexts", "reasons": "they gained more"}
        answer = ask_server(server, completion(json.dumps(said)), Reflection)
        assert answer.parsed == Reflection(**said)

    def test_a_server_that_ignores_the_schema_is_read_with_tolerance(self, server):
        bad = {**SHARK, "kind": "odd"}
        answer = ask_server(server, completion(f"Of course:\n```json\n{json.dumps([bad, SHARK])}\n```"))
        assert [proposal.text for proposal in answer.parsed.antibodies] == ["a photo of a shark."]
        assert len(answer.problems) == 1

    def test_a_reply_cut_off_at_max_tokens_keeps_its_whole_items_and_its_usage(self, server):
        answer = ask_server(server, completion(GOOD[:-2] + ', {"text": "a photo of a wh', finish="length"))
        assert [proposal.text for proposal in answer.parsed.antibodies] == ["a photo of a shark."]
        assert answer.problems[0] == "the reply was cut off at max_tokens; raise it, or ask for fewer"
        assert (answer.prompt_tokens, answer.completion_tokens) == (11, 7)

    @pytest.mark.parametrize(
        ("reply", "problem"),
        [
            (completion(""), "the reply is empty"),
            (completion(None), "the reply is empty"),
            (completion("Sorry, no."), "the reply holds no JSON"),
            (completion('{"ideas": []}'), "the JSON in the reply is not what was asked for"),
            (completion(None, refusal="I would rather not."), "the model refused: I would rather not."),
            (completion("", finish="content_filter"), "the reply was stopped: content_filter"),
        ],
        ids=["empty", "null", "prose", "wrong schema", "refusal", "filtered"],
    )
    def test_an_unusable_reply_is_none_with_a_reason(self, server, reply, problem):
        answer = ask_server(server, reply)
        assert answer.parsed is None
        assert answer.problems[0] == problem

    def test_a_megabyte_of_prose_is_no_trouble(self, server):
        start = time.perf_counter()
        answer = ask_server(server, completion("and so on " * 100_000))
        assert time.perf_counter() - start < 5
        assert answer.parsed is None
        assert len(answer.raw_text) <= 200_000

    def test_control_characters_reach_neither_texts_nor_storage(self, server):
        hostile = {**SHARK, "text": "a photo\x00 of\x1b[31m a\u202e shark."}
        answer = ask_server(server, completion(json.dumps([hostile | {"text": "a photo\x00\x1b of a shark."}])))
        assert answer.parsed.antibodies[0].text == "a photo of a shark."
        assert ask_server(server, completion(json.dumps([hostile]))).problems[0].endswith("text: holds markup")
        assert "\x00" not in ask_server(server, completion("\x00nul")).raw_text


class TestNoReply:
    @pytest.mark.parametrize(
        ("reply", "message"),
        [
            (Response(429, b'{"error": {"message": "slow down"}}'), r"HTTP 429: the server's limit .*slow down"),
            (Response(401, b'{"error": {"message": "bad key"}}'), r"HTTP 401: set the server's key in the environment"),
            (Response(404, b'{"error": {"message": "no model"}}'), r"HTTP 404: check the model's name"),
            (Response(400, b'{"error": {"message": "no\\nschema"}}'), r"HTTP 400: .*no schema"),
            (Response(200, b"<h1>hello</h1>", "text/html"), r"no usable reply"),
            (Response(200, b'{"choices": ['), r"no usable reply"),
            (Response(200, b"{}"), r"no usable reply"),
            (Response(200, b'{"choices": []}'), r"no usable reply"),
            (Response(200, b"[1, 2]"), r"no usable reply"),
        ],
        ids=["429", "401", "404", "400", "html", "truncated", "empty", "no choice", "a list"],
    )
    def test_a_failing_server_is_one_typed_error(self, server, reply, message):
        with pytest.raises(ModelUnavailable, match=message) as caught:
            ask_server(server, reply)
        assert isinstance(caught.value, ImmunoError)
        assert "\n" not in str(caught.value)

    def test_a_server_error_may_pass(self, server):
        with pytest.raises(ModelUnavailable, match="answered HTTP 500: the server failed; its log says why") as caught:
            ask_server(server, Response(500, b"<h1>oops</h1>", "text/html"))
        assert caught.value.try_again

    def test_a_time_out(self, server):
        with pytest.raises(ModelUnavailable, match="timed out"):
            ask_server(server, server.never, timeout=0.2)

    def test_nobody_there(self):
        with chat_server() as gone:
            address = gone.address
        with pytest.raises(ModelUnavailable, match=r"Connection error.*check that base_url is right"):
            ask_at(address)


class TestOtherModels:
    def test_a_model_without_structured_output_is_told_the_schema_in_words(self):
        prompts = []

        class Plain(FakeListChatModel):
            def _call(self, messages, *args, **kwargs):
                prompts.append(messages)
                return super()._call(messages, *args, **kwargs)

        answer = Chat(Plain(responses=[f"Here: {GOOD}"])).ask(MESSAGES, FOUR)
        assert answer.parsed.antibodies[0].text == "a photo of a shark."
        assert (answer.prompt_tokens, answer.completion_tokens) == (None, None)
        assert json.dumps(wire_schema(FOUR)) in prompts[0][-1].content

    def test_structured_output_by_tool_calls_is_read(self):
        class ByTools(FakeListChatModel):
            def with_structured_output(self, schema, **kwargs):
                call = {"name": "Proposals", "args": json.loads(GOOD), "id": "1"}
                return RunnableLambda(lambda _: {"raw": AIMessage("", tool_calls=[call])})

        answer = Chat(ByTools(responses=[""])).ask(MESSAGES, FOUR)
        assert answer.parsed.antibodies[0].text == "a photo of a shark."

    def test_the_lexicon_is_asked_in_the_same_way(self):
        briefing = class_briefing(wanted=5)
        answer = Chat(make("lexicon")).ask(
            [HumanMessage(in_a_prompt(briefing))], proposals_of(briefing.wanted), None, FISH
        )
        assert answer.problems == ()
        assert len(answer.parsed.antibodies) == 5
        assert json.loads(answer.raw_text)["look_alikes"][0] in answer.parsed.antibodies[0].text


class TestProxies:
    """HTTP_PROXY names a server that takes every request for any host, and says no."""

    @pytest.fixture
    def proxy(self, monkeypatch):
        for name in ("HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "no_proxy", "http_proxy", "all_proxy"):
            monkeypatch.delenv(name, raising=False)
        with chat_server() as running:
            running.reply = Response(502, b"<h1>nobody there</h1>", "text/html")
            address = running.address.removesuffix("/v1").replace("http://", "")
            monkeypatch.setenv("HTTP_PROXY", f"http://me:secret@{address}")
            yield running

    def test_a_server_of_this_machine_is_asked_straight(self, server, proxy):
        assert ask_server(server, completion(GOOD)).parsed is not None
        assert proxy.requests == []

    def test_any_other_is_asked_through_it_and_a_failure_names_it(self, proxy):
        with pytest.raises(
            ModelUnavailable, match=r"HTTP 502: .* through the proxy http://.*127.0.0.1:\d+ \(HTTP_PROXY\)"
        ) as caught:
            ask_at("http://10.254.0.9:8000/v1")
        assert len(proxy.requests) == 1
        assert "secret" not in str(caught.value)

    def test_a_proxy_that_is_not_there_is_named(self, proxy, monkeypatch):
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
        with pytest.raises(ModelUnavailable, match=r"through the proxy http://127.0.0.1:9 \(HTTP_PROXY\)"):
            ask_at("http://10.254.0.9:8000/v1")
