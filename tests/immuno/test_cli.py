"""The command line: exit status, one clear line for what is wrong, JSON and nothing else on stdout."""

from __future__ import annotations

import json
from pathlib import Path
from unittest.mock import Mock

import pytest

import immuno
from immuno.cli import main


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stopped:
        main(list(arguments))
    out, err = capsys.readouterr()
    return int(stopped.value.code or 0), out, err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("bnech",), "no command 'bnech'; did you mean 'bench'?"),
        (("bench",), "Missing argument 'CONFIG'"),
        (("bench", "missing.toml"), "no configuration file at missing.toml"),
        (("refine", "start", "missing.toml", "--session", "x"), "no configuration file at missing.toml"),
        (("demo", "--seed", "-1"), "Invalid value for '--seed'"),
        (("demo", "--seed", "4294967296"), "Invalid value for '--seed'"),
        (("bench", "configs/miniworld.toml", "--seeds", "0,4294967296"), "give two or more different seeds from 0 to"),
        (("refine", "resume", "x", "--generations", "9" * 20), "Invalid value for '--generations'"),
        (("report", "missing"), "results.json"),
        (("report", "missing", "--table", "latex"), "results.json"),
        (("plot", "missing"), "results.json"),
        (("bench", "missing.toml", "--table", "latex", "--json"), "give --table or --json, not both"),
        (("refine", "resume", "missing", "--db", "{tmp}/new.db"), "there is no database at"),
        (("refine", "compare", "a", "b", "--db", "{tmp}/new.db"), "there is no database at"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_mistake_is_one_line_and_status_2(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    status, out, err = run(capsys, *(argument.format(tmp=tmp_path) for argument in arguments))
    assert status == 2
    assert not out
    assert err.startswith("error: ")
    assert message in err
    assert "Traceback" not in err
    assert len(err.strip().splitlines()) == 1


def test_what_the_system_refuses_is_one_line_and_status_1(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for error, said in (
        (OSError(28, "No space left on device", "out/report.html"), "No space left on device (out/report.html)"),
        (OSError(18, "Invalid cross-device link", "a", None, "b"), "Invalid cross-device link (a) (b)"),
        (TimeoutError("timed out"), "timed out"),
        (ConnectionResetError(), "ConnectionResetError"),
    ):
        monkeypatch.setattr("evaluation.report.render_report", Mock(side_effect=error))
        assert run(capsys, "report", "out") == (1, "", f"failed: {said}\n")


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "--help")
    assert status == 0
    for command in ("demo", "bench", "embed", "refine", "db", "report", "plot", "doctor"):
        assert command in out


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "--version")[:2] == (0, f"immuno, version {immuno.__version__}\n")


def test_the_doctor_finds_this_installation_well(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    status, out, err = run(capsys, "doctor", "--json", "--db", str(tmp_path / "immuno.db"))
    findings = {finding["name"]: finding for finding in json.loads(out)}
    assert status == 0, err
    assert {finding["state"] for finding in findings.values()} <= {"ok", "warn"}
    assert {"room cluster", "room agents", "room evaluation", "room db", "mini-world model"} <= set(findings)


@pytest.mark.parametrize(
    ("name", "value", "state", "message"),
    [
        ("RAY_AUTH_TOKEN_PATH", "/no/such/token", "FAIL", "RAY_AUTH_TOKEN_PATH names /no/such/token, which is no file"),
        ("RAY_ADDRESS", "http://head:8265", "warn", "is a dashboard: immuno submit goes there"),
        ("RAY_ADDRESS", "head:6379", "ok", "RAY_ADDRESS=head:6379"),
    ],
)
def test_the_doctor_looks_at_what_leads_to_a_cluster(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str, value: str, state: str, message: str
) -> None:
    monkeypatch.setenv(name, value)
    _, out, _ = run(capsys, "doctor")
    (line,) = [line for line in out.splitlines() if line.split()[1:2] == ["ray"]]
    assert line.split()[0] == state
    assert message in line


def test_the_doctor_reports_a_broken_database(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "broken.db").write_text("this is no database, however long it may be" * 100)
    status, out, _ = run(capsys, "doctor", "--db", str(tmp_path / "broken.db"))
    assert status == 2
    assert "FAIL  database" in out
