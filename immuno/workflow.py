"""The two things people do, put together from the rooms: refine a bank, and measure it on the sealed test.

read_config -> Workplace.open -> refine (agents, on fit and feedback) -> bench (immuno.bench, on the sealed test)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from agents.feedback import FeedbackData
from agents.review import Review
from agents.session import OnGeneration, RefinementSession, check_settings
from cluster.factory import make_embedder
from cluster.journal import Journal
from cluster.llm_server import serve_llm
from cluster.progress import ProgressReport
from db.records import GenerationRecord, SessionRecord
from db.store import AntibodyStore, open_store
from evaluation.bank import Bank
from evaluation.classes import fill_template, read_classes, read_synonyms
from evaluation.data import hold_out, read_images
from evaluation.features import Embedder, FeatureSet
from evaluation.miniworld import build, default_root
from evaluation.space import Feedback, Space
from immuno.config import DataConfig, RefineConfig, RunConfig, parse_config
from immuno.errors import SetupError
from immuno.paths import default_database
from immuno.progress import watched
from immuno.provenance import config_as_dict, git_sha, versions
from immuno.records import ImageSet, text_digest
from immuno.stopping import run_until_stopped


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


@dataclass(frozen=True, slots=True)
class RefineOutcome:
    """A session with all its generations."""

    session: SessionRecord
    generations: tuple[GenerationRecord, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        return {
            "session": self.session.name,
            "status": self.session.status,
            "seed": self.session.seed,
            "generations": [
                {
                    "number": one.number,
                    "accepted": one.accepted,
                    "reason": one.reason,
                    "proposed": one.proposed,
                    "kept": one.kept,
                    "bank": one.bank,
                    **one.metrics,
                }
                for one in self.generations
            ],
        }


def tell_generation(one: GenerationRecord) -> None:
    """Say on standard error what a generation came to, as soon as it is stored."""
    accepted = "accepted" if one.accepted else "not accepted"
    click.echo(
        f"generation {one.number}: mean FPR95 {100 * one.metrics['mean_fpr95']:.1f} %, "
        f"{one.kept} of {one.proposed} proposals kept, bank of {one.bank}; {accepted}: {one.reason}",
        err=True,
    )


def refine(
    place: Workplace,
    *,
    session: str,
    resume: bool | None,
    on_generation: OnGeneration = tell_generation,
    review: Review | None = None,
) -> RefineOutcome:
    """Run the refinement session of this name; see agents.session.

    `resume` False: the session must be new; True: it must exist; None: either. `review` shows proposals to a person.
    A session that is asked to stop (immuno refine stop) ends, paused, after its generation. Raises SetupError for a
    session that is not as `resume` says, and for one that was started with another encoder, seed or data.
    """
    known = _known_session(place, session, resume)
    # Whatever can be wrong with a configuration is found before a new session takes its name.
    check_settings(with_server_address(place.config, "http://127.0.0.1/v1"), seed=place.config.seed)
    # The server first: the embedding actors take what GPUs it leaves.
    with chat_server(place) as settings:
        data = feedback_data(place)
        record = known or place.store.create_session(
            session,
            config=config_as_dict(place.config),
            seed=place.config.seed,
            git_sha=git_sha(),
            versions=versions(),
            encoder=place.embedder.encoder,
            llm=place.config.refine.llm,
        )
        run_until_stopped(RefinementSession(record, settings, place.store, data, place.embedder, review), on_generation)
    return RefineOutcome(place.store.session(session), place.store.generations(record.id))


@contextmanager
def chat_server(place: Workplace) -> Iterator[RefineConfig]:
    """Have the server of [llm_server] up, if there is one; yields the section [refine] with its address."""
    server = place.config.llm_server
    if server is None:
        yield place.config.refine
        return

    def tell(line: str) -> None:
        click.echo(line, err=True)

    with serve_llm(server, place.config.refine.llm, ray_address=place.ray_address, tell=tell) as base_url:
        yield with_server_address(place.config, base_url)


def with_server_address(config: RunConfig, base_url: str) -> RefineConfig:
    """Return the section [refine], with the address of the server where the configuration has one started."""
    if config.llm_server is None:
        return config.refine
    return config.refine.model_copy(update={"base_url": base_url})


def _known_session(place: Workplace, name: str, resume: bool | None) -> SessionRecord | None:
    """Return the session of that name where there may be one; None where a new one is to be made."""
    known = place.store.find_session(name)
    if known is None:
        if resume:
            place.store.session(name)  # raises the error that names the nearest session
        return None
    if resume is False:
        raise SetupError(f"session '{name}' exists; go on with: immuno refine resume {name}, or choose another name")
    for what, same in (
        ("seed", known.seed == place.config.seed),
        ("encoder", known.encoder.digest == place.embedder.encoder.digest),
        # Read again, not compared as stored: a session of an older version has fewer keys.
        ("data", parse_config(known.config, origin=f"session '{name}'", folder=Path()).data == place.config.data),
    ):
        if not same:
            raise SetupError(
                f"session '{name}' was started with another {what}; take another session name, or the configuration "
                "it was started with"
            )
    return known


def feedback_data(place: Workplace) -> FeedbackData:
    """Embed what the loop may see: the fit split and the feedback split."""
    space = place.space()
    if space.fit is None or space.fit_labels is None or space.feedback is None:
        raise SetupError("refining needs known images: add [data.fit] to the configuration")
    return FeedbackData(
        classes=space.classes,
        texts=space.texts,
        logit_scale=space.logit_scale,
        fit=space.fit,
        fit_labels=space.fit_labels,
        known=space.feedback.known,
        known_labels=space.feedback.labels,
        outliers=space.feedback.outliers,
        synonyms=read_synonyms(place.config.classes.synonyms, space.classes),
    )
