"""Patch embeddings are what GL-MCM's authors compute: the last layer's values, in the space of the texts."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from open_clip.model import CLIP
from open_clip.modified_resnet import ModifiedResNet
from open_clip.transformer import VisionTransformer
from scipy.special import erf

from cluster import EncoderSpec
from cluster.encoder.encoder import load_encoder
from cluster.encoder.patches import best_match, patch_tower
from immuno_core import arrays as blocks
from immuno_core.errors import SetupError
from immuno_core.features import LocalRequest
from tests.cluster.tiny_models import tiny_config, write_images

Array = NDArray[np.float64]


def pixels(count: int, size: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((count, 3, size, size)).astype(np.float32))


def vit(**changes: Any) -> VisionTransformer:
    torch.manual_seed(0)
    tower = VisionTransformer(32, 8, 32, 1, 2, 4.0, output_dim=16, **changes).eval()
    for name, parameter in tower.named_parameters():
        if name.endswith("bias"):  # zero from the start, which would hide a bias left out
            torch.nn.init.normal_(parameter, std=0.3)
    return tower


def resnet(image_size: int) -> ModifiedResNet:
    torch.manual_seed(0)
    return ModifiedResNet([1, 1, 1, 1], output_dim=16, heads=4, image_size=image_size, width=8).eval()


def weights(module: torch.nn.Module) -> dict[str, Array]:
    return {name: tensor.detach().double().numpy() for name, tensor in module.state_dict().items()}


def unit(rows: Array) -> Array:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def layer_norm(x: Array, w: dict[str, Array], name: str) -> Array:
    centred = x - x.mean(axis=-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-5)
    return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]


@torch.inference_mode()
def test_patches_of_a_vit_are_those_worked_out_from_its_weights() -> None:
    tower, images = vit(), pixels(3, 32)
    found = patch_tower(tower, label="tiny")(images).numpy()
    assert found.shape == (3, 16, 16)
    w = weights(tower)
    cut = images.double().numpy().reshape(3, 3, 4, 8, 4, 8).transpose(0, 2, 4, 1, 3, 5).reshape(3, 16, -1)
    tokens = cut @ w["conv1.weight"].reshape(32, -1).T + w["positional_embedding"][1:]
    tokens = layer_norm(tokens, w, "ln_pre")
    block = "transformer.resblocks.0"
    values = layer_norm(tokens, w, f"{block}.ln_1") @ w[f"{block}.attn.in_proj_weight"][64:].T
    values += w[f"{block}.attn.in_proj_bias"][64:]
    tokens = tokens + values @ w[f"{block}.attn.out_proj.weight"].T + w[f"{block}.attn.out_proj.bias"]
    hidden = layer_norm(tokens, w, f"{block}.ln_2") @ w[f"{block}.mlp.c_fc.weight"].T + w[f"{block}.mlp.c_fc.bias"]
    hidden = hidden * (1 + erf(hidden / math.sqrt(2))) / 2
    tokens = tokens + hidden @ w[f"{block}.mlp.c_proj.weight"].T + w[f"{block}.mlp.c_proj.bias"]
    expected = unit(layer_norm(tokens, w, "ln_post") @ w["proj"])
    np.testing.assert_allclose(found, expected, atol=2e-6)


@torch.inference_mode()
def test_patches_of_a_vit_differ_only_by_what_is_in_them() -> None:
    tower = vit()
    tower.positional_embedding.zero_()
    images = pixels(1, 8).repeat(1, 1, 4, 4)  # sixteen times the same patch
    found = patch_tower(tower, label="tiny")(images)[0]
    np.testing.assert_allclose(found, found[:1].expand(16, -1), atol=1e-6)


@torch.inference_mode()
def test_the_patch_of_a_resnet_of_one_patch_is_its_embedding() -> None:
    tower, images = resnet(32), pixels(4, 32)
    assert tower.attnpool is not None
    tower.attnpool.positional_embedding.zero_()  # then its mean and its one place are the same vector
    found = patch_tower(tower, label="tiny")(images)
    assert found.shape == (4, 1, 16)
    np.testing.assert_allclose(found[:, 0], torch.nn.functional.normalize(tower(images)), atol=1e-6)


@torch.inference_mode()
def test_patches_of_a_resnet_are_values_without_attention() -> None:
    tower, images = resnet(96), pixels(2, 96)
    found = patch_tower(tower, label="tiny")(images)
    w, grid = weights(tower), tower.layer4(tower.layer3(tower.layer2(tower.layer1(tower.stem(images))))).double()
    places = grid.numpy().reshape(2, 256, 9).transpose(0, 2, 1)
    values = places @ w["attnpool.v_proj.weight"].T + w["attnpool.v_proj.bias"]
    np.testing.assert_allclose(
        found, unit(values @ w["attnpool.c_proj.weight"].T + w["attnpool.c_proj.bias"]), atol=1e-6
    )


@torch.inference_mode()
def test_the_mini_world_has_four_patches_of_its_own_space() -> None:
    encoder = load_encoder(EncoderSpec("miniworld", device="cpu"))
    patches = patch_tower(encoder._model.visual, label="miniworld")(pixels(3, 64))
    assert patches.shape == (3, 4, encoder.info.dim)
    assert patches.dtype == torch.float32
    np.testing.assert_allclose(patches.norm(dim=-1), 1, atol=1e-6)


@torch.inference_mode()
def test_looking_at_patches_leaves_the_model_as_it_was() -> None:
    torch.manual_seed(0)
    model, images = CLIP(**tiny_config()).eval(), pixels(2, 32)
    before = model.encode_image(images)
    patch_tower(model.visual, label="tiny")(images)
    assert torch.equal(model.encode_image(images), before)
    assert not model.visual.transformer.resblocks[-1]._forward_pre_hooks


@pytest.mark.parametrize(
    "tower",
    [
        torch.nn.Linear(3, 3),
        vit(attentional_pool=True, attn_pooler_heads=2),
        vit(block_type="custom"),
    ],
    ids=["not open_clip's", "attentional pool", "another block"],
)
def test_another_tower_is_refused_by_name(tower: torch.nn.Module) -> None:
    with pytest.raises(SetupError, match=r"encoder 'ViT-SO400M' has no patch embeddings .* needs a CLIP ViT or ResNet"):
        patch_tower(tower, label="ViT-SO400M")


@pytest.mark.parametrize("temperature", [1.0, 0.01])
def test_the_best_match_is_over_patches_and_classes(temperature: float, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    patches, texts = unit(rng.standard_normal((7, 5, 6))), unit(rng.standard_normal((4, 6)))
    powers = np.exp(patches @ texts.T / temperature)
    expected = (powers / powers.sum(axis=-1, keepdims=True)).max(axis=(1, 2))
    single = torch.from_numpy(patches.astype(np.float32)), torch.from_numpy(texts.astype(np.float32))
    found = best_match(*single, temperature)
    assert found.dtype == torch.float64
    np.testing.assert_allclose(found, expected, atol=1e-5 if temperature < 1 else 1e-7)
    monkeypatch.setattr(blocks, "MOST_ELEMENTS", 100)
    np.testing.assert_allclose(best_match(*single, temperature), found, atol=1e-7)


def test_one_class_matches_every_patch_with_certainty() -> None:
    patches = torch.from_numpy(unit(np.random.default_rng(0).standard_normal((3, 2, 6))).astype(np.float32))
    assert best_match(patches, patches[0, :1], 1.0).tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_is_near(tiny_encoder_dir: Path, tmp_path: Path, precision: Any) -> None:
    folder = write_images(tmp_path / "images", {"cat": 5})
    paths = [str(path) for path in sorted(folder.glob("cat/*"))]
    single = load_encoder(EncoderSpec(f"local-dir:{tiny_encoder_dir}", device="cpu"), batch_size=2)
    half = load_encoder(EncoderSpec(f"local-dir:{tiny_encoder_dir}", precision=precision, device="cpu"))
    request = LocalRequest(single.embed_texts(["a cat", "a dog", "a cow"]), 1.0)
    found = single.match_patches(paths, request)
    assert np.ptp(found) > 0.01
    np.testing.assert_allclose(half.match_patches(paths, request), found, atol=2e-3)
