"""`immuno submit`: run a command as a job of a Ray cluster; checked here, where a mistake costs a second."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from cluster.jobs import WorkingDir
from immuno_core.config.run import RunConfig, read_config
from immuno_core.config.secrecy import SECRET_NAME, without_secrets
from immuno_core.errors import SetupError
from immuno_core.versions import git_sha

PYTHON = "python"
"""As the cluster's machines call it: the environment in which Ray runs there."""


@dataclass(frozen=True, slots=True)
class Submission:
    """What is sent."""

    arguments: tuple[str, ...]
    """Of `python -m immuno`."""
    working_dir: Path
    env_vars: dict[str, str] = field(default_factory=dict)
    inherited: frozenset[str] = frozenset()
    """Which of them have the value that they have here; it may be a secret."""

    @property
    def command(self) -> tuple[str, ...]:
        """Return the job's entrypoint."""
        return (PYTHON, "-m", "immuno", *self.arguments)

    @property
    def runtime_env(self) -> dict[str, Any]:
        """Return Ray's runtime environment."""
        return {"working_dir": str(self.working_dir), "env_vars": self.env_vars}

    def command_line(self, address: str) -> str:
        """Return the `ray job submit` that does the same."""
        parts = ["ray", "job", "submit", "--address", address, "--working-dir", str(self.working_dir)]
        line = shlex.join(parts)
        if self.env_vars:
            # What is inherited is looked up where the line is run. (The working directory would override this JSON's.)
            given = {name: value for name, value in self.env_vars.items() if name not in self.inherited}
            line += f" --runtime-env-json {_with_inherited(given, sorted(self.inherited))}"
        return f"{line} -- {shlex.join(self.command)}"


def _with_inherited(given: dict[str, str], names: Sequence[str]) -> str:
    """A shell word that is the JSON of a runtime environment, without the values of variables that the shell has."""
    if not names:
        return shlex.quote(json.dumps({"env_vars": given}))
    values = f"{json.dumps(given)} | {{one: os.environ[one] for one in {json.dumps(names)}}}"
    code = f'import json, os; print(json.dumps({{"env_vars": {values}}}))'
    return f'"$({PYTHON} -c {shlex.quote(code)})"'


def prepare(
    arguments: Sequence[str], *, working_dir: Path, out: str | None = None, env: Sequence[str] = ()
) -> Submission:
    """Check a command of `immuno` and the folder that goes with it.

    `out` is a folder on the cluster for all results ($IMMUNO_RUNS there); `env` holds "NAME=VALUE", or "NAME" for the
    value that it has here. Raises SetupError for a command that cannot be parsed, a configuration that is wrong or
    would stay behind, and a folder that is too large for Ray.
    """
    folder = WorkingDir(working_dir)
    if not (folder.root / "immuno" / "__main__.py").is_file() or not folder.holds(folder.root / "immuno"):
        raise SetupError(f"{folder.root} is not a checkout of immuno-vlm; name one with --working-dir")
    for path in _configs(arguments, folder.root):
        _check_config(path, folder)
    variables = dict(_variable(one) for one in env)
    if out is not None:
        if not Path(out).is_absolute():
            raise SetupError(
                f"--out {out} is relative, and the job's folder is deleted: give an absolute path on the cluster"
            )
        variables["IMMUNO_RUNS"] = out
    if (sha := git_sha()) is not None:
        variables["IMMUNO_GIT_SHA"] = sha
    folder.check_size()
    inherited = frozenset(name for name in env if name in variables and variables[name] == os.environ.get(name))
    return Submission(tuple(arguments), folder.root, variables, inherited)


def secrets(submission: Submission) -> tuple[str, ...]:
    """Return the variables and arguments that hold secrets: whoever sees the cluster's dashboard can read them."""
    named = tuple(name for name in submission.env_vars if SECRET_NAME.search(name))
    return named + tuple(shown for one in submission.arguments if (shown := without_secrets(one)) != one)


