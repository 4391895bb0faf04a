"""The service as an ASGI application: what is asked of it, and what it answers.

    app = make_app(Service(lambda: Shield.load("shield/")))

`immuno guard serve` runs it on one machine (immuno.shield.service.server), deploy/ray_serve.py on a Ray cluster.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from PIL import Image
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Scope

from evaluation.shield.drift import Watch
from evaluation.shield.verdicts import ShieldVerdict
from immuno.shield.log import RejectedLog
from immuno.shield.service.gathering import FullError, Gatherer
from immuno.shield.service.guarding import Guard, authorise
from immuno.shield.service.intake import Limits, RefusedError, Sent, read_images
from immuno.shield.service.metrics import Metrics
from immuno.shield.service.openapi import description, page
from immuno.shield.shield import Shield
from immuno_core.errors import ImmunoError, SetupError, first_line

_LOG: Final = logging.getLogger("immuno.shield")
_PAGES: Final = Path(__file__).with_name("pages")
_STATIC: Final = {"page.css": "text/css", "page.js": "text/javascript"}


class Service:
    """A shield that judges for many who ask at once, and watches what it is asked."""

    def __init__(
        self,
        load: Callable[[], Shield],
        *,
        limits: Limits | None = None,
        token: str = "",
        hosts: Collection[str] | None = None,
        log: RejectedLog | None = None,
        say: Callable[[str], None] = _LOG.info,
    ) -> None:
        """`load` reads the shield, at the start and at each reload; `log` keeps what is rejected; `say` tells a person.

        `hosts`: see Guard; a `token` takes the place of that check.
        """
        self.limits, self.token, self.hosts = limits or Limits(), token, None if token else hosts
        self._log, self._say, self._load = log, say, load
        self._lost, self._drifted = "", False
        self._judging: tuple[Shield, Watch] | None = None
        self.problem = "the encoder is being loaded"
        """Why nothing is judged; "" where it is."""
        self._held, self._swapping = 0, threading.Lock()
        self._gatherer = Gatherer(
            self._judge, most=self.limits.batch, room=self.limits.queue, done=lambda n, s: self.metrics.batch(n, s)
        )
        self.metrics = Metrics(
            waiting=lambda: float(self._gatherer.waiting),
            ready=lambda: 0.0 if self.problem else 1.0,
            drift=lambda: self._judging[1].state if self._judging else None,
            logged=None if log is None else lambda: float(len(log)),
        )

    @property
    def shield(self) -> Shield | None:
        """What judges; None before it is loaded."""
        return self._judging[0] if self._judging else None

    def start(self) -> None:
        """Load the shield and its encoder; from then on images are judged. Raises SetupError as Shield.load."""
        try:
            self._swap()
        except Exception as error:
            self.problem = first_line(error)
            raise
        self._say("ready")

    def reload(self) -> str:
        """Load the shield anew and swap it in; return its digest.

        Raises SetupError for a folder that is no shield any more: the one before goes on judging.
        """
        try:
            digest = self._swap()
        except ImmunoError as error:
            self.metrics.reloads.labels("refused").inc()
            self._say(f"not reloaded, the shield before goes on judging: {first_line(error)}")
            raise
        self.metrics.reloads.labels("done").inc()
        self._say(f"reloaded: {digest[:12]}")
        return digest

    def _swap(self) -> str:
        with self._swapping:
            before, after = self.shield, self._load()
            if before is not None:
                after.with_encoder_of(before)
            after.judge([Image.new("RGB", (64, 64))])  # loads the encoder, and warms it
            self._judging, self.problem = (after, after.watch()), ""
            self.metrics.judging(after.manifest)
            return after.manifest.digest

    def close(self) -> None:
        """Judge what waits, and end."""
        self._gatherer.close()

    async def judged(self, sent: Sent) -> tuple[str, list[ShieldVerdict]]:
        """Return the digest of the shield, and what it says of the images of a request. Raises RefusedError."""
        if self.problem:
            raise RefusedError(503, self.problem, Retry_After="2")
        failed = {row: ShieldVerdict(sent.names[row], "failed", reason=why) for row, why in sent.failures.items()}
        rows = [row for row in range(len(sent.images)) if row not in failed]
        digest = self.shield.manifest.digest if self.shield else ""
        if rows:
            try:
                async with asyncio.timeout(self.limits.seconds):
                    said = await self._gatherer.judged([sent.images[i] for i in rows], [sent.names[i] for i in rows])
            except FullError as full:
                raise RefusedError(503, str(full), Retry_After=str(full.seconds)) from None
            except TimeoutError:
                line = f"not judged within {self.limits.seconds:g} s"
                raise RefusedError(503, line, Retry_After=str(round(self.limits.seconds))) from None
            except ImmunoError as error:
                raise RefusedError(500, first_line(error)) from None
            digest = said[0][0]
            failed |= {row: verdict for row, (_, verdict) in zip(rows, said, strict=True)}
        verdicts = [failed[row] for row in range(len(sent.images))]
        for one in verdicts:
            self.metrics.images.labels(one.outcome).inc()
        return digest, verdicts

    def _judge(self, images: Sequence[bytes], names: Sequence[str]) -> list[tuple[str, ShieldVerdict]]:
        if self._judging is None:
            raise SetupError(self.problem)
        shield, watch = self._judging
        try:
            said, judged = shield.judged(images, names)
        except Exception:
            _LOG.exception("a batch of %d images was not judged", len(images))
            raise
        drift = watch.add(judged)
        if drift.drifted != self._drifted:
            self._drifted = drift.drifted
            self._say(drift.told())
        if self._log is not None:
            self._log.add(images, said)
            if self._log.lost != self._lost:
                self._lost = self._log.lost
                self._say(f"a rejected image was not logged: {self._lost}")
        return [(shield.manifest.digest, verdict) for verdict in said]

    @contextlib.contextmanager
    def holding(self) -> Iterator[Callable[[int], None]]:
        """Give a function that is told of bytes as they come, and raises RefusedError where there are too many."""
        mine = 0

        def hold(count: int) -> None:
            nonlocal mine
            if self._held + count > self.limits.held:
                raise RefusedError(503, "too many requests at once", Retry_After="1")
            self._held += count
            mine += count

        try:
            yield hold
        finally:
            self._held -= mine


def make_app(service: Service, failed: Callable[[BaseException], None] | None = None) -> Starlette:
    """Return the application, which starts the service and closes it.

    With `failed` it answers (503) while the encoder is loaded, and `failed` is told of an error; without, it waits.
    """

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        bound, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, service.limits.pixels // 2  # Pillow refuses twice that
        starting = asyncio.create_task(asyncio.to_thread(service.start))
        if failed is None:
            await starting
        else:
            starting.add_done_callback(lambda done: failed(error) if (error := done.exception()) else None)
        try:
            yield
        finally:
            await asyncio.wait([starting])
            await asyncio.to_thread(service.close)
            Image.MAX_IMAGE_PIXELS = bound

    async def judge(request: Request) -> Response:
        authorise(request, service.token)
        with service.metrics.request_seconds.time(), service.holding() as hold:
            digest, verdicts = await service.judged(await read_images(request, service.limits, hold))
        return _json({"shield": digest, "verdicts": [one.as_dict() for one in verdicts]})

    async def reload(request: Request) -> Response:
        if not service.token:
            raise RefusedError(403, "a token is needed to reload over HTTP; without one send the process SIGHUP")
        authorise(request, service.token)
        try:
            return _json({"shield": await asyncio.to_thread(service.reload)})
        except ImmunoError as error:
            raise RefusedError(409, f"{first_line(error)} (the shield before goes on judging)") from None

    async def ready(_: Request) -> Response:
        if service.problem:
            raise RefusedError(503, service.problem, Retry_After="2")
        return _json({"ready": True})

    async def metrics(request: Request) -> Response:
        authorise(request, service.token)
        return PlainTextResponse(service.metrics.text(), media_type="text/plain; version=0.0.4")

    async def static(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in _STATIC:
            raise HTTPException(404)
        return Response((_PAGES / name).read_bytes(), media_type=_STATIC[name])

    said = description(service.limits, token=bool(service.token))
    html = partial(Response, media_type="text/html")
    index, docs = page("index.html.j2", token=bool(service.token)), page("docs.html.j2", said=said)

    def answer(response: Callable[[], Response]) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(_: Request) -> Response:
            return response()

        return endpoint

    routes = [
        Route("/", answer(partial(html, index))),
        Route("/docs", answer(partial(html, docs))),
        Route("/static/{name}", static),
        Route("/openapi.json", answer(partial(_json, said))),
        Route("/health", answer(partial(_json, {"live": True}))),
        Route("/ready", ready),
        Route("/metrics", metrics),
        Route("/judge", judge, methods=["POST"]),
        Route("/reload", reload, methods=["POST"]),
    ]

    known = {route.path for route in routes}

    def answered(scope: Scope, status: int) -> None:
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        service.metrics.requests.labels(path if path in known else "other", str(status)).inc()

    guard = Middleware(Guard, hosts=service.hosts, seconds=service.limits.seconds, answered=answered, refuse=_refusal)

    async def refused(_: Request, error: Exception) -> Response:
        if isinstance(error, RefusedError):
            return _refusal(error)
        if isinstance(error, HTTPException):
            return _json({"error": error.detail}, error.status_code, error.headers)
        return _json({"error": "the service failed over this request"}, 500)

    handlers: dict[Any, Any] = dict.fromkeys((RefusedError, HTTPException, Exception), refused)
    return Starlette(routes=routes, middleware=[guard], exception_handlers=handlers, lifespan=lifespan)


def _json(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    # In ASCII: names may hold what UTF-8 cannot say.
    return Response(json.dumps(value, allow_nan=False), status, headers, "application/json")


def _refusal(error: RefusedError) -> Response:
    return _json({"error": error.line}, error.status, error.headers)
