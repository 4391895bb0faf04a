"""Pages that ask the record: by meaning, and in SQL."""

from __future__ import annotations

from threading import BoundedSemaphore
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from db.questions.nearest import Among, Neighbour, nearest_to_vector
from db.questions.sql import Table, run_sql
from immuno.ui.rendering import page
from immuno.ui.site import Site, asked, exported
from immuno_core.errors import ImmunoError, SetupError, first_line

EXAMPLES: Final = (
    (
        "The bank by kind, generation after generation",
        "SELECT s.name, g.number, a.kind, count(*) AS antibodies\nFROM bank_members b\n"
        "JOIN generations g ON g.id = b.generation_id\nJOIN sessions s ON s.id = g.session_id\n"
        "JOIN antibodies a ON a.id = b.antibody_id\nGROUP BY s.name, g.number, a.kind\n"
        "ORDER BY s.name, g.number, a.kind",
    ),
    (
        "Why antibodies were turned down",
        "SELECT reason, count(*) AS antibodies\nFROM antibodies\nWHERE status = 'rejected'\n"
        "GROUP BY reason\nORDER BY antibodies DESC\nLIMIT 20",
    ),
    (
        "Classes whose antibodies gain most",
        "SELECT a.guards, avg(e.gain) AS gain, avg(e.harm) AS harm, count(*) AS measured\nFROM effects e\n"
        "JOIN antibodies a ON a.id = e.antibody_id\nWHERE e.scope = 'solo'\nGROUP BY a.guards\nORDER BY gain DESC",
    ),
    (
        "What each step of the loop asked and cost",
        "SELECT step, model, count(*) AS calls, sum(prompt_tokens) AS tokens_in,\n"
        "       sum(completion_tokens) AS tokens_out, sum(cost_usd) AS dollars\n"
        "FROM llm_calls\nWHERE NOT reused\nGROUP BY step, model",
    ),
    (
        "When the sealed test was opened",
        "SELECT t.at, t.reason, r.status, r.seed\nFROM test_reads t\nJOIN runs r ON r.id = t.run_id\nORDER BY t.at",
    ),
)
_SECONDS: Final = 10.0
_ROWS: Final = 500
_EXPORTED: Final = 100_000
_AT_ONCE: Final = 2


def search(site: Site, request: Request) -> Response:
    """The antibodies nearest to any text, by a session's encoder."""
    text, name = asked(request, "q"), asked(request, "session")
    sessions = site.store.sessions()
    found: tuple[Neighbour, ...] | None = None
    problem, live = "", 0
    chosen = next((one for one in sessions if one.id == name), None)
    if text is not None and chosen is not None:
        try:
            meaning = site.encoders.of(chosen)
            if meaning is None:
                live = 1
            else:
                digest = meaning.digest_in((chosen.encoder.digest,))
                among = Among(chosen.id) if asked(request, "within") else None
                found = nearest_to_vector(site.store, meaning.vector(text[:2000]), digest, among, limit=50)
        except SetupError as error:
            problem = first_line(error)
    return page(
        "search",
        sessions=sessions,
        chosen=chosen,
        text=text,
        within=asked(request, "within"),
        found=found,
        problem=problem,
        live=live,
    )


_TURNS = BoundedSemaphore(_AT_ONCE)


def sql(site: Site, request: Request) -> Response:
    """One SELECT, and what it finds."""
    query = asked(request, "q")
    table: Table | None = None
    problem = ""
    if query is not None:
        limit = _ROWS if asked(request, "as") is None else _EXPORTED
        if not _TURNS.acquire(timeout=_SECONDS):
            raise ImmunoError("other queries are running; try again")
        try:
            table = run_sql(site.store, query, seconds=_SECONDS, limit=limit)
        except SetupError as error:
            problem = str(error)
        finally:
            _TURNS.release()
    if table is not None:
        rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
        if (export := exported(request, "answer", table.columns, rows)) is not None:
            return export
    return page("sql", query=query, table=table, problem=problem, examples=EXAMPLES, rows=_ROWS)
