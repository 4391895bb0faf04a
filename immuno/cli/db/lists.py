"""`immuno db sessions`, `generations`, `antibodies`, `effects`, `prompts`: the tables, filtered."""

from __future__ import annotations

from typing import Any

import click

from immuno.cli.db.options import (
    class_option,
    generation_option,
    kind_option,
    limit_option,
    query_options,
    session_id,
    set_option,
    status_option,
)
from immuno.cli.options import open_database
from immuno.terminal.output import Form, decimals, is_number, print_records, print_rows, show


@click.command()
@query_options
def sessions(database: str | None, form: Form) -> None:
    """List the refinement sessions."""
    from db import SessionRecord

    with open_database(database) as store:
        records = store.sessions()
    heads = ("session", "status", "generations", "best", "seed", "encoder", "created (UTC)")

    def cells(s: SessionRecord) -> tuple[Any, ...]:
        created = s.created_at.strftime("%Y-%m-%d %H:%M")
        return s.name, s.status, s.generations, s.best, s.seed, s.encoder.model, created

    return show(form, SessionRecord, records, heads, cells, "sessions")


@click.command()
@click.argument("session", required=False)
@query_options
def generations(session: str | None, database: str | None, form: Form) -> None:
    """List generations.

    Those of SESSION, or of all sessions.
    """
    from db import GenerationRecord

    with open_database(database) as store:
        records = store.generations(session_id(store, session))
    heads = ("session", "generation", "parent", "prompt", "proposed", "kept", "bank", "accepted", "metrics", "reason")

    def cells(g: GenerationRecord) -> tuple[Any, ...]:
        return (
            *(g.session, g.number, g.parent, g.prompt_version, g.proposed, g.kept, g.bank),
            "yes" if g.accepted else "no",
            ", ".join(f"{name} {x:.4g}" for name, x in g.metrics.items() if is_number(x) and name not in heads),
            g.reason,
        )

    return show(form, GenerationRecord, records, heads, cells, "generations")


@click.command()
@click.argument("session", required=False)
@generation_option
@status_option
@class_option
@kind_option
@limit_option
@query_options
def antibodies(
    session: str | None,
    generation: int | None,
    status: Any,
    guards: str | None,
    kind: Any,
    limit: int | None,
    database: str | None,
    form: Form,
) -> None:
    """List antibodies, kept and turned down.

    Those of SESSION, or of all sessions, in the order of their creation; with the reason where one was turned down.
    """
    from db import AntibodyRecord

    with open_database(database) as store:
        records = store.antibodies(
            session_id(store, session), generation=generation, status=status, kind=kind, guards=guards, limit=limit
        )
    heads = ("session", "generation", "status", "kind", "guards", "text", "cosine", "reason")

    def cells(a: AntibodyRecord) -> tuple[Any, ...]:
        return a.session, a.generation, a.status, a.kind, a.guards, a.text, decimals(a.cosine), a.reason

    return show(form, AntibodyRecord, records, heads, cells, "antibodies")


@click.command()
@click.argument("session", required=False)
@generation_option
@click.option("--scope", type=click.Choice(["solo", "leave_one_out", "bank"]), help="Of this scope only.")
@set_option
@class_option
@limit_option
@query_options
def effects(
    session: str | None,
    generation: int | None,
    scope: str | None,
    outlier_set: str | None,
    guards: str | None,
    limit: int | None,
    database: str | None,
    form: Form,
) -> None:
    """List measured boundary effects.

    Those of SESSION, or of all sessions. gain: share of accepted outliers that it rejects; harm: share of accepted
    known samples that it rejects; the changes of FPR95, AUROC and ID accuracy are "with it" minus "without it"; fired:
    on how many known samples and on how many outliers it fires.
    """
    from db import EffectRecord

    with open_database(database) as store:
        records = store.effects(
            session_id(store, session),
            generation=generation,
            scope=scope,
            outlier_set=outlier_set,
            guards=guards,
            limit=limit,
        )
    heads = ("session", "generation", "scope", "set", "guards", "antibody", "gain", "harm", "dFPR95", "dAUROC", "dACC")

    def cells(e: EffectRecord) -> tuple[Any, ...]:
        return (
            *(e.session, e.generation, e.scope, e.outlier_set, e.guards, e.antibody_text),
            *(decimals(share) for share in (e.gain, e.harm)),
            *(decimals(change, "+") for change in (e.d_fpr95, e.d_auroc, e.d_id_accuracy)),
            f"{e.fired_id} / {e.fired_outliers}",
        )

    return show(form, EffectRecord, records, (*heads, "fired"), cells, "effects")


