"""Temporary folders go with their owner, however it ends; nobody else's are touched."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from immuno_core.system.temporary import OwnedFolder, sweep

KILLED = """
import os, signal, sys
from pathlib import Path
from immuno_core.system.temporary import OwnedFolder
folder = OwnedFolder("dead-", within=Path(sys.argv[1]))
(folder.path / "inner").mkdir()
(folder.path / "inner" / "file").touch()
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_owners_folder_goes_and_every_other_stays(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False, timeout=20)
    (dead,) = tmp_path.iterdir()
    assert (dead / "inner" / "file").exists()
    (tmp_path / "immuno-somebodys").mkdir()
    (tmp_path / "immuno-link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / ".owner").touch()
    with OwnedFolder(within=tmp_path) as name:
        assert not dead.exists()
        sweep(tmp_path)
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
            ["elsewhere", "immuno-link", "immuno-somebodys", Path(name).name]
        )
    assert not Path(name).exists()
