"""Runs a model on one batch after another, in a thread of its own; finds and halves its size on a GPU.

- Out of memory: the batch size is halved, for this batch and all later ones, and the same images are tried again.
- An image over which the model raises is found by halving its batch again and again; it is refused, the others are not.
- On a GPU a batch is launched, not waited for: whoever asked waits for its rows, and the next is launched behind it.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from immuno_core.errors import ImmunoError, SetupError

Step = Callable[[torch.Tensor], torch.Tensor]
"""A batch of n on the device -> n rows, on the device; each row depends on its own entry of the batch alone."""
_NO_MEMORY: Final = (
    "not enough memory",
    "can't allocate memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
)
"""How torch on a CPU, CUDA and cuBLAS say what torch.OutOfMemoryError says."""


class BatchResult(NamedTuple):
    """What a batch gave."""

    rows: NDArray[Any]
    """(n - len(refused), ...), in the order of the batch."""
    refused: dict[int, str]
    """Place in the batch -> what the model raised over it."""
    model_seconds: float
    wait_seconds: float
    """How long the model had nothing to do before this batch."""
    halvings: int


class BatchRunner:
    """A device with a model on it, which does one batch at a time. Any thread may ask; batches are done in turn.

    One thread runs the model because every thread that did would bring up CPU workers of its own.
    """

    def __init__(self, device: torch.device, batch_size: int) -> None:
        self.device = device
        self.batch_size = batch_size
        """The most it gives the model at once: lower than at first once memory has run out."""
        self._clock = _Clock(device)
        self._idle_since: Any = None
        self._askers = 0
        self._lock = threading.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")

    @contextlib.contextmanager
    def asked(self) -> Iterator[None]:
        """While somebody is within this block, a model that does nothing is waiting, not resting."""
        with self._lock:
            if self._askers == 0:
                self._idle_since = self._clock.mark()
            self._askers += 1
        try:
            yield
        finally:
            with self._lock:
                self._askers -= 1

    def submit(self, step: Step, batch: torch.Tensor, *, padded: bool = False) -> Call:
        """Have the model do a batch, (n, ...) on the CPU. Returns at once. Call it within `asked`.

        `padded`: whatever the model is given is filled up with zeros to `batch_size`.
        """
        return Call(self._thread.submit(self._run, step, batch, padded), self._clock)

    def run(self, step: Step, batch: torch.Tensor, *, padded: bool = False) -> BatchResult:
        """Have the model do a batch, and wait for it. Raises as `Call.answer` does."""
        with self.asked():
            return self.submit(step, batch, padded=padded).answer()

    def _run(self, step: Step, batch: torch.Tensor, padded: bool) -> _Launched:
        work = _Launched(self._idle_since, self._clock.mark(), padded)
        with torch.inference_mode():
            self._do(step, batch, 0, work)
        work.ended = self._idle_since = self._clock.mark()
        if work.refused and len(work.refused) == len(batch) > 1:
            reason = work.refused[0]
            raise ImmunoError(f"the model fails on every image, the first time with {reason}")
        return work

    def _do(self, step: Step, batch: torch.Tensor, place: int, work: _Launched) -> None:
        """Do a batch whose first entry has a place in the whole one."""
        start = 0
        while start < len(batch):
            piece = batch[start : start + self.batch_size]
            try:
                work.parts.append(self._to_host(self._rows(step, piece, work.padded)))
            except Exception as error:
                out_of_memory = is_out_of_memory(error)
                if not out_of_memory and isinstance(error, ImmunoError | torch.AcceleratorError):
                    raise
                reason = None if out_of_memory else _said(error)
            else:
                start += len(piece)
                continue
            # Outside the block, since the error holds on to every tensor that the model had made.
            if reason is None:
                self._halve(self.batch_size if work.padded else len(piece), work)
                continue
            if len(piece) == 1:
                work.refused[place + start] = reason
            else:
                middle = (len(piece) + 1) // 2
                self._do(step, piece[:middle], place + start, work)
                self._do(step, piece[middle:], place + start + middle, work)
            start += len(piece)

    def _rows(self, step: Step, piece: torch.Tensor, padded: bool) -> torch.Tensor:
        given = piece.to(self.device, non_blocking=True)
        if padded:
            given = functional.pad(given, (0, 0) * (given.ndim - 1) + (0, self.batch_size - len(piece)))
        return step(given)[: len(piece)]

    def _halve(self, count: int, work: _Launched) -> None:
        if count == 1:
            raise SetupError(
                f"the memory of {self.device} does not hold the model at work on a single image; free some, use a "
                'smaller model or precision = "fp16", or another device'
            )
        self.batch_size = count // 2
        work.halvings += 1
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _to_host(self, rows: torch.Tensor) -> torch.Tensor:
        if self.device.type != "cuda":
            return rows.cpu()
        host = torch.empty(rows.shape, dtype=rows.dtype, pin_memory=True)
        return host.copy_(rows, non_blocking=True)


class Call:
    """A batch that the model was given."""

    def __init__(self, launched: Future[_Launched], clock: _Clock) -> None:
        self._launched = launched
        self._clock = clock

    def answer(self) -> BatchResult:
        """Wait for the batch.

        Raises SetupError where memory does not suffice for a single entry, ImmunoError where the model fails on every
        entry of several, torch.AcceleratorError where a GPU has failed (this process cannot use it any more).
        """
        work = self._launched.result()
        self._clock.wait_for(work.ended)
        return BatchResult(
            rows=np.concatenate([part.numpy() for part in work.parts]) if work.parts else np.empty(0),
            refused=work.refused,
            model_seconds=self._clock.seconds(work.began, work.ended),
            wait_seconds=self._clock.seconds(work.idle_since, work.began),
            halvings=work.halvings,
        )

    def drop(self) -> None:
        """Take the batch back if it has not been begun."""
        self._launched.cancel()


@dataclass(slots=True)
class _Launched:
    """A batch that is done, or on a GPU will be once `ended` is reached."""

    idle_since: Any
    began: Any
    padded: bool
    ended: Any = None
    parts: list[torch.Tensor] = field(default_factory=list)
    refused: dict[int, str] = field(default_factory=dict)
    halvings: int = 0


class _Clock:
    """Marks points of a device's work and tells the seconds between them: by the clock, or by a GPU's own events."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def mark(self) -> Any:
        if self._device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(self._device))
        return event

    def wait_for(self, mark: Any) -> None:
        if self._device.type == "cuda":
            mark.synchronize()

    def seconds(self, first: Any, second: Any) -> float:
        if self._device.type == "cuda":
            return float(first.elapsed_time(second)) / 1000
        return float(second - first)


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error says that memory ran out, on a GPU or on a CPU."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _NO_MEMORY)


