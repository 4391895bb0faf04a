"""`immuno refine`: run, branch and renew sessions of the refinement loop; refine_look holds what looks at them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from immuno.cli import sessions as refine_look
from immuno.cli.options import database_option, json_option, print_json, progress_option, ray_option, real, whole
from immuno_core.config.numbers import MOST_SEED

if TYPE_CHECKING:
    from agents import Review
    from immuno.refine import RefineOutcome
    from immuno.workplace import Workplace
    from immuno_core.config.run import RunConfig


@click.group(name="refine")
def command() -> None:
    """Run or resume a session of the refinement loop.

    A session proposes antibodies, measures them on the feedback split, keeps what helps, and revises its prompt, one
    generation after another. Everything is stored as it happens: Ctrl-C loses at most the generation in progress, and
    `resume` goes on from there.
    """


for _command in refine_look.COMMANDS:
    command.add_command(_command)
_approve = click.option("--approve", is_flag=True, help="Show proposals in the terminal, to keep, drop or edit each.")
_new_session = click.option(
    "--session", "new_session", required=True, metavar="NEW", help="What the new session is called."
)
_llm = click.option("--llm", metavar="MODEL", help="Another chat model: lexicon, openai:NAME, ...")
_data = click.option(
    "--data",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="CONFIG",
    help="A configuration that says where classes and images are now, where they have moved.",
)
_base_url = click.option("--base-url", metavar="URL", help="Address of an OpenAI-compatible server for --llm.")
_price = click.option(
    "--price",
    type=(real(0, 1e9), real(0, 1e9)),
    metavar="INPUT OUTPUT",
    help="What that model costs, in dollars per million tokens.",
)


@dataclass(frozen=True, slots=True)
class _Running:
    """What every command that runs a session is told."""

    review: Review | None
    database: str | None
    ray_address: str | None
    progress: str | None
    as_json: bool

    def show(self, config: RunConfig, run: Callable[[Workplace], RefineOutcome]) -> None:
        """Run a session where the options say, and print what came of it."""
        from immuno.terminal.generations import print_generations
        from immuno.workplace import Workplace

        with Workplace.open(
            config, database=self.database, ray_address=self.ray_address, progress=self.progress
        ) as place:
            outcome = run(place)
            if self.as_json:
                print_json(outcome.as_dict())
            else:
                print_generations(outcome.generations)


def _running(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options of every command that runs a session; the function gets them as one, `running`."""

    @functools.wraps(function)
    def told(
        approve: bool,
        database: str | None,
        ray_address: str | None,
        progress: str | None,
        as_json: bool,
        **own: Any,
    ) -> None:
        function(**own, running=_Running(_review(approve), database, ray_address, progress, as_json))

    return _approve(database_option(ray_option(progress_option(json_option(told)))))


@command.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--session", required=True, metavar="NAME", help="What the session is called in the database.")
@click.option("--seed", type=whole(0, MOST_SEED), help="Overrides the configuration's seed.")
@click.option("--generations", type=whole(1), help="Overrides refine.generations.")
@_running
def start(config: Path, session: str, seed: int | None, generations: int | None, running: _Running) -> None:
    """Start session NAME as CONFIG says."""
    from immuno.refine import refine
    from immuno.workplace import with_overrides
    from immuno_core.config.run import read_config

    chosen = with_overrides(read_config(config), seed=seed, generations=generations)
    running.show(chosen, lambda place: refine(place, session=session, resume=False, review=running.review))


@command.command()
@click.argument("session")
@click.option("--generations", type=whole(1), help="Go on to this many generations in all.")
@_data
@_running
def resume(session: str, generations: int | None, data: Path | None, running: _Running) -> None:
    """Go on with SESSION where it stopped, with the configuration it was started with.

    Its classes and its images of fit and feedback must be the same: the files may have moved, but not changed.
    """
    from immuno.refine import refine
    from immuno.workplace import stored_config, with_overrides

    chosen = with_overrides(stored_config(session, database=running.database), generations=generations, data=data)
    running.show(chosen, lambda place: refine(place, session=session, resume=True, review=running.review))


@command.command()
@click.argument("session")
@_new_session
@click.option("--generation", type=whole(), metavar="N", help="Default: the session's best generation.")
@click.option("--generations", type=whole(1), help="How many to add; default: as configured.")
@_llm
@_base_url
@_price
@_data
@click.option(
    "--guideline",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Another guideline to start with.",
)
@_running
def branch(
    session: str,
    new_session: str,
    generation: int | None,
    generations: int | None,
    llm: str | None,
    base_url: str | None,
    price: tuple[float, float] | None,
    data: Path | None,
    guideline: Path | None,
    running: _Running,
) -> None:
    """Start session NEW from a generation of SESSION.

    It begins with that generation's bank, as it was measured, and goes on from there: with another chat model, another
    guideline, or simply once more. Where classes or images have changed, the bank is measured on what is there now.
    SESSION stays as it is.
    """
    from immuno.refine import branch as run_branch
    from immuno.refine import read_guideline
    from immuno.workplace import stored_config, with_overrides

    text = None if guideline is None else read_guideline(guideline)
    stored = stored_config(session, database=running.database)
    chosen = with_overrides(stored, generations=generations, llm=llm, base_url=base_url, price=price, data=data)
    running.show(
        chosen,
        lambda place: run_branch(
            place, source=session, generation=generation, session=new_session, guideline=text, review=running.review
        ),
    )


@command.command()
@click.argument("session")
@_new_session
@click.option("--llm", required=True, metavar="MODEL", help="The chat model: lexicon, openai:NAME, ...")
@_base_url
@_price
@_data
@click.option("--generations", type=whole(1), help="Default: as many as SESSION has.")
@_running
def regenerate(
    session: str,
    new_session: str,
    llm: str,
    base_url: str | None,
    price: tuple[float, float] | None,
    data: Path | None,
    generations: int | None,
    running: _Running,
) -> None:
    """Make the bank of SESSION anew with another chat model.

    Session NEW begins without antibodies, on the same images, encoder and baseline, with the guideline that SESSION had
    learned. No image is embedded again. `immuno refine compare SESSION NEW` says how alike the two banks are.
    """
    from immuno.refine import regenerate as run_regenerate
    from immuno.workplace import stored_config, with_overrides

    stored = stored_config(session, database=running.database)
    chosen = with_overrides(stored, generations=generations, llm=llm, base_url=base_url, price=price, data=data)
    running.show(
        chosen, lambda place: run_regenerate(place, source=session, session=new_session, review=running.review)
    )


def _review(approve: bool) -> Review | None:
    if not approve:
        return None
    from immuno.cli.approve import terminal_review

    return terminal_review()
