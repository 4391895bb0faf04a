"""Whatever sections a configuration has, `bench --settle` gives a verdict, or says what is missing before the seal."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from db.store import open_store
from evaluation.data.precomputed import PrecomputedEmbedder
from immuno import bench as benchmark
from immuno.bench import bench
from immuno.results import Results
from immuno.workplace import Workplace
from immuno_core.config.run import RunConfig
from immuno_core.errors import SetupError
from immuno_core.features import FloatArray
from tests.configs import make_config

pytestmark = pytest.mark.usefixtures("unpainted")

CLASSES = ("cat", "dog", "owl")
TEXTS = [f"a {kind} {name}" for kind in ("red", "small") for name in CLASSES]


class WordEmbedder(PrecomputedEmbedder):
    """Feature files, and any text at all: a direction drawn by it, near those of the texts it shares words with."""

    def embed_texts(self, texts: Sequence[str]) -> FloatArray:
        rows = []
        for text in texts:
            words = [np.random.default_rng(list(word.encode())).normal(size=16) for word in text.split()]
            rows.append(np.sum(words, axis=0))
        unit = np.array(rows) / np.linalg.norm(rows, axis=1, keepdims=True)
        return unit.astype(np.float32)


def write_sets(folder: Path) -> None:
    random = np.random.default_rng(0)
    np.savez(folder / "texts.npz", texts=np.array(["a"]), features=random.normal(size=(1, 16)))
    centres = np.array([np.random.default_rng(list(name.encode())).normal(size=16) for name in CLASSES])
    for name, each in (("fit", 8), ("known", 10), ("id", 12), ("one", 1)):
        labels = np.repeat(np.arange(3), each)
        np.savez(folder / f"{name}.npz", features=centres[labels] + random.normal(size=(3 * each, 16)), labels=labels)
    for name in ("near", "far", "shown", "other"):
        np.savez(folder / f"{name}.npz", features=random.normal(size=(25, 16)))
    (folder / "classes.txt").write_text("\n".join(CLASSES))
    kinds = ("look_alike", "contextual")
    for name, used in (("both", kinds), ("look_alikes", kinds[:1]), ("contextual", kinds[1:])):
        lines = [
            json.dumps({"text": text, "kind": used[i % len(used)], "guards": CLASSES[i % 3]})
            for i, text in enumerate(TEXTS)
        ]
        (folder / f"{name}.jsonl").write_text("\n".join(lines))


def config(folder: Path, *, data: dict[str, Any], bank: str = "both", methods: Any = ("immuno_vlm",)) -> RunConfig:
    return make_config(
        folder,
        encoder={"kind": "precomputed", "texts": "texts.npz"},
        classes={"names": "classes.txt"},
        antibodies={"file": f"{bank}.jsonl", "template": "{}", "drop_known": False},
        data={"id": "id.npz", "ood": {"near": "near.npz", "far": "far.npz"}, **data},
        methods=list(methods),
    )


def settled(folder: Path, new_database: Path, given: RunConfig) -> tuple[Results, int]:
    """The results, and how often the seal was opened for them."""
    database = folder / "immuno.db"
    database.write_bytes(new_database.read_bytes())
    with open_store(str(database)) as store:
        place = Workplace(given, lambda: store, WordEmbedder(given.encoder))
        results = bench(place, out=folder / "out", to_settle=True)
        return results, len(store.test_reads())


SECTIONS = [
    (fit, known, shown)
    for fit, known, shown in itertools.product((None, "fit.npz"), (None, "known.npz"), (0, 1, 2))
    if fit or known or not shown
]


@pytest.mark.parametrize(("fit", "known", "shown"), SECTIONS)
def test_every_combination_of_open_sets_gives_a_verdict(
    tmp_path: Path,
    new_database: Path,
    capsys: pytest.CaptureFixture[str],
    fit: str | None,
    known: str | None,
    shown: int,
) -> None:
    write_sets(tmp_path)
    data: dict[str, Any] = {"fit": fit, "feedback_id": known}
    data = {key: value for key, value in data.items() if value}
    if shown:
        data["feedback"] = {name: f"{name}.npz" for name in ("shown", "other")[:shown]}
    results, opened = settled(tmp_path, new_database, config(tmp_path, data=data))
    assert opened == 1
    verdict = results.verdict
    assert verdict.status in ("supported", "refuted", "undecided")
    assert {"bank", "none", "noise", "random_words"} <= set(verdict.acceptance)
    (threshold,) = {row.metrics["threshold"] for row in results.rows if row.method == "immuno_vlm"}
    # Known images, whether of the fit split or not, are what a threshold needs.
    assert (threshold is not None) == bool(fit or known)
    assert (verdict.accepted_and_right is not None) == bool(fit or known)
    chosen = next(row.extra.get("chosen", {}) for row in results.rows if row.method == "immuno_vlm")
    assert ("candidates" in chosen) == bool(shown)
    assert (chosen.get("feedback_fpr95_unlike") is not None) == (shown == 2)
    notes = capsys.readouterr().err
    assert ("no [[data.feedback]] to choose by" in notes) == (shown == 0)
    assert ("no outliers unlike it judged" in notes) == (shown == 1)


@pytest.mark.parametrize("bank", ["look_alikes", "contextual"])
def test_a_bank_of_one_kind_gives_a_verdict_and_a_note(
    tmp_path: Path, new_database: Path, capsys: pytest.CaptureFixture[str], bank: str
) -> None:
    write_sets(tmp_path)
    data = {"fit": "fit.npz", "feedback": {"shown": "shown.npz"}}
    results, _ = settled(tmp_path, new_database, config(tmp_path, data=data, bank=bank))
    assert results.verdict.status
    assert f"of the kind {bank.removesuffix('s')}; it lacks the other" in capsys.readouterr().err


def test_one_fit_image_of_each_class_is_enough_to_run_and_is_noted(
    tmp_path: Path, new_database: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_sets(tmp_path)
    data = {"fit": "one.npz", "feedback": {"shown": "shown.npz"}}
    methods = ["immuno_vlm", {"preset": "scores"}, {"preset": "ablations"}]
    results, _ = settled(tmp_path, new_database, config(tmp_path, data=data, methods=methods))
    assert results.verdict.status
    assert all(results.left_out.values())
    notes = capsys.readouterr().err
    assert "no class has two fit images" in notes
    assert "the smallest class has 1 fit image" in notes


def test_known_images_to_measure_on_are_all_fit_images_or_a_half_that_is_not_fitted_on(
    tmp_path: Path, new_database: Path
) -> None:
    write_sets(tmp_path)
    (tmp_path / "immuno.db").write_bytes(new_database.read_bytes())
    given = config(tmp_path, data={"fit": "fit.npz", "feedback": {"shown": "shown.npz"}})
    with open_store(str(tmp_path / "immuno.db")) as store:
        place = Workplace(given, lambda: store, WordEmbedder(given.encoder))
        loop, whole = place.space(halved=True), place.space()
    assert loop.fit is not None
    assert loop.feedback is not None
    assert (len(loop.fit), len(loop.feedback.known), loop.feedback.parts) == (12, 12, None)
    assert (loop.fit.split, loop.feedback.known.split) == ("fit", "feedback")
    assert not set(loop.fit.ids) & set(loop.feedback.known.ids)
    assert whole.fit is not None
    assert whole.feedback is not None
    assert whole.feedback.parts is not None
    assert set(whole.fit.ids) == set(whole.feedback.known.ids) == {*loop.fit.ids, *loop.feedback.known.ids}
    np.testing.assert_array_equal(whole.fit.features, whole.feedback.known.features)


@pytest.mark.parametrize("overlap", ["error", "drop"])
def test_images_that_are_fit_and_feedback_are_refused_or_left_out(
    tmp_path: Path, new_database: Path, overlap: str
) -> None:
    write_sets(tmp_path)
    with np.load(tmp_path / "fit.npz") as fit, np.load(tmp_path / "shown.npz") as shown:
        np.savez(tmp_path / "shown.npz", features=np.vstack([fit["features"][:4], shown["features"]]))
    given = config(tmp_path, data={"overlap": overlap, "fit": "fit.npz", "feedback": {"shown": "shown.npz"}})
    if overlap == "error":
        with pytest.raises(SetupError, match=r"'0' of feedback set 'shown' is '0' of fit set 'id'"):
            settled(tmp_path, new_database, given)
        return
    results, _ = settled(tmp_path, new_database, given)
    assert [(one.set, one.count, one.of_set) for one in results.overlap] == [("shown", 4, "fit set 'id'")]


def test_outliers_without_known_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"give \[data.feedback_id\], or \[data.fit\]"):
        config(tmp_path, data={"feedback": {"shown": "shown.npz"}})


@pytest.mark.parametrize("part", ["settle", "gallery", "leaks", "published"])
def test_what_fails_fails_before_the_seal_is_broken(
    tmp_path: Path, new_database: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise SetupError("it cannot be done")

    monkeypatch.setattr(benchmark, part, fail)
    write_sets(tmp_path)
    (tmp_path / "immuno.db").write_bytes(new_database.read_bytes())
    given = config(tmp_path, data={"fit": "fit.npz"})
    with open_store(str(tmp_path / "immuno.db")) as store:
        with pytest.raises(SetupError, match="it cannot be done"):
            bench(Workplace(given, lambda: store, WordEmbedder(given.encoder)), out=tmp_path / "out", to_settle=True)
        assert store.test_reads() == ()
