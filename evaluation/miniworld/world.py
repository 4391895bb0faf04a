"""Which images a mini-world consists of, how their random numbers are drawn, and how they get into a folder.

A world is ordinary PNG files, `ROOT/{split}/{set}/{label}/{index:05d}.png`. The rest of the system sees nothing else.

- split `fit`: set `id`, known classes where they belong.
- split `feedback`: `id`; `near`, the first look-alike of each known class where that class belongs, so that only the
  shape tells; `contextual`, known classes where they cannot be; `far`, things and scenes like no known class.
- split `test`: the same four again, and two that resemble nothing in the other splits: `near_unseen`, the second
  look-alikes, and `contextual_unseen`, known classes in the contexts that appear nowhere else.

The label of an `id` image is its class, that of an outlier says what it shows (`whale`, `fish_in_lava`).

Every image is a pure function of (seed, split, set, index). So images can be drawn in any order and by any number of
processes (spawned, not forked: the caller may hold threads that do not survive a fork), and a build that was
interrupted goes on where it stopped. Training images draw from another domain, the first word of the seed: none can
ever equal an image of any world, whatever the seeds.
"""

from __future__ import annotations

import hashlib
import io
import json
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from enum import IntEnum
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import numpy as np
from PIL import Image

from evaluation.miniworld.drawing.scene import GENERATOR_VERSION, coloured_noise, empty_scene, render, texture_only
from evaluation.miniworld.vocabulary import (
    FILLERS,
    KNOWN_CLASSES,
    LOOK_ALIKES,
    PLAUSIBLE_CONTEXTS,
    SEEN_CONTEXTS,
    UNSEEN_CONTEXTS,
    impossible_contexts,
    pick,
)
from immuno_core.errors import SetupError, did_you_mean
from immuno_core.files import write_atomically
from immuno_core.paths import cache_root

_WORD_LIMIT = 2**32


class Domain(IntEnum):
    """What an image is drawn for."""

    TRAINING = 1
    WORLD = 2


def image_generator(domain: Domain, seed: int, split: int, image_set: int, index: int) -> np.random.Generator:
    """The generator of one image.

    The seed always has five words: numpy pads shorter seeds with zeros, so (1, 2) and (1, 2, 0) would be the same.
    Raises ValueError where a number is not in 0 .. 2**32 - 1 (numpy would spill a larger one into the next word).
    """
    words = [int(domain), seed, split, image_set, index]
    if not all(0 <= word < _WORD_LIMIT for word in words):
        raise ValueError(f"seeds and indices must lie in 0 .. 2**32 - 1, not {words[1:]}")
    return np.random.default_rng(np.random.SeedSequence(words))


TaskT = TypeVar("TaskT")
ResultT = TypeVar("ResultT")


def default_workers() -> int:
    """Processes to use unless told otherwise: the cores of the machine, at most 4."""
    return min(os.cpu_count() or 1, 4)


def run_tasks(
    function: Callable[[TaskT], ResultT],
    tasks: Sequence[TaskT],
    workers: int,
    on_result: Callable[[ResultT], None],
) -> None:
    """Applies a top-level function to every task and hands on the results, in the order in which they finish.

    With one worker everything runs in this process. Tasks must be repeatable: where worker processes cannot start or
    die (a script without `if __name__ == "__main__"`, a memory limit), the tasks that are left run in this process.
    When the caller is interrupted, the workers finish the tasks they are at and end, and the interruption goes on.
    """
    if workers <= 1 or len(tasks) <= 1:
        for task in tasks:
            on_result(function(task))
        return
    left = dict(enumerate(tasks))
    context = multiprocessing.get_context("spawn")
    executor = ProcessPoolExecutor(min(workers, len(tasks)), mp_context=context, initializer=_start_worker)
    try:
        with _interrupts_held_back():
            futures = {executor.submit(function, task): number for number, task in left.items()}
        for future in as_completed(futures):
            result = future.result()
            del left[futures[future]]
            on_result(result)
    except BrokenProcessPool:
        pass
    finally:
        executor.shutdown(wait=True, cancel_futures=True)
    for task in left.values():
        on_result(function(task))


@contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Blocks SIGINT in this thread, and so in the processes that it starts.

    Ctrl-C reaches every process of a terminal. The parent decides what to do; workers just finish their task, and one
    that is still importing should not print a traceback either.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Ends this worker when its parent is killed: it would wait for tasks for ever otherwise."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


SETS: Final[dict[str, tuple[str, ...]]] = {
    "fit": ("id",),
    "feedback": ("id", "near", "contextual", "far"),
    "test": ("id", "near", "contextual", "far", "near_unseen", "contextual_unseen"),
}
"""The sets of each split. Seeds are made from positions here, so append, never insert."""
MANIFEST_FILE: Final = "world.json"
"""Describes a world; written last, so a folder that has it was finished."""
UNFINISHED_FILE: Final = "world.json.unfinished"
"""The manifest of a world that is being drawn: what an interrupted folder was going to be."""
_SPLITS: Final = tuple(SETS)
_SET_NAMES: Final = SETS["test"]
# Images per task: a fifth of a second's work, so that an interruption never waits long.
_CHUNK: Final = 64
# Up to so many images are drawn in this process unless told otherwise: starting others takes longer.
_FEW: Final = 400


