"""The questions of `immuno db` on the command line: as tables, as JSON, as CSV."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from db.calls import record_calls
from db.claims import ask_to_stop, claim, session_work
from db.records import EffectDraft, SessionRecord
from db.store import AntibodyStore, open_store
from immuno.cli.db import group
from immuno_core.errors import SetupError
from immuno_core.records import Verdict
from tests.db.build import antibody, call, draft, effect, result

ROOT = Path(__file__).parents[3]
EVIL = "=HYPERLINK(1) \x1b[31mdog\x07, \u202eevil\ud800 \U0001f98a\nnext"
QUESTIONS = (
    ("sessions",),
    ("generations",),
    ("antibodies",),
    ("effects",),
    ("prompts",),
    ("calls",),
    ("runs",),
    ("running",),
    ("top",),
    ("lineage", "alpha"),
    ("diff", "alpha:0", "alpha:1"),
    ("verdicts", "0.png"),
    ("stats",),
    ("sql", "SELECT * FROM antibodies"),
)
"""All but `nearest`, which loads NumPy."""


ODD = ("\x00", "\udcff", "\u202e\u05d0", "\U0001f98a" * 36, "\udcff" * 36, "x" * 36)
ASKED = {
    "nearest": "no antibody in",
    "lineage": "nothing in",
    "verdicts": "no verdict",
    "results": "no run",
    "top": "no session",
}


@pytest.fixture
def filled(path: Path, store: AntibodyStore, session: SessionRecord) -> Path:
    store.save_generation(draft(session.id))
    evil = antibody(EVIL, guards=EVIL, kind="contextual", seed=3)
    store.save_generation(
        draft(
            session.id,
            1,
            antibodies=(evil,),
            effects=(EffectDraft(effect("solo", EVIL, gain=0.75), evil.id),),
            verdicts=(Verdict(EVIL, "0.png", 0.5, False, EVIL, evil.id),),
            bank=(evil.id,),
            reason=EVIL,
        )
    )
    asked = call(1, EVIL, EVIL, request_text=EVIL, model=EVIL, cost_usd=0.25)
    record_calls(store, session.id, [asked])
    store.start_run(config={}, config_digest="c", seed=0, git_sha=None, versions={}, session_id=session.id)
    claim(store.engine, EVIL, "me")
    store.close()
    return path


def printed(path: Path, *arguments: str) -> str:
    result = CliRunner().invoke(group, [*arguments, "--db", str(path)])
    assert (result.exception, result.stderr) == (None, "")
    return result.stdout


@pytest.mark.parametrize("question", [*QUESTIONS, ("nearest", "robot dog 0")], ids=lambda question: question[0])
def test_every_question_is_answered_as_a_table_as_json_and_as_csv(filled: Path, question: tuple[str, ...]) -> None:
    in_json, in_csv = printed(filled, *question, "--json"), printed(filled, *question, "--csv")
    rows = json.loads(in_json)
    assert rows
    assert in_json.isascii()
    read = list(csv.DictReader(io.StringIO(in_csv)))
    assert len(read) == len(rows) == len(in_csv.splitlines()) - 1
    assert list(read[0]) == list(rows[0])
    assert not [cell for row in read for cell in row.values() if cell.startswith("=")]
    for answer in (printed(filled, *question), in_csv):
        assert {unicodedata.category(one) for one in answer if one != "\n"}.isdisjoint({"Cc", "Cf", "Cs"})


@pytest.mark.parametrize(
    ("command", "option", "wrong"),
    [
        (("sql", "SELECT 1"), "--seconds", ("nan", "inf", "1e300", "0", "-1", "9" * 400)),
        (("sql", "SELECT 1"), "--limit", ("0", "-1", "1.5", "9" * 20, "9" * 5000)),
        (("antibodies",), "--limit", ("0", "9" * 20)),
        (("antibodies",), "--generation", ("-1", "9" * 20)),
        (("effects",), "--generation", ("9" * 20,)),
        (("export", "alpha", "bank.jsonl"), "--generation", ("9" * 20,)),
        (("nearest", "dog 0"), "--limit", ("9" * 20,)),
        (("top",), "--limit", ("9" * 20,)),
        (("top",), "--min-gain", ("nan", "inf", "7")),
        (("top",), "--max-harm", ("nan", "-inf", "-1")),
    ],
)
def test_a_number_beyond_its_bounds_is_a_wrong_use(
    filled: Path, command: tuple[str, ...], option: str, wrong: tuple[str, ...]
) -> None:
    for number in wrong:
        with pytest.raises(click.UsageError, match=r"not in the range|not a (number|valid)"):
            group([*command, option, number, "--db", str(filled)], standalone_mode=False)


def test_a_text_that_is_a_formula_starts_with_an_apostrophe_in_csv_and_is_whole_in_json(filled: Path) -> None:
    (first, _) = csv.DictReader(io.StringIO(printed(filled, "top", "--csv")))
    assert first["text"].startswith(r"'=HYPERLINK(1) \x1b[31mdog\x07, ")
    assert first["gain"] == "0.75"
    assert json.loads(printed(filled, "top", "--json"))[0]["text"] == EVIL


def test_what_csv_says_of_nothing_of_nan_and_of_a_mapping(filled: Path) -> None:
    first, *_ = csv.DictReader(io.StringIO(printed(filled, "generations", "--csv")))
    assert (first["parent"], first["accepted"], first["metrics"]) == ("", "True", '{"mean_fpr95": 0.5}')
    empty = printed(filled, "antibodies", "--class", "nobody", "--csv")
    assert empty.startswith("text,kind,guards,rationale,id,status,")
    assert len(empty.splitlines()) == 1


def test_tables_say_what_matters(filled: Path) -> None:
    assert all(word in printed(filled, "top") for word in ("session alpha", "gain", "0.750", "-0.125", "contextual"))
    assert printed(filled, "diff", "alpha:0", "alpha").startswith("alpha:0 to alpha:1: 1 added, 1 removed, 0 kept\n")
    first, second = (
        line.split() for line in printed(filled, "verdicts", "0.png").splitlines() if "0.5" in line or "0.75" in line
    )
    assert (first[:4], second[0]) == (["0", "near", "yes", "0.750"], "1")
    assert ["antibodies", "accepted", "2"] in [line.split() for line in printed(filled, "stats").splitlines()]
    assert "+1" in printed(filled, "lineage", "alpha:0")
    assert "0.250" in printed(filled, "calls", "alpha")
    with open_store(str(filled)) as store:
        ask_to_stop(store.engine, session_work(store.session("alpha").id))
    assert str(os.getpid()) in printed(filled, "running")
    assert "stop" not in printed(filled, "running")  # a request is nobody at work


def test_the_lines_of_a_run_are_listed(path: Path, store: AntibodyStore) -> None:
    run = store.start_run(config={}, config_digest="c", seed=0, git_sha=None, versions={})
    store.save_results(run.id, [result(auroc=0.875)])
    store.close()
    assert "0.875" in printed(path, "results", run.id)
    assert [row["auroc"] for row in json.loads(printed(path, "results", run.id, "--json"))] == [0.875]
    refused = CliRunner().invoke(group, ["results", "nothing", "--db", str(path)])
    assert "no run with the id 'nothing'" in str(refused.exception)


def test_sql_says_when_there_are_more_rows(filled: Path) -> None:
    result = CliRunner().invoke(group, ["sql", "SELECT id FROM antibodies", "--limit", "1", "--db", str(filled)])
    assert result.stderr == "there are more rows; --limit 1 shows the first only\n"
    assert len(result.stdout.splitlines()) > 1


@pytest.mark.parametrize(
    ("question", "says"),
    [
        (("sql", "DELETE FROM antibodies"), "only reading is allowed"),
        (("nearest", "never seen"), "name one with --session or --config"),
        (("lineage", "never seen"), "nothing in"),
        (("diff", "alpha", "alhpa"), "did you mean 'alpha'"),
        (("verdicts", "1.png"), "no verdict on the sample"),
        (("top", "alhpa"), "did you mean 'alpha'"),
        *(((name, odd), says) for odd in ODD for name, says in ASKED.items()),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_what_cannot_be_answered_is_one_line(filled: Path, question: tuple[str, ...], says: str) -> None:
    result = CliRunner().invoke(group, [*question, "--db", str(filled)])
    assert isinstance(result.exception, SetupError)
    assert says in str(result.exception)
    assert "\n" not in str(result.exception)
    assert result.stdout == ""


def test_only_nearest_loads_numpy(filled: Path) -> None:
    script = """
import contextlib, io, json, sys
from immuno.cli.db import group

with contextlib.redirect_stdout(io.StringIO()):
    for question in json.loads(sys.argv[2]):
        group.main([*question, "--db", sys.argv[1]], standalone_mode=False)
heavy = ("torch", "ray", "langchain", "langchain_core", "langgraph", "scipy", "open_clip", "alembic")
print([name for name in (*heavy, "numpy", "evaluation", "cluster", "agents") if name in sys.modules], file=sys.stderr)
with contextlib.redirect_stdout(io.StringIO()):
    group.main(["nearest", "robot dog 0", "--db", sys.argv[1]], standalone_mode=False)
print([name for name in (*heavy, "evaluation", "cluster", "agents") if name in sys.modules], file=sys.stderr)
"""
    command = [sys.executable, "-c", script, str(filled), json.dumps(QUESTIONS)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    assert done.stderr.splitlines() == ["[]", "[]"]
