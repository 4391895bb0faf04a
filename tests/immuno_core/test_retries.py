"""What is tried again, and after how long."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
import tenacity.nap

import cluster.encoder.reading
from cluster.encoder.reading import read_image
from immuno_core.retries import Backoff, is_passing, reading_again
from tests.cluster.tiny_models import write_images


def test_waits_double_up_to_a_limit() -> None:
    backoff = Backoff(first=0.5, longest=3.0)
    assert [backoff.seconds(failures) for failures in (0, 1, 2, 3, 4, 10_000)] == [0.0, 0.5, 1.0, 2.0, 3.0, 3.0]


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (OSError(errno.EIO, "input/output error"), True),
        (OSError(errno.ESTALE, "stale file handle"), True),
        (ConnectionResetError("reset"), True),
        (TimeoutError("slow"), True),
        (FileNotFoundError(errno.ENOENT, "no such file"), False),
        (PermissionError(errno.EACCES, "denied"), False),
        (OSError(errno.ENOSPC, "disk full"), False),
        (ValueError("no image"), False),
    ],
)
def test_what_a_busy_machine_says_passes_and_what_a_user_must_mend_does_not(error: Exception, passes: bool) -> None:
    assert is_passing(error) is passes


def test_a_read_is_tried_three_times(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(tenacity.nap.time, "sleep", waits.append)
    tries = 0

    def stale(times: int) -> str:
        nonlocal tries
        tries += 1
        if tries <= times:
            raise OSError(errno.ESTALE, "stale")
        return "read"

    assert reading_again(lambda: stale(2)) == "read"
    assert waits == [0.1, 0.2]
    tries = 0
    with pytest.raises(OSError, match="stale"):
        reading_again(lambda: stale(3))
    assert tries == 3

    def absent() -> str:
        nonlocal tries
        tries += 1
        raise FileNotFoundError(errno.ENOENT, "absent")

    tries = 0
    with pytest.raises(FileNotFoundError):
        reading_again(absent)
    assert tries == 1


def test_an_image_is_read_though_its_file_system_stumbles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_images(tmp_path, {"cat": 1}) / "cat/000.png"
    opened = []

    def stumbling(name: str) -> object:
        opened.append(name)
        if len(opened) == 1:
            raise OSError(errno.EIO, "input/output error")
        return Path(name).open("rb")

    monkeypatch.setattr(cluster.encoder.reading, "open_image", stumbling)
    assert read_image(str(path), lambda image: image.size) == (24, 20)
    assert len(opened) == 2
