"""The report: one self-contained HTML page, a pure function of a results folder."""

from typing import TYPE_CHECKING

from immuno_core.doors import door

if TYPE_CHECKING:
    from evaluation.report.page import render_report as render_report

__getattr__ = door(__name__, {"render_report": "page"})
