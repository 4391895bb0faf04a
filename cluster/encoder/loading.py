"""Builds an open_clip model from an EncoderSpec, or says in one line what is wrong; digests what fixes an embedding.

open_clip would use random weights where none are found, and the wrong activation for tags trained with QuickGELU; both
change every result without a word, so weights are required here and the tag's activation is forced.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import re
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import open_clip
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

from cluster.encoder.spec import CONFIG_FILE, HF_HUB, LOCAL_DIR, VOCABULARY_FILE, EncoderSpec, check_spec, model_folder
from immuno_core.errors import SetupError, did_you_mean
from immuno_core.records import text_digest

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


def architecture_digest(spec: EncoderSpec) -> str:
    """Return the SHA-256 over what open_clip builds a model from: its configuration, with the activation forced.

    Heads, activations and pooling are in no weight. (What code makes of a configuration may change with a library's
    version; `cluster.store.probes` notices that.)
    """
    config = dict(open_clip.get_model_config(_name(spec)))
    config["quick_gelu"] = needs_quick_gelu(spec) or bool(config.get("quick_gelu"))
    return text_digest(json.dumps(config, sort_keys=True, default=str))


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


def beyond_context(tokenizer: Callable[..., torch.Tensor], texts: Sequence[str]) -> list[int]:
    """Return the places of the texts that the tokenizer cuts, having more tokens than the model's context.

    It is asked with twice the context too: a text is cut that has more tokens there, whatever it is padded with.
    """
    if not texts:
        return []
    context = tokenizer([""]).shape[1]
    pad = tokenizer([""], context_length=2 * context).mode().values

    def lengths(some: Sequence[str], most: int) -> torch.Tensor:
        return (tokenizer(list(some), context_length=most) != pad).sum(dim=1)

    within = lengths(texts, context)
    # Begin, end and class tokens may be what it is padded with.
    full = [i for i, length in enumerate(within.tolist()) if length >= context - 3]
    if not full:
        return []
    whole = lengths([texts[i] for i in full], 2 * context).tolist()
    return [i for i, length in zip(full, whole, strict=True) if length > within[i]]


_MISSING = re.compile(r'Missing key\(s\) in state_dict: "([^"]+)"')
_UNEXPECTED = re.compile(r'Unexpected key\(s\) in state_dict: "([^"]+)"')
_MISSHAPED = re.compile(r"size mismatch for (\S+): .*?torch\.Size\((\[.*?\])\).*?torch\.Size\((\[.*?\])\)")


class LoadedModel(NamedTuple):
    """An open_clip model in evaluation mode, with its preprocessing of one image and its tokenizer."""

    model: torch.nn.Module
    preprocess: Callable[[Image.Image], torch.Tensor]
    """Image -> (3, h, w) float32."""
    tokenizer: Callable[..., torch.Tensor]
    """n texts -> (n, context length) int64, by default the model's own."""
    image_settings: dict[str, Any]
    """open_clip's PreprocessCfg: size, mean, std, interpolation, resize mode, ..."""