@dataclass(frozen=True)
class Sizes:
    """How many images each set has; those of the `fit` split per known class, all others in all. At least 1 each."""

    fit_per_class: int = 100
    feedback_id: int = 480
    feedback_near: int = 480
    feedback_contextual: int = 480
    feedback_far: int = 240
    test_id: int = 960
    test_near: int = 640
    test_contextual: int = 640
    test_far: int = 320
    test_near_unseen: int = 640
    test_contextual_unseen: int = 640

    def __post_init__(self) -> None:
        for field in fields(self):
            if getattr(self, field.name) < 1:
                raise ValueError(f"{field.name} must be at least 1, not {getattr(self, field.name)}")

    def count(self, split: str, set_name: str) -> int:
        """Number of images of one set."""
        if split == "fit":
            return self.fit_per_class * len(KNOWN_CLASSES)
        return int(getattr(self, f"{split}_{set_name}"))

    def total(self) -> int:
        """Number of images of the whole world."""
        return sum(self.count(split, name) for split, names in SETS.items() for name in names)


DEFAULT_SIZES: Final = Sizes()


@dataclass(frozen=True)
class MiniWorld:
    """A finished world on disk."""

    root: Path
    seed: int
    classes: tuple[str, ...]

    def set_names(self, split: str) -> tuple[str, ...]:
        """The sets of a split. Raises SetupError for a name that is no split."""
        if split not in SETS:
            raise SetupError(f"the mini-world has no split '{split}'{did_you_mean(split, SETS)}")
        return SETS[split]

    def folder(self, split: str, set_name: str) -> Path:
        """The folder of a set: one folder per label, with PNG files. Raises SetupError for a name that is none."""
        names = self.set_names(split)
        if set_name not in names:
            raise SetupError(
                f"split '{split}' of the mini-world has no set '{set_name}'{did_you_mean(set_name, names)}"
            )
        return self.root / split / set_name


class LabelledImage(NamedTuple):
    """An image (RGB, 64 x 64) and the name of the folder it belongs in."""

    label: str
    image: Image.Image


def default_root(seed: int = 0, sizes: Sizes = DEFAULT_SIZES) -> Path:
    """Where a world is kept when nobody says otherwise: in the cache, one folder for each seed and sizes."""
    identity = json.dumps(_manifest(seed, sizes), sort_keys=True).encode()
    return cache_root() / "miniworld" / hashlib.sha256(identity).hexdigest()[:12]


