"""The lexicon: a chat model that is not a language model, but a deterministic combiner of words.

It needs no server, no key and no weights, so the loop can be run, tested and demonstrated anywhere; and it is the
control that a real language model has to beat. What it says is decided in agents.lexicon.combine.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable

from agents.lexicon.combine import propose, reflect
from agents.prompts.briefing import ClassBriefing, read_briefing
from evaluation.antibodies.vocabulary import Vocabulary
from immuno_core.errors import SetupError
from immuno_core.records import text_digest


class LexiconChatModel(BaseChatModel):
    """Answers a briefing by combining words of the vocabulary with the words it is shown. It is not an LLM.

    It goes through the very messages that a language model gets: it reads the "```json" block in the last human
    message, and answers with the JSON that is asked for. What it says depends on `seed`, `vocabulary` and the
    messages alone: on no global state, no clock, no hash seed.
    """

    seed: int
    vocabulary: Vocabulary

    @property
    def _llm_type(self) -> str:
        return "lexicon"

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,  # noqa: ARG002 - LangChain's signature
        run_manager: CallbackManagerForLLMRun | None = None,  # noqa: ARG002
        **kwargs: Any,  # noqa: ARG002
    ) -> ChatResult:
        message = AIMessage(content=self._reply(messages))
        return ChatResult(generations=[ChatGeneration(message=message)])

    def _reply(self, messages: Sequence[BaseMessage]) -> str:
        prompts = [str(message.text) for message in messages if message.type == "human"]
        briefing = read_briefing(prompts[-1]) if prompts else None
        if briefing is None:
            raise SetupError(
                "the lexicon model found no briefing in its prompt; a prompt must hold {briefing} in a ```json block"
            )
        key = text_digest(str(self.seed), *(f"{message.type}: {message.text}" for message in messages))
        if isinstance(briefing, ClassBriefing):
            named = propose(briefing, self.vocabulary, key)._asdict()
            return json.dumps({name: phrases for name, phrases in named.items() if phrases}, ensure_ascii=False)
        return reflect(briefing, self.vocabulary).model_dump_json()

    def with_structured_output(
        self,
        schema: dict[str, Any] | type,  # noqa: ARG002
        *,
        include_raw: bool = False,  # noqa: ARG002
        **kwargs: Any,  # noqa: ARG002
    ) -> Runnable[LanguageModelInput, Any]:
        """Return the model itself: every reply of the lexicon is JSON of the form that is asked for."""
        return self
