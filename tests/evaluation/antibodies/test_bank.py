"""Banks, and the three kinds of files that texts come from."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.antibodies.bank_files import read_bank_file, write_bank_jsonl
from evaluation.space import Bank
from immuno_core.errors import SetupError
from immuno_core.files import write_atomically
from immuno_core.records import Antibody
from tests.evaluation.synthetic import bank_of, unit_rows


def write(folder: Path, name: str, content: str) -> Path:
    path = folder / name
    path.write_text(content, encoding="utf-8")
    return path


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20).filter(lambda t: bool(t.strip()))


@given(st.lists(st.tuples(texts, st.sampled_from(["look_alike", "contextual"]), texts | st.just("")), min_size=1))
def test_what_is_written_as_jsonl_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, entries: list[tuple[str, str, str]]
) -> None:
    path = tmp_path_factory.getbasetemp() / "any" / "bank.jsonl"
    bank = [Antibody(t.strip(), kind, t.strip(), r.strip()) for t, kind, r in entries]  # type: ignore[arg-type]
    write_bank_jsonl(path, bank)
    assert read_bank_file(path) == bank


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SetupError, match=r"bank.jsonl cannot be written: File exists"):
        write_bank_jsonl(tmp_path / "file" / "bank.jsonl", [])


def test_jsonl_needs_text_kind_and_guards_and_ignores_what_else_an_export_holds(tmp_path: Path) -> None:
    lines = [
        {"text": " whale ", "kind": "look_alike", "guards": "fish", "rationale": "same outline", "cosine": 0.71},
        {"text": "a fish in lava", "kind": "contextual", "guards": "fish"},
        {"text": "fog", "kind": "contextual", "guards": ""},
    ]
    path = write(tmp_path, "b.jsonl", "\ufeff\n" + "\r\n\n".join(json.dumps(line) for line in lines) + "\n")
    assert read_bank_file(path) == [
        Antibody("whale", "look_alike", "fish", "same outline"),
        Antibody("a fish in lava", "contextual", "fish"),
        Antibody("fog", "contextual", ""),
    ]


def test_an_eoe_file_gives_look_alikes_of_its_classes(tmp_path: Path) -> None:
    path = write(tmp_path, "eoe.json", json.dumps({"tench": ["green snake", "zucchini"], "goldfish": ["koi"]}))
    assert read_bank_file(path) == [
        Antibody("green snake", "look_alike", "tench"),
        Antibody("zucchini", "look_alike", "tench"),
        Antibody("koi", "look_alike", "goldfish"),
    ]


def test_a_plain_list_guards_no_class_in_particular(tmp_path: Path) -> None:
    path = write(tmp_path, "nouns.TXT", "whale\r\n\n  submarine \n")
    assert read_bank_file(path) == [
        Antibody("whale", "look_alike", ""),
        Antibody("submarine", "look_alike", ""),
    ]


GOOD = '{"text": "whale", "kind": "look_alike", "guards": "fish"}\n'


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("b.jsonl", GOOD + "{oops", "b.jsonl, line 2: not JSON"),
        ("b.jsonl", GOOD + "[1]", "line 2: not an object"),
        ("b.jsonl", GOOD + "\n" + '{"text": "x", "kind": "look_alike"}', "line 3: the key 'guards' is missing"),
        ("b.jsonl", GOOD.replace("look_alike", "lookalike"), "unknown kind 'lookalike'; did you mean 'look_alike'"),
        ("b.jsonl", GOOD.replace('"whale"', "7"), "line 1: 'text' is not a text"),
        ("b.jsonl", GOOD.replace("whale", " "), "line 1: an empty text"),
        ("b.jsonl", GOOD.replace("whale", "\\ud800"), "line 1: a text with half a character"),
        ("b.jsonl", "[" * 100_000, "line 1: not JSON"),
        ("b.jsonl", "\n", "holds no antibody"),
        ("b.json", '{"a": ["x"],\n "b": oops}', "b.json, line 2: not JSON"),
        ("b.json", '["x"]', "not an object"),
        ("b.json", '{"tench": "koi"}', "the value of 'tench' is not a list of texts"),
        ("b.json", '{"tench": ["koi", 3]}', "the value of 'tench'"),
        ("b.json", '{"tench": [""]}', "class 'tench': an empty text"),
        ("b.json", "{}", "holds no antibody"),
        ("b.csv", "x", "not '.csv'"),
    ],
)
def test_a_malformed_file_is_refused_with_its_line(tmp_path: Path, name: str, content: str, said: str) -> None:
    with pytest.raises(SetupError, match=said):
        read_bank_file(write(tmp_path, name, content))


def test_a_missing_or_binary_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"no bank of antibodies at .*none.jsonl"):
        read_bank_file(tmp_path / "none.jsonl")
    (tmp_path / "b.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SetupError, match=r"cannot read .*b.txt: it is not UTF-8"):
        read_bank_file(tmp_path / "b.txt")
    (tmp_path / "folder.txt").mkdir()
    with pytest.raises(SetupError, match="cannot read"):
        read_bank_file(tmp_path / "folder.txt")


def test_take_and_concat_keep_everything_together() -> None:
    bank = bank_of(unit_rows(np.random.default_rng(0), 4, 6))
    part = bank.take(np.array([2, 0]))
    assert (part.ids, part.texts) == (("a2", "a0"), ("text 2", "text 0"))
    assert part.vectors.tolist() == bank.vectors[[2, 0]].tolist()
    again = part.concat(bank.take(np.array([3])))
    assert again.ids == ("a2", "a0", "a3")
    assert len(again) == 3
    assert Bank.empty(6).concat(bank).ids == bank.ids
    assert (len(Bank.empty(6)), Bank.empty(6).vectors.shape) == (0, (0, 6))


def test_a_bank_of_a_file_is_numbered() -> None:
    vectors = unit_rows(np.random.default_rng(0), 2, 6)
    bank = Bank.of([Antibody("x", "contextual", "fish"), Antibody("x", "look_alike", "")], vectors)
    assert bank.ids == ("0", "1")
    assert bank.kinds == ("contextual", "look_alike")
    assert bank.guards == ("fish", "")


def test_a_bank_that_does_not_hold_together_is_refused() -> None:
    vectors = unit_rows(np.random.default_rng(0), 2, 6)
    broken = vectors.copy()
    broken[1] = np.nan
    good = bank_of(vectors)
    bad: list[tuple[Callable[[], Bank], str]] = [
        (lambda: Bank(good.antibodies[:1], vectors), "1 antibodies and 2 vectors"),
        (lambda: Bank((Antibody("x", id="a"), Antibody("y", id="a")), vectors), "two antibodies of a bank have the id"),
        (lambda: bank_of(broken), "row 1"),
        (lambda: bank_of(vectors * 2), "unit norm"),
        (lambda: good.concat(bank_of(unit_rows(np.random.default_rng(0), 1, 5))), "5 dimensions"),
        (lambda: good.concat(good), "have the id 'a0'"),
    ]
    for make, said in bad:
        with pytest.raises(SetupError, match=said):
            make()


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "new" / "file.txt"
    write_atomically(path, "one")
    write_atomically(path, b"two")

    def full(_: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("immuno_core.files.os.fsync", full)
    with pytest.raises(OSError, match="no space"):
        write_atomically(path, "three")
    assert path.read_text() == "two"
    assert [entry.name for entry in path.parent.iterdir()] == ["file.txt"]


def test_without_takes_out_what_is_named_and_ignores_what_is_not_there() -> None:
    whole = Bank.of([Antibody(f"a thing {i}", "look_alike", "fish") for i in range(3)], np.eye(3, dtype=np.float32))
    left = whole.without({whole.ids[1], "nowhere"})
    assert left.ids == (whole.ids[0], whole.ids[2])
    assert left.vectors.tolist() == whole.vectors[[0, 2]].tolist()
    assert whole.without(()).ids == whole.ids
    assert not len(whole.without(whole.ids))
