"""`immuno db sessions`, `generations`, `antibodies`, `effects`, `prompts`: the tables, filtered."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from immuno.cli.db.options import (
    class_option,
    generation_option,
    kind_option,
    limit_option,
    query,
    session_argument,
    set_option,
    status_option,
    verbose_option,
)
from immuno.terminal.output import Form, decimals, print_records, print_rows, show

if TYPE_CHECKING:
    from db import AntibodyStore


@query()
def sessions(store: AntibodyStore, form: Form) -> None:
    """List the refinement sessions."""
    from db import SessionRecord

    columns = "session: name, status, generations, best, seed, encoder: encoder.model, created (UTC): created_at"
    show(form, "sessions", SessionRecord, store.sessions(), columns)


@query(session_argument, verbose_option)
def generations(store: AntibodyStore, form: Form, session: str | None, verbose: bool) -> None:
    """List generations.

    Those of SESSION, or of all sessions. FPR95 and AUROC in per cent; a change is on one half of the feedback, in
    points with its standard error. -v adds why each was kept or not.
    """
    from db import GenerationRecord
    from immuno.terminal.generations import metric_cells

    found = store.generations(session)
    figures = {one.id: metric_cells(one) for one in found}
    heads = list(dict.fromkeys(head for one in figures.values() for head in one))

    def cell(head: str) -> Callable[[GenerationRecord], str | None]:
        return lambda one: figures[one.id].get(head)

    columns = ["session, gen: number, parent, prompt: prompt_version, proposed, kept, bank, accepted", *heads]
    cells = {head: cell(head) for head in heads}
    show(form, "generations", GenerationRecord, found, ", ".join(columns + ["reason"] * verbose), **cells)


@query(session_argument, generation_option, status_option, class_option, kind_option, limit_option)
def antibodies(store: AntibodyStore, form: Form, session: str | None, **which: Any) -> None:
    """List antibodies, kept and turned down.

    Those of SESSION, or of all sessions, in the order of their creation; with the reason where one was turned down.
    """
    from db import AntibodyRecord

    columns = "session, generation, status, kind, guards, text, cosine, reason"
    show(form, "antibodies", AntibodyRecord, store.antibodies(session, **which), columns, text=lambda a: a.described)


@query(
    session_argument,
    generation_option,
    click.option("--scope", type=click.Choice(["solo", "leave_one_out", "bank"]), help="Of this scope only."),
    set_option,
    class_option,
    limit_option,
)
def effects(store: AntibodyStore, form: Form, session: str | None, **which: Any) -> None:
    """List measured boundary effects.

    Those of SESSION, or of all sessions. gain: share of accepted outliers that it rejects; harm: share of accepted
    known samples that it rejects; the changes of FPR95, AUROC and ID accuracy are "with it" minus "without it"; fired:
    on how many known samples and on how many outliers it fires.
    """
    from db import EffectRecord

    columns = (
        "session, generation, scope, set: outlier_set, guards, antibody: antibody_text, gain, harm, "
        "dFPR95: d_fpr95, dAUROC: d_auroc, dACC: d_id_accuracy, fired"
    )
    records = store.effects(session, **which)
    show(form, "effects", EffectRecord, records, columns, fired=lambda e: f"{e.fired_id} / {e.fired_outliers}")


@query(session_argument)
def prompts(store: AntibodyStore, form: Form, session: str | None) -> None:
    """List prompts, version by version.

    Those of SESSION, or of all sessions.
    """
    from db import PromptRecord

    show(form, "prompts", PromptRecord, store.prompts(session), "session, version, step, parent: parent_version, text")


@query(session_argument)
def calls(store: AntibodyStore, form: Form, session: str | None) -> None:
    """List calls of the chat model, with what they cost.

    Those for SESSION, or for all sessions. A reused reply cost nothing. With --json or --csv also what was asked, and
    the reply.
    """
    from db import LlmCallRecord

    names = {one.id: one.name for one in store.sessions()}
    columns = (
        "session, generation, step, subject, model, in: prompt_tokens, out: completion_tokens, USD: cost_usd, seconds, "
        "reused"
    )
    cells = {"session": lambda c: names[c.session_id], "reused": lambda c: "yes" if c.reused else None}
    show(form, "calls", LlmCallRecord, store.llm_calls(session), columns, **cells)


@query()
def runs(store: AntibodyStore, form: Form) -> None:
    """List runs of benchmarks.

    The configuration, the versions and the git commit of each are printed with --json.
    """
    from db import RunRecord

    names = {one.id: one.name for one in store.sessions()}
    columns = "run: id, status, seed, session, configuration, started (UTC): started_at"
    cells = {"session": lambda r: names.get(r.session_id), "configuration": lambda r: r.config_digest[:12]}
    show(form, "runs", RunRecord, store.runs(), columns, **cells)


@query(click.argument("run"))
def results(store: AntibodyStore, form: Form, run: str) -> None:
    """List what RUN (an id that `runs` prints) measured on the sealed sets."""
    from evaluation.metrics import METRICS

    rows = store.results(run)
    if form is not None:
        lines = [row.as_dict() for row in rows]
        return print_records(form, list(dict.fromkeys(key for line in lines for key in line)), lines)
    shown = {name: metric for name, metric in METRICS.items() if metric.in_terminal}
    heads = ("method", "arm", "seed", "set", *(metric.short or metric.title for metric in shown.values()), "antibodies")

    def said(name: str, value: float | None) -> str:
        return f"{value:,.0f}" if value is not None and METRICS[name].unit == "count" else decimals(value)

    cells = [
        (r.method, r.arm, r.seed, r.ood, *(said(name, r.metrics.get(name)) for name in shown), r.antibodies)
        for r in rows
    ]
    return print_rows(heads, cells, "lines of results")


@query()
def running(store: AntibodyStore, form: Form) -> None:
    """List who is at work on which session.

    `seen` is the last sign of life, UTC. A session whose process died can be resumed: its claim is taken over.
    """
    from db.claims import ClaimRecord, claims

    names = {f"session:{one.id}": one.name for one in store.sessions()}
    cells = {
        "session": lambda c: names.get(c.work, c.work),
        "since (UTC)": lambda c: f"{c.claimed_at:%Y-%m-%d %H:%M:%S}",
        "seen (UTC)": lambda c: f"{c.beat_at:%Y-%m-%d %H:%M:%S}",
    }
    show(form, "claims", ClaimRecord, claims(store.engine), "session, host, pid, since (UTC), seen (UTC)", **cells)


COMMANDS = (sessions, generations, antibodies, effects, prompts, calls, runs, results, running)
