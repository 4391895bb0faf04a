"""`immuno init`: two folders of images become a configuration that runs, or one line says what is wrong with them."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cluster import EncoderSpec, LocalEmbedder
from immuno import workplace
from immuno.cli import init, main
from immuno.workplace import Sets
from immuno_core.config.run import read_config

CLASSES = ("fire_truck", "dog", "house")


def draw(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(256, size=(16, 16, 3), dtype=np.uint8)).save(path)


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folders of 3 classes x 12 known images and of 12 outliers of two kinds, in the working folder."""
    monkeypatch.chdir(tmp_path)
    for i in range(12):
        for k, name in enumerate(CLASSES):
            draw(tmp_path / "known" / name / f"{i}.png", 100 * k + i)
        draw(tmp_path / "near" / f"{i}.png", 1000 + i)
        draw(tmp_path / "far" / "deep" / f"{i}.png", 2000 + i)
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        main(list(arguments))
    return (int(stopped.value.code or 0), *capsys.readouterr())


FOLDERS = ("--known", "known", "--outliers", "near", "--outliers", "far")


def test_folders_become_splits_that_stay(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capsys, "init", *FOLDERS, "--model", "miniworld", "--json")
    assert status == 0, err
    told = json.loads(out)
    assert told["classes"] == ["dog", "fire truck", "house"]
    assert (photos / "immuno-classes.txt").read_text().split("\n") == [*told["classes"], ""]
    assert told["tried"] == 8
    config = read_config("immuno.toml")
    parts = {name: source.part for name, source in (("fit", config.data.fit), ("id", config.data.id)) if source}
    assert parts == {"fit": (0.0, 0.4), "id": (0.7, 1.0)}

    def split() -> dict[str, tuple[str, ...]]:
        sets = Sets(config)
        opened = {f"{one.name} {one.split}": tuple(sample.path for sample in one.samples) for one in sets.open}
        return opened | {f"{name} sealed": paths for name, paths in sets.sealed.files().items()}

    before = split()
    assert set(before) == {
        *("id fit", "id feedback", "near feedback", "far feedback", "id sealed", "near sealed", "far sealed")
    }
    everything = sorted(path for paths in before.values() for path in paths)
    assert everything == sorted(str(path) for path in photos.rglob("*.png"))
    assert {(name, split_): n for name, split_, n in told["sets"]}["id", "test"] == len(before["id sealed"])
    # Others come, one is a copy under another name, one is moved: each stays where its content was.
    for i in range(5):
        draw(photos / "known" / "dog" / f"new {i}.png", 5000 + i)
    sealed = next(path for path in before["id sealed"] if "dog" in path)
    shutil.copy(sealed, photos / "known" / "dog" / "again.png")
    shutil.move(sealed, photos / "known" / "dog" / "0 moved.png")
    after = split()
    assert {Path(path).name for path in after["id sealed"]} >= {"again.png", "0 moved.png"}
    assert all(set(paths) - {sealed} <= set(after[name]) for name, paths in before.items())


def test_the_newcomers_path_leads_to_a_report(
    photos: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, unpainted: None
) -> None:
    def local(config: Any, *_: Any, **__: Any) -> LocalEmbedder:
        return LocalEmbedder(EncoderSpec.from_config(config), photos / "store")

    monkeypatch.setattr(workplace, "make_embedder", local)
    assert run(capsys, "init", *FOLDERS, "--model", "miniworld")[0] == 0
    config = photos / "immuno.toml"
    small = config.read_text().replace("generations = 6", "generations = 1\nclasses_per_generation = 1")
    config.write_text(small.replace('preset = "scores"', 'name = "mcm"'))
    status, _, err = run(capsys, "refine", "start", "immuno.toml", "--session", "first", "--db", "x.db", "-q")
    assert status == 0, err
    status, out, err = run(
        capsys, *("bench", "immuno.toml", "--session", "first", "--db", "x.db", "--out", "out", "--json")
    )
    assert status == 0, err
    sizes = {(row["ood"], row["n_id"]) for row in json.loads(out)["rows"]}
    sealed = Sets(read_config(config)).sealed.files()
    assert sizes == {("near", len(sealed["id"])), ("far", len(sealed["id"]))}
    assert (photos / "out" / "report.html").exists()


def test_what_is_missing_is_asked_for_on_a_terminal(
    photos: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    answers = iter(["known", "near", "", "miniworld", "lexicon"])

    def prompt(text: str, **_: Any) -> str:
        asked.append(text)
        return next(answers)

    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr(init.click, "prompt", prompt)
    status, out, err = run(capsys, "init")
    assert status == 0, err
    assert len(asked) == 5
    assert "immuno bench immuno.toml --session first --settle" in out
    assert "warning: near (test) has" in err
    assert [one.name for one in read_config("immuno.toml").data.ood] == ["near"]


def test_names_that_read_badly_and_too_few_images_are_told(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for old, new in (("fire_truck", "dogs"), ("house", "class 7")):
        (photos / "known" / old).rename(photos / "known" / new)
    for i in range(5):
        draw(photos / "known" / "thing" / f"{i}.png", 6000 + i)
    (photos / "far" / "deep" / "0.png").write_text("no image")
    status, out, err = run(capsys, "init", *FOLDERS, "--model", "miniworld", "--json")
    assert status == 0, err
    first, second, third, *_ = json.loads(out)["warnings"]
    assert first.startswith("class 7, thing are no nouns")
    assert second.startswith("dogs look like plurals")
    assert "thing (" in third
    assert not (photos / "immuno-classes.txt").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "give --known DIR"),
        (("--known", "known"), "give --outliers DIR"),
        (("--known", "knwon", "--outliers", "near"), "there is no folder at knwon"),
        (("--known", "known", "--outliers", "known/dog"), "share images"),
        (("--known", "near", "--outliers", "far"), "near has no folders in it"),
        (("--known", "far", "--outliers", "near"), "far has one class, 'deep'"),
        (("--known", "known", "--outliers", "empty"), "no image in"),
        (("--known", "numbers", "--outliers", "near"), "are numbers ('0')"),
        ((*FOLDERS, "--model", "ViT-B-16/openia"), "did you mean 'openai'?"),
        ((*FOLDERS, "--model", "local-dir:nowhere"), "nowhere"),
        ((*FOLDERS, "--base-url", "http://me:secret@host/v1"), "base_url"),
        ((*FOLDERS, "-o", "taken.toml"), "taken.toml exists"),
    ],
)
def test_what_is_wrong_is_one_line_and_nothing_is_written(
    photos: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], said: str
) -> None:
    (photos / "taken.toml").write_text("mine")
    (photos / "empty").mkdir()
    draw(photos / "numbers" / "0" / "0.png", 1)
    draw(photos / "numbers" / "1" / "0.png", 2)
    before = sorted(photos.rglob("*"))
    status, out, err = run(capsys, "init", *arguments)
    assert (status, out) == (2, "")
    assert err.count("\n") == 1, err
    assert said in err
    assert "secret" not in err
    assert sorted(photos.rglob("*")) == before
    assert (photos / "taken.toml").read_text() == "mine"
