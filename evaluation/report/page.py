"""Renders a results folder as `report.html`: one file, no request, the same bytes for the same folder."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from datetime import datetime
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from evaluation.benchmark.order import ABOUT_FEEDBACK, FEEDBACK_MARK, Headline
from evaluation.benchmark.results import Generation, ListedAntibody, Results
from evaluation.benchmark.streams import ABOUT
from evaluation.metrics import METRICS
from evaluation.report import figures
from evaluation.report.classes import class_strips
from evaluation.report.curves import KNOWN_SET, read_scores
from evaluation.report.gallery import build_gallery, thumbnail
from evaluation.report.panels import generation_panels, score_panels
from evaluation.report.story import bank_given, compared_in_words, headline_title, subject
from evaluation.report.tables import build_table, method_table, spans
from evaluation.report.verdict import ARM_TITLES, verdict_view
from immuno_core.errors import SetupError
from immuno_core.files import write_atomically
from immuno_core.records import FailedImage, by_reason

REPORT_FILE = "report.html"
MOST_ANTIBODIES = 400
MOST_SKIPPED = 200
MOST_DEATHS = 100
MOST_LEAKS = 200
MOST_NAMED = 12
"""Antibodies that are shown before the whole bank folds."""
MOST_PANELS = 6
"""Outlier sets whose curves are shown before the rest folds."""
_TEMPLATES = Path(__file__).parent / "templates"
_LONGEST_VALUE = 160
_MINUS = "\N{MINUS SIGN}"
_NOTHING = "\N{EN DASH}"


def render_report(folder: Path) -> Path:
    """Render `folder/results.json` (and `folder/scores.npz`) as `folder/report.html`, and return its path.

    The file appears whole or not at all. Missing pictures or scores leave a note on the page. Raises SetupError where
    results.json is missing, is not JSON or has another shape, and where the page cannot be written.
    """
    html = _render(Results.read(folder), folder)
    target = folder / REPORT_FILE
    try:
        # File names may hold bytes that are no text; what UTF-8 cannot carry becomes a question mark.
        write_atomically(target, html.encode("utf-8", "replace").decode("utf-8"))
    except OSError as error:
        raise SetupError(f"cannot write {target}: {error.strerror}; make the folder writable") from None
    return target


def _render(results: Results, folder: Path) -> str:
    measured = results.measured
    headline = measured.headline(results.before, results.after)
    scores = read_scores(folder)
    generations = results.session.generations if results.session else ()
    ranked = _by_gain(results.antibodies)
    bank, effects = ranked[:MOST_ANTIBODIES], [one for one in ranked if one.gain is not None]
    known = (scores.arrays.get(f"{method}|{KNOWN_SET}") for method in (results.before, results.after))
    script = (_TEMPLATES / "script.js").read_text(encoding="utf-8")
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            results=results,
            title=headline_title(headline),
            subject=subject(results),
            compared=compared_in_words(headline),
            bank_given=bank_given(results, measured),
            measured=measured,
            headline=headline,
            table=build_table(measured, results.published),
            methods=method_table(measured),
            metrics=METRICS,
            feedback_mark=FEEDBACK_MARK,
            about_feedback=ABOUT_FEEDBACK,
            about_streams=ABOUT,
            seeds=results.seeds_summary,
            verdict=verdict_view(results.verdict),
            arm_titles=ARM_TITLES,
            without_leaks=_without_leaks(results, headline),
            leaks=[row for row in results.rows if row.extra.get("without_leaks")],
            most_leaks=MOST_LEAKS,
            chosen={row.method: row.extra["chosen"] for row in results.rows if row.extra.get("chosen")},
            scores_problem=scores.problem,
            class_strips=class_strips(results.outlier_classes, before=results.before, after=results.after),
            panels=score_panels(measured, headline, scores),
            most_panels=MOST_PANELS,
            generation_panels=generation_panels(generations),
            effects_panel=figures.effects_panel(effects, "effects") if effects else None,
            plane_panel=figures.plane_panel(results.plane, "plane") if results.plane else None,
            generations=generations,
            first_with=_first_with(generations),
            gallery=build_gallery(results.gallery, folder, (next(known), next(known))),
            bank=bank,
            most_named=MOST_NAMED,
            seen={one.id: [thumbnail(folder / image) for image in one.images] for one in bank if one.images},
            parameters={row.method: row.params for row in results.rows if row.params},
            most_skipped=MOST_SKIPPED,
            most_deaths=MOST_DEATHS,
            skipped=_by_set(results.skipped[:MOST_SKIPPED]),
            reasons=by_reason(results.skipped),
            script=script,
            script_digest=base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii"),
        )
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        percent=percent,
        points=points,
        change=change,
        score=score,
        plain=plain,
        moment=moment,
        count=count,
        brief=brief,
        breakable=breakable,
        value=value,
        spans=spans,
        titled=lambda method, measured: measured.title(method),
    )
    return environment


def _first_with(generations: Sequence[Generation]) -> dict[str, int]:
    """The number of the first generation that had a guideline, by guideline."""
    return {one.guideline: one.number for one in reversed(generations)}


def _without_leaks(results: Results, headline: Headline) -> float | None:
    """The headline's mean FPR95 without the antibodies that name an outlier class; None where that was not measured."""
    rows = [row for row in results.rows if row.method == headline.after and row.ood in headline.main.sets]
    shares = [row.extra.get("without_leaks", {}).get("fpr95_id") for row in rows]
    found = [share for share in shares if share is not None]
    return fmean(found) if found and len(found) == len(shares) else None


