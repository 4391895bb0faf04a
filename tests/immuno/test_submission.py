"""What is checked before a job is sent: the command, its configuration, and what Ray would make of the checkout."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from cluster import jobs
from cluster.jobs import WorkingDir, dashboard_address
from immuno.cli import main
from immuno.cli.submit import prepare, secrets
from immuno_core.errors import SetupError
from tests.configs import write_config


def config_of(path: Path, known: str) -> None:
    write_config(path, data={"id": known, "ood": {"near": "miniworld"}})


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What looks like one, with a good configuration, one that git ignores, and data within."""
    folder = tmp_path / "checkout"
    for name in ("immuno/__main__.py", "data/cat/1.png", "shown/cat/1.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")
    for name, images in (
        ("configs/own.toml", "/far/away"),
        ("configs/shown.toml", "../shown"),
        ("configs/data.toml", "../data"),
        ("runs/mine.toml", "/x"),
    ):
        config_of(folder / name, images)
    (folder / ".gitignore").write_text("/runs/\n__pycache__/\n")
    (folder / ".rayignore").write_text("data\n")
    return folder


def refusal(arguments: str, folder: Path, **options: object) -> str:
    with pytest.raises(SetupError) as told:
        prepare(shlex.split(arguments), working_dir=folder, **options)  # type: ignore[arg-type]
    assert "\n" not in str(told.value)
    return str(told.value)


def test_a_command_that_is_well_is_sent_as_it_is(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", "/shared/hf")
    env = ("HF_HOME", "A=b=c", "MY_API_KEY=1")
    sent = prepare(("bench", "configs/own.toml", "--settle"), working_dir=checkout, out="/shared/runs", env=env)
    assert sent.command == ("python", "-m", "immuno", "bench", "configs/own.toml", "--settle")
    assert sent.env_vars.items() >= {"HF_HOME": "/shared/hf", "A": "b=c", "IMMUNO_RUNS": "/shared/runs"}.items()
    assert secrets(sent) == ("MY_API_KEY",)
    shown = sent.command_line("http://head:8265")
    assert "/shared/hf" not in shown  # for all that is known here, it is a secret
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    line = subprocess.check_output(["sh", "-c", f"printf '%s\\n' {shown}"], text=True).splitlines()
    head = ["ray", "job", "submit", "--address", "http://head:8265", "--working-dir", str(checkout)]
    assert line[:7] == head
    assert json.loads(line[8]) == {"env_vars": sent.env_vars}
    assert line[9:] == ["--", *sent.command]
    assert prepare(("refine", "start", "configs/shown.toml", "--session", "x"), working_dir=checkout).arguments
    assert prepare(("doctor",), working_dir=checkout).arguments == ("doctor",)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "the job has no command; write it behind --"),
        ("bnech configs/own.toml", "no command 'bnech'; did you mean 'bench'?"),
        ("submit -- doctor", "a job that submits jobs"),
        ("bench configs/none.toml", "no configuration file at {folder}/configs/none.toml"),
        ("bench runs/mine.toml", "the configuration runs/mine.toml would not go with the job (.gitignore says so)"),
        ("bench configs/data.toml", "data.id data would not go with the job (.rayignore says so)"),
        ("bench configs/own.toml --seeds 1", "--seeds 1: give two or more"),
        ("embed configs/own.toml runs/mine.toml", "the configuration runs/mine.toml would not go with the job"),
    ],
)
def test_a_command_that_would_fail_there_is_refused_here(checkout: Path, arguments: str, message: str) -> None:
    assert message.format(folder=checkout) in refusal(arguments, checkout)


