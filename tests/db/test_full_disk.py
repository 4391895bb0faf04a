"""A disk that fills while something is written: a clear error, and everything that was committed before is there."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from db.maintenance import check_database
from db.store import AntibodyStore, open_store
from immuno_core.errors import ImmunoError

from .build import antibody, draft, make_session
from .workers import ROOT

MEGABYTE = 1 << 20


def fill(store: AntibodyStore) -> int:
    """Write generations until one fails; return how many were acknowledged."""
    session = make_session(store)
    for number in range(1000):
        long = antibody("robot dog", rationale="x" * 200_000)
        try:
            store.save_generation(
                draft(session.id, number, antibodies=(long,), effects=(), verdicts=(), bank=(), parent=None)
            )
        except ImmunoError as error:
            if not str(error).endswith("what was committed is safe"):
                raise
            return number
    raise AssertionError("the disk never filled")


def check(path: Path, acknowledged: int) -> None:
    assert acknowledged > 0
    assert [one for one in check_database(str(path), path) if not one.ok] == []
    with open_store(str(path)) as store:
        assert [one.number for one in store.generations()] == list(range(acknowledged))
        assert len(store.antibodies()[-1].rationale) == 200_000


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MB."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small file system; the next test needs no root")
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip(f"nothing can be mounted here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_fills_harms_nothing(small_disk: Path) -> None:
    path = small_disk / "immuno.db"
    with open_store(str(path)) as store:
        acknowledged = fill(store)
        assert len(store.generations()) == acknowledged  # still readable, with the disk full
    # Room again: nothing but space was missing.
    subprocess.run(["mount", "-o", "remount,size=16m", str(small_disk)], check=True)
    check(path, acknowledged)
    with open_store(str(path)) as store:
        store.save_generation(draft(store.session("alpha").id, acknowledged, parent=None))


LIMITED = """
import resource, signal, sys
from db.store import open_store
from tests.db.test_full_disk import MEGABYTE, fill

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write beyond the limit fails then, instead of ending the process
with open_store(sys.argv[1]) as store:
    resource.setrlimit(resource.RLIMIT_FSIZE, (3 * MEGABYTE, resource.RLIM_INFINITY))
    print(fill(store))
"""


def test_a_file_that_may_not_grow_harms_nothing(path: Path) -> None:
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    done = subprocess.run([sys.executable, "-c", LIMITED, str(path)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    check(path, int(done.stdout))
