"""How results.json and what it consists of are typed: tolerant of what is missing, strict about what is there.

Where a file is read (validation with the context READ) null is an empty text, and a number that is not finite is None:
older versions wrote such. What is built here keeps such a number, and writing it is an error.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, ValidationInfo
from pydantic_core import ErrorDetails

READ: Final = "read"


class Part(BaseModel):
    """A part of results.json. Keys of a later version are kept."""

    model_config = ConfigDict(extra="allow", frozen=True, protected_namespaces=())


def _finite(value: Any, info: ValidationInfo) -> Any:
    return None if info.context == READ and isinstance(value, float) and not math.isfinite(value) else value


def _bounded(value: Any, info: ValidationInfo) -> Any:
    bounds = value if isinstance(value, list | tuple) else ()
    return None if any(_finite(bound, info) is None for bound in bounds) else value


Text = Annotated[str, BeforeValidator(lambda value: "" if value is None else value)]
Number = Annotated[float | None, BeforeValidator(_finite)]
# A share written as a percentage would be shown a hundred times too large, so it is refused. Just above 1 is rounding.
Share = Annotated[Annotated[float, Field(ge=0, le=1 + 1e-9)] | None, BeforeValidator(_finite)]
Interval = Annotated[tuple[float, float] | None, BeforeValidator(_bounded)]


def known_to(record: type) -> BeforeValidator:
    """Before a mapping becomes a record of another room (a dataclass): leave out the keys of a later version."""
    known = {one.name for one in fields(record)}

    def only_known(value: Any) -> Any:
        return {key: value[key] for key in value if key in known} if isinstance(value, Mapping) else value

    return BeforeValidator(only_known)


def explained(error: ValidationError, *, groups: tuple[str, ...] = ()) -> str:
    """Return what is wrong, key by key; `groups` are steps of a place that are not in the file."""
    return "; ".join(_explain(one, groups) for one in error.errors()[:3])


def _explain(error: ErrorDetails, groups: tuple[str, ...]) -> str:
    where = ".".join(str(step) for step in error["loc"] if step not in groups)
    return f"the key '{where}' is missing" if error["type"] == "missing" else f"key '{where}': {error['msg']}"