def test_a_configuration_outside_the_checkout_or_wrong_is_refused(checkout: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.toml"
    config_of(elsewhere, "/x")
    assert f"{elsewhere} lies outside {checkout}" in refusal(f"bench {elsewhere}", checkout)
    write_config(checkout / "configs" / "own.toml", encoder={"modle": "miniworld"})
    assert "encoder" in refusal("bench configs/own.toml", checkout)


def test_folders_that_are_no_checkout_are_refused(checkout: Path, tmp_path: Path) -> None:
    assert f"there is no folder {tmp_path}/none to submit" in refusal("doctor", tmp_path / "none")
    assert f"{tmp_path} is not a checkout of immuno-vlm" in refusal("doctor", tmp_path)
    assert "--out runs is relative" in refusal("doctor", checkout, out="runs")
    assert "--env NOPE: the variable is not set here" in refusal("doctor", checkout, env=("NOPE",))
    assert "--env =x: write NAME=VALUE" in refusal("doctor", checkout, env=("=x",))


def test_a_checkout_that_is_too_large_is_refused_with_what_makes_it_so(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ray._private import ray_constants

    assert ray_constants.DASHBOARD_CLIENT_MAX_SIZE == 100 * 2**20
    monkeypatch.setattr(ray_constants, "DASHBOARD_CLIENT_MAX_SIZE", 1024 * 1024)
    (checkout / "weights").mkdir()
    (checkout / "weights" / "large.bin").write_bytes(os.urandom(2 * 1024 * 1024))
    (checkout / "weights" / "zeros.bin").write_bytes(bytes(1024 * 1024))
    (checkout / "data" / "huge.bin").write_bytes(os.urandom(3 * 1024 * 1024))  # left out: it does not count
    message = refusal("doctor", checkout)
    assert (
        f"{checkout} has 3.0 MiB in 9 files to upload, and Ray takes 1 MiB; the largest: weights/large.bin (2.0 Mi"
        in message
    )
    assert "by folder: weights/ (3.0 MiB)" in message
    assert f"Add what the job does not need to {checkout}/.rayignore" in message
    assert "huge.bin" not in message
    (checkout / "weights" / "large.bin").unlink()
    assert "1.0 MiB" in refusal("doctor", checkout)  # Ray does not compress
    (checkout / "weights" / "zeros.bin").write_bytes(bytes(1000 * 1024))
    assert 1000 * 1024 < WorkingDir(checkout).check_size() < 1024 * 1024


def test_the_files_are_those_that_ray_packs(checkout: Path, tmp_path: Path) -> None:
    """Ray's own packing is the reference: a change of its rules is found here."""
    from ray._private.ray_constants import get_runtime_env_default_excludes
    from ray._private.runtime_env.packaging import create_package

    (checkout / ".git").mkdir()
    (checkout / ".git" / "HEAD").write_text("ref")
    (checkout / "immuno" / "__pycache__").mkdir()
    (checkout / "immuno" / "__pycache__" / "x.pyc").write_text("x")
    (checkout / "configs" / ".gitignore").write_text("*.tmp\n!keep.tmp\n")
    for name in ("configs/x.tmp", "configs/keep.tmp", "venv/lib/x.py", "sub/runs/kept.txt", "immuno/empty.py"):
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).write_text("" if "empty" in name else "x")
    target = tmp_path / "package.zip"
    create_package(str(checkout), target, include_gitignore=True, excludes=get_runtime_env_default_excludes())
    with zipfile.ZipFile(target) as package:
        packed = {entry.filename: entry.file_size for entry in package.infolist() if not entry.is_dir()}
    folder = WorkingDir(checkout)
    assert {str(file.path): file.size for file in folder.files} == packed
    # Entries of folders, too, and the end of the file: what is counted may be a little less.
    assert 0 <= target.stat().st_size - folder.check_size() < 200 * len(packed)
    assert "configs/keep.tmp" in packed
    assert not {"configs/x.tmp", "data/cat/1.png", ".git/HEAD", "runs/mine.toml"} & set(packed)


def test_jobs_go_to_the_dashboard_that_is_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    assert dashboard_address(None) == "http://127.0.0.1:8265"
    monkeypatch.setenv("RAY_ADDRESS", "http://b:8265/")
    assert dashboard_address(None) == "http://b:8265"
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://c:8265")
    assert dashboard_address(None) == "http://c:8265"
    assert dashboard_address("https://d") == "https://d"
    for wrong in ("10.0.0.1:6379", "auto", "ray://head:10001"):
        with pytest.raises(SetupError, match=re.escape(f"'{wrong}' is none; give --address http://HEAD:8265")):
            dashboard_address(wrong)


def test_a_token_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "none"))
    with pytest.raises(SetupError, match=f"RAY_AUTH_TOKEN_PATH names {tmp_path}/none, which is no file"):
        jobs.check_token()
    monkeypatch.setenv("RAY_AUTH_TOKEN", "x")  # Ray takes this one first
    jobs.check_token()


class LogOfAJob:
    """A dashboard whose connection is lost now and then, and which then tells everything again."""

    def __init__(self, chunks: list[list[str] | Exception], status: str, code: int | None) -> None:
        self.chunks = chunks
        self.status, self.driver_exit_code, self.message = status, code, "exit code 3, last available logs: ..."

    async def tail_job_logs(self, job: str):
        assert job == "j"
        chunk = self.chunks.pop(0)
        if isinstance(chunk, Exception):
            raise chunk
        for text in chunk:
            yield text
        if self.chunks:
            raise RuntimeError("connection lost")

    def get_job_info(self, job: str) -> object:
        from types import SimpleNamespace

        status = SimpleNamespace(is_terminal=lambda: not self.chunks, value=self.status)
        return SimpleNamespace(status=status, driver_exit_code=self.driver_exit_code, message=self.message)


