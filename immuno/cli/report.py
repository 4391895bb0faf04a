"""`immuno report`: draw report.html again from a results folder."""

from __future__ import annotations

from pathlib import Path

import click

from immuno.cli.options import json_option, print_json


@click.command(name="report")
@click.argument("folder", type=click.Path(path_type=Path))
@json_option
def command(folder: Path, as_json: bool) -> None:
    """Draw FOLDER/report.html again from FOLDER/results.json and FOLDER/scores.npz."""
    from evaluation.report import render_report

    page = render_report(folder)
    if as_json:
        print_json({"report": str(page)})
    else:
        click.echo(page)
