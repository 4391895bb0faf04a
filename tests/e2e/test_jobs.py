"""`ray job submit` and `immuno submit`, end to end, on a cluster that wants a token."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path

import pytest

from db.store import open_store
from evaluation.miniworld import Sizes, build
from tests.configs import write_config

from .job_cluster import BIN, JobCluster, job_cluster, plain_environment

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]

ROOT = Path(__file__).resolve().parents[2]

SMALL = replace(Sizes(*[1] * len(fields(Sizes))), fit_per_class=2, test_id=16, test_near=8)


@pytest.fixture(scope="module")
def cluster() -> Iterator[JobCluster]:
    with job_cluster() as running:
        yield running


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout of its own, with two configurations: one goes with the job, one is ignored by git."""
    folder = tmp_path_factory.mktemp("jobs") / "checkout"
    world = tmp_path_factory.mktemp("world")
    build(world, seed=3, sizes=SMALL, workers=1)
    ignored = shutil.ignore_patterns("__pycache__")
    for room in ("immuno", "immuno_core", "cluster", "agents", "evaluation", "db"):
        shutil.copytree(ROOT / room, folder / room, ignore=ignored)
    for name in (".gitignore", ".rayignore"):
        shutil.copy(ROOT / name, folder / name)
    for name in ("configs/own.toml", "runs/mine.toml"):
        write_config(
            folder / name,
            seed=3,
            cluster={"num_cpus": 0.5, "actors": 1},
            data={"fit": world / "fit/id", "id": world / "test/id", "ood": {"near": world / "test/near"}},
        )
    return folder


def submit(
    checkout: Path, arguments: tuple[str, ...], env: dict[str, str], *before: str
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "immuno", "submit", *before, "--", *arguments]
    return subprocess.run(command, cwd=checkout, env=env, capture_output=True, text=True, timeout=300, check=False)


def test_ray_job_submit_runs_a_benchmark_whose_results_outlive_the_job(cluster: JobCluster, checkout: Path) -> None:
    command = [BIN / "ray", "job", "submit", "--address", cluster.address, "--working-dir", ".", "--"]
    done = subprocess.run(
        [*command, "python", "-m", "immuno", "bench", "configs/own.toml"],
        cwd=checkout, env=cluster.environment(), capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    runs = cluster.home / "immuno-runs"
    # Streamed from the job: where things go, what was measured, and where the report is.
    assert f"results and relative paths of output go to {runs} on " in done.stdout
    assert f"report: {runs}/own/report.html" in done.stdout
    results = json.loads((runs / "own" / "results.json").read_text())
    assert [row["method"] for row in results["rows"]] == ["mcm"]
    with open_store(f"sqlite:///{runs / 'immuno.db'}") as store:
        assert len(store.test_reads()) == 1


def test_immuno_submit_runs_refuses_and_passes_on_the_exit_status(cluster: JobCluster, checkout: Path) -> None:
    out = cluster.home / "elsewhere"
    options = ("--address", cluster.address, "--out", str(out), "--json")
    arguments = ("bench", "configs/own.toml", "--json", "--db", "runs/other.db")
    done = submit(checkout, arguments, cluster.environment(), *options)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["status"], said["exit_status"], said["address"]) == ("SUCCEEDED", 0, cluster.address)
    assert said["commands"]["stop"] == f"ray job stop --address {cluster.address} {said['job']}"
    assert '"method": "mcm"' in done.stderr  # the job's log
    assert (out / "own" / "results.json").exists()
    assert (out / "other.db").exists()

    failed = submit(checkout, ("db", "sessions", "--db", "/no/such.db"), cluster.environment(), *options[:2])
    assert failed.returncode == 2
    assert "error: " in failed.stdout  # the job's own line
    assert "FAILED" in failed.stderr
    assert "exit code 2" in failed.stderr


def test_ctrl_c_leaves_the_job_running(cluster: JobCluster, checkout: Path) -> None:
    command = [sys.executable, "-m", "immuno", "submit", "--address", cluster.address, "--", "doctor"]
    with subprocess.Popen(
        command, cwd=checkout, env=cluster.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        first = process.stderr.readline()
        assert first.startswith("job raysubmit_")
        process.send_signal(signal.SIGINT)
        rest = process.communicate(timeout=60)[1]
    job = first.split()[1]
    assert process.returncode == 130
    assert f"the job goes on; follow it: ray job logs --follow --address {cluster.address} {job}" in rest
    follow = [BIN / "ray", "job", "logs", "--follow", "--address", cluster.address, job]
    done = subprocess.run(
        follow, env=cluster.environment(), capture_output=True, text=True, timeout=120, check=True
    )  # fmt: skip
    assert "mini-world model" in done.stdout
    status = [BIN / "ray", "job", "status", "--address", cluster.address, job]
    done = subprocess.run(status, env=cluster.environment(), capture_output=True, text=True, timeout=60, check=True)
    assert "succeeded" in done.stdout.lower()


def test_what_is_wrong_is_said_before_anything_is_sent(cluster: JobCluster, checkout: Path, tmp_path: Path) -> None:
    good, here = ("bench", "configs/own.toml"), ("--address", cluster.address)
    other = tmp_path / "token"
    other.write_text("0" * 64)
    stranger = plain_environment() | {"RAY_AUTH_MODE": "disabled", "HOME": str(tmp_path)}
    wrong = cluster.environment() | {"RAY_AUTH_TOKEN_PATH": str(other)}
    absent = cluster.environment() | {"RAY_AUTH_TOKEN_PATH": str(tmp_path / "none")}
    cases = [
        (good, stranger, here, f"the cluster at {cluster.address} asks for its token: set RAY_AUTH_MODE=token"),
        (good, wrong, here, f"the cluster at {cluster.address} does not take the token in {other}"),
        (good, absent, here, f"RAY_AUTH_TOKEN_PATH names {tmp_path}/none, which is no file"),
        (good, stranger, ("--address", "http://127.0.0.1:1"), "no Ray dashboard answers at http://127.0.0.1:1"),
        (
            good,
            stranger,
            ("--address", cluster.gcs),
            f"dashboard, and '{cluster.gcs}' is none; give --address http://HE",
        ),
    ]
    for arguments, env, options, message in cases:
        done = submit(checkout, arguments, env, *options)
        assert done.returncode == 2, done.stderr
        assert not done.stdout
        assert message in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr
