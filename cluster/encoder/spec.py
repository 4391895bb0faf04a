"""Which encoder is meant, and what its files are. Free of torch, so that a finished run can be read back at once.

A model is named as open_clip names it ("ViT-B-16" with a pretrained tag, "local-dir:/path", "hf-hub:org/name"), or
"miniworld": the checkpoint that this repository ships.
"""

from __future__ import annotations

import hashlib
import re
import socket
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

from immuno_core.config.run import EncoderConfig
from immuno_core.errors import SetupError
from immuno_core.files import read_text
from immuno_core.records import EncoderInfo, text_digest
from immuno_core.text import read_json
from immuno_core.versions import installed

Precision = Literal["fp32", "fp16", "bf16"]
LOCAL_DIR: Final = "local-dir:"
HF_HUB: Final = "hf-hub:"
MINIWORLD: Final = "miniworld"
CONFIG_FILE: Final = "open_clip_config.json"
VOCABULARY_FILE: Final = "bpe_simple_vocab.txt.gz"
"""A vocabulary of this name in a model's folder takes the place of open_clip's own."""
FAST_DECODE_VERSION: Final = 1
"""Goes into the encoder's digest where fast_decode is on: to be raised when the fast way gives other pixels."""
_FORMAT: Final = "encoder 2"
"""Changes with what an encoder's digest covers."""
_PACKAGES: Final = ("open_clip_torch", "torch", "torchvision", "pillow", "timm", "transformers", "tokenizers", "ftfy")
"""What computes an embedding: another version of them may give another, so the model is loaded and tried again."""
_WEIGHT_SUFFIXES: Final = (".safetensors", ".bin", ".pth")
_DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d+)?")


@dataclass(frozen=True, slots=True)
class EncoderSpec:
    """An encoder as it was asked for: everything that decides which vectors it gives, and where it runs."""

    model: str
    pretrained: str | None = None
    """open_clip's tag, or the path of a weight file, for a model named by its architecture; None for the others."""
    precision: Precision = "fp32"
    device: str = "auto"
    """auto (a GPU where there is one), cpu, mps, cuda or cuda:N."""
    fast_decode: bool = False
    """Decode and resize in a faster way that is not quite open_clip's: see `cluster.encoder.pixels`."""
    compile: bool = False
    """Run the image tower through torch.compile, which changes vectors by rounding only."""

    @classmethod
    def from_config(cls, config: EncoderConfig) -> EncoderSpec:
        """Return the encoder that a configuration asks for."""
        return cls(
            model=config.model,
            pretrained=config.pretrained,
            precision=config.precision,
            device=config.device,
            fast_decode=config.fast_decode,
            compile=config.compile,
        )

    @property
    def is_architecture(self) -> bool:
        """Whether the model is an architecture name, which says nothing yet about weights."""
        return self.model != MINIWORLD and not self.model.startswith((LOCAL_DIR, HF_HUB))

    @property
    def label(self) -> str:
        """How messages call it: "ViT-B-16 / openai"."""
        return f"{self.model} / {self.pretrained}" if self.pretrained else self.model


class OtherEncoderError(SetupError):
    """A model turned out to be another than the one on record."""


def require_same(found: EncoderInfo, expected: EncoderInfo) -> None:
    """Raise OtherEncoderError if a loaded model does not give the embeddings of the one that was expected."""
    if found.digest != expected.digest:
        raise OtherEncoderError(
            f"the weights, the architecture or the preprocessing of '{found.model}' on {socket.gethostname()} are not "
            "those on record: run the command again if you changed them, else give every machine of the cluster the "
            "same files"
        )


def with_absolute_paths(spec: EncoderSpec) -> EncoderSpec:
    """Return the spec with the path of a local model or weight file made absolute: workers have other folders."""
    if spec.model.startswith(LOCAL_DIR) and (folder := model_folder(spec)) is not None:
        return replace(spec, model=f"{LOCAL_DIR}{folder.absolute()}")
    if spec.pretrained and Path(spec.pretrained).is_file():
        return replace(spec, pretrained=str(Path(spec.pretrained).absolute()))
    return spec


def model_folder(spec: EncoderSpec) -> Path | None:
    """Return the folder of a model that lies on this machine, None for one that open_clip or the hub provides."""
    if spec.model == MINIWORLD:
        from evaluation.miniworld.model import CHECKPOINT

        return CHECKPOINT
    if spec.model.startswith(LOCAL_DIR):
        return Path(spec.model.removeprefix(LOCAL_DIR)).expanduser()
    return None


def check_spec(spec: EncoderSpec) -> None:
    """Check whatever can be checked without open_clip: the device's form, a local model's files.

    Raises SetupError naming what is wrong.
    """
    if not _DEVICE.fullmatch(spec.device):
        raise SetupError(f"encoder device '{spec.device}' is not known; use auto, cpu, cuda or cuda:N")
    folder = model_folder(spec)
    if folder is not None:
        _check_folder(folder, spec)
    if spec.pretrained and not spec.is_architecture:
        raise SetupError(f"'{spec.model}' comes with its weights: leave out pretrained = '{spec.pretrained}'")


def fingerprint(spec: EncoderSpec) -> str:
    """Return a cheap digest that changes whenever the encoder's vectors may change; no weight is read.

    A local model counts by its files' paths, sizes and modification times; the mini-world's, which are small and come
    with every checkout, by their content; a named model by name and tag. Versions of what computes embeddings count.
    Raises SetupError for a local model whose files are missing.
    """
    check_spec(spec)
    parts = [_FORMAT, spec.model, spec.pretrained or "", spec.precision, *installed(_PACKAGES).values()]
    if spec.fast_decode:
        parts.append(f"fast_decode {FAST_DECODE_VERSION}")
    folder = model_folder(spec)
    if folder is not None:
        files = sorted(path for path in folder.iterdir() if path.is_file())
    else:
        files = [Path(spec.pretrained)] if spec.pretrained and Path(spec.pretrained).is_file() else []
    for path in files:
        if spec.model == MINIWORLD:
            parts += [path.name, hashlib.sha256(path.read_bytes()).hexdigest()]
        else:
            state = path.stat()
            parts += [str(path.resolve()), str(state.st_size), str(state.st_mtime_ns)]
    return text_digest(*parts)


def _check_folder(folder: Path, spec: EncoderSpec) -> None:
    if not folder.is_dir():
        if spec.model == MINIWORLD:
            raise SetupError(f"the mini-world's model is missing from this checkout ({folder}); restore that folder")
        raise SetupError(f"no folder at {folder}, named by encoder model '{spec.model}'")
    config = folder / CONFIG_FILE
    if not config.is_file():
        raise SetupError(f"{folder} is not an open_clip model: it has no {CONFIG_FILE}")
    try:
        content = read_json(read_text(config, "model's configuration"))
    except ValueError as error:
        raise SetupError(f"{config} is not valid JSON: {error}") from None
    model = content.get("model_cfg") if isinstance(content, dict) else None
    absent = [key for key in ("embed_dim", "vision_cfg", "text_cfg") if not isinstance(model, dict) or key not in model]
    if absent:
        raise SetupError(f"{config} does not describe an open_clip model: 'model_cfg' lacks '{absent[0]}'")
    if not any(path.suffix in _WEIGHT_SUFFIXES and path.is_file() for path in folder.iterdir()):
        raise SetupError(
            f"{folder} has no weights: put open_clip_model.safetensors (or a .bin or .pth) beside {CONFIG_FILE}"
        )
