"""Digests of what fixes an embedding: the weights, and the preprocessing of images and texts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

import torch

from immuno.records import text_digest

# Texts that tokenizers cut differently: capitals, underscores, entities, accents, words outside any vocabulary.
_PROBES = ("A photo_of a Dog.", "  caf\u00e9 &amp; zebra-crossing 42!", "zyxwvut qwrtp")


def weights_digest(state: Mapping[str, torch.Tensor]) -> str:
    """Return the SHA-256 over the names, types, shapes and bytes of a model's tensors, in the order of their names."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(text_digest(name, str(tensor.dtype), str(tuple(tensor.shape))).encode())
        # Read as bytes, because numpy has no bfloat16.
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def preprocess_digest(image_side: Mapping[str, Any], tokenizer: Callable[[list[str]], torch.Tensor]) -> str:
    """Return the SHA-256 over the image preprocessing (size, mean, std, interpolation, resizing) and the tokenizer.

    The tokenizer counts by its vocabulary, its context length, and how it cuts a few probing texts (its cleaning).
    """
    vocabulary = getattr(tokenizer, "encoder", None)
    if vocabulary is None:
        vocabulary = tokenizer.tokenizer.get_vocab()  # type: ignore[attr-defined]  # a wrapped Hugging Face tokenizer
    text_side = {
        "vocabulary": sorted(vocabulary.items(), key=lambda item: (item[1], item[0])),
        "context_length": getattr(tokenizer, "context_length", None),
        "probes": tokenizer(list(_PROBES)).tolist(),
    }
    return text_digest(json.dumps([dict(image_side), text_side], sort_keys=True, default=list))
