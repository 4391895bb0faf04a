"""What the report reads from `results.json`: tolerant of what is missing, strict about the shape of what is there.

Keys that the report does not know are ignored, so a newer results file can still be shown. Everything textual here is
untrusted: file names, class names, antibodies and guidelines come from disks and language models.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from immuno.errors import SetupError

RESULTS_FILE = "results.json"


def _empty_for_none(value: Any) -> Any:
    return "" if value is None else value


def _none_for_nan(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


Text = Annotated[str, BeforeValidator(_empty_for_none)]
Number = Annotated[float | None, BeforeValidator(_none_for_nan)]
# A share written as a percentage would be shown a hundred times too large, so it is refused. Just above 1 is rounding.
Share = Annotated[Annotated[float, Field(ge=0, le=1 + 1e-9)] | None, BeforeValidator(_none_for_nan)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, protected_namespaces=())


class Row(_Part):
    """A method on one outlier set (see `immuno.records.ResultRow`). A metric is a share, or None where undefined."""

    method: str
    ood: str
    params: dict[str, Any] = {}
    seed: int | None = None
    n_id: int | None = None
    n_ood: int | None = None
    auroc: Share
    fpr95_id: Share
    fpr95_ood: Share = None
    aupr_in: Share = None
    aupr_out: Share = None
    id_accuracy: Share = None
    antibodies: int = 0


class Skipped(_Part):
    """An image that could not be read."""

    set_name: Text = ""
    path: Text = ""
    reason: Text = ""


class SealedRead(_Part):
    """One opening of the sealed test split."""

    when: Text = ""
    run_id: Text = ""
    sets: tuple[str, ...] = ()
    reason: Text = ""


class Generation(_Part):
    """One round of the refinement loop. `fpr95` is by feedback set; `bank` counts antibodies after this round."""

    number: int
    accepted: bool = True
    reason: Text = ""
    fpr95: dict[str, Share] = {}
    mean_fpr95: Share = None
    id_accuracy: Share = None
    proposed: int | None = None
    kept: int | None = None
    bank: int | None = None
    guideline: Text = ""


class Session(_Part):
    """The refinement session that made the bank."""

    name: Text = ""
    llm: Text = ""
    seed: int | None = None
    generations: tuple[Generation, ...] = ()


class Antibody(_Part):
    """An antibody of the bank with its measured boundary effect; `gain` and `harm` are shares."""

    id: Text = ""
    text: str
    kind: Text = ""
    guards: Text = ""
    generation: int | None = None
    gain: Number = None
    harm: Number = None
    fired_outliers: int | None = None
    fired_id: int | None = None


class GalleryItem(_Part):
    """One outlier image, as the methods before and after saw it."""

    set: Text = ""
    image: str
    label: Text = ""
    nearest_class: Text = ""
    score_before: Number = None
    threshold_before: Number = None
    accepted_before: bool = False
    score_after: Number = None
    threshold_after: Number = None
    accepted_after: bool = False
    antibody: str | None = None


class Results(_Part):
    """A whole `results.json`."""

    rows: tuple[Row, ...]
    title: Text = ""
    created: Text = ""
    run_id: Text = ""
    seed: int | None = None
    before: Text = ""
    after: Text = ""
    encoder: dict[str, Any] = {}
    versions: dict[str, Any] = {}
    git_sha: Text = ""
    config_digest: Text = ""
    verdict: dict[str, Any] = {}
    skipped: tuple[Skipped, ...] = ()
    test_reads: tuple[SealedRead, ...] = ()
    session: Session | None = None
    antibodies: tuple[Antibody, ...] = ()
    gallery: tuple[GalleryItem, ...] = ()


def read_results(folder: Path) -> Results:
    """Read `results.json` of a folder.

    Raises SetupError naming the file, and the key where one is wrong.
    """
    path = folder / RESULTS_FILE
    try:
        raw = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise SetupError(f"no {path}; name a folder that `immuno bench CONFIG --out DIR` has written") from None
    except OSError as error:
        raise SetupError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise SetupError(f"{path} is not JSON ({error}); run the benchmark again") from None
    if not isinstance(raw, dict):
        raise SetupError(
            f"{path} holds a JSON {type(raw).__name__}, not an object with 'rows'; name a benchmark's folder"
        )
    try:
        return Results.model_validate(raw)
    except ValidationError as error:
        raise SetupError(f"{path}: " + "; ".join(_explain(e) for e in error.errors()[:3])) from None


def _explain(error: ErrorDetails) -> str:
    where = ".".join(str(part) for part in error["loc"])
    if error["type"] == "missing":
        return f"the key '{where}' is missing"
    return f"key '{where}': {error['msg']}"
