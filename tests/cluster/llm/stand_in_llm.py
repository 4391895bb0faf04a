"""A stand-in for vLLM, as a program: takes its options, answers (an empty object to any chat), fails as it is told.

python stand_in_llm.py MODEL --served-model-name NAME --host H --port P [--crash] [--slow S] ...
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--served-model-name", required=True)
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--crash", action="store_true", help="end while starting")
    parser.add_argument("--once", type=Path, help="end while starting, unless this file is absent: it is made then")
    parser.add_argument("--slow", type=float, default=0.0, help="seconds until /health is well")
    parser.add_argument("--after", type=Path, help="listen when this file is there")
    parser.add_argument("--deaf", action="store_true", help="do not end by SIGTERM")
    parser.add_argument("--child", type=Path, help="start a child that ignores SIGTERM, and write its pid here")
    parser.add_argument("--tensor-parallel-size", type=int, default=1)
    options = parser.parse_args()
    print(f"\x1b[32mloading {options.model} with {json.dumps(vars(options), default=str)}\x1b[0m", flush=True)
    print(f"environment: {json.dumps({name: os.environ.get(name) for name in SHOWN})}", flush=True)
    if options.child:
        code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
        options.child.write_text(str(subprocess.Popen([sys.executable, "-c", code]).pid))
    if options.crash or (options.once and options.once.exists()):
        sys.exit("torch.OutOfMemoryError: CUDA out of memory")
    if options.once:
        options.once.touch()
    if options.deaf:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while options.after and not options.after.exists():
        time.sleep(0.02)
    ready_at = time.monotonic() + options.slow

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if time.monotonic() < ready_at:
                self.send_error(503)
                return
            self.answer({"data": [{"id": options.served_model_name}]})

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            message = {"role": "assistant", "content": "{}"}
            choice = {"index": 0, "finish_reason": "stop", "message": message}
            usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
            head = {"id": "1", "object": "chat.completion", "created": 0, "model": asked["model"]}
            self.answer({**head, "choices": [choice], "usage": usage})

        def answer(self, value: object) -> None:
            body = json.dumps(value).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    ThreadingHTTPServer((options.host, options.port), Handler).serve_forever()


SHOWN = ("CUDA_VISIBLE_DEVICES", "PYTHONPATH", "VLLM_NO_USAGE_STATS", "OF_THE_TEST")

if __name__ == "__main__":
    main()
