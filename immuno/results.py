"""The results of a benchmark, as Python and the commands hand them out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from evaluation import benchmark, report


class Results(benchmark.Results):
    """Results that can draw their own report: `Results.read("runs/x").report()`."""

    @property
    def page(self) -> Path:
        """Where their report is."""
        return self.folder / "report.html"

    def report(self) -> Path:
        """Draw the report in their folder, and return its path. Raises SetupError where it cannot be written."""
        return report.render_report(self.folder)

    def plot(
        self, out: str | Path | None = None, forms: Sequence[Literal["png", "svg", "pdf"]] = ("png", "svg", "pdf")
    ) -> dict[str, tuple[Path, ...]]:
        """Draw their figures as files into `out` (default: `plots` in their folder), and return the files by figure.

        Raises SetupError where there is nothing to draw, and where a file cannot be written.
        """
        return report.write_plots(self.folder, Path(out) if out is not None else None, forms)

    def table(self, form: Literal["latex", "markdown"] = "markdown") -> str:
        """Return every method with its figures as a table for a paper."""
        return report.paper_table(self, form)
