"""Mining keeps the words that are far from every class, in one order, without ever holding the whole matrix."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from evaluation.antibodies import mining
from evaluation.antibodies.mining import CSP_ADJECTIVE_TEMPLATES, CSP_TEMPLATES, SUPERCLASSES, ensemble, mine
from immuno_core import arrays as blocks
from immuno_core.errors import SetupError
from immuno_core.features import FloatArray
from immuno_core.records import EncoderInfo
from tests.evaluation.synthetic import unit, unit_rows


def as_neglabel_does(candidates: FloatArray, texts: FloatArray, quantile: float, keep: float) -> list[int]:
    """With torch, candidate by candidate."""
    nearness = [
        float(torch.quantile(torch.from_numpy(texts.astype(np.float64) @ word.astype(np.float64)), quantile))
        for word in candidates
    ]
    order = sorted(range(len(nearness)), key=lambda i: (round(nearness[i], 12), i))
    return order[: max(1, int(len(candidates) * keep + 1e-9))] if len(candidates) and keep else []


@given(
    st.integers(0, 10**6),
    st.sampled_from([0, 1, 2, 37, 200]),
    st.integers(1, 30),
    st.sampled_from([0.0, 0.5, 0.95, 1.0]),
    st.sampled_from([0.0, 0.15, 0.29, 1.0]),
)
def test_mining_is_that_of_neglabel(seed: int, words: int, classes: int, quantile: float, keep: float) -> None:
    rng = np.random.default_rng(seed)
    candidates, texts = unit_rows(rng, words, 6), unit_rows(rng, classes, 6)
    found = mine(candidates, texts, quantile=quantile, keep=keep)
    assert found.dtype == np.int64
    assert found.tolist() == as_neglabel_does(candidates, texts, quantile, keep)


def test_a_word_near_one_class_of_many_is_kept_and_one_near_all_is_not() -> None:
    texts = np.eye(30, dtype=np.float32)
    near_one, near_all = texts[0], unit(np.ones(30))
    assert mine(np.stack([near_all, near_one]), texts, keep=0.5).tolist() == [1]
    assert mine(np.stack([near_all, near_one]), texts, keep=0.5, quantile=1.0).tolist() == [0]


def test_equal_words_keep_their_order_however_the_work_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    texts, few = unit_rows(rng, 50, 16), unit_rows(rng, 7, 16)
    candidates = np.concatenate([few] * 40)
    whole = mine(candidates, texts, keep=0.5)
    assert all((np.diff(whole[i : i + 40]) > 0).all() for i in range(0, 140, 40))
    for size in (60, 1000, 10_000):
        monkeypatch.setattr(blocks, "MOST_ELEMENTS", size)
        assert mine(candidates, texts, keep=0.5).tolist() == whole.tolist()


def test_never_more_than_a_block_of_cosines_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = []
    quantile = np.quantile

    def seen(cosines: NDArray[np.float64], *args: object, **options: object) -> object:
        shapes.append(cosines.shape)
        return quantile(cosines, *args, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(mining.np, "quantile", seen)
    rng = np.random.default_rng(0)
    assert len(mine(unit_rows(rng, 20_000, 8), unit_rows(rng, 1000, 8))) == 3000
    assert sum(rows for rows, _ in shapes) == 20_000
    assert all(3 * rows * classes <= blocks.MOST_ELEMENTS for rows, classes in shapes)


def test_wrong_input_is_refused() -> None:
    words = unit_rows(np.random.default_rng(0), 4, 8)
    with pytest.raises(SetupError, match="words to mine: vectors of 8 dimensions"):
        mine(words, words[:, :5] / np.linalg.norm(words[:, :5], axis=1, keepdims=True))
    with pytest.raises(SetupError, match="unit norm"):
        mine(words * 2, words)
    with pytest.raises(SetupError, match="no class"):
        mine(words, words[:0])
    with pytest.raises(SetupError, match=r"keep = 15: a share from 0 to 1"):
        mine(words, words, keep=15)
    with pytest.raises(SetupError, match=r"quantile = 95"):
        mine(words, words, quantile=95)


class Embedder:
    """A direction for each text; remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    @property
    def encoder(self) -> EncoderInfo:
        raise NotImplementedError

    def embed_texts(self, texts: Sequence[str]) -> FloatArray:
        self.asked += texts
        return unit(np.array([np.random.default_rng(list(text.encode())).standard_normal(5) for text in texts]))


def test_an_ensemble_is_the_normalised_mean_of_unit_embeddings() -> None:
    embedder = Embedder()
    found = ensemble(embedder, CSP_TEMPLATES, ["cat", "dog"])
    for row, name in zip(found, ("cat", "dog"), strict=True):
        mean = np.mean([embedder.embed_texts([t.replace("{}", name)])[0].astype(float) for t in CSP_TEMPLATES], axis=0)
        np.testing.assert_allclose(row, mean / np.linalg.norm(mean), atol=1e-7)
    assert found.dtype == np.float32
    assert embedder.asked[2:4] == ["the cat", "the dog"]


def test_an_ensemble_of_one_is_the_embedding_itself() -> None:
    names = ["cat", "dog"]
    found = ensemble(Embedder(), ["a photo of a {}."], names)
    np.testing.assert_array_equal(found, Embedder().embed_texts([f"a photo of a {name}." for name in names]))


def test_an_ensemble_needs_templates_and_embeddings_that_do_not_cancel() -> None:
    class Opposites(Embedder):
        def embed_texts(self, texts: Sequence[str]) -> FloatArray:
            return np.array([[1.0, 0.0] if text.startswith("a") else [-1.0, 0.0] for text in texts], dtype=np.float32)

    with pytest.raises(SetupError, match="at least one template"):
        ensemble(Embedder(), [], ["cat"])
    with pytest.raises(SetupError, match=r"template 'a cat' has no \{\}"):
        ensemble(Embedder(), ["a cat"], ["cat"])
    with pytest.raises(SetupError, match="embeddings of 'cat' in 2 templates cancel out"):
        ensemble(Opposites(), ["a {}", "the {}"], ["cat"])


def test_csp_has_eight_templates_and_fourteen_superclasses() -> None:
    assert (len(set(CSP_TEMPLATES)), len(set(SUPERCLASSES)), len(set(CSP_ADJECTIVE_TEMPLATES))) == (8, 14, 4)
    assert all(template.count("{}") == 1 for template in CSP_TEMPLATES + CSP_ADJECTIVE_TEMPLATES)