def _said(error: Exception) -> str:
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


CPU_BATCH_SIZE: Final = 64
"""Without a GPU there is nothing to find: larger batches are no faster, smaller ones start sooner."""
MOST: Final = 256
"""The default shard's size. A batch never reaches beyond its shard, and larger ones gain nothing."""
_SHARE: Final = 0.8
"""Of the free memory: the rest is for fragmentation, the next batch's input, and texts."""


def find_batch_size(peak: Callable[[int], int], free: int, *, most: int = MOST) -> int:
    """Return the largest power of two, at most `most`, whose peak of memory stays within a share of `free` bytes.

    `peak` runs a batch of a size and returns the bytes it needed at once, or raises for want of memory. 1 is returned
    untried: if even that does not fit, the first batch will say so.
    """
    size = 1
    while 2 * size <= most:
        try:
            needed = peak(2 * size)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            break
        if needed > _SHARE * free:
            break
        size *= 2
    return size


def find_gpu_batch_size(run: Callable[[int], object], device: torch.device, share: float = 1.0) -> int:
    """Return the batch size that `find_batch_size` finds on a GPU of which a share is this process's.

    What the largest batches took is given back: others on this GPU, who look for theirs, would find it taken.
    """
    try:
        return find_batch_size(gpu_peak(run, device), free_gpu_memory(device, share))
    finally:
        torch.cuda.empty_cache()


def free_gpu_memory(device: torch.device, share: float = 1.0) -> int:
    """Return the bytes that torch could still use on a GPU: what nobody holds, and what it holds but does not use.

    With a `share`, no more than what this process has not used of its own.
    """
    used = torch.cuda.memory_allocated(device)
    free, total = torch.cuda.mem_get_info(device)
    return min(int(free) + torch.cuda.memory_reserved(device) - used, int(share * total) - used)


def gpu_peak(run: Callable[[int], object], device: torch.device) -> Callable[[int], int]:
    """Return what `find_batch_size` asks: the bytes that `run(size)` needs at once on a GPU."""

    def peak(size: int) -> int:
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        with torch.inference_mode():
            run(size)
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before

    return peak
