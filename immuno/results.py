"""The results of a benchmark, as Python and the commands hand them out."""

from __future__ import annotations

from pathlib import Path

from evaluation import benchmark, report


class Results(benchmark.Results):
    """Results that can draw their own report: `Results.read("runs/x").report()`."""

    def report(self) -> Path:
        """Draw `report.html` in their folder, and return its path. Raises SetupError where it cannot be written."""
        return report.render_report(self.folder)
