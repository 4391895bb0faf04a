"""The report of a whole benchmark in a real browser: it fits, folds, filters, sorts, and stays readable in the dark."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from evaluation.report import render_report

from .report_bench import make_bench, make_seeds
from .report_browser import BROWSER_MARKS, Opened, brightness, launch, open_page, overflow
from .report_folder import make_hostile, write_folder

pytestmark = BROWSER_MARKS


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = launch(playwright)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With everything that a page can have beyond the sample, which is of an earlier version."""
    whole = {**make_bench(), "seeds_summary": make_seeds()}
    later = {"fpr95_worst_class": 1.0, "fired_known": 0.123, "known_used": 1_281_167, "outliers_used": 12_345}
    both = {whole["before"]: 0.2, whole["after"]: 0.1}
    spread = {"mean": 0.123, "sd": 0.012}
    streamed = {"ood": "near", "orders": 5, "fpr95_id": spread, "auroc": spread, "antibodies": 11_800}
    whole |= {
        "rows": [{**row, **later} for row in whole["rows"]],
        "distances": {"near": "near", "contextual": "near", "far": "far"},
        "outlier_classes": [{"set": "near", "name": "x" * n, "images": 10, "fpr95": both} for n in range(4, 25, 5)],
        "test_time": [{"method": name, **streamed} for name in ("AdaNeg", "AdaNeg, our bank")],
    }
    return render_report(write_folder(tmp_path_factory.mktemp("bench"), whole, None))


@pytest.fixture
def opened(browser: Browser, report: Path) -> Iterator[Opened]:
    found = open_page(browser, report, viewport={"width": 1280, "height": 900})
    found.page.evaluate("document.querySelectorAll('#results details').forEach(each => { each.open = true })")
    yield found
    found.page.context.close()


def shown(opened: Opened) -> list[str]:
    """The names in the results table that can be seen (the first line of each)."""
    rows = opened.page.locator("#all-methods .results tbody tr:not(.group):visible > th")
    return [text.split("\n")[0] for text in rows.all_inner_texts()]


def test_nothing_is_fetched_and_nothing_complained_of(opened: Opened, report: Path) -> None:
    opened.page.wait_for_timeout(200)
    assert opened.complaints == []
    assert [url for url in opened.requests if not url.startswith("data:")] == [report.as_uri()]


def test_hostile_texts_run_nothing_and_break_no_layout(browser: Browser, tmp_path: Path) -> None:
    path = render_report(write_folder(tmp_path, make_hostile({**make_bench(), "seeds_summary": make_seeds()}), None))
    opened = open_page(browser, path, viewport={"width": 1280, "height": 900})
    for width in (320, 700, 1280):
        opened.page.set_viewport_size({"width": width, "height": 900})
        assert overflow(opened.page) == 0, width
    assert opened.page.evaluate("window.hacked === undefined")
    assert opened.complaints == []
    assert [url for url in opened.requests if not url.startswith("data:")] == [path.as_uri()]
    opened.page.context.close()


@pytest.mark.parametrize("width", [320, 700, 1280, 2000])
def test_no_width_overflows(opened: Opened, width: int) -> None:
    opened.page.set_viewport_size({"width": width, "height": 900})
    opened.page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true })")
    assert overflow(opened.page) == 0


def test_a_group_folds_and_unfolds(opened: Opened) -> None:
    assert len(shown(opened)) == 43  # 40 methods and three published lines
    button = opened.page.locator("#all-methods").get_by_role("button", name="With the bank")
    assert button.get_attribute("aria-expanded") == "true"
    button.click()
    assert button.get_attribute("aria-expanded") == "false"
    assert "immuno_vlm_paper" not in shown(opened)
    assert "mcm" in shown(opened)
    button.press("Enter")
    assert len(shown(opened)) == 43


def test_the_filter_finds_methods_in_folded_groups_too(opened: Opened) -> None:
    opened.page.locator("#all-methods").get_by_role("button", name="With the bank").click()
    box = opened.page.get_by_role("searchbox")
    box.fill("ABLATION")
    assert shown(opened) == [name for name in shown(opened) if name.startswith("ablation")]
    assert len(shown(opened)) == 5
    assert opened.page.get_by_role("status").inner_text() == "5 of 43 lines"
    box.fill("")
    assert "mcm" in shown(opened)
    assert "ablation: no EVT" not in shown(opened)


def test_the_table_is_whole_and_without_a_filter_where_there_are_no_scripts(browser: Browser, report: Path) -> None:
    opened = open_page(browser, report, java_script_enabled=False)
    opened.page.locator("#all-methods > summary").click()
    assert len(shown(opened)) == 43
    assert not opened.page.locator(".filter").is_visible()
    opened.page.context.close()


def test_the_heading_and_the_method_stay_in_sight_while_the_table_scrolls(opened: Opened) -> None:
    opened.page.set_viewport_size({"width": 700, "height": 900})
    box = opened.page.locator("#all-methods .scroll.high")
    box.evaluate("each => each.scrollTo(200, 900)")
    edges = box.evaluate("each => [each.getBoundingClientRect().top, each.getBoundingClientRect().left]")
    head = box.locator("thead").bounding_box()
    name = box.locator("tbody tr:not(.group) > th").nth(12).bounding_box()
    assert head
    assert name
    assert abs(head["y"] - edges[0]) <= 2
    assert abs(name["x"] - edges[1]) <= 2


def test_tables_by_method_sort(opened: Opened) -> None:
    table = opened.page.locator("#by-method-table")
    table.get_by_role("button", name="OSCR").click()
    values = table.locator("tbody td:nth-child(7)").evaluate_all("cells => cells.map(cell => Number(cell.dataset.v))")
    assert len(values) == 40
    assert values == sorted(values, reverse=True)


def test_intervals_lie_on_one_scale_and_left_of_zero(opened: Opened) -> None:
    strips = opened.page.locator("table.forest").first.locator("svg.strip")
    assert strips.count() == 5
    for strip in strips.all():
        ends = [strip.locator(part).bounding_box() for part in (".span", "circle", ".zero")]
        assert all(ends)
        span, dot, zero = (end or {} for end in ends)
        assert span["x"] < dot["x"] + dot["width"] / 2 < span["x"] + span["width"] < zero["x"]
    zeros = {round((strip.locator(".zero").bounding_box() or {})["x"]) for strip in strips.all()}
    assert len(zeros) == 1


def test_the_forest_plot_follows_dark_mode(opened: Opened) -> None:
    dot = "() => getComputedStyle(document.querySelector('svg.strip .zero')).stroke"
    opened.page.emulate_media(color_scheme="light")
    light = brightness(opened.page.evaluate(dot))
    opened.page.emulate_media(color_scheme="dark")
    dark = brightness(opened.page.evaluate(dot))
    assert light < 130 < dark


def test_print_shows_folded_groups_and_fits_the_paper(opened: Opened) -> None:
    opened.page.locator("#all-methods").get_by_role("button", name="Controls").click()
    opened.page.set_viewport_size({"width": 680, "height": 960})
    opened.page.emulate_media(media="print")
    assert "immuno_vlm, shuffled" in shown(opened)
    assert not opened.page.locator(".filter").is_visible()
    assert overflow(opened.page) == 0
    for table in opened.page.locator("table:visible").all():
        assert table.evaluate("t => t.scrollWidth - t.parentElement.clientWidth") <= 0
    for box in opened.page.locator(".scroll").all():
        assert box.evaluate("each => each.scrollHeight - each.clientHeight") <= 1
