"""The documentation as a site: make docs. Pages are Markdown as GitHub shows it; what is built asks no other server."""

from __future__ import annotations

import re
from typing import Any

from pygments.lexers.special import TextLexer
from sphinx.application import Sphinx

from immuno_core import __version__

project = "immuno-vlm"
version = release = __version__
copyright = "the authors of immuno-vlm; Apache-2.0"  # noqa: A001 - Sphinx calls it so
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx_click", "sphinx_copybutton"]
exclude_patterns = ["_build"]
html_theme = "pydata_sphinx_theme"
html_title = "immuno-vlm"
html_static_path = ["_static"]
html_css_files = ["immuno.css"]
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "footer_start": ["copyright"],
    "footer_end": [],
    "navbar_align": "left",
    "navbar_center": [],
    "secondary_sidebar_items": ["page-toc"],
}
templates_path = ["_templates"]
html_sidebars = {"**": ["pages.html"]}  # all pages, on each of them
# What a reader copies is the command.
copybutton_prompt_text = r"(?:\w*)\$ "
copybutton_prompt_is_regexp = True

myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]
nb_execution_mode = "off"  # the notebooks are kept as they came out; tests/e2e runs them

nitpicky = True
_ALIASES = ("ArrayLike", "PathLike", "FloatArray", "Floats", "IntArray")
_BEHIND = (
    *_ALIASES,
    "AntibodyStore",
    "ExitStack",
    "FeatureSet",
    "Feedback",
    "RefineOutcome",
    "Results",
    "RunConfig",
    "Workplace",
)
# What annotations name and the reference does not hold: types of other packages, and of the rooms behind the API.
nitpick_ignore_regex = [
    ("py:.*", r"(numpy|collections|os|pathlib|typing|pydantic|pandas)\..*"),
    ("py:.*", r"(agents|cluster|db|evaluation|immuno\.results|immuno\.workplace|immuno_core)\..*"),
    ("py:class", "|".join(_BEHIND)),
]
autodoc_typehints = "signature"
autodoc_type_aliases = {name: name for name in _ALIASES}
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "undoc-members": False}


_EMPTY_HEAD = re.compile(r"<th[^>]*>\s*(?:<p></p>)?\s*</th>")
_FORWARD = re.compile(r"TypeAliasForwardRef\('(\w+)'\)")


def setup(app: Sphinx) -> None:
    """Show diagrams that GitHub draws as their text."""
    app.add_lexer("mermaid", TextLexer)
    app.connect("autodoc-process-signature", _plain)
    app.connect("html-page-context", _heads)


def _heads(*given: Any) -> None:
    """Have tables without a head over a column say so to who cannot see it: an empty head is no head."""
    context: dict[str, Any] = given[3]
    if "body" in context:
        context["body"] = _EMPTY_HEAD.sub("<td></td>", context["body"])


def _plain(*given: Any) -> tuple[str | None, str | None]:
    """Return a signature with the names of aliases in place of what stands for them in a union."""
    signature, returned = ((text and _FORWARD.sub(r"\1", text)) for text in given[-2:])
    return signature, returned
