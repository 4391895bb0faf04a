"""Pages of runs of the benchmark: their results, and when the sealed test was opened."""

from __future__ import annotations

import json
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from db.questions.listing import NotThereError
from immuno.ui.rendering import page
from immuno.ui.site import Site, exported


def _names(site: Site) -> dict[str, str]:
    return {session.id: session.name for session in site.store.sessions()}


def all_runs(site: Site, request: Request) -> Response:
    """Every run, the last one first."""
    runs = site.store.runs()[::-1]
    columns = ("id", "session", "status", "seed", "config_digest", "git_sha", "started_at", "finished_at")
    names = _names(site)
    rows = [
        {name: getattr(run, name) for name in columns if name != "session"}
        | {"session": names.get(run.session_id or "")}
        for run in runs
    ]
    if (export := exported(request, "runs", columns, rows)) is not None:
        return export
    return page("runs", runs=runs, names=names)


def one_run(site: Site, request: Request) -> Response:
    """A run: a line for each method and outlier set, what it ran with, and what it opened."""
    run = next((run for run in site.store.runs() if run.id == request.path_params["id"]), None)
    if run is None:
        raise NotThereError(f"there is no run with the id {request.path_params['id'][:60]!r}")
    rows = site.store.results(run.id)
    flat: list[dict[str, Any]] = [row.as_dict() for row in rows]
    columns = list(dict.fromkeys(name for row in flat for name in row))
    if (export := exported(request, "results", columns, [dict.fromkeys(columns) | row for row in flat])) is not None:
        return export
    reads = [read for read in site.store.test_reads() if read.run_id == run.id]
    config = json.dumps(run.config, indent=2, ensure_ascii=False)
    return page("run", run=run, rows=rows, reads=reads, names=_names(site), config=config)


def reads(site: Site, request: Request) -> Response:
    """Every opening of the sealed test."""
    found = site.store.test_reads()[::-1]
    columns = ("id", "run_id", "sets", "reason", "at")
    rows = [{name: getattr(read, name) for name in columns} for read in found]
    if (export := exported(request, "test-reads", columns, rows)) is not None:
        return export
    return page("reads", reads=found)
