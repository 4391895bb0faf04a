"""Calls of the chat model: many at once, recorded as they come, and replayed when an interrupted generation runs again.

A reply that was paid for is never asked for twice: session, generation, step, subject and a digest of all that could
change the reply name a call. Where another version asks something else, both calls stay on record. Answers come back in
the order of the requests, so that nothing depends on which was answered first.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Generic, Literal, Protocol

from langchain_core.messages import HumanMessage

from agents.chat.failures import ModelUnavailable
from agents.chat.line import Line
from agents.chat.models import Chat
from agents.chat.pacing import Pacer, side_by_side
from agents.chat.recordings import call_place, request_text
from agents.replies import Reply, Schema, parse_reply, wire_schema
from db import AntibodyStore, CallDraft, StoredReply, find_calls, find_replies, record_calls
from evaluation.antibodies.captions import Captions
from immuno_core.config.refine import RefineConfig
from immuno_core.errors import SetupError
from immuno_core.records import text_digest

_LOOKED_UP_AT_ONCE = 64
_FEWEST_FAILURES = 8
"""So many requests in a row without an answer, and at least as many as run at once, mean that the server is gone."""
_IMAGE = "data:image/"
UNCOUNTED = "the chat model counted no tokens"


@dataclass(frozen=True, slots=True)
class Request(Generic[Schema]):
    """What the model is asked. `subject` tells the requests of one step apart: the class, or "" where there is one.

    `images` are data URLs (data:image/png;base64,...), for models that see. Raises SetupError for any other address:
    a server must not be made to fetch something.
    """

    step: str
    subject: str
    prompt: str
    schema: type[Schema]
    images: tuple[str, ...] = ()
    captions: Captions | None = None
    """What the things and places of the reply are put into."""

    def __post_init__(self) -> None:
        if not all(image.startswith(_IMAGE) for image in self.images):
            raise SetupError(f"an image of the request for '{self.subject}' is no data URL ({_IMAGE}...)")

    def message(self, generation: int) -> HumanMessage:
        """Return the one message that is sent."""
        place = call_place(generation, self.step, self.subject)
        if not self.images:
            return HumanMessage(self.prompt, id=place)
        images = [{"type": "image_url", "image_url": {"url": image}} for image in self.images]
        return HumanMessage([{"type": "text", "text": self.prompt}, *images], id=place)


class Caller(Protocol):
    """Asks the chat model; what the graph's nodes see of it."""

    def ask_all(self, generation: int, requests: Iterable[Request[Schema]]) -> tuple[Reply[Schema], ...]:
        """Return one reply for each request, in their order; a request that fails costs only itself.

        Raises ModelUnavailable when none was answered, or when the server stops answering.
        """
        ...


