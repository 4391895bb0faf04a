"""The report of a whole benchmark: the verdict, groups by arm, intervals, published figures, leakage, choices."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evaluation.benchmark.order import Measured
from evaluation.benchmark.results import Results
from evaluation.benchmark.seeds import Summary
from evaluation.benchmark.settle import Verdict
from evaluation.metrics import METRICS
from evaluation.report import render_report
from evaluation.report.classes import class_strips
from evaluation.report.tables import build_table, method_table
from evaluation.report.verdict import verdict_view
from immuno_core.errors import SetupError

from .report_bench import CLAIMANT, SETS, make_bench, make_seeds, make_verdict
from .report_folder import HOSTILE, make_hostile, make_results, write_folder
from .report_page import Page, read

LATER = ("fpr95_worst_class", "fired_known", "known_used", "outliers_used")
"""The metrics of versions later than the sample's."""
NEW_KEYS = ("verdict", "leakage", "leakage_checked", "published", "seeds_summary")


@pytest.fixture(scope="module")
def results() -> dict[str, Any]:
    return make_bench()


@pytest.fixture(scope="module")
def page(results: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Page:
    return read(render_report(write_folder(tmp_path_factory.mktemp("bench"), results, None)))


@pytest.fixture
def render(results: dict[str, Any], tmp_path: Path) -> Callable[..., Page]:
    """Render the benchmark with some keys changed (None removes one)."""

    def rendered(**changes: Any) -> Page:
        changed = {k: v for k, v in {**results, **changes}.items() if v is not None}
        return read(render_report(write_folder(tmp_path / "run", changed, None)))

    return rendered


def measured(results: dict[str, Any]) -> Measured:
    return Results.model_validate(results).measured


def row(results: dict[str, Any], method: str, ood: str) -> dict[str, Any]:
    return next(r for r in results["rows"] if (r["method"], r["ood"]) == (method, ood))


def classes(page: Page, tag: str) -> list[str]:
    return [str(attrs.get("class")) for attrs in page.all(tag)]


# The verdict


@pytest.mark.parametrize("status", ["supported", "refuted", "undecided"])
def test_the_verdict_is_a_word_with_its_reasons_and_numbers(render: Callable[..., Page], status: str) -> None:
    verdict = make_verdict(status)
    page = render(verdict=verdict)
    words = page.words("verdict")
    assert words.startswith(f"Verdict {status.capitalize()}")
    assert f"the claim is {status}" in page.text
    for reason in verdict["reasons"]:
        assert reason in words
    assert "no texts 57.1 [55.0, 59.3] −32.4 [−35.1, −29.8]" in words
    assert "95.8 → 95.7 −0.1 [−0.4, +0.2]not inferior" in words
    assert "right 92.0 → 91.7 −0.3 [−1.2, +0.7]not shown to be as good" in words
    assert "wrong classescompared with the bank, each antibody acting for its class only 40.2" in words
    assert "words mined as CSP does (the bank's size was not reached" in words
    assert "#verdict" in [attrs.get("href") for attrs in page.all("a")]


def test_without_a_verdict_there_is_no_panel(render: Callable[..., Page]) -> None:
    for nothing in ({}, None):
        page = render(verdict=nothing)
        assert "verdict" not in page.by_id
        assert "the claim is" not in page.text


def test_a_verdict_with_hardly_anything_in_it_is_still_shown(render: Callable[..., Page]) -> None:
    page = render(verdict={"status": "undecided", "bank_minus": {"none": {"value": None, "interval": [None, None]}}})
    assert "Undecided" in page.words("verdict")
    assert "no texts – –" in page.words("verdict")


def test_an_unknown_status_is_an_error_that_names_the_key(render: Callable[..., Page]) -> None:
    with pytest.raises(SetupError, match=r"key 'verdict.status'"):
        render(verdict={"status": "proved"})


def test_forest_plot_places_every_interval_on_one_scale_with_zero() -> None:
    verdict = make_verdict()
    verdict["bank_minus"] = {
        "shuffled": {"value": 0.02, "interval": [0.01, 0.03]},
        "none": {"value": -0.10, "interval": [-0.20, -0.05]},
        "noise": {"value": 0.0, "interval": [-0.01, 0.01]},
    }
    view = verdict_view(Verdict.model_validate(verdict))
    assert view is not None
    # No antibodies first, then the controls, whatever the order in the file; each told by its interval.
    assert [line.title.split(":")[0] for line in view.lines] == ["no texts", "noise", "shuffled"]
    assert [line.finding for line in view.lines] == ["fewer", "unclear", "more"]

    def place(strip: str, pattern: str) -> float:
        found = re.search(pattern, strip)
        assert found
        return float(found[1])

    low, zero, dot, high = (
        place(view.lines[0].strip, pattern)
        for pattern in (
            r'span" x1="([\d.]+)%',
            r'zero" x1="([\d.]+)%',
            r'cx="([\d.]+)%',
            r'span" x1="[\d.]+%" x2="([\d.]+)%',
        )
    )
    assert 0 < low < dot < high < zero < 100
    # -0.2 to 0 is two thirds further than -0.2 to -0.1: the scale is linear.
    assert (zero - low) / (dot - low) == pytest.approx(2, abs=0.01)
    assert all(place(line.strip, r'zero" x1="([\d.]+)%') == zero for line in view.lines)


def test_cost_in_accuracy_is_drawn_against_its_margin() -> None:
    verdict = make_verdict("refuted")
    verdict["id_accuracy"] |= {"difference": {"value": -0.03, "interval": [-0.04, -0.02]}, "non_inferior": False}
    view = verdict_view(Verdict.model_validate(verdict))
    assert view is not None
    assert 'class="margin"' in view.accuracies[0].strip
    assert 'class="strip more"' in view.accuracies[0].strip
    zero, margin = re.findall(r'class="(?:zero|margin)" x1="([\d.]+)%', view.accuracies[0].strip)
    assert float(margin) < float(zero)


# The table


def test_methods_are_grouped_by_arm_and_sorted_by_mean_fpr95(results: dict[str, Any]) -> None:
    numbers = measured(results)
    groups, lines = numbers.groups(), build_table(numbers).lines
    assert [group.title for group in groups] == ["With the bank", "Without antibodies", "With mined words", "Controls"]
    arms = {group.name: {numbers.arm(method) for method in group.methods} for group in groups}
    assert arms == {
        "bank": {"bank"},
        "none": {"", "none"},
        "mined": {"neglabel", "csp"},
        "controls": {"noise", "random_words", "shuffled"},
    }
    for group in groups:
        means = [numbers.over(method, "fpr95_id") or 0.0 for method in group.methods]
        assert means == sorted(means)
    assert len(lines) == 40


def test_methods_without_a_mean_stand_last(results: dict[str, Any]) -> None:
    rows = [r for r in results["rows"] if (r["method"], r["ood"]) != (CLAIMANT, "near")]
    assert measured({**results, "rows": rows}).groups()[0].methods[-1] == CLAIMANT


def test_intervals_stand_with_their_values_and_not_with_means(page: Page, results: dict[str, Any]) -> None:
    low, high = row(results, CLAIMANT, "near")["intervals"]["fpr95_id"]
    assert f"[{100 * low:.1f}, {100 * high:.1f}]" in page.words("results")
    entries = build_table(measured(results)).lines[CLAIMANT].entries
    # mean, near, contextual, far, mean of unseen, near_unseen, contextual_unseen, worst
    assert [entry.interval is not None for entry in entries] == [False, True, True, True, False, True, True, False]


def test_rows_of_several_seeds_have_no_interval(results: dict[str, Any]) -> None:
    again = [{**r, "seed": 1} for r in results["rows"]]
    numbers = measured({**results, "rows": [*results["rows"], *again]})
    assert not numbers.has_intervals


def test_by_method_shows_both_fpr95s_oscr_h_score_and_the_deployed_threshold(results: dict[str, Any]) -> None:
    table = method_table(measured(results))
    measures = [name for name in METRICS if name not in LATER]
    assert list(table.columns) == measures
    assert table.has_thresholds
    assert next(iter(table.lines)) == CLAIMANT
    both = [row(results, CLAIMANT, name) for name in ("near", "contextual")]
    means = {name: pytest.approx(sum(r[name] for r in both) / 2) for name in measures}
    assert table.lines[CLAIMANT] == means | dict.fromkeys(LATER) | {
        "threshold": 0.2377,
        "acceptance": 0.944,
        "accepted_accuracy": 0.971,
    }


def test_near_and_far_sets_have_means_of_their_own(results: dict[str, Any], render: Callable[..., Page]) -> None:
    distances = {"near": "near", "contextual": "near", "far": "far"}
    found = Results.model_validate({**results, "distances": distances}).measured
    names = [column.title for column in build_table(found).columns]
    sets = {"near": ("near", "contextual"), "far": ("far",)}
    assert found.by_distance == {key: tuple(one for one in own if one in SETS) for key, own in sets.items() if own}
    assert names[1 : 1 + len(found.by_distance)] == list(found.by_distance)
    assert "means over the sets that the configuration says" in render(distances=distances).words("results")
    assert "means over the sets that the configuration says" not in render().words("results")


def test_outlier_classes_are_a_strip_of_dots_and_the_worst_by_name(
    results: dict[str, Any], render: Callable[..., Page]
) -> None:
    before, after = results["before"], results["after"]
    shares = {"crab": (0.9, 0.2), HOSTILE: (0.5, 0.4), "car": (0.0, 1.0)}
    classes = [
        {"set": "near", "name": name, "images": 20, "fpr95": {before: old, after: new}}
        for name, (old, new) in shares.items()
    ]
    lone = {"set": "far", "name": "alone", "images": 20, "fpr95": {after: 0.5}}
    found = Results.model_validate({**results, "outlier_classes": [*classes, lone]}).outlier_classes
    strips = class_strips(found, before=before, after=after)
    assert [(one.set, one.method, one.kind, one.classes) for one in strips] == [
        ("near", before, "before", 3),
        ("near", after, "after", 3),
    ]
    assert [one.name for one in strips[1].worst] == ["car", HOSTILE, "crab"]
    assert re.findall(r'cx="([\d.]+)%', strips[1].strip) == ["98.00", "40.40", "21.20"]
    words = render(outlier_classes=[*classes, lone]).words("outlier-classes")
    assert "car 100" in words.replace("\u00a0", " ")
    assert "alone" not in words
    assert "outlier-classes" not in render().by_id


def test_counts_are_shown_as_such(results: dict[str, Any], render: Callable[..., Page]) -> None:
    rows = [{**r, "known_used": 1700, "outliers_used": 0} for r in results["rows"]]
    page = render(rows=rows)
    for place in ("by-method-table", "all-metrics"):
        assert "1,700" in page.words(place)


def test_metrics_that_nothing_has_take_no_column(results: dict[str, Any]) -> None:
    gone = (*LATER, "oscr", "h_score", "threshold", "acceptance", "rejection", "accepted_accuracy")
    rows = [{k: v for k, v in r.items() if k not in gone} for r in results["rows"]]
    table = method_table(measured({**results, "rows": rows}))
    assert list(table.columns) == [name for name in METRICS if name not in gone]
    assert not table.has_thresholds


def test_methods_that_used_labelled_outliers_are_marked_and_remarks_stand_above(
    render: Callable[..., Page], results: dict[str, Any], page: Page
) -> None:
    assert "†" not in page.words("results")
    said = {"uses_feedback": True, "remarks": ["three words"]}
    rows = [r | {"extra": said} if r["method"] in ("knn", "csp") else r for r in results["rows"]]
    found = render(**results | {"rows": rows})
    words = found.words("results")
    assert "knn †" in words
    assert "mahalanobis †" not in words
    assert "† : outliers of the feedback" in words.replace("†:", "† :")
    assert "knn and csp: three words" in found.words("remarks")


# Published figures


def test_published_figures_stand_under_the_method_of_their_name_with_their_source(results: dict[str, Any]) -> None:
    parsed = Results.model_validate(results)
    table = build_table(parsed.measured, parsed.published)
    lines = table.lines
    (quoted,) = lines["mcm"].published
    assert quoted.source == "Ming et al., NeurIPS 2022"
    assert [entry.fpr95 for entry in quoted.entries] == [None, 0.8943, None, 0.3091, None, None, None, None]
    assert lines["mcm, T = 0.01"].published == ()
    # A method that was not measured here stands at the end; one without a set of ours is not shown.
    assert [line.method for line in table.published] == ["NegRefine", "ANTS"]
    assert not any(entry.best_fpr95 for line in (quoted, *table.published) for entry in line.entries)


def test_published_figures_are_marked_and_never_change_what_is_best(page: Page, results: dict[str, Any]) -> None:
    words = page.words("results")
    assert "published MCMMing et al., NeurIPS 2022" in words
    assert "Published: what papers give, not measured here" in words
    # Which of the two FPR95s a paper means is said wherever it is not ours.
    assert "CVPR 2026 OOD 0.5 99.8 " in words
    assert "except where OOD stands before it" in words
    numbers = measured(results)
    plain, beside = build_table(numbers), build_table(numbers, Results.model_validate(results).published)
    assert {name: line.entries for name, line in plain.lines.items()} == {
        name: line.entries for name, line in beside.lines.items()
    }


# Leakage, choices


def test_leakage_names_the_antibodies_and_shows_results_without_them(page: Page, results: dict[str, Any]) -> None:
    words = page.words("leakage")
    assert "2 of 333 antibodies name a class of a sealed outlier set" in words
    assert "a small owl owl near nearly equal" in words
    was = row(results, CLAIMANT, "near")
    without = was["extra"]["without_leaks"]
    assert (
        f"{CLAIMANT} near 331 {100 * was['fpr95_id']:.1f} {100 * without['fpr95_id']:.1f} "
        f"{100 * was['auroc']:.1f} {100 * without['auroc']:.1f}"
    ) in words


def test_an_audit_that_found_nothing_says_so_and_one_that_was_not_made_says_nothing(
    render: Callable[..., Page],
) -> None:
    assert "No antibody names a class of a sealed outlier set: 333 were compared" in render(leakage=[]).words("leakage")
    assert "leakage" not in render(leakage=None).by_id


def test_what_a_method_chose_is_listed_and_cut_where_it_is_long(page: Page) -> None:
    words = page.words("chosen")
    assert f"{CLAIMANT} alpha 0.9w 0.35beta 2.5adapter falseradii [0.0125, 0.0125" in words
    assert "…" in words
    assert "mcm" not in words


def test_an_older_file_without_any_of_it_is_still_shown(render: Callable[..., Page], results: dict[str, Any]) -> None:
    keep = ("method", "ood", "auroc", "fpr95_id", "antibodies")
    page = render(rows=[{k: r[k] for k in keep} for r in results["rows"]], **dict.fromkeys(NEW_KEYS))
    assert not {"verdict", "leakage", "chosen", "seeds"} & set(page.by_id)
    assert "With the bank" in page.words("results")


# Several seeds


def test_seeds_are_shown_as_mean_and_deviation_sorted_by_the_headline_mean(render: Callable[..., Page]) -> None:
    summary = make_seeds()
    page = render(seeds_summary=summary)
    words = page.words("seeds")
    assert words.startswith("Over 3 seeds The same benchmark with the seeds 0, 1, 2.")
    cells = {(r["method"], r["ood"]): r for r in summary["rows"]}
    near = cells[CLAIMANT, "near"]["fpr95_id"]
    assert f"{100 * near['mean']:.1f} ±{100 * near['sd']:.1f}" in words

    read = Summary.model_validate(summary)
    assert read.headline_sets == ("near", "contextual")
    for group in read.groups():
        means = [read.headline(method) or 0.0 for method in group.methods]
        assert means == sorted(means)
        for method, mean in zip(group.methods, means, strict=True):
            both = [cells[method, name]["fpr95_id"]["mean"] for name in ("near", "contextual")]
            assert mean == pytest.approx(sum(both) / 2)


def test_near_and_far_sets_have_a_mean_each_beside_the_mean_of_all(render: Callable[..., Page]) -> None:
    summary = make_seeds(distances={"near": "near", "contextual": "far", "far": "far"})
    words = render(seeds_summary=summary).words("seeds")
    titles = words.index("mean of all mean of all near mean of all far ")
    both = (summary["means"], summary["distances"]["far"])
    every, far = (next(one for one in rows if one["method"] == CLAIMANT) for rows in both)
    of_all, of_far = (f"{100 * one['fpr95_id']['mean']:.1f} ±{100 * one['fpr95_id']['sd']:.1f}" for one in (every, far))
    row = words[words.index(f" {CLAIMANT} ", titles) :]
    assert 0 < row.index(of_all) < row.index(of_far)


def test_without_seeds_there_is_no_such_table(page: Page) -> None:
    assert "seeds" not in page.by_id


def test_a_single_seed_has_no_deviation(render: Callable[..., Page]) -> None:
    assert "±0" not in render(seeds_summary=make_seeds(1)).words("seeds")


# Hostile text, accessibility


def test_nothing_from_outside_becomes_markup(tmp_path: Path) -> None:
    page = read(
        render_report(write_folder(tmp_path, make_hostile({**make_bench(), "seeds_summary": make_seeds()}), None))
    )
    assert len(list(page.all("script"))) == 1
    assert not list(page.all("img"))
    assert not [name for _, attrs in page.elements for name in attrs if name.startswith("on")]
    assert "<script>window" not in page.html
    for section in ("verdict", "verdict-sets", "results", "by-method-table", "leakage", "chosen", "seeds"):
        assert HOSTILE in page.by_id[section], section


def test_every_table_has_a_caption_and_every_scrolling_box_a_name(render: Callable[..., Page]) -> None:
    page = render(seeds_summary=make_seeds())
    assert page.html.count("<caption") == page.html.count("<table")
    boxes = [attrs for attrs in page.all("div") if "scroll" in str(attrs.get("class")).split()]
    assert boxes
    for box in boxes:
        assert box.get("role") == "region", box
        assert box.get("aria-label"), box
        assert box.get("tabindex") == "0", box
    assert all(attrs.get("aria-hidden") == "true" for attrs in page.all("svg"))


def test_every_set_is_named_in_the_verdict(page: Page) -> None:
    for name in SETS:
        assert name in page.words("verdict-sets")


def make_costs() -> dict[str, Any]:
    texts = {"antibodies": 333, "seconds": 0.00044, "passes": 1, "tower": "text", "bytes": 25.8, "tokens": 1234.4}
    return {"texts": texts, "pixels": {"antibodies": 333, "seconds": 0.00333, "passes": 1, "tower": "image"}}


def test_texts_and_pixels_stand_side_by_side(render: Callable[..., Page], results: dict[str, Any]) -> None:
    drawn = [{**one, "arm": "pixels"} for one in results["rows"] if one["method"] == CLAIMANT]
    drawn = [{**one, "method": f"{CLAIMANT} / pixels", "fpr95_id": 0.5} for one in drawn]
    page = render(rows=[*results["rows"], *drawn], costs=make_costs())
    told = 100 * measured(results).over(CLAIMANT, "fpr95_id")  # type: ignore[operator]
    for said in (
        f"333 texts {CLAIMANT} {told:.1f} 0.44 1 text 26 1,234",
        f"{CLAIMANT} with pixels 50.0 3.33 1 image – –",
    ):
        assert said in page.words("costs")


@pytest.mark.usefixtures("unpainted")
def test_nothing_of_the_results_is_lost_on_the_way_to_the_page(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    """Each key of results.json by itself changes the page; but for the configuration, and a count of what is listed."""
    whole = {**make_results(rows), **{key: make_bench()[key] for key in NEW_KEYS if key != "seeds_summary"}}
    whole |= {"seeds_summary": make_seeds(), "unseen": ["far"], "config": {"seed": 0}}
    whole |= {"warnings": ["a class has no image"], "skipped_by_reason": {"not an image": 1}, "costs": make_costs()}
    whole["rows"] = [*rows, *({**one, "method": f"{one['method']} / pixels", "arm": "pixels"} for one in rows)]
    both = {whole["before"]: 0.2, whole["after"]: 0.1}
    whole |= {
        "distances": {"near": "near"},
        "outlier_classes": [{"set": "near", "name": name, "images": 10, "fpr95": both} for name in ("crab", "car")],
        "test_time": [{"method": "s", "ood": "near", "orders": 2, "fpr95_id": {"mean": 0.1}, "auroc": {"mean": 0.9}}],
    }
    whole["plane"] = {"classes": [[0.0, 0.1]], "antibodies": [[0.2, 0.0]], "kinds": ["look_alike"]}
    del whole["a_key_of_a_later_version"]
    assert set(whole) == set(Results.model_fields)
    page = render_report(write_folder(tmp_path / "whole", whole, None)).read_text()
    lost = set()
    for key in set(whole) - {"rows"}:
        less = write_folder(tmp_path / key, {name: value for name, value in whole.items() if name != key}, None)
        (less / "images").mkdir(exist_ok=True)
        if render_report(less).read_text() == page:
            lost.add(key)
    assert lost == {"config", "skipped_by_reason"}
