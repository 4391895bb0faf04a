# ruff: noqa: RUF012 (pydantic copies what is a default)
"""The results of a benchmark as one typed record, written and read, and its files (docs/benchmark.md#what-is-written).

`results.json` is a `Results`: strict JSON, whose rows (`immuno_core.records.ResultRow`) hold each metric of
evaluation.metrics.METRICS under its own name. Other programs may rely on the keys run_id, config_digest, encoder,
versions, git_sha, rows and verdict ({} where none was asked for).

`results.csv` has the rows for a spreadsheet: a line each, a column per key, the interval of the metric m in m_low and
m_high, `params` and `extra` as JSON, and nothing where nothing was measured.

`scores.npz` has an array "method|set" (n,) float64 for every method and test set.
"""

from __future__ import annotations

import csv
import importlib
import io
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any, Final, Literal, NamedTuple, Self

import numpy as np
from pydantic import (
    AfterValidator,
    BeforeValidator,
    GetPydanticSchema,
    PlainSerializer,
    PrivateAttr,
    ValidationError,
    field_serializer,
)

from evaluation.benchmark.fields import READ, Interval, Number, Part, Share, Text, explained, known_to
from evaluation.benchmark.gallery import GalleryItem
from evaluation.benchmark.leakage import Leak
from evaluation.benchmark.order import Measured
from evaluation.benchmark.pixels import Cost, Costs
from evaluation.benchmark.published import Published
from evaluation.benchmark.seeds import Summary
from evaluation.benchmark.settle import Verdict
from evaluation.benchmark.streams import Streamed
from evaluation.data.overlap import Dropped
from evaluation.effects.plane import Plane
from evaluation.metrics import METRICS
from immuno_core.errors import ImmunoError, SetupError
from immuno_core.features import Floats
from immuno_core.files import read_bytes, write_atomically
from immuno_core.records import FailedImage, ResultRow, described
from immuno_core.text import read_json, safe_cell

RESULTS_FILE: Final = "results.json"
_WRITTEN_BY: Final = "name a folder that `immuno bench CONFIG --out DIR` has written"
_MOST_BYTES: Final = 2**30
_ROW_FIELDS: Final = tuple(one.name for one in fields(ResultRow))


class WithoutLeaks(Part):
    """What a bank's method measures once the antibodies that name an outlier class are left out."""

    antibodies: int | None = None
    fpr95_id: Share = None
    auroc: Share = None


class Extra(Part):
    """What a row carries besides its metrics."""

    score: Text = ""
    """Its name where the method's label is another."""
    chosen: dict[str, Any] = {}
    """What fitting chose by a rule."""
    uses_feedback: bool = False
    """As ResultRow.uses_feedback; no row of the versions before this key was marked."""
    remarks: tuple[str, ...] = ()
    """What has to be known of how it was fitted."""
    without_leaks: WithoutLeaks | None = None


class _Line(Part):
    """A row as it stands in the file, its metrics by their unit."""

    method: str
    ood: str
    params: dict[str, Any] = {}
    seed: int = 0
    n_id: int = 0
    """0 in the files of versions that did not say, as `n_ood`."""
    n_ood: int = 0
    antibodies: int = 0
    arm: Text = ""
    intervals: dict[str, Interval] = {}
    extra: Extra = Extra()
    share: dict[str, Share]
    other: dict[str, Number]
    """What is no share: scores and counts."""

    def row(self) -> ResultRow:
        """The record; metrics in the order of their table."""
        found = {**self.share, **self.other}
        own = {name: getattr(self, name) for name in _ROW_FIELDS if name not in ("metrics", "intervals", "extra")}
        intervals = {name: ends for name, ends in self.intervals.items() if ends is not None}
        extra = self.extra.model_dump(exclude_unset=True)
        if self.extra.without_leaks is not None:
            extra["without_leaks"] = self.extra.without_leaks.model_dump()
        return ResultRow(**own, metrics={name: found[name] for name in METRICS}, intervals=intervals, extra=extra)


def _by_unit(line: Any) -> Any:
    """A line of the file as a `_Line`. Metrics that are not in the table (a later version's) are left out."""
    if isinstance(line, ResultRow):
        line = line.as_dict()
    if not isinstance(line, Mapping):
        return line
    units: dict[str, dict[str, Any]] = {"share": {}, "other": {}}
    for name, metric in METRICS.items():
        units["share" if metric.unit == "share" else "other"][name] = line.get(name)
    return {name: line[name] for name in _ROW_FIELDS if name in line} | units


_Read = Annotated[_Line, BeforeValidator(_by_unit), AfterValidator(_Line.row), PlainSerializer(ResultRow.as_dict)]
Row = Annotated[ResultRow, GetPydanticSchema(lambda _, handler: handler.generate_schema(_Read))]


class Death(Part):
    """An embedding actor that died."""

    host: Text = ""
    pid: int | None = None
    over: Text = ""
    reason: Text = ""
    node_lost: bool = False


