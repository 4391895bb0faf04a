"""A file that cannot be read is left out and named; the others of its batch are embedded all the same."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from cluster import EncoderSpec
from cluster.encoder.encoder import Encoder, load_encoder
from tests.cluster.tiny_models import write_images


@pytest.fixture(scope="module")
def encoder(tiny_encoder_dir: Path) -> Encoder:
    return load_encoder(EncoderSpec(f"local-dir:{tiny_encoder_dir}"), batch_size=3)


def test_broken_files_are_named_and_the_rest_is_embedded(encoder: Encoder, tmp_path: Path) -> None:
    good = sorted(map(str, write_images(tmp_path / "good", {"cat": 4}).glob("cat/*")))
    whole = Path(good[0]).read_bytes()
    contents = {
        "corrupt.png": whole[:40] + b"\xff" * 200 + whole[240:],
        "empty.png": b"",
        "text.png": b"this is no image\n",
        "truncated.png": whole[: len(whole) // 2],
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    broken = {name: str(tmp_path / name) for name in contents}
    paths = [good[0], *list(broken.values())[:3], good[1], good[2], *list(broken.values())[3:], good[3]]

    embedded = encoder.embed_image_files(paths)

    np.testing.assert_allclose(embedded.features, encoder.embed_image_files(good).features, atol=1e-6)
    assert [row for row in range(len(paths)) if row not in embedded.failures] == [0, 4, 5, 7]
    assert [(row, failure.path) for row, failure in embedded.failures.items()] == [
        (row, path) for row, path in enumerate(paths) if path in broken.values()
    ]
    reasons = {Path(failure.path).name: failure.reason for failure in embedded.failures.values()}
    assert reasons["empty.png"] == "the file is empty"
    assert reasons["text.png"] == "not an image"
    assert "truncated" in reasons["truncated.png"]
    assert not embedded.transient


def test_what_the_system_refuses_may_succeed_another_time(encoder: Encoder, tmp_path: Path) -> None:
    gone = tmp_path / "gone.png"
    pipe = tmp_path / "pipe.png"
    os.mkfifo(pipe)
    embedded = encoder.embed_image_files([str(gone), str(pipe), str(tmp_path)])
    assert [failure.reason for failure in embedded.failures.values()] == [
        "No such file or directory",
        "not a regular file",
        "not a regular file",
    ]
    assert embedded.transient == {0}
