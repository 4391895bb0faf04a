"""The documentation's notebooks, executed in order in one folder where nothing is, and kept as they come out.

python -m tools.notebooks      writes docs/notebooks/*.ipynb anew
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "notebooks"
ORDER = ("own-embeddings", "a-session", "the-record")
"""The last one reads what the one before it wrote."""
_SECONDS = 600


def executed(name: str, folder: Path, before: str = "") -> nbformat.NotebookNode:
    """Execute a notebook in `folder`, after the statements `before`. Raises CellExecutionError as a cell does."""
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    if before:
        notebook.cells.insert(0, nbformat.v4.new_code_cell(before))
    NotebookClient(notebook, timeout=_SECONDS, resources={"metadata": {"path": str(folder)}}).execute()
    if before:
        del notebook.cells[0]
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # when it was: another time, each time
        if cell.cell_type == "code":  # warnings and notes have paths of this machine in them
            cell.outputs = [one for one in cell.outputs if one.get("name") != "stderr"]
    return notebook


def main() -> None:
    """Execute and keep all of them."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ORDER:
            nbformat.write(executed(name, Path(folder)), FOLDER / f"{name}.ipynb")


if __name__ == "__main__":
    main()
