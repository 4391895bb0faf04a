"""The whole system on a small mini-world: images on disk, Ray actors, the loop, SQL, the sealed test, the report.

Everything goes through the command line, as a user's would.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from db.store import open_store
from evaluation.miniworld import MiniWorld, build
from immuno.cli import main
from tests.configs import write_config
from tests.e2e.small_world import SMALL

pytestmark = pytest.mark.ray

SCORE = {"name": "calibrated", "base": "prototype", "eps": 0.02}

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> MiniWorld:
    return build(tmp_path_factory.mktemp("world") / "images", seed=3, sizes=SMALL, workers=1)


@pytest.fixture
def config(tmp_path: Path, world: MiniWorld) -> Path:
    def outliers(part: str) -> dict[str, Path]:
        return {kind: world.root / part / kind for kind in ("near", "contextual")}

    return write_config(
        tmp_path / "small.toml",
        seed=3,
        cluster={"num_cpus": 0.25, "actors": 1, "shard_size": 16},
        data={
            "fit": world.root / "fit/id",
            "feedback_id": world.root / "feedback/id",
            "feedback": outliers("feedback"),
            "id": world.root / "test/id",
            "ood": outliers("test"),
        },
        refine={"generations": 2, "proposals_per_class": 10, "score": SCORE},
        methods=[SCORE, "max_logit", "mcm"],
    )


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], tmp_path: Path, ray_cluster: str) -> Cli:
    """Runs a command against this test's own database and the shared cluster; returns status, stdout, stderr."""

    def run(*arguments: str, ray: bool = True) -> tuple[int, str, str]:
        capsys.readouterr()
        extra = ["--ray", ray_cluster] if ray else []
        with pytest.raises(SystemExit) as stopped:
            main([*arguments, "--db", str(tmp_path / "immuno.db"), *extra])
        out, err = capsys.readouterr()
        return int(stopped.value.code or 0), out, err

    return run


def test_refine_then_bench(cli: Cli, config: Path, tmp_path: Path) -> None:
    status, out, err = cli("refine", "start", str(config), "--session", "one", "--json")
    assert status == 0, err
    refined = json.loads(out)
    assert [one["number"] for one in refined["generations"]] == [0, 1, 2]
    assert refined["status"] == "finished"

    with open_store(str(tmp_path / "immuno.db")) as store:
        assert not store.test_reads(), "the loop has no business in the sealed test"

    folder = tmp_path / "results"
    status, out, err = cli("bench", str(config), "--session", "one", "--out", str(folder), "--json")
    assert status == 0, err
    results = json.loads(out)
    assert json.loads((folder / "results.json").read_text()) == results
    assert {(row["method"], row["ood"]) for row in results["rows"]} == {
        (method, name) for method in ("calibrated", "max_logit", "mcm") for name in ("near", "contextual")
    }
    assert [read["sets"] for read in results["test_reads"]] == [["id", "near", "contextual"]]
    page = (folder / "report.html").read_text()
    assert "max_<wbr>logit" in page
    assert "data:image/" in page

    # The same again: shown from the folder, and the seal stays as it is.
    status, out, _ = cli("bench", str(config), "--session", "one", "--out", str(folder), "--json")
    assert (status, json.loads(out)) == (0, results)
    with open_store(str(tmp_path / "immuno.db")) as store:
        assert len(store.test_reads()) == 1
        assert len(store.results(results["run_id"])) == 6

    # Every image set that was embedded is on record, under its split.
    with contextlib.closing(sqlite3.connect(tmp_path / "immuno.db")) as database:
        recorded = set(database.execute("SELECT split, name FROM datasets"))
    assert recorded == {
        ("fit", "id"),
        *(("feedback", name) for name in ("id", "near", "contextual")),
        *(("test", name) for name in ("id", "near", "contextual")),
    }

    # A session of that name exists; it goes on where it was, and no further than asked.
    status, _, err = cli("refine", "start", str(config), "--session", "one")
    assert (status, err.count("\n")) == (2, 1)
    assert "immuno refine resume one" in err
    status, out, _ = cli("refine", "resume", "one", "--generations", "3", "--json")
    assert [one["number"] for one in json.loads(out)["generations"]] == [0, 1, 2, 3]

    # What the database says of it.
    status, out, _ = cli("db", "sessions", "--json", ray=False)
    assert [session["name"] for session in json.loads(out)] == ["one"]
    status, out, _ = cli("db", "antibodies", "one", "--status", "accepted", "--json", ray=False)
    assert status == 0
    assert all(antibody["text"] for antibody in json.loads(out))

    # And the report can be drawn again from the folder alone.
    (folder / "report.html").unlink()
    with pytest.raises(SystemExit):
        main(["report", str(folder)])
    assert (folder / "report.html").read_text() == page


