"""The whole page as a reader meets it: short, legible, reached by the keyboard, and nothing for axe-core to find."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

from evaluation.report import render_report

from .report_bench import make_bench, make_seeds
from .report_browser import BROWSER_MARKS, launch, open_page, overflow
from .report_folder import AFTER, BEFORE, make_results, make_rows, make_scores, write_folder

pytestmark = BROWSER_MARKS
DESK, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
LONG = "a_class_of_" + "x" * 189
OPEN = "document.querySelectorAll('details').forEach(each => { each.open = true })"
TOO_SMALL = """() => {
  const found = []
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT)
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const text = node.textContent.trim(), parent = node.parentElement
    if (!text || parent.closest("script, style, .unspoken")) continue
    const box = parent.getBoundingClientRect()
    if (!box.width) continue
    const svg = parent.closest("svg[viewBox]")
    const scale = svg ? svg.getBoundingClientRect().width / svg.viewBox.baseVal.width : 1
    const size = parseFloat(getComputedStyle(parent).fontSize) * scale
    if (size < 11) found.push(`${text.slice(0, 20)}: ${size}`)
  }
  return found
}"""
BROKEN_WORDS = """() => {
  const found = []
  for (const head of document.querySelectorAll("th")) {
    const walker = document.createTreeWalker(head, NodeFilter.SHOW_TEXT)
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
      for (const word of node.textContent.matchAll(/[^\\s-]+/g)) {
        if (word[0].length > 20) continue
        const range = document.createRange()
        range.setStart(node, word.index)
        range.setEnd(node, word.index + word[0].length)
        if (new Set([...range.getClientRects()].map(box => Math.round(box.top))).size > 1) found.push(word[0])
      }
    }
  }
  return found
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = launch(playwright)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a session, a bank, a verdict, several seeds, a map and an audit."""
    scores = make_scores()
    bench = {key: make_bench()[key] for key in ("verdict", "leakage", "leakage_checked")}
    whole = {**make_results(make_rows(scores)), **bench, "seeds_summary": make_seeds()}
    whole["plane"] = {"shares": [0.2, 0.1], "classes": [[0, 0.1]], "antibodies": [[0.2, 0]], "kinds": ["look_alike"]}
    whole["plane"] |= {"known": [[0.1, 0.1]], "outliers": {"near": [[0.2, 0.2]]}}
    return render_report(write_folder(tmp_path_factory.mktemp("run"), whole, scores))


@pytest.fixture
def page(browser: Browser, report: Path) -> Iterator[Page]:
    found = open_page(browser, report, viewport=DESK)
    yield found.page
    found.page.context.close()


def height(page: Page) -> int:
    found: int = page.evaluate("document.documentElement.scrollHeight")
    return found


def test_it_is_short_while_it_is_folded(page: Page) -> None:
    assert height(page) <= 9 * DESK["height"]
    page.set_viewport_size(PHONE)  # type: ignore[arg-type]
    assert height(page) <= 16 * PHONE["height"]
    assert overflow(page) == 0


def test_no_text_is_too_small_and_no_header_breaks_within_a_word(page: Page) -> None:
    page.evaluate(OPEN)
    for size in (DESK, PHONE):
        page.set_viewport_size(size)  # type: ignore[arg-type]
        assert page.evaluate(TOO_SMALL) == []
        assert page.evaluate(BROKEN_WORDS) == []
        assert overflow(page) == 0


@pytest.mark.long
@pytest.mark.parametrize(("scheme", "size"), [("light", DESK), ("dark", PHONE)])
def test_axe_finds_nothing(page: Page, scheme: Literal["light", "dark"], size: Any) -> None:
    page.set_viewport_size(size)
    page.emulate_media(color_scheme=scheme)
    page.evaluate(OPEN)
    found = Axe().run(page).response["violations"]
    assert [(one["id"], [node["html"][:200] for node in one["nodes"][:3]]) for one in found] == []


def test_the_keyboard_reaches_whatever_can_be_opened_or_scrolled(page: Page) -> None:
    page.evaluate(OPEN)
    # What scrolls is in the order of Tab like what can be clicked.
    wanted = page.evaluate(
        "document.querySelectorAll('a[href], summary, button, input, [tabindex]:not([tabindex=\"-1\"])').length"
    )
    scrolls = "box => box.scrollWidth > box.clientWidth + 1 && getComputedStyle(box).overflowX === 'auto'"
    assert page.evaluate(f"[...document.querySelectorAll('main *')].filter({scrolls}).every(box => box.tabIndex === 0)")
    page.evaluate(
        "window.reached = new Set(); addEventListener('focusin', event => { window.reached.add(event.target) })"
    )
    for _ in range(wanted):
        page.keyboard.press("Tab")
    visible = page.evaluate("""[...document.querySelectorAll('a[href], summary, button, input, [tabindex="0"]')]
      .filter(each => each.getClientRects().length).length""")
    assert page.evaluate("window.reached.size") >= visible
    page.locator("#all-methods > summary").press("Enter")
    assert not page.locator("#all-methods table").is_visible()


def named(value: Any, old: str, new: str) -> Any:
    """The value with a text in the place of another, in keys too."""
    if isinstance(value, dict):
        return {key.replace(old, new): named(one, old, new) for key, one in value.items()}
    if isinstance(value, list):
        return [named(one, old, new) for one in value]
    return value.replace(old, new) if isinstance(value, str) else value


def cases() -> dict[str, dict[str, Any]]:
    """Runs that are unlike most."""
    rows = make_rows(make_scores())
    usual = make_results(rows)
    of_near = [row for row in rows if row["ood"] == "near"]
    many = [row | {"ood": f"outlier_set_{k}", "n_ood": 10} for k in range(40) for row in of_near]
    embeddings = [one | {"image": f"/gone/sun.npz::{k}"} for k, one in enumerate(usual["gallery"])]
    return {
        "no bank": usual | {"rows": [row for row in rows if not row["antibodies"]], "antibodies": [], "gallery": []},
        "one set": usual | {"rows": of_near},
        "40 sets": usual | {"rows": many, "gallery": []},
        "long names": named(usual, "near", LONG) | {"before": BEFORE, "after": AFTER},
        "embeddings": usual | {"gallery": embeddings},
    }


@pytest.mark.parametrize("case", ["no bank", "one set", "40 sets", "long names", "embeddings"])
def test_unlike_runs_fit_the_screen(browser: Browser, tmp_path: Path, case: str) -> None:
    found = cases()[case]
    folder = write_folder(tmp_path, found | {"gallery": []}, make_scores() if case != "40 sets" else None)
    (folder / "results.json").write_text(json.dumps(found), encoding="utf-8")
    opened = open_page(browser, render_report(folder), viewport=PHONE)
    assert opened.complaints == []
    page = opened.page
    for size in (PHONE, DESK):
        page.set_viewport_size(size)  # type: ignore[arg-type]
        assert overflow(page) == 0
    page.evaluate(OPEN)
    assert overflow(page) == 0
    words = page.locator("main").inner_text()
    if case == "no bank":
        assert "No bank was given" in page.locator("#summary").inner_text()
        assert "With 0" not in words
    if case == "40 sets":
        assert page.locator("#results .results").first.locator("thead tr").last.locator("th").count() <= 6
    if case == "one set":
        assert page.locator("#roc .panel").count() == 2  # the scores stand beside the curves
    if case == "embeddings":
        assert "no picture" not in words
        assert page.locator("#caught .picture").count() == 0
    page.context.close()
