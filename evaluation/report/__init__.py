"""The report: one self-contained HTML page, a pure function of a results folder."""

from evaluation.report.page import render_report

__all__ = ["render_report"]
