"""Preprocessing in two steps is open_clip's in one, bit for bit; the fast way keeps within what the docs state."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from torchvision.transforms import Compose, ToTensor

from cluster import EncoderSpec
from cluster.encoder.encoder import load_encoder
from cluster.encoder.pixels import Preprocessing
from cluster.encoder.spec import fingerprint
from immuno_core.errors import SetupError
from tests.cluster.tiny_models import photo

CONFIGS: dict[str, dict[str, Any]] = {
    "CLIP": {"size": 32},
    "bilinear": {"size": 32, "interpolation": "bilinear"},
    "SigLIP": {"size": 32, "resize_mode": "squash", "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)},
    "squash to a rectangle": {"size": (32, 48), "resize_mode": "squash"},
    "rectangle": {"size": (32, 48)},
    "longest": {"size": 32, "resize_mode": "longest", "fill_color": 7},
}


def transform(**config: Any) -> Any:
    return image_transform_v2(PreprocessCfg(**config), is_train=False)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("size", [(50, 41), (41, 50), (32, 32), (20, 90), (7, 5)])
def test_two_steps_give_what_open_clip_gives_in_one(name: str, size: tuple[int, int]) -> None:
    images = [photo(size, seed=seed) for seed in range(3)]
    whole = transform(**CONFIGS[name])
    preprocessing = Preprocessing(whole)
    batch = torch.from_numpy(np.stack([preprocessing.pixels(image) for image in images]))
    found = preprocessing.normalise(batch)
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(found, torch.stack([whole(image) for image in images]))


def test_a_preprocessing_of_another_kind_is_refused() -> None:
    with pytest.raises(SetupError, match=r"the preprocessing of the encoder 'X' is not open_clip's"):
        Preprocessing(Compose([ToTensor()]), label="X")
    for name in ("longest", "rectangle"):
        with pytest.raises(SetupError, match=r"fast_decode does not know how the encoder 'X' resizes its images"):
            Preprocessing(transform(**CONFIGS[name]), fast=True, label="X")


# --- the fast way


def differences(tmp_path: Path, size: tuple[int, int], target: int, **config: Any) -> list[np.ndarray]:
    """How far each value of some JPEGs, 0 to 255, is from open_clip's."""
    exact = Preprocessing(transform(size=target, **config))
    fast = Preprocessing(transform(size=target, **config), fast=True)
    found = []
    for seed in range(2):
        path = tmp_path / f"{seed}.jpg"
        photo(size, seed=seed).save(path, quality=90)
        with Image.open(path) as one, Image.open(path) as other:
            found.append(np.abs(exact.pixels(one).astype(int) - fast.pixels(other)))
    return found


@pytest.mark.parametrize("config", [{}, {"interpolation": "bilinear"}, {"resize_mode": "squash"}])
@pytest.mark.parametrize("size", [(500, 375), (300, 700), (100, 80), (1000, 900), (2000, 1500), (1500, 4200)])
def test_the_fast_way_keeps_within_the_stated_tolerance(
    tmp_path: Path, size: tuple[int, int], config: dict[str, Any]
) -> None:
    for difference in differences(tmp_path, size, 224, **config):
        assert difference.max() <= 4
        assert difference.mean() <= 0.5


def test_vectors_of_the_fast_way_are_near_and_never_taken_for_the_exact_ones(
    tiny_encoder_dir: Path, tmp_path: Path
) -> None:
    paths = []
    for seed in range(8):
        paths.append(str(tmp_path / f"{seed}.jpg"))
        photo((500, 375) if seed % 2 else (640, 800), seed=seed).save(paths[-1], quality=90)
    exact = EncoderSpec(f"local-dir:{tiny_encoder_dir}")
    fast = EncoderSpec(f"local-dir:{tiny_encoder_dir}", fast_decode=True)
    one, other = load_encoder(exact), load_encoder(fast)
    rows, near = one.embed_image_files(paths).features, other.embed_image_files(paths).features
    assert (rows * near).sum(axis=1).min() > 0.999
    assert np.abs(rows - near).max() > 0
    assert one.info.preprocess_digest != other.info.preprocess_digest
    assert one.info.weights_digest == other.info.weights_digest
    assert fingerprint(exact) != fingerprint(fast)


def test_only_rgb_is_resized_the_fast_way() -> None:
    grey = photo((90, 70)).convert("L")
    whole = transform(size=32)
    assert np.array_equal(Preprocessing(whole, fast=True).pixels(grey), Preprocessing(whole).pixels(grey))
