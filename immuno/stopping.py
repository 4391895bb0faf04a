"""Runs a session until it is done, or until somebody asks it to stop (`immuno refine stop`, from any machine)."""

from __future__ import annotations

import click

from agents.session import OnGeneration, RefinementSession
from db.records import GenerationRecord
from db.stopping import asked_to_stop, withdraw_stop
from immuno.errors import ImmunoError


class _StoppedAsAsked(ImmunoError):  # noqa: N818 - nothing went wrong
    """Somebody asked this session to end after its generation."""


def run_until_stopped(session: RefinementSession, on_generation: OnGeneration) -> None:
    """Run the session; when it is asked to stop it ends after the generation in progress, paused.

    A request is looked for after each generation, and withdrawn before and after the run: one that nobody was there to
    obey must not stop the next run.
    """
    store, record = session.store, session.record

    def stored(one: GenerationRecord) -> None:
        on_generation(one)
        if one.number < session.config.generations and asked_to_stop(store, record.id):
            raise _StoppedAsAsked

    withdraw_stop(store, record.id)
    try:
        session.run(stored)
    except _StoppedAsAsked:
        click.echo(f"stopped as asked; go on with: immuno refine resume {record.name}", err=True)
    finally:
        withdraw_stop(store, record.id)
