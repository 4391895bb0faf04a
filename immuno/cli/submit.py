"""`immuno submit`: run a command as a job of a Ray cluster."""

from __future__ import annotations

from pathlib import Path

import click

from immuno.cli.options import json_option, print_json

_STOPPED = 130


@click.command(name="submit", context_settings={"ignore_unknown_options": True})
@click.argument("command_line", metavar="-- COMMAND ...", nargs=-1, type=click.UNPROCESSED)
@click.option(
    "--address",
    metavar="URL",
    help="The cluster's dashboard. Default: $RAY_API_SERVER_ADDRESS, $RAY_ADDRESS, else http://127.0.0.1:8265.",
)
@click.option(
    "--working-dir",
    type=click.Path(path_type=Path),
    default=Path(),
    show_default=True,
    help="The checkout that goes with the job.",
)
@click.option(
    "--out",
    metavar="FOLDER",
    help="Folder on the cluster for results and database, absolute. Default: ~/immuno-runs on the head.",
)
@click.option(
    "--env",
    multiple=True,
    metavar="NAME[=VALUE]",
    help="A variable of the job's environment; without a value the one it has here. May be repeated.",
)
@click.option("--no-wait", is_flag=True, help="Do not wait for the job, nor show its log.")
@click.option("--dry-run", is_flag=True, help="Check everything here, and print the `ray job submit` instead.")
@json_option
def command(
    command_line: tuple[str, ...],
    address: str | None,
    working_dir: Path,
    out: str | None,
    env: tuple[str, ...],
    no_wait: bool,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Run a command of immuno as a job: immuno submit --address http://HEAD:8265 -- bench configs/miniworld.toml

    Checks the command, its configuration and the size of the checkout first; then uploads the checkout, shows the job's
    log, and ends with the job's exit status. Ctrl-C leaves the job running.
    """
    from cluster.jobs import JobClient, check_token, dashboard_address
    from immuno.submission import prepare, secrets

    submission = prepare(command_line, working_dir=working_dir, out=out, env=env)
    dashboard = dashboard_address(address)
    if dry_run:
        line = submission.command_line(dashboard)
        if as_json:
            print_json({"command": line, "upload_bytes": submission.upload_bytes})
        else:
            click.echo(line)
        return 0
    for name in secrets(submission):
        click.echo(f"warning: whoever can open the cluster's dashboard can read {name} there", err=True)
    check_token()
    client = JobClient(dashboard)
    job = client.submit(submission.command, runtime_env=submission.runtime_env)
    commands = client.commands(job)
    if no_wait:
        if as_json:
            print_json({"job": job, "address": dashboard, "commands": commands})
        else:
            click.echo(job)
        return 0
    try:
        click.echo(f"job {job} at {dashboard}; stop it with: {commands['stop']}", err=True)
        outcome = client.follow(job, lambda text: click.echo(text, nl=False, err=as_json))
    except KeyboardInterrupt:
        click.echo(f"\nthe job goes on; follow it: {commands['follow']}\n  stop it:   {commands['stop']}", err=True)
        return _STOPPED
    if as_json:
        print_json({"job": job, "address": dashboard, **outcome._asdict(), "commands": commands})
    if outcome.exit_status:
        click.echo(f"job {job}: {outcome.status}. {outcome.message}", err=True)
    return outcome.exit_status
