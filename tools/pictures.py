"""README's pictures: the top of a report in light and dark, as the browser shows it.

python -m tools.pictures runs/demo/report.html      writes docs/img/report-light.png and docs/img/report-dark.png
"""

from __future__ import annotations

import sys
from io import BytesIO
from pathlib import Path

import click
from PIL import Image

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "img"
_WIDTH, _HEIGHT = 1100, 1080
_COLOURS = 64
"""Enough for a page of few colours; a third of the size."""


@click.command()
@click.argument("report", type=click.Path(path_type=Path, exists=True))
@click.option("--chromium", default="/usr/bin/chromium", show_default=True, help="The browser.")
@click.option("--height", default=_HEIGHT, show_default=True, help="Of the picture, in pixels.")
def main(report: Path, chromium: str, height: int) -> None:
    """Take the pictures of REPORT."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for scheme in ("light", "dark"):
            page = browser.new_page(viewport={"width": _WIDTH, "height": height}, color_scheme=scheme)
            page.goto(report.resolve().as_uri())
            taken = Image.open(BytesIO(page.screenshot())).convert("RGB").quantize(_COLOURS)
            path = FOLDER / f"report-{scheme}.png"
            taken.save(path, optimize=True)
            click.echo(f"{path}: {path.stat().st_size:,} bytes")
        browser.close()


if __name__ == "__main__":
    sys.exit(main())
