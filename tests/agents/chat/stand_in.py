"""A chat model behind real HTTP that answers as the lexicon does, unless the test has something worse to say."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from langchain_core.messages import HumanMessage

from agents.lexicon.model import LexiconChatModel
from agents.prompts.briefing import ClassBriefing, read_briefing
from evaluation.antibodies.vocabulary import load_vocabulary
from immuno_core.config.refine import RefineConfig
from tests.agents.test_session import CONFIG

from .chat_server import ChatServer, Response, completion

LEXICON = LexiconChatModel(seed=0, vocabulary=load_vocabulary())
Worse = Callable[[str, dict[str, Any]], Response | None]
"""Given the class ("" for reflection) and the request: what to send instead; None for the lexicon's answer."""


def config(server: ChatServer, **changes: Any) -> RefineConfig:
    """One generation of the word world with the model behind the server."""
    own = {"llm": "openai:tiny", "base_url": server.address, "generations": 1, "timeout": 30.0, "retries": 1}
    own |= {"maturation": False, "visual": False, "pruning": False}  # what is stored is then what was proposed
    return CONFIG.model_copy(update=own | changes)


def prompt_of(asked: dict[str, Any]) -> str:
    """The text of the request's message."""
    content = asked["messages"][0]["content"]
    return content if isinstance(content, str) else content[0]["text"]


def subject_of(asked: dict[str, Any]) -> str:
    """The class that a request is about; "" for a reflection."""
    briefing = read_briefing(prompt_of(asked))
    return briefing.class_name if isinstance(briefing, ClassBriefing) else ""


def lexicon_says(asked: dict[str, Any]) -> str:
    """The lexicon's reply to a request."""
    return str(LEXICON.invoke([HumanMessage(prompt_of(asked))]).content)


def answers(worse: Worse = lambda *_: None) -> Callable[[dict[str, Any]], Response]:
    """What the server answers: as the lexicon, except where `worse` has something."""

    def answer(asked: dict[str, Any]) -> Response:
        return worse(subject_of(asked), asked) or completion(lexicon_says(asked))

    return answer


def to_fish(reply: Response) -> Callable[[dict[str, Any]], Response]:
    """Send this to the requests for the class "fish", and only to those."""
    return answers(lambda subject, _: reply if subject == "fish" else None)


def proposing(*texts: str, kind: str = "look_alike") -> Response:
    """A well-formed reply that proposes these texts."""
    items = [{"text": text, "kind": kind, "rationale": "why not"} for text in texts]
    return completion(json.dumps({"antibodies": items}))
