"""Pages of sessions: all of them, one, two beside each other, and what changed between two generations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from agents import prompt_tree
from db import GenerationRecord, SessionRecord, chosen_generation
from db.exchange.banks import is_imported
from db.questions.diff import diff
from db.questions.listing import Wanted, antibody_count, kinds_in_force, session_by_id
from db.questions.stats import stats
from db.store import AntibodyStore
from immuno.terminal.sessions import SessionLine, session_lines, session_view
from immuno.ui.rendering import page
from immuno.ui.site import Site, asked, exported, file
from immuno_core.records import ID_SET, Antibody, Verdict

_THROUGH: Final = 12
_LIVE: Final = 3
"""Seconds after which a page of what runs is asked for again."""


def all_sessions(site: Site, request: Request) -> Response:
    """Every session, the last one first, with its way."""
    generations = site.store.generations()
    lines = session_lines(site.store.sessions(), generations)[::-1]
    rows = [line.as_dict() for line in lines]
    if (export := exported(request, "sessions", list(rows[0]) if rows else ["session"], rows)) is not None:
        return export
    ways: dict[str, list[float | None]] = {}
    for one in generations:
        ways.setdefault(one.session_id, []).append(fpr95(one))
    running = any(line.session.status == "running" for line in lines)
    live, counts = _LIVE if running else 0, {one.name: one.number for one in stats(site.store)}
    return page("sessions", lines=lines, ways=ways, live=live, counts=counts, database=site.store.url)


def fpr95(generation: GenerationRecord) -> float | None:
    """The mean FPR95 over the feedback sets; None where it is not on record."""
    value = generation.metrics.get("mean_fpr95")
    return float(value) if isinstance(value, int | float) else None


def _by_set(generation: GenerationRecord, metric: str = "fpr95") -> Mapping[str, float | None]:
    found = generation.metrics.get(metric)
    return found if isinstance(found, Mapping) else {}


def one_session(site: Site, request: Request) -> Response:
    """One session: its generations, its bank, its prompts, what it cost, and what still gets through."""
    store, session = site.store, session_by_id(site.store, request.path_params["id"])
    view = session_view(store, session)
    through: Sequence[Verdict] = ()
    if view.line.best is not None:
        through = getting_through(store.verdicts(view.line.best.id))
    tree = prompt_tree(view.generations, store.prompts(session.id))
    depths: dict[int, int] = {}
    for one in tree:
        depths[one.version] = 0 if one.parent is None else depths.get(one.parent, 0) + 1
    return page(
        "session",
        session=session,
        view=view,
        sets=list(dict.fromkeys(name for one in view.generations for name in _by_set(one))),
        fpr95=fpr95,
        by_set=_by_set,
        way=[fpr95(one) for one in view.generations],
        kinds=kinds_in_force(store, session.id),
        proposed=antibody_count(store, Wanted(session.id)),
        tree=tree,
        depths=depths,
        through=through[:_THROUGH],
        through_count=len(through),
        others=[one for one in store.sessions() if one.id != session.id],
        live=_LIVE if session.status == "running" else 0,
    )


def getting_through(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """The outliers that were accepted, the most typical of the known classes first."""
    through = [one for one in verdicts if one.accepted and one.set_name != ID_SET]
    return sorted(through, key=lambda one: (-one.score, one.set_name, one.sample_id))


def bank_file(site: Site, request: Request) -> Response:
    """The texts of a session's best bank, as `immuno db export` writes them into a .jsonl."""
    from evaluation.antibodies.bank_files import bank_jsonl

    session = session_by_id(site.store, request.path_params["id"])
    generation = chosen_generation(site.store, session, None)
    found: Sequence[Antibody] = site.store.bank(generation.id).antibodies
    if is_imported(session):
        found = site.store.antibodies(session.id, generation=generation.number, status="accepted")
    return file(bank_jsonl(one for one in found if one.is_worded), "bank.jsonl", "application/jsonl")


def _chosen(store: AntibodyStore, session_id: str) -> tuple[SessionRecord, SessionLine, list[GenerationRecord]]:
    session = session_by_id(store, session_id)
    generations = store.generations(session.id)
    (line,) = session_lines([session], generations)
    return session, line, list(generations)


def beside(site: Site, request: Request) -> Response:
    """Two sessions beside each other: what was recorded of their best generations, and how alike their banks are."""
    ids = asked(request, "a"), asked(request, "b")
    sessions = site.store.sessions()
    if None in ids:
        return page("compare", sessions=sessions, ids=ids, sides=(), pair=None)
    sides = [_chosen(site.store, one or "") for one in ids]
    best = [line.best for _, line, _ in sides]
    pair = None if None in best else _pair(site.store, [one for one in best if one is not None], sides)
    return page(
        "compare",
        sessions=sessions,
        ids=ids,
        sides=sides,
        pair=pair,
        by_set=_by_set,
        ways=[[fpr95(one) for one in generations] for _, _, generations in sides],
        sets=list(dict.fromkeys(name for one in best if one for name in _by_set(one))),
        same_grounds=bool(sides[0][0].grounds) and sides[0][0].grounds == sides[1][0].grounds,
    )


def _pair(store: AntibodyStore, best: Sequence[GenerationRecord], sides: Sequence[Any]) -> dict[str, Any]:
    """How alike the banks of two generations are, from what is on record."""
    from evaluation.effects.similarity import text_alikeness, vector_alikeness

    banks = [store.bank(one.id) for one in best]
    same = sides[0][0].encoder.digest == sides[1][0].encoder.digest
    embedding, nearest = vector_alikeness(*banks) if same else (None, None)
    said = [{(one.set_name, one.sample_id): one for one in store.verdicts(generation.id)} for generation in best]
    common = said[0].keys() & said[1].keys()
    return {
        "text": text_alikeness(*banks),
        "embedding": embedding,
        "nearest": nearest,
        "agree": sum(said[0][key].accepted == said[1][key].accepted for key in common) / len(common)
        if common
        else None,
        "images": len(common),
    }


def difference(site: Site, request: Request) -> Response:
    """What changed from one generation to another."""
    before, after = asked(request, "before"), asked(request, "after")
    names = [f"{one.session}:{one.number}" for one in site.store.generations()]
    if before is None or after is None:
        return page("diff", names=names, before=before, after=after, found=None)
    return page("diff", names=names, before=before, after=after, found=diff(site.store, before, after))
