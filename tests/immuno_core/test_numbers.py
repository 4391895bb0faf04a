"""No number of a configuration is taken that what is behind it could not; whatever is wrong is said in one line."""

from __future__ import annotations

import math
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from evaluation.scores.registry import SCORES, make_score
from immuno_core.config.run import RunConfig, parse_config, read_config
from immuno_core.errors import SetupError
from tests.configs import config_text

HUGE = 10**400
WRONG = [math.nan, math.inf, -math.inf, -1, 0, 1e308, -1e308, HUGE, 2**63, True, "", "1", [], {}]


def _numbers(kind: Any, place: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The keys of a section, at any depth, whose value may be a number."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        for name, field in kind.model_fields.items():
            yield from _numbers(field.annotation, (*place, name))
    elif kind in (int, float):
        yield place
    elif typing.get_origin(kind) not in (dict, typing.Literal):
        for inner in typing.get_args(kind):
            yield from _numbers(inner, place)


KEYS = sorted({place for place in _numbers(RunConfig) if place[0] != "methods"})


def test_every_number_is_found() -> None:
    assert {("seed",), ("refine", "timeout"), ("cluster", "num_gpus"), ("refine", "price", "input")} <= set(KEYS)
    assert len(KEYS) > 35


def _with(place: tuple[str, ...], value: Any) -> dict[str, Any]:
    """The least configuration with a value at a place."""
    raw: dict[str, Any] = {
        "encoder": {"model": "miniworld"},
        "classes": {"names": "dataset"},
        "data": {"id": {"builtin": "miniworld"}, "ood": [{"name": "near", "builtin": "miniworld"}]},
        "methods": [{"name": "mcm"}],
    }
    table: Any = raw
    for key in place[:-1]:
        table = table[0] if isinstance(table, list) else table
        table = table.setdefault(key, {} if key != "feedback" else [{"name": "x", "builtin": "miniworld"}])
    table = table[0] if isinstance(table, list) else table
    if place[-2:-1] == ("price",):
        table.update(input=1, output=1)
    if place[-1] == "logit_scale":
        table.update(kind="precomputed", texts="t.npz")
    table[place[-1]] = value
    if place[0] == "llm_server":
        raw["refine"] = {"llm": "openai:x"}
    return raw


def _taken(make: Callable[[], Any], key: str) -> Any:
    """What is made; None where it is refused in one line that names the key."""
    try:
        return make()
    except SetupError as error:
        said = str(error)
    assert key in said
    assert len(said) < 400
    assert said.isprintable()
    return None


@pytest.mark.parametrize("place", KEYS, ids=".".join)
def test_a_number_that_is_none_is_refused_in_one_line(place: tuple[str, ...]) -> None:
    for value in WRONG:
        found = _taken(lambda v=value: parse_config(_with(place, v), origin="x", folder=Path("/x")), place[-1])
        if found is not None:
            for key in place:
                found = getattr(found[0] if isinstance(found, tuple) else found, key)
            assert found == _checked(value)


@pytest.mark.parametrize("name", sorted(SCORES))
def test_a_parameter_of_a_score_that_is_no_number_is_refused_in_one_line(name: str) -> None:
    for key, default in make_score(name).params.items():
        if isinstance(default, int | float) and not isinstance(default, bool):
            for value in [*WRONG, int("f" * 9999, 16)]:
                score = _taken(lambda k=key, v=value: make_score(name, **{k: v}), key)
                assert score is None or score.params[key] == _checked(value)


def _checked(value: Any) -> float:
    """The value, if it is a number that libraries take."""
    assert type(value) in (int, float)
    assert math.isfinite(value)
    assert abs(value) < 2**33
    return float(value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (".".join("a" * 50_000) + " = 1\n", "has a dotted key of more than 60 parts"),
        ("[" + ".".join("a" * 50_000) + "]\n", "has a dotted key of more than 60 parts"),
        ("a" * 100_000 + " = 1\n", "unknown key 'aaaaaaaaaaaaaaaaaaaa"),
        ("x = " + "[" * 5000 + "]" * 5000 + "\n", "is nested too deeply"),
        ("x = " + "{a=" * 5000 + "1" + "}" * 5000 + "\n", "is nested too deeply"),
        ("seed = " + "9" * 10_000 + "\n", "is not valid TOML: Exceeds the limit"),
        ("seed = 0x" + "f" * 10_000 + "\n", "seed = a number of very many digits: "),
        ("seed = 4294967296\n", "seed = 4294967296: "),
        ("seed = '" + "a" * 100_000 + "'\n", "seed = 'aaaaaaaaaaaaaaaaaaaa"),
        ("refine.llm = ''\n", "refine.llm = '': "),
        ("classes.template = '{} and {}'\n", "has more than one {}"),
        ('classes.template = "\\u001b[31m{}"\n', "has a control character"),
        ("antibodies.template = 'none'\n", "has no {}"),
    ],
)
def test_what_would_take_too_long_or_too_deep_is_one_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "x.toml"
    good = config_text() if "classes" not in text else config_text().replace('[classes]\nnames = "dataset"\n', "")
    path.write_text(text + ("classes.names = 'dataset'\n" if "classes" in text else "") + good)
    with pytest.raises(SetupError) as refused:
        read_config(path)
    assert said in str(refused.value)
    assert len(str(refused.value)) < 500
    assert str(refused.value).isprintable()


def test_a_byte_order_mark_is_no_part_of_a_configuration(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text("\ufeff" + config_text(), encoding="utf-8")
    assert read_config(tmp_path / "x.toml").methods
