"""What a run of the benchmark is known by: all that can change a figure, and nothing that cannot."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image

from db.store import open_store
from evaluation.benchmark.presets import expand
from immuno import bench as benchmark
from immuno.bench import BankInUse, bank_in_use, bench, bench_seeds, identity
from immuno.workplace import Workplace
from immuno_core.config.run import read_config
from immuno_core.errors import SetupError
from immuno_core.features import FloatArray
from immuno_core.versions import digest_of
from tests.configs import make_config, write_config
from tests.e2e.own_data import BANK, CLASSES, OWN, write_own_data
from tests.rows import result_row

SCORE = "from immuno import Score\n\n\nclass Own(Score):\n    def fit(self, space):\n        return self\n"
SESSION: Any = SimpleNamespace(id="s")
DATA: dict[str, Any] = {
    "fit": "fit",
    "feedback": {"near": "near.npz"},
    "id": {"path": "id.txt", "expected": 6},
    "ood": {"near": "sealed-near", "far": "far.safetensors"},
}
WHOLE = OWN | {
    "classes": {"names": "classes.txt", "synonyms": "synonyms.txt"},
    "antibodies": BANK | {"words": "words", "drop_known": False},
    "data": DATA,
    "methods": ["mcm", {"name": "own:Own"}],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A configuration that names a file, a folder, or a list of everything that may be named by its path."""
    folder = tmp_path / "made"
    folder.mkdir()
    write_own_data(folder)
    for name in ("fit", "id"):
        for label in CLASSES:
            for i in range(2):
                _draw(folder / name / label / f"{i}.png", i)
    _draw(folder / "sealed-near" / "0.png", 3)
    (folder / "id.txt").write_text("".join(f"id/{label}/{i}.png {label}\n" for label in CLASSES for i in range(2)))
    (folder / "words").mkdir()
    (folder / "words" / "nouns.txt").write_text("stone\n")
    (folder / "synonyms.txt").write_text("cat: tom\n")
    (folder / "own.py").write_text(SCORE)
    write_config(folder / "own.toml", **WHOLE)
    return folder


def _draw(path: Path, shade: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4), (shade, 0, 0)).save(path)


def digest(folder: Path, *, to_settle: bool = False) -> str:
    with Workplace.open(read_config(folder / "own.toml"), database=str(folder / "x.db"), ray_address=None) as place:
        planned = expand(place.config.methods, settle=to_settle)
        return digest_of(identity(place, place.sets(), bank_in_use(place), planned, to_settle=to_settle))


def configured(**sections: Any) -> Callable[[Path], None]:
    return lambda folder: _reconfigured(folder, WHOLE | sections)


def _reconfigured(folder: Path, sections: dict[str, Any]) -> None:
    write_config(folder / "own.toml", **sections)


def appended(name: str, text: str) -> Callable[[Path], None]:
    def append(folder: Path) -> None:
        with (folder / name).open("a") as file:
            file.write(text)

    return append


def drawn(name: str) -> Callable[[Path], None]:
    return lambda folder: _draw(folder / name, 200)


def with_rows(folder: Path, name: str, changed: Callable[[FloatArray], None]) -> None:
    held = dict(np.load(folder / name))
    changed(held["features"])
    np.savez(folder / name, **held)


def one_text_moves(features: FloatArray) -> None:
    features[0, 0] += 0.5


