"""Every command and the Python of docs/service.md run as they stand, but for their ports."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.immuno.shield.conftest import Made
from tests.pages import ROOT, blocks

PAGE = "docs/service.md"


@pytest.mark.long
@pytest.mark.skipif(not shutil.which("curl") or not shutil.which("openssl"), reason="needs curl and openssl")
def test_the_page_runs(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("IMMUNO_TOKEN", raising=False)
    shutil.copytree(made.shield, tmp_path / "runs" / "shield")
    (tmp_path / "pictures").mkdir()
    for name, path in zip("ab", sorted((made.images / "sealed").rglob("*.png")), strict=False):
        shutil.copy(path, tmp_path / "pictures" / f"{name}.png")
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        ports = {"8080": str(one.getsockname()[1]), "8443": str(other.getsockname()[1])}
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    answers, served = [], []
    with ExitStack() as stack:
        for language, text, _ in blocks(PAGE, "sh", "python"):
            for port, free in ports.items():
                text = text.replace(port, free)
            if language == "python":
                exec(compile(text, PAGE, "exec"), {})  # noqa: S102 - our own page
                continue
            for line in text.splitlines():
                words = shlex.split(line, comments=True)
                if words[:3] == ["immuno", "guard", "serve"]:
                    command = [sys.executable, "-m", *words, *(() if "--port" in words else ("--port", ports["8080"]))]
                    process = stack.enter_context(
                        subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
                    )
                    stack.callback(process.send_signal, signal.SIGTERM)
                    assert process.stderr is not None
                    assert process.stderr.readline().startswith("serving runs/shield on http://")
                    assert process.stderr.readline() == "ready\n"
                    served.append(process)
                elif words and words[0] in ("curl", "openssl"):
                    done = subprocess.run(["bash", "-ec", line], capture_output=True, text=True, check=True)
                    answers.append(done.stdout)
    assert len(served) == 2
    judged = [answer for answer in answers if answer.startswith('{"shield": "')]
    assert [answer.count('"outcome"') for answer in judged] == [2, 1, 0]
    assert "immuno_images_total" in answers[2]
    assert not [answer for answer in answers if "error" in answer]
    (line,) = capsys.readouterr().out.splitlines()
    assert line.split()[0] in ("accepted", "rejected", "review")
