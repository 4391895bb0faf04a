"""What a request to judge holds: files of a multipart form, or base64 in JSON; and how much of it is too much."""

from __future__ import annotations

import asyncio
import base64
import binascii
import sys
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import python_multipart  # noqa: F401 - starlette imports it where it is there, and fails late where it is not
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from immuno_core.text import printable


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may ask for, and how much may wait."""

    bytes: int = 32 * 2**20
    """Of a request."""
    pixels: int = 50_000_000
    """Of an image; told from its header, before it is decoded."""
    images: int = 64
    """In a request."""
    seconds: float = 30.0
    """In which a request has to come, and then to be answered."""
    queue: int = 256
    """Images that wait for their batch, of all requests."""
    batch: int = 32
    """Images that are judged at a time."""

    @property
    def held(self) -> int:
        """Bytes of all requests that are being received or wait."""
        return 8 * self.bytes


class RefusedError(Exception):
    """A request is refused: the HTTP status, and why in a line."""

    def __init__(self, status: int, line: str, **headers: str) -> None:
        """`headers` with _ for -."""
        super().__init__(line)
        self.status, self.line = status, printable(line)
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


class Sent(NamedTuple):
    """The images of a request, their names, and by their places why some are none."""

    images: list[bytes]
    names: list[str]
    failures: dict[int, str]


class SentImage(BaseModel):
    """An image in JSON."""

    model_config = ConfigDict(extra="forbid")
    data: Annotated[str, Field(description="The image file in base64.")]
    name: Annotated[str, Field(description="What the verdict calls it.")] = ""


class SentJson(BaseModel):
    """The JSON of a request to judge."""

    model_config = ConfigDict(extra="forbid")
    images: list[SentImage]


async def read_images(request: Request, limits: Limits, hold: Callable[[int], None]) -> Sent:
    """Return the images of a request; `hold` is told of every part of it that has come, and may refuse it.

    Raises RefusedError.
    """
    form = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if form not in ("multipart/form-data", "application/json"):
        raise RefusedError(415, "send multipart/form-data with files, or application/json; see /docs")
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > limits.bytes:
        raise _too_large(limits)
    try:
        async with asyncio.timeout(limits.seconds):
            chunks = _bounded(request, limits, hold)
            sent = await (_of_form if form == "multipart/form-data" else _of_json)(request, chunks, limits)
    except TimeoutError:
        raise RefusedError(408, f"the request did not come within {limits.seconds:g} s") from None
    except ClientDisconnect:
        raise RefusedError(400, "the request broke off") from None
    if not sent.images:
        raise RefusedError(400, "no image in the request")
    if len(sent.images) > limits.images:
        raise RefusedError(413, f"{len(sent.images):,} images in a request; at most {limits.images:,} are taken")
    return sent


def _too_large(limits: Limits) -> RefusedError:
    return RefusedError(413, f"a request may have {limits.bytes:,} bytes; send fewer images at a time, or smaller ones")


async def _bounded(request: Request, limits: Limits, hold: Callable[[int], None]) -> AsyncGenerator[bytes, None]:
    total = 0
    async for chunk in request.stream():
        total += len(chunk)
        if total > limits.bytes:
            raise _too_large(limits)
        hold(len(chunk))
        yield chunk


class _Parts(MultiPartParser):
    """A form whose files stay in memory, and which knows whether it has come to its end."""

    spool_max_size = sys.maxsize
    ended = False

    def on_end(self) -> None:
        self.ended = True


async def _of_form(request: Request, chunks: AsyncGenerator[bytes, None], limits: Limits) -> Sent:
    async def whole() -> AsyncGenerator[bytes, None]:
        async for chunk in chunks:
            yield chunk
        if not parser.ended:
            raise MultiPartException("the form ends before its last boundary")

    parser = _Parts(request.headers, whole(), max_files=limits.images, max_fields=limits.images)
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise RefusedError(413 if error.message.startswith("Too many") else 400, error.message) from None
    sent = Sent([], [], {})
    try:
        for field, value in form.multi_items():
            if not isinstance(value, UploadFile):
                raise RefusedError(400, f"the field '{field[:100]}' is a text, not a file (with curl: -F image=@FILE)")
            sent.images.append(await value.read())
            sent.names.append(value.filename or _place(len(sent.names)))
    finally:
        await form.close()
    return sent


async def _of_json(_: Request, chunks: AsyncGenerator[bytes, None], limits: Limits) -> Sent:
    body = b"".join([chunk async for chunk in chunks])
    return await asyncio.to_thread(_parsed, body, limits)


def _parsed(body: bytes, limits: Limits) -> Sent:
    try:
        found = SentJson.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise RefusedError(400, f"{f'{where}: ' if where else ''}{first['msg']}; see /docs") from None
    sent = Sent([], [], {})
    for row, image in enumerate(found.images[: limits.images + 1]):
        content = b""
        try:
            content = base64.b64decode(image.data, validate=True)
        except (binascii.Error, ValueError):
            sent.failures[row] = "its data is not base64"
        sent.images.append(content)
        sent.names.append(image.name or _place(row))
    return sent


def _place(row: int) -> str:
    return f"image {row + 1}"