class Embedding(Part):
    """What embedding came to."""

    embedded: int = 0
    from_store: int = 0
    quarantined: tuple[Annotated[FailedImage, known_to(FailedImage)], ...] = ()
    retries: int = 0
    deaths: tuple[Death, ...] = ()
    nodes_lost: int = 0
    batches_halved: int = 0
    images_per_second: Number = None
    limit: Text = ""


class SealedRead(Part):
    """One opening of the sealed test split."""

    when: Text = ""
    run_id: Text = ""
    sets: tuple[str, ...] = ()
    reason: Text = ""


class Generation(Part):
    """One round of the refinement loop. `fpr95` is by feedback set; `bank` counts antibodies after this round."""

    number: int
    accepted: bool = True
    reason: Text = ""
    fpr95: dict[str, Share] = {}
    mean_fpr95: Share = None
    mean_auroc: Share = None
    """None in files of versions that did not say."""
    id_accuracy: Share = None
    proposed: int | None = None
    kept: int | None = None
    bank: int | None = None
    guideline: Text = ""

    @property
    def mean(self) -> float | None:
        """Mean FPR95 over the feedback sets: as recorded, else computed."""
        defined = [value for value in self.fpr95.values() if value is not None]
        return fmean(defined) if self.mean_fpr95 is None and defined else self.mean_fpr95


class Session(Part):
    """The refinement session that made the bank."""

    name: Text = ""
    llm: Text = ""
    seed: int | None = None
    sense: Text = ""
    """What the bank does beyond random words; "" where that was not measured."""
    generations: tuple[Generation, ...] = ()


class ListedAntibody(Part):
    """An antibody of the bank with its measured boundary effect on the feedback; `gain` and `harm` are shares."""

    id: Text = ""
    text: str
    kind: Text = ""
    guards: Text = ""
    samples: tuple[str, ...] = ()
    """Of a visual one the outliers that it came from, "set/image"."""
    images: tuple[str, ...] = ()
    """Files of the first of these, where they are known."""
    generation: int | None = None
    gain: Number = None
    harm: Number = None
    fired_outliers: int | None = None
    fired_id: int | None = None

    @property
    def described(self) -> str:
        """What stands for it in a list."""
        return described(self.text, self.samples)


class PricedArm(NamedTuple):
    """A method with the mean FPR95 over the headline sets (a share), and what each of its antibodies costs."""

    method: str
    title: str
    fpr95: float | None
    cost: Cost


class OutlierClass(Part):
    """A class of outliers with at least FEWEST_OF_A_CLASS images: the share accepted, by method."""

    set: str
    name: str
    images: int
    fpr95: dict[str, Share]


