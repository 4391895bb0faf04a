"""A script between the actor and its server: ends the server, and all its children, when the actor is gone.

    python -I llm_guard.py LOG GRACE_SECONDS COMMAND ...

Standard input is a pipe that the actor holds open. When it closes, because the actor wants the server to stop or has
died in whatever way, the server is sent SIGTERM, and what is left of its process group after GRACE_SECONDS is killed.
Standard output tells "pid N", then "exit STATUS"; or "error ..." where the program cannot be started.

Uses the standard library alone, and imports nothing of this checkout.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

_LOOK_SECONDS = 0.2


def main() -> None:
    """Run the command and tell how it went."""
    log, grace, *command = sys.argv[1:]
    # Ray kills the children of a worker that ends, with SIGKILL: this process has to be nobody's child.
    if os.fork():
        os._exit(0)
    try:
        with Path(log).open("ab", buffering=0) as file:
            server = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
            )
    except OSError as error:
        _tell(f"error {error}")
        return
    _tell(f"pid {server.pid}")
    while server.poll() is None:
        if select.select([sys.stdin], [], [], _LOOK_SECONDS)[0]:  # nothing is ever written: it was closed
            server.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(float(grace))
            break
    # Its workers, which hold the GPU's memory, outlive a server that was killed.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(server.pid, signal.SIGKILL)
    _tell(f"exit {server.wait()}")


def _tell(line: str) -> None:
    with contextlib.suppress(OSError):  # nobody listens any more
        print(line, flush=True)  # noqa: T201 - standard output is where the actor reads


if __name__ == "__main__":
    main()
