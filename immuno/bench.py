"""The benchmark: open the sealed test, measure every method on it, and write the results folder.

results.json  the contract of the tool, and what the report needs beyond it
results.csv   its rows, for a spreadsheet
scores.npz    every method's score of every sealed image
report.html   drawn from results.json and scores.npz alone

The benchmark over several seeds: each into a folder of its own, then mean and standard deviation of everything.

OUT/seed-0/...      what a benchmark of seed 0 writes; its report shows the summary too
OUT/summary.json    evaluation.benchmark.seeds.Summary
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from pydantic import BaseModel

from cluster.embedder import StoredEmbedder
from db import EffectRecord, GenerationRecord, RunRecord, SessionRecord, chosen_generation
from db.exchange.banks import is_imported
from evaluation.antibodies.bank_files import read_bank_file, told_left_out, without_known
from evaluation.antibodies.mining import WordList
from evaluation.antibodies.vocabulary import load_vocabulary, wordnet
from evaluation.benchmark.arms import Arms
from evaluation.benchmark.gallery import gallery
from evaluation.benchmark.leakage import Leak, leaks, without
from evaluation.benchmark.methods import (
    BenchmarkResult,
    FittedMethods,
    check_methods,
    fit_methods,
    measure_methods,
    rehearsal,
    run_methods,
)
from evaluation.benchmark.order import Measured, by_remark, unseen_sets
from evaluation.benchmark.pixels import Costs, costs
from evaluation.benchmark.presets import Planned, expand, main_by_arm
from evaluation.benchmark.published import published
from evaluation.benchmark.results import Embedding, Generation, ListedAntibody, OutlierClass, SealedRead, Session
from evaluation.benchmark.seeds import Distance, Summary, summarise
from evaluation.benchmark.settle import Verdict, settle
from evaluation.benchmark.streams import ORDERS, Streamed, asks_for_streams, measure_streams
from evaluation.data.labels import is_number
from evaluation.data.overlap import Disjoint, without_overlap
from evaluation.data.sealed import SealedTest
from evaluation.effects.antibody_effects import antibody_effects
from evaluation.effects.plane import plane
from evaluation.metrics import fpr95_by_class
from evaluation.scores import score_class
from evaluation.scores.base import FittedScore
from evaluation.scores.calibrated import FittedCalibrated
from evaluation.scores.own import is_own, source_digest
from evaluation.space import Bank, Feedback, Space
from immuno.keeping import keep, kept, room_in, told_where
from immuno.results import Results
from immuno.terminal.progress import bar
from immuno.workplace import (
    Sets,
    Workplace,
    kindred_sets,
    recorded_run,
    small_sets,
    warnings_of,
    with_overrides,
)
from immuno_core.config.run import RunConfig
from immuno_core.errors import SetupError
from immuno_core.features import FeatureSet, Floats, embed_whole
from immuno_core.files import read_text
from immuno_core.records import ID_SET, Antibody, Effect, ResultRow, by_reason
from immuno_core.text import fill_template, printable
from immuno_core.versions import code_digest, digest_of, versions

SUMMARY_FILE = "summary.json"


@dataclass(frozen=True, slots=True)
class BankInUse:
    """The bank, and the session and generation it was taken from where it was."""

    bank: Bank
    session: SessionRecord | None
    generation: GenerationRecord | None
    left_out: str = ""
    """What is to be said of texts of a file that were left out."""


def word_list(config: RunConfig) -> WordList:
    """Return the words of the configuration's `antibodies.words`, else the vocabulary shipped here.

    Raises SetupError naming a file that is missing, unreadable or empty.
    """
    shipped, folder = load_vocabulary(), config.antibodies.words
    if folder is None:
        return WordList(shipped.nouns, shipped.attributes, shipped.places)
    if folder == "wordnet":
        return WordList(*wordnet(), shipped.places)
    if not folder.is_dir():
        return WordList(_lines(folder), (), shipped.places)
    adjectives, places = folder / "adjectives.txt", folder / "places.txt"
    return WordList(
        _lines(folder / "nouns.txt"),
        _lines(adjectives) if adjectives.exists() else (),
        _lines(places) if places.exists() else shipped.places,
    )


def _lines(path: Path) -> tuple[str, ...]:
    """The entries of a list with one word per line, underscores as blanks (WordNet's way), each once."""
    hint = (
        'antibodies.words is "wordnet", a text file with a noun per line, or a folder with nouns.txt and adjectives.txt'
    )
    lines = read_text(path, "word list", hint=hint).splitlines()
    said = (" ".join(line.replace("_", " ").split()) for line in lines if not line.startswith("#"))
    words = tuple(dict.fromkeys(word for word in said if word))
    if not words:
        raise SetupError(f"{path} holds no words; write one per line")
    return words


def sense_of(generations: Sequence[GenerationRecord], used: GenerationRecord | None) -> str:
    """What the bank in use does beyond random words, as it was measured when a generation up to it was kept."""
    kept = [one for one in generations if one.accepted and (used is None or one.number <= used.number)]
    found = kept[-1].metrics.get("sense") if kept else None
    return str(found["said"]) if found else ""


def session_history(place: Workplace, used: BankInUse) -> Session | None:
    """The session behind the bank, generation by generation, as the report shows it; None where there is none."""
    if used.session is None or is_imported(used.session):
        return None
    generations = place.store.generations(used.session.id)
    return Session(
        name=used.session.name,
        llm=used.session.config.get("refine", {}).get("llm", ""),
        seed=used.session.seed,
        sense=sense_of(generations, used.generation),
        generations=tuple(
            Generation(
                number=one.number,
                accepted=one.accepted,
                reason=one.reason,
                fpr95=one.metrics["fpr95"],
                mean_fpr95=one.metrics["mean_fpr95"],
                mean_auroc=one.mean_auroc,
                id_accuracy=one.metrics["id_accuracy"],
                proposed=one.proposed,
                kept=one.kept,
                bank=one.bank,
                # The one it was written by: reflection writes the next generation's.
                guideline=before.guideline,
            )
            for before, one in zip((generations[0], *generations), generations, strict=False)
        ),
    )


_MOST_PICTURES = 4


def listed_antibodies(
    place: Workplace, used: BankInUse, fitted: FittedScore | None = None, feedback: Feedback | None = None
) -> tuple[ListedAntibody, ...]:
    """The bank with each antibody's solo effect on the feedback split, over all its outlier sets.

    Where it has no visual antibodies, those follow that a score made of the feedback.
    """
    outliers = feedback.outliers if feedback else {}
    files = {f"{name}/{one.ids[i]}": path for name, one in outliers.items() for i, path in enumerate(one.paths)}

    def listed(antibody: Antibody, found: Sequence[Effect] = (), **more: Any) -> ListedAntibody:
        if found:
            more |= {
                "gain": max(effect.gain for effect in found),
                "harm": max(effect.harm for effect in found),
                "fired_outliers": sum(effect.fired_outliers for effect in found),
                "fired_id": max(effect.fired_id for effect in found),
            }
        images = tuple(files[one] for one in antibody.samples[:_MOST_PICTURES] if files.get(one))
        said = {name: getattr(antibody, name) for name in ("id", "text", "kind", "guards", "samples")}
        return ListedAntibody(**said, images=images, **more)

    made: list[ListedAntibody] = []
    if feedback and not len(used.bank.visual) and isinstance(fitted, FittedCalibrated) and fitted.sight is not None:
        by_id: dict[str, list[Effect]] = {}
        for one in antibody_effects(fitted, feedback.known, feedback.labels, outliers, visual_only=True):
            if one.effect.scope == "solo":
                by_id.setdefault(one.antibody_id, []).append(one.effect)
        made = [listed(antibody, by_id[antibody.id]) for antibody in fitted.bank.visual.antibodies]
    if used.session is None or used.generation is None:
        return (*map(listed, used.bank.antibodies), *made)
    effects: dict[str, list[EffectRecord]] = {}
    for effect in place.store.effects(used.session.id, generation=used.generation.number, scope="solo"):
        if effect.antibody_id is not None:
            effects.setdefault(effect.antibody_id, []).append(effect)
    made_in = {one.id: one.generation for one in place.store.antibodies(used.session.id)}
    nothing = {"fired_outliers": 0, "fired_id": 0}
    stored = (
        listed(one, effects.get(one.id, ()), generation=made_in[one.id], **({} if one.id in effects else nothing))
        for one in used.bank.antibodies
    )
    return (*stored, *made)


def bank_in_use(place: Workplace, sets: Sets | None = None) -> BankInUse:
    """The bank that the configuration names; empty where it names none."""
    wanted, dim = place.config.antibodies, place.embedder.encoder.dim
    if wanted.file is not None:
        proposals, told = read_bank_file(wanted.file), ""
        if wanted.drop_known:
            sets = sets or place.sets()
            kept, left_out = without_known(proposals, sets.classes, sets.synonyms)
            if not kept:
                raise SetupError(
                    f"every text of {wanted.file} names a known class; name another [antibodies] file, or keep them "
                    "with drop_known = false"
                )
            if left_out:
                told = told_left_out(left_out, len(proposals), wanted.file.name)
                click.echo(printable(f"{told}; [antibodies] drop_known = false keeps them"), err=True)
            proposals = kept
        texts = fill_template(wanted.template, [one.text for one in proposals])
        vectors = embed_whole(place.embedder, texts, what=f"antibodies of {wanted.file}")
        return BankInUse(Bank.of(proposals, vectors), None, None, told)
    if wanted.session is None:
        return BankInUse(Bank.empty(dim), None, None)
    session = place.session(wanted.session)
    if not place.has_encoder_of(session):
        raise SetupError(
            f"session '{session.name}' embedded its antibodies with {session.encoder.model}, "
            f"not with the configuration's {place.embedder.encoder.model}; use the encoder it was made with"
        )
    generation = chosen_generation(place.store, session, wanted.generation)
    return BankInUse(place.store.bank(generation.id), session, generation)


def identity(
    place: Workplace, sets: Sets, used: BankInUse, planned: Sequence[Planned], *, to_settle: bool
) -> dict[str, Any]:
    """Return everything that can change a figure of the run, and nothing else: `digest_of` takes it.

    What the configuration names by path counts by content, wherever it lies and whenever it was written. What it says
    of the loop, of the cluster and of a chat server decides nothing here, and an encoder counts by its own digest.
    """
    config, bank = place.config, used.bank
    return {
        "seed": config.seed,
        "data": _pathless(config.data),
        "open": sets.open_digest(),
        "sealed": sets.sealed_digest(),
        "classes": [config.classes.template, sets.classes, sets.synonyms],
        "encoder": place.embedder.encoder.digest,
        "store_dtype": config.cluster.store_dtype,
        "template": config.antibodies.template,
        "bank": [bank.ids, bank.texts, bank.kinds, bank.guards, bank.unmatured.ids],
        "vectors": hashlib.sha256(bank.vectors.tobytes()).hexdigest() if used.session else None,
        "taken from": [used.session and used.session.id, used.generation and used.generation.number],
        "words": asdict(word_list(config)),
        "streams": asks_for_streams(config.methods),
        "methods": [[_pathless(one.method), one.optional] for one in planned],
        "sources": [source_digest(score_class(one.method.name, one.method.folder)) for one in planned],
        "settle": to_settle,
        "published": [one.model_dump() for one in published(config)],
        "versions": versions(),
        "code": code_digest(),
    }


def _pathless(value: Any) -> Any:
    """A section of the configuration without paths, and without how many images a source is expected to have."""
    if isinstance(value, BaseModel):
        return {name: _pathless(one) for name, one in value if name != "expected" and not isinstance(one, Path)}
    return [_pathless(one) for one in value] if isinstance(value, tuple) else value


def bench(
    place: Workplace,
    *,
    out: Path,
    to_settle: bool = False,
    fresh: bool = False,
    tell: Callable[[str], None] = lambda _: None,
) -> Results:
    """Measure the configuration's methods on its sealed test sets and write `out`.

    With `to_settle` the controls are measured too, and the verdict on the bank is given (evaluation.benchmark.settle).
    A run is known by the digest of its `identity`; when `out` holds that run already, it is shown again, which `tell`
    is told, and the sealed test stays closed; `fresh` measures it anew. Raises SetupError with everything that is wrong
    with the data before anything is computed, and where `out` cannot be written: then what was measured is kept, and
    the next call finds it.
    """
    config = place.config
    planned = expand(config.methods, settle=to_settle)
    check_methods(planned)
    sets = place.sets()
    if problems := sets.problems():
        raise SetupError("\n".join(problems))
    with room_in(out, _LEAST_ROOM):
        used = bank_in_use(place, sets)
    if to_settle and not len(used.bank):
        raise SetupError(
            "there is no verdict on an empty bank; name one in [antibodies] (file or session), or with --session"
        )
    digest = digest_of(identity(place, sets, used, planned, to_settle=to_settle))
    results = None if fresh else kept(out, digest)
    if results is not None:
        _complete_record(place, results)
        tell(f"shown from {out}, as measured at {results.created}; nothing was measured (--fresh measures anew)")
    else:
        with recorded_run(place.store, config, digest, session_id=used.session.id if used.session else None) as run:
            results = _Bench(place, out, run, used, to_settle).measure(sets)
        if results.folder != out:
            raise SetupError(
                f"cannot write to {out}: what was measured is in {results.folder}; make room, or choose another folder "
                "with --out, and run the same command again: it is not measured again"
            )
    results.report()
    return results


def _complete_record(place: Workplace, results: Results) -> None:
    """Record the rows of a run that was stopped when only they were missing."""
    if any(run.id == results.run_id and run.status != "finished" for run in place.store.runs()):
        place.store.save_results(results.run_id, results.rows)
        place.store.finish_run(results.run_id)


_LEAST_ROOM = 8 * 2**20
"""Bytes of results and report, but for what grows with images and methods."""
_ROOM_OF_A_ROW = 2**14


@dataclass(frozen=True, slots=True)
class _Bench:
    """One run of the benchmark."""

    place: Workplace
    out: Path
    run: RunRecord
    used: BankInUse
    to_settle: bool

    def measure(self, sets: Sets) -> Results:
        config = self.place.config
        space, dropped = self.place.spaced(self.used.bank, sets)
        arms = Arms(
            base=space,
            embedder=self.place.embedder,
            class_template=config.classes.template,
            antibody_template=config.word_template,
            words=word_list(config),
            seed=config.seed,
        )
        planned = expand(config.methods, settle=self.to_settle)
        with bar(self.place.journal.progress, len(planned), "fitting methods") as shown:
            fitted = fit_methods(arms, planned, embedder=self.place.embedder, on_method=lambda _: shown.advance(1))
        for remark, labels in by_remark({one.label: one.fitted.remarks for one in fitted.methods}).items():
            click.echo(f"note: {'; '.join(labels)}: {remark}", err=True)
        if len(kinds := set(self.used.bank.kinds)) == 1:
            click.echo(f"note: every antibody of the bank is of the kind {kinds.pop()}; it lacks the other", err=True)
        prices = self._costs(fitted, space)
        files = sets.sealed.files()
        scores = 8 * len(planned) * sum(map(len, files.values()))
        # Whatever can be wrong, with the folder too, is found by now or in a rehearsal: no seal is broken in vain.
        self._rehearse(fitted, planned, arms, sets.sealed.set_names)
        with room_in(self.out, _LEAST_ROOM + scores + _ROOM_OF_A_ROW * len(planned) * len(files)):
            test = self._open(sets.sealed, space)
            test = test._replace(dropped=(*dropped, *test.dropped))
            with bar(self.place.journal.progress, len(fitted.methods), "measuring methods") as shown:
                measured = measure_methods(
                    fitted, test.known, test.outliers, seed=self.run.seed, on_method=lambda _: shown.advance(1)
                )
            results = self._results(measured, planned, space, test)
            streams, lacking = self._streams(arms, test)
            left_out = results.left_out | lacking
            results = results.model_copy(update={"costs": prices, "test_time": streams, "left_out": left_out})
        try:
            keep(results, measured.scores, self.out)
        finally:
            self.place.store.save_results(self.run.id, results.rows)
        return results

    def _costs(self, fitted: FittedMethods, space: Space) -> Costs | None:
        """What antibodies cost, where some are images made for the arm `pixels`."""
        used, embedder = self.used, self.place.embedder
        texts = used.bank.unmatured.texts
        if not texts or not isinstance(embedder, StoredEmbedder) or all(one.arm != "pixels" for one in fitted.methods):
            return None
        tokens = None
        if used.session is not None:
            generations = self.place.store.generations(used.session.id)
            tokens = sum(one.prompt_tokens + one.completion_tokens for one in generations) / len(texts)
        else:
            texts = tuple(fill_template(self.place.config.antibodies.template, texts))
        side = embedder.encoder.image_size
        return costs(space, texts, embedder.seconds_anew, side=side, seed=self.run.seed, tokens=tokens)

    def _streams(self, arms: Arms, test: Disjoint, orders: int = ORDERS) -> tuple[tuple[Streamed, ...], dict[str, str]]:
        """The test-time methods, where the configuration asks for them."""
        if not asks_for_streams(self.place.config.methods):
            return (), {}
        return measure_streams(arms, test.known, test.outliers, seed=self.run.seed, orders=orders)

    def _rehearse(self, fitted: FittedMethods, planned: Sequence[Planned], arms: Arms, names: Sequence[str]) -> None:
        """Measure and settle once on images that are no secret; raises what would else be raised after the opening."""
        space = arms.base
        images = rehearsal(space, names)
        self._streams(arms, images, orders=1)
        measured = measure_methods(fitted, images.known, images.outliers, seed=self.run.seed, replicates=2)
        for method in fitted.methods:
            if method.label in measured.left_out and not is_own(type(method.score)):
                raise SetupError(f"method '{method.label}': {measured.left_out[method.label]}")
        self._results(measured, planned, space, images).as_json()

    def _open(self, sealed: SealedTest, space: Space) -> Disjoint:
        """Open the seal, and leave out what is in other sets too, as the configuration says."""
        place = self.place

        def record(sets: tuple[str, ...], why: str) -> None:
            place.store.record_test_read(self.run.id, sets, why)

        opened = sealed.open("benchmark", on_open=record)
        feedback = (space.feedback.known, *space.feedback.outliers.values()) if space.feedback else ()
        twice = space.feedback is not None and space.feedback.parts is not None
        return without_overlap(
            place.embed(opened.id),
            [place.embed(images) for images in opened.ood],
            open_sets=[*([space.fit] if space.fit and not twice else []), *feedback],
            overlap=place.config.data.overlap,
        )

    def _marked(self, rows: Sequence[ResultRow], space: Space) -> tuple[ResultRow, ...]:
        """The rows; those with antibodies of a session say that outliers of the feedback chose these."""
        chose = self.used.session is not None
        outliers = sum(map(len, space.feedback.outliers.values())) if space.feedback else None
        return tuple(
            replace(
                row,
                extra={**row.extra, "uses_feedback": True},
                metrics={**row.metrics, "outliers_used": outliers},
            )
            if chose and row.arm in ("bank", "shuffled")
            else row
            for row in rows
        )

    def _with_leak_free_figures(
        self,
        rows: Sequence[ResultRow],
        leaked: Sequence[Leak],
        space: Space,
        planned: Sequence[Planned],
        test: Disjoint,
    ) -> tuple[ResultRow, ...]:
        """Add to each row of the configured bank what the method reaches without the antibodies that name outliers."""
        with_bank = {row.method for row in rows if row.arm == "bank"}
        if not leaked or not with_bank:
            return tuple(rows)
        bank = without(self.used.bank, leaked)
        try:
            again = run_methods(
                Arms(replace(space, bank=bank)),
                [one for one in planned if one.label in with_bank],
                test.known,
                test.outliers,
                seed=self.run.seed,
                embedder=self.place.embedder,
                replicates=1,
            )
        except SetupError:  # the only one is a user's, and fails now: what was measured is not lost for that
            return tuple(rows)
        figures = {(row.method, row.ood): row for row in again.rows}
        found = []
        for row in rows:
            one = figures.get((row.method, row.ood))
            if one is not None:
                clean = {"antibodies": len(bank), **{name: one.metrics[name] for name in ("fpr95_id", "auroc")}}
                row = replace(row, extra={**row.extra, "without_leaks": clean})
            found.append(row)
        return tuple(found)

    def _verdict(self, measured: BenchmarkResult) -> Verdict:
        """Compare the main method in its arms, if that was asked for."""
        if not self.to_settle:
            return Verdict()
        labels = main_by_arm(self.place.config.methods)
        found = {arm: label for arm, label in labels.items() if label in measured.measured}
        if missing := [
            f"{labels[arm]}: {measured.left_out[labels[arm]]}" for arm in ("bank", "none") if arm not in found
        ]:
            return Verdict(status="undecided", method=labels["bank"], reasons=tuple(missing))
        deployed = {
            arm: threshold for arm, label in found.items() if (threshold := measured.thresholds[label]) is not None
        }
        return settle(
            labels["bank"],
            {arm: measured.measured[label] for arm, label in found.items()},
            seed=self.run.seed,
            thresholds=deployed if {"bank", "none"} <= deployed.keys() else None,  # none without feedback images
            left_out={arm: measured.left_out[label] for arm, label in labels.items() if label in measured.left_out},
        )

    def _results(self, measured: BenchmarkResult, planned: Sequence[Planned], space: Space, test: Disjoint) -> Results:
        place, run = self.place, self.run
        leaked = leaks(self.used.bank, {images.name: images.label_names for images in test.outliers})
        rows = self._with_leak_free_figures(self._marked(measured.rows, space), leaked, space, planned, test)
        verdict = self._verdict(measured)
        before, after = Measured(rows).compared(verdict.method)
        scores = measured.scores
        feedback = (space.feedback.known, *space.feedback.outliers.values()) if space.feedback else ()
        sets = [one for one in (space.fit, *feedback, test.known, *test.outliers) if one is not None]
        skipped = tuple(image for images in sets for image in images.skipped)
        encoder = place.embedder.encoder
        history = session_history(place, self.used)
        fitted = measured.fitted[after]
        bank = fitted.bank if isinstance(fitted, FittedCalibrated) else self.used.bank
        return Results(
            run_id=run.id,
            title=self.used.session.name if self.used.session else "benchmark",
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            seed=run.seed,
            config_digest=run.config_digest,
            config=run.config,
            encoder={**asdict(encoder), "digest": encoder.digest},
            versions=run.versions,
            git_sha=run.git_sha,
            rows=rows,
            verdict=verdict,
            left_out=measured.left_out,
            unseen=_unseen(space, test.outliers, history),
            before=before,
            after=after,
            embedding=Embedding(**place.journal.summary().as_dict()),
            warnings=(
                *warnings_of(space, test.known),
                *small_sets(sets),
                *kindred_sets(test.outliers, space),
                *filter(None, [self.used.left_out]),
            ),
            distances=_distances(place.config),
            outlier_classes=outlier_classes(test.outliers, scores, dict.fromkeys((before, after))),
            skipped=skipped,
            skipped_by_reason=by_reason(skipped),
            overlap=test.dropped,
            leakage=leaked,
            leakage_checked=len(self.used.bank),
            published=published(place.config),
            test_reads=tuple(
                SealedRead(when=read.at.isoformat(), run_id=read.run_id, sets=read.sets, reason=read.reason)
                for read in place.store.test_reads()
            ),
            session=history,
            antibodies=listed_antibodies(place, self.used, fitted, space.feedback),
            gallery=gallery(test.outliers, space.classes, scores[before], scores[after], fitted),
            plane=plane(space.texts, bank, test.known, test.outliers),
        )


def _distances(config: RunConfig) -> dict[str, Distance]:
    """The outlier sets that are said to be near to the known classes, or far."""
    return {one.name: one.distance for one in config.data.ood if one.name and one.distance}


def outlier_classes(
    outliers: Sequence[FeatureSet], scores: Mapping[str, Mapping[str, Floats]], methods: Iterable[str]
) -> tuple[OutlierClass, ...]:
    """How methods fare on each class of outliers, by scores of method and set (see BenchmarkResult.scores)."""
    found: dict[tuple[str, str], OutlierClass] = {}
    for method in methods:
        of_method = scores[method]
        for images in outliers:
            by_class = fpr95_by_class(of_method[ID_SET], of_method[images.name], images.label_names)
            for name, (share, count) in by_class.items():
                one = found.setdefault(
                    (images.name, name), OutlierClass(set=images.name, name=name, images=count, fpr95={})
                )
                one.fpr95[method] = share
    return tuple(found.values())


def _unseen(space: Space, outliers: Sequence[FeatureSet], history: Session | None) -> tuple[str, ...]:
    """The test sets unlike the feedback of this run, and of the session that made the bank."""

    def classes(images: FeatureSet) -> set[str]:
        # A number names nothing that two sets could have in common.
        return {"" if is_number(label) else label for label in images.label_names}

    # Of a session's feedback the results know names; its classes only where it is this run's feedback too.
    feedback = {name: {""} for one in (history.generations if history else ()) for name in one.fpr95}
    if space.feedback:
        feedback |= {name: classes(images) for name, images in space.feedback.outliers.items()}
    return unseen_sets({images.name: classes(images) for images in outliers}, feedback)


def bench_seeds(
    config: RunConfig,
    seeds: Sequence[int],
    *,
    session: str | None,
    out: Path,
    to_settle: bool = False,
    fresh: bool = False,
    tell: Callable[[str], None] = lambda _: None,
    database: str | None = None,
    ray_address: str | None = None,
    progress: str | None = None,
) -> tuple[Summary, dict[int, Results]]:
    """Run the benchmark once per seed; return the summary and each seed's results. A seed measured before is not again.

    "{seed}" in a session's name is filled in, so that each seed can have a bank of its own.
    """
    session = session or config.antibodies.session
    runs: dict[int, Results] = {}
    for seed in seeds:
        name = session.replace("{seed}", str(seed)) if session else None
        with Workplace.open(
            with_overrides(config, seed=seed, session=name),
            database=database,
            ray_address=ray_address,
            progress=progress,
        ) as place:
            runs[seed] = bench(place, out=out / f"seed-{seed}", to_settle=to_settle, fresh=fresh, tell=tell)
    # What could not be measured with one of the seeds has no mean over them; each seed's results say why.
    left_out = {label for run in runs.values() for label in run.left_out}
    summary = summarise(
        [[row for row in run.rows if row.method not in left_out] for run in runs.values()],
        _distances(config),
    )
    with told_where(out):
        summary.save(out / SUMMARY_FILE)
        for seed, run in runs.items():
            runs[seed] = run.model_copy(update={"seeds_summary": summary})
            runs[seed].save(run.folder)
            runs[seed].report()
    return summary, runs
