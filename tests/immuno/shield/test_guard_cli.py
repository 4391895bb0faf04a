"""`immuno guard`: what a newcomer types, and what it answers."""

from __future__ import annotations

import csv
import io
import json
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from evaluation.data.sources import read_images
from evaluation.shield.verdicts import ShieldVerdict
from immuno.cli import main
from immuno.shield.log import RejectedLog
from immuno.shield.shield import Shield
from immuno_core.config.run import SourceConfig
from immuno_core.errors import SetupError
from tests.configs import make_config
from tests.immuno.shield.conftest import Made

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def guard(capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: Any) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main(["guard", *map(str, arguments)])
        out = capsys.readouterr()
        return int(left.value.code or 0), out.out, out.err

    return run


def images(made: Made, folder: str) -> list[str]:
    return [str(path) for path in sorted((made.images / folder).rglob("*.png"))]


def test_show_checks_and_tells(guard: Run, shield_dir: Path) -> None:
    status, out, _ = guard("show", shield_dir)
    assert status == 0
    assert "cat, dog, owl" in out
    assert "of 36 known images" in out
    assert "CC0-1.0" in out
    assert json.loads(guard("show", shield_dir, "--json")[1])["classes"] == ["cat", "dog", "owl"]
    file = next(shield_dir.glob("head-*.safetensors"))
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    status, _, err = guard("show", shield_dir)
    assert (status, file.name in err, err.count("\n")) == (2, True, 1)


def test_judge_in_every_form(guard: Run, made: Made, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_text("x")
    status, out, err = guard("judge", made.shield, made.images / "sealed", "-q")
    assert status == 0
    assert len(out.splitlines()) == 16
    assert err.startswith("16 images: ")
    status, out, err = guard("judge", made.shield, made.images / "sealed", tmp_path / "bad.png", "--json", "-q")
    lines = [json.loads(line) for line in out.splitlines()]
    assert status == 1
    assert [one["image"] for one in lines] == [*images(made, "sealed"), str(tmp_path / "bad.png")]
    assert (lines[-1]["outcome"], lines[-1]["reason"]) == ("failed", "not an image")
    assert "1 failed" in err
    rows = list(csv.DictReader(io.StringIO(guard("judge", made.shield, made.images / "sealed", "--csv", "-q")[1])))
    assert [row["outcome"] for row in rows] == [one["outcome"] for one in lines[:-1]]
    assert guard("judge", made.shield, made.images, "--json", "--csv")[0] == 2


def test_judge_takes_a_list_on_standard_input(guard: Run, made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    files = images(made, "sealed")[:3]
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join([*files, "", files[0]])))
    out = guard("judge", made.shield, "-", "--json", "-q")[1]
    assert [json.loads(line)["image"] for line in out.splitlines()] == files


