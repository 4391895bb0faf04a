"""The report of what is hostile, broken or missing: text stays text, and what is wrong is named."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluation.report import render_report
from immuno_core.errors import SetupError

from .report_folder import AFTER, BEFORE, HOSTILE, METHODS, make_hostile, make_results, make_scores
from .report_folder import write_folder as write
from .report_page import Page, read

# Hostile text


def test_nothing_from_outside_becomes_markup(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    hostile = make_hostile(make_results(rows))
    hostile["before"], hostile["after"] = BEFORE + HOSTILE, AFTER + HOSTILE
    hostile["gallery"][0]["image"] = "<b onclick=alert(1)>.png"
    scores = {f"{m}{HOSTILE}|{s}": v for k, v in make_scores().items() for m, s in [k.split("|")] if s == "id"}
    page = read(render_report(write(tmp_path, hostile, scores)))

    assert len(list(page.all("script"))) == 1
    assert not list(page.all("b onclick=alert(1)"))
    assert all(str(img["src"]).startswith("data:image/") for img in page.all("img"))
    assert not [name for _, attrs in page.elements for name in attrs if name.startswith("on")]
    assert "<script>window" not in page.html
    assert page.text.count("<script>window.hacked=1</script>") > 100
    assert "{{7*7}}" in page.text
    # Every place that shows it: title, methods, sets, session, guidelines, antibodies, gallery, skipped, provenance.
    for section in (
        "summary",
        "results",
        "left-out",
        "gallery",
        "bank",
        "generations",
        "embedding",
        "skipped",
        "overlap",
        "provenance",
    ):
        assert HOSTILE in page.by_id[section], section


def test_right_to_left_text_is_isolated(render: Callable[..., Page]) -> None:
    page = render(antibodies=[{"text": "\u202eאבג", "guards": "חתול"}])
    assert "<bdi>\u202eאבג</bdi>" in page.html
    assert "<bdi>חתול</bdi>" in page.html


def test_file_names_that_are_no_text_do_not_stop_the_page(render: Callable[..., Page]) -> None:
    page = render(skipped=[{"set_name": "far", "path": "caf\udce9.png", "reason": "unreadable"}])
    assert "caf?.png" in page.words("skipped")


# One file, always the same


def test_the_page_is_self_contained(full: Page) -> None:
    for tag, attrs in full.elements:
        for name in ("src", "href", "xlink:href", "action", "srcset", "poster", "data"):
            value = attrs.get(name)
            assert value is None or value.startswith(("data:", "#")), (tag, name, value)
    assert "@import" not in full.html
    addresses = set(re.findall(r"https?://[^\s\"'<)]+", full.html))
    assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert len(full.html.encode()) < 3_000_000


def test_ids_are_unique_and_every_reference_has_its_target(full: Page) -> None:
    ids = [attrs["id"] for _, attrs in full.elements if attrs.get("id")]
    assert len(ids) == len(set(ids))
    targets = set(re.findall(r"url\(#([^)]+)\)", full.html)) | set(re.findall(r'href="#([^"]+)"', full.html))
    assert targets
    assert targets <= set(ids)


def test_one_folder_gives_the_same_bytes_wherever_it_lies(
    report: Path, rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    again = render_report(write(tmp_path / "elsewhere", make_results(rows), make_scores()))
    assert again == tmp_path / "elsewhere" / "report.html"
    assert again.read_bytes() == report.read_bytes()


def test_figures_hold_no_text_of_the_results_and_no_fixed_colours(full: Page) -> None:
    figures = re.findall(r"<svg.*?</svg>", full.html, flags=re.S)
    assert not [figure for figure in figures if "calibrated" in figure or "near" in figure]
    assert not [colour for figure in figures for colour in re.findall(r"#[0-9a-f]{6}\b", figure) if colour != "#ffffff"]


# Missing parts


def test_without_scores_the_curves_are_left_out_with_a_note(render: Callable[..., Page]) -> None:
    page = render()
    assert "Left out: there is no scores.npz in the results folder." in page.words("roc")
    assert "9.8" in page.words("results")


@pytest.mark.parametrize("content", [b"", b"not an archive", b"PK\x03\x04 cut short"])
def test_broken_scores_leave_a_note(rows: list[dict[str, Any]], tmp_path: Path, content: bytes) -> None:
    folder = write(tmp_path, make_results(rows), None)
    (folder / "scores.npz").write_bytes(content)
    assert "scores.npz could not be read" in read(render_report(folder)).words("roc")


def test_scores_are_never_unpickled(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    folder = write(tmp_path, make_results(rows), None)
    np.savez(folder / "scores.npz", **{"mcm|id": np.array([{"a": 1}], dtype=object)})
    assert "scores.npz could not be read (ValueError)" in read(render_report(folder)).words("roc")


def test_unusable_scores_leave_out_their_set_only(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    scores = {k: v for k, v in make_scores().items() if k.split("|")[1] in {"id", "near", "far"}}
    for method in METHODS:
        scores[f"{method}|far"] = np.full(10, np.nan)
    page = read(render_report(write(tmp_path, make_results(rows), scores)))
    assert "Left out for want of scores: contextual, far, near_unseen and contextual_unseen." in page.words("roc")
    assert len(list(page.all("svg"))) == 2 + 3 + 1


def test_missing_pictures_leave_an_empty_place_and_a_note(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    folder = write(tmp_path, make_results(rows), None)
    (folder / "images" / "00.png").unlink()
    (folder / "images" / "01.png").write_bytes(b"not a picture")
    (folder / "images" / "02.png").write_bytes((folder / "images" / "02.png").read_bytes()[:80])
    page = read(render_report(folder))
    assert page.words("unreadable").startswith("3 of the pictures could not be read")
    assert len(list(page.all("img"))) == 15
    assert "its file is gone: 00.png" in page.words("caught")
    assert "its file is no picture: 01.png" in page.words("caught")


def test_rows_alone_are_enough(tmp_path: Path) -> None:
    least = {"method": "mcm", "ood": "near", "fpr95_id": 0.5, "auroc": 0.9, "id_accuracy": 0.9}
    (tmp_path / "results.json").write_text(json.dumps({"rows": [least]}), encoding="utf-8")
    page = read(render_report(tmp_path))
    for section in ("results", "roc", "gallery", "bank", "skipped", "provenance"):
        assert section in page.by_id
    assert "generations" not in page.by_id
    assert "No bank was given" in page.words("bank")
    assert "no opening is recorded" in page.text


def test_no_rows_at_all_is_said(render: Callable[..., Page]) -> None:
    page = render(rows=[])
    assert "There is nothing to compare" in page.words("summary")
    assert "The results hold no rows." in page.words("results")


# What is wrong is named


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (None, "no .*results.json"),
        ("{", "results.json is not JSON"),
        ('"\ud800', "results.json is not JSON"),
        ("[" * 100_000, "results.json is not JSON"),
        ("[]", "results.json holds a JSON list"),
        ("{}", "results.json: the key 'rows' is missing"),
        ('{"rows": "mcm"}', "results.json: key 'rows'"),
        ('{"rows": [{"ood": "near", "auroc": 0.5, "fpr95_id": 0.5}]}', "the key 'rows.0.method' is missing"),
        ('{"rows": [{"method": "m", "ood": "near", "auroc": 0.9, "fpr95_id": 57.3}]}', "key 'rows.0.fpr95_id'"),
        ('{"rows": [], "antibodies": [{"kind": "contextual"}]}', "the key 'antibodies.0.text' is missing"),
        ('{"rows": [], "gallery": {"a": 1}}', "key 'gallery'"),
        ('{"rows": [{"method": "m", "ood": "a", "extra": {"without_leaks": 5}}]}', "key 'rows.0.extra.without_leaks'"),
    ],
)
def test_another_shape_is_a_set_up_error_naming_file_and_key(tmp_path: Path, content: str | None, named: str) -> None:
    if content is not None:
        (tmp_path / "results.json").write_bytes(content.encode("utf-8", "surrogatepass"))
    with pytest.raises(SetupError, match=named) as caught:
        render_report(tmp_path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "report.html").exists()


def test_a_failed_rendering_keeps_the_earlier_report(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    report = render_report(write(tmp_path, make_results(rows), None))
    earlier = report.read_bytes()
    (tmp_path / "results.json").write_text("{", encoding="utf-8")
    with pytest.raises(SetupError):
        render_report(tmp_path)
    assert report.read_bytes() == earlier
    assert sorted(p.name for p in tmp_path.iterdir()) == ["images", "report.html", "results.json"]


def test_a_report_that_cannot_be_written_is_a_set_up_error(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    folder = write(tmp_path, make_results(rows), None)
    (folder / "report.html").mkdir()
    with pytest.raises(SetupError, match=r"cannot write .*report\.html"):
        render_report(folder)
    assert not list(folder.glob(".report*"))
