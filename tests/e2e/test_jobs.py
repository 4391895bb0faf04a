"""`ray job submit` and `immuno submit`, end to end, on a cluster that wants a token."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from db.store import open_store
from evaluation.miniworld import Sizes, build
from tests.configs import write_config

from .job_cluster import BIN, JobCluster, job_cluster, plain_environment

pytestmark = [pytest.mark.ray, pytest.mark.long, pytest.mark.timeout(600)]

ROOT = Path(__file__).resolve().parents[2]

SMALL = replace(Sizes(*[1] * len(fields(Sizes))), fit_per_class=2, test_id=16, test_near=8)


@pytest.fixture(scope="module")
def cluster() -> Iterator[JobCluster]:
    with job_cluster() as running:
        yield running


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout of its own, with a configuration of images, and one of embeddings, for which no actor starts."""
    folder = tmp_path_factory.mktemp("jobs") / "checkout"
    world = tmp_path_factory.mktemp("world")
    build(world, seed=3, sizes=SMALL, workers=1)
    ignored = shutil.ignore_patterns("__pycache__")
    for room in ("immuno", "immuno_core", "cluster", "agents", "evaluation", "db"):
        shutil.copytree(ROOT / room, folder / room, ignore=ignored)
    for name in (".gitignore", ".rayignore"):
        shutil.copy(ROOT / name, folder / name)
    write_config(
        folder / "configs/own.toml",
        seed=3,
        cluster={"num_cpus": 0.5, "actors": 1},
        data={"fit": world / "fit/id", "id": world / "test/id", "ood": {"near": world / "test/near"}},
    )
    rows = np.eye(4, dtype=np.float32)
    np.savez(folder / "configs/texts.npz", texts=["a photo of a cat.", "a photo of a dog."], features=rows[:2])
    np.savez(folder / "configs/id.npz", labels=["cat", "dog", "cat", "dog"], features=rows[[0, 1, 0, 1]] + 0.1)
    np.savez(folder / "configs/near.npz", features=rows + 0.2)
    write_config(
        folder / "configs/table.toml",
        encoder={"kind": "precomputed", "texts": "texts.npz"},
        data={"id": "id.npz", "ood": {"near": "near.npz"}},
    )
    return folder


def begin(command: Sequence[Path | str], checkout: Path, env: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(command, cwd=checkout, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def submit(checkout: Path, arguments: str, env: dict[str, str], *before: str) -> subprocess.Popen[str]:
    return begin([sys.executable, "-m", "immuno", "submit", *before, "--", *arguments.split()], checkout, env)


@pytest.fixture(scope="module")
def programs(cluster: JobCluster, checkout: Path) -> Iterator[dict[str, subprocess.Popen[str]]]:
    """All that wait for a job, at once: a job mostly waits for Ray."""
    ray_submit = [BIN / "ray", "job", "submit", "--address", cluster.address, "--working-dir", ".", "--"]
    env, at = cluster.environment(), ("--address", cluster.address)
    table = "bench configs/table.toml --json --db runs/other.db"
    running = {
        "ray": begin([*ray_submit, "python", "-m", "immuno", "bench", "configs/own.toml"], checkout, env),
        "interrupted": submit(checkout, table, env, *at, "--out", str(cluster.home / "interrupted")),
        "immuno": submit(checkout, table, env, *at, "--out", str(cluster.home / "elsewhere")),
        "failing": submit(checkout, "db sessions --db /no/such.db", env, *at),
    }
    yield running
    for program in running.values():
        program.kill()
        program.communicate()


def test_ctrl_c_leaves_the_job_running(
    cluster: JobCluster, checkout: Path, programs: dict[str, subprocess.Popen[str]]
) -> None:
    process = programs["interrupted"]
    assert process.stderr is not None
    first = process.stderr.readline()
    assert first.startswith("job raysubmit_")
    process.send_signal(signal.SIGINT)
    rest = process.communicate(timeout=60)[1]
    job = first.split()[1]
    assert process.returncode == 130
    assert f"the job goes on; follow it: ray job logs --follow --address {cluster.address} {job}" in rest
    follow = begin(
        [BIN / "ray", "job", "logs", "--follow", "--address", cluster.address, job], checkout, cluster.environment()
    )
    assert '"method": "mcm"' in follow.communicate(timeout=300)[0]
    status = begin([BIN / "ray", "job", "status", "--address", cluster.address, job], checkout, cluster.environment())
    assert "succeeded" in status.communicate(timeout=60)[0].lower()


def test_what_is_wrong_is_said_before_anything_is_sent(cluster: JobCluster, checkout: Path, tmp_path: Path) -> None:
    other = tmp_path / "token"
    other.write_text("0" * 64)
    stranger = plain_environment() | {"RAY_AUTH_MODE": "disabled", "HOME": str(tmp_path)}
    wrong = cluster.environment() | {"RAY_AUTH_TOKEN_PATH": str(other)}
    absent = cluster.environment() | {"RAY_AUTH_TOKEN_PATH": str(tmp_path / "none")}
    cases = [
        (stranger, cluster.address, f"the cluster at {cluster.address} asks for its token: set RAY_AUTH_MODE=token"),
        (wrong, cluster.address, f"the cluster at {cluster.address} does not take the token in {other}"),
        (absent, cluster.address, f"RAY_AUTH_TOKEN_PATH names {tmp_path}/none, which is no file"),
        (stranger, "http://127.0.0.1:1", "no Ray dashboard answers at http://127.0.0.1:1"),
        (stranger, cluster.gcs, f"dashboard, and '{cluster.gcs}' is none; give --address http://HE"),
    ]
    for env, address, message in cases:
        program = submit(checkout, "bench configs/own.toml", env, "--address", address)
        out, err = program.communicate(timeout=120)
        assert (program.returncode, out) == (2, ""), err
        assert message in err
        assert len(err.strip().splitlines()) == 1, err


def test_ray_job_submit_runs_a_benchmark_whose_results_outlive_the_job(
    cluster: JobCluster, programs: dict[str, subprocess.Popen[str]]
) -> None:
    out, err = programs["ray"].communicate(timeout=300)
    assert programs["ray"].returncode == 0, out + err
    runs = cluster.home / "immuno-runs"
    # Streamed from the job: where things go, what was measured, and where the report is.
    assert f"results and relative paths of output go to {runs} on " in out
    assert f"report: {runs}/own/report.html" in out
    results = json.loads((runs / "own" / "results.json").read_text())
    assert [row["method"] for row in results["rows"]] == ["mcm"]
    with open_store(f"sqlite:///{runs / 'immuno.db'}") as store:
        assert len(store.test_reads()) == 1


def test_immuno_submit_shows_the_log_and_passes_on_the_exit_status(
    cluster: JobCluster, programs: dict[str, subprocess.Popen[str]]
) -> None:
    out, err = programs["immuno"].communicate(timeout=300)
    assert programs["immuno"].returncode == 0, err
    job = err.split()[1]
    assert f"stop it with: ray job stop --address {cluster.address} {job}" in err
    assert '"method": "mcm"' in out  # the job's log
    assert (cluster.home / "elsewhere" / "table" / "results.json").exists()
    assert (cluster.home / "elsewhere" / "other.db").exists()

    out, err = programs["failing"].communicate(timeout=300)
    assert programs["failing"].returncode == 2
    assert "error: " in out  # the job's own line
    assert "FAILED" in err
    assert "exit code 2" in err
