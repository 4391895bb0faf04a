"""The report in a real browser: nothing is fetched, broken or too wide, nothing hostile runs, and tables sort."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.sync_api import Browser, sync_playwright

from evaluation.report import render_report

from .report_browser import BROWSER_MARKS, Opened, brightness, launch, open_page, overflow
from .report_folder import AFTER, BEFORE, HOSTILE, make_hostile, make_results, make_rows, make_scores, write_folder

HEADINGS = (
    "Results",
    "By generation",
    "What still gets through",
    "Antibodies that matter",
    "Curves",
    "Audit",
    "Provenance",
)

pytestmark = BROWSER_MARKS


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = launch(playwright)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    scores = make_scores()
    return render_report(write_folder(tmp_path_factory.mktemp("run"), make_results(make_rows(scores)), scores))


@pytest.fixture(scope="module")
def hostile_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report whose every text is hostile, and long enough to break a layout."""
    results: dict[str, Any] = make_hostile(make_results(make_rows(make_scores())))
    results["before"], results["after"] = BEFORE + HOSTILE, AFTER + HOSTILE
    return render_report(write_folder(tmp_path_factory.mktemp("hostile"), results, None))


@pytest.fixture(scope="module")
def opened(browser: Browser, report: Path) -> Iterator[Opened]:
    """The page as it opens, shared by the tests that only look at it."""
    found = open_page(browser, report, viewport={"width": 1280, "height": 900})
    yield found
    found.page.context.close()


@pytest.fixture(scope="module")
def hostile(browser: Browser, hostile_report: Path) -> Iterator[Opened]:
    found = open_page(browser, hostile_report, viewport={"width": 1280, "height": 900})
    yield found
    found.page.context.close()


def test_opens_without_a_complaint_or_a_request(opened: Opened, report: Path) -> None:
    opened.page.wait_for_timeout(200)
    assert opened.complaints == []
    assert [url for url in opened.requests if not url.startswith("data:")] == [report.as_uri()]


def test_every_heading_is_visible_and_every_picture_is_shown(opened: Opened) -> None:
    for heading in HEADINGS:
        assert opened.page.get_by_role("heading", name=heading, exact=True, level=2).is_visible(), heading
    widths = opened.page.eval_on_selector_all("img", "images => images.map(image => image.naturalWidth)")
    assert len(widths) == 18
    assert min(widths) > 0


def test_pixels_of_tiny_pictures_stay_sharp(opened: Opened) -> None:
    style = opened.page.eval_on_selector("img.tiny", "image => getComputedStyle(image).imageRendering")
    assert style == "pixelated"


def test_links_of_the_navigation_lead_to_sections(opened: Opened) -> None:
    for link in opened.page.locator("nav a").all():
        target = link.get_attribute("href")
        assert target
        assert opened.page.locator(target).count() == 1


def test_all_metrics_open_on_a_click_without_a_script(browser: Browser, report: Path) -> None:
    opened = open_page(browser, report, java_script_enabled=False)
    table = opened.page.locator("#all-metrics table")
    assert not table.is_visible()
    opened.page.locator("#all-metrics summary").click()
    assert table.is_visible()
    opened.page.context.close()


def test_a_click_on_a_heading_sorts_and_a_second_one_turns_it_round(opened: Opened) -> None:
    def harms() -> list[float]:
        cells: list[float] = opened.page.eval_on_selector_all(
            ".bank tbody td:nth-child(6)", "cells => cells.map(cell => Number(cell.dataset.v))"
        )
        return cells

    opened.page.locator("#whole-bank > summary").click()
    head = opened.page.locator(".bank thead th").nth(5)
    head.get_by_role("button").click()
    assert harms() == sorted(harms(), reverse=True)
    assert head.get_attribute("aria-sort") == "descending"
    head.get_by_role("button").click()
    assert harms() == sorted(harms())
    assert head.get_attribute("aria-sort") == "ascending"

    opened.page.locator(".bank thead th").first.get_by_role("button").click()
    texts = opened.page.locator(".bank tbody td:first-child").all_inner_texts()
    assert texts == sorted(texts)
    assert head.get_attribute("aria-sort") is None


def test_hostile_texts_run_nothing_and_fetch_nothing(hostile: Opened, hostile_report: Path) -> None:
    hostile.page.wait_for_timeout(200)
    assert hostile.page.evaluate("window.hacked === undefined")
    assert hostile.complaints == []
    assert [url for url in hostile.requests if not url.startswith("data:")] == [hostile_report.as_uri()]


@pytest.mark.parametrize("width", [320, 390, 768, 1280, 2000])
def test_no_width_overflows(opened: Opened, hostile: Opened, width: int) -> None:
    for page in (opened.page, hostile.page):
        page.set_viewport_size({"width": width, "height": 900})
        page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true })")
        assert overflow(page) == 0
        page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = false })")
        assert overflow(page) == 0


def test_dark_mode_reaches_the_figures(opened: Opened) -> None:
    def brightnesses(scheme: Literal["light", "dark"]) -> tuple[float, float]:
        opened.page.emulate_media(color_scheme=scheme)
        page = opened.page.eval_on_selector("body", "body => getComputedStyle(body).backgroundColor")
        figure = opened.page.eval_on_selector("#roc svg text", "text => getComputedStyle(text).fill")
        return brightness(page), brightness(figure)

    page, figure = brightnesses("light")
    assert page > 200 > 130 > figure
    page, figure = brightnesses("dark")
    assert page < 60 < 130 < figure


def test_print_is_light_complete_and_fits_the_paper(opened: Opened) -> None:
    opened.page.set_viewport_size({"width": 680, "height": 960})
    opened.page.emulate_media(media="print", color_scheme="dark")
    try:
        assert brightness(opened.page.eval_on_selector("h1", "title => getComputedStyle(title).color")) < 60
        assert overflow(opened.page) == 0
        assert opened.page.locator("nav").is_hidden()
        assert opened.page.eval_on_selector("#whole-bank .tall", "box => box.scrollHeight - box.clientHeight") == 0
        assert opened.page.locator("#all-metrics table").is_visible()
    finally:
        opened.page.emulate_media(media="screen", color_scheme="light")
