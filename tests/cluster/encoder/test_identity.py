"""Everything that changes an embedding changes the encoder's digest; what computes it is tried at each load."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file

from cluster import EncoderSpec, LocalEmbedder
from cluster.encoder import encoder as encoders
from cluster.encoder import loading
from cluster.encoder import spec as specs
from cluster.encoder.encoder import Encoder, load_encoder
from cluster.encoder.spec import fingerprint
from cluster.store.files import Files
from cluster.store.probes import agree
from cluster.store.shards import cut
from cluster.store.upkeep import needed, waste
from immuno_core.errors import SetupError
from immuno_core.features import FloatArray
from tests.cluster.tiny_models import image_set, write_images

Weights = dict[str, torch.Tensor]


@pytest.fixture
def model(tiny_encoder_dir: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_encoder_dir, tmp_path / "model"))


def reconfigured(model: Path, section: str, **changes: Any) -> None:
    """Change a section of the model's configuration, "" for model_cfg itself."""
    path = model / "open_clip_config.json"
    content = json.loads(path.read_text())
    part = content[section] if section == "preprocess_cfg" else content["model_cfg"]
    part.get(section, part).update(changes)
    path.write_text(json.dumps(content))


def reweighted(model: Path, change: Callable[[Weights], Mapping[str, torch.Tensor]]) -> None:
    path = model / "open_clip_model.safetensors"
    weights = load_file(path)
    save_file({**weights, **{name: one.contiguous() for name, one in change(weights).items()}}, path)


def with_other_patches(model: Path) -> None:
    reconfigured(model, "vision_cfg", patch_size=4, image_size=16)
    reweighted(model, lambda weights: {"visual.conv1.weight": weights["visual.conv1.weight"][..., ::2, ::2]})


def with_a_shorter_context(model: Path) -> None:
    reconfigured(model, "text_cfg", context_length=30)
    reweighted(model, lambda weights: {"positional_embedding": weights["positional_embedding"][:30]})


def with_another_vocabulary(model: Path) -> None:
    path = model / "bpe_simple_vocab.txt.gz"
    first, *others = gzip.decompress(path.read_bytes()).decode().split("\n")
    path.write_bytes(gzip.compress("\n".join([first, *reversed(others)]).encode()))


