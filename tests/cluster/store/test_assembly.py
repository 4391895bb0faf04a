"""A set's rows come together in their order, in a file that has no name, mapped read-only."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.store.assembly import Assembly
from immuno_core.errors import SetupError
from immuno_core.features import FloatArray

DIM = 4


def rows(count: int) -> FloatArray:
    return np.arange(count * DIM, dtype=np.float32).reshape(count, DIM)


@given(sizes=st.lists(st.integers(0, 3), min_size=1, max_size=8), order=st.randoms(use_true_random=False))
def test_shards_may_come_in_any_order_and_lack_rows(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], order: object
) -> None:
    folder = tmp_path_factory.mktemp("set")
    expected = rows(sum(sizes))
    ends = np.cumsum(sizes)
    shards = [(3 * i, expected[end - size : end]) for i, (size, end) in enumerate(zip(sizes, ends, strict=True))]
    order.shuffle(shards)  # type: ignore[attr-defined]
    assembly = Assembly(folder, DIM)
    for start, part in shards:
        assembly.put(start, part)
    found = assembly.finish()
    np.testing.assert_array_equal(found, expected)
    assert (found.shape, found.dtype) == ((sum(sizes), DIM), np.float32)
    assert list(folder.iterdir()) == []


def test_the_array_is_mapped_and_read_only_and_holds_its_file(tmp_path: Path) -> None:
    assembly = Assembly(tmp_path, DIM)
    assembly.put(0, rows(1000))
    found = assembly.finish()
    assert not found.flags.owndata
    assert type(found) is np.ndarray
    with pytest.raises(ValueError, match="read-only"):
        found[0, 0] = 1
    part = found[10:20]
    del found, assembly
    np.testing.assert_array_equal(part, rows(20)[10:])


def test_a_folder_that_may_not_be_written_is_left_alone(tmp_path: Path, own_cache: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    assembly = Assembly(tmp_path / "file" / "store", DIM)
    assembly.put(0, rows(2))
    np.testing.assert_array_equal(assembly.finish(), rows(2))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's device that is always full")
def test_a_full_disk_is_told_with_what_to_do(tmp_path: Path) -> None:
    with contextlib.closing(Assembly(tmp_path, DIM)) as assembly, Path("/dev/full").open("r+b", buffering=0) as full:
        os.dup2(full.fileno(), assembly._file.fileno())
        with pytest.raises(SetupError, match=f"together in {tmp_path}: No space left on device; free some space"):
            assembly.put(0, rows(2))
