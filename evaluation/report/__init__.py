"""The report: one self-contained HTML page, a pure function of a results folder; its figures and its table as files."""

from typing import TYPE_CHECKING

from immuno_core.doors import door

if TYPE_CHECKING:
    from evaluation.report.page import render_report as render_report
    from evaluation.report.papers import paper_table as paper_table
    from evaluation.report.plots import write_plots as write_plots

__getattr__ = door(__name__, {"render_report": "page", "paper_table": "papers", "write_plots": "plots"})