CHANGES: dict[str, Callable[[Path], object]] = {
    "weights": lambda model: reweighted(model, lambda weights: {"logit_scale": weights["logit_scale"] + 1}),
    "heads of the image tower": lambda model: reconfigured(model, "vision_cfg", head_width=8),
    "heads of the text tower": lambda model: reconfigured(model, "text_cfg", heads=4),
    "activation": lambda model: reconfigured(model, "text_cfg", act_kwargs={"approximate": "tanh"}),
    "quickgelu": lambda model: reconfigured(model, "", quick_gelu=True),
    "pooling": lambda model: reconfigured(model, "vision_cfg", pool_type="avg"),
    "patches": with_other_patches,
    "context length": with_a_shorter_context,
    "tokenizer": with_another_vocabulary,
    "interpolation": lambda model: reconfigured(model, "preprocess_cfg", interpolation="bilinear"),
    "resize": lambda model: reconfigured(model, "preprocess_cfg", resize_mode="squash"),
    "normalisation, mean": lambda model: reconfigured(model, "preprocess_cfg", mean=[0.5, 0.5, 0.5]),
    "normalisation, std": lambda model: reconfigured(model, "preprocess_cfg", std=[0.5, 0.5, 0.5]),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_changes_an_embedding_changes_the_digest_and_the_fingerprint(model: Path, change: str) -> None:
    spec = EncoderSpec(f"local-dir:{model}")
    before = load_encoder(spec).info.digest, fingerprint(spec)
    CHANGES[change](model)
    after = load_encoder(spec).info.digest, fingerprint(spec)
    assert (before[0] != after[0], before[1] != after[1]) == (True, True)


def test_precision_and_the_fast_way_and_its_version_change_both(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"local-dir:{model}"
    asked = [EncoderSpec(name), EncoderSpec(name, precision="bf16"), EncoderSpec(name, fast_decode=True)]
    found = [(load_encoder(spec).info.digest, fingerprint(spec)) for spec in asked]
    for module in (encoders, specs):
        monkeypatch.setattr(module, "FAST_DECODE_VERSION", specs.FAST_DECODE_VERSION + 1)
    found.append((load_encoder(asked[-1]).info.digest, fingerprint(asked[-1])))
    assert [len(set(column)) for column in zip(*found, strict=True)] == [4, 4]


def test_one_architecture_of_two_names_is_one() -> None:
    """The activation that a tag forces counts, and the name does not."""
    assert open_clip.get_pretrained_cfg("ViT-B-32", "openai")["quick_gelu"]
    names = [(model, tag) for tag in ("openai", "x.pt") for model in ("ViT-B-32", "ViT-B-32-quickgelu")]
    digests = [loading.architecture_digest(EncoderSpec(*name)) for name in names]
    assert [digests.index(one) for one in digests] == [0, 0, 2, 0]


# --- the same files, another result


def test_rounding_agrees_and_another_activation_does_not(model: Path) -> None:
    spec = EncoderSpec(f"local-dir:{model}")
    before, half = load_encoder(spec).probes(), load_encoder(EncoderSpec(spec.model, precision="bf16")).probes()
    assert before.shape == (4, 16)
    np.testing.assert_allclose(np.linalg.norm(before, axis=1), 1, atol=1e-5)
    assert agree(before, load_encoder(spec, batch_size=1).probes(), "fp32")
    assert agree(half, before, "bf16")
    reconfigured(model, "", quick_gelu=True)
    assert not agree(before, load_encoder(spec).probes(), "fp32")


def test_a_library_that_makes_something_else_of_the_same_files_is_noticed(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, store = EncoderSpec(f"local-dir:{model}"), tmp_path / "store"
    LocalEmbedder(spec, store).embed_texts(["a cat"])
    probes = Encoder.probes

    def shifted(by: float) -> Callable[[Encoder], FloatArray]:
        return lambda encoder: probes(encoder) + np.float32(by)

    monkeypatch.setattr(Encoder, "probes", shifted(1e-5))
    LocalEmbedder(spec, store).embed_texts(["a dog"])
    monkeypatch.setattr(Encoder, "probes", shifted(1e-2))
    assert LocalEmbedder(spec, store).embed_texts(["a dog"]).shape == (1, 16)  # no model is needed
    monkeypatch.setattr("cluster.store.probes.versions", lambda: {"torch": "99"})
    embedder = LocalEmbedder(spec, store)
    for _ in range(2):
        with pytest.raises(SetupError, match=r"no longer gives the embeddings .*\(torch .* is now 99\): go back"):
            embedder.embed_texts(["an owl"])
    monkeypatch.setattr(specs, "installed", lambda names: dict.fromkeys(names, "99"))
    with pytest.raises(SetupError, match="no longer gives"):  # a new version has the model tried, whatever is stored
        LocalEmbedder(spec, store).embed_texts(["a dog"])


# --- stores of versions whose digest did not cover the architecture


def as_before(patch: pytest.MonkeyPatch) -> None:
    """Store as earlier versions did."""
    patch.setattr(encoders, "architecture_digest", lambda _: "")
    patch.setattr(specs, "_FORMAT", "")
    patch.setattr("cluster.actors.actor.check_probes", lambda *_: None)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The images that were embedded."""
    paths: list[str] = []
    measure = Encoder.measure_image_files
    monkeypatch.setattr(Encoder, "measure_image_files", lambda self, some: (paths.extend(some), measure(self, some))[1])
    return paths


def read_only(*_: object) -> None:
    raise SetupError("cannot write")


def test_an_earlier_version_s_shards_are_tried_and_taken_over(model: Path, tmp_path: Path, asked: list[str]) -> None:
    spec, store = EncoderSpec(f"local-dir:{model}"), tmp_path / "store"
    folder = write_images(tmp_path / "images", {"cat": 5, "dog": 5})
    (folder / "cat" / "000.png").write_text("no image")
    images = image_set(folder)
    with pytest.MonkeyPatch.context() as patch:
        as_before(patch)
        old = LocalEmbedder(spec, store, shard_size=4)
        before = old.embed_images(images)
    new = LocalEmbedder(spec, store, shard_size=4)
    assert old.encoder.digest == new.encoder.older.digest != new.encoder.digest

    def not_needed() -> int:
        pieces = cut([sample.path for sample in images.samples], new.encoder, 4)
        keep = needed(new.store, new.encoder, fingerprint(spec), [(pieces, 4)])
        return len([one for one in waste(new.store, keep) if "/images/" in one.name])

    assert not_needed() == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Files, "write", read_only)
        np.testing.assert_array_equal(
            LocalEmbedder(spec, store, shard_size=4).embed_images(images).features, before.features
        )
    asked.clear()
    after = new.embed_images(images)
    np.testing.assert_array_equal(after.features, before.features)
    assert (after.ids, after.skipped) == (before.ids, before.skipped)
    assert [Path(path).name for path in asked] == ["001.png", "004.png", "003.png"]  # one of each shard that was read
    asked.clear()
    LocalEmbedder(spec, store, shard_size=4).embed_images(images)
    assert (asked, not_needed()) == ([], 3)
    assert len(list(store.glob(f"{new.encoder.digest[:16]}/sets/*"))) == 1


def test_an_earlier_version_s_shards_of_another_model_are_embedded_again(
    model: Path, tmp_path: Path, asked: list[str]
) -> None:
    """A shard of each activation lay under one digest."""
    spec, store = EncoderSpec(f"local-dir:{model}"), tmp_path / "store"
    images = image_set(write_images(tmp_path / "images", {"cat": 4, "dog": 4}))
    truth = LocalEmbedder(spec).embed_images(images).features
    with pytest.MonkeyPatch.context() as patch:
        as_before(patch)
        reconfigured(model, "", quick_gelu=True)
        LocalEmbedder(spec, store, shard_size=4).embed_images(image_set(tmp_path / "images" / "dog"))
        reconfigured(model, "", quick_gelu=False)
        LocalEmbedder(spec, store, shard_size=4).embed_images(image_set(tmp_path / "images" / "cat"))
    asked.clear()
    found = LocalEmbedder(spec, store, shard_size=4).embed_images(images).features
    np.testing.assert_allclose(found, truth, atol=1e-6)
    assert len(asked) == 2 + 4
