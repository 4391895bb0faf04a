"""Measures what a session sends, and how fast many requests are asked and recorded: agents.chat against a local server.

    python benchmarks/chat.py                                  # 1,000 classes x 10 proposals, concurrency 16
    python benchmarks/chat.py --concurrency 1 8 16 32 --json
    python benchmarks/chat.py --concurrency                    # what a session sends, alone

The server is a process of its own on 127.0.0.1, speaks HTTP as vLLM does, and answers after --latency seconds, however
many ask at once. Every reply has --proposals antibodies, is read against the schema, and is recorded in a SQLite file
with a commit that survives a power cut. Prints, for each concurrency,

- ideal: concurrency / latency, the requests per second if nothing but the server took time;
- rate, and rate / ideal;
- alone: the same requests asked one after another with the same client (a few, scaled up), and rate / alone;
- memory: the process's resident size after the last round of requests divided by that after the first. --rounds of
  --classes requests are asked, each a generation of its own.

Before that a session of --generations runs on the word world of the tests (four classes), against the same server
answering as the lexicon does. Printed are its calls, their tokens in and out (four characters each), and the bytes that
the server got, heads and repetitions too, over those that are needed: the JSON of each request that was recorded
(model, parameters, schema, and the prompt once), without blanks. Exit status 1 where that is more than 1.1.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any

import psutil
from langchain_core.messages import HumanMessage

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from agents import RefinementSession
from agents.chat.calls import RecordedCaller, Request
from agents.chat.models import Chat, make_chat_model
from agents.lexicon.model import LexiconChatModel
from agents.prompts.briefing import ClassBriefing, read_briefing
from agents.replies import Proposals, Reflection, Wanted, proposals_of, wire_schema
from db import LlmCallRecord, open_store
from evaluation.antibodies.vocabulary import load_vocabulary
from immuno_core.config.methods import MethodConfig
from immuno_core.config.refine import RefineConfig
from immuno_core.records import EncoderInfo
from tests.agents import word_world as world

ALONE = 20
MOST_SENT = 1.1
PROMPT = 6000
"""Characters of a prompt: as long as those of the loop."""


def _reply(proposals: int) -> bytes:
    letters = "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz"
    named = {"look_alikes": [f"thing {letters[i : i + 8]}" for i in range(proposals)]}
    return _completion(json.dumps(named), 1500, 400)


def _completion(said: str, tokens_in: int, tokens_out: int) -> bytes:
    message = {"role": "assistant", "content": said}
    body = {
        **{"id": "1", "object": "chat.completion", "created": 0, "model": "tiny"},
        "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
        "usage": {"prompt_tokens": tokens_in, "completion_tokens": tokens_out, "total_tokens": tokens_in + tokens_out},
    }
    content = json.dumps(body).encode()
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(content)}\r\n\r\n"
    return head.encode() + content


def _lexicon_reply(body: bytes) -> bytes:
    prompt = json.loads(body)["messages"][0]["content"]
    said = str(_lexicon().invoke([HumanMessage(prompt)]).content)
    return _completion(said, len(prompt) // 4, len(said) // 4)


@cache
def _lexicon() -> LexiconChatModel:
    return LexiconChatModel(seed=0, vocabulary=load_vocabulary())


def _serve(latency: float, proposals: int | None, ready: Any, received: Any) -> None:
    """Answer with so many proposals, or as the lexicon does; count the bytes of requests."""
    fixed = None if proposals is None else _reply(proposals)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(
                    int(line.split(b":")[1])
                    for line in head.lower().split(b"\r\n")
                    if line.startswith(b"content-length")
                )
                body = await reader.readexactly(length)
                received.value += len(head) + length
                await asyncio.sleep(latency)
                writer.write(fixed or _lexicon_reply(body))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def main() -> None:
        server = await asyncio.start_server(talk, "127.0.0.1", 0)
        ready.put(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(main())


@contextmanager
def server(latency: float, proposals: int | None) -> Iterator[tuple[str, Any]]:
    """A server's address, for as long as the block lasts, and the number of bytes that it got."""
    context = multiprocessing.get_context("spawn")
    ready, received = context.Queue(), context.Value("q", 0)
    process = context.Process(target=_serve, args=(latency, proposals, ready, received), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{ready.get(timeout=60)}/v1", received
    finally:
        process.terminate()
        process.join()


def _requests(classes: int, proposals: int) -> Iterator[Request[Proposals]]:
    for k in range(classes):
        prompt = f"Write antibodies of class {k}. ".ljust(PROMPT, "x")
        yield Request("propose", f"class {k}", prompt, proposals_of(Wanted(look_alikes=proposals, places=0)))


def measure_session(generations: int) -> dict[str, Any]:
    """Run a session of the stand-in model; return what it asked, and what it sent for that."""
    embedder = world.WordEmbedder()
    score = MethodConfig.model_validate({"name": "calibrated", "base": "max_cosine", "eps": 0.02})
    with (
        server(0, None) as (address, received),
        tempfile.TemporaryDirectory() as folder,
        open_store(str(Path(folder) / "immuno.db")) as store,
    ):
        config = RefineConfig(llm="openai:tiny", base_url=address, generations=generations, score=score)
        session = store.create_session("x", config={}, seed=0, git_sha=None, versions={}, encoder=embedder.encoder)
        RefinementSession(session, config, store, world.space(), embedder).run()
        calls = store.llm_calls(session.id)
        sent = received.value
    needed = sum(_needed(call, config) for call in calls)
    by_generation = {
        number: fmean(call.prompt_tokens or 0 for call in calls if call.generation == number and call.step == "propose")
        for number in sorted({call.generation for call in calls})
    }
    return {
        "calls": len(calls),
        "tokens_in": sum(call.prompt_tokens or 0 for call in calls),
        "tokens_out": sum(call.completion_tokens or 0 for call in calls),
        "tokens_in_of_a_proposal": by_generation,
        "bytes_sent": sent,
        "bytes_needed": needed,
        "sent_over_needed": sent / needed,
    }


def _needed(call: LlmCallRecord, config: RefineConfig) -> int:
    """The bytes of the JSON that asks for this, and nothing else."""
    briefing = read_briefing(call.request_text)
    schema = proposals_of(briefing.wanted) if isinstance(briefing, ClassBriefing) else Reflection
    form = {"name": schema.__name__, "schema": wire_schema(schema), "strict": True}
    asked = {
        "model": "tiny",
        "messages": [{"role": "user", "content": call.request_text}],
        **{"temperature": config.temperature, "max_completion_tokens": config.max_tokens, "seed": 0},
        "response_format": {"type": "json_schema", "json_schema": form},
    }
    return len(json.dumps(asked, ensure_ascii=False, separators=(",", ":")).encode())


def measure(address: str, concurrency: int, options: argparse.Namespace) -> dict[str, Any]:
    """Ask all rounds at one concurrency; return what is printed."""
    config = RefineConfig(llm="openai:tiny", base_url=address, concurrency=concurrency)
    model = make_chat_model(config, seed=0, vocabulary=load_vocabulary())
    encoder = EncoderInfo("none", None, 1, 1.0, 0, "fp32", "w", "p")
    process = psutil.Process()
    sizes, seconds = [], []
    with tempfile.TemporaryDirectory() as folder, open_store(str(Path(folder) / "immuno.db")) as store:
        session = store.create_session("x", config={}, seed=0, git_sha=None, versions={}, encoder=encoder)
        caller = RecordedCaller(Chat(model), config, 0, store, session.id)
        alone = RecordedCaller(Chat(model), config.model_copy(update={"concurrency": 1}), 0, store, session.id)
        alone.ask_all(0, _requests(2, options.proposals))  # connections, imports, caches
        started = time.perf_counter()
        alone.ask_all(1, _requests(ALONE, options.proposals))
        one_by_one = ALONE / (time.perf_counter() - started)
        for generation in range(2, 2 + options.rounds):
            started = time.perf_counter()
            replies = caller.ask_all(generation, _requests(options.classes, options.proposals))
            seconds.append(time.perf_counter() - started)
            sizes.append(process.memory_info().rss)
            if not all(
                reply.parsed is not None and len(reply.parsed.antibodies) == options.proposals for reply in replies
            ):
                raise SystemExit("a reply could not be read")
            del replies
    ideal = concurrency / options.latency
    rate = options.classes * options.rounds / sum(seconds)
    return {
        "concurrency": concurrency,
        "ideal": ideal,
        "rate": rate,
        "rate_over_ideal": rate / ideal,
        "rate_over_alone": rate / one_by_one,
        "memory_mib": [round(size / 2**20, 1) for size in sizes],
        "memory_last_over_first": sizes[-1] / sizes[0],
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--proposals", type=int, default=10)
    parser.add_argument("--latency", type=float, default=0.05)
    parser.add_argument("--concurrency", type=int, nargs="*", default=[16])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--generations", type=int, default=6)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    session = measure_session(options.generations)
    with server(options.latency, options.proposals) as (address, _):
        found = [measure(address, concurrency, options) for concurrency in options.concurrency]
    if options.json:
        print(json.dumps({"session": session, "requests": found}, indent=2))
    else:
        _tell(session, found, options)
    sys.exit(session["sent_over_needed"] > MOST_SENT)


def _tell(session: dict[str, Any], found: list[dict[str, Any]], options: argparse.Namespace) -> None:
    calls, tokens_in, tokens_out = (session[name] for name in ("calls", "tokens_in", "tokens_out"))
    first, *_, last = session["tokens_in_of_a_proposal"].values()
    print(
        f"a session of {options.generations} generations: {calls} calls; tokens in {tokens_in} "
        f"({tokens_in / calls:.0f} a call), out {tokens_out} ({tokens_out / calls:.0f} a call); "
        f"a proposal's in the last generation {last / first:.2f} x the first's; {session['bytes_sent']} bytes sent, "
        f"{session['sent_over_needed']:.3f} x those needed"
    )
    if not found:
        return
    print(f"{options.classes} classes x {options.proposals} proposals, latency {1000 * options.latency:.0f} ms")
    for one in found:
        print(
            f"concurrency {one['concurrency']:3d}: {one['rate']:6.1f} requests/s, ideal {one['ideal']:6.1f}: "
            f"{one['rate_over_ideal']:.2f} x ideal, {one['rate_over_alone']:.1f} x one by one; "
            f"memory after the last of {options.rounds} rounds {one['memory_last_over_first']:.3f} x after the first"
        )


if __name__ == "__main__":
    main()
