"""docs/llm.md: every configuration in it is one, and the models of it are made as far as they can be made here."""

from __future__ import annotations

import sqlite3
import tomllib
from pathlib import Path

import pytest
from pydantic import ValidationError

from agents.chat.failures import ModelUnavailable
from agents.session import check_settings
from db.store import open_store
from immuno_core.config.refine import RefineConfig
from immuno_core.config.run import RunConfig
from immuno_core.errors import SetupError
from tests.agents import word_world as world
from tests.agents.test_session import new_session
from tests.configs import make_config
from tests.pages import ROOT, blocks

from .chat_server import Response, chat_server
from .stand_in import answers, config

PAGE = (ROOT / "docs" / "llm.md").read_text(encoding="utf-8")
BLOCKS = [block.text for block in blocks("docs/llm.md", "toml")]


def parsed(block: str) -> RunConfig:
    return make_config(**tomllib.loads(block))


def names(block: str) -> str:
    return parsed(block).refine.llm


def test_there_is_one_for_each_kind_of_model() -> None:
    providers = [names(block).partition(":")[0] for block in BLOCKS]
    assert providers == ["lexicon", "openai", "openai", "openai", "openai", "anthropic", "replay"]


@pytest.mark.parametrize("block", BLOCKS, ids=names)
def test_it_is_a_configuration_that_works(block: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-this-test")
    settings = parsed(block).refine
    if settings.llm.startswith("replay:"):
        with pytest.raises(SetupError, match=r"no recording at .*calls\.jsonl.*immuno refine record SESSION FILE"):
            check_settings(settings, seed=0)
    elif settings.llm.startswith("anthropic:"):
        try:
            import langchain_anthropic  # noqa: F401
        except ImportError:
            with pytest.raises(SetupError, match="pip install langchain-anthropic"):
                check_settings(settings, seed=0)
    else:
        check_settings(settings, seed=0)


def test_no_key_lands_in_the_database_in_the_output_or_in_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Also where the server answers with the key that it was sent."""
    key = "sk-proj-Zq81xKfTtAaVvNn0P4rs"
    monkeypatch.setenv("OPENAI_API_KEY", key)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    told: list[str] = []
    path = tmp_path / "immuno.db"
    with chat_server() as server, open_store(str(path)) as store:
        quoted = f'{{"error": {{"message": "Incorrect API key provided: {key}"}}}}'.encode()
        server.answer = answers(lambda subject, _: Response(422, quoted) if subject == "fish" else None)
        new_session(store, world.space(), config=config(server)).run()
        told += store.generations(store.session("one").id)[-1].metrics["problems"]
        server.answer = answers(lambda *_: Response(401, quoted))
        with pytest.raises(ModelUnavailable) as caught:
            new_session(store, world.space(), "two", config(server)).run()
        told.append(str(caught.value))
        assert {one["authorization"] for one in server.headers} == {f"Bearer {key}"}
    with sqlite3.connect(path) as database:
        told += [str(line) for line in database.iterdump()]
    told += capfd.readouterr()
    assert any("fish: " in one for one in told)
    assert not [one for one in told if key in one or "Zq81" in one]


@pytest.mark.parametrize("llm", ["openai:tiny", "lexicon"])
def test_an_address_with_a_password_is_refused(llm: str) -> None:
    for address in ("http://me:secret@127.0.0.1:8000/v1", "http://127.0.0.1/v1?api_key=secret"):
        with pytest.raises(SetupError, match="keys come from the environment") as caught:
            check_settings(RefineConfig(llm=llm).model_copy(update={"base_url": address}), seed=0)
        assert "secret" not in str(caught.value)
    with pytest.raises(ValidationError) as refused:
        RefineConfig(llm=llm, base_url="http://me:secret@127.0.0.1:8000/v1")
    assert "secret" not in str(refused.value)
