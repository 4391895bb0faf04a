"""Serves the small language model, and records the session that tests/agents/test_recorded_session.py replays.

python -m tests.llm.record        # make record-llm builds what it needs
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agents.chat.recordings import RecordedCall, write_recording
from db.store import open_store
from tests.agents import word_world as world
from tests.agents.test_recorded_session import CALLS, OF_RECORDING, OUTCOME, outcome
from tests.agents.test_session import new_session

PYTHON = Path(__file__).resolve().parents[2] / ".venv-llm" / "bin" / "python"
"""The environment that `make test-llm` builds."""
ASKED = {"llm": "openai:gemma", "concurrency": 1, "retries": 0, "max_tokens": 600, "timeout": 900.0}
"""How the model is asked, by the names of [refine]: one request after another, and long replies are cut."""


@contextmanager
def served() -> Iterator[str]:
    """The address of the model, for as long as the block lasts."""
    if not PYTHON.exists():
        raise SystemExit("the language model has an environment of its own: run make test-llm or make record-llm")
    command = ["nice", str(PYTHON), str(Path(__file__).with_name("serve.py")), str(PYTHON.parents[1])]
    with (
        tempfile.TemporaryFile("w+") as log,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True) as server,
    ):
        assert server.stdout is not None
        said = next((line for line in server.stdout if line.startswith("http")), "")
        try:
            if not said:
                log.seek(0)
                raise SystemExit(f"the language model's server does not start:\n{log.read()[-2000:]}")
            yield said.strip()
        finally:
            server.terminate()


def main() -> int:
    """Record."""
    with served() as address, tempfile.TemporaryDirectory() as folder, open_store(f"{folder}/immuno.db") as store:
        config = OF_RECORDING.model_copy(update={**ASKED, "base_url": address})
        session = new_session(store, world.space(), config=config)
        session.run()
        CALLS.parent.mkdir(exist_ok=True)
        count = write_recording(CALLS, map(RecordedCall.of, store.llm_calls(session.record.id)))
        OUTCOME.write_text(json.dumps(outcome(session), indent=0) + "\n")
    print(f"{count} calls in {CALLS}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
