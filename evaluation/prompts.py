"""Prompts: what is said to the encoder of a class or an antibody."""

from __future__ import annotations

from collections.abc import Sequence

from immuno.errors import SetupError


def fill_template(template: str, texts: Sequence[str]) -> list[str]:
    """Return the prompts: the template with each text in place of its `{}`.

    Other braces stay as they are, in the template and in the texts. Raises SetupError for a template without `{}`.
    """
    if "{}" not in template:
        raise SetupError(f"the template '{template}' has no {{}} where the text goes; write e.g. 'a photo of a {{}}.'")
    return [template.replace("{}", text) for text in texts]
