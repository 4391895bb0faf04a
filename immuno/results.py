"""The results of a benchmark, as Python and the commands hand them out."""

from __future__ import annotations

from pathlib import Path

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
