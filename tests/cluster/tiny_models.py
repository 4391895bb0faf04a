"""Writes very small models and image folders, real enough for open_clip and Pillow."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cluster.store.shards import FileIdentity, Shard, cut
from immuno_core.records import EncoderInfo, ImageSet, Sample

MERGES = 200
"""Of open_clip's vocabulary, those kept: enough to cut every text, mostly into single letters."""


def tiny_config() -> dict[str, Any]:
    """open_clip's configuration of a 59,000-parameter CLIP: 32 x 32 images, 40 tokens, 16 dimensions."""
    tokens = 2 * 256 + MERGES + 2
    return {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8},
        "text_cfg": {"context_length": 40, "vocab_size": tokens, "width": 32, "heads": 2, "layers": 1},
    }


def write_tiny_model(folder: Path, *, seed: int = 0) -> Path:
    """Write a random model for `local-dir:` (about 250 KB) and return its folder."""
    import torch
    from open_clip.model import CLIP
    from open_clip.tokenizer import default_bpe
    from safetensors.torch import save_file

    folder.mkdir(parents=True)
    lines = gzip.decompress(Path(default_bpe()).read_bytes()).decode().split("\n")[: 1 + MERGES]
    (folder / "bpe_simple_vocab.txt.gz").write_bytes(gzip.compress("\n".join(lines).encode(), mtime=0))
    config = {"model_cfg": tiny_config(), "preprocess_cfg": {}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = CLIP(**tiny_config())
    weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(weights, folder / "open_clip_model.safetensors")
    return folder


def write_images(folder: Path, counts: Mapping[str, int], *, size: tuple[int, int] = (24, 20), seed: int = 0) -> Path:
    """Write random PNG images, `folder/label/000.png` and so on, `counts[label]` of each; return the folder."""
    random = np.random.default_rng(seed)
    for label, count in counts.items():
        (folder / label).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            pixels = random.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{i:03}.png")
    return folder


def photo(size: tuple[int, int], *, seed: int = 0) -> Image.Image:
    """Draw something as smooth as a photograph, with a little grain; RGB, (width, height)."""
    random = np.random.default_rng(seed)
    picture = np.full((size[1], size[0], 3), 128.0)
    for cells, strength in ((3, 0.7), (12, 0.4), (60, 0.3)):
        coarse = Image.fromarray(random.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        picture += strength * (np.asarray(coarse.resize(size, Image.Resampling.BICUBIC), np.float64) - 128)
    picture += random.normal(0, 5, picture.shape[:2])[..., None]
    return Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8))


def image_set(folder: Path, name: str = "animals") -> ImageSet:
    """Every file of a folder of class folders, in the order of their paths, as a set of known images."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    samples = tuple(Sample(str(path.relative_to(folder)), str(path), path.parent.name) for path in files)
    return ImageSet(name, "fit", "id", samples, digest="unused here")


def shards_of(
    images: ImageSet, encoder: EncoderInfo, size: int, *, identity: FileIdentity = "mtime"
) -> tuple[Shard, ...]:
    """The images of a set in shards."""
    return cut([sample.path for sample in images.samples], encoder, size, identity=identity).shards
