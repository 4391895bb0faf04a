"""The results folder (docs/benchmark.md#what-is-written): `results.json` for other programs, a CSV, and all scores.

`results.json` has the keys run_id, config_digest, encoder, versions, git_sha, rows (`immuno_core.records.ResultRow`)
and verdict. Further keys are free, among them `skipped` (images that could not be read), `embedding` (what happened
while images were embedded: `cluster.records.EmbeddingSummary`), `test_reads` (openings of the sealed test), `before`
and `after` (the methods of the headline) and `unseen` (sets unlike the feedback; evaluation.benchmark.order). It is
strict JSON: a number that is not finite is refused.

`results.csv` has the rows for a spreadsheet: a line each, a column per key, the interval of the metric m in m_low and
m_high, `params` and `extra` as JSON, and nothing where nothing was measured.

`scores.npz` has an array "method|set" (n,) float64 for every method and test set.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from evaluation.metrics import METRICS
from immuno_core.errors import ImmunoError, SetupError
from immuno_core.features import Floats
from immuno_core.files import write_atomically
from immuno_core.records import ResultRow
from immuno_core.text import safe_cell


def _row(line: Any) -> Any:
    """A line of results.json as the fields of its record: those of metrics that are not known here are ignored."""
    if not isinstance(line, Mapping):
        return line
    own = {one.name: line[one.name] for one in fields(ResultRow) if one.name in line}
    return own | {"metrics": {name: line.get(name) for name in METRICS}}


class _Contract(BaseModel):
    """The keys that are promised, with their types."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())
    run_id: str
    config_digest: str
    encoder: dict[str, Any]
    versions: dict[str, str]
    git_sha: str | None
    rows: tuple[Annotated[ResultRow, BeforeValidator(_row)], ...]
    verdict: dict[str, Any]


def write_results(path: Path, results: Mapping[str, Any]) -> None:
    """Write `results.json`, whole or not at all.

    Raises ImmunoError, and writes nothing, for a missing or mistyped key of the contract, and for NaN or infinity.
    """
    try:
        _Contract.model_validate(results)
        content = json.dumps(results, indent=1, ensure_ascii=False, allow_nan=False)
        write_atomically(path, content + "\n")
    except ValidationError as error:
        raise ImmunoError(f"{path} was not written: {_first(error)}") from None
    except ValueError as error:
        raise ImmunoError(f"{path} was not written: {error}") from None


def read_results(path: Path) -> dict[str, Any]:
    """Read a `results.json` with all its keys. Raises SetupError for one that is missing or is not as promised."""
    try:
        raw: dict[str, Any] = json.loads(path.read_bytes())
        _Contract.model_validate(raw)
    except FileNotFoundError:
        raise SetupError(f"no results at {path}; run: immuno bench CONFIG --out {path.parent}") from None
    except OSError as error:
        raise SetupError(f"cannot read {path}: {error.strerror}") from None
    except ValidationError as error:
        raise SetupError(f"{path} is no results file: {_first(error)}; run the benchmark again") from None
    except (ValueError, RecursionError) as error:
        raise SetupError(f"{path} is not JSON ({error}); run the benchmark again") from None
    return raw


def csv_columns() -> tuple[str, ...]:
    """Return the columns of `results.csv`, in order."""
    bounds = (f"{name}_{end}" for name, metric in METRICS.items() if metric.resampled for end in ("low", "high"))
    own = ("method", "arm", "ood", "seed", "n_id", "n_ood", "antibodies")
    return (*own, *METRICS, *bounds, "params", "extra")


def write_csv(path: Path, rows: Iterable[ResultRow]) -> None:
    """Write `results.csv`, whole or not at all: UTF-8, columns csv_columns().

    A text that a spreadsheet would run as a formula is prefixed with an apostrophe. Raises ImmunoError, and writes
    nothing, for parameters that are not strict JSON.
    """
    content = io.StringIO(newline="")
    # Lines end in CR LF (RFC 4180), so that both are quoted in texts.
    writer = csv.DictWriter(content, csv_columns(), extrasaction="ignore")
    writer.writeheader()
    try:
        for row in rows:
            writer.writerow({name: safe_cell(value) for name, value in _line(row).items()})
    except (TypeError, ValueError) as error:
        raise ImmunoError(f"{path} was not written: {error}") from None
    write_atomically(path, content.getvalue())


def _line(row: ResultRow) -> dict[str, Any]:
    bounds = {
        f"{metric}_{end}": value
        for metric, ends in row.intervals.items()
        for end, value in zip(("low", "high"), ends, strict=True)
    }
    texts = {name: json.dumps(getattr(row, name), ensure_ascii=False, allow_nan=False) for name in ("params", "extra")}
    return {**row.as_dict(), **bounds, **texts}


def rows_of(results: Mapping[str, Any]) -> tuple[ResultRow, ...]:
    """Return the rows of a results file that was read, as they were before they were written."""
    return _Contract.model_validate(results).rows


def write_scores(path: Path, scores: Mapping[str, Mapping[str, Floats]]) -> None:
    """Write `scores.npz`, whole or not at all, from scores by method and set (see BenchmarkResult)."""
    arrays: dict[str, Any] = {
        f"{method}|{name}": array for method, sets in scores.items() for name, array in sets.items()
    }
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    write_atomically(path, content.getvalue())


def _first(error: ValidationError) -> str:
    found = error.errors()[0]
    where = ".".join(str(part) for part in found["loc"])
    return f"{where}: {found['msg']}" if where else found["msg"]
