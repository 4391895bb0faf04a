"""The explorer as an ASGI application: which page is at which address, and what every answer carries."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from db import AntibodyStore
from db.questions.listing import NotThereError
from db.schema.engine import BusyError
from immuno.serving.access import Access
from immuno.ui import antibodies, asking, runs, sessions
from immuno.ui.encoders import Encoders
from immuno.ui.images import Pictures
from immuno.ui.rendering import PAGES, page
from immuno.ui.site import Site
from immuno_core.errors import ImmunoError, SetupError, first_line

_STATIC: Final = {"page.css": "text/css", "page.js": "text/javascript"}
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


def make_app(store: AntibodyStore, *, token: str = "", hosts: Collection[str] | None = None) -> Starlette:
    """Return the application over a store that was opened for reading.

    A `token` is asked for where it is not ""; else only `hosts` may be in the header Host (None: any).
    """
    site = Site(store, Pictures(store), Encoders())

    def shown(view: Callable[[Site, Any], Response]) -> Callable[[Request], Response]:
        def endpoint(request: Request) -> Response:
            return view(site, request)

        return endpoint

    routes = [
        Route("/", shown(sessions.all_sessions)),
        Route("/session/{id}", shown(sessions.one_session)),
        Route("/session/{id}/bank.jsonl", shown(sessions.bank_file)),
        Route("/compare", shown(sessions.beside)),
        Route("/diff", shown(sessions.difference)),
        Route("/antibodies", shown(antibodies.listed)),
        Route("/antibody/{id}", shown(antibodies.one)),
        Route("/images", shown(antibodies.images)),
        Route("/image", shown(antibodies.image)),
        Route("/picture", shown(antibodies.picture)),
        Route("/runs", shown(runs.all_runs)),
        Route("/run/{id}", shown(runs.one_run)),
        Route("/reads", shown(runs.reads)),
        Route("/search", shown(asking.search)),
        Route("/sql", shown(asking.sql)),
        Route("/static/{name}", _static),
    ]
    access = Middleware(Access, token=token, hosts=hosts, policy=POLICY)
    handlers: dict[Any, Any] = {ImmunoError: _refused, HTTPException: _no_page, Exception: _failed}
    return Starlette(routes=routes, middleware=[access], exception_handlers=handlers)


def _static(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in _STATIC:
        raise HTTPException(404)
    return Response((PAGES / name).read_bytes(), media_type=_STATIC[name])


def _refused(_: Request, error: Exception) -> Response:
    kinds = ((NotThereError, 404), (BusyError, 503), (SetupError, 400), (ImmunoError, 500))
    return page("error", next(status for kind, status in kinds if isinstance(error, kind)), said=first_line(error))


def _no_page(_: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    words = {404: "There is no such page.", 405: "This explorer only reads: it answers GET."}
    return page("error", status, said=words.get(status, "This cannot be answered."))


def _failed(_: Request, error: Exception) -> Response:
    return page("error", 500, said=f"This page could not be made ({type(error).__name__}).")
