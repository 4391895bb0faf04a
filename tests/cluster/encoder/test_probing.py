"""The largest batch that fits is found by trying, on a GPU whose memory is told here by a rule."""

from __future__ import annotations

import pytest
import torch

from cluster.encoder.batching import find_batch_size, find_gpu_batch_size


class Memory:
    """Needs `each` bytes an image and `fixed` bytes beside, of which `total` exist."""

    def __init__(self, each: int, fixed: int, total: int) -> None:
        self.each, self.fixed, self.total = each, fixed, total
        self.tried: list[int] = []

    def peak(self, size: int) -> int:
        self.tried.append(size)
        needed = self.fixed + size * self.each
        if needed > self.total:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return needed


@pytest.mark.parametrize(
    ("each", "total", "found"),
    [(1, 10**6, 256), (10, 1000, 64), (10, 430, 32), (10, 100, 4), (300, 1000, 2), (900, 1000, 1), (5000, 1000, 1)],
)
def test_the_largest_power_of_two_within_four_fifths_is_taken(each: int, total: int, found: int) -> None:
    memory = Memory(each, fixed=20, total=total)
    assert find_batch_size(memory.peak, total) == found
    assert memory.tried == [2**i for i in range(1, len(memory.tried) + 1)]
    assert memory.tried[-1] <= min(2 * found, 256)


class FakeGpu:
    """torch.cuda of a process on a GPU of 1,000 bytes, of which it holds 100 for its model, and others hold some.

    Like torch it keeps what it has once asked for, until it is told to give it back.
    """

    def __init__(self, others: int) -> None:
        self.others = others
        self.reserved = self.peak = 100

    def run(self, size: int) -> None:
        self.peak = 100 + 10 * size
        if self.peak > 1000 - self.others:
            raise torch.OutOfMemoryError("CUDA out of memory")
        self.reserved = max(self.reserved, self.peak)

    def empty_cache(self) -> None:
        self.reserved = 100

    def patched(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value in {
            "mem_get_info": lambda _: (1000 - self.others - self.reserved, 1000),
            "memory_reserved": lambda _: self.reserved,
            "memory_allocated": lambda _: 100,
            "max_memory_allocated": lambda _: self.peak,
            "reset_peak_memory_stats": lambda _: None,
            "synchronize": lambda _: None,
            "empty_cache": self.empty_cache,
        }.items():
            monkeypatch.setattr(torch.cuda, name, value)


def test_two_on_one_gpu_find_the_same_and_leave_each_other_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second one comes when the first has found its size, and waits for its first images."""
    device, found, others = torch.device("cuda:0"), [], 0
    for share in (0.5, 0.5):
        gpu = FakeGpu(others)
        gpu.patched(monkeypatch)
        found.append(find_gpu_batch_size(gpu.run, device, share))
        others = gpu.reserved
    assert found == [32, 32]
    assert others == 100
    assert 2 * (100 + 10 * 32) <= 1000
    alone = FakeGpu(0)
    alone.patched(monkeypatch)
    assert find_gpu_batch_size(alone.run, device) == 64


def test_what_is_not_a_lack_of_memory_is_raised() -> None:
    def peak(size: int) -> int:
        raise ValueError("no kernel")

    with pytest.raises(ValueError, match="no kernel"):
        find_batch_size(peak, 1000)