@dataclass(frozen=True, slots=True)
class RecordedCaller:
    """Asks the model, as many requests at once as the configuration says, and records every reply in the database."""

    chat: Chat
    config: RefineConfig
    seed: int
    store: AntibodyStore
    session_id: str

    def ask_all(self, generation: int, requests: Iterable[Request[Schema]]) -> tuple[Reply[Schema], ...]:
        """Return the recorded reply to each request, or ask for one."""
        replies: dict[int, Reply[Schema]] = {}
        in_a_row = 0
        last: ModelUnavailable | None = None
        limit = max(_FEWEST_FAILURES, self.config.concurrency)
        pacer, line = Pacer(retries=self.config.retries), Line()
        answered: dict[str, tuple[Request[Schema], Reply[Schema]]] = {}

        def ask(request: Request[Schema]) -> Reply[Schema] | ModelUnavailable:
            if isinstance(reply := self._ask(generation, request, pacer, line), Reply):
                answered[request.subject] = request, reply
            return reply

        groups = side_by_side(
            lambda looked_up: looked_up[1] or ask(looked_up[0]),
            self._looked_up(generation, requests),
            workers=self.config.concurrency,
        )
        try:
            for group in groups:
                # What was answered is recorded before anything is decided about what was not.
                self._record(
                    generation, [(request, reply) for _, (request, _), reply in group if isinstance(reply, Reply)]
                )
                for index, (request, _), reply in group:
                    answered.pop(request.subject, None)
                    if isinstance(reply, ModelUnavailable):
                        last, in_a_row = reply, in_a_row + 1
                        replies[index] = Reply(None, (str(reply),), source="nobody")
                    else:
                        in_a_row = in_a_row if reply.source == "recording" else 0
                        replies[index] = replace(
                            reply, raw_text="", problems=(*reply.problems, *self._uncounted(reply))
                        )
                    if last is not None and (last.for_all or in_a_row >= limit):
                        raise last
        except BaseException:
            pacer.stop()
            line.cut()
            groups.close()
            # What had come by then was paid for too.
            self._record(generation, list(answered.values()))
            raise
        finally:
            self.chat.hang_up()
        if last is not None and all(reply.source == "nobody" for reply in replies.values()):
            raise last
        return tuple(replies[index] for index in range(len(replies)))

    def _looked_up(
        self, generation: int, requests: Iterable[Request[Schema]]
    ) -> Iterator[tuple[Request[Schema], Reply[Schema] | None]]:
        """Yield each request with its reply where one is stored."""
        source = iter(requests)
        while batch := list(islice(source, _LOOKED_UP_AT_ONCE)):
            digests = {request.subject: self.digest(request) for request in batch}
            known = find_calls(self.store, self.session_id, generation, batch[0].step, list(digests))
            missing = [digest for subject, digest in digests.items() if (subject, digest) not in known]
            elsewhere = find_replies(self.store, missing) if self._reuses else {}
            for request in batch:
                digest = digests[request.subject]
                if (request.subject, digest) in known:
                    yield request, _read_again(known[request.subject, digest], request, "recording")
                elif digest in elsewhere:
                    yield request, _read_again(elsewhere[digest], request, "earlier")
                else:
                    yield request, None

    def _ask(
        self, generation: int, request: Request[Schema], pacer: Pacer, line: Line
    ) -> Reply[Schema] | ModelUnavailable:
        """Ask, in a thread of its own; a request that gets no reply is no exception here."""

        def once() -> Reply[Schema]:
            started = time.monotonic()
            reply = self.chat.ask([request.message(generation)], request.schema, line, request.captions)
            return replace(reply, seconds=time.monotonic() - started)

        try:
            return pacer.ask(once)
        except ModelUnavailable as failure:
            return failure

    def digest(self, request: Request[Schema]) -> str:
        """Return what names everything that could change the reply: the model, its parameters, message and schema.

        Not the server's address: a model that moved is the same model, and its replies are replayed.
        """
        sent = [request.prompt, *request.images]
        return text_digest(
            self.config.llm, *(_canonical(part) for part in (self._parameters, sent, wire_schema(request.schema)))
        )

    @property
    def _parameters(self) -> dict[str, Any]:
        """What is asked for besides message and schema."""
        config = self.config
        return {
            "temperature": config.temperature,
            "max_tokens": config.max_tokens,
            "seed": self.seed,
            "structured": config.structured,
        }

    def _uncounted(self, reply: Reply[Any]) -> tuple[str, ...]:
        """What is to be said of a reply whose tokens a limit would need."""
        limits = [name for name in ("stop_after_tokens", "stop_after_cost") if getattr(self.config, name) is not None]
        if reply.source != "model" or None not in (reply.prompt_tokens, reply.completion_tokens):
            return ()
        return tuple(f"{UNCOUNTED}: {name} cannot act" for name in limits)

    def _cost(self, reply: Reply[Any]) -> float | None:
        """What a call cost, in dollars; None where no price was given or no tokens were counted."""
        price = self.config.price
        if price is None or reply.prompt_tokens is None or reply.completion_tokens is None:
            return None
        return (reply.prompt_tokens * price.input + reply.completion_tokens * price.output) / 1e6

    @property
    def _reuses(self) -> bool:
        """Whether the same request of another session answers this one."""
        config = self.config
        return config.temperature == 0 if config.reuse is None else config.reuse

    def _record(self, generation: int, group: Sequence[tuple[Request[Schema], Reply[Schema]]]) -> None:
        """Record replies. A request that got none is not recorded: it would be replayed, not tried again."""
        drafts = [
            CallDraft(
                generation=generation,
                step=request.step,
                subject=request.subject,
                request_digest=self.digest(request),
                request_text=request_text(request.prompt, request.images),
                reply_text=reply.raw_text,
                model=self.config.llm,
                parameters=self._parameters,
                prompt_tokens=reply.prompt_tokens,
                completion_tokens=reply.completion_tokens,
                reused=reply.source == "earlier",
                cost_usd=self._cost(reply) if reply.source == "model" else None,
                seconds=round(reply.seconds, 4) if reply.source == "model" else None,
            )
            for request, reply in group
            if reply.source != "recording"
        ]
        if drafts:
            record_calls(self.store, self.session_id, drafts)


def _read_again(
    stored: StoredReply, request: Request[Schema], source: Literal["recording", "earlier"]
) -> Reply[Schema]:
    return replace(
        parse_reply(stored.reply_text, request.schema, request.captions),
        raw_text=stored.reply_text,
        prompt_tokens=stored.prompt_tokens,
        completion_tokens=stored.completion_tokens,
        source=source,
    )


def _canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