@pytest.mark.long
def test_damaged_images_are_skipped_counted_and_named(cli: Cli, config: Path, world: MiniWorld, tmp_path: Path) -> None:
    damaged = tmp_path / "near"
    (damaged / "shark").mkdir(parents=True)
    for i, image in enumerate(sorted(world.folder("test", "near").rglob("*.png"))[:6]):
        (damaged / "shark" / f"{i}.png").write_bytes(image.read_bytes())
    (damaged / "shark" / "truncated.png").write_bytes((damaged / "shark" / "0.png").read_bytes()[:200])
    (damaged / "shark" / "empty.png").write_bytes(b"")
    text = config.read_text().replace(f"{world.root}/test/near", str(damaged))
    config.write_text(text)
    status, out, err = cli("bench", str(config), "--out", str(tmp_path / "out"), "--json")
    assert status == 0, err
    results = json.loads(out)
    assert sorted(Path(one["path"]).name for one in results["skipped"]) == ["empty.png", "truncated.png"]
    assert {row["n_ood"] for row in results["rows"] if row["ood"] == "near"} == {6}
    page = (tmp_path / "out" / "report.html").read_text()
    assert "truncated.png" in page


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("{root}/test/near", "{tmp}/nothing"), "nothing"),
        (("{root}/test/near", "{tmp}/hollow"), "hollow"),
        (('names = "dataset"', 'names = "{tmp}/twice.txt"'), "names 'fish' more than once"),
        (('names = "dataset"', 'names = "{tmp}/blank.txt"'), "blank lines"),
        (('name = "mcm"', 'name = "mmc"'), "there is no score 'mmc'; did you mean 'mcm'"),
        (('model = "miniworld"', 'model = "ViT-B-61"\npretrained = "openai"'), "did you mean"),
        (('name = "max_logit"', 'name = "max_logit"\ntemperatur = 1'), "no parameter 'temperatur'"),
    ],
    ids=["missing folder", "empty folder", "class twice", "blank class", "unknown score", "unknown model", "parameter"],
)
def test_what_is_wrong_is_said_in_one_line(
    cli: Cli, config: Path, world: MiniWorld, tmp_path: Path, change: tuple[str, str], message: str
) -> None:
    (tmp_path / "hollow").mkdir()
    (tmp_path / "twice.txt").write_text("fish\ncar\nfish\n")
    (tmp_path / "blank.txt").write_text("fish\n\ncar\n")
    before, after = (part.format(root=world.root, tmp=tmp_path) for part in change)
    text = config.read_text()
    assert before in text
    config.write_text(text.replace(before, after))
    status, out, err = cli("bench", str(config), "--out", str(tmp_path / "out"))
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert status == 2, err
    assert not out
    assert len(lines) == 1
    assert message in lines[0]
    assert "Traceback" not in err
    assert not (tmp_path / "out" / "results.json").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("/feedback/near", "/feedback/nothing"), "nothing"),
        (('name = "calibrated"', 'name = "calibratd"'), "did you mean 'calibrated'"),
        (("generations = 2", 'generations = 2\nllm = "lexcon"'), "did you mean 'lexicon'"),
    ],
    ids=["missing folder", "unknown score", "unknown model"],
)
def test_a_session_that_cannot_start_takes_no_name_and_makes_no_database(
    cli: Cli, config: Path, tmp_path: Path, change: tuple[str, str], message: str
) -> None:
    right = config.read_text()
    assert change[0] in right
    config.write_text(right.replace(*change))
    status, _, err = cli("refine", "start", str(config), "--session", "one")
    assert status == 2
    assert message in err
    assert not (tmp_path / "immuno.db").exists()


@pytest.mark.long
def test_ctrl_c_loses_nothing_and_duplicates_nothing(config: Path, tmp_path: Path, cli: Cli) -> None:
    command = [sys.executable, "-m", "immuno", "refine", "start", str(config), "--session", "cut"]
    command += ["--generations", "4", "--db", str(tmp_path / "cut.db")]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ)
    _wait_for(lambda: _generations(tmp_path / "cut.db", "cut") >= 2, running)
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=60)
    if running.returncode == 0:
        pytest.skip("the session had finished before the signal came")
    assert running.returncode == 130
    assert "stopped; finished work is kept" in err
    assert "Traceback" not in err

    status, out, err = cli("refine", "start", str(config), "--session", "whole", "--generations", "4", "--json")
    assert status == 0, err
    whole = json.loads(out)
    with pytest.raises(SystemExit):
        main(["refine", "resume", "cut", "--db", str(tmp_path / "cut.db")])
    with open_store(str(tmp_path / "cut.db")) as cut, open_store(str(tmp_path / "immuno.db")) as other:
        assert _content(cut, "cut") == _content(other, "whole")
    assert len(whole["generations"]) == 5


def _generations(database: Path, session: str) -> int:
    if not database.exists():
        return 0
    try:
        with open_store(str(database), read_only=True) as store:
            record = store.find_session(session)
            return record.generations if record else 0
    except Exception:  # noqa: BLE001 - the other process is just making the database
        return 0


def _content(store: Any, name: str) -> Any:
    session = store.session(name)
    return (
        [(one.number, one.accepted, one.metrics, one.bank) for one in store.generations(session.id)],
        [(one.generation, one.text, one.guards, one.status) for one in store.antibodies(session.id)],
    )


def _wait_for(condition: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if process.poll() is not None:
            return
        if time.monotonic() > end:
            process.kill()
            pytest.fail("the session did not get that far in time")
        time.sleep(0.05)
