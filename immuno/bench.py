"""The benchmark: open the sealed test, measure every method on it, and write the results folder.

results.json  the contract of the tool, and what the report needs beyond it
scores.npz    every method's score of every sealed image
report.html   drawn from the two files above alone
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean
from typing import Any

from agents.memory import as_bank
from db.records import EffectRecord, GenerationRecord, RunRecord, SessionRecord
from evaluation.bank import Bank, read_bank_file
from evaluation.benchmark import BenchmarkResult, run_methods
from evaluation.classes import fill_template
from evaluation.features import FeatureSet
from evaluation.gallery import GalleryItem, gallery
from evaluation.report import render_report
from evaluation.results import read_results, write_results, write_scores
from evaluation.scores import make_score
from evaluation.sealed import SealedTest
from evaluation.space import Space
from immuno.errors import SetupError
from immuno.provenance import config_as_dict, digest_of, git_sha, versions
from immuno.records import ResultRow, SkippedImage
from immuno.workflow import Workplace

ResultRows = tuple[ResultRow, ...]


@dataclass(frozen=True, slots=True)
class BenchOutcome:
    """What a benchmark wrote: the rows, the whole of results.json, and where the report is."""

    rows: ResultRows
    results: dict[str, Any]
    report: Path
    fresh: bool
    """False where the same measurement was found in the folder and nothing had to be opened."""


@dataclass(frozen=True, slots=True)
class _BankInUse:
    bank: Bank
    session: SessionRecord | None
    generation: GenerationRecord | None


def bench(place: Workplace, *, out: Path) -> BenchOutcome:
    """Measure the configuration's methods on its sealed test sets and write `out`.

    A run is known by its digest over configuration, bank, data and code; when `out` holds that run already, it is shown
    again and the sealed test stays closed.
    """
    config = place.config
    _writable(out)
    used = _bank(place)
    sealed = SealedTest(config.data, seed=config.seed)
    settings = config_as_dict(config)
    digest = digest_of(
        [settings, place.embedder.encoder.digest, used.bank.texts, used.bank.ids, sealed.digest(), versions()]
    )
    if (known := _measured_before(out, digest)) is not None:
        return known
    run = place.store.start_run(
        config=settings,
        config_digest=digest,
        seed=config.seed,
        git_sha=git_sha(),
        versions=versions(),
        session_id=used.session.id if used.session else None,
    )
    try:
        outcome = _measure(place, out, run, used, sealed)
    except BaseException:
        place.store.finish_run(run.id, "failed")
        raise
    place.store.finish_run(run.id)
    return outcome


def _measure(place: Workplace, out: Path, run: RunRecord, used: _BankInUse, sealed: SealedTest) -> BenchOutcome:
    config, embedder = place.config, place.embedder
    classes = place.classes()
    images = place.fit_and_known()
    fit = place.embed(images[0]) if images else None
    space = Space(
        classes=classes,
        texts=embedder.embed_texts(fill_template(config.classes.template, classes)),
        logit_scale=embedder.encoder.logit_scale,
        fit=fit,
        fit_labels=fit.labels(classes) if fit else None,
        bank=used.bank,
    )
    opened = sealed.open("benchmark", on_open=lambda sets, why: _record(place, run, sets, why))
    known = place.embed(opened.id)
    outliers = [place.embed(images) for images in opened.ood]
    measured = run_methods(space, config.methods, known, outliers, seed=config.seed)
    place.store.save_results(run.id, measured.rows)
    skipped = [one for images in (fit, known, *outliers) if images is not None for one in images.skipped]
    results = _results(place, run, used, measured, space, outliers, skipped)
    write_scores(out / "scores.npz", measured.scores)
    # Last, since it says that the folder is complete.
    write_results(out / "results.json", results)
    return BenchOutcome(measured.rows, results, render_report(out), fresh=True)


def _record(place: Workplace, run: RunRecord, sets: tuple[str, ...], why: str) -> None:
    place.store.record_test_read(run.id, sets, why)


def _results(
    place: Workplace,
    run: RunRecord,
    used: _BankInUse,
    measured: BenchmarkResult,
    space: Space,
    outliers: Sequence[FeatureSet],
    skipped: Sequence[SkippedImage],
) -> dict[str, Any]:
    before, after = compared(measured.rows)
    return {
        "run_id": run.id,
        "title": used.session.name if used.session else "benchmark",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "seed": run.seed,
        "config_digest": run.config_digest,
        "config": run.config,
        "encoder": {**asdict(place.embedder.encoder), "digest": place.embedder.encoder.digest},
        "versions": run.versions,
        "git_sha": run.git_sha,
        "rows": [asdict(row) for row in measured.rows],
        "verdict": {},
        "before": before,
        "after": after,
        "skipped": [asdict(one) for one in skipped],
        "test_reads": [
            {"when": read.at.isoformat(), "run_id": read.run_id, "sets": read.sets, "reason": read.reason}
            for read in place.store.test_reads()
        ],
        "session": _session(place, used),
        "antibodies": _antibodies(place, used),
        "gallery": [asdict(item) for item in _gallery(place, measured, space, outliers, before, after)],
    }


def compared(rows: ResultRows) -> tuple[str, str]:
    """Return the labels of the two methods that the pictures compare.

    Before: the method without antibodies with the lowest mean FPR95. After: the first method listed that uses the bank,
    else the same one.
    """
    by_method: dict[str, list[ResultRow]] = {}
    for row in rows:
        by_method.setdefault(row.method, []).append(row)
    without = [method for method, lines in by_method.items() if lines[0].antibodies == 0]
    using = [method for method, lines in by_method.items() if lines[0].antibodies > 0]
    candidates = without or using
    before = min(candidates, key=lambda method: sum(row.fpr95_id for row in by_method[method]))
    return before, (using or [before])[0]


def headline(rows: ResultRows) -> list[str]:
    """Return the few lines that a run comes down to: the bank against the best method without antibodies."""
    before, after = compared(rows)
    if before == after:
        return []
    by_method = {name: {row.ood: row for row in rows if row.method == name} for name in (before, after)}
    known_sets = [name for name in by_method[after] if not name.endswith("_unseen")]
    lines = []
    for title, sets in (
        ("near + contextual", [name for name in known_sets if name in ("near", "contextual")] or known_sets),
        ("unseen", [name for name in by_method[after] if name.endswith("_unseen")]),
    ):
        if sets:
            old, new = (100 * fmean(by_method[method][name].fpr95_id for name in sets) for method in (before, after))
            lines.append(f"FPR95, {title}: {old:.1f} % ({before}) -> {new:.1f} % ({after}), {_ratio(new, old)}")
    old_accuracy, new_accuracy = (100 * next(iter(by_method[m].values())).id_accuracy for m in (before, after))
    lines.append(f"ID accuracy: {old_accuracy:.1f} % -> {new_accuracy:.1f} %")
    return lines


def _ratio(new: float, old: float) -> str:
    return f"ratio {new / old:.2f}" if old else "nothing was accepted before"


def _gallery(
    place: Workplace,
    measured: BenchmarkResult,
    space: Space,
    outliers: Sequence[FeatureSet],
    before: str,
    after: str,
) -> tuple[GalleryItem, ...]:
    method = next(one for one in place.config.methods if (one.label or one.name) == after)
    fitted = make_score(method.name, **method.params).fit(space)
    return gallery(outliers, space.classes, measured.scores[before], measured.scores[after], fitted)


def _session(place: Workplace, used: _BankInUse) -> dict[str, Any] | None:
    if used.session is None:
        return None
    generations = place.store.generations(used.session.id)
    return {
        "name": used.session.name,
        "llm": used.session.config.get("refine", {}).get("llm", ""),
        "seed": used.session.seed,
        "generations": [
            {
                "number": one.number,
                "accepted": one.accepted,
                "reason": one.reason,
                "fpr95": one.metrics["fpr95"],
                "mean_fpr95": one.metrics["mean_fpr95"],
                "id_accuracy": one.metrics["id_accuracy"],
                "proposed": one.proposed,
                "kept": one.kept,
                "bank": one.bank,
                # The one it was written by: reflection writes the next generation's.
                "guideline": before.guideline,
            }
            for before, one in zip((generations[0], *generations), generations, strict=False)
        ],
    }


def _antibodies(place: Workplace, used: _BankInUse) -> list[dict[str, Any]]:
    """The bank with each antibody's solo effect on the feedback split, over all its outlier sets."""
    if used.session is None or used.generation is None:
        return [
            {"id": key, "text": text, "kind": kind, "guards": guards}
            for key, text, kind, guards in zip(
                used.bank.ids, used.bank.texts, used.bank.kinds, used.bank.guards, strict=True
            )
        ]
    effects: dict[str, list[EffectRecord]] = {}
    for effect in place.store.effects(used.session.id, generation=used.generation.number, scope="solo"):
        if effect.antibody_id is not None:
            effects.setdefault(effect.antibody_id, []).append(effect)
    rows = []
    for one in place.store.bank(used.generation.id).antibodies:
        found = effects.get(one.id, [])
        rows.append(
            {
                "id": one.id,
                "text": one.text,
                "kind": one.kind,
                "guards": one.guards,
                "generation": one.generation,
                "gain": max((effect.gain for effect in found), default=None),
                "harm": max((effect.harm for effect in found), default=None),
                "fired_outliers": sum(effect.fired_outliers for effect in found),
                "fired_id": max((effect.fired_id for effect in found), default=0),
            }
        )
    return rows


