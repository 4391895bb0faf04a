"""`immuno embed` fills the store once, leaves the seal alone unless told, says what is damaged, deletes what it may."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cluster.encoder.encoder
import cluster.ray_embedder
from cluster.store.store import EmbeddingStore
from db.store import open_store
from immuno.cli import main
from immuno.embed import FilledSet, _cut_sets, prunable
from immuno_core.errors import SetupError
from tests.configs import make_config, write_config
from tests.db.build import DIM, ENCODER


class Place:
    """A folder with a configuration, and the command in it."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.config = str(folder / "run.toml")
        self.database = str(folder / "immuno.db")
        self._capsys = capsys

    def run(self, *arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stopped:
            main(["embed", *arguments, "--db", self.database])
        out, err = self._capsys.readouterr()
        return int(stopped.value.code or 0), out, err

    def json(self, *arguments: str) -> dict[str, Any]:
        status, out, err = self.run(*arguments, "--json")
        assert status == 0, err
        answer: dict[str, Any] = json.loads(out)
        return answer

    def shards(self) -> list[Path]:
        return sorted((self.folder / "store").glob("*/images/*/*"), key=lambda path: path.stat().st_mtime_ns)


@pytest.fixture
def place(
    tmp_path: Path,
    tiny_encoder_dir: Path,
    tiny_images: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Place:
    monkeypatch.chdir(tmp_path)
    sets = {"fit": ("cat", "dog"), "near": ("fox",), "test/id": ("cat", "dog"), "test/far": ("owl",)}
    for seed, (name, labels) in enumerate(sets.items()):
        tiny_images(tmp_path / name, dict.fromkeys(labels, 4), seed=seed)
    (tmp_path / "near" / "fox" / "002.png").write_text("no image")
    write_config(
        tmp_path / "run.toml",
        encoder={"model": f"local-dir:{tiny_encoder_dir}", "batch_size": 4},
        cluster={"actors": 1, "num_cpus": 0.25, "shard_size": 4, "store": "store"},
        data={"fit": "fit", "feedback": {"near": "near"}, "id": "test/id", "ood": {"far": "test/far"}},
    )
    return Place(tmp_path, capsys)


def sealed_against_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster.ray_embedder, "connect", lambda *_: pytest.fail("Ray was started"))
    monkeypatch.setattr(cluster.encoder.encoder, "load_encoder", lambda *_, **__: pytest.fail("a model was loaded"))


@pytest.mark.ray
@pytest.mark.long
def test_the_life_of_a_store(place: Place, ray_cluster: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Fit and feedback first; the sealed sets stay closed.
    first = place.json(place.config)
    assert [(one["name"], one["split"], one["images"], one["embedded"]) for one in first["sets"]] == [
        ("id", "fit", 8, 8),
        ("near", "feedback", 4, 4),
    ]
    (quarantined,) = first["sets"][1]["quarantined"]
    assert (Path(quarantined["path"]).name, quarantined["reason"]) == ("002.png", "not an image")
    assert not Path(place.database).exists()
    assert len(place.shards()) == 3

    # The sealed ones when told, on record.
    status, out, err = place.run(place.config, "--test", "--progress", "json")
    assert status == 0
    told = [json.loads(line) for line in err.splitlines() if line.startswith("{")]
    assert [(line["event"], line["done"]) for line in told[:-1] if line["event"] in ("start", "stop")] == [
        *(("start", 0), ("stop", 8)),
        *(("start", 0), ("stop", 4)),
    ]
    summary = told[-1]
    assert (summary["event"], summary["embedded"], summary["from_store"], summary["deaths"]) == ("summary", 12, 11, [])
    assert [Path(one["path"]).name for one in summary["quarantined"]] == ["002.png"]
    assert [line.split()[:2] for line in out.splitlines() if " test " in line] == [["id", "test"], ["far", "test"]]
    assert "12 image(s) embedded" in err
    with open_store(place.database) as record:
        (read,) = record.test_reads()
    assert (read.reason, read.sets) == ("embed", ("id", "far"))

    # A second run does nothing, with neither a model nor Ray.
    with monkeypatch.context() as patched:
        sealed_against_work(patched)
        before = {path: path.stat().st_ino for path in place.shards()}
        again = place.json(place.config)
        assert [(one["embedded"], one["bytes"]) for one in again["sets"]] == [
            (0, one["bytes"]) for one in first["sets"]
        ]
        status, _, err = place.run(place.config)
        assert status == 0
        assert "nothing to do: every image was stored" in err
        assert {path: path.stat().st_ino for path in place.shards()} == before
        assert place.json(place.config, "--check")["damaged"] is False

    # What is damaged is found, told by name, and mended by the next run.
    damaged = place.shards()[1]
    damaged.write_bytes(damaged.read_bytes()[:-1])
    status, out, err = place.run(place.config, "--check")
    assert status == 1
    assert f"damaged: {damaged.relative_to(place.folder / 'store')} (not whole" in err
    assert place.run("--check", "--store", "store")[0] == 1
    assert place.json(place.config)["embedded"] == 4
    assert place.run(place.config, "--check")[0] == 0

    # An image that changes leaves its old shard behind, which may go; all that is needed stays.
    (place.folder / "near" / "fox" / "000.png").unlink()
    assert place.json(place.config)["embedded"] == 3
    stored = {path.name for path in place.shards()}
    plan = place.json(place.config, "--gc", "--dry-run")
    assert (len(plan["files"]), plan["deleted"]) == (2, False)  # the shard, and the manifest that names it
    assert {one["why"] for one in plan["files"]} == {"not needed"}
    assert {path.name for path in place.shards()} == stored
    status, out, err = place.run(place.config, "--gc")
    assert status == 2
    assert "give --yes, or --dry-run" in err
    assert place.json(place.config, "--gc", "--yes")["files"] == plan["files"]
    assert len(place.shards()) == len(stored) - 1
    with monkeypatch.context() as patched:
        sealed_against_work(patched)
        assert place.json(place.config, "--test")["embedded"] == 0
        assert place.json("--check", "--store", "store")["problems"] == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "name a configuration"),
        (("missing.toml",), "no configuration file at missing.toml"),
        (("run.toml", "--check", "--gc"), "give --check or --gc, not both"),
        (("run.toml", "--check", "--test"), "--test goes with embedding"),
        (("run.toml", "--yes"), "--dry-run and --yes go with --gc"),
        (("run.toml", "--store", "x"), "--store goes with --check or --gc without CONFIG"),
        (("run.toml", "--check"), "nothing of the encoder"),
        (("--check", "--store", "nowhere"), "there is no embedding store at"),
        (("run.toml", "--gc", "--yes"), "nothing of the encoder"),
        (("--check", "--store", "s3://me:secret@bucket/x"), "give the bare URL"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_mistake_is_one_line_and_status_2(place: Place, arguments: tuple[str, ...], message: str) -> None:
    status, out, err = place.run(*arguments)
    assert (status, out) == (2, "")
    assert message in err
    assert "secret@" not in err
    assert len(err.splitlines()) == 1


def test_there_must_be_something_to_embed(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    text = Path(place.config).read_text()
    for section in ('[data.fit]\npath = "fit"\n', '[[data.feedback]]\nname = "near"\npath = "near"\n'):
        assert section in text
        text = text.replace(section, "")
    Path(place.config).write_text(text)
    status, _, err = place.run(place.config)
    assert status == 2
    assert "no [data.fit] with images; the sealed test sets are embedded with --test" in err
    monkeypatch.setattr("immuno.embed._filled", lambda _, images: FilledSet(images.name, images.split, 1, 1, (), 1))
    assert [(one["name"], one["split"]) for one in place.json(place.config, "--test")["sets"]] == [
        ("id", "test"),
        ("far", "test"),
    ]


def test_sets_that_come_as_embeddings_have_no_shards(tmp_path: Path, tiny_images: Callable[..., Path]) -> None:
    for name in ("fit", "test"):
        tiny_images(tmp_path / name, {"cat": 2})
    np.savez(tmp_path / "far.npz", features=np.eye(2, DIM), labels=np.array(["", ""]), ids=np.array(["a", "b"]))
    data = {"fit": "fit", "feedback": {"near": "far.npz"}, "id": "test", "ood": {"far": "far.npz"}}
    cut = _cut_sets(make_config(tmp_path, data=data), ENCODER)
    assert [(name, split) for name, split, _ in cut] == [("id", "fit"), ("id", "test")]


def test_an_empty_store_is_whole_and_has_nothing_to_delete(place: Place) -> None:
    (place.folder / "empty").mkdir()
    assert place.json("--check", "--store", "empty") == {
        "damaged": False,
        "store": str(place.folder / "empty"),
        "files": 0,
        "bytes": 0,
        "problems": [],
    }
    assert place.json("--gc", "--store", "nowhere")["files"] == []
    assert not (place.folder / "nowhere").exists()


def test_stores_are_pruned_one_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the configurations of one need says nothing of another."""
    stores = iter([EmbeddingStore(tmp_path / name) for name in ("a", "a", "b", "a")])
    monkeypatch.setattr("immuno.embed._recorded", lambda _: (next(stores), ENCODER, "key"))
    monkeypatch.setattr("immuno.embed._cut_sets", lambda *_: ())
    two = (make_config(), make_config())
    assert prunable(two, None)[1] == []
    with pytest.raises(SetupError, match=r"have several stores \(\S+/b, \S+/a\); prune one at a time"):
        prunable(two, None)
