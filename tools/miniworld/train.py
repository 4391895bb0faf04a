"""Trains the model of the mini-world and writes its checkpoint: `python -m tools.miniworld.train`.

Reproduces the folder `checkpoint/` in about 20 minutes on 2 cores. Torch is imported only after the training images are
drawn, since the drawing processes import this module too.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console

from evaluation.miniworld.drawing.scene import GENERATOR_VERSION
from evaluation.miniworld.model import (
    CHECKPOINT,
    CONFIG_FILE,
    VOCABULARY_FILE,
    WEIGHTS_FILE,
    load_tokenizer,
    write_config,
    write_vocabulary,
)
from tools.miniworld.training_set import TrainingSet, draw_training_set

if TYPE_CHECKING:
    from open_clip import CLIP


PROVENANCE_FILE: Final = "PROVENANCE.json"
TRAINING_IMAGES: Final = 60_000
_DRAWING_STEP: Final = 10_000


def main(arguments: list[str] | None = None) -> None:
    """Draws, trains, measures and writes the checkpoint folder."""
    options = _parse(arguments)
    console = Console()
    started = time.monotonic()
    data = _draw(options.seed, options.images, console)
    # A run that fails while measuring leaves its weights here.
    folder = options.out.with_name(f"{options.out.name}-unfinished")
    folder.mkdir(parents=True, exist_ok=True)
    _train(data, folder, options.seed, options.steps, console)
    figures = _measure(folder, console)
    provenance = _provenance(folder, options, figures, minutes=(time.monotonic() - started) / 60)
    (folder / PROVENANCE_FILE).write_text(json.dumps(provenance, indent=2) + "\n", encoding="utf-8")
    options.out.mkdir(exist_ok=True)
    for file in sorted(folder.iterdir()):
        file.replace(options.out / file.name)
    folder.rmdir()
    console.print(f"checkpoint in {options.out}; {provenance['minutes']} minutes")


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tools.miniworld.train", description=main.__doc__)
    parser.add_argument("--out", type=Path, default=CHECKPOINT, help="folder to write (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of images, weights and order (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=2300, help="training steps (default: %(default)s)")
    parser.add_argument("--images", type=int, default=TRAINING_IMAGES, help="training images (default: %(default)s)")
    return parser.parse_args(arguments)


def _draw(seed: int, count: int, console: Console) -> TrainingSet:
    started = time.monotonic()

    def progress(done: int, total: int) -> None:
        if done % _DRAWING_STEP == 0 or done == total:
            console.print(f"drawn {done} of {total} images, {time.monotonic() - started:.0f} s")

    return draw_training_set(seed, count, progress=progress)


def _train(data: TrainingSet, folder: Path, seed: int, steps: int, console: Console) -> None:
    """Trains a model and writes vocabulary, configuration and weights."""
    from tools.miniworld.learning import Settings, train

    started = time.monotonic()

    def report(step: int, loss: float) -> None:
        console.print(f"step {step} of {steps}: loss {loss:.3f}, {time.monotonic() - started:.0f} s")

    write_vocabulary(folder / VOCABULARY_FILE)
    tokenizer = load_tokenizer(folder / VOCABULARY_FILE)
    write_config(folder / CONFIG_FILE, tokenizer.vocab_size)
    model = train(data, tokenizer, seed, Settings(steps=steps), report)
    _write_weights(model, folder / WEIGHTS_FILE)


def _write_weights(model: CLIP, path: Path) -> None:
    """Writes the weights in half precision, which halves the file and changes cosines by less than 0.001."""
    from safetensors.torch import save_file

    weights = {
        name: (tensor.half() if tensor.is_floating_point() else tensor).contiguous()
        for name, tensor in model.state_dict().items()
    }
    save_file(weights, path)


def _measure(folder: Path, console: Console) -> dict[str, Any]:
    from tools.miniworld.measure import measure_on_fresh_world

    figures = measure_on_fresh_world(folder)
    console.print_json(data=figures)
    return figures


def _provenance(folder: Path, options: argparse.Namespace, figures: dict[str, Any], minutes: float) -> dict[str, Any]:
    """How the checkpoint came about and how good it is."""
    from tools.miniworld.learning import THREADS

    command = f"python -m tools.miniworld.train --seed {options.seed} --steps {options.steps}"
    if options.images != TRAINING_IMAGES:
        command += f" --images {options.images}"
    return {
        "command": command,
        "made": datetime.now(UTC).date().isoformat(),
        "seed": options.seed,
        "steps": options.steps,
        "training_images": options.images,
        "generator_version": GENERATOR_VERSION,
        "sha256": {
            name: hashlib.sha256((folder / name).read_bytes()).hexdigest()
            for name in (WEIGHTS_FILE, CONFIG_FILE, VOCABULARY_FILE)
        },
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "open_clip_torch", "numpy", "pillow")},
        },
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "torch_threads": THREADS,
        "minutes": round(minutes, 1),
        "figures": figures,
    }


if __name__ == "__main__":
    main()
