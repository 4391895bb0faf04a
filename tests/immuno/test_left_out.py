"""Images and classes that a run does without are counted, by reason, wherever its figures are shown."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cluster import EncoderSpec, LocalEmbedder
from db.store import open_store
from immuno.bench import bench
from immuno.results import Results
from immuno.terminal.results import print_bench
from immuno.workplace import Workplace
from immuno_core.errors import SetupError
from tests.cluster.tiny_models import write_images
from tests.configs import make_config


@pytest.fixture
def measured(tmp_path: Path, tiny_encoder_dir: Path, new_database: Path) -> Callable[..., Results]:
    """`measured(**sections)`: a benchmark over the sets fit, known, near, id and far, of cats and dogs."""
    for number, name in enumerate(("fit", "known", "near", "id", "far")):
        write_images(tmp_path / name, {"cat": 3, "dog": 3}, seed=number)
    data = {"fit": "fit", "feedback_id": "known", "feedback": {"near": "near"}, "id": "id", "ood": {"far": "far"}}

    @contextmanager
    def place(sections: dict[str, Any]) -> Iterator[Workplace]:
        spec = EncoderSpec(f"local-dir:{tiny_encoder_dir}")
        (tmp_path / "x.db").write_bytes(new_database.read_bytes())
        with open_store(str(tmp_path / "x.db")) as store, LocalEmbedder(spec, tmp_path / "store") as embedder:
            yield Workplace(make_config(tmp_path, data=data, **sections), lambda: store, embedder, embedder.journal)

    def run(**sections: Any) -> Results:
        with place(sections) as opened:
            return bench(opened, out=tmp_path / "out")

    return run


def test_what_was_left_out_is_in_the_results_the_page_and_the_terminal(
    measured: Callable[..., Results], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "fit/cat/gone.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "near/dog/a\x1b[2J.heic").write_bytes(b"1")
    for name in ("fit", "known", "id", "far"):
        (tmp_path / name / "dog/000.png").write_bytes(b"no image")
    results = measured()
    reasons = {"not an image": 4, "a link that leads nowhere": 1, "Pillow does not read .heic": 1}
    assert json.loads((tmp_path / "out/results.json").read_bytes())["skipped_by_reason"] == reasons
    assert [(one.set_name, Path(one.path).name) for one in results.skipped] == [
        ("fit", "gone.png"),
        ("fit", "000.png"),
        ("known feedback", "000.png"),
        ("feedback near", "a\x1b[2J.heic"),
        ("id", "000.png"),
        ("far", "000.png"),
    ]
    assert results.embedding is not None
    assert {(one.path, one.reason) for one in results.embedding.quarantined} == {
        (one.path, one.reason) for one in results.skipped
    }
    print_bench(results)
    shown = " ".join(capsys.readouterr().out.split())
    assert "6 image(s) were left out: 4: not an image" in shown
    assert "1: Pillow does not read .heic" in shown
    assert "\x1b" not in shown
    page = (tmp_path / "out/report.html").read_text(encoding="utf-8")
    assert "<li>4: <bdi>not an image</bdi></li>" in page
    assert "<li>1: <bdi>a link that leads nowhere</bdi></li>" in page


def test_a_class_without_a_fit_image_that_can_be_read_is_refused_before_the_seal_is_opened(
    measured: Callable[..., Results], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for image in (tmp_path / "fit/dog").iterdir():
        image.write_bytes(b"no image")
    with pytest.raises(SetupError, match=r"1 of 2 .* no fit image that could be read \(first: 'dog'\).*allow_empty"):
        measured()
    with open_store(str(tmp_path / "x.db")) as store:
        assert store.test_reads() == ()
    results = measured(classes={"names": "dataset", "allow_empty": True})
    (warning,) = (one for one in results.warnings if "images: each of them" not in one)
    assert "(first: 'dog')" in warning
    assert f"warning: {warning}" in capsys.readouterr().err


def test_antibodies_that_guard_no_known_class_are_told(
    measured: Callable[..., Results], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bank = [("a robot cat", "catt"), ("a toy", ""), ("a wolf", "dog"), ("a statue", "horse")]
    (tmp_path / "bank.jsonl").write_text(
        "".join(json.dumps({"text": text, "kind": "look_alike", "guards": guards}) + "\n" for text, guards in bank)
    )
    results = measured(antibodies={"file": "bank.jsonl"}, methods=["mcm", "calibrated"])
    (warning,) = (one for one in results.warnings if "images: each of them" not in one)
    assert warning.startswith("2 of the bank's 4 antibodies guard no known class")
    assert "'a robot cat' guards 'catt'; did you mean 'cat'?" in warning
    print_bench(results)
    assert "2 of the bank's 4 antibodies guard no known class" in capsys.readouterr().out
    assert "guard no known class" in (tmp_path / "out/report.html").read_text(encoding="utf-8")
