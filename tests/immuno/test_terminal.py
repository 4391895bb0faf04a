"""Tables in the terminal: one line a generation, as wide as the terminal or COLUMNS, and nothing lost."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.console import Console

from agents import PromptVersion
from db import GenerationRecord
from immuno.terminal.generations import generation_tables, metric_cells, print_generations, sparkline
from immuno.terminal.output import print_rows, stacked
from immuno.terminal.sessions import print_prompts

START = datetime(2026, 1, 1, tzinfo=UTC)


def generation(number: int, **more: Any) -> GenerationRecord:
    half = {"auroc": 0.0123, "auroc_error": 0.0066, "fpr95": -0.149, "fpr95_error": 0.071}
    metrics = {"mean_fpr95": 0.4 / (number + 1), "auroc": {"near": 0.9, "far": 0.96}, "fpr95": {"near": 0.4}}
    if number:
        metrics |= {"first_half": half, "second_half": half, "withdrawn": 5, "custom": 0.25}
        metrics |= {"maturation": {"kept": number == 2, "antibodies": 76}}
    usual: dict[str, Any] = {
        "id": f"g{number}",
        "session_id": "s",
        "session": "one",
        "number": number,
        "parent": number - 1 if number else None,
        "prompt_version": 0,
        "accepted": number != 3,
        "reason": "a long [bold]sentence[/bold] \x1b[31m" + "of words " * 30,
        "guideline": "",
        "metrics": metrics,
        "random_state": {},
        "git_sha": None,
        "versions": {},
        "started_at": START,
        "finished_at": START + timedelta(seconds=75),
        "proposed": 258 * number,
        "kept": 144 * number,
        "bank": 144 * number,
        "calls": 17,
        "prompt_tokens": 1000,
        "completion_tokens": 100,
        "cost_usd": 0.5,
    }
    return GenerationRecord(**usual | more)


GENERATIONS = [generation(k) for k in range(4)]


def lines(width: int, *, verbose: bool = False, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("COLUMNS", str(width))
    out = Console(width=width, file=io.StringIO(), record=True)
    for table in generation_tables(GENERATIONS, verbose=verbose):
        out.print(table)
    return out.export_text().splitlines()


def test_a_generation_is_one_line_with_its_numbers_in_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = lines(100, monkeypatch=monkeypatch)
    assert len(shown) == 1 + 2 + 1 + 4  # what it is about, two lines of headings, a rule, a line each
    assert shown[4].split() == ["0", "start", "0", "40.0", "93.0"]
    change = ["+1.23±0.66", "-14.9±7.1"]
    assert shown[6].split() == ["2", "kept", "288/516", "288", "13.3", "93.0", *change, *change, "5", "76"]
    assert shown[7].split()[:2] == ["3", "lost"]
    assert "sentence" not in "".join(shown)


@pytest.mark.parametrize("width", [30, 60, 100, 250])
def test_the_tables_fit_and_lose_nothing(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    shown = lines(width, verbose=True, monkeypatch=monkeypatch)
    assert max(map(len, shown)) <= width
    words = " ".join(shown).split()
    for one in ("288/516", "+1.23±0.66", "-14.9±7.1", "76", "$0.5000", "near"):
        assert one in words
    text = "".join("".join(shown).split())
    assert text.count("[bold]sentence[/bold]") == 4
    assert "\x1b" not in text


def test_a_pipe_is_as_wide_as_columns_says(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for width in (60, 200):
        monkeypatch.setenv("COLUMNS", str(width))
        print_generations(GENERATIONS)
        longest = max(map(len, capsys.readouterr().out.splitlines()))
        assert (longest > 100) == (width > 100) or longest <= width
        print_rows(("name", "text"), [("a", "word " * 60)], "rows")
        assert width - 8 <= max(map(len, capsys.readouterr().out.splitlines())) <= width


def test_every_number_that_was_measured_has_a_column() -> None:
    found = metric_cells(GENERATIONS[2])
    assert found["custom"] == "0.25"
    assert found["ΔFPR95 2nd half"] == "-14.9±7.1"
    assert (found["withdrawn"], found["matured"]) == ("5", "76")
    assert "mean_fpr95" not in found


def test_a_sparkline_rises_with_what_it_shows() -> None:
    assert sparkline([0.0, 0.5, 1.0, None]) == "▁▅█ "
    assert sparkline([0.0, 0.0]) == "▁▁"
    assert sparkline([]) == ""


def test_columns_stand_in_as_many_tables_as_they_need_each_with_the_first() -> None:
    tables = stacked({"key": ["a"], "one": ["1" * 10], "none": [""], "two": ["2" * 10]}, room=20)
    assert [[str(column.header) for column in table.columns] for table in tables] == [["key", "one"], ["key", "two"]]


def version(number: int, diff: str, guideline: str = "Be brief.") -> PromptVersion:
    return PromptVersion(number, number - 1 if number else None, guideline, diff, "", ())


def test_prompts_show_what_changed_and_no_numbers_that_always_do(capsys: pytest.CaptureFixture[str]) -> None:
    lists = "- FPR95 would rise by 5.8 points.\n+ FPR95 would rise by 4.5 points.\n"
    lists += "- Prefer: turkey, heart, tent.\n+ Prefer: turkey, heart, seaplane.\n  Write more.\n+ Write [b]less[/b]."
    print_prompts([version(0, ""), version(1, lists), version(2, "- It was 1.\n+ It was 2.")])
    out = capsys.readouterr().out
    assert "Be brief." in out
    assert "+ Prefer: seaplane" in out
    assert "- Prefer: tent" in out
    assert "+ Write [b]less[/b]." in out
    assert "turkey" not in out
    assert "FPR95 would" not in out
    assert "nothing but numbers" in out
    print_prompts([version(1, lists)], verbose=True)
    assert "FPR95 would rise by 4.5" in capsys.readouterr().out
