"""The service's pages in a real browser: a person drops an image and sees the verdict, and nothing hostile runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

from evaluation.shield.verdicts import FiredAntibody, ShieldVerdict
from immuno.shield.shield import Shield
from tests.evaluation.report.report_browser import BROWSER_MARKS, launch, overflow
from tests.immuno.shield.conftest import Made
from tests.immuno.shield.serving import TOKEN, Running, pictures, running

pytestmark = BROWSER_MARKS
HOSTILE = "<img src=x onerror=document.title='run'>"


class Hostile:
    """A shield whose every text is hostile."""

    def __init__(self, shield: Shield) -> None:
        self.shield = shield

    def __getattr__(self, name: str) -> Any:
        return getattr(self.shield, name)

    def judged(self, *given: Any) -> Any:
        said, judged = self.shield.judged(*given)
        fired = FiredAntibody("1", HOSTILE, "look_alike", "", 0.5, 0.5, 0.1)
        changed: list[ShieldVerdict] = [
            one
            if one.outcome == "failed"
            else replace(
                one, outcome="rejected", label=HOSTILE, reason=f"the antibody '{HOSTILE}' fires", antibody=fired
            )
            for one in said
        ]
        return changed, judged


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = launch(playwright)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def service(made: Made) -> Iterator[Running]:
    with running(lambda: Hostile(Shield.load(made.shield)), token=TOKEN) as found:  # type: ignore[arg-type, return-value]
        yield found


def opened(browser: Browser, url: str, **context: Any) -> tuple[Page, list[str]]:
    page = browser.new_context(**context).new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on(
        "request",
        lambda request: complaints.extend([] if request.url.startswith((url, "blob:", "data:")) else [request.url]),
    )
    page.goto(url, wait_until="load")
    return page, complaints


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_a_person_sees_the_verdict(made: Made, service: Running, browser: Browser, scheme: Any, width: int) -> None:
    image = pictures(made.images / "sealed")[0]
    page, complaints = opened(browser, service.url, color_scheme=scheme, viewport={"width": width, "height": 900})
    page.get_by_label("Token").fill(TOKEN)
    files: list[Any] = [
        {"name": f"{HOSTILE}.png", "mimeType": "image/png", "buffer": image},
        {"name": "torn.png", "mimeType": "image/png", "buffer": image[:200]},
    ]
    page.locator("#files").set_input_files(files)
    page.get_by_text("2 judged").wait_for()
    rejected, failed = page.locator("li.rejected"), page.locator("li.failed")
    assert rejected.locator(".name").inner_text() == f"{HOSTILE}.png"
    assert rejected.locator(".label").inner_text() == f"nearest: {HOSTILE}"
    assert HOSTILE in rejected.locator(".reason").inner_text()
    assert "of known images" in rejected.locator(".typicality").inner_text()
    assert failed.locator(".outcome").inner_text() == "Cannot be read"
    assert not failed.locator(".typicality").is_visible()
    assert "run" not in page.title()
    assert overflow(page) <= 0
    assert Axe().run(page).response["violations"] == []
    assert [text for text in complaints if "blob:" not in text] == []
    page.get_by_label("Token").fill("wrong")
    page.locator("#files").set_input_files(files[:1])
    page.get_by_text("Not judged: the token is missing or wrong").wait_for()
    page.goto(f"{service.url}/docs")
    assert page.get_by_role("heading", name="POST /judge").is_visible()
    assert overflow(page) <= 0
    assert Axe().run(page).response["violations"] == []
    page.context.close()


def test_a_page_of_somebody_else_gets_nothing(made: Made, browser: Browser, tmp_path: Path) -> None:
    with running(lambda: Shield.load(made.shield)) as service:
        page, _ = opened(browser, f"{service.url}/docs")
        (tmp_path / "evil.html").write_text("<title>x</title>")
        page.goto((tmp_path / "evil.html").as_uri())
        asked = f"fetch('{service.url}/judge', {{method: 'POST', mode: 'no-cors', body: new FormData()}}).then(() => 1)"
        page.evaluate(asked)
        page.context.close()
        assert service.number('immuno_requests_total{path="/judge",status="403"}') == 1
