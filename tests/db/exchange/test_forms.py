# ruff: noqa: S608 (statements of this file)
"""Rows that no version would have written are refused at the door, named; one that is there already hides no other."""

from __future__ import annotations

import json
import sqlite3
import struct
import unicodedata
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

from db.exchange.joining import merge
from db.maintenance import check_database
from db.store import AntibodyStore, open_store
from immuno.cli import cli
from immuno_core.errors import SetupError
from tests.db.build import antibody, draft, make_session

from .test_merge import other_file as other_file

EVIL = "\x1b[31mred \u202eevil [bold]x[/]"


@pytest.fixture
def other(other_file: Path) -> Path:
    """A sound database with the session beta."""
    with open_store(str(other_file)) as opened:
        session = make_session(opened, "beta", llm="openai:x")
        for number in range(2):
            opened.save_generation(draft(session.id, number))
    return other_file


def tamper(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def vector(*numbers: float) -> str:
    return struct.pack("<4f", *numbers).hex()


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("UPDATE generations SET metrics = '[1]'", "'metrics' is not a mapping"),
        ('UPDATE generations SET metrics = \'{"fpr95": {"near": [3]}}\'', "'metrics' is not a mapping with numbers"),
        ('UPDATE generations SET metrics = \'{"mean_fpr95": "low"}\'', "'metrics' is not a mapping with numbers"),
        ('UPDATE generations SET metrics = \'{"a": 1, "a": 2}\'', "the key 'a' comes twice"),
        (f"UPDATE generations SET metrics = '{'[' * 100_000}'", "cannot be read"),
        ("UPDATE generations SET number = -1 WHERE number = 1", "'number' is not a number from 0 on, but -1"),
        ("UPDATE sessions SET config = '[1]'", "'config' is not a mapping"),
        ("UPDATE sessions SET versions = '\"x\"'", "'versions'"),
        ("UPDATE effects SET gain = 7.5", "'gain' is not a share from 0 to 1, but 7.5"),
        ("UPDATE effects SET harm = -0.5", "'harm' is not a share"),
        ("UPDATE effects SET d_auroc = 2.0", "'d_auroc' is not a change"),
        ("UPDATE effects SET fired_id = -1", "'fired_id' is not a number from 0 on"),
        ("UPDATE antibodies SET cosine = 12.0", "'cosine' is not a cosine"),
        ("UPDATE antibodies SET text = 'another'", "'digest' is not that of its text, class and samples"),
        ("UPDATE antibodies SET text = printf('%.*c', 50000000, 'a')", "'text' is longer than 16,000,000"),
        ("UPDATE antibodies SET rationale = printf('%.*c', 50000000, 'a')", "'rationale' is longer than 16,000,000"),
        ("UPDATE encoders SET dim = 0", "'dim' is not a number of dimensions"),
        (f"UPDATE embeddings SET vector = x'{vector(0, 0, 0, 0)}'", "its vector has the length 0, not 1"),
        (f"UPDATE embeddings SET vector = x'{vector(3e38, 0, 0, 0)}'", "its vector has the length 3e+38, not 1"),
        (f"UPDATE embeddings SET vector = x'{vector(float('nan'), 0, 0, 0)}'", "its vector has the length nan"),
    ],
    ids=range(20),
)
def test_a_row_that_no_version_would_have_written_is_refused(
    store: AntibodyStore, path: Path, other: Path, statement: str, says: str
) -> None:
    tamper(other, statement)
    with open_store(str(other), read_only=True) as source, pytest.raises(SetupError) as refused:
        merge(store, source)
    assert says in str(refused.value)
    assert len(str(refused.value)) < 500
    assert store.sessions() == ()
    assert not all(one.ok for one in check_database(str(other), other)) or "length" in says


def test_one_bad_session_hides_no_other(other: Path) -> None:
    with open_store(str(other)) as opened:
        opened.save_generation(draft(make_session(opened, "gamma").id))
    first = "SELECT id FROM sessions WHERE name = 'beta'"
    tamper(other, f"UPDATE generations SET metrics = '[1]' WHERE session_id = ({first})")
    for command in ("refine list", "refine show beta", "db generations", "db diff beta:0 beta:1"):
        done = CliRunner().invoke(cli, [*command.split(), "--db", str(other)])
        assert (done.exception, done.exit_code) == (None, 0)
    listed = CliRunner().invoke(cli, ["refine", "list", "--json", "--db", str(other)])
    assert [one["session"] for one in json.loads(listed.stdout)] == ["beta", "gamma"]
    assert "'generations', " in next(one.detail for one in check_database(str(other), other) if one.name == "rows")


def test_texts_of_a_database_never_steer_the_terminal(store: AntibodyStore, path: Path) -> None:
    session = make_session(store, "alpha", llm=EVIL)
    one = antibody(EVIL, guards=EVIL, rationale=EVIL)
    metrics = {"fpr95": {EVIL: 0.5}, "mean_fpr95": 0.5}
    told = draft(
        session.id, antibodies=(one,), effects=(), verdicts=(), bank=(), reason=EVIL, metrics=metrics,
        prompts={"propose": EVIL}, prompt_reason=EVIL, guideline=EVIL,
    )  # fmt: skip
    store.save_generation(told)
    for command in (["list"], ["show", "alpha"], ["prompts", "alpha"]):
        done = CliRunner().invoke(cli, ["refine", *command, "--db", str(path)])
        assert (done.exception, done.exit_code) == (None, 0)
        assert {unicodedata.category(letter) for letter in done.stdout if letter != "\n"}.isdisjoint({"Cc", "Cf"})
        assert "[bold]" in "".join(done.stdout.split()) or command == ["prompts", "alpha"]