@click.command()
@click.argument("session", required=False)
@query_options
def prompts(session: str | None, database: str | None, form: Form) -> None:
    """List prompts, version by version.

    Those of SESSION, or of all sessions.
    """
    from db import PromptRecord

    with open_database(database) as store:
        records = store.prompts(session_id(store, session))

    def cells(p: PromptRecord) -> tuple[Any, ...]:
        return p.session, p.version, p.step, p.parent_version, p.text

    return show(form, PromptRecord, records, ("session", "version", "step", "parent", "text"), cells, "prompts")


@click.command()
@click.argument("session", required=False)
@query_options
def calls(session: str | None, database: str | None, form: Form) -> None:
    """List calls of the chat model, with what they cost.

    Those for SESSION, or for all sessions. A reused reply cost nothing. With --json or --csv also what was asked, and
    the reply.
    """
    from db import LlmCallRecord

    with open_database(database) as store:
        records = store.llm_calls(session_id(store, session))
        names = {one.id: one.name for one in store.sessions()}
    heads = ("session", "generation", "step", "subject", "model", "in", "out", "USD", "seconds", "reused")

    def cells(c: LlmCallRecord) -> tuple[Any, ...]:
        numbers = c.prompt_tokens, c.completion_tokens, decimals(c.cost_usd), decimals(c.seconds)
        reused = "yes" if c.reused else None
        return names[c.session_id], c.generation, c.step, c.subject, c.model, *numbers, reused

    return show(form, LlmCallRecord, records, heads, cells, "calls")


@click.command()
@query_options
def runs(database: str | None, form: Form) -> None:
    """List runs of benchmarks.

    The configuration, the versions and the git commit of each are printed with --json.
    """
    from db import RunRecord

    with open_database(database) as store:
        records = store.runs()
        names = {one.id: one.name for one in store.sessions()}
    heads = ("run", "status", "seed", "session", "configuration", "started (UTC)")

    def cells(r: RunRecord) -> tuple[Any, ...]:
        session = None if r.session_id is None else names[r.session_id]
        return r.id, r.status, r.seed, session, r.config_digest[:12], r.started_at.strftime("%Y-%m-%d %H:%M")

    return show(form, RunRecord, records, heads, cells, "runs")


@click.command()
@click.argument("run")
@query_options
def results(run: str, database: str | None, form: Form) -> None:
    """List what RUN (an id that `runs` prints) measured on the sealed sets."""
    from evaluation.metrics import METRICS

    with open_database(database) as store:
        rows = store.results(run)
    if form is not None:
        lines = [row.as_dict() for row in rows]
        return print_records(form, list(dict.fromkeys(key for line in lines for key in line)), lines)
    shown = {name: metric for name, metric in METRICS.items() if metric.in_terminal}
    heads = ("method", "arm", "seed", "set", *(metric.short or metric.title for metric in shown.values()), "antibodies")
    cells = [
        (r.method, r.arm, r.seed, r.ood, *(decimals(r.metrics.get(name)) for name in shown), r.antibodies) for r in rows
    ]
    return print_rows(heads, cells, "lines of results")


@click.command()
@query_options
def running(database: str | None, form: Form) -> None:
    """List who is at work on which session.

    `seen` is the last sign of life, UTC. A session whose process died can be resumed: its claim is taken over.
    """
    from db.claims import ClaimRecord, claims

    with open_database(database) as store:
        names = {f"session:{one.id}": one.name for one in store.sessions()}
        records = claims(store.engine)

    def cells(c: ClaimRecord) -> tuple[Any, ...]:
        return names.get(c.work, c.work), c.host, c.pid, *(f"{t:%Y-%m-%d %H:%M:%S}" for t in (c.claimed_at, c.beat_at))

    return show(form, ClaimRecord, records, ("session", "host", "pid", "since (UTC)", "seen (UTC)"), cells, "claims")


COMMANDS = (sessions, generations, antibodies, effects, prompts, calls, runs, results, running)
