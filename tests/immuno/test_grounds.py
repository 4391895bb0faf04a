"""A session goes on as what it was: with the classes and images it began with, wherever they are, and no others."""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sqlalchemy import text

from agents.feedback import feedback_of, measure
from db.schema.engine import writing
from db.store import AntibodyStore, open_store
from evaluation.data import contents
from evaluation.data.contents import content_digest
from evaluation.data.sources import read_images
from immuno import workplace
from immuno.cli import main
from immuno.workplace import Workplace, stored_config
from immuno_core.config.run import SourceConfig
from immuno_core.progress import PlainProgress
from immuno_core.records import ImageSet
from immuno_core.versions import made_with
from tests.agents.word_place import word_embedder, write_word_world

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def _words_are_embedded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workplace, "make_embedder", word_embedder)


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a session "one" of one generation of two, in immuno.db, and its files in data/."""
    folder = tmp_path_factory.mktemp("begun")
    (folder / "data").mkdir()
    config = write_word_world(folder / "data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workplace, "make_embedder", word_embedder)
        with pytest.raises(SystemExit) as stopped:
            main(
                [
                    "refine",
                    "start",
                    str(config),
                    "--session",
                    "one",
                    "--generations",
                    "1",
                    "--db",
                    f"{folder}/immuno.db",
                ]
            )
    assert not stopped.value.code
    return folder


@pytest.fixture
def cli(begun: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Cli]:
    """`immuno refine` on a copy of the database; the files are put back afterwards."""
    shutil.copyfile(begun / "immuno.db", tmp_path / "immuno.db")
    shutil.copytree(begun / "data", tmp_path / "before")

    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main(["refine", *arguments, "--db", str(tmp_path / "immuno.db")])
        out, err = capsys.readouterr()
        return int(stopped.value.code or 0), out, err

    yield run
    shutil.rmtree(begun / "data", ignore_errors=True)
    shutil.copytree(tmp_path / "before", begun / "data")


@pytest.fixture
def store(cli: Cli, tmp_path: Path) -> Iterator[AntibodyStore]:
    with open_store(str(tmp_path / "immuno.db")) as opened:
        yield opened


def rewritten(file: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    with np.load(file) as arrays:
        kept = {name: arrays[name] for name in arrays.files}
    np.savez(file, **change(kept))


def fewer(arrays: dict[str, Any]) -> dict[str, Any]:
    return {name: rows[:-8] for name, rows in arrays.items()}


def turned(arrays: dict[str, Any]) -> dict[str, Any]:
    return arrays | {"features": np.concatenate([arrays["features"][1:2], arrays["features"][1:]])}


def relabelled(arrays: dict[str, Any]) -> dict[str, Any]:
    return arrays | {"labels": np.concatenate([arrays["labels"][-1:], arrays["labels"][1:]])}


class TestGoesOn:
    def test_where_files_were_only_touched(self, cli: Cli, begun: Path, store: AntibodyStore) -> None:
        for file in (begun / "data").iterdir():
            os.utime(file, ns=(1, 1))
        status, out, err = cli("resume", "one", "--generations", "2", "--json")
        assert status == 0, err
        assert len(json.loads(out)["generations"]) == 3
        assert "changed since" not in err

    def test_where_the_folder_moved(self, cli: Cli, begun: Path, tmp_path: Path) -> None:
        shutil.move(begun / "data", tmp_path / "elsewhere")
        assert cli("resume", "one")[0] == 2
        status, _, err = cli("resume", "one", "--data", str(tmp_path / "elsewhere" / "words.toml"))
        assert status == 0, err
        status, _, err = cli(
            "branch", "one", "--session", "two", "--generations", "1", "--data", f"{tmp_path}/elsewhere/words.toml"
        )
        assert status == 0, err

        status, _, err = cli(
            "regenerate", "one", "--session", "three", "--llm", "lexicon", "--data", f"{tmp_path}/elsewhere/words.toml"
        )
        assert status == 0, err

    def test_of_an_older_version_it_says_so_once(self, cli: Cli, store: AntibodyStore) -> None:
        grounds = store.session("one").grounds
        with writing(store.engine) as transaction:
            transaction.execute(text("UPDATE sessions SET grounds = '{}'"))
        status, _, err = cli("resume", "one", "--generations", "2")
        assert status == 0
        assert "did not record its images" in err
        assert store.session("one").grounds == grounds
        assert "did not record its images" not in cli("resume", "one", "--generations", "3")[2]

    def test_with_other_packages_which_each_generation_records(self, cli: Cli, store: AntibodyStore) -> None:
        commit, now = made_with()
        with writing(store.engine) as transaction:
            for key, value in (("numpy", "1.0"), ("code", "0")):
                change = "UPDATE generations SET versions = json_set(versions, :key, :value), git_sha = 'old'"
                transaction.execute(text(change), {"key": f"$.{key}", "value": value})
        status, _, err = cli("resume", "one", "--generations", "2")
        assert status == 0
        assert f"changed since generation 1: the code of immuno-vlm, numpy 1.0 -> {now['numpy']}\n" in err
        made = [(one.git_sha, one.versions) for one in store.generations(store.session("one").id)]
        assert made == [("old", now | {"numpy": "1.0", "code": "0"})] * 2 + [(commit, now)]


class TestIsRefused:
    @pytest.mark.parametrize(
        ("file", "change", "said"),
        [
            ("near", fewer, r"feedback images 'near': 92, were 100"),
            ("near", turned, r"feedback images 'near' are others, of another label, or changed"),
            ("fit", fewer, r"fit images: 232, were 240"),
            ("fit", turned, r"fit images are others"),
            ("known", relabelled, r"known feedback images are others"),
        ],
    )
    def test_on_other_images(
        self, cli: Cli, begun: Path, store: AntibodyStore, file: str, change: Any, said: str
    ) -> None:
        rewritten(begun / "data" / f"{file}.npz", change)
        status, _, err = cli("resume", "one")
        assert status == 2
        assert said in err
        assert "immuno refine branch one --session NEW" in err
        assert store.session("one").generations == 2

    @pytest.mark.parametrize(
        ("classes", "said"),
        [
            ("fish car house tree fox", "new in the class list: 'fox'"),
            ("car fish house tree", "the class list has another order"),
        ],
    )
    def test_with_other_classes(self, cli: Cli, begun: Path, store: AntibodyStore, classes: str, said: str) -> None:
        (begun / "data" / "classes.txt").write_text(classes.replace(" ", "\n"))
        status, _, err = cli("resume", "one")
        assert status == 2
        assert said in err
        assert store.session("one").generations == 2

    def test_with_other_synonyms(self, cli: Cli, begun: Path, store: AntibodyStore) -> None:
        """Of a file that the configuration names by the same path."""
        config, file = begun / "data" / "words.toml", begun / "data" / "synonyms.txt"
        file.write_text("fish: trout\ncar: auto\n")
        config.write_text(config.read_text().replace("[classes]", '[classes]\nsynonyms = "synonyms.txt"'))
        assert cli("start", str(config), "--session", "two", "--generations", "1")[0] == 0
        file.write_text("tree: fir\nfish: trout, cod\ncar: auto\n")
        status, _, err = cli("resume", "two", "--generations", "2")
        assert status == 2
        assert "session 'two' was measured on other data (other synonyms of 'fish', 'tree')" in err
        assert store.session("two").generations == 2
        assert cli("branch", "two", "--session", "three", "--generations", "1")[0] == 0
        file.write_text("# the same\nfish: trout\ncar: auto\n")
        assert cli("resume", "two", "--generations", "2")[0] == 0
        assert "other synonyms of 'tree', 'fish'" in cli("resume", "three")[2]

    def test_with_other_sets(self, cli: Cli, begun: Path, tmp_path: Path) -> None:
        config = begun / "data" / "words.toml"
        config.write_text(config.read_text().replace('name = "near"', 'name = "close"', 1))
        status, _, err = cli("resume", "one", "--data", str(config))
        assert status == 2
        assert "feedback images 'near' are gone; feedback images 'close' are new" in err

    def test_of_an_older_version_by_the_names_of_its_images(self, cli: Cli, begun: Path, store: AntibodyStore) -> None:
        with writing(store.engine) as transaction:
            transaction.execute(text("UPDATE sessions SET grounds = '{}'"))
        rewritten(begun / "data" / "near.npz", fewer)
        status, _, err = cli("resume", "one")
        assert status == 2
        assert "have other names" in err
        assert store.session("one").grounds == {}


def test_what_is_no_record_of_images_is_told(cli: Cli, store: AntibodyStore) -> None:
    with writing(store.engine) as transaction:
        transaction.execute(text("""UPDATE sessions SET grounds = '{"classes": 3}'"""))
    status, _, err = cli("resume", "one")
    assert status == 2
    assert "what session 'one' was measured on cannot be read" in err


def test_a_branch_on_other_images_is_measured_on_them(
    cli: Cli, begun: Path, store: AntibodyStore, tmp_path: Path
) -> None:
    rewritten(begun / "data" / "near.npz", fewer)
    status, _, err = cli("branch", "one", "--session", "two", "--generations", "1")
    assert status == 0, err
    source = store.best_generation(store.session("one").id)
    first = store.generations(store.session("two").id)[0]
    assert source is not None
    assert first.reason.startswith("branched from one:1, measured anew")
    config = stored_config("two", database=str(tmp_path / "immuno.db"))
    with Workplace.open(config, database=str(tmp_path / "immuno.db"), ray_address=None) as place:
        space = place.space()
    boundary = measure(space, store.bank(source.id), config.refine.score, config.refine.acceptance)
    assert len(feedback_of(space).outliers["near"]) == 92
    assert first.metrics == boundary.as_metrics() != source.metrics
    assert len(store.verdicts(first.id)) == len(store.verdicts(source.id)) - 8
    assert {e.scope for e in store.effects(store.session("two").id, generation=0)} == {"solo", "leave_one_out"}
    assert cli("resume", "two", "--generations", "2")[0] == 0
    assert cli("resume", "one")[0] == 2


def test_the_content_of_images_is_names_labels_and_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def listed(folder: Path) -> ImageSet:
        source = SourceConfig(path=folder)
        return read_images(source, name="id", role="id", split="fit", seed=0, classes=("cat", "dog"))

    def digest(folder: Path) -> str:
        return content_digest(listed(folder))

    one = tmp_path / "one"
    for name, shade in (("cat/1.png", 10), ("cat/2.png", 20), ("dog/1.png", 30)):
        (one / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4), shade).save(one / name)
    shown = io.StringIO()
    found, images = content_digest(listed(one), PlainProgress(stream=shown)), listed(one)
    assert shown.getvalue() == ""  # in no time
    monkeypatch.setattr(contents, "SILENT_SECONDS", 0.0)
    assert content_digest(images, PlainProgress(stream=shown)) == found
    assert shown.getvalue().startswith("reading id (fit) for its digest: 3\n")
    assert "3 of 3" in shown.getvalue()
    assert content_digest(replace(images, samples=tuple(replace(s, label="dog") for s in images.samples))) != found
    shutil.copytree(one, tmp_path / "two")
    os.utime(tmp_path / "two" / "cat" / "1.png", ns=(1, 1))
    assert digest(tmp_path / "two") == found
    for change in (
        lambda: Image.new("L", (4, 4), 11).save(tmp_path / "two" / "cat" / "1.png"),
        lambda: (tmp_path / "two" / "cat" / "2.png").rename(tmp_path / "two" / "cat" / "3.png"),
        lambda: (tmp_path / "two" / "cat" / "3.png").rename(tmp_path / "two" / "dog" / "3.png"),
        lambda: (tmp_path / "two" / "dog" / "3.png").unlink(),
    ):
        change()
        assert digest(tmp_path / "two") != found
        found = digest(tmp_path / "two")