def _configs(arguments: Sequence[str], root: Path) -> Iterator[Path]:
    """Parse the command as the job will, without running it; yield the configurations it names."""
    from immuno.cli import cli

    if not arguments:
        raise SetupError(f"the job has no command; write it behind --, as in: {_EXAMPLE}")
    with cli.make_context("immuno", list(arguments), resilient_parsing=False) as outer:
        context: click.Context = outer
        command: click.Command = cli
        while isinstance(command, click.Group):
            rest = [*context._protected_args, *context.args]
            name, inner, rest = command.resolve_command(context, rest)
            if inner is None or name is None:
                raise SetupError(f"no command '{rest[0] if rest else name}'")
            if context is outer and name == "submit":
                raise SetupError("a job that submits jobs: leave out the inner 'submit'")
            context, command = inner.make_context(name, rest, parent=context), inner
        for config in (context.params.get("config"), *context.params.get("configs", ())):
            if isinstance(config, Path):
                yield config if config.is_absolute() else root / config


_EXAMPLE = "immuno submit -- bench configs/miniworld.toml"


def _check_config(path: Path, folder: WorkingDir) -> None:
    if not folder.contains(path):
        if path.exists():
            raise SetupError(f"{path} lies outside {folder.root}, and would be missing on the cluster; copy it into it")
        raise SetupError(f"no configuration file at {path}; configs/ holds examples")
    config = read_config(path)
    folder.check_file(path, "the configuration")
    for key, inner in _local_paths(config):
        if folder.contains(inner) and inner.exists():
            folder.check_file(inner, key)


def _local_paths(config: RunConfig) -> Iterator[tuple[str, Path]]:
    """The files and folders that a configuration names."""
    data = config.data
    named = [("data.fit", data.fit), ("data.id", data.id), ("data.feedback_id", data.feedback_id)]
    named += [(f"data.ood {one.name}", one) for one in data.ood]
    named += [(f"data.feedback {one.name}", one) for one in data.feedback]
    for key, source in named:
        for path in (source.path, source.features) if source else ():
            if path is not None:
                yield key, path
    others = {
        "classes.names": config.classes.names,
        "antibodies.file": config.antibodies.file,
        "antibodies.words": config.antibodies.words,
        "encoder.texts": config.encoder.texts,
    }
    yield from ((key, path) for key, path in others.items() if isinstance(path, Path))


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name:
        raise SetupError(f"--env {text}: write NAME=VALUE, or NAME for the value it has here")
    if not equals and name not in os.environ:
        raise SetupError(f"--env {name}: the variable is not set here; write {name}=VALUE")
    return name, value if equals else os.environ[name]


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
@click.option("--dry-run", is_flag=True, help="Check everything here, and print the `ray job submit` instead.")
def command(
    command_line: tuple[str, ...],
    address: str | None,
    working_dir: Path,
    out: str | None,
    env: tuple[str, ...],
    dry_run: bool,
) -> int:
    """Run a command of immuno as a job: immuno submit --address http://HEAD:8265 -- bench configs/miniworld.toml

    Checks the command, its configuration and the size of the checkout first; then uploads the checkout, shows the job's
    log, and ends with the job's exit status. Ctrl-C leaves the job running.
    """
    from cluster.jobs import JobClient, check_token, dashboard_address

    submission = prepare(command_line, working_dir=working_dir, out=out, env=env)
    dashboard = dashboard_address(address)
    if dry_run:
        click.echo(submission.command_line(dashboard))
        return 0
    for name in secrets(submission):
        click.echo(f"warning: whoever can open the cluster's dashboard can read {name} there, whole", err=True)
    check_token()
    client = JobClient(dashboard)
    job = client.submit(submission.command, runtime_env=submission.runtime_env)
    stop = f"ray job stop --address {dashboard} {job}"
    try:
        click.echo(f"job {job} at {dashboard}; stop it with: {stop}", err=True)
        outcome = client.follow(job, lambda text: click.echo(text, nl=False))
    except KeyboardInterrupt:
        click.echo(f"\nthe job goes on; follow it: {client.follow_command(job)}\n  stop it:   {stop}", err=True)
        return _STOPPED
    if outcome.exit_status:
        click.echo(f"job {job}: {outcome.status}. {outcome.message}", err=True)
    return outcome.exit_status
