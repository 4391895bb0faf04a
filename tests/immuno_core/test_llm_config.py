"""The section [llm_server] of a configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from immuno_core.errors import SetupError
from tests.configs import make_config

LLM = "openai:tiny"
REFINE: dict[str, Any] = {"refine": {"llm": LLM}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"refine": {}, "llm_server": {}}, "serves what refine.llm asks for, and that is 'lexicon'; write it as"),
        ({"refine": {"llm": LLM, "base_url": "http://x/v1"}, "llm_server": {}}, "refine.base_url or [llm_server], not"),
        ({"llm_server": {"base_url": "x:8000"}}, "base_url = 'x:8000': that is not the address of a server"),
        ({"llm_server": {"base_url": "http://x/v1", "gpus": 2, "args": []}}, "runs already; leave out args, gpus"),
        ({"llm_server": {"gpus": 0.5}}, "llm_server.gpus = 0.5"),
        ({"llm_server": {"modle": "x"}}, "unknown key 'llm_server.modle'; did you mean 'model'?"),
        ({"llm_server": {"command": []}}, "llm_server.command"),
    ],
)  # fmt: skip
def test_a_section_that_cannot_be_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SetupError) as told:
        make_config(**REFINE | changes)
    assert message in str(told.value)


def test_paths_of_the_section_are_relative_to_the_file(tmp_path: Path) -> None:
    section = {"model": "./models/tiny", "python": "venv/bin/python", "log": "x.log"}
    config = make_config(tmp_path, **REFINE, llm_server=section).llm_server
    assert config is not None
    assert config.model == str(tmp_path / "models" / "tiny")
    assert (config.python, config.log) == (tmp_path / "venv/bin/python", tmp_path / "x.log")
    hub = make_config(tmp_path, **REFINE, llm_server={"model": "org/x"}).llm_server
    assert hub is not None
    assert hub.model == "org/x"