def build(
    root: Path,
    *,
    seed: int = 0,
    sizes: Sizes = DEFAULT_SIZES,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> MiniWorld:
    """Draws a world into a folder, or what is missing of it; returns at once where it is all there.

    `root` is made if need be; it must be empty or hold this very world, finished or not. `seed` is 0 to 2**32 - 1.
    `workers` are processes that draw, by default the cores of the machine up to 4; with 1 all is drawn in this process.
    `progress` is called as `progress(images there, images in all)`. Raises SetupError where the folder holds something
    else.
    """
    manifest = _manifest(seed, sizes)
    _check_root(root, manifest)
    tasks = list(_missing(root, seed, sizes))
    missing = sum(len(task.indices) for task in tasks)
    total = sizes.total()
    if progress is not None:
        progress(total - missing, total)
    if missing:
        (root / MANIFEST_FILE).unlink(missing_ok=True)
        write_atomically(root / UNFINISHED_FILE, _as_json(manifest))
        if workers is None:
            workers = 1 if missing <= _FEW else default_workers()
        there = total - missing

        def count(drawn: int) -> None:
            nonlocal there
            there += drawn
            if progress is not None:
                progress(there, total)

        run_tasks(_draw_and_save, tasks, workers, count)
    if not (root / MANIFEST_FILE).exists():
        write_atomically(root / MANIFEST_FILE, _as_json(manifest))
    (root / UNFINISHED_FILE).unlink(missing_ok=True)
    return MiniWorld(root, seed, KNOWN_CLASSES)


def draw_image(seed: int, split: str, set_name: str, index: int) -> LabelledImage:
    """Image number `index` of a set. Classes take turns, so that every class is equally frequent in each set."""
    rng = image_generator(Domain.WORLD, seed, _SPLITS.index(split), _SET_NAMES.index(set_name), index)
    return _DRAWERS[set_name](index, rng)


class _Task(NamedTuple):
    root: Path
    seed: int
    split: str
    set_name: str
    indices: tuple[int, ...]


def _draw_known(index: int, rng: np.random.Generator) -> LabelledImage:
    known_class = _in_turn(KNOWN_CLASSES, index)
    return LabelledImage(known_class, render(known_class, pick(PLAUSIBLE_CONTEXTS[known_class], rng), rng))


def _draw_near(which: int, index: int, rng: np.random.Generator) -> LabelledImage:
    known_class = _in_turn(KNOWN_CLASSES, index)
    look_alike = LOOK_ALIKES[known_class][which]
    return LabelledImage(look_alike, render(look_alike, pick(PLAUSIBLE_CONTEXTS[known_class], rng), rng))


def _draw_contextual(contexts: tuple[str, ...], index: int, rng: np.random.Generator) -> LabelledImage:
    known_class = _in_turn(KNOWN_CLASSES, index)
    context = pick(impossible_contexts(known_class, contexts), rng)
    return LabelledImage(f"{known_class}_in_{context}", render(known_class, context, rng))


def _draw_far(index: int, rng: np.random.Generator) -> LabelledImage:
    """Every other image a filler; of the rest, empty scenes, textures and noise in turn."""
    kind = index % 6
    if kind % 2 == 0:
        filler = _in_turn(FILLERS, index // 2)
        return LabelledImage(filler, render(filler, pick(SEEN_CONTEXTS, rng), rng))
    if kind == 1:
        return LabelledImage("empty_scene", empty_scene(pick(SEEN_CONTEXTS, rng), rng))
    if kind == 3:
        return LabelledImage("texture", texture_only(rng))
    return LabelledImage("noise", coloured_noise(rng))


_DRAWERS: Final[dict[str, Callable[[int, np.random.Generator], LabelledImage]]] = {
    "id": _draw_known,
    "near": partial(_draw_near, 0),
    "contextual": partial(_draw_contextual, SEEN_CONTEXTS),
    "far": _draw_far,
    "near_unseen": partial(_draw_near, 1),
    "contextual_unseen": partial(_draw_contextual, UNSEEN_CONTEXTS),
}


def _in_turn(names: tuple[str, ...], index: int) -> str:
    return names[index % len(names)]


def _draw_and_save(task: _Task) -> int:
    """Draws the images of a task into their files; returns how many."""
    for index in task.indices:
        label, image = draw_image(task.seed, task.split, task.set_name, index)
        packed = io.BytesIO()
        image.save(packed, format="PNG")
        path = task.root / task.split / task.set_name / label / f"{index:05d}.png"
        write_atomically(path, packed.getvalue(), sync=False)
    return len(task.indices)


def _missing(root: Path, seed: int, sizes: Sizes) -> Iterator[_Task]:
    """The tasks that draw what a folder lacks. File names carry the index, so no image needs to be opened for this."""
    for split, names in SETS.items():
        for set_name in names:
            there = {path.stem for path in (root / split / set_name).glob("*/*.png")}
            missing = [index for index in range(sizes.count(split, set_name)) if f"{index:05d}" not in there]
            for start in range(0, len(missing), _CHUNK):
                yield _Task(root, seed, split, set_name, tuple(missing[start : start + _CHUNK]))


def _manifest(seed: int, sizes: Sizes) -> dict[str, Any]:
    """Everything a world is a function of, and what it holds."""
    return {
        "generator_version": GENERATOR_VERSION,
        "seed": seed,
        "sizes": asdict(sizes),
        "count": sizes.total(),
        "classes": list(KNOWN_CLASSES),
    }


def _check_root(root: Path, manifest: dict[str, Any]) -> None:
    """Refuses a folder that holds anything but (a part of) the world of this manifest."""
    if root.exists() and not root.is_dir():
        raise SetupError(f"{root} is a file: name a folder for the mini-world")
    for file in (root / MANIFEST_FILE, root / UNFINISHED_FILE):
        if file.exists():
            differences = _differences(file, manifest)
            if differences:
                raise SetupError(
                    f"{root} holds another mini-world ({differences}): name another folder, or delete this one"
                )
            return
    # Hidden files do not count: file managers leave some, and so does a build that was killed.
    if root.is_dir() and any(not path.name.startswith(".") for path in root.iterdir()):
        raise SetupError(f"{root} holds other files and no mini-world: name an empty or a new folder")


def _differences(file: Path, manifest: dict[str, Any]) -> str:
    """In what a written manifest differs, in words; nothing where it does not."""
    try:
        written = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        return f"its {file.name} is unreadable"
    if not isinstance(written, dict):
        return f"its {file.name} is unreadable"
    names = [name for name, value in manifest.items() if written.get(name) != value]
    if "generator_version" in names or "seed" in names:
        # What is meant by these two fits on a line; sizes and classes do not.
        names = [name for name in names if name in ("generator_version", "seed")]
        return ", ".join(f"{name} {written.get(name)} and not {manifest[name]}" for name in names)
    return f"other {' and '.join(names)}" if names else ""


def _as_json(manifest: dict[str, Any]) -> bytes:
    return (json.dumps(manifest, indent=2) + "\n").encode()
