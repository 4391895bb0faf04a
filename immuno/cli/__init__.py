"""The command line. Subcommands are imported when they are called: `immuno db` loads neither torch nor Ray.

Exit status: 0 done; 2 the set-up or the input is wrong (one line, how to mend it); 1 it failed; 130 stopped by Ctrl-C,
143 by SIGTERM, 129 by SIGHUP; 141 the reader of its output has gone.
"""

from __future__ import annotations

import importlib
import socket
import sys
from typing import Any, NoReturn

import click

from immuno.terminal.streams import OutputError, ReaderGoneError
from immuno_core import __version__
from immuno_core.config.secrecy import without_secrets
from immuno_core.errors import ImmunoError, SetupError, did_you_mean
from immuno_core.paths import in_copy_of_a_job, runs_root
from immuno_core.system.signals import stopped_status
from immuno_core.text import printable

_ELSEWHERE = {"demo": ("bench", "demo"), "report": ("bench", "report"), "plot": ("bench", "plot")}
"""Module and attribute of commands that have no module of their own."""
_COMMANDS = {
    "demo": "The whole system on the embedded mini-world, in minutes.",
    "init": "Write a configuration for your own images, and check it.",
    "bench": "Measure methods on sealed test sets, as a configuration says.",
    "embed": "Fill the embedding store for a configuration; check and prune it.",
    "refine": "Run or resume a session of the refinement loop.",
    "guard": "Deploy what a session found: a shield that judges new images.",
    "db": "Query the antibody database.",
    "ui": "Serve the record as pages to a browser.",
    "submit": "Run a command as a job of a Ray cluster.",
    "report": "Draw report.html again from a results folder.",
    "plot": "Draw the figures of a results folder as PNG, SVG and PDF.",
    "doctor": "Check this installation and say what to mend.",
}


class _LazyGroup(click.Group):
    """A group whose commands live in this folder (attribute `command`) and are imported on first use."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        module, attribute = _ELSEWHERE.get(cmd_name, (cmd_name, "command"))
        command: click.Command = getattr(importlib.import_module(f"immuno.cli.{module}"), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in _COMMANDS and not args[0].startswith("-"):
            raise SetupError(f"no command '{args[0]}'{did_you_mean(args[0], _COMMANDS)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="immuno")
def cli() -> None:
    """Semantic antibodies for zero-shot vision-language classifiers: proposed, measured, recorded, deployed."""
    if in_copy_of_a_job():
        click.echo(f"results and relative paths of output go to {runs_root()} on {socket.gethostname()}", err=True)


def main(args: list[str] | None = None) -> NoReturn:
    """Run the command line and exit with the documented status."""
    try:
        status: Any = cli.main(args=args, prog_name="immuno", standalone_mode=False)
        sys.stdout.flush()
    except SetupError as error:
        _fail(f"error: {error}", 2)
    except click.UsageError as error:
        hint = f" (see '{error.ctx.command_path} --help')" if error.ctx else ""
        _fail(f"error: {error.format_message()}{hint}", 2)
    except click.ClickException as error:
        _fail(f"error: {error.format_message()}", 2)
    except ImmunoError as error:
        _fail(f"failed: {error}", 1)
    except OSError as error:  # of a disk that is full or gone, wherever it is not said better
        named = "".join(f" ({name})" for name in (error.filename, error.filename2) if name is not None)
        _fail(f"failed: {error.strerror or str(error) or type(error).__name__}{named}", 1)
    except (KeyboardInterrupt, click.Abort):
        _fail("\nstopped; finished work is kept: the same command goes on from there", stopped_status())
    except ReaderGoneError:
        sys.exit(141)
    except OutputError as error:
        _fail(f"failed: {error}; what was written to files and databases is kept", 1)
    sys.exit(status if isinstance(status, int) else 0)


def _fail(message: str, status: int) -> NoReturn:
    click.echo(printable(without_secrets(message), lines=True), err=True)
    sys.exit(status)
