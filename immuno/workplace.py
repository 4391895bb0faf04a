"""What every command works with: the configuration, the record, the encoder, and the sets of a run."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np

from cluster import make_embedder
from cluster.journal import Journal
from cluster.store.probes import agree
from db import AntibodyStore, RunRecord, SessionRecord, chosen_generation, is_new, open_store
from db.exchange.banks import is_imported
from evaluation.antibodies.vocabulary import Vocabulary, closed_vocabulary
from evaluation.data.checks import check_sources
from evaluation.data.classes import MEND_EMPTY, read_classes, read_synonyms, without_images
from evaluation.data.contents import state_of
from evaluation.data.likeness import kin, like_known
from evaluation.data.overlap import Dropped, feedback_without_overlap
from evaluation.data.precomputed import PrecomputedEmbedder
from evaluation.data.sealed import SealedTest
from evaluation.data.sources import Listing, OpenSplit, Role, hold_out, read_images
from evaluation.miniworld import MANIFEST_FILE, build, default_root
from evaluation.space import Bank, Feedback, Space
from immuno.terminal.progress import watched
from immuno_core.arrays import in_blocks
from immuno_core.config.numbers import MOST_SEED
from immuno_core.config.refine import PriceConfig
from immuno_core.config.run import DataConfig, RunConfig, SourceConfig, config_as_dict, parse_config, read_config
from immuno_core.errors import SetupError, did_you_mean, shown
from immuno_core.features import Embedder, FeatureSet, embed_whole
from immuno_core.paths import default_database
from immuno_core.progress import ProgressReport, SilentProgress
from immuno_core.records import ImageSet, set_title
from immuno_core.text import composed, count, fill_template, printable
from immuno_core.versions import git_sha, versions

_TRIED = 8


@dataclass(frozen=True, slots=True)
class Workplace:
    """What both workflows work with: the configuration, the record, and the encoder."""

    config: RunConfig
    record: Callable[[], AntibodyStore]
    """Opens the database the first time."""
    embedder: Embedder
    journal: Journal = field(default_factory=Journal)
    """What embedding did, and the progress that is shown meanwhile."""
    ray_address: str | None = None
    need_record: Callable[[], None] = lambda: None
    """Raises SetupError where there is no database yet."""

    @classmethod
    @contextmanager
    def open(
        cls, config: RunConfig, *, database: str | None, ray_address: str | None, progress: str | None = None
    ) -> Iterator[Workplace]:
        """Open the database and the (lazy) embedder; both are closed at the end, whatever happens.

        A database that is not there is made when it is first used: what is wrong before leaves none. `progress` is the
        value of `--progress`. At the end standard error says what embedding came to.
        """
        with ExitStack() as stack:
            journal = stack.enter_context(watched(progress))

            @functools.cache
            def record() -> AntibodyStore:
                return stack.enter_context(open_store(database, default=default_database()))

            def need_record() -> None:
                open_store(database, default=default_database(), read_only=True).close()

            if not is_new(database, default=default_database()):
                record()
            embedder = make_embedder(config.encoder, config.cluster, ray_address=ray_address, progress=journal)
            yield cls(config, record, stack.enter_context(embedder), journal, ray_address, need_record)

    @property
    def store(self) -> AntibodyStore:
        """The record."""
        return self.record()

    def session(self, name: str) -> SessionRecord:
        """Return a session. Raises SetupError for an unknown one, and where there is no database; that makes none."""
        self.need_record()
        return self.store.session(name)

    def embed(self, images: ImageSet) -> FeatureSet:
        """Record an image set and return its embeddings."""
        self.store.ensure_dataset(images)
        return self.embedder.embed_images(images)

    def has_encoder_of(self, session: SessionRecord) -> bool:
        """Return whether a session's encoder is the configuration's.

        One on record without its architecture is tried: some of the session's antibodies are embedded again.
        """
        encoder = self.embedder.encoder
        if session.encoder.digest == encoder.digest:
            return True
        if session.encoder.digest != encoder.older.digest or is_imported(session):
            return False
        if not self.store.generations(session.id):
            return True
        bank = self.store.bank(chosen_generation(self.store, session, None).id).unmatured
        template = parse_config(session.config, origin=session.name, folder=Path()).antibodies.template
        texts = bank.texts[:_TRIED]
        click.echo(
            f"session '{printable(session.name)}' is of an earlier version, which did not look at the encoder's "
            f"architecture: {count(len(texts), 'text')} of its bank embedded again to see whether it is this one",
            err=True,
        )
        return agree(
            self.embedder.embed_texts(fill_template(template, texts)), bank.vectors[:_TRIED], encoder.precision
        )

    def vocabulary(self, classes: Sequence[str]) -> Vocabulary | None:
        """Return the words of a table of texts, all that can be said then; None where any text can be embedded.

        Raises SetupError for a table without words in the template of antibodies.
        """
        if not isinstance(self.embedder, PrecomputedEmbedder):
            return None
        class_texts = fill_template(self.config.classes.template, classes)
        return closed_vocabulary(self.embedder.texts, self.config.word_template, class_texts)

    def sets(self) -> Sets:
        """Return the image sets of the configuration, for one run: they are listed once. Draws the mini-world."""
        return sets_of(self.config, self.journal.progress)

    def space(self, bank: Bank | None = None, sets: Sets | None = None, *, halved: bool = False) -> Space:
        """Embed the class texts, the fit split and the feedback split, whatever there is of them; see `spaced`."""
        return self.spaced(bank, sets, halved=halved).space

    def spaced(self, bank: Bank | None = None, sets: Sets | None = None, *, halved: bool = False) -> Spaced:
        """Return the space, and what was left out of the feedback because it is in another set too.

        Without `data.feedback_id` the fit images are the known feedback images as well (Feedback.parts); or, `halved`,
        half of them are held out for feedback. What `warnings_of` the space says is told on standard error. Raises
        SetupError for an overlap that is an error, and a class without a fit image that could be read, unless the
        configuration allows that.
        """
        config, sets = self.config, sets or self.sets()
        classes, encoder = sets.classes, self.embedder.encoder
        fit, known = self._known(sets, halved=halved)
        empty = without_images(classes, fit.label_names, what=FIT_IMAGE) if fit else None
        if empty and not config.classes.allow_empty:
            raise SetupError(f"{empty}; {MEND_EMPTY}")
        feedback: Feedback | None = None
        dropped: tuple[Dropped, ...] = ()
        if known is not None:
            outliers, shared = [self.embed(images) for images in sets.outliers], known is fit
            apart = feedback_without_overlap(known, outliers, fit=None if shared else fit, overlap=config.data.overlap)
            labels, dropped = apart.known.labels(classes), apart.dropped
            by_name = {images.name: images for images in apart.outliers}
            feedback = (
                Feedback.cross_fitted(known, labels, by_name, seed=config.seed)
                if shared
                else Feedback(apart.known, labels, by_name)
            )
        space = Space(
            classes=classes,
            texts=embed_whole(self.embedder, fill_template(config.classes.template, classes), what="class names"),
            logit_scale=encoder.logit_scale,
            fit=fit,
            fit_labels=fit.labels(classes) if fit else None,
            bank=Bank.empty(encoder.dim) if bank is None else bank,
            feedback=feedback,
        )
        of_sets = small_sets(feedback.outliers.values()) if feedback is not None else ()
        for warning in (*warnings_of(space), *of_sets):
            click.echo(f"warning: {printable(warning)}", err=True)
        return Spaced(space, dropped)

    def _known(self, sets: Sets, *, halved: bool) -> tuple[FeatureSet | None, FeatureSet | None]:
        """The fit images and the known feedback images; the same set twice where one is to be both."""
        fit = self.embed(sets.fit) if sets.fit else None
        if sets.known is not None:
            return fit, self.embed(sets.known)
        if fit is None or sets.fit is None or not halved:
            return fit, fit
        halves = hold_out(sets.fit, seed=self.config.seed)
        for half in halves:
            self.store.ensure_dataset(half)
        return _those_of(fit, halves.fit), _those_of(fit, halves.held_out)


def _those_of(embedded: FeatureSet, part: ImageSet) -> FeatureSet:
    """The part of an embedded set, under its own split."""
    ids = {sample.id for sample in part.samples}
    rows = np.array([row for row, one in enumerate(embedded.ids) if one in ids], dtype=np.int64)
    paths = {sample.path for sample in part.samples}
    skipped = tuple(image for image in embedded.skipped if image.path in paths)
    return replace(embedded.take(rows), split=part.split, skipped=skipped)


class Spaced(NamedTuple):
    """A space, and what was left out of its feedback because it is in another set too."""

    space: Space
    dropped: tuple[Dropped, ...]


FIT_IMAGE = "fit image that could be read"


NEAR_CHANCE = 0.05
"""Of the way from chance to all of them right."""
FEWEST_TOLD = 20
FEWEST_IN_A_SET = 50
"""Images, below which a figure moves by more than 2 points with each of them."""


def warnings_of(space: Space, known: FeatureSet | None = None) -> tuple[str, ...]:
    """Return what a reader of figures must know of the classes and of the bank: a line for each.

    `known` are images that tell whether the encoder knows the classes, where there are none of fit and feedback.
    """
    found = []
    known = space.fit or (space.feedback.known if space.feedback else known)
    if known is not None and len(known) >= FEWEST_TOLD and len(space.classes) > 1:
        width = 2 * len(space.classes) + space.dim
        nearest = in_blocks(known.features, width, lambda x: (x @ space.texts.T).argmax(axis=1))
        right = float(np.mean(nearest == known.labels(space.classes)))
        chance = 1 / len(space.classes)
        if right - chance < NEAR_CHANCE * (1 - chance):
            found.append(
                f"the encoder hardly knows the classes: by their texts it names {100 * right:.1f} % of {len(known):,} "
                f"known images rightly, and chance alone {100 * chance:.1f} %; look at the class names, the template "
                "and the encoder"
            )
    if space.fit is not None and (empty := without_images(space.classes, space.fit.label_names, what=FIT_IMAGE)):
        found.append(f"{empty}, and count all the same")
    found += [
        f"the feedback set '{name}' looks like known images: {100 * share:.0f} % of it lie at least as near to the "
        "known classes as the median fit image does, left out (of known images 50 %, of outliers far fewer); what is "
        "learned from it rejects known images: look at its images, or take it out of the configuration"
        for name, share in like_known(space).items()
    ]
    strays = [one for one in space.bank.antibodies if one.guards and composed(one.guards) not in space.classes]
    if strays:
        first = strays[0]
        found.append(
            f"{len(strays)} of the bank's {len(space.bank)} antibodies guard no known class, and are taken for ones of "
            f"none in particular (first: '{first.text}' guards '{first.guards}'"
            f"{did_you_mean(first.guards, space.classes)})"
        )
    return tuple(found)


def small_sets(sets: Iterable[FeatureSet]) -> tuple[str, ...]:
    """Return a warning for each set of the test or the feedback that has too few images for its figures."""
    return tuple(
        f"the set '{set_title(one.name, one.split)}' has {count(len(one), 'image')}: each of them moves its figures by "
        f"{100 / len(one):.1f} points"
        for one in sets
        if one.split != "fit" and len(one) < FEWEST_IN_A_SET
    )


def kindred_sets(outliers: Sequence[FeatureSet], space: Space) -> tuple[str, ...]:
    """Return a warning for each set of the opened test that seems to be of one source with a set of the feedback."""
    shown = tuple(space.feedback.outliers.values()) if space.feedback is not None else ()
    said = []
    for images, other, found in kin(outliers, shown):
        there = f"of {count(found.compared, 'image')} compared {found.there:,} have their nearest there"
        said.append(
            f"the set '{images.name}' seems to be of one source with the feedback set '{other.name}': {there} "
            f"({found.by_chance:,.0f} would by chance), {found.duplicates:,} a near-duplicate; its figures say how "
            "outliers like the feedback fare, not others"
        )
    return tuple(said)


class Sets:
    """The image sets of a configuration, for one run: each is listed once, and not before it is asked for."""

    def __init__(self, config: RunConfig, progress: ProgressReport | None = None) -> None:
        self._config = config
        self.progress = progress
        self._listing = Listing()

    def problems(self) -> list[str]:
        """Return what is wrong with the data, a line for each; see `evaluation.data.checks`."""
        return check_sources(self._config, self._listing)

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """The known classes."""
        config = self._config
        return read_classes(config.classes, config.data, seed=config.seed, listing=self._listing)

    @cached_property
    def synonyms(self) -> dict[str, tuple[str, ...]]:
        """Other names of the classes."""
        return read_synonyms(self._config.classes.synonyms, self.classes)

    @cached_property
    def fit(self) -> ImageSet | None:
        """The set of `data.fit`."""
        source = self._config.data.fit
        return None if source is None else self._read(source, "id", "id", "fit")

    @cached_property
    def known(self) -> ImageSet | None:
        """The known feedback images of `data.feedback_id`; without it, fit images serve."""
        source = self._config.data.feedback_id
        return None if source is None else self._read(source, "id", "id", "feedback")

    @cached_property
    def outliers(self) -> tuple[ImageSet, ...]:
        """The feedback sets of outliers."""
        return tuple(self._read(one, one.name or "", "outlier", "feedback") for one in self._config.data.feedback)

    @property
    def open(self) -> tuple[ImageSet, ...]:
        """The sets of fit and feedback, as they are embedded."""
        return tuple(images for images in (self.fit, self.known, *self.outliers) if images is not None)

    @cached_property
    def sealed(self) -> SealedTest:
        """The sealed test, which records when it is opened; its digest opens nothing."""
        config = self._config
        return SealedTest(config.data, seed=config.seed, classes=self.classes, listing=self._listing)

    def open_digest(self) -> str:
        """Return what tells whether the images of fit and feedback are still the same, by content. Embeds nothing."""
        return state_of(self.open, self.progress)

    def sealed_digest(self) -> str:
        """Return the same of the sealed test, which this does not open."""
        return self.sealed.digest(self.progress)

    def _read(self, source: SourceConfig, name: str, role: Role, split: OpenSplit) -> ImageSet:
        classes = self.classes if role == "id" else ()
        seed, listing = self._config.seed, self._listing
        return read_images(source, name=name, role=role, split=split, seed=seed, classes=classes, listing=listing)


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


def sets_of(config: RunConfig, progress: ProgressReport | None = None) -> Sets:
    """Return the image sets of a configuration; what its mini-world lacks is drawn."""
    if _uses_miniworld(config.data):
        _draw_miniworld(config.seed, progress or SilentProgress())
    return Sets(config, progress)


def _uses_miniworld(data: DataConfig) -> bool:
    """Whether any source is the builtin world."""
    sources = (data.fit, data.id, data.feedback_id, *data.ood, *data.feedback)
    return any(source is not None and source.builtin is not None for source in sources)


def is_drawn(config: RunConfig) -> bool:
    """Whether nothing would have to be drawn for the sets of a configuration."""
    return not _uses_miniworld(config.data) or (default_root(config.seed) / MANIFEST_FILE).exists()


def _draw_miniworld(seed: int, progress: ProgressReport) -> None:
    """Draw what is missing of the mini-world of a seed, showing how far it has come."""
    drawn: int | None = None

    def shown(done: int, total: int) -> None:
        nonlocal drawn
        if drawn is None:
            if done == total:
                return
            progress.start(total, "drawing the mini-world")
        progress.advance(done - (drawn or 0))
        drawn = done

    root = default_root(seed)
    try:
        build(root, seed=seed, progress=shown)
    except OSError as error:
        raise SetupError(
            f"the mini-world cannot be drawn into {root}: {error.strerror}; make room there, or name another folder "
            "with IMMUNO_CACHE (what was drawn is kept)"
        ) from None
    finally:
        if drawn is not None:
            progress.stop()


def with_overrides(
    config: RunConfig,
    *,
    seed: int | None = None,
    generations: int | None = None,
    session: str | None = None,
    llm: str | None = None,
    base_url: str | None = None,
    price: tuple[float, float] | None = None,
    data: Path | None = None,
) -> RunConfig:
    """Return the configuration with what the command line overrides. Another `llm` has another `base_url` and price.

    `data` is another configuration, which says where classes and images are.
    """
    changes: dict[str, Any] = {}
    if seed is not None and not 0 <= seed <= MOST_SEED:
        raise SetupError(f"seed = {shown(seed)}: give a whole number from 0 to {MOST_SEED}")
    if llm == "":
        raise SetupError("the name of the chat model is empty; write lexicon, openai:NAME, ...")
    if data is not None:
        moved = read_config(data)
        classes = moved.classes.model_copy(update={"template": config.classes.template})
        changes |= {"data": moved.data, "classes": classes, "encoder": moved.encoder}
    if seed is not None:
        changes["seed"] = seed
    loop: dict[str, Any] = {} if generations is None else {"generations": generations}
    if llm is not None or base_url is not None:
        loop |= {"llm": llm or config.refine.llm, "base_url": base_url, "price": None}
        if config.llm_server is not None:
            changes["llm_server"] = None if base_url is not None else config.llm_server
    if price is not None:
        loop["price"] = PriceConfig(input=price[0], output=price[1])
    if loop:
        changes["refine"] = config.refine.model_copy(update=loop)
    if session is not None:
        changes["antibodies"] = config.antibodies.model_copy(update={"session": session, "file": None})
    return config.model_copy(update=changes)


def stored_config(*sessions: str, database: str | None) -> RunConfig:
    """Return the configuration that the first of these sessions was started with; that of an imported bank is none.

    Raises SetupError for an unknown session, no database, and where all are imported.
    """
    with open_store(database, default=default_database(), read_only=True) as store:
        records = [store.session(name) for name in sessions]
    record = next((one for one in records if not is_imported(one)), None)
    if record is None:
        raise SetupError(
            f"session '{sessions[0]}' is an imported bank, which has no configuration; compare it with a session of "
            "the loop (immuno refine compare), or measure it: immuno bench CONFIG --session NAME"
        )
    return parse_config(record.config, origin=f"session '{record.name}'", folder=Path())
