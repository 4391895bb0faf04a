"""Pipes and devices, whose end never comes, as any file that a command reads: one line, and no waiting."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from immuno.cli import main


@pytest.mark.parametrize("device", [False, True], ids=["pipe", "device"])
@pytest.mark.parametrize(
    "arguments",
    [
        "bench {file}.toml",
        "embed {file}.toml",
        "refine start {file}.toml --session x --db {tmp}/new.db",
        "report {file}",
        "db sessions --db {file}.db",
        "db merge {file}.db --db {tmp}/new.db",
        "db import-bank {file}.txt --db {tmp}/new.db",
        "db import-bank {file}.jsonl --db {tmp}/new.db",
        "db import-bank {file}.json --db {tmp}/new.db",
        "db import-bank {file}.parquet --db {tmp}/new.db",
        "db import-session {file}.db --db {tmp}/new.db",
        "refine branch x --session y --guideline {file} --db {tmp}/new.db",
    ],
)
def test_a_file_without_an_end_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: str, device: bool
) -> None:
    words = arguments.format(file=tmp_path / "file", tmp=tmp_path).split()
    (named,) = (Path(word) for word in words if Path(word).name.startswith("file"))
    if arguments.startswith("report"):
        named.mkdir()
        named /= "results.json"
    if device:
        named.symlink_to("/dev/zero")
    else:
        os.mkfifo(named)
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert named.name in line