def test_a_name_that_would_steer_the_terminal_is_written_out(guard: Run, made: Made, tmp_path: Path) -> None:
    bad = tmp_path / "a\x1b[31m\n.png"
    bad.write_bytes(Path(images(made, "sealed")[0]).read_bytes())
    out = guard("judge", made.shield, bad, "-q")[1]
    assert "\x1b" not in out
    assert len(out.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["judge", "{shield}", "nowhere"], "no file or folder at nowhere"),
        (["judge", "{shield}", "{empty}"], "no image in"),
        (["judge", "{empty}", "x.png"], "no shield at"),
        (["judge", "{gone}", "x.png"], "no shield at"),
        (["judge", "{shield}", "{images}", "--device", "tpu"], "'tpu' is not known"),
        (["show", "{empty}"], "no shield at"),
        (["add-class", "{shield}", "cat"], "known class of this shield already"),
        (["add-class", "{shield}", " "], "the name of the new class is empty"),
        (["calibrate", "{shield}", "{images}", "--accept", "0"], "--accept"),
        (["calibrate", "{shield}", "{empty}"], "no image in"),
        (["serve", "{empty}"], "no shield at"),
        (["serve", "{shield}", "--host", "::"], "give --token-file or $IMMUNO_TOKEN"),
        (["serve", "{shield}", "--host", "nowhere.invalid"], "cannot listen on nowhere.invalid port 8080"),
        (["serve", "{shield}", "--token-file", "{blank}"], "holds no token"),
        (["serve", "{shield}", "--token-file", "{gone}"], "no token at"),
        (["serve", "{shield}", "--port", "{busy}"], "Address already in use"),
        (["export", "-o", "{empty}"], "give --session, or a configuration"),
        (["export", "--session", "x", "-o", "{images}", "--db", "{empty}/x.db"], "something else than a shield"),
        (["export", "--session", "x", "-o", "{empty}", "--db", "{empty}/x.db"], "no database"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(
    guard: Run,
    made: Made,
    shield_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: Sequence[str],
    said: str,
) -> None:
    monkeypatch.delenv("IMMUNO_TOKEN", raising=False)
    (tmp_path / "empty").mkdir()
    (tmp_path / "blank").write_text(" \n")
    places = {
        "shield": shield_dir,
        "empty": tmp_path / "empty",
        "gone": tmp_path / "gone",
        "images": made.images / "sealed",
        "blank": tmp_path / "blank",
    }
    before = {path.name: path.read_bytes() for path in shield_dir.iterdir()}
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        status, out, err = guard(*[argument.format(**places, busy=port) for argument in arguments])
    assert (status, out) == (2, "")
    assert said in err.splitlines()[-1]
    assert {path.name: path.read_bytes() for path in shield_dir.iterdir()} == before


def test_calibrate_sets_thresholds_on_images_of_ones_own(guard: Run, made: Made, shield_dir: Path) -> None:
    status, out, _ = guard("calibrate", shield_dir, made.images / "test", "--accept", "0.8", "--per-class", "-q")
    thresholds = Shield.load(shield_dir).manifest.thresholds
    scores = [one.score or 0.0 for one in Shield.load(made.shield).judge(images(made, "test"))]
    assert status == 0
    assert thresholds.overall.value == pytest.approx(sorted(scores, reverse=True)[28], abs=1e-6)  # ceil(0.8 x 36) - 1
    assert (thresholds.accept, thresholds.overall.images) == (0.8, 36)
    assert out.startswith("before: threshold")
    assert "thresholds set on 36 known images" in guard("show", shield_dir)[1]
    _, _, err = guard("calibrate", shield_dir, made.images / "fit", "-q")
    assert "36 images of 36 made the shield themselves" in err


def test_compare_says_what_changes(guard: Run, made: Made, shield_dir: Path) -> None:
    assert "nothing changes on 16 images" in guard("compare", made.shield, shield_dir, made.images / "sealed", "-q")[1]
    guard("calibrate", shield_dir, made.images / "test", "--accept", "0.2", "-q")
    found = json.loads(guard("compare", made.shield, shield_dir, made.images / "test", "--json", "-q")[1])
    before, after = (
        {one.image: one.outcome for one in Shield.load(folder).judge(images(made, "test"))}
        for folder in (made.shield, shield_dir)
    )
    assert found["images"] == 36
    assert {one["image"] for one in found["changes"]} == {name for name in before if before[name] != after[name]}
    assert sum(one["images"] for one in found["moves"]) == 36
    assert "accepted -> rejected" in guard("compare", made.shield, shield_dir, made.images / "test", "-q")[1]


def test_add_class_makes_a_shield_with_a_class_more(guard: Run, made: Made, shield_dir: Path, tmp_path: Path) -> None:
    out = tmp_path / "grown"
    status, said, _ = guard("add-class", shield_dir, "fox", made.images / "near" / "fox", "-o", out, "--json", "-q")
    found = json.loads(said)
    assert status == 0
    assert found["named"] == ["fox", "fox (matured)"]
    assert found["images"] == 8
    assert Shield.load(out).classes == ("cat", "dog", "owl", "fox")
    assert Shield.load(shield_dir).classes == ("cat", "dog", "owl")
    assert "left out, they name it" in guard("add-class", shield_dir, "fox", "-q")[1]
    assert "class 'fox' added with no image" in guard("show", shield_dir)[1]


def test_rejected_images_are_the_feedback_of_the_next_session(
    guard: Run, made: Made, shield_dir: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    guard("calibrate", shield_dir, made.images / "test", "--accept", "0.2", "-q")
    out = guard("judge", shield_dir, made.images / "sealed", "--json", "-q", "--log", log)[1]
    rejected = [one["image"] for one in map(json.loads, out.splitlines()) if one["outcome"] == "rejected"]
    assert len(rejected) > 3
    err = guard("judge", shield_dir, made.images / "sealed", "-q", "--log", log)[2]
    assert f"{len(rejected)} rejected images in" in err  # each once
    source = SourceConfig(name="seen", shield_log=log)
    images = read_images(source, name="seen", role="outlier", split="feedback", seed=0)
    assert sorted(Path(one.path).read_bytes() for one in images.samples) == sorted(
        Path(path).read_bytes() for path in rejected
    )
    said = [json.loads(line) for line in (log / "verdicts.jsonl").read_text().splitlines()]
    assert [one["image"] for one in said] == rejected
    assert all(one["reason"] for one in said)


def test_a_log_is_for_feedback_and_ends_where_it_is_told_to(made: Made, tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"shield_log goes with \[\[data.feedback\]\]"):
        make_config(tmp_path, data={"id": "id", "fit": {"shield_log": "log"}, "ood": {"far": "x"}})
    with pytest.raises(SetupError, match="no log of a shield"):
        read_images(SourceConfig(name="x", shield_log=tmp_path), name="x", role="outlier", split="feedback", seed=0)
    files = images(made, "sealed")
    verdicts = [ShieldVerdict(path, "rejected") for path in files]
    log = RejectedLog(tmp_path / "log", most=2)
    assert log.add([Path(files[0]).read_bytes(), "gone.png", *files[1:]], [*verdicts[:1], *verdicts]) == 2
    assert log.is_full
    assert "gone.png" in log.lost
    (tmp_path / "file").touch()
    with pytest.raises(SetupError, match="cannot log rejected images"):
        RejectedLog(tmp_path / "file")