CHANGES: dict[str, Callable[[Path], None]] = {
    "seed, hence what is held out": configured(seed=2),
    "a class more": appended("classes.txt", "\nfox"),
    "how classes are said": configured(classes=WHOLE["classes"] | {"template": "a drawing of a {}."}),
    "a synonym": appended("synonyms.txt", "dog: hound\n"),
    "a word": appended("words/nouns.txt", "tree\n"),
    "places": appended("words/places.txt", "on the moon\n"),
    "adjectives": appended("words/adjectives.txt", "red\n"),
    "an antibody": appended("bank.txt", "dog\n"),
    "how antibodies are said": lambda folder: (
        (folder / "bank.txt").write_text("a photo of a fox.\n"),
        configured(antibodies=WHOLE["antibodies"] | {"template": "{}"})(folder),
    ),
    "the table of texts": lambda folder: with_rows(folder, "texts.npz", one_text_moves),
    "its scale": configured(encoder=WHOLE["encoder"] | {"logit_scale": 50.0}),
    "a fit image": drawn("fit/cat/0.png"),
    "a fit image more": drawn("fit/cat/2.png"),
    "a feedback embedding": lambda folder: with_rows(folder, "near.npz", one_text_moves),
    "a sealed image": drawn("id/dog/1.png"),
    "a sealed label": lambda folder: (folder / "id.txt").write_text(
        (folder / "id.txt").read_text().replace("1.png owl", "1.png cat")
    ),
    "a sealed outlier": drawn("sealed-near/0.png"),
    "a sealed outlier more": drawn("sealed-near/1.png"),
    "a set of another name": configured(data=DATA | {"ood": {"other": "sealed-near", "far": "far.safetensors"}}),
    "a set less": configured(data=DATA | {"ood": {"near": "sealed-near"}}),
    "what is done about overlap": configured(data=DATA | {"overlap": "drop"}),
    "a method": configured(methods=["max_logit", {"name": "own:Own"}]),
    "a setting": configured(methods=[{"name": "mcm", "temperature": 2.0}, {"name": "own:Own"}]),
    "a choice": configured(methods=[{"name": "mcm", "choose": True}, {"name": "own:Own"}]),
    "another's score": appended("own.py", "\nx = 1\n"),
    "how rows are stored": configured(cluster={"store_dtype": "float16"}),
}
HARMLESS: dict[str, Callable[[Path], None]] = {
    "nothing": lambda folder: None,
    "time stamps": lambda folder: [os.utime(path, (1, 1)) for path in folder.rglob("*")] and None,
    "the order of keys": lambda folder: _reconfigured(folder, dict(reversed(WHOLE.items()))),
    "the loop": configured(refine={"generations": 7}),
    "the cluster": configured(cluster={"actors": 2, "shard_size": 7, "store": "elsewhere"}),
    "the device": configured(encoder=WHOLE["encoder"] | {"device": "cpu", "batch_size": 3}),
    "a check": configured(data=DATA | {"id": {"path": "id.txt"}}),
    "another name of a list": lambda folder: (
        (folder / "classes.txt").rename(folder / "names.txt"),
        configured(classes=WHOLE["classes"] | {"names": "names.txt"})(folder),
    ),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_what_can_change_a_figure_changes_the_digest(folder: Path, change: str) -> None:
    before = digest(folder)
    CHANGES[change](folder)
    assert digest(folder) != before


@pytest.mark.parametrize("change", HARMLESS)
def test_what_can_change_none_does_not(folder: Path, change: str) -> None:
    before = digest(folder)
    HARMLESS[change](folder)
    assert digest(folder) == before


def test_where_the_folder_lies_changes_nothing(folder: Path) -> None:
    before = digest(folder)
    shutil.copytree(folder, folder.parent / "elsewhere")
    shutil.rmtree(folder)
    assert digest(folder.parent / "elsewhere") == before


@pytest.mark.parametrize(("name", "value"), [("versions", {"torch": "1.0"}), ("code_digest", "of another commit")])
def test_what_computes_the_figures_counts(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: object
) -> None:
    before = digest(folder)
    monkeypatch.setattr(benchmark, name, lambda: value)
    assert digest(folder) != before


def test_kinds_guards_order_and_vectors_of_the_bank_and_the_verdict_count(folder: Path) -> None:
    (folder / "bank.txt").write_text("a photo of a fox.\na photo of a cat.\n")
    configured(antibodies=BANK | {"template": "{}", "drop_known": False}, methods=["mcm"])(folder)
    with Workplace.open(read_config(folder / "own.toml"), database=str(folder / "x.db"), ray_address=None) as place:
        sets, used, planned = place.sets(), bank_in_use(place), expand(place.config.methods)
        bank = used.bank
        changed = [
            replace(bank, antibodies=(replace(bank.antibodies[0], **one), bank.antibodies[1]))
            for one in ({}, {"kind": "contextual"}, {"guards": "cat"}, {"text": "x"}, {"origin": "maturation"})
        ] + [bank.take(np.array([1, 0])), bank.take(np.array([0]))]
        digests = [
            digest_of(identity(place, sets, replace(used, bank=one), planned, to_settle=False)) for one in changed
        ]
        digests.append(digest_of(identity(place, sets, used, planned, to_settle=True)))
        for number, vectors in ((1, bank.vectors), (2, bank.vectors), (1, bank.vectors[::-1])):
            taken: Any = BankInUse(replace(bank, vectors=vectors), SESSION, SimpleNamespace(number=number))
            digests.append(digest_of(identity(place, sets, taken, planned, to_settle=False)))
    assert len(set(digests)) == len(digests)


@pytest.fixture
def light(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """A benchmark of one method on embeddings from files, in a folder of data; into tmp_path/out."""
    monkeypatch.setenv("IMMUNO_CACHE", str(tmp_path / "cache"))
    (tmp_path / "a").mkdir()
    write_own_data(tmp_path / "a")

    def measured(folder: Path = tmp_path / "a", antibodies: Any = None, **options: Any) -> tuple[str, int]:
        """The run shown, and how often the test was opened so far."""
        sections = OWN | {"methods": ["mcm"], "classes": {"names": "classes.txt", "allow_empty": True}}
        sections |= {} if antibodies is None else {"antibodies": antibodies}
        config = read_config(write_config(folder / "own.toml", **sections))
        with Workplace.open(config, database=str(tmp_path / "x.db"), ray_address=None, progress="quiet") as place:
            results = bench(place, out=tmp_path / "out", **options)
            return results.run_id, len(place.store.test_reads())

    return measured


def test_a_class_more_is_measured_and_a_copy_elsewhere_is_not(light: Callable[..., Any], tmp_path: Path) -> None:
    kept = BANK | {"drop_known": False}
    first = light(antibodies=kept)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert light(tmp_path / "b", antibodies=kept) == first
    appended("classes.txt", "\nfox")(tmp_path / "a")
    assert light(antibodies=kept)[1] == first[1] + 1


def test_what_is_there_is_measured_anew_where_that_is_asked(light: Callable[..., Any]) -> None:
    (first, reads), (again, more) = light(), light(fresh=True)
    assert (again != first, more) == (True, reads + 1)
    assert light() == (again, more)


def test_there_is_no_verdict_on_an_empty_bank_and_no_seal_is_opened_for_it(
    light: Callable[..., Any], tmp_path: Path
) -> None:
    with pytest.raises(SetupError, match=r"there is no verdict on an empty bank; name one in \[antibodies\]"):
        light(to_settle=True, antibodies={})
    with open_store(str(tmp_path / "x.db")) as store:
        assert store.test_reads() == ()


def test_what_was_measured_is_on_record_where_it_cannot_be_kept(
    light: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("immuno.bench.keep", Mock(side_effect=RuntimeError("no place at all")))
    with pytest.raises(RuntimeError, match="no place at all"):
        light()
    with open_store(str(tmp_path / "x.db")) as store:
        (run,) = store.runs()
        assert run.status == "failed"
        assert {row.method for row in store.results(run.id)} == {"mcm"}


def test_each_seed_has_the_session_of_its_name_and_what_one_lacks_has_no_mean(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    class Run(SimpleNamespace):
        def model_copy(self, update: Any) -> Run:
            return Run(**vars(self) | update)

    def one(place: Workplace, *, out: Path, **_: Any) -> Run:
        asked.append((place.config.seed, place.config.antibodies.session, out.name))
        rows = [result_row(method=name, seed=place.config.seed) for name in ("mcm", "own")]
        left_out = {"own": "it failed"} if place.config.seed == 4 else {}
        return Run(rows=rows, left_out=left_out, folder=out, save=lambda _: None, report=lambda: None)

    monkeypatch.setattr("immuno.bench.bench", one)
    config, database = make_config(tmp_path), str(tmp_path / "x.db")
    summary, _ = bench_seeds(config, (3, 4), session="bank-{seed}", out=tmp_path, database=database, progress="quiet")
    assert asked == [(3, "bank-3", "seed-3"), (4, "bank-4", "seed-4")]
    assert {row.method for row in summary.rows} == {"mcm"}
