"""The results of a run as a table for a paper: LaTeX (booktabs) or Markdown."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final, Literal

from evaluation.benchmark.results import Results
from evaluation.report.tables import Column, Entry, build_table
from immuno_core.text import printable

Form = Literal["latex", "markdown"]
FORMS: Final[tuple[Form, ...]] = ("latex", "markdown")
_LATEX: Final = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "†": r"$\dagger$",
    "–": "--",
    "↓": r"$\downarrow$",
    "↑": r"$\uparrow$",
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
}
_ABOUT: Final = (
    "FPR95 / AUROC, per cent: outliers accepted where 95 % of the known test images are, and the probability that a "
    "known image scores above an outlier. The best of each column is bold."
)


def paper_table(results: Results, form: Form) -> str:
    """Return every method, by group, with its ID accuracy, means and figures set by set (of many sets: the means)."""
    measured, table = results.measured, build_table(results.measured)
    said, bold = _WAYS[form]
    heads = ["Method", "ID acc.", *(_head(column) for column in table.short)]
    blocks = []
    for group in measured.groups():
        lines = []
        for method in group.methods:
            line = table.lines[method]
            mark = " †" if method in measured.using_feedback else ""
            accuracy = _figure(line.id_accuracy, said, bold if line.best_id_accuracy else None)
            cells = [_cell(line.entries[k], said, bold) for k in table.short_columns]
            lines.append([said(measured.title(method) + mark), accuracy, *cells])
        blocks.append((said(group.title), lines))
    note = _ABOUT + (" † outliers of the feedback had a say." if measured.using_feedback else "")
    draw = _as_latex if form == "latex" else _as_markdown
    return draw([said(head) for head in heads], blocks, said(note))


def _head(column: Column) -> str:
    title = {"mean": f"{'unseen ' if column.unseen else ''}{column.title}", "worst": "worst"}
    return title.get(column.kind, column.title)


def _cell(entry: Entry, said: Callable[[str], str], bold: Callable[[str], str]) -> str:
    fpr95 = _figure(entry.fpr95, said, bold if entry.best_fpr95 else None)
    return f"{fpr95} / {_figure(entry.auroc, said, bold if entry.best_auroc else None)}"


def _figure(share: float | None, said: Callable[[str], str], bold: Callable[[str], str] | None) -> str:
    shown = said("–" if share is None else f"{100 * share:.1f}")
    return bold(shown) if bold else shown


def latex_text(text: str) -> str:
    """A text from outside as LaTeX prints it."""
    return "".join(_LATEX.get(letter, letter) for letter in printable(text))


def markdown_text(text: str) -> str:
    """A text from outside as Markdown shows it, in a cell of a table too."""
    return re.sub(r"([\\`*_{}\[\]<>#|~$])", r"\\\1", printable(text))


_WAYS: Final[dict[Form, tuple[Callable[[str], str], Callable[[str], str]]]] = {
    "latex": (latex_text, lambda text: rf"\textbf{{{text}}}"),
    "markdown": (markdown_text, lambda text: f"**{text}**"),
}


def _as_latex(heads: Sequence[str], blocks: Sequence[tuple[str, list[list[str]]]], note: str) -> str:
    lines = [f"% {note}", "% \\usepackage{booktabs}", rf"\begin{{tabular}}{{l{'r' * (len(heads) - 1)}}}", r"\toprule"]
    lines.append(" & ".join(heads) + r" \\")
    for title, rows in blocks:
        lines += [r"\midrule", rf"\multicolumn{{{len(heads)}}}{{l}}{{\emph{{{title}}}}} \\"]
        lines += [" & ".join(row) + r" \\" for row in rows]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"])


def _as_markdown(heads: Sequence[str], blocks: Sequence[tuple[str, list[list[str]]]], note: str) -> str:
    lines = ["| " + " | ".join(heads) + " |", "|---" + "|---:" * (len(heads) - 1) + "|"]
    for title, rows in blocks:
        lines.append(f"| *{title}* |" + " |" * (len(heads) - 1))
        lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([*lines, "", note])
