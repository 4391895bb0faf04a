"""The largest batch that fits is found by trying, on a GPU whose memory is told here by a rule."""

from __future__ import annotations

import pytest
import torch

from cluster.encoder.batching import find_batch_size


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


def test_what_is_not_a_lack_of_memory_is_raised() -> None:
    def peak(size: int) -> int:
        raise ValueError("no kernel")

    with pytest.raises(ValueError, match="no kernel"):
        find_batch_size(peak, 1000)