def resolve_device(name: str) -> torch.device:
    """Return the torch device of a name as in EncoderSpec. Raises SetupError where the machine has no such device."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            seen = "torch sees none here" if count == 0 else f"torch sees {count} here, counted from 0"
            raise SetupError(f'encoder device \'{name}\' asks for a GPU, but {seen}; use device = "auto" or "cpu"')
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise SetupError('encoder device \'mps\' is not there on this machine; use device = "auto" or "cpu"')
    return device


def check_names(spec: EncoderSpec) -> None:
    """Check an architecture and its tag against open_clip's lists; other models need no such check.

    Raises SetupError naming the nearest known names.
    """
    check_spec(spec)
    if not spec.is_architecture:
        return
    name = spec.model.replace("/", "-")
    models = open_clip.list_models()
    if name not in models:
        raise SetupError(f"unknown encoder model '{spec.model}'{did_you_mean(name, models)}")
    tags = open_clip.list_pretrained_tags_by_model(name)
    if not spec.pretrained:
        choice = f"one of its tags ({', '.join(tags)}) or a weight file" if tags else "a weight file"
        raise SetupError(
            f"the model '{spec.model}' needs weights (random ones are never used): set `pretrained` to {choice}"
        )
    if not open_clip.is_pretrained_cfg(name, spec.pretrained) and not Path(spec.pretrained).is_file():
        hint = did_you_mean(spec.pretrained, tags) or "; open_clip knows none, so name a weight file"
        raise SetupError(f"'{spec.pretrained}' is neither a pretrained tag of '{spec.model}' nor a weight file{hint}")


def load_model(spec: EncoderSpec, device: torch.device) -> LoadedModel:
    """Build the model of a spec that `check_names` accepted, with its weights, on a device.

    Raises SetupError for files that are broken or of different models, and where weights cannot be downloaded.
    """
    folder, name = model_folder(spec), _name(spec)
    try:
        with _quiet():
            model = open_clip.create_model(
                name,
                pretrained=spec.pretrained,
                precision=spec.precision,
                device=device,
                force_quick_gelu=needs_quick_gelu(spec),
                require_pretrained=True,
            ).eval()
            tokenizer = _tokenizer(name, folder)
    except SetupError:
        raise
    except Exception as error:  # open_clip and what it calls raise a dozen types for files that are wrong
        raise SetupError(_explain(spec, folder, error)) from error
    settings = dict(model.visual.preprocess_cfg)
    preprocess = image_transform_v2(PreprocessCfg(**settings), is_train=False)
    return LoadedModel(model, preprocess, tokenizer, settings)


def _name(spec: EncoderSpec) -> str:
    """How open_clip calls it."""
    folder = model_folder(spec)
    return f"{LOCAL_DIR}{folder}" if folder is not None else spec.model


def needs_quick_gelu(spec: EncoderSpec) -> bool:
    """Whether the tag was trained with QuickGELU (all of OpenAI's were), which the architecture's name may not say."""
    if not spec.is_architecture:
        return False
    return bool(open_clip.get_pretrained_cfg(spec.model.replace("/", "-"), spec.pretrained or "").get("quick_gelu"))


def _tokenizer(name: str, folder: Path | None) -> Callable[..., torch.Tensor]:
    texts = open_clip.get_model_config(name)["text_cfg"]
    options = {}
    if folder is not None and (folder / VOCABULARY_FILE).is_file() and "hf_tokenizer_name" not in texts:
        options["bpe_path"] = str(folder / VOCABULARY_FILE)
    tokenizer = open_clip.get_tokenizer(name, **options)
    known = texts.get("vocab_size", 49408)  # open_clip's default
    own_tower = isinstance(tokenizer, open_clip.SimpleTokenizer) and "hf_model_name" not in texts
    if own_tower and tokenizer.vocab_size > known:
        raise SetupError(
            f"the tokenizer of '{name}' has {tokenizer.vocab_size} tokens but its model knows {known}: "
            f"put the model's own vocabulary beside {CONFIG_FILE} as {VOCABULARY_FILE}"
        )
    return tokenizer  # type: ignore[no-any-return]  # open_clip has no types


def _explain(spec: EncoderSpec, folder: Path | None, error: Exception) -> str:
    """Say in one line why a model could not be built."""
    text = str(error)
    first = (text.splitlines() or [""])[0][:300]
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return f"there is not enough memory for the encoder '{spec.label}': {first}"
    wrong = [f"'{found[1]}' is missing" for found in [_MISSING.search(text)] if found]
    wrong += [f"'{found[1]}' is unknown to the model" for found in [_UNEXPECTED.search(text)] if found]
    wrong += [f"'{f[1]}' has shape {f[2]} but the model's is {f[3]}" for f in [_MISSHAPED.search(text)] if f]
    if isinstance(error, AssertionError):  # open_clip's own check, before those of torch
        wrong.append(f"'positional_embedding': {first}")
    if wrong:
        weights = f"the weights in {folder}" if folder is not None else f"the weights '{spec.pretrained}'"
        model = f"its {CONFIG_FILE}" if folder is not None else f"the model '{spec.model}'"
        return f"{weights} do not fit {model}: {', '.join(wrong)}"
    local_file = spec.pretrained is not None and Path(spec.pretrained).is_file()
    if folder is None and not local_file:
        source = "the Hugging Face hub" if spec.model.startswith(HF_HUB) else "the network"
        return (
            f"could not get the encoder '{spec.label}' from {source}: {first}; check its name and this machine's "
            "network, or name a local copy as local-dir:/path"
        )
    return f"could not load the encoder '{spec.label}': {type(error).__name__}: {first}; are its files whole?"


_one_at_a_time = threading.Lock()
"""What `_quiet` changes is the process's: of two loads at once the second would restore what the first has set."""


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep open_clip's log lines and warnings to itself, and keep it from configuring the root logger."""
    with _one_at_a_time, _silenced():
        yield


@contextlib.contextmanager
def _silenced() -> Iterator[None]:
    root, level = logging.getLogger(), logging.root.manager.disable
    # With no handler there, the first `logging.info` would install one that prints everybody's warnings.
    handler = logging.NullHandler()
    root.addHandler(handler)
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
        root.removeHandler(handler)