def client_of(log: LogOfAJob, monkeypatch: pytest.MonkeyPatch) -> jobs.JobClient:
    monkeypatch.setattr(jobs, "_WAIT_SECONDS", 0.0)
    client = object.__new__(jobs.JobClient)
    client.address, client._client = "http://head:8265", log  # type: ignore[misc]
    return client


@pytest.mark.parametrize(
    ("status", "code", "outcome"),
    [("SUCCEEDED", 0, 0), ("FAILED", 3, 3), ("FAILED", None, 1), ("FAILED", -9, 1), ("STOPPED", None, 1)],
)
def test_a_lost_connection_loses_and_repeats_nothing(
    monkeypatch: pytest.MonkeyPatch, status: str, code: int | None, outcome: int
) -> None:
    chunks: list[list[str] | Exception] = [
        ["one ", "two "],
        ConnectionError("no"),
        ["one two three "],
        ["one two three four"],
    ]
    written: list[str] = []
    ended = client_of(LogOfAJob(chunks, status, code), monkeypatch).follow("j", written.append)
    assert "".join(written) == "one two three four"
    assert (ended.status, ended.exit_status, ended.message) == (status, outcome, "exit code 3")


def test_a_dashboard_that_is_gone_for_good_ends_the_following_and_not_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    log = LogOfAJob([ConnectionError("no") for _ in range(20)], "RUNNING", None)
    from immuno_core.errors import ImmunoError

    with pytest.raises(ImmunoError, match="the job goes on: ray job logs --follow --address http://head:8265 j"):
        client_of(log, monkeypatch).follow("j", lambda _: None)


def test_a_dry_run_prints_what_would_be_run(
    checkout: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(checkout)
    with pytest.raises(SystemExit) as stopped:
        main(["submit", "--dry-run", "--address", "http://h:1", "--", "bench", "configs/own.toml"])
    assert stopped.value.code == 0
    line = capsys.readouterr().out.strip()
    assert line.startswith("ray job submit --address http://h:1 --working-dir ")
    assert line.endswith("-- python -m immuno bench configs/own.toml")


def test_a_jobs_results_are_not_kept_in_its_copy(tmp_path: Path) -> None:
    """In a process whose folder is one that Ray made, as it names them."""
    copy = tmp_path / "runtime_resources" / "working_dir_files" / "_ray_pkg_0123"
    copy.mkdir(parents=True)
    code = """
from pathlib import Path
from immuno.cli.options import _lasting_database
from immuno_core.paths import DEFAULT_DATABASE, lasting, runs_root
print(runs_root(), DEFAULT_DATABASE, lasting(Path("runs/x")), lasting(Path("y")), lasting(Path("/z")))
print(_lasting_database("runs/a.db"), _lasting_database("sqlite:///a.db"), _lasting_database("sqlite:////b.db"))
print(_lasting_database("postgresql://h/d"), _lasting_database(None))
"""
    root = Path(__file__).resolve().parents[2]
    python = shutil.which("python", path=str(root / ".venv" / "bin")) or "python"

    def run(**environment: str) -> list[str]:
        kept = {name: value for name, value in os.environ.items() if name not in ("IMMUNO_RUNS", "IMMUNO_DB")}
        env = kept | {"PYTHONPATH": str(root), "HOME": "/home/me"} | environment
        done = subprocess.run([python, "-c", code], cwd=copy, env=env, capture_output=True, text=True, check=True)
        return done.stdout.split()

    job = {"RAY_JOB_CONFIG_JSON_ENV_VAR": "{}"}
    home = "/home/me/immuno-runs"
    files = [f"{home}/a.db", f"sqlite:///{home}/a.db", "sqlite:////b.db", "postgresql://h/d", "None"]
    assert run(**job) == [home, f"{home}/immuno.db", f"{home}/x", f"{home}/y", "/z", *files]
    assert run(**job, IMMUNO_RUNS="/shared/runs")[:2] == ["/shared/runs", "/shared/runs/immuno.db"]
    # Elsewhere, nothing is other than it was.
    assert run()[:5] == ["runs", "runs/immuno.db", "runs/x", "y", "/z"]
    assert run(IMMUNO_RUNS="/r")[:3] == ["/r", "/r/immuno.db", "runs/x"]
