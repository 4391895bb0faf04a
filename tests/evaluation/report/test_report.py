"""The report: what it says of a results folder, what it does with hostile text, and what it does without parts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cluster.records import EmbeddingSummary
from evaluation.benchmark.gallery import GalleryItem
from evaluation.benchmark.order import Measured
from evaluation.benchmark.results import Results
from evaluation.report import render_report
from evaluation.report.curves import histogram, roc_curve
from evaluation.report.gallery import MOST_PER_GROUP, build_gallery
from evaluation.report.tables import build_table

from .report_folder import AFTER, BEFORE, METHODS, SETS, make_results, make_scores
from .report_folder import write_folder as write
from .report_page import Page, read


def row(method: str, ood: str, fpr95: float, *, antibodies: int = 0, **more: Any) -> dict[str, Any]:
    base = {"method": method, "ood": ood, "fpr95_id": fpr95, "auroc": 0.9, "id_accuracy": 0.9}
    return {**base, "antibodies": antibodies, **more}


def measured(*results_rows: dict[str, Any], **keys: Any) -> Measured:
    return Results.model_validate({"rows": list(results_rows), **keys}).measured


# The header


def test_header_numbers_are_those_of_the_rows(full: Page, rows: list[dict[str, Any]]) -> None:
    def mean(method: str) -> float:
        return fmean(r["fpr95_id"] for r in rows if r["method"] == method and r["ood"] in {"near", "contextual"})

    best = min((m for m, (antibodies, _, _) in METHODS.items() if not antibodies), key=mean)
    assert best == "max cosine"
    assert full.words("headline-before") == f"{100 * mean(BEFORE):.1f}"
    assert full.words("headline-after") == f"{100 * mean(AFTER):.1f}"
    assert full.words("headline-best") == f"{100 * mean(best):.1f}"
    assert full.words("headline-ratio") == f"{mean(best) / mean(AFTER):.1f} times"
    assert full.words("id-accuracy") == "95.7"
    assert full.words("test-reads") == "1×"
    summary = full.words("summary")
    for number in (mean(BEFORE), mean(AFTER), mean(best)):
        assert f"{100 * number:.1f} %" in summary
    assert "near and contextual" in summary
    assert "−0.1 points" in summary


def test_the_bank_is_held_against_random_words(full: Page) -> None:
    assert full.words("sense") == "No evidence that this model helps. Its 9 texts against 9 random words."


def test_the_unseen_sets_have_a_headline_of_their_own(full: Page, rows: list[dict[str, Any]]) -> None:
    unseen = {"far", "near_unseen", "contextual_unseen"}
    mean = fmean(r["fpr95_id"] for r in rows if r["method"] == AFTER and r["ood"] in unseen)
    assert full.words("unseen-after") == f"{100 * mean:.1f}"


@pytest.mark.parametrize("methods", [("mcm", "max cosine"), ("mcm",)])
def test_without_a_bank_the_page_compares_nothing_with_itself(tmp_path: Path, methods: tuple[str, ...]) -> None:
    rows = [row(name, ood, 0.5 + 0.1 * i) for i, name in enumerate(methods) for ood in ("near", "far")]
    numbers = measured(*rows)
    before, after = numbers.compared()
    assert (before, after) == ("mcm", "mcm")
    Results.model_validate({"rows": rows, "before": before, "after": after}).save(tmp_path)
    page = read(render_report(tmp_path))
    assert page.words("summary").startswith(
        "No bank was given. The best of the methods without antibodies, mcm, accepts 50.0 %"
    )
    assert numbers.headline(before, after).after is None


def test_best_baseline_uses_no_antibodies_and_was_measured_on_every_set() -> None:
    numbers = measured(
        *(row("mcm", s, 0.6) for s in ("near", "contextual")),
        *(row("max cosine", s, 0.5) for s in ("near", "contextual")),
        *(row("bank", s, 0.1, antibodies=9) for s in ("near", "contextual")),
        row("half measured", "near", 0.2),
    )
    assert numbers.best_without_antibodies(numbers.headline_sets) == "max cosine"


def test_headline_is_over_near_and_contextual_else_over_all_sets() -> None:
    assert measured(row("m", "far", 0.1), row("m", "near", 0.1), row("m", "contextual", 0.1)).headline_sets == (
        "near",
        "contextual",
    )
    assert measured(row("m", "near", 0.1), row("m", "far", 0.1)).headline_sets == ("near",)
    assert measured(row("m", "sun", 0.1), row("m", "places", 0.1)).headline_sets == ("sun", "places")


@pytest.mark.parametrize(
    ("after", "words"),
    [
        (0.1, "5.0 times fewer than the 50.0 % of the best method that uses none"),
        (0.5, "about as many as the 50.0 % of the best method that uses none"),
        (0.8, "more than the 50.0 % of the best method that uses none"),
        (0.0, "against the 50.0 % of the best method that uses none"),
    ],
)
def test_summary_says_so_where_the_bank_does_not_help(render: Callable[..., Page], after: float, words: str) -> None:
    page = render(rows=[row("mcm", "near", 0.5), row("ours", "near", after, antibodies=3)], before="mcm", after="ours")
    assert words in page.words("summary")


def test_without_a_named_comparison_the_best_baseline_is_reported(render: Callable[..., Page]) -> None:
    page = render(before=None, after="not a method")
    assert "No method with antibodies is compared here" in page.words("summary")


def test_openings_of_the_sealed_test_are_counted(render: Callable[..., Page]) -> None:
    page = render(test_reads=[{"when": "2026-01-02T03:04:05", "run_id": str(n), "sets": ["a"]} for n in range(3)])
    assert page.words("test-reads") == "3×"
    assert "opened 3 times" in page.text
    assert page.words("seal").count("2 January 2026, 03:04") == 1 + 3  # the last one is said before the list


def test_what_was_left_out_of_the_test_is_on_the_page(full: Page, render: Callable[..., Page]) -> None:
    assert "gl_mcm: it needs patch embeddings, and so an encoder" in full.words("left-out")
    overlap = full.words("overlap")
    assert "1,204 test images took no part" in overlap
    assert "1,203 of near: in id too (the same embedding), such as wolf/0009.png" in overlap
    assert "1 of far: in far-feedback too (the same file), such as tent/0002.png" in overlap
    clean = render(left_out={}, overlap=[])
    assert not {"left-out", "overlap"} & set(clean.by_id)


# The table


def test_sets_unlike_the_feedback_are_told_by_their_names() -> None:
    sets = [row("m", s, 0.1) for s in ("near", "contextual", "far", "near_unseen")]

    def feedback(*names: str) -> dict[str, Any]:
        return {"session": {"generations": [{"number": 0, "fpr95": dict.fromkeys(names, 0.5)}]}}

    assert measured(*sets).unseen_sets == ("near_unseen",)
    assert measured(*sets, **feedback("near", "contextual")).unseen_sets == ("far", "near_unseen")
    # No name in common: the names say nothing about which sets are alike.
    assert measured(*sets, **feedback("feedback-1")).unseen_sets == ("near_unseen",)
    # What the benchmark records, by the classes of the images, counts before any name.
    assert measured(*sets, **feedback("near"), unseen=["contextual"]).unseen_sets == ("contextual",)


def test_best_of_a_column_is_marked_and_equal_printed_values_are_equally_best() -> None:
    table = build_table(
        measured(
            row("a", "near", 0.2004, auroc=0.91),
            row("b", "near", 0.2001, auroc=0.95),
            row("c", "near", 0.3, auroc=0.95, antibodies=2, id_accuracy=0.95),
        )
    )
    lines = table.lines
    assert [name for name, line in lines.items() if line.entries[0].best_fpr95] == ["b", "a"]
    assert [name for name, line in lines.items() if line.entries[0].best_auroc] == ["c", "b"]
    assert [name for name, line in lines.items() if line.best_id_accuracy] == ["c"]


def test_worst_is_the_highest_fpr95_and_the_lowest_auroc() -> None:
    table = build_table(measured(row("a", "near", 0.2, auroc=0.7), row("a", "far", 0.6, auroc=0.8)))
    worst = table.lines["a"].entries[-1]
    assert table.columns[-1].kind == "worst"
    assert (worst.fpr95, worst.auroc) == (0.6, 0.7)


def test_seeds_are_averaged_and_what_is_undefined_is_a_dash(render: Callable[..., Page]) -> None:
    page = render(
        rows=[
            row("m", "near", 0.2, seed=0),
            row("m", "near", 0.4, seed=1),
            row("m", "far", 0.5, auroc=None, fpr95_ood=float("nan")),
        ],
        before=None,
        after=None,
    )
    assert "30.0" in page.words("results")
    assert "means over up to 2 seeds" in page.words("results")
    assert "–" in page.words("results")


def test_every_metric_is_there_with_its_definition(full: Page, rows: list[dict[str, Any]]) -> None:
    for metric in ("auroc", "aupr_in", "aupr_out", "fpr95_id", "fpr95_ood"):
        for r in rows:
            assert f"{100 * r[metric]:.2f}" in full.by_id["all-metrics"]
    for definition in (
        "accepts 95 % of known images",
        "rejects 95 % of outliers",
        "lower is better",
        "higher is better",
    ):
        assert definition in full.words("results")


# Curves


def test_roc_curve_passes_through_fpr95_and_has_the_area_of_auroc(rows: list[dict[str, Any]]) -> None:
    scores = make_scores()
    known, outliers = scores[f"{AFTER}|id"], scores[f"{AFTER}|near"]
    curve = roc_curve(known, outliers)
    expected = next(r for r in rows if r["method"] == AFTER and r["ood"] == "near")
    assert curve.at_95 == expected["fpr95_id"]
    assert curve.outliers[np.isclose(curve.known, 0.95)] == pytest.approx([curve.at_95])
    assert np.trapezoid(curve.known, curve.outliers) == pytest.approx(expected["auroc"], abs=2e-3)


def test_histogram_counts_every_image_even_at_infinity() -> None:
    known, outliers = np.array([1.0, 2.0, 3.0, np.inf]), np.array([-np.inf, 0.0, 1.0])
    counted = histogram(known, outliers)
    assert counted.known.sum() == pytest.approx(1)
    assert counted.outliers.sum() == pytest.approx(1)
    constant = histogram(np.full(5, 2.0), np.full(3, 2.0))
    assert constant.edges[0] < 2.0 < constant.edges[-1]
    assert constant.accepted_outliers == 1
    assert np.isfinite(histogram(np.full(5, -np.inf), np.full(3, -np.inf)).threshold)


def test_every_set_has_its_curves_and_histograms(full: Page) -> None:
    for name in SETS:
        assert name in full.words("roc")
        assert name in full.words("scores")
    # One ROC panel and one pair of histograms per set; by generation: the mean and two feedback sets; the effects.
    assert len(list(full.all("svg"))) == 2 * len(SETS) + 3 + 1


def test_scores_that_disagree_with_the_table_are_pointed_out(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    scores = make_scores()
    scores[f"{AFTER}|far"] += 0.02
    page = read(render_report(write(tmp_path, make_results(rows), scores)))
    assert "another FPR95 than the table for far:" in page.words("roc")


# The gallery


def item(name: str, *, before: bool, after: bool, set_name: str = "near") -> GalleryItem:
    return GalleryItem(set=set_name, image=name, accepted_before=before, accepted_after=after)


def test_what_was_caught_stands_before_everything_else_and_what_is_still_accepted_after(full: Page) -> None:
    assert full.html.index('id="caught"') < full.html.index('id="results"') < full.html.index('id="gallery"')
    words = full.words("caught")
    assert words.startswith("Caught by the antibodies 6 of 12 that were looked at")
    assert "fox taken for cat caught by “a fox”" in words
    assert words.count("caught by") == 12
    assert "Accepted before and after 6" in full.words("gallery")


def test_a_score_stands_as_the_share_of_known_images_that_score_lower(tmp_path: Path) -> None:
    found = GalleryItem(image="a", accepted_before=True, score_before=0.35, score_after=-5.0)
    known = np.array([0.4, 0.1, 0.2, 0.3]), np.array([-5.0, -6.0, 7.0, 8.0])
    (card,) = build_gallery([found], tmp_path, known).groups["caught"].cards
    assert (card.before, card.after) == (0.75, 0.25)
    (card,) = build_gallery([found], tmp_path, (known[0], None)).groups["caught"].cards
    assert (card.before, card.after) == (0.75, None)


def test_gallery_groups_by_fate_and_leaves_out_what_was_never_accepted(tmp_path: Path) -> None:
    items = [
        item("new.png", before=False, after=True),
        item("still.png", before=True, after=True),
        item("never.png", before=False, after=False),
        item("caught.png", before=True, after=False),
    ]
    groups = build_gallery(items, tmp_path).groups.values()
    assert [(g.fate, [c.name for c in g.cards]) for g in groups] == [
        ("caught", ["caught.png"]),
        ("still", ["still.png"]),
        ("newly", ["new.png"]),
    ]


def test_gallery_is_bounded_and_takes_from_every_set(tmp_path: Path) -> None:
    items = [item(f"{n}", before=True, after=False) for n in range(90)]
    items.append(item("last", before=True, after=False, set_name="far"))
    (group,) = build_gallery(items, tmp_path).groups.values()
    assert (len(group.cards), group.total) == (MOST_PER_GROUP, 91)
    assert [card.name for card in group.cards[:3]] == ["0", "last", "1"]


def test_tiny_pictures_keep_their_pixels_and_large_ones_are_made_small(tmp_path: Path) -> None:
    Image.new("P", (64, 64)).save(tmp_path / "tiny.png")
    Image.new("RGBA", (900, 30), (0, 0, 0, 0)).save(tmp_path / "large.png")
    (group,) = build_gallery(
        [item("tiny.png", before=True, after=True), item(str(tmp_path / "large.png"), before=True, after=True)],
        tmp_path,
    ).groups.values()
    tiny, large = (card.picture for card in group.cards)
    assert tiny is not None
    assert tiny.tiny
    assert tiny.uri.startswith("data:image/png;base64,")
    assert large is not None
    assert not large.tiny
    assert len(large.uri) < 4000


# Generations and the bank


def test_generations_say_what_was_rejected_and_show_each_guideline_once(full: Page) -> None:
    words = full.words("generations")
    assert "3 rejected 192 41 109 40.0 – 95.7" in words
    assert "texts about materials fire on known classes" in words
    assert "Guideline as in generation 2." in words
    assert words.count("name at least four contexts") == 1


def test_bank_is_ordered_by_gain_and_bounded(render: Callable[..., Page]) -> None:
    antibodies: list[dict[str, Any]] = [{"text": f"thing {n}", "gain": n / 1000} for n in range(500)]
    page = render(antibodies=[{"text": "unmeasured"}, *antibodies])
    words = page.words("bank")
    assert "The bank has 501 antibodies." in words
    assert "The 400 with the largest gain, to sort" in words
    assert words.index("thing 499") < words.index("thing 498") < words.index("thing 100")
    assert "thing 99 " not in words
    assert "unmeasured" not in words


def test_visual_antibodies_show_the_images_that_they_came_from_or_their_names(
    render: Callable[..., Page], tmp_path: Path
) -> None:
    cat = tmp_path / "cat.png"
    Image.new("RGB", (8, 8), "red").save(cat)
    seen = {"id": "v1", "text": "", "kind": "visual", "samples": ["near/cat.png", "near/owl.png"], "gain": 0.9}
    shown = seen | {"images": [str(cat), str(tmp_path / "gone.png")]}
    page = render(antibodies=[shown, seen | {"id": "v2"}])
    assert page.words("whole-bank").count("visual: like near/cat.png, near/owl.png") == 2
    assert len([image for image in page.all("img") if image.get("class") == "seen"]) == 1


def test_skipped_images_are_counted_and_named(full: Page) -> None:
    words = full.words("skipped")
    assert "3 images were left out" in words
    assert "cactus/0031.png truncated file" in words


def test_the_page_tells_what_happened_while_images_were_embedded(full: Page, render: Callable[..., Page]) -> None:
    words = full.words("embedding")
    assert "1,997 images embedded in this run, 499 per second, limited by decoding; 4,000 from the store" in words
    assert "3 pieces of work done again. Batches halved twice for want of memory. 1 machine lost." in words
    assert "gpu-7, process 4711 the images from wolf/0001.png on Worker exit type: SYSTEM_ERROR" in words
    assert "while starting, with its machine loading the encoder its node has died" in words
    assert "wolf/0002.png near: killed the embedding process" in words
    quiet = render(embedding=EmbeddingSummary(from_store=10).as_dict()).words("embedding")
    assert "10 from the store; 0 left out." in quiet
    assert "died" not in quiet
    assert "embedding" not in render(embedding=None).by_id


def test_provenance_says_what_fixes_the_numbers(full: Page) -> None:
    words = full.words("provenance")
    for part in (
        "4f1c0d7e9b2a",
        "df618e2a90c14b7",
        "miniworld-rn",
        "2.13.0",
        "0197f3a2-6c1e",
        '{"beta": 2.5}',
        "36.6034",
    ):
        assert part in words
