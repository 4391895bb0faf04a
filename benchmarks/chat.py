"""Measures how fast many requests are asked and recorded: agents.chat.calls against a local server (50 ms each).

    python benchmarks/chat.py                                  # 1,000 classes x 10 proposals, concurrency 16
    python benchmarks/chat.py --concurrency 1 8 16 32 --json

The server is a process of its own on 127.0.0.1, speaks HTTP as vLLM does, and answers after --latency seconds, however
many ask at once. Every reply has --proposals antibodies, is read against the schema, and is recorded in a SQLite file
with a commit that survives a power cut. Prints, for each concurrency,

- ideal: concurrency / latency, the requests per second if nothing but the server took time;
- rate, and rate / ideal;
- alone: the same requests asked one after another with the same client (a few, scaled up), and rate / alone;
- memory: the process's resident size after the last round of requests divided by that after the first. --rounds of
  --classes requests are asked, each a generation of its own.
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
from pathlib import Path
from typing import Any

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from agents.chat.calls import RecordedCaller, Request
from agents.chat.models import Chat, make_chat_model
from agents.replies import Proposals, Wanted, proposals_of
from db import open_store
from evaluation.antibodies.vocabulary import load_vocabulary
from immuno_core.config.refine import RefineConfig
from immuno_core.records import EncoderInfo

ALONE = 20
PROMPT = 6000
"""Characters of a prompt: as long as those of the loop."""


def _reply(proposals: int) -> bytes:
    letters = "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz"
    named = {"look_alikes": [f"thing {letters[i : i + 8]}" for i in range(proposals)]}
    message = {"role": "assistant", "content": json.dumps(named)}
    body = {
        **{"id": "1", "object": "chat.completion", "created": 0, "model": "tiny"},
        "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
        "usage": {"prompt_tokens": 1500, "completion_tokens": 400, "total_tokens": 1900},
    }
    content = json.dumps(body).encode()
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(content)}\r\n\r\n"
    return head.encode() + content


def _serve(latency: float, proposals: int, ready: Any) -> None:
    answer = _reply(proposals)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(
                    int(line.split(b":")[1])
                    for line in head.lower().split(b"\r\n")
                    if line.startswith(b"content-length")
                )
                await reader.readexactly(length)
                await asyncio.sleep(latency)
                writer.write(answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def main() -> None:
        server = await asyncio.start_server(talk, "127.0.0.1", 0)
        ready.put(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(main())


@contextmanager
def server(latency: float, proposals: int) -> Iterator[str]:
    """A server's address, for as long as the block lasts."""
    context = multiprocessing.get_context("spawn")
    ready = context.Queue()
    process = context.Process(target=_serve, args=(latency, proposals, ready), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{ready.get(timeout=60)}/v1"
    finally:
        process.terminate()
        process.join()


def _requests(classes: int, proposals: int) -> Iterator[Request[Proposals]]:
    for k in range(classes):
        prompt = f"Write antibodies of class {k}. ".ljust(PROMPT, "x")
        yield Request("propose", f"class {k}", prompt, proposals_of(Wanted(look_alikes=proposals, places=0)))


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
    parser.add_argument("--concurrency", type=int, nargs="+", default=[16])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with server(options.latency, options.proposals) as address:
        found = [measure(address, concurrency, options) for concurrency in options.concurrency]
    if options.json:
        print(json.dumps(found, indent=2))
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
