"""Finds the batch size of a GPU by trying: as large as fits well within its free memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import torch

from cluster.batching import is_out_of_memory

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


def free_gpu_memory(device: torch.device) -> int:
    """Return the bytes that torch could still use on a GPU: what nobody holds, and what it holds but does not use."""
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(torch.cuda.mem_get_info(device)[0]) + unused


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
