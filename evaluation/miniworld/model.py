"""The model of the mini-world: a very small open_clip CLIP, its tokenizer, and the shipped checkpoint.

The tokenizer is open_clip's own with most merges of its byte-pair vocabulary left out: words of the world are cut as
the full tokenizer cuts them, other words into smaller pieces. That keeps the embedding table, and so the checkpoint,
small.
open_clip is imported only where it is needed, so that naming the checkpoint costs nothing.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from evaluation.miniworld.drawing.scene import IMAGE_SIZE
from evaluation.miniworld.vocabulary import vocabulary_words
from immuno_core.errors import SetupError

if TYPE_CHECKING:
    import torch
    from open_clip import CLIP
    from open_clip.tokenizer import SimpleTokenizer
    from PIL import Image


CHECKPOINT: Final[Path] = Path(__file__).resolve().parent / "checkpoint"
"""The folder of the checkpoint that comes with the package."""
WEIGHTS_FILE: Final = "open_clip_model.safetensors"
CONFIG_FILE: Final = "open_clip_config.json"
VOCABULARY_FILE: Final = "bpe_simple_vocab.txt.gz"
MEAN: Final = (0.48145466, 0.4578275, 0.40821073)
STANDARD_DEVIATION: Final = (0.26862954, 0.26130258, 0.27577711)
"""Red, green and blue of an image, 0 to 1, are standardised with these; the values of the original CLIP."""
EMBEDDING_SIZE: Final = 128
CONTEXT_LENGTH: Final = 20
# Merges among the first of the full vocabulary are kept whatever the words: they cut unknown words into fair pieces.
_COMMON_MERGES: Final = 1500


class LoadedModel(NamedTuple):
    """A checkpoint ready for use: model in evaluation mode, preprocessing of one image, tokenizer."""

    model: CLIP
    preprocess: Callable[[Image.Image], torch.Tensor]
    tokenizer: SimpleTokenizer


def model_config(vocabulary_size: int) -> dict[str, Any]:
    """open_clip's configuration of the model: a ResNet of four blocks and a text transformer of two layers."""
    return {
        "embed_dim": EMBEDDING_SIZE,
        "vision_cfg": {"image_size": IMAGE_SIZE, "layers": [1, 1, 1, 1], "width": 24, "head_width": 64},
        "text_cfg": {
            "context_length": CONTEXT_LENGTH,
            "vocab_size": vocabulary_size,
            "width": 128,
            "heads": 4,
            "layers": 2,
        },
    }


def write_config(path: Path, vocabulary_size: int) -> None:
    """Writes `open_clip_config.json`, from which open_clip builds the model and its preprocessing."""
    preprocess = {
        "mean": MEAN,
        "std": STANDARD_DEVIATION,
        "interpolation": "bicubic",
        "resize_mode": "shortest",
    }
    config = {"model_cfg": model_config(vocabulary_size), "preprocess_cfg": preprocess}
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def write_vocabulary(path: Path) -> None:
    """Writes the truncated byte-pair vocabulary; the same bytes each time."""
    from open_clip.tokenizer import SimpleTokenizer

    full = SimpleTokenizer()
    needed = {merge for word in vocabulary_words() for merge in _merges_of(word, full)}
    kept = [merge for merge, rank in full.bpe_ranks.items() if rank < _COMMON_MERGES or merge in needed]
    lines = ["#version: 0.2", *(" ".join(merge) for merge in kept)]
    # No time and no file name in the header, or the bytes would change from run to run.
    with path.open("wb") as raw, gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=0) as packed:
        packed.write("\n".join(lines).encode())


def load_tokenizer(vocabulary: Path) -> SimpleTokenizer:
    """The tokenizer of a vocabulary file."""
    from open_clip.tokenizer import SimpleTokenizer

    return SimpleTokenizer(bpe_path=str(vocabulary), context_length=CONTEXT_LENGTH)


def load(folder: Path = CHECKPOINT) -> LoadedModel:
    """Loads a checkpoint folder as any user of open_clip would."""
    import open_clip

    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    model.eval()
    return LoadedModel(model, preprocess, load_tokenizer(folder / VOCABULARY_FILE))


def _merges_of(word: str, tokenizer: SimpleTokenizer) -> Iterable[tuple[str, str]]:
    """The merges that byte-pair encoding applies to a word, one after the other."""
    pieces = [tokenizer.byte_encoder[byte] for byte in word.encode()]
    pieces[-1] += "</w>"
    while len(pieces) > 1:
        pairs = list(pairwise(pieces))
        best = min(pairs, key=lambda pair: tokenizer.bpe_ranks.get(pair, float("inf")))
        if best not in tokenizer.bpe_ranks:
            return
        yield best
        pieces = _merged(pieces, best)


def _merged(pieces: list[str], pair: tuple[str, str]) -> list[str]:
    merged: list[str] = []
    position = 0
    while position < len(pieces):
        width = 2 if tuple(pieces[position : position + 2]) == pair else 1
        merged.append("".join(pieces[position : position + width]))
        position += width
    return merged


def verify_checkpoint(folder: Path = CHECKPOINT) -> None:
    """Compare the digest of every file with PROVENANCE.json. Raises SetupError naming the first file that differs."""
    try:
        promised: dict[str, str] = json.loads((folder / "PROVENANCE.json").read_text(encoding="utf-8"))["sha256"]
        for name, digest in promised.items():
            if hashlib.sha256((folder / name).read_bytes()).hexdigest() != digest:
                raise SetupError(
                    f"{folder / name} is not the file that PROVENANCE.json describes; restore it with git, "
                    "or train again: python -m tools.miniworld.train"
                )
    except (FileNotFoundError, KeyError, json.JSONDecodeError) as error:
        raise SetupError(
            f"the mini-world's checkpoint in {folder} is incomplete ({error}); restore it with git"
        ) from None
