"""Texts from outside: in a spreadsheet, on a terminal, as JSON."""

from __future__ import annotations

import pytest

from immuno_core.text import printable, safe_cell, strict_json


@pytest.mark.parametrize(
    "formula",
    [
        "=1+1", "+1", "-1+2", "@SUM(1)", "\t=1", "\r=1", "\n=1", " =1", "\u00a0=1", "\u3000=1", "\u200b=1", "\ufeff=1",
        "\uff1d1+1", "\uff0b1", "\uff0d1", "\uff201", "\n \u200b\uff1d1", " " * 5000 + "=1", "\x0b=1", "\u2028=1",
    ],
)  # fmt: skip
def test_a_spreadsheet_runs_no_text(formula: str) -> None:
    assert safe_cell(formula) == f"'{formula}"


@pytest.mark.parametrize("value", ["a dog", "", "a = b", " a", "3-1", None, -0.5, 7])
def test_what_is_no_formula_stays(value: object) -> None:
    assert safe_cell(value) == value


def test_line_breaks_are_written_out_unless_they_are_wanted() -> None:
    assert printable("a\nb\x1b") == r"a\nb\x1b"
    assert printable("a\nb\x1b", lines=True) == "a\nb\\x1b"


@pytest.mark.parametrize(
    "raw", ['{"a": 1, "a": 2}', '[{"b": {"c": 1, "c": 1}}]', "NaN", "[" * 100_000, "[Infinity]", "{", ""]
)
def test_json_that_would_not_be_read_whole_is_refused(raw: str) -> None:
    with pytest.raises(ValueError, match=r"twice|no JSON|too deep|Expect"):
        strict_json(raw)
