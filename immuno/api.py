"""The Python API: what a script or a notebook does in a line. docs/api.md has examples; `immuno` re-exports it all."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, overload

import numpy as np
from numpy.typing import ArrayLike

from evaluation.bootstrap import REPLICATES, MethodScores, resample
from evaluation.metrics import METRICS, Scored, checked, checked_right
from evaluation.space import Bank, Space
from immuno_core.arrays import check_unit_rows
from immuno_core.config.run import RunConfig, SourceConfig, read_config
from immuno_core.features import FeatureSet, FloatArray, IntArray, embed_whole
from immuno_core.paths import default_database
from immuno_core.records import Antibody

if TYPE_CHECKING:
    from db import AntibodyStore
    from immuno.refine import RefineOutcome
    from immuno.results import Results
    from immuno.workplace import Workplace

PathLike = str | os.PathLike[str]


@dataclass(frozen=True, slots=True, repr=False)
class Evaluation:
    """How well scores tell known images from outliers: every metric of evaluation.metrics, and 95 % intervals.

    `metrics` has a share in [0, 1] for each, None where it is undefined: without predicted classes, what looks at them
    is. `intervals` has those that the bootstrap gives.
    """

    known: int
    """Images."""
    outliers: int
    metrics: Mapping[str, float | None]
    intervals: Mapping[str, tuple[float, float]]

    def __getitem__(self, metric: str) -> float | None:
        return self.metrics[metric]

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        intervals = {name: list(interval) for name, interval in self.intervals.items()}
        return {"known": self.known, "outliers": self.outliers, **self.metrics, "intervals": intervals}

    def __repr__(self) -> str:
        lines = [f"Evaluation of {self.known} known images and {self.outliers} outliers; per cent, 95 % interval"]
        for name, value in self.metrics.items():
            if value is not None:
                factor = 100 if METRICS[name].unit == "share" else 1
                ends = ", ".join(f"{factor * end:.1f}" for end in self.intervals.get(name, ()))
                lines.append(f"  {METRICS[name].title:<20} {factor * value:6.1f}" + (f"  [{ends}]" if ends else ""))
        return "\n".join(lines)


def evaluate(
    known: ArrayLike,
    outliers: ArrayLike,
    *,
    right: ArrayLike | None = None,
    threshold: float | None = None,
    seed: int = 0,
    replicates: int = REPLICATES,
) -> Evaluation:
    """Measure scores of known images (n,) against those of outliers (m,); higher = more in-distribution.

    `right` (n,) bool says which known images are rightly classified, and `threshold` is one to deploy (accept iff
    score >= threshold): without them, what needs them is None. `seed` and `replicates` are the bootstrap's. Raises
    SetupError for empty arrays, other shapes, and NaN.
    """
    ours, theirs = checked(np.asarray(known), "known"), checked(np.asarray(outliers), "outlier")
    # A metric that looks at what was predicted differs between all right and all wrong.
    guesses = [np.asarray(right)] * 2 if right is not None else [np.full(ours.shape, each) for each in (True, False)]
    either = [Scored(ours, checked_right(guess, ours), theirs, threshold) for guess in guesses]
    values: dict[str, float | None] = {}
    for name, metric in METRICS.items():
        value, other = (metric.formula(scored) for scored in either)
        values[name] = value if value == other else None
    names = [name for name, metric in METRICS.items() if metric.resampled and values[name] is not None]
    scores = MethodScores(ours, either[0].right, {"outliers": theirs})
    intervals = resample({"": scores}, seed=seed, count=replicates, names=names).intervals("", "outliers")
    return Evaluation(len(ours), len(theirs), values, intervals)


def make_space(
    texts: ArrayLike,
    *,
    classes: Sequence[str] | None = None,
    fit: ArrayLike | None = None,
    fit_labels: ArrayLike | None = None,
    antibodies: Bank | ArrayLike | None = None,
    logit_scale: float = 100.0,
) -> Space:
    """Return what a score is fitted on, from arrays of embeddings with rows of unit norm.

    `texts` (K, d) are the class texts, `fit` (n, d) known images with `fit_labels` (n,) from 0 to K - 1, `antibodies`
    (A, d) texts of what the classes are not. Raises SetupError for arrays that do not fit one another.
    """
    rows = np.asarray(texts, dtype=np.float32)
    check_unit_rows(rows, what="class texts")
    images = None if fit is None else _feature_set(np.asarray(fit, dtype=np.float32), "fit")
    labels: IntArray | None = None if fit_labels is None else np.asarray(fit_labels, dtype=np.int64)
    if antibodies is None:
        bank = Bank.empty(rows.shape[1])
    elif isinstance(antibodies, Bank):
        bank = antibodies
    else:
        vectors = np.asarray(antibodies, dtype=np.float32)
        bank = Bank.of([Antibody(f"antibody {number}") for number in range(len(vectors))], vectors)
    names = tuple(f"class {number}" for number in range(len(rows))) if classes is None else tuple(classes)
    return Space(names, rows, logit_scale, images, labels, bank)


def _feature_set(features: FloatArray, name: str) -> FeatureSet:
    ids = tuple(str(number) for number in range(len(features)))
    return FeatureSet(name, "fit", features, ids, ("",) * len(ids), ids)


def open_store(url: str | PathLike | None = None, *, read_only: bool = True) -> AntibodyStore:
    """Open a database, by URL or file; default: the one of the commands. It is a context manager.

    Raises SetupError for one that is missing (`read_only`), unreachable, or no database of immuno.
    """
    from db import open_store as open_database

    return open_database(None if url is None else str(url), default=default_database(), read_only=read_only)


def read_results(place: PathLike) -> Results:
    """Read the results in a folder, or in a results.json. Raises SetupError where they are missing or are none."""
    from immuno.results import Results

    return Results.read(place)


class Lab:
    """A configuration at work: its database, its encoder, its images. A context manager; else `close` it.

    Nothing is embedded, and neither torch nor Ray is started, before something is asked that needs them.
    """

    def __init__(self, place: Workplace, resources: ExitStack, *, quiet: bool) -> None:
        """Made by `open`."""
        self._place, self._resources, self._quiet = place, resources, quiet

    @classmethod
    def open(
        cls,
        config: RunConfig | PathLike,
        *,
        seed: int | None = None,
        database: str | PathLike | None = None,
        ray: str | None = None,
        progress: str = "quiet",
    ) -> Self:
        """Open a configuration, or the file of one; `seed` overrides its own.

        `database` is a URL or an SQLite file, made where it is missing (default: that of the commands), `ray` the
        address of a cluster (default: $RAY_ADDRESS, else a private one), and `progress` what standard error shows:
        quiet, plain, rich or json. Raises SetupError for what is wrong with any of them.
        """
        from immuno.workplace import Workplace, with_overrides

        config = with_overrides(config if isinstance(config, RunConfig) else read_config(config), seed=seed)
        url = None if database is None else str(database)
        with ExitStack() as stack:
            opened = Workplace.open(config, database=url, ray_address=ray, progress=progress)
            place = stack.enter_context(opened)
            return cls(place, stack.pop_all(), quiet=progress == "quiet")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the database, and what was started to embed. May be called twice."""
        self._resources.close()

    @property
    def config(self) -> RunConfig:
        """The configuration."""
        return self._place.config

    @property
    def store(self) -> AntibodyStore:
        """The database."""
        return self._place.store

    def bank(self, session: str | None = None) -> Bank:
        """Return the bank of a session's best generation; default: the bank that the configuration names."""
        from immuno.bench import bank_in_use

        return bank_in_use(self._with_session(session)).bank

    def space(self, session: str | None = None) -> Space:
        """Return what scores are fitted on: class texts, fit and feedback images, and the bank (see `bank`).

        The sealed test is no part of it.
        """
        return self._place.space(self.bank(session))

    @overload
    def embed(self, what: Sequence[str]) -> FloatArray: ...
    @overload
    def embed(self, what: os.PathLike[str]) -> FeatureSet: ...
    def embed(self, what: Sequence[str] | os.PathLike[str]) -> FloatArray | FeatureSet:
        """Embed texts, as they are, to (n, d) unit rows; or the images of a folder (a Path), as a set of features.

        Raises SetupError for texts that are longer than what the encoder reads, and for a folder that is missing or
        holds no image.
        """
        if not isinstance(what, os.PathLike):
            return embed_whole(self._place.embedder, [what] if isinstance(what, str) else list(what), what="texts")
        from evaluation.data.sources import read_images

        folder = Path(what)
        source = SourceConfig(path=folder.absolute())
        return self._place.embed(
            read_images(source, name=folder.name, role="outlier", split="feedback", seed=self.config.seed)
        )

    def refine(self, session: str, *, generations: int | None = None, resume: bool | None = None) -> RefineOutcome:
        """Run the refinement session of this name to its end: a new one, or one that was stopped.

        `generations` overrides refine.generations; `resume` False insists on a new session, True on one that exists.
        Whatever stops it (Ctrl-C too) loses at most the generation in progress. Raises SetupError for a session that
        was started with another encoder, seed or data.
        """
        from immuno.refine import refine, tell_generation
        from immuno.workplace import with_overrides

        place = replace(self._place, config=with_overrides(self.config, generations=generations))
        return refine(
            place,
            session=session,
            resume=resume,
            on_generation=(lambda _: None) if self._quiet else tell_generation,
        )

    def bench(self, out: PathLike, *, session: str | None = None, settle: bool = False, fresh: bool = False) -> Results:
        """Measure the configuration's methods on its sealed test, and write results and report into the folder `out`.

        The bank is that of `session`, else the one that the configuration names. With `settle` the controls are
        measured too, and the verdict is given. What `out` holds already is not measured again, but with `fresh`. Every
        opening of the seal is on record in the database. Raises SetupError before the seal is opened, or with what was
        measured kept.
        """
        from immuno.bench import bench

        return bench(self._with_session(session), out=Path(out), to_settle=settle, fresh=fresh)

    def _with_session(self, session: str | None) -> Workplace:
        from immuno.workplace import with_overrides

        return replace(self._place, config=with_overrides(self.config, session=session))
