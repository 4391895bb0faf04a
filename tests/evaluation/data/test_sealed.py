"""The sealed test is handed out only when it is opened, and every opening is on record before."""

from __future__ import annotations

from pathlib import Path

import grimp
import pytest

from evaluation.data.sealed import SealedTest
from evaluation.data.sources import read_images
from immuno_core.config.run import DataConfig, SourceConfig
from immuno_core.errors import ImmunoError, SetupError
from tests.configs import make_config


def sources(root: Path, *names: str) -> DataConfig:
    for name in ("known/cat", *names):
        (root / name).mkdir(parents=True, exist_ok=True)
        (root / name / "1.png").write_bytes(b"1")
    return make_config(root, data={"id": "known", "ood": {name: name for name in names}}).data


def test_opening_records_the_sets_and_the_reason_and_gives_sets_of_the_test_split(tmp_path: Path) -> None:
    record: list[tuple[tuple[str, ...], str]] = []
    sealed = SealedTest(sources(tmp_path, "near", "far"), seed=0)
    assert sealed.set_names == ("id", "near", "far")
    opened = sealed.open("benchmark", on_open=lambda sets, reason: record.append((sets, reason)))
    assert record == [(("id", "near", "far"), "benchmark")]
    assert (opened.id.name, opened.id.role, opened.id.split) == ("id", "id", "test")
    assert [(images.name, images.role, images.split) for images in opened.ood] == [
        ("near", "outlier", "test"),
        ("far", "outlier", "test"),
    ]
    sealed.open("again", on_open=lambda sets, reason: record.append((sets, reason)))
    assert len(record) == 2


def test_nothing_is_read_before_and_the_record_comes_first(tmp_path: Path) -> None:
    missing = make_config(tmp_path, data={"id": "none", "ood": {"near": "none"}}).data
    record: list[str] = []
    sealed = SealedTest(missing, seed=0)
    with pytest.raises(SetupError, match="there is no folder"):
        sealed.open("benchmark", on_open=lambda _, reason: record.append(reason))
    assert record == ["benchmark"]


def test_an_opening_that_cannot_be_recorded_keeps_the_seal_closed(tmp_path: Path) -> None:
    def refuse(_: tuple[str, ...], __: str) -> None:
        raise ImmunoError("the database is read-only")

    with pytest.raises(ImmunoError, match="read-only"):
        SealedTest(sources(tmp_path, "near"), seed=0).open("benchmark", on_open=refuse)


def test_an_opening_without_a_reason_is_refused(tmp_path: Path) -> None:
    record: list[str] = []
    with pytest.raises(SetupError, match="for a reason"):
        SealedTest(sources(tmp_path, "near"), seed=0).open("  ", on_open=lambda _, reason: record.append(reason))
    assert record == []


def test_the_digest_tells_whether_the_test_is_the_same_without_opening_it(tmp_path: Path) -> None:
    data = sources(tmp_path, "near", "far")
    first = SealedTest(data, seed=0).digest()
    assert SealedTest(data, seed=0).digest() == first
    (tmp_path / "far" / "2.png").write_bytes(b"2")
    assert SealedTest(data, seed=0).digest() != first


def test_no_outlier_set_may_be_called_like_the_known_one(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="called 'id'"):
        SealedTest(sources(tmp_path, "near", "id"), seed=0)


def test_labels_that_are_indices_become_names(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("known/cat/1.png 1\n")
    data = sources(tmp_path, "near").model_copy(update={"id": SourceConfig(path=tmp_path / "list.txt")})
    opened = SealedTest(data, seed=0, classes=("dog", "cat")).open("benchmark", on_open=lambda _, __: None)
    assert [sample.label for sample in opened.id.samples] == ["cat"]


def test_who_may_read_images_may_not_read_the_sealed_ones(tmp_path: Path) -> None:
    source = sources(tmp_path, "near").ood[0]
    with pytest.raises(ImmunoError, match="the split 'test' is sealed"):
        read_images(source, name="near", role="outlier", split="test", seed=0)  # type: ignore[arg-type]


def test_nothing_that_the_agents_room_imports_leads_to_a_reader_of_the_sealed_split() -> None:
    rooms = grimp.build_graph("agents", "evaluation", "immuno", "immuno_core", cache_dir=None)
    for reader in ("evaluation.data.sealed", "evaluation.data.sources"):
        assert rooms.find_shortest_chains("immuno", reader)
        assert not rooms.find_shortest_chains("agents", reader)
