"""Results are never lost and never measured twice: room before the seal, another folder after it."""

from __future__ import annotations

import errno
import json
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from db.store import open_store
from immuno import bench, keeping
from immuno.cli import main
from immuno.keeping import keep, kept
from immuno.results import Results
from immuno_core import versions
from immuno_core.errors import ImmunoError
from tests.configs import write_config
from tests.e2e.own_data import write_own_data
from tests.rows import result_row

pytestmark = pytest.mark.usefixtures("unpainted")

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    config = write_own_data(tmp_path)
    monkeypatch.setenv("IMMUNO_CACHE", str(tmp_path / "cache"))

    def run(*more: str) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main(
                ["bench", str(config), "--out", str(tmp_path / "out"), "--db", str(tmp_path / "x.db"), "--json", *more]
            )
        out, err = capsys.readouterr()
        return int(stopped.value.code or 0), out, err

    return run


def on_record(folder: Path) -> tuple[list[str], int, list[int]]:
    """The status of each run, how often the seal was opened, and the rows of each run."""
    with open_store(str(folder / "x.db")) as store:
        runs = store.runs()
        return [run.status for run in runs], len(store.test_reads()), [len(store.results(run.id)) for run in runs]


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def full(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_folder_without_room_is_refused_before_anything_is_made(run: Run, tmp_path: Path) -> None:
    with files_of_at_most(2**20):  # Python ignores SIGXFSZ: such a write fails
        status, out, err = run()
    assert (status, out) == (2, "")
    assert "File too large" in err
    assert str(tmp_path / "out") in err
    assert not list((tmp_path / "out").iterdir())
    assert not (tmp_path / "x.db").exists()
    assert run()[0] == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "report.html", "results.csv", "results.json", "scores.npz",
    ]  # fmt: skip


def test_room_is_taken_for_what_grows_with_the_images(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "_ROOM_OF_A_ROW", 2**30)
    with files_of_at_most(16 * 2**20):
        status, _, err = run()
    assert status == 2
    assert "cannot take results of about 9672 MB" in err
    assert on_record(tmp_path)[:2] == (["failed"], 0)


@pytest.mark.parametrize("wrong", ["mcn", "bank"])
def test_what_is_wrong_makes_no_database_and_draws_no_world(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    drawn = []
    monkeypatch.setattr("immuno.workplace.build", lambda *_, **__: drawn.append(1))
    if wrong == "mcn":
        config = write_config(tmp_path / "x.toml", methods=["mcn"])
    else:
        config = write_own_data(tmp_path)
        (tmp_path / "bank.txt").unlink()
    with pytest.raises(SystemExit) as stopped:
        main(["bench", str(config), "--out", str(tmp_path / "out"), "--db", str(tmp_path / "x.db")])
    assert stopped.value.code == 2
    assert wrong in capsys.readouterr().err
    assert not (tmp_path / "x.db").exists()
    assert drawn == []


@pytest.mark.parametrize("stage", ["write_scores", "save"])
def test_what_the_folder_cannot_take_is_kept_and_moved_there_later(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    """The disk fills between the seal's opening and the end."""
    with monkeypatch.context() as broken:
        owner: Any = keeping if stage == "write_scores" else keeping.Results
        whole = getattr(owner, stage)

        def write(*arguments: Any) -> Any:
            into = next(each for each in arguments if isinstance(each, Path))
            return full() if into.is_relative_to(tmp_path / "out") else whole(*arguments)

        broken.setattr(owner, stage, write)
        status, out, err = run()
    assert (status, out) == (2, "")
    assert "is not measured again" in err
    assert "Traceback" not in err
    kept = list((tmp_path / "cache" / "results").rglob("*.json"))
    assert len(kept) == 1
    assert on_record(tmp_path) == (["finished"], 1, [6])

    status, out, err = run()
    assert status == 0
    assert "nothing was measured" in err
    assert json.loads(out) == json.loads((tmp_path / "out" / "results.json").read_text())
    assert (tmp_path / "out" / "report.html").exists()
    assert (tmp_path / "out" / "scores.npz").exists()
    assert not kept[0].parent.exists()
    assert on_record(tmp_path) == (["finished"], 1, [6])


def test_rows_that_the_database_refused_are_recorded_by_the_next_run(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: Any) -> None:
        raise ImmunoError("the disk is full; what was committed is safe")

    with monkeypatch.context() as broken:
        broken.setattr("db.store.AntibodyStore.save_results", refused)
        assert run()[0] == 1
    assert on_record(tmp_path) == (["failed"], 1, [0])
    assert run()[0] == 0
    assert on_record(tmp_path) == (["finished"], 1, [6])


def test_a_report_that_cannot_be_written_costs_nothing(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr("evaluation.report.page.write_atomically", full)
        status, _, err = run()
    assert (status, "report.html" in err) == (2, True)
    assert run()[0] == 0
    assert (tmp_path / "out" / "report.html").exists()
    assert on_record(tmp_path) == (["finished"], 1, [6])


def test_a_summary_that_cannot_be_written_is_one_line(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr("evaluation.benchmark.seeds.write_atomically", full)
        status, _, err = run("--seeds", "1,2")
    assert status == 2
    assert "was measured is kept" in err
    assert "Traceback" not in err
    assert run("--seeds", "1,2")[0] == 0
    assert on_record(tmp_path)[1] == 2


def test_what_is_shown_again_says_so_and_fresh_measures_anew(run: Run, tmp_path: Path) -> None:
    _, first, err = run()
    assert "nothing was measured" not in err
    _, again, err = run()
    assert first == again
    assert f"shown from {tmp_path / 'out'}" in err
    assert "nothing was measured" in err
    status, fresh, err = run("--fresh")
    assert (status, "nothing was measured" in err) == (0, False)
    assert len(json.loads(fresh)["test_reads"]) == 2
    assert json.loads(run()[1])["run_id"] == json.loads(fresh)["run_id"]


def test_other_sources_are_another_measurement(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each edit of the code counts, committed or not."""
    home = tmp_path / "home"
    source = home / "evaluation" / "scores" / "x.py"
    source.parent.mkdir(parents=True)
    monkeypatch.setattr(bench, "code_digest", lambda: versions.code_digest.__wrapped__(home))
    opened = []
    for content in ("a = 1", "a = 1", "a = 2", "a = 3"):
        source.write_text(content)
        opened.append(len(json.loads(run()[1])["test_reads"]))
    assert opened == [1, 1, 2, 3]


def test_the_digest_of_the_code_is_of_the_sources() -> None:
    home = Path(versions.__file__).parent.parent
    assert versions.code_digest() == versions.code_digest.__wrapped__(home)
    assert {path.name for path in home.iterdir() if (path / "__init__.py").exists()} >= set(versions.ROOMS)


def test_results_without_their_scores_are_not_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMMUNO_CACHE", str(tmp_path / "cache"))
    results = Results(rows=(result_row(),), before="mcm", after="mcm", config_digest="d")
    results.save(tmp_path)
    assert kept(tmp_path, "d") is None
    keep(results, {}, tmp_path)
    assert kept(tmp_path, "d") is not None
