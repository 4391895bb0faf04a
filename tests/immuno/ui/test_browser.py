"""All pages in a real browser, light and dark, on a desk and on a phone."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from db import AntibodyStore
from immuno.ui.app import make_app
from tests.evaluation.report.report_browser import BROWSER_MARKS, launch, overflow

from .conftest import Record, addresses

pytestmark = BROWSER_MARKS


@pytest.fixture
def address(store: AntibodyStore) -> Iterator[str]:
    import uvicorn

    with socket.create_server(("127.0.0.1", 0)) as listening:
        app = make_app(store, hosts={"127.0.0.1"})
        server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_config=None, http="h11", ws="none"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        thread.join()


@pytest.mark.long
def test_every_page_can_be_used_by_everybody(address: str, record: Record) -> None:
    from axe_playwright_python.sync_playwright import Axe
    from playwright.sync_api import Request, sync_playwright

    faults: list[str] = []

    def asked(request: Request) -> None:
        if not request.url.startswith((address, "data:")):
            faults.append(request.url)

    with sync_playwright() as playwright:
        browser = launch(playwright)
        looks = (("light", 1280), ("dark", 390))
        pages = [browser.new_page(color_scheme=s, viewport={"width": w, "height": 900}) for s, w in looks]  # type: ignore[arg-type]
        for page in pages:
            page.on("pageerror", lambda error: faults.append(str(error)))
            page.on("dialog", lambda dialog: faults.append(f"a script ran: {dialog.message}"))
            page.on("request", asked)
        for name, path in addresses(record).items():
            for page in pages:
                page.goto(address + path, wait_until="load")
                found = Axe().run(page).response["violations"]
                faults += [f"{name}: {one['id']} {one['nodes'][0]['html'][:200]}" for one in found]
                page.set_viewport_size({"width": 390, "height": 900})
                if (beyond := overflow(page)) > 0:
                    faults.append(f"{name}: {beyond} px too wide at 390")
                page.set_viewport_size({"width": 1280 if page is pages[0] else 390, "height": 900})
        page = pages[0]
        page.goto(address + addresses(record)["antibodies"])
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "To the content"
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "content"
        for _ in range(40):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.getAttribute('href')") == f"/antibody/{record.antibody.id}":
                break
        page.keyboard.press("Enter")
        page.wait_for_url(f"**/antibody/{record.antibody.id}")
        page.goto(f"{address}/search?q=a+fox&session={record.session.id}")
        page.wait_for_selector("tbody tr")  # the page asks again by itself while the encoder is being loaded
        browser.close()
    assert not faults


@pytest.mark.long
def test_a_page_of_what_runs_renews_itself(address: str, record: Record) -> None:
    """The session of the record is running: what is new comes without a reload."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = launch(playwright)
        page = browser.new_page()
        page.goto(address)
        page.evaluate("document.querySelector('main h1').textContent = 'old'")
        page.wait_for_selector("h1:has-text('Sessions')", timeout=20_000)
        browser.close()