def _bank(place: Workplace) -> _BankInUse:
    """The bank that the configuration names; empty where it names none."""
    wanted, dim = place.config.antibodies, place.embedder.encoder.dim
    if wanted.file is not None:
        proposals = read_bank_file(wanted.file)
        texts = fill_template(wanted.template, [one.text for one in proposals])
        return _BankInUse(Bank.of(proposals, place.embedder.embed_texts(texts)), None, None)
    if wanted.session is None:
        return _BankInUse(Bank.empty(dim), None, None)
    session = place.store.session(wanted.session)
    if session.encoder.digest != place.embedder.encoder.digest:
        raise SetupError(
            f"session '{session.name}' embedded its antibodies with {session.encoder.model}, "
            f"not with the configuration's {place.embedder.encoder.model}; use the encoder it was made with"
        )
    generation = _generation(place, session)
    stored = place.store.bank(generation.id)
    return _BankInUse(as_bank(stored) if len(stored) else Bank.empty(dim), session, generation)


def _generation(place: Workplace, session: SessionRecord) -> GenerationRecord:
    number = place.config.antibodies.generation
    generations = place.store.generations(session.id)
    if number is None:
        best = place.store.best_generation(session.id)
        if best is None:
            raise SetupError(
                f"session '{session.name}' has no generation yet; run: immuno refine resume {session.name}"
            )
        return best
    found = next((one for one in generations if one.number == number), None)
    if found is None:
        raise SetupError(f"session '{session.name}' has no generation {number}; it has 0 to {len(generations) - 1}")
    return found


def _writable(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SetupError(
            f"cannot make the results folder {out} ({error.strerror}); choose another with --out"
        ) from None
    if not os.access(out, os.W_OK):
        raise SetupError(f"the results folder {out} is not writable; choose another with --out")


def _measured_before(out: Path, digest: str) -> BenchOutcome | None:
    try:
        results = read_results(out / "results.json")
    except SetupError:
        return None
    if results.get("config_digest") != digest or not (out / "scores.npz").exists():
        return None
    rows = tuple(ResultRow(**row) for row in results["rows"])
    return BenchOutcome(rows, results, render_report(out), fresh=False)
