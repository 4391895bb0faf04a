"""A session of a version whose encoder's digest did not cover the architecture is tried before anybody goes on."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from immuno.workplace import Workplace
from immuno_core.bank import Bank
from immuno_core.config.run import config_as_dict
from immuno_core.features import FloatArray
from immuno_core.records import Antibody, EncoderInfo
from tests.configs import make_config

NOW = EncoderInfo("m", None, 4, 100.0, 32, "fp32", "w" * 64 + "a" * 64, "p")
TEXTS = [f"thing {i}" for i in range(12)]


def embedded(texts: Any) -> FloatArray:
    rows = np.array([np.random.default_rng(len(text) + ord(text[-2])).normal(size=4) for text in texts], np.float32)
    unit: FloatArray = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit


def place(vectors: FloatArray, asked: list[str], generations: int = 1) -> Workplace:
    bank = Bank.of([Antibody(text) for text in TEXTS], vectors)
    record: Any = SimpleNamespace(
        bank=lambda _: bank,
        generations=lambda _: [SimpleNamespace(id="g", number=0, accepted=True)] * generations,
        generation=lambda *_: SimpleNamespace(id="g"),
    )
    embedder: Any = SimpleNamespace(encoder=NOW, embed_texts=lambda texts: (asked.extend(texts), embedded(texts))[1])
    return Workplace(make_config(), lambda: record, embedder)


def session(encoder: EncoderInfo) -> Any:
    config = config_as_dict(make_config(antibodies={"template": "a {}."}))
    return SimpleNamespace(id="s", name="old", encoder=encoder, config=config)


def test_it_is_this_encoder_where_some_of_its_texts_come_out_the_same(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("immuno.workplace.chosen_generation", lambda *_: SimpleNamespace(id="g"))
    vectors, asked = embedded([f"a {text}." for text in TEXTS]), list[str]()
    assert place(vectors, asked).has_encoder_of(session(NOW.older))
    assert asked == [f"a {text}." for text in TEXTS[:8]]
    assert "'old' is of an earlier version" in capsys.readouterr().err
    assert not place(np.roll(vectors, 1, axis=1), asked).has_encoder_of(session(NOW.older))
    assert place(vectors, asked, generations=0).has_encoder_of(session(NOW.older))  # nothing was measured


def test_nothing_is_tried_where_the_digest_says_it(capsys: pytest.CaptureFixture[str]) -> None:
    vectors, asked = embedded(TEXTS), list[str]()
    assert place(vectors, asked).has_encoder_of(session(NOW))
    others = [{"weights_digest": "w" * 64 + "b" * 64}, {"weights_digest": "v" * 64}, {"precision": "bf16"}]
    for other in others:
        assert not place(vectors, asked).has_encoder_of(session(replace(NOW, **other)))  # type: ignore[arg-type]
    assert (asked, capsys.readouterr().err) == ([], "")
