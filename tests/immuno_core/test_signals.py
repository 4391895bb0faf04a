"""A signal that asks a program to end is neither lost nor late; what must not see it does not."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from immuno_core.system.signals import Stopped, held_back


def test_ctrl_c_waits_until_the_block_is_left() -> None:
    passed = []

    def interrupted() -> None:
        with held_back():
            signal.raise_signal(signal.SIGINT)
            passed.append("the rest of the block")

    with pytest.raises(Stopped):
        interrupted()
    assert passed
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with held_back():  # what came is forgotten
        pass


def test_a_second_ctrl_c_does_not_wait() -> None:
    def interrupted() -> None:
        with held_back():
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            pytest.fail("went on")

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


PROGRAM = """
import os, signal, sys, time
from immuno_core.system.signals import Stopped, held_back, listen, stopped_status

signal.signal(signal.SIGHUP, signal.SIG_DFL)  # which nohup has ignored
listen()
def send(name):
    os.kill(os.getpid(), getattr(signal, name))

class Dying:
    def __del__(self):
        send("SIGINT")
        time.sleep(0.01)

class Lock:
    taken = 0
    def acquire(self):
        self.taken += 1
        os.kill(os.getpid(), signal.SIGINT)
    def __enter__(self):
        self.acquire()
    def __exit__(self, *_):
        self.taken -= 1

lock = Lock()
try:
    {body}
    time.sleep(5)
    print("went on")
except KeyboardInterrupt:
    print("stopped", stopped_status(), lock.taken, flush=True)
    {after}
"""

SWALLOWING = """
import os, signal
try:
    os.kill(os.getpid(), signal.SIGINT)
    sum(range(9))
except BaseException:
    pass
"""


@pytest.mark.parametrize(
    ("body", "after", "said", "status"),
    [
        ("send('SIGTERM')", "", "stopped 143 0", 0),
        ("send('SIGHUP')", "", "stopped 129 0", 0),
        ("Dying()", "", "stopped 130 0", 0),
        ("lock.__enter__(); lock.__exit__()", "", "stopped 130 0", 0),
        ("sys.path.insert(0, sys.argv[1]); import swallowing", "", "stopped 130 0", 0),
        ("send('SIGINT')", "send('SIGINT'); print('went on')", "stopped 130 0", -signal.SIGINT),
        # Ray sets a handler of its own for SIGTERM.
        ("\n    with held_back(): signal.signal(signal.SIGTERM, print)\n    send('SIGTERM')", "", "stopped 143 0", 0),
        (
            "\n    with held_back(): send('SIGTERM'); signal.signal(signal.SIGTERM, print)",
            "send('SIGTERM'); print('went on')",
            "stopped 143 0",
            -signal.SIGTERM,
        ),
    ],
    ids=["SIGTERM", "SIGHUP", "in __del__", "at a lock", "in an import", "twice", "overridden", "held back, twice"],
)
def test_a_program_hears_every_signal_once(tmp_path: Path, body: str, after: str, said: str, status: int) -> None:
    (tmp_path / "swallowing.py").write_text(SWALLOWING)
    program = PROGRAM.format(body=body, after=after or "pass")
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, timeout=20, check=False
    )
    assert (done.stdout.splitlines(), done.returncode, done.stderr) == ([said], status, "")


def test_what_is_ignored_stays_ignored() -> None:
    code = (
        "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN); from immuno_core.system.signals import listen; "
        "listen(); signal.raise_signal(signal.SIGHUP); print('goes on')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20, check=False)
    assert (done.stdout, done.returncode) == ("goes on\n", 0)