class Results(Part):
    """A whole `results.json`."""

    run_id: Text = ""
    config_digest: Text = ""
    encoder: dict[str, Any] = {}
    versions: dict[str, Any] = {}
    git_sha: Text = ""
    rows: tuple[Row, ...]
    verdict: Verdict = Verdict()
    title: Text = ""
    created: Text = ""
    seed: int | None = None
    config: dict[str, Any] = {}
    before: Text = ""
    after: Text = ""
    """The methods that the headline compares (evaluation.benchmark.order)."""
    left_out: dict[str, Text] = {}
    """Why methods could not be measured, by label."""
    warnings: tuple[str, ...] = ()
    """What a reader must know of the classes and the bank, a line for each."""
    distances: dict[str, Literal["near", "far"]] = {}
    """Outlier sets that are said to be near to the known classes, or far."""
    outlier_classes: tuple[OutlierClass, ...] = ()
    """How the two methods of the headline fare on each class of outliers."""
    unseen: tuple[str, ...] | None = None
    """The sets unlike anything in the feedback; None in files of older versions, which did not say."""
    embedding: Embedding | None = None
    skipped: tuple[Annotated[FailedImage, known_to(FailedImage)], ...] = ()
    """Images that could not be read, and what was left out of a set though it looks like an image."""
    skipped_by_reason: dict[str, int] = {}
    """How many they are for each reason."""
    overlap: tuple[Annotated[Dropped, known_to(Dropped)], ...] = ()
    leakage: tuple[Annotated[Leak, known_to(Leak)], ...] | None = None
    """None where nobody looked."""
    leakage_checked: int | None = None
    """Antibodies that the audit looked at."""
    published: tuple[Published, ...] = ()
    test_time: tuple[Streamed, ...] = ()
    """Methods that learn from the test images, apart from all others."""
    test_reads: tuple[SealedRead, ...] = ()
    session: Session | None = None
    antibodies: tuple[ListedAntibody, ...] = ()
    gallery: tuple[GalleryItem, ...] = ()
    plane: Annotated[Plane, known_to(Plane)] | None = None
    """The map of classes, antibodies and images; None in files of versions that drew none."""
    seeds_summary: Summary | None = None
    costs: Costs | None = None
    """None where the arm `pixels` was not measured."""

    _folder: Path | None = PrivateAttr(default=None)

    @property
    def folder(self) -> Path:
        """Where it was saved or read. Raises SetupError where it is neither."""
        if self._folder is None:
            raise SetupError("these results are in no folder yet; save them first")
        return self._folder

    @property
    def measured(self) -> Measured:
        """The rows arranged, with what the session's feedback was."""
        generations = self.session.generations if self.session else ()
        return Measured(self.rows, self.unseen, {name for one in generations for name in one.fpr95}, self.distances)

    @property
    def priced(self) -> tuple[PricedArm, ...]:
        """The bank and the arm `pixels` side by side, under each method that was measured with both."""
        found, measured = self.costs, self.measured
        if found is None:
            return ()
        pairs = [
            (method, method.removesuffix(" / pixels"))
            for method in measured.methods
            if measured.arm(method) == "pixels"
        ]
        return tuple(
            PricedArm(method, title, measured.over(method, "fpr95_id"), cost)
            for drawn, told in pairs
            if told in measured.methods
            for method, title, cost in ((told, "texts", found.texts), (drawn, "pixels", found.pixels))
        )

    @field_serializer("verdict")
    def _said(self, verdict: Verdict) -> dict[str, Any]:
        return verdict.model_dump() if verdict.status else {}

    @classmethod
    def read(cls, place: str | os.PathLike[str]) -> Self:
        """Read the results of a folder, or of its `results.json`.

        Raises SetupError naming the file, and the key where one is wrong.
        """
        path = Path(place) if Path(place).name == RESULTS_FILE else Path(place) / RESULTS_FILE
        try:
            raw = read_json(read_bytes(path, "results", hint=_WRITTEN_BY, most=_MOST_BYTES))
        except ValueError as error:
            raise SetupError(f"{path} is not JSON ({error}); run the benchmark again") from None
        if not isinstance(raw, dict):
            raise SetupError(
                f"{path} holds a JSON {type(raw).__name__}, not an object with 'rows'; name a benchmark's folder"
            )
        try:
            results = cls.model_validate(raw, context=READ)
        except ValidationError as error:
            raise SetupError(f"{path}: {explained(error, groups=('share', 'other'))}") from None
        results._folder = path.parent
        return results

    def as_json(self) -> str:
        """Return what stands in the file. Raises TypeError or ValueError for what is not strict JSON, such as NaN."""
        return json.dumps(self.model_dump(), indent=1, ensure_ascii=False, allow_nan=False) + "\n"

    def save(self, folder: str | Path) -> Path:
        """Write `results.json` and `results.csv` into a folder, each whole or not at all, and return the first's path.

        Raises ImmunoError, and leaves `results.json` as it was, for what is not strict JSON, such as NaN.
        """
        path = Path(folder) / RESULTS_FILE
        try:
            content = self.as_json()
        except (TypeError, ValueError) as error:
            raise ImmunoError(f"{path} was not written: {error}") from None
        write_csv(path.with_name("results.csv"), self.rows)
        write_atomically(path, content)
        self._folder = path.parent
        return path

    def to_pandas(self) -> Any:
        """Return the rows as a pandas.DataFrame with the columns of `results.csv`.

        Raises SetupError where pandas, which is optional, is not installed.
        """
        try:
            pandas = importlib.import_module("pandas")
        except ImportError:
            raise SetupError("a table needs pandas; install it with: pip install pandas") from None
        return pandas.DataFrame([_line(row) for row in self.rows], columns=csv_columns())


def csv_columns() -> tuple[str, ...]:
    """Return the columns of `results.csv`, in order."""
    bounds = (f"{name}_{end}" for name, metric in METRICS.items() if metric.resampled for end in ("low", "high"))
    own = ("method", "arm", "uses_feedback", "ood", "seed", "n_id", "n_ood", "antibodies")
    return (*own, *METRICS, *bounds, "params", "extra")


def _line(row: ResultRow) -> dict[str, Any]:
    ends = {
        f"{metric}_{end}": value
        for metric, bounds in row.intervals.items()
        for end, value in zip(("low", "high"), bounds, strict=True)
    }
    return {**row.as_dict(), "uses_feedback": row.uses_feedback, **ends}


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
            line = _line(row)
            texts = {key: json.dumps(line[key], ensure_ascii=False, allow_nan=False) for key in ("params", "extra")}
            writer.writerow({key: safe_cell(value) for key, value in (line | texts).items()})
    except (TypeError, ValueError) as error:
        raise ImmunoError(f"{path} was not written: {error}") from None
    write_atomically(path, content.getvalue())


def write_scores(path: Path, scores: Mapping[str, Mapping[str, Floats]]) -> None:
    """Write `scores.npz`, whole or not at all, from scores by method and set (see BenchmarkResult)."""
    arrays: dict[str, Any] = {
        f"{method}|{name}": array for method, sets in scores.items() for name, array in sets.items()
    }
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    write_atomically(path, content.getvalue())
