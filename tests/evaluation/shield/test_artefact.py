"""A shield goes through its folder unchanged, and whatever was changed in it is refused by name."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluation.metrics import threshold_at
from evaluation.scores.base import held_out
from evaluation.shield.artefact import SCHEMA_VERSION, SHIELD_FILE, Artefact, read_manifest
from evaluation.shield.thresholds import TABLES
from immuno_core.errors import SetupError
from tests.evaluation.shield.shields import APART, CALIBRATED, make_shield
from tests.evaluation.shield.test_head import BARE, KNOWN, SPACE, TEST

SHIELD = make_shield(per_class=True)
FROZEN = Path(__file__).parent / "frozen"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    SHIELD.save(tmp_path / "shield")
    return tmp_path / "shield"


def test_what_is_loaded_is_what_was_saved(folder: Path) -> None:
    loaded = Artefact.load(folder)
    assert loaded.manifest.model_dump(exclude={"files", "digest"}) == SHIELD.manifest.model_dump(
        exclude={"files", "digest"}
    )
    names = [str(i) for i in range(len(TEST))]
    assert loaded.verdicts(TEST, names)[0] == SHIELD.verdicts(TEST, names)[0]
    assert loaded.head.judge(TEST).score.tolist() == SHIELD.head.judge(TEST).score.tolist()
    assert all(loaded.calibration.tables[name].tolist() == SHIELD.calibration.tables[name].tolist() for name in TABLES)
    assert loaded.calibration.fired.tolist() == SHIELD.calibration.fired.tolist()


def test_the_score_is_fitted_anew_from_a_folder(folder: Path) -> None:
    loaded = Artefact.load(folder)
    again = loaded.fit(loaded.space())
    assert again.score(TEST) == pytest.approx(CALIBRATED.fit(SPACE).score(TEST), abs=1e-6)


def test_thresholds_are_those_of_the_benchmark() -> None:
    known = CALIBRATED.fit(APART).score(KNOWN.features)
    assert SHIELD.manifest.thresholds.overall.value == pytest.approx(threshold_at(known), abs=1e-5)
    assert SHIELD.manifest.calibrated_on == len(KNOWN)
    space = replace(SPACE, feedback=None)
    shield = make_shield(space)
    crossed = shield.space()
    expected = threshold_at(held_out(crossed, CALIBRATED.fit, lambda one, images: one.score(images.features)))
    assert crossed.feedback is not None
    assert crossed.feedback.parts is not None
    assert shield.manifest.thresholds.overall.value == pytest.approx(expected, abs=1e-5)


def test_without_known_images_there_is_no_shield() -> None:
    with pytest.raises(SetupError, match="needs known images"):
        make_shield(replace(BARE, fit=None, fit_labels=None))


def test_a_shield_may_keep_its_known_images_to_itself(tmp_path: Path) -> None:
    make_shield(keep_known=False).save(tmp_path)
    loaded = Artefact.load(tmp_path)
    assert "known" not in loaded.manifest.files
    assert loaded.head.judge(TEST).score.tolist() == SHIELD.head.judge(TEST).score.tolist()
    with pytest.raises(SetupError, match="--no-known"):
        loaded.space()


@pytest.mark.parametrize("role", ["head", "calibration", "known", SHIELD_FILE])
def test_a_changed_byte_is_refused_by_the_name_of_its_file(folder: Path, role: Any) -> None:
    name = role if role == SHIELD_FILE else read_manifest(folder).files[role].name
    content = bytearray((folder / name).read_bytes())
    place = content.index(b'"accept": 0.95') + 10 if role == SHIELD_FILE else len(content) - 3
    if role == SHIELD_FILE:
        content[place : place + 4] = b"0.85"
    else:
        content[place] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(SetupError, match=f"{name} was changed"):
        Artefact.load(folder)


def test_what_is_no_shield_says_so(tmp_path: Path, folder: Path) -> None:
    manifest = json.loads((folder / SHIELD_FILE).read_text())
    cases: dict[str, tuple[str | None, str]] = {
        "none": (None, "no shield at .*none"),
        "torn": ('{"format": "immuno sh', "not valid JSON"),
        "list": ("[]", "not the shield.json"),
        "other": ('{"format": "else", "schema_version": 1}', "not the shield.json"),
        "later": (json.dumps({**manifest, "schema_version": 99}), "version 99.*upgrade"),
        "missing": (json.dumps({k: v for k, v in manifest.items() if k != "classes"}), "'classes': Field required"),
    }
    for name, (content, said) in cases.items():
        if content is not None:
            (tmp_path / name).mkdir()
            (tmp_path / name / SHIELD_FILE).write_text(content)
        with pytest.raises(SetupError, match=said):
            Artefact.load(tmp_path / name)
    (folder / manifest["files"]["head"]["name"]).unlink()
    with pytest.raises(SetupError, match=manifest["files"]["head"]["name"]):
        Artefact.load(folder)


def test_a_file_beyond_the_folder_is_no_file_of_a_shield(folder: Path) -> None:
    manifest = json.loads((folder / SHIELD_FILE).read_text())
    manifest["files"]["head"]["name"] = "../head-0123456789abcdef.safetensors"
    (folder / SHIELD_FILE).write_text(json.dumps(manifest))
    with pytest.raises(SetupError, match=r"files\.head\.name"):
        Artefact.load(folder)


def test_saving_again_leaves_one_whole_shield(folder: Path) -> None:
    before = {path.name for path in folder.iterdir()}
    make_shield(replace(SPACE, feedback=None)).save(folder)
    after = {path.name for path in folder.iterdir()}
    assert len(after) == len(before) == 4
    assert Artefact.load(folder).manifest.calibrated_on == 120


def test_a_folder_that_cannot_be_written_leaves_what_was_there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("evaluation.shield.artefact.write_atomically", full)
    with pytest.raises(SetupError, match="No space left"):
        make_shield(replace(SPACE, feedback=None)).save(folder)
    assert Artefact.load(folder).manifest.calibrated_on == len(KNOWN)


def test_numbers_that_are_none_never_reach_the_head(folder: Path) -> None:
    shield = make_shield()
    shield.head.radii[0] = np.nan
    shield.save(folder)
    with pytest.raises(SetupError, match="'radii' holds numbers that are not finite"):
        Artefact.load(folder)


def test_a_shield_of_every_released_schema_is_read() -> None:
    """Written by the version that each folder is named after; they are never written again."""
    for folder in sorted(FROZEN.iterdir()):
        loaded = Artefact.load(folder)
        assert folder.name == f"v{loaded.manifest.schema_version}"
        assert loaded.head.judge(TEST).score == pytest.approx(SHIELD.head.judge(TEST).score, abs=1e-5)
        assert loaded.manifest.thresholds.overall.value == pytest.approx(SHIELD.manifest.thresholds.overall.value)
        assert loaded.fit(loaded.space()).score(TEST) == pytest.approx(CALIBRATED.fit(SPACE).score(TEST), abs=1e-5)
    assert (FROZEN / f"v{SCHEMA_VERSION}").is_dir()
