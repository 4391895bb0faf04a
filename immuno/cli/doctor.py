"""`immuno doctor`: check this installation."""

from __future__ import annotations

from dataclasses import asdict

import click

from immuno.cli.options import database_option, json_option, print_json

_SIGNS = {"ok": "ok  ", "warn": "warn", "fail": "FAIL"}


@click.command(name="doctor")
@database_option
@json_option
def command(database: str | None, as_json: bool) -> int:
    """Check this installation and say what to mend. Exit status 2 where something is wrong."""
    from immuno.doctor import examine

    findings = []
    for finding in examine(database):
        findings.append(finding)
        if not as_json:
            click.echo(f"{_SIGNS[finding.state]}  {finding.name:<18} {finding.text}")
    if as_json:
        print_json([asdict(finding) for finding in findings])
    return 2 if any(finding.state == "fail" for finding in findings) else 0
