"""The service in OpenAPI 3.1, and its pages. Nothing on them comes from elsewhere."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from pydantic import TypeAdapter

from evaluation.shield.verdicts import ShieldVerdict
from immuno.shield.service.intake import Limits, SentJson
from immuno_core import __version__

_SCHEMAS: Final = "#/components/schemas/{model}"


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(Path(__file__).with_name("pages")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def page(template: str, **values: Any) -> str:
    """Return a page."""
    return _environment().get_template(template).render(values)


def description(limits: Limits, *, token: bool) -> dict[str, Any]:
    """Return the OpenAPI document of a service with these limits, which asks for a token or does not."""
    verdict = TypeAdapter(ShieldVerdict).json_schema(mode="serialization", ref_template=_SCHEMAS)
    nearest = {
        "type": "object",
        "required": ["class", "similarity"],
        "properties": {"class": {"type": "string"}, "similarity": {"type": "number"}},
    }
    verdict["properties"]["nearest"] = {"type": "array", "items": nearest}
    asked = SentJson.model_json_schema(ref_template=_SCHEMAS)
    verdicts = {
        "type": "object",
        "required": ["shield", "verdicts"],
        "properties": {
            "shield": {"type": "string", "description": "Digest of the shield that judged."},
            "verdicts": {"type": "array", "items": {"$ref": "#/components/schemas/ShieldVerdict"}},
        },
    }
    schemas = {
        **verdict.pop("$defs", {}),
        **asked.pop("$defs", {}),
        "ShieldVerdict": verdict,
        "SentJson": asked,
        "Verdicts": verdicts,
        "Error": {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}},
    }
    files = {"type": "object", "additionalProperties": {"type": "string", "format": "binary"}}
    judge = {
        "summary": f"Judge up to {limits.images} images, {limits.bytes:,} bytes and {limits.pixels:,} pixels each",
        "description": "An image that cannot be read has the outcome 'failed' and its reason; the others are judged.",
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {"schema": files},
                "application/json": {"schema": {"$ref": "#/components/schemas/SentJson"}},
            },
        },
        "responses": {
            "200": _answer("A verdict for each image, in their order", "Verdicts"),
            **_errors(
                {
                    "400": "No image, or a body that is no form and no JSON",
                    "408": f"The request did not come within {limits.seconds:g} s",
                    "413": "Too many bytes, or too many images",
                    "415": "Another type of content",
                    "500": "The model failed over the batch",
                    "503": "Too much waits, or the encoder is being loaded; see Retry-After",
                },
                token=token,
            ),
        },
    }
    reload = {
        "summary": "Load the shield's folder anew; no request is dropped",
        "responses": {
            "200": {"description": "The digest of the shield that judges from now on"},
            **_errors({"403": "The service has no token", "409": "No shield; the one before goes on"}, token=token),
        },
    }
    secured: dict[str, Any] = {"security": [{"token": []}]} if token else {}
    paths = {
        "/judge": {"post": judge | secured},
        "/reload": {"post": reload | secured},
        "/health": {"get": {"summary": "Whether the process lives", "responses": {"200": {"description": "It does"}}}},
        "/ready": {
            "get": {
                "summary": "Whether images are judged",
                "responses": {"200": {"description": "They are"}, **_errors({"503": "Not yet, and why"})},
            }
        },
        "/metrics": {
            "get": {"summary": "Numbers for Prometheus", "responses": {"200": {"description": "Text"}}} | secured
        },
    }
    components: dict[str, Any] = {"schemas": schemas}
    if token:
        components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    info = {"title": "immuno-vlm shield", "version": __version__}
    return {"openapi": "3.1.0", "info": info, "paths": paths, "components": components}


def _answer(what: str, schema: str) -> dict[str, Any]:
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    return {"description": what, "content": content}


def _errors(lines: dict[str, str], *, token: bool = False) -> dict[str, Any]:
    lines = ({"401": "The token is missing or wrong"} if token else {}) | lines
    return {status: _answer(line, "Error") for status, line in lines.items()}
