"""Python processes of their own, for tests of several at once and of such as are killed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]


def start(script: str, *arguments: str) -> subprocess.Popen[bytes]:
    """Start a process that runs the script; it gets `stdin` from `finish`."""
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def finish(processes: Sequence[subprocess.Popen[bytes]], stdin: bytes = b"") -> list[str]:
    """Give all of them their input, then wait for each: it must succeed. Return what they printed."""
    for process in processes:  # all of them get their input before any is waited for
        assert process.stdin is not None
        process.stdin.write(stdin)
        process.stdin.close()
        process.stdin = None
    printed = []
    for process in processes:
        output, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors.decode()
        printed.append(output.decode())
    return printed
