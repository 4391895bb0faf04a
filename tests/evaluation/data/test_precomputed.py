"""An encoder that is a table: texts are looked up, images bring their embeddings, no model runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from cluster import make_embedder
from evaluation.data.precomputed import PrecomputedEmbedder
from evaluation.data.sources import read_images
from immuno_core.config.run import ClusterConfig, EncoderConfig, SourceConfig
from immuno_core.errors import SetupError
from immuno_core.features import LocalRequest

from .archives import directions

TEXTS = ["a photo of a cat.", "a photo of a dog.", "a photo of an owl."]


def config(path: Path, **options: Any) -> EncoderConfig:
    return EncoderConfig(kind="precomputed", texts=path, **options)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    np.savez(tmp_path / "texts.npz", texts=np.array(TEXTS), features=directions(3))
    return tmp_path / "texts.npz"


def test_texts_are_looked_up_in_any_order(table: Path) -> None:
    embedder = PrecomputedEmbedder(config(table))
    rows = directions(3).astype(np.float64)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    found = embedder.embed_texts([TEXTS[2], TEXTS[0], TEXTS[2]])
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, rows[[2, 0, 2]], atol=1e-7)
    assert embedder.embed_texts([]).shape == (0, 8)


def test_a_text_that_is_not_there_is_named_with_how_many_others(table: Path) -> None:
    embedder = PrecomputedEmbedder(config(table))
    with pytest.raises(
        SetupError, match=r"no embedding of 'a photo of a cow.'; its texts look like 'a photo of a {}.' .*add"
    ):
        embedder.embed_texts([TEXTS[0], "a photo of a cow."])
    with pytest.raises(SetupError, match=r"no embedding of 'x' and 1 more of the 4 asked for"):
        embedder.embed_texts(["x", TEXTS[0], "y", "x"])


def test_the_encoder_is_what_the_table_holds(table: Path, tmp_path: Path) -> None:
    info = PrecomputedEmbedder(config(table)).encoder
    assert (info.dim, info.logit_scale, info.model) == (8, 100.0, "precomputed")
    assert PrecomputedEmbedder(config(table)).encoder == info
    named = PrecomputedEmbedder(config(table, model="ViT-B-16", pretrained="openai", logit_scale=50)).encoder
    assert (named.model, named.pretrained, named.logit_scale) == ("ViT-B-16", "openai", 50)
    np.savez(tmp_path / "texts.npz", texts=np.array(TEXTS), features=directions(3, seed=1))
    assert PrecomputedEmbedder(config(table)).encoder.digest != info.digest


def test_a_table_may_be_safetensors_with_json(tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    safetensors.numpy.save_file({"features": directions(3)}, path)
    with pytest.raises(SetupError, match=r"t.safetensors has no array `texts` and there is none in t.json"):
        PrecomputedEmbedder(config(path))
    (tmp_path / "t.json").write_text(json.dumps({"texts": TEXTS}))
    first = PrecomputedEmbedder(config(path))
    assert len(first.embed_texts(TEXTS)) == 3
    (tmp_path / "t.json").write_text(json.dumps({"texts": TEXTS[::-1]}))
    assert PrecomputedEmbedder(config(path)).encoder.digest != first.encoder.digest


def test_a_text_may_stand_twice_only_with_one_embedding(tmp_path: Path) -> None:
    rows = directions(3)
    path = tmp_path / "t.npz"
    np.savez(path, texts=np.array(["a", "b", "a"]), features=rows)
    with pytest.raises(SetupError, match="rows 0 and 2 are two embeddings of 'a'"):
        PrecomputedEmbedder(config(path))
    np.savez(path, texts=np.array(["a", "b", "a"]), features=rows[[0, 1, 0]])
    assert len(PrecomputedEmbedder(config(path)).embed_texts(["a", "b"])) == 2


def test_a_bad_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"cannot read the embeddings in .*gone\.npz"):
        PrecomputedEmbedder(config(tmp_path / "gone.npz"))
    with pytest.raises(SetupError, match="no table of texts"):
        PrecomputedEmbedder(config(tmp_path / "texts.txt"))
    np.savez(tmp_path / "t.npz", texts=np.array(TEXTS, dtype=object), features=directions(3))
    with pytest.raises(SetupError, match="`texts` holds Python objects, which are never unpickled"):
        PrecomputedEmbedder(config(tmp_path / "t.npz"))


def test_images_need_embeddings_and_patches_need_a_model(table: Path, tmp_path: Path) -> None:
    with make_embedder(config(table), ClusterConfig()) as embedder:
        assert isinstance(embedder, PrecomputedEmbedder)
        np.savez(tmp_path / "near.npz", features=directions(4, seed=2))
        source = SourceConfig(features=tmp_path / "near.npz")
        near = embedder.embed_images(read_images(source, name="near", role="outlier", split="feedback", seed=0))
        assert near.features.shape == (4, 8)
        with pytest.raises(SetupError, match=r"set 'near': an encoder of kind precomputed has no patch embeddings"):
            embedder.local_matching(near, LocalRequest(embedder.embed_texts(TEXTS), 1.0))
        (tmp_path / "flat").mkdir()
        (tmp_path / "flat" / "1.jpg").write_bytes(b"1")
        images = read_images(
            SourceConfig(path=tmp_path / "flat"), name="flat", role="outlier", split="feedback", seed=0
        )
        with pytest.raises(SetupError, match=r'set \'flat\' has images.*features = "....npz"'):
            embedder.embed_images(images)


def test_neither_torch_nor_ray_is_loaded(table: Path) -> None:
    code = f"""
import sys
from pathlib import Path
from cluster import make_embedder
from immuno_core.config.run import ClusterConfig, EncoderConfig
with make_embedder(EncoderConfig(kind="precomputed", texts=Path({str(table)!r})), ClusterConfig()) as embedder:
    assert len(embedder.embed_texts({TEXTS!r})) == 3
print({{"torch", "ray", "open_clip"}} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
