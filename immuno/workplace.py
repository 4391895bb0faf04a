"""What every command works with: the configuration, the record, the encoder, and the sets of a run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cluster import make_embedder
from cluster.journal import Journal
from db.records import RunRecord
from db.store import AntibodyStore, open_store
from evaluation.data.classes import read_classes
from evaluation.data.sources import hold_out, read_images
from evaluation.miniworld import build, default_root
from evaluation.space import Bank, Feedback, Space
from immuno.terminal.progress import watched
from immuno_core.config.run import DataConfig, RunConfig, config_as_dict, parse_config
from immuno_core.features import Embedder, FeatureSet
from immuno_core.paths import default_database
from immuno_core.progress import ProgressReport
from immuno_core.records import ImageSet, text_digest
from immuno_core.text import fill_template
from immuno_core.versions import git_sha, versions


@dataclass(frozen=True, slots=True)
class Workplace:
    """What both workflows work with: the configuration, the record, and the encoder."""

    config: RunConfig
    store: AntibodyStore
    embedder: Embedder
    journal: Journal = field(default_factory=Journal)
    """What embedding did, and the progress that is shown meanwhile."""
    ray_address: str | None = None

    @classmethod
    @contextmanager
    def open(
        cls, config: RunConfig, *, database: str | None, ray_address: str | None, progress: str | None = None
    ) -> Iterator[Workplace]:
        """Open the database and the (lazy) embedder; both are closed at the end, whatever happens.

        `progress` is the value of `--progress`. At the end standard error says what embedding came to.
        """
        with (
            watched(progress) as journal,
            open_store(database, default=default_database()) as store,
            make_embedder(config.encoder, config.cluster, ray_address=ray_address, progress=journal) as embedder,
        ):
            if uses_miniworld(config.data):
                draw_miniworld(config.seed, journal.progress)
            yield cls(config, store, embedder, journal, ray_address)

    def embed(self, images: ImageSet) -> FeatureSet:
        """Record an image set and return its embeddings."""
        self.store.ensure_dataset(images)
        return self.embedder.embed_images(images)

    def classes(self) -> tuple[str, ...]:
        """Return the known classes."""
        return read_classes(self.config.classes, self.config.data, seed=self.config.seed)

    def space(self, bank: Bank | None = None) -> Space:
        """Embed the class texts, the fit split and the feedback split; without `data.fit` only the texts."""
        config, classes = self.config, self.classes()
        encoder = self.embedder.encoder
        images = _fit_and_known(config, classes)
        fit = self.embed(images[0]) if images else None
        return Space(
            classes=classes,
            texts=self.embedder.embed_texts(fill_template(config.classes.template, classes)),
            logit_scale=encoder.logit_scale,
            fit=fit,
            fit_labels=fit.labels(classes) if fit else None,
            bank=Bank.empty(encoder.dim) if bank is None else bank,
            feedback=self._feedback(images[1], classes) if images else None,
        )

    def _feedback(self, known_images: ImageSet, classes: tuple[str, ...]) -> Feedback:
        known = self.embed(known_images)
        outliers = {images.name: self.embed(images) for images in _feedback_outliers(self.config)}
        return Feedback(known, known.labels(classes), outliers)

    def open_digest(self) -> str:
        """Return what tells whether the images of fit and feedback are still the same. Embeds nothing."""
        images = open_sets(self.config, self.classes())
        return text_digest(*(one.digest for one in images)) if images else ""


def open_sets(config: RunConfig, classes: tuple[str, ...]) -> tuple[ImageSet, ...]:
    """Return the sets of fit and feedback, as they are embedded; none where the configuration has no `data.fit`."""
    images = _fit_and_known(config, classes)
    return (*images, *_feedback_outliers(config)) if images else ()


def _feedback_outliers(config: RunConfig) -> Iterator[ImageSet]:
    for source in config.data.feedback:
        yield read_images(source, name=source.name or "", role="outlier", split="feedback", seed=config.seed)


def _fit_and_known(config: RunConfig, classes: tuple[str, ...]) -> tuple[ImageSet, ImageSet] | None:
    """Return the fit images and the known feedback images; None where the configuration has no `data.fit`."""
    data, seed = config.data, config.seed
    if data.fit is None:
        return None
    fit = read_images(data.fit, name="id", role="id", split="fit", seed=seed, classes=classes)
    if data.feedback_id is None:
        return hold_out(fit, seed=seed)
    return fit, read_images(data.feedback_id, name="id", role="id", split="feedback", seed=seed, classes=classes)


@contextmanager
def recorded_run(
    store: AntibodyStore, config: RunConfig, digest: str, *, session_id: str | None = None
) -> Iterator[RunRecord]:
    """Record a run that opens the sealed test: begun before the block, and afterwards finished or failed."""
    run = store.start_run(
        config=config_as_dict(config),
        config_digest=digest,
        seed=config.seed,
        git_sha=git_sha(),
        versions=versions(),
        session_id=session_id,
    )
    try:
        yield run
    except BaseException:
        store.finish_run(run.id, "failed")
        raise
    store.finish_run(run.id)


def uses_miniworld(data: DataConfig) -> bool:
    """Whether any source is the builtin world."""
    sources = (data.fit, data.id, data.feedback_id, *data.ood, *data.feedback)
    return any(source is not None and source.builtin is not None for source in sources)


def draw_miniworld(seed: int, bar: ProgressReport) -> None:
    """Draw what is missing of the mini-world of a seed, showing how far it has come."""
    drawn = 0

    def progress(done: int, total: int) -> None:
        nonlocal drawn
        if drawn == 0 and done < total:
            bar.start(total, "drawing the mini-world")
        bar.advance(done - drawn)
        drawn = done

    try:
        build(default_root(seed), seed=seed, progress=progress)
    finally:
        bar.stop()


def with_overrides(
    config: RunConfig,
    *,
    seed: int | None = None,
    generations: int | None = None,
    session: str | None = None,
    llm: str | None = None,
    base_url: str | None = None,
) -> RunConfig:
    """Return the configuration with what the command line overrides. With another `llm` goes another `base_url`."""
    changes: dict[str, Any] = {}
    if seed is not None:
        changes["seed"] = seed
    loop: dict[str, Any] = {} if generations is None else {"generations": generations}
    if llm is not None or base_url is not None:
        loop |= {"llm": llm or config.refine.llm, "base_url": base_url, "price": None}
        if config.llm_server is not None:
            changes["llm_server"] = None if base_url is not None else config.llm_server
    if loop:
        changes["refine"] = config.refine.model_copy(update=loop)
    if session is not None:
        changes["antibodies"] = config.antibodies.model_copy(update={"session": session, "file": None})
    return config.model_copy(update=changes)


def stored_config(session: str, *, database: str | None) -> RunConfig:
    """Return the configuration a session was started with. Raises SetupError for an unknown session and no database."""
    with open_store(database, default=default_database(), read_only=True) as store:
        record = store.session(session)
    return parse_config(record.config, origin=f"session '{session}'", folder=Path())
