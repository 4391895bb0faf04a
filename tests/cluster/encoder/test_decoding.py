"""Images are decoded ahead of the model: in order, side by side, and never more than a few batches of them."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

from cluster.encoder.pixels import Preprocessing
from cluster.encoder.reading import Decoder, read_image
from tests.cluster.actors.scripts import ROOT
from tests.cluster.tiny_models import write_images

SIZE = 32


class Preparing(Preprocessing):
    """Counts what it has begun, and calls `meanwhile` for each."""

    def __init__(self) -> None:
        super().__init__(image_transform_v2(PreprocessCfg(size=SIZE), is_train=False))
        self.begun = 0
        self.meanwhile: Callable[[Image.Image], object] = lambda image: None
        self._count = threading.Lock()

    def pixels(self, image: Image.Image) -> np.ndarray:
        with self._count:
            self.begun += 1
        self.meanwhile(image)
        return super().pixels(image)


@pytest.fixture
def preparing() -> Preparing:
    return Preparing()


@pytest.fixture
def decoder(preparing: Preparing) -> Decoder:
    return Decoder(preparing, (SIZE, SIZE), threads=3, pinned=False)


@pytest.fixture
def paths(tmp_path: Path) -> list[str]:
    return sorted(map(str, write_images(tmp_path / "images", {"cat": 50}).glob("cat/*")))


def everything(decoder: Decoder, paths: list[str], size: int) -> tuple[list[int], torch.Tensor]:
    batches = list(decoder.batches(paths, size))
    return [row for batch in batches for row in batch.rows], torch.cat([batch.pixels for batch in batches])


@pytest.mark.parametrize("size", [1, 7, 8, 20, 50, 64])
def test_batches_come_in_order_whatever_their_size(
    decoder: Decoder, preparing: Preparing, paths: list[str], size: int
) -> None:
    batches = list(decoder.batches(paths, size))
    assert [len(batch.rows) for batch in batches] == [size] * (50 // size) + [50 % size] * (50 % size > 0)
    rows, pixels = everything(decoder, paths, size)
    assert rows == list(range(50))
    assert pixels.dtype == torch.uint8
    expected = np.stack([read_image(path, preparing.pixels) for path in paths])
    assert np.array_equal(pixels.numpy(), expected)
    assert all(batch.seconds > 0 for batch in batches)


def test_what_cannot_be_read_leaves_no_gap(decoder: Decoder, paths: list[str]) -> None:
    whole = everything(decoder, paths, 16)[1]
    for row in (0, 15, 16, *range(32, 48)):
        Path(paths[row]).write_bytes(b"")
    batches = list(decoder.batches(paths, 16))
    rows, pixels = everything(decoder, paths, 16)
    assert [row for batch in batches for row in batch.failures] == [0, 15, 16, *range(32, 48)]
    assert [len(batch.pixels) for batch in batches] == [14, 15, 0, 2]
    assert torch.equal(pixels, whole[rows])
    assert list(decoder.batches([], 16)) == []


def test_only_a_few_batches_are_decoded_ahead(decoder: Decoder, preparing: Preparing, paths: list[str]) -> None:
    batches = decoder.batches(paths, 5)
    for given in range(1, 11):
        next(batches)
        assert preparing.begun <= 5 * (given + 2)
    assert preparing.begun == 50
    assert next(batches, None) is None


def test_workers_decode_side_by_side(decoder: Decoder, preparing: Preparing, paths: list[str]) -> None:
    together = threading.Barrier(3, timeout=60)  # passed only if three threads are within it at a time
    preparing.meanwhile = lambda image: together.wait()
    assert everything(decoder, paths[:24], 24)[0] == list(range(24))


def test_lists_read_at_a_time_share_the_workers(decoder: Decoder, paths: list[str]) -> None:
    def alternate(*lists: list[str]) -> Iterator[list[int]]:
        for batches in zip(*(decoder.batches(files, 10) for files in lists), strict=True):
            yield [row for batch in batches for row in batch.rows]

    assert [len(rows) for rows in alternate(paths, paths[::-1], paths)] == [30] * 5
    assert len([thread for thread in threading.enumerate() if thread.name.startswith("decode")]) >= 1


def test_what_is_left_early_is_dropped(
    decoder: Decoder, preparing: Preparing, paths: list[str], tmp_path: Path
) -> None:
    later = sorted(map(str, write_images(tmp_path / "later", {"cat": 50}, size=(9, 9)).glob("cat/*")))
    gate = threading.Event()
    preparing.meanwhile = lambda image: image.size == (9, 9) and gate.wait(60)
    batches = decoder.batches([*paths, *later, *later], 50)
    next(batches)
    batches.close()  # while three workers are at the gate, each with at most eight images
    gate.set()
    assert everything(decoder, paths[:4], 4)[0] == [0, 1, 2, 3]
    assert preparing.begun <= 50 + 3 * 8 + 4


SILENCING = """
import sys, threading, warnings
from cluster.encoder.reading import read_image

inside = threading.Barrier(3, timeout=60)

def warn(image):
    inside.wait()
    warnings.warn("an odd palette", UserWarning, stacklevel=1)
    inside.wait()

before = list(warnings.filters)
threads = [threading.Thread(target=read_image, args=(sys.argv[1], warn)) for _ in range(3)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join(60)
assert warnings.filters == before
warnings.warn("heard again", UserWarning, stacklevel=1)
"""


@pytest.mark.long
def test_threads_that_silence_warnings_give_them_back(tmp_path: Path) -> None:
    """Python keeps one list of filters for all threads: each restoring its own would leave warnings off for good.

    In a process of its own, where no thread of an earlier test changes that list.
    """
    path = str(sorted(write_images(tmp_path, {"cat": 1}).glob("cat/*"))[0])
    done = subprocess.run(
        [sys.executable, "-c", SILENCING, path], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert "heard again" in done.stderr
    assert "odd palette" not in done.stderr
