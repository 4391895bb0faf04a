"""`import immuno`: what it offers, and that it loads nothing before it is asked."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import immuno

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {"torch", "ray", "langchain", "langchain_core", "sqlalchemy", "numpy", "click", "immuno_core"}


@pytest.mark.parametrize(
    ("code", "loaded"),
    [
        ("immuno.__name__", set()),
        ("immuno.make_score, immuno.register_score, immuno.evaluate, immuno.Bank", {"numpy", "immuno_core"}),
        ("immuno.read_config, immuno.Lab, immuno.open_store, immuno.read_results", {"numpy", "immuno_core"}),
    ],
)
def test_it_loads_no_more_than_is_asked_for(code: str, loaded: set[str]) -> None:
    program = f"import sys, immuno; {code}; print(*sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == loaded


def test_everything_that_it_names_is_there() -> None:
    names = [name for name in dir(immuno) if not name.startswith("_")]
    assert {"make_score", "register_score", "evaluate", "read_config", "Lab", "read_results", "open_store"} < {*names}
    for name in [*names, "Bank", "__version__"]:
        assert getattr(immuno, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'benchmark'"):
        _ = immuno.benchmark  # type: ignore[attr-defined]
