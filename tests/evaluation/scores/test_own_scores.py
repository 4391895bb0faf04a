"""Scores of users: registered, named by module or entry point; checked, told apart by their source."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest
from pydantic import Field

from evaluation.scores import FittedScore, Score, configured_score, make_score, register_score, registry, score_class
from evaluation.scores import own as own_scores
from evaluation.scores.own import is_own, source_digest
from evaluation.space import Space
from immuno_core.config.methods import MethodConfig
from immuno_core.errors import SetupError
from tests.evaluation.synthetic import make_space, outliers

GAP = """
import numpy as np
from evaluation.scores import Score
from gap_helper import FACTOR

class TopGap(Score):
    scale: float = 1.0
    def fit(self, space):
        texts = space.texts.astype(np.float64).T
        return self.fitted(space, lambda images: FACTOR * self.scale * (images @ texts).max(axis=1))
"""


@pytest.fixture(autouse=True)
def forgotten(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test registers and imports is gone after it."""
    monkeypatch.setattr(registry, "_REGISTERED", {})
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = set(sys.modules)
    yield
    for name in {*sys.modules} - before:
        if name.startswith("gap_"):
            del sys.modules[name]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "gap_score.py").write_text(GAP)
    (tmp_path / "gap_helper.py").write_text("FACTOR = 2.0\n")
    return tmp_path


def test_a_registered_class_is_a_score_like_any_other() -> None:
    @register_score
    class Nearest(Score):
        name = "nearest"
        power: Annotated[float, Field(gt=0)] = 1.0

        def fit(self, space: Space) -> FittedScore:
            texts = space.texts.astype(np.float64).T
            return self.fitted(space, lambda images: (images @ texts).max(axis=1) ** self.power)

    space = make_space(0)
    x = outliers(space, 0, 9).features
    assert make_score("nearest").fit(space).score(x).tolist() == make_score("max_logit").fit(space).score(x).tolist()
    assert make_score("nearest", power=2).params == {"power": 2.0}
    assert is_own(score_class("nearest"))
    assert not is_own(score_class("mcm"))
    assert source_digest(score_class("mcm")) == ""
    for params, said in (
        ({"power": -1.0}, r"power = -1.0: .*greater than 0"),
        ({"pwer": 1.0}, "no parameter 'pwer'; did you mean 'power'"),
        ({"power": "2"}, "power = '2'"),
    ):
        with pytest.raises(SetupError, match=said):
            make_score("nearest", **params)
    with pytest.raises(SetupError, match="no score 'neerest'; did you mean 'nearest'"):
        make_score("neerest")


def test_what_is_no_score_is_refused() -> None:
    class Mcm(Score):
        name = "mcm"

        def fit(self, space: Space) -> FittedScore:
            raise NotImplementedError

    @dataclass
    class Thawed(Score):
        def fit(self, space: Space) -> FittedScore:
            raise NotImplementedError

    class Unfit(Score):
        pass

    with pytest.raises(SetupError, match="built-in score 'mcm'"):
        register_score(Mcm)
    with pytest.raises(SetupError, match="derive its class from"):
        register_score(int)  # type: ignore[type-var]
    with pytest.raises(SetupError, match="Thawed"):
        register_score(Thawed)
    register_score(Unfit)
    with pytest.raises(SetupError, match=r"'Unfit' cannot be made: TypeError: .*abstract"):
        make_score("Unfit")


def test_a_score_is_named_by_its_module(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    method = MethodConfig(name="gap_score:TopGap", folder=folder, scale=3.0)
    space = make_space(0)
    x = outliers(space, 0, 9).features
    plain = make_score("max_logit").fit(space).score(x)
    np.testing.assert_allclose(configured_score(method).fit(space).score(x), 6 * plain)
    assert score_class(method.name, folder) is score_class(method.name, folder)
    assert configured_score(method).name == "TopGap"
    # Without the folder it is found on Python's path.
    assert score_class("gap_score:TopGap") is score_class(method.name, folder)
    for name, said in (
        ("gap_score:TopGpa", "no 'TopGpa' in the module 'gap_score'; did you mean 'TopGap'"),
        ("gap_scores:TopGap", "no module 'gap_scores' in .* or on Python's path"),
        ("json:TopGap", "no 'TopGap' in the module 'json'"),
    ):
        with pytest.raises(SetupError, match=said):
            score_class(name, folder)
    for text, said in (("import gap_missing", "no module named 'gap_missing'"), ("1 / 0", "ZeroDivisionError")):
        (folder / "gap_broken.py").write_text(text)
        with pytest.raises(SetupError, match=f"'gap_broken:X' cannot be loaded: {said}|{said}"):
            score_class("gap_broken:X", folder)
    (folder / "json.py").write_text(GAP)
    with pytest.raises(SetupError, match=r"the module 'json' of .* has the name of another"):
        score_class("json:TopGap", folder)


def test_the_source_of_a_score_is_known_with_what_lies_beside_it(folder: Path) -> None:
    def digest() -> str:
        for name in [name for name in sys.modules if name.startswith("gap_")]:
            del sys.modules[name]
        return source_digest(score_class("gap_score:TopGap", folder))

    first = digest()
    assert first == digest()
    (folder / "gap_unused.py").write_text("x = 1\n")
    assert first == digest()
    (folder / "gap_helper.py").write_text("FACTOR = 4.0\n")
    second = digest()
    assert second != first
    (folder / "gap_score.py").write_text(GAP + "# another\n")
    assert digest() not in (first, second)


def test_a_module_that_was_edited_is_run_anew(folder: Path) -> None:
    space = make_space(0)
    x = outliers(space, 0, 3).features

    def scores() -> list[float]:
        return list(score_class("gap_score:TopGap", folder)().fit(space).score(x))

    first = scores()
    (folder / "gap_score.py").write_text(GAP.replace("FACTOR *", "-FACTOR *"))
    assert scores() == [-value for value in first]


def test_what_is_in_no_file_is_new_each_time() -> None:
    code = "class Typed(Score):\n    def fit(self, space):\n        return self.fitted(space, lambda x: x[:, 0])\n"
    names: dict[str, Any] = {"Score": Score, "__name__": "typed_in"}
    exec(code, names)  # noqa: S102 - as a notebook does
    kind = register_score(names["Typed"])
    assert source_digest(kind) != source_digest(kind)


def test_a_class_that_type_made_is_in_no_file() -> None:
    kind = register_score(type("Made", (Score,), {"fit": lambda self, space: self.fitted(space, lambda x: x[:, 0])}))
    assert kind.__module__ == "abc"  # Python's own: whose files would be read, and tell nothing
    assert source_digest(kind) != source_digest(kind)


def test_entry_points_are_scores(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = folder / "gap_scores-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: gap-scores\nVersion: 1.2\n")
    points = "top_gap = gap_score:TopGap\nbroken = gap_score:Nothing\nmcm = gap_score:TopGap\n"
    (info / "entry_points.txt").write_text(f"[{own_scores.GROUP}]\n{points}")
    monkeypatch.syspath_prepend(folder)
    assert metadata.version("gap-scores") == "1.2"
    score = make_score("top_gap", scale=2.0)
    assert score.params == {"scale": 2.0}
    assert is_own(type(score))
    assert not is_own(score_class("mcm"))
    with pytest.raises(SetupError, match=r"'broken' of gap-scores 1\.2 cannot be loaded"):
        make_score("broken")
    with pytest.raises(SetupError, match="did you mean 'top_gap'"):
        make_score("topgap")