def _by_gain(antibodies: Sequence[ListedAntibody]) -> list[ListedAntibody]:
    """The antibodies that gain most first; unmeasured ones last."""
    return sorted(antibodies, key=lambda a: (a.gain is None, -(a.gain or 0.0), a.described))


def _by_set(skipped: Sequence[FailedImage]) -> dict[str, list[FailedImage]]:
    groups: dict[str, list[FailedImage]] = {}
    for image in skipped:
        groups.setdefault(image.set_name, []).append(image)
    return groups


def percent(share: float | None, digits: int = 1) -> str:
    """A share as a percentage without its sign: 0.251 -> "25.1"; a dash for None."""
    return _NOTHING if share is None else f"{100 * share:.{digits}f}".replace("-", _MINUS)


def points(change: float) -> str:
    """A change of a share in percentage points, signed: -0.002 -> "−0.2"."""
    shown = f"{100 * change:+.1f}"
    return "±0.0" if float(shown) == 0 else shown.replace("-", _MINUS)


def change(difference: float) -> str:
    """The same in words: "−0.2 points", or "unchanged"."""
    shown = points(difference)
    return "unchanged" if shown == "±0.0" else f"{shown} points"


def breakable(text: str) -> Markup:
    """A name that may break after what joins its words, as in contextual_unseen: nowhere else, unless it is long."""
    return Markup(re.sub(r"([_/]+)(?=\w)", r"\1<wbr>", str(escape(text))))  # noqa: S704 - escaped before


def value(number: float | None) -> str:
    """A number to sort by, "" where there is none."""
    return "" if number is None else f"{number:.6g}"


def score(value: float | None) -> str:
    """A score or threshold with four digits."""
    if value is None:
        return _NOTHING
    return (f"{value:.4f}" if abs(value) < 10 else f"{value:.5g}").replace("-", _MINUS)


def count(number: float | None) -> str:
    """A count with thousands set apart: 1700 -> "1,700"; a dash for None."""
    return _NOTHING if number is None else f"{number:,.0f}"


def plain(value: Any) -> str:
    """Any JSON value as one line of text."""
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return f"{value:.6g}"
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def brief(value: Any) -> str:
    """Any JSON value as one short line of text: what a method chose may be a list with one number per class."""
    text = plain(value)
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 1] + "…"


def moment(text: str) -> str:
    """An ISO time as a person writes it; anything else as it is."""
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        return text
    zone = f" {when.tzname()}" if when.tzname() else ""
    return f"{when.day} {when:%B %Y, %H:%M}{zone}"
