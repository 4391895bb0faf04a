"""What the report reads from `results.json`: tolerant of what is missing, strict about the shape of what is there.

Keys that the report does not know are ignored, so a newer results file can still be shown. Everything textual here is
untrusted: file names, class names, antibodies and guidelines come from disks and language models.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from evaluation.metrics import METRICS
from immuno_core.errors import SetupError

RESULTS_FILE = "results.json"


def _empty_for_none(value: Any) -> Any:
    return "" if value is None else value


def _none_for_nan(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _none_for_unbounded(value: Any) -> Any:
    bounds = value if isinstance(value, (list, tuple)) else ()
    return None if any(_none_for_nan(bound) is None for bound in bounds) else value


Text = Annotated[str, BeforeValidator(_empty_for_none)]
Number = Annotated[float | None, BeforeValidator(_none_for_nan)]
# A share written as a percentage would be shown a hundred times too large, so it is refused. Just above 1 is rounding.
Share = Annotated[Annotated[float, Field(ge=0, le=1 + 1e-9)] | None, BeforeValidator(_none_for_nan)]
Interval = Annotated[tuple[float, float] | None, BeforeValidator(_none_for_unbounded)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, protected_namespaces=())


class WithoutLeaks(_Part):
    """What a bank's method measures once the antibodies that name an outlier class are left out."""

    antibodies: int | None = None
    fpr95_id: Share = None
    auroc: Share = None


class Extra(_Part):
    """What a row carries besides its metrics. `score`: its name where the method's label is another; `chosen`: what
    fitting chose by a rule."""

    score: Text = ""
    chosen: dict[str, Any] = {}
    without_leaks: WithoutLeaks | None = None


class Row(_Part):
    """A method on one outlier set (see `immuno_core.records.ResultRow`). A metric is a share, None where undefined."""

    method: str
    ood: str
    params: dict[str, Any] = {}
    seed: int | None = None
    n_id: int | None = None
    n_ood: int | None = None
    auroc: Share
    fpr95_id: Share
    """Share of outliers accepted where 95 % of known images are."""
    fpr95_ood: Share = None
    """Share of known images rejected where 95 % of outliers are."""
    aupr_in: Share = None
    aupr_out: Share = None
    id_accuracy: Share = None
    antibodies: int = 0
    arm: Text = ""
    h_score: Share = None
    oscr: Share = None
    threshold: Number = None
    acceptance: Share = None
    rejection: Share = None
    accepted_accuracy: Share = None
    intervals: dict[str, Interval] = {}
    extra: Extra = Extra()

    @property
    def score(self) -> str:
        """The name of its score; `method` is its label, which may be another."""
        return self.extra.score or self.method

    @property
    def metrics(self) -> dict[str, float | None]:
        """By name, as `immuno_core.records.ResultRow` has them."""
        return {name: getattr(self, name, None) for name in METRICS}


class Skipped(_Part):
    """An image that could not be read."""

    set_name: Text = ""
    path: Text = ""
    reason: Text = ""


class Overlap(_Part):
    """Images left out of a test set because they are in another set too; `first` is one of them."""

    set: Text = ""
    count: int
    first: Text = ""
    of_set: Text = ""
    how: Text = ""


class Death(_Part):
    """An embedding actor that died."""

    host: Text = ""
    pid: int | None = None
    over: Text = ""
    reason: Text = ""
    node_lost: bool = False


class Embedding(_Part):
    """What embedding came to (`cluster.records`)."""

    embedded: int = 0
    from_store: int = 0
    quarantined: tuple[Skipped, ...] = ()
    retries: int = 0
    deaths: tuple[Death, ...] = ()
    nodes_lost: int = 0
    batches_halved: int = 0
    images_per_second: Number = None
    limit: Text = ""


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


class Estimate(_Part):
    """A number with its 95 % interval; both as shares."""

    value: Number = None
    interval: Interval = None


class IdAccuracy(_Part):
    """ID accuracy with the bank and with nothing, and whether the bank costs no more than the margin."""

    bank: Share = None
    none: Share = None
    difference: Estimate = Estimate()
    non_inferior: bool | None = None


class Verdict(_Part):
    """The falsification test of the paper (`evaluation.benchmark.settle`); `status` is None where it was not asked for.

    Everything is by arm (`immuno_core.config.methods.Arm`). `bank_minus` is paired: negative = the bank accepts fewer
    outliers.
    """

    status: Literal["supported", "refuted", "undecided"] | None = None
    reasons: tuple[str, ...] = ()
    method: Text = ""
    margin: Number = None
    sets: tuple[str, ...] = ()
    acceptance: dict[str, Estimate] = {}
    bank_minus: dict[str, Estimate] = {}
    per_set: dict[str, dict[str, Share]] = {}
    id_accuracy: IdAccuracy = IdAccuracy()
    accepted_and_right: IdAccuracy = IdAccuracy()
    """The same for the known images that the deployed threshold accepts and that are rightly classified."""
    references: dict[str, Text] = {}
    """What an arm was compared with, where that is not the bank itself: `bank_minus` is that minus the arm."""
    left_out: dict[str, Text] = {}


class Leak(_Part):
    """An antibody whose text is, or nearly is, the name of a class of an outlier set."""

    set: Text = ""
    antibody: Text = ""
    text: Text = ""
    outlier_class: Text = ""
    how: Text = ""


class Published(_Part):
    """A figure that a paper gives, as shares. Papers mean one of two FPR95s (see Row)."""

    method: str
    set: str
    fpr95_id: Share = None
    fpr95_ood: Share = None
    auroc: Share = None
    source: Text = ""


class Spread(_Part):
    """A metric over several seeds; `sd` is None for a single one."""

    mean: Number = None
    sd: Number = None


class SeedRow(_Part):
    """A method over several seeds, on one outlier set or (`ood` "") over all of them."""

    method: str
    arm: Text = ""
    ood: Text = ""
    fpr95_id: Spread | None = None
    auroc: Spread | None = None
    id_accuracy: Spread | None = None


class SeedsSummary(_Part):
    """What `evaluation.benchmark.seeds` makes of several runs."""

    seeds: tuple[int, ...]
    rows: tuple[SeedRow, ...] = ()
    means: tuple[SeedRow, ...] = ()


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
    verdict: Verdict = Verdict()
    unseen: tuple[str, ...] | None = None
    """The sets unlike anything in the feedback; None in files of older versions, which did not say."""
    left_out: dict[str, Text] = {}
    """Why methods could not be measured, by label."""
    overlap: tuple[Overlap, ...] = ()
    leakage: tuple[Leak, ...] | None = None
    """None where nobody looked."""
    leakage_checked: int | None = None
    """Antibodies that the audit looked at."""
    published: tuple[Published, ...] = ()
    seeds_summary: SeedsSummary | None = None
    skipped: tuple[Skipped, ...] = ()
    embedding: Embedding | None = None
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
