"""Files appear whole or not at all; what a user names is read as text, or refused in one line that names it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from immuno_core.errors import SetupError
from immuno_core.files import read_text, write_atomically, written_whole


def test_a_file_is_replaced_whole_and_its_folder_made(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.txt"
    write_atomically(path, "é")
    write_atomically(path, b"second", sync=False)
    assert path.read_bytes() == b"second"
    assert list(path.parent.iterdir()) == [path]


def test_what_a_failed_writer_began_is_gone_and_the_old_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    write_atomically(path, "old")

    def fail() -> None:
        with written_whole(path) as temporary:
            temporary.write_text("ne")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("written", ["\ufeffeins\r\nzwei é\n", "eins\nzwei é\n", "eins\rzwei é\r"])
def test_utf_8_is_read_with_and_without_a_mark_whatever_ends_its_lines(tmp_path: Path, written: str) -> None:
    (tmp_path / "x").write_bytes(written.encode())
    (tmp_path / "link").symlink_to("x")
    assert read_text(tmp_path / "link", "list") == "eins\nzwei é\n"


def test_what_cannot_be_read_is_named_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(b"caf\xe9")
    (tmp_path / "long").write_bytes(b"x" * 11)
    (tmp_path / "exact").write_bytes(b"x" * 10)
    (tmp_path / "device").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "pipe")
    assert read_text(tmp_path / "exact", "list", most=10) == "x" * 10
    for name, said in (
        ("none", "no list at {}; make one"),
        ("exact/none", "no list at {}; make one"),
        (".", "cannot read the list {}: it is a folder; make one"),
        ("pipe", "cannot read the list {}: it is no regular file; make one"),
        ("device", "cannot read the list {}: it is no regular file; make one"),
        ("latin", "cannot read the list {}: it is not UTF-8 text (unexpected end of data at byte 3); make one"),
        ("long", "cannot read the list {}: it has more than 10 bytes; make one"),
        ("n\0ul", "cannot read the list {}: embedded null byte; make one"),
    ):
        with pytest.raises(SetupError) as caught:
            read_text(tmp_path / name, "list", hint="make one", most=10)
        assert str(caught.value) == said.format(tmp_path / name)
