"""The documentation as a site: built without a warning, it asks no other server and keeps nobody out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.pages import PAGES, ROOT

pytestmark = [pytest.mark.long, pytest.mark.browser]
_MADE = ("notebooks/own-embeddings", "notebooks/a-session", "notebooks/the-record", "search", "genindex")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    built = tmp_path_factory.mktemp("site") / "html"
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-n", "-b", "html", "docs", str(built)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return built


def test_every_page_is_there_and_fits_and_can_be_used_by_everybody(site: Path) -> None:
    from axe_playwright_python.sync_playwright import Axe
    from playwright.sync_api import sync_playwright

    pages = [page.removeprefix("docs/").removesuffix(".md") for page in PAGES if page.startswith("docs/")]
    asked: list[str] = []
    wrong: list[Any] = []

    def only_files(route: Any) -> None:
        if route.request.url.startswith(("file:", "data:")):
            route.continue_()
        else:
            asked.append(route.request.url)
            route.abort()

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        for scheme, width in (("light", 1280), ("dark", 390)):
            context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)  # type: ignore[arg-type]
            context.route("**/*", only_files)
            page = context.new_page()
            for name in (*pages, *_MADE):
                page.goto((site / f"{name}.html").as_uri())
                wide = page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")
                found = Axe().run(page).response["violations"]
                wrong += [(name, scheme, width, one["id"], one["nodes"][0]["target"]) for one in found]
                wrong += [(name, width, "scrolls sideways")] if wide else []
        browser.close()
    assert (asked, wrong) == ([], [])
