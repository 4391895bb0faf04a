"""Figures and tables for papers: what a run has is drawn, names are text, and the colours are the page's."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from evaluation.benchmark.results import Results
from evaluation.report import paper_table, write_plots
from evaluation.report.figures import PAGE, PRINT
from evaluation.report.papers import latex_text, markdown_text
from immuno_core.errors import SetupError

from .report_folder import AFTER, BEFORE, make_results, make_rows, make_scores, write_folder

STYLE = Path(__file__).parents[3] / "evaluation/report/templates/style.css"
HOSTILE = r"$\frac{a$_set & <b>100 %|\x{}^~ 目"
PLANE = {"classes": [[0, 1]], "antibodies": [[1, 0]], "kinds": ["visual"], "outliers": {HOSTILE: [[1, 1]]}}


@pytest.fixture(scope="module")
def whole() -> dict[str, Any]:
    """A run with few methods and one set, of a name that means something to matplotlib, LaTeX and Markdown."""
    rows = [row for row in make_rows(make_scores()) if row["ood"] == "near" and row["method"] in (BEFORE, AFTER)]
    return make_results([row | {"ood": HOSTILE} for row in rows]) | {"gallery": [], "plane": PLANE}


@pytest.fixture(scope="module")
def folder(whole: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    scores = {key.replace("|near", f"|{HOSTILE}"): each for key, each in make_scores().items()}
    return write_folder(
        tmp_path_factory.mktemp("run"), whole, {k: v for k, v in scores.items() if "$" in k or "|id" in k}
    )


def test_what_a_run_has_is_drawn_in_every_form(folder: Path, tmp_path: Path) -> None:
    written = write_plots(folder, tmp_path / "new" / "plots")
    assert list(written) == ["generations", "roc", "effects", "map"]
    for name, files in written.items():
        assert [path.name for path in files] == [f"{name}.{form}" for form in ("png", "svg", "pdf")]
        with Image.open(files[0]) as picture:
            assert min(picture.size) > 500
        assert files[1].read_text().count("<svg") == 1
        assert files[2].read_bytes().startswith(b"%PDF")
    again = write_plots(folder, tmp_path / "again", ("svg",))
    assert all(path.read_bytes() == written[name][1].read_bytes() for name, (path,) in again.items())


def test_what_a_run_lacks_is_left_out_and_nothing_at_all_is_an_error(whole: dict[str, Any], tmp_path: Path) -> None:
    lacking = write_folder(tmp_path / "a", whole | {"session": None, "plane": None}, None)
    assert list(write_plots(lacking, forms=("svg",))) == ["effects"]
    assert [path.name for path in (tmp_path / "a" / "plots").iterdir()] == ["effects.svg"]
    nothing = write_folder(tmp_path / "b", whole | {"session": None, "plane": None, "antibodies": []}, None)
    with pytest.raises(SetupError, match="no generations, scores, measured antibodies or map"):
        write_plots(nothing)
    (tmp_path / "file").write_text("")
    with pytest.raises(SetupError, match=r"cannot write .*effects"):
        write_plots(lacking, tmp_path / "file")


def test_the_colours_in_print_are_those_of_the_page() -> None:
    light = dict(re.findall(r"--(\w+): (#\w{6})", STYLE.read_text().partition("@media")[0]))
    assert {name: light[name] for name in PRINT._fields} == PRINT._asdict()
    assert len(set(PAGE)) == len(PAGE)


def test_names_are_escaped_in_tables(whole: dict[str, Any]) -> None:
    results = Results.model_validate(whole)
    latex, markdown = (paper_table(results, form) for form in ("latex", "markdown"))
    assert latex_text(HOSTILE) in latex
    assert latex_text(r"a_b\$") == r"a\_b\textbackslash{}\$"
    assert markdown_text(HOSTILE) in markdown
    assert markdown_text("a|b_c") == r"a\|b\_c"
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    assert len({re.sub(r"\\\|", "", line).count("|") for line in lines}) == 1
    assert {line.count("&") - line.count(r"\&") for line in latex.splitlines() if line.endswith(r"\\")} == {0, 2}


def test_the_best_of_a_column_is_bold_and_methods_stand_by_group(whole: dict[str, Any]) -> None:
    markdown = paper_table(Results.model_validate(whole), "markdown").splitlines()
    assert markdown[2].startswith("| *With the bank* |")
    of_after = next(line for line in markdown if line.startswith(f"| {AFTER}"))
    of_before = next(line for line in markdown if line.startswith(f"| {BEFORE}"))
    assert of_after.count("**") == 4  # FPR95 and AUROC
    assert of_before.count("**") == 2  # ID accuracy
    assert markdown.index(of_after) < markdown.index(of_before)
