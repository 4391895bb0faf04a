"""`immuno refine`: every command on the word world, with its errors; nothing is stood in for but the encoder."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from sqlalchemy import text

from agents import LONGEST_GUIDELINE
from agents import session as sessions
from agents.chat.review import PERSON
from db import store as stores
from db.claims import ask_to_stop, asked_to_stop, session_work
from db.schema.engine import writing
from db.store import AntibodyStore, open_store
from immuno import refine, workplace
from immuno.cli import approve, main
from immuno.refine import read_guideline
from immuno.workplace import Workplace
from immuno_core.config.run import parse_config
from immuno_core.errors import SetupError
from immuno_core.records import EncoderInfo
from tests.agents.word_place import WordPlaceEmbedder, word_embedder, write_word_world

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def _words_are_embedded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workplace, "make_embedder", word_embedder)


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Cli:
    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main(["refine", *arguments, "--db", str(tmp_path / "immuno.db")])
        out, err = capsys.readouterr()
        return int(stopped.value.code or 0), out, err

    return run


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return write_word_world(tmp_path)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[AntibodyStore]:
    with open_store(str(tmp_path / "immuno.db")) as opened:
        yield opened


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The database of a finished session named "one", and what was printed; run once, as it takes a second."""
    folder, out = tmp_path_factory.mktemp("one"), io.StringIO()
    command = ["refine", "start", str(write_word_world(folder)), "--session", "one", "--json"]
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out):
        patch.setattr(workplace, "make_embedder", word_embedder)
        with pytest.raises(SystemExit) as stopped:
            main([*command, "--db", str(folder / "immuno.db")])
    assert not stopped.value.code
    return folder / "immuno.db", json.loads(out.getvalue())


@pytest.fixture
def one(tmp_path: Path, finished: tuple[Path, dict[str, Any]]) -> dict[str, Any]:
    """A copy of the finished session, for the test alone."""
    database, printed = finished
    shutil.copyfile(database, tmp_path / "immuno.db")
    return printed


def said(cli: Cli, *arguments: str) -> Any:
    status, out, err = cli(*arguments, "--json")
    assert status == 0, err
    return json.loads(out)


class TestLooking:
    def test_list(self, cli: Cli, one: dict[str, Any]) -> None:
        (line,) = said(cli, "list")
        assert (line["session"], line["status"], line["llm"], line["generations"]) == ("one", "finished", "lexicon", 3)
        assert line["calls"] == 2 * (4 + 1)
        assert line["mean_fpr95"]["best"] < line["mean_fpr95"]["first"]
        assert line["mean_auroc"]["best"] > line["mean_auroc"]["first"]
        status, out, _ = cli("list")
        assert status == 0
        assert "one" in out
        assert "lexicon" in out
        auroc, fpr95 = (
            f"{100 * line[what]['first']:.1f}→{100 * line[what]['best']:.1f}" for what in ("mean_auroc", "mean_fpr95")
        )
        assert auroc in out
        assert fpr95 in out

    def test_list_of_nothing_says_how_to_begin(self, cli: Cli, store: AntibodyStore) -> None:
        status, out, _ = cli("list")
        assert status == 0
        assert "immuno refine start" in out
        assert said(cli, "list") == []

    def test_show(self, cli: Cli, one: dict[str, Any]) -> None:
        shown = said(cli, "show", "one")
        assert [each["number"] for each in shown["by_generation"]] == [0, 1, 2]
        assert [each["calls"] for each in shown["by_generation"]] == [0, 5, 5]
        gains = [each["gain"] for each in shown["helped"]]
        assert gains == sorted(gains, reverse=True)
        assert gains[0] > 0
        status, out, _ = cli("show", "one")
        assert status == 0
        assert "helped most" in out
        for each in shown["by_generation"]:  # beside the FPR95, what decided
            assert f"{100 * fmean(each['metrics']['auroc'].values()):.1f}" in out
        assert shown["helped"][0]["text"] in " ".join(out.split())
        kept = [each for each in shown["by_generation"] if each["accepted"]][-1]
        assert f"The bank of generation {kept['number']}: {kept['metrics']['sense']['said']}" in " ".join(out.split())

    @pytest.mark.parametrize("command", [("show",), ("stop",), ("record", "{tmp}/x.jsonl"), ("resume",)])
    def test_an_unknown_session_is_named_with_the_nearest(
        self, cli: Cli, one: dict[str, Any], tmp_path: Path, command: tuple[str, ...]
    ) -> None:
        name, *rest = (part.format(tmp=tmp_path) for part in command)
        status, out, err = cli(name, "onee", *rest)
        assert (status, out) == (2, "")
        assert "no session 'onee'" in err
        assert "did you mean 'one'?" in err


class TestStarting:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (('features = "sealed_near.npz"', 'features = "gone.npz"'), "gone.npz"),
            (("generations = 2", 'generations = 2\nllm = "lexcon"'), "did you mean 'lexicon'"),
            (('names = "classes.txt"', 'names = "gone.txt"'), "gone.txt"),
        ],
        ids=["sealed set", "model", "classes"],
    )
    def test_what_is_wrong_is_said_before_a_database_is_made(
        self, cli: Cli, config: Path, tmp_path: Path, change: tuple[str, str], message: str
    ) -> None:
        """A bank is not refined for a sealed test that is not there; that it is there is looked up, and opens none."""
        whole = config.read_text()
        head, found, tail = whole.rpartition(change[0])  # of two sets the last is the sealed one
        assert found
        config.write_text(head + change[1] + tail)
        status, out, err = cli("start", str(config), "--session", "one")
        assert (status, out) == (2, "")
        assert message in err
        assert not (tmp_path / "immuno.db").exists()
        config.write_text(whole)
        status, _, err = cli("start", str(config), "--session", "one", "--generations", "1")
        assert status == 0
        assert "%, AUROC " in err
        with open_store(str(tmp_path / "immuno.db")) as store:
            assert store.test_reads() == ()


class TestStopping:
    def test_a_running_session_ends_after_its_generation_and_goes_on_later(
        self, cli: Cli, config: Path, store: AntibodyStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        propose = sessions.Loop.propose

        def asked_meanwhile(self: Any, state: Any) -> Any:
            running = store.session("one")
            if running.generations == 1:
                assert cli("stop", "one")[0] == 0
                assert cli("resume", "one")[0] == 2  # it runs: who is refused withdraws nothing
            return propose(self, state)

        monkeypatch.setattr(sessions.Loop, "propose", asked_meanwhile)
        status, out, err = cli("start", str(config), "--session", "one", "--json")
        assert status == 0
        assert [each["number"] for each in json.loads(out)["generations"]] == [0, 1]
        assert store.session("one").status == "paused"
        assert "go on with: immuno refine resume one" in err
        assert not asked_to_stop(store.engine, session_work(store.session("one").id))
        assert len(said(cli, "resume", "one")["generations"]) == 3

    def test_a_request_that_nobody_obeyed_does_not_stop_the_next_run(
        self, cli: Cli, one: dict[str, Any], store: AntibodyStore
    ) -> None:
        ask_to_stop(store.engine, session_work(store.session("one").id))
        assert len(said(cli, "resume", "one", "--generations", "4")["generations"]) == 5

    def test_a_session_asked_in_its_last_generation_is_finished(
        self, cli: Cli, config: Path, store: AntibodyStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        reflect = sessions.Loop.reflect
        monkeypatch.setattr(sessions.Loop, "reflect", lambda self, state: (cli("stop", "one"), reflect(self, state))[1])
        status, _, err = cli("start", str(config), "--session", "one", "--generations", "1")
        assert status == 0
        assert store.session("one").status == "finished"
        assert "stopped as asked" not in err

    def test_what_does_not_run_cannot_be_stopped(self, cli: Cli, one: dict[str, Any]) -> None:
        status, _, err = cli("stop", "one")
        assert status == 2
        assert "session 'one' is finished, not running" in err


class TestDescent:
    def test_a_branch_begins_with_the_bank_and_goes_on(
        self, cli: Cli, one: dict[str, Any], store: AntibodyStore
    ) -> None:
        branched = said(cli, "branch", "one", "--generation", "1", "--session", "two", "--generations", "1")
        record, source = store.session("two"), store.session("one")
        begun, origin = store.generations(record.id)[0], store.generations(source.id)[1]
        assert record.parent == "one:1"
        assert begun.reason == "branched from one:1"
        assert branched["generations"][0]["bank"] == origin.bank
        assert begun.metrics == origin.metrics
        copies, originals = store.bank(begun.id), store.bank(origin.id)
        assert [each.text for each in copies.antibodies] == [each.text for each in originals.antibodies]
        assert (copies.vectors == originals.vectors).all()
        assert [each.parent_id for each in copies.antibodies] == [each.id for each in originals.antibodies]
        assert {each.relation for each in copies.antibodies} == {"copied"}
        assert len(store.verdicts(begun.id)) == len(store.verdicts(origin.id))
        assert len(branched["generations"]) == 2
        # What was turned down comes along, and is not proposed again.
        turned_down = store.antibodies(source.id, status="rejected")
        rejected = {(each.guards, each.text) for each in turned_down if each.generation <= 1}
        assert rejected <= {(each.guards, each.text) for each in store.antibodies(record.id, generation=0)}
        new = store.antibodies(record.id, generation=1)
        assert not rejected & {(each.guards, each.text) for each in new if each.relation is None}

    def test_the_source_is_not_touched(self, cli: Cli, one: dict[str, Any]) -> None:
        before = said(cli, "show", "one")
        said(cli, "branch", "one", "--session", "two", "--generations", "1")
        assert said(cli, "show", "one") == before

    def test_with_another_guideline(self, cli: Cli, one: dict[str, Any], store: AntibodyStore, tmp_path: Path) -> None:
        guideline = tmp_path / "guideline.txt"
        guideline.write_text("Write more contexts.\nPrefer: in the desert.\n")
        said(cli, "branch", "one", "--session", "two", "--guideline", str(guideline), "--generations", "1")
        calls = store.llm_calls(store.session("two").id)
        assert all(
            "Write more contexts. Prefer: in the desert." in c.request_text for c in calls if c.step == "propose"
        )

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("--generation", "9"), "session 'one' has no generation 9; it has 0 to 2"),
            (("--guideline", "{tmp}/none.txt"), "error: no guideline at /"),
            (("--guideline", "{tmp}/empty.txt"), "empty.txt is empty"),
            (("--llm", "lexcion"), "'lexcion' names no chat model; did you mean 'lexicon'"),
        ],
    )
    def test_a_branch_that_cannot_begin_takes_no_name(
        self,
        cli: Cli,
        one: dict[str, Any],
        store: AntibodyStore,
        tmp_path: Path,
        arguments: tuple[str, ...],
        message: str,
    ) -> None:
        (tmp_path / "empty.txt").write_text(" \n")
        status, _, err = cli("branch", "one", "--session", "two", *(each.format(tmp=tmp_path) for each in arguments))
        assert status == 2
        assert message in err
        assert store.find_session("two") is None

    @pytest.mark.parametrize("command", [("branch",), ("regenerate", "--llm", "lexicon")])
    def test_one_that_is_stopped_as_it_is_made_is_not_there_or_goes_on_from_where_it_began(
        self,
        cli: Cli,
        one: dict[str, Any],
        store: AntibodyStore,
        monkeypatch: pytest.MonkeyPatch,
        command: tuple[str, ...],
    ) -> None:
        def stopped(*_: Any, **__: Any) -> None:
            raise KeyboardInterrupt

        begin = (command[0], "one", *command[1:], "--session", "two", "--generations", "1")
        for module, step in ((stores, "write_generation"), (refine, "refine")):
            with monkeypatch.context() as patch:
                patch.setattr(module, step, stopped)
                assert cli(*begin)[0] == 130
            assert (store.find_session("two") is None) == (module is stores)
        found = said(cli, "resume", "two", "--generations", "1")
        begun = store.generations(store.session("two").id)[0]
        assert begun.reason.startswith("branched from one:")
        assert found["generations"][0]["bank"] == (one["generations"][-1]["bank"] if command == ("branch",) else 0)
        assert len(found["generations"]) == 2

    def test_a_taken_name(self, cli: Cli, one: dict[str, Any]) -> None:
        status, _, err = cli("branch", "one", "--session", "one")
        assert status == 2
        assert "session 'one' exists; choose another name" in err

    def test_regenerate_begins_without_antibodies_and_with_what_was_learned(
        self, cli: Cli, one: dict[str, Any], store: AntibodyStore
    ) -> None:
        found = said(cli, "regenerate", "one", "--llm", "lexicon", "--session", "new")
        source = store.session("one")
        learned = store.best_generation(source.id)
        begun = store.generations(store.session("new").id)[0]
        assert learned is not None
        assert (begun.bank, begun.guideline) == (0, learned.guideline)
        assert found["generations"][0]["bank"] == 0
        assert found["generations"][-1]["bank"] > 0
        assert len(found["generations"]) == 3


class TestLimits:
    def test_a_cost_without_a_price_is_refused(
        self, cli: Cli, one: dict[str, Any], store: AntibodyStore, tmp_path: Path
    ) -> None:
        config = str(write_word_world(tmp_path, stop_after_cost=2.0))
        status, _, err = cli("start", config, "--session", "two")
        assert status == 2
        assert "stop_after_cost = 2 can never act without a price" in err
        assert store.find_session("two") is None

    @pytest.mark.parametrize("command", [("branch",), ("regenerate",)])
    def test_another_model_needs_another_price(
        self, cli: Cli, store: AntibodyStore, tmp_path: Path, command: tuple[str, ...]
    ) -> None:
        price = {"input": 1.0, "output": 2.0}
        said(cli, "start", str(write_word_world(tmp_path, stop_after_cost=2.0, price=price)), "--session", "one")
        begin = (*command, "one", "--session", "two", "--llm", "lexicon", "--generations", "1")
        status, _, err = cli(*begin)
        assert status == 2
        assert "--price INPUT OUTPUT" in err
        assert store.find_session("two") is None
        assert cli(*begin, "--price", "nan", "1")[0] == 2
        said(cli, *begin, "--price", "3", "4.5")
        kept = store.session("two").config["refine"]
        assert (kept["price"], kept["stop_after_cost"]) == ({"input": 3.0, "output": 4.5}, 2.0)

    def test_a_session_of_before_goes_on_with_a_warning(
        self, cli: Cli, one: dict[str, Any], store: AntibodyStore
    ) -> None:
        limit = "$.refine.stop_after_cost"
        with writing(store.engine) as transaction:
            transaction.execute(text("UPDATE sessions SET config = json_set(config, :limit, 2.0)"), {"limit": limit})
        status, _, err = cli("resume", "one", "--generations", "3")
        assert status == 0
        assert "warning: stop_after_cost = 2 can never act" in err

    def test_tokens_that_nobody_counts_are_said(self, cli: Cli, tmp_path: Path) -> None:
        config = str(write_word_world(tmp_path, stop_after_tokens=1000))
        status, _, err = cli("start", config, "--session", "two", "--generations", "1")
        assert status == 0
        assert err.count("warning: the chat model counted no tokens: stop_after_tokens cannot act") == 1


class TestCompare:
    def test_a_bank_with_itself_and_with_another(
        self, cli: Cli, one: dict[str, Any], config: Path, store: AntibodyStore
    ) -> None:
        said(cli, "branch", "one", "--session", "more", "--generations", "1")
        said(cli, "regenerate", "one", "--llm", "lexicon", "--session", "new", "--generations", "1")
        found = said(cli, "compare", "one", "more", "new")
        assert [each["session"] for each in found["banks"]] == ["one", "more", "new"]
        pairs = {(each["one"], each["other"]): each for each in found["pairs"]}
        near, far = pairs["one", "more"], pairs["one", "new"]
        assert 0 <= far["text"] < near["text"] <= 1
        assert far["embedding"] < near["embedding"]
        assert near["firing_outliers"] > 0.5
        assert found["spread"]["mean_fpr95"]["sd"] > 0
        with writing(store.engine) as transaction:  # as requests for groups and for all make them
            transaction.execute(text("UPDATE antibodies SET guards = '' WHERE kind = 'look_alike'"))
        status, out, _ = cli("compare", "one", "more")
        assert status == 0
        assert "mean ± sd" in out

    @pytest.mark.parametrize("names", [("one",), ("one", "one")])
    def test_one_session_is_not_enough(self, cli: Cli, one: dict[str, Any], names: tuple[str, ...]) -> None:
        status, _, err = cli("compare", *names)
        assert status == 2
        assert "name two different sessions or more" in err


class TestApprove:
    @pytest.fixture
    def answers(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """What the person at the terminal types, in turn; then Enter for ever."""
        typed: list[str] = []
        monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
        monkeypatch.setattr("builtins.input", lambda *_: typed.pop(0) if typed else "")
        return typed

    def test_without_a_terminal_it_is_an_error(self, cli: Cli, config: Path, store: AntibodyStore) -> None:
        status, _, err = cli("start", str(config), "--session", "one", "--approve")
        assert status == 2
        assert "--approve asks for your decision in the terminal, and stdin is none" in err
        assert store.find_session("one") is None

    def test_kept_dropped_and_edited(self, cli: Cli, config: Path, store: AntibodyStore, answers: list[str]) -> None:
        answers += ["d 1", "e 2", "<b>shark</b>", "a photo of a wooden shark.", "what", ""]
        status, _, err = cli("start", str(config), "--session", "one", "--approve", "--generations", "1", "--json")
        assert status == 0, err
        assert "not fit for an antibody: holds markup" in err
        assert "not understood" in err
        antibodies = store.antibodies(store.session("one").id)
        dropped = [each for each in antibodies if each.reason == "dropped: by the reviewer"]
        edited = [each for each in antibodies if each.relation == "edited"]
        assert (len(dropped), len(edited)) == (1, 1)
        original = next(each for each in antibodies if each.id == edited[0].parent_id)
        assert edited[0].text == "a photo of a wooden shark."
        assert original.status == "rejected"
        assert original.reason == "edited: by the reviewer, to 'a photo of a wooden shark.'"

    @pytest.mark.parametrize("flag", [("--approve",), ()], ids=["with --approve", "without"])
    def test_nobody_is_asked_twice_and_what_was_decided_holds(
        self,
        cli: Cli,
        config: Path,
        store: AntibodyStore,
        answers: list[str],
        monkeypatch: pytest.MonkeyPatch,
        flag: tuple[str, ...],
    ) -> None:
        answers += ["d 1", ""]
        with monkeypatch.context() as patch:
            patch.setattr(sessions.Loop, "measure", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            assert cli("start", str(config), "--session", "one", "--approve", "--generations", "1")[0] == 130
        verdicts = [call for call in store.llm_calls(store.session("one").id) if call.model == PERSON]
        assert len(verdicts) == 4
        monkeypatch.setattr(approve.Approval, "__call__", lambda *_: pytest.fail("asked again"))
        assert cli("resume", "one", *flag, "--generations", "1")[0] == 0
        assert [each.reason for each in store.antibodies(store.session("one").id)].count(
            "dropped: by the reviewer"
        ) == 1

    def test_what_is_missing_of_a_review_waits_for_a_person(
        self, cli: Cli, config: Path, store: AntibodyStore, answers: list[str]
    ) -> None:
        answers += ["d 1", "", "q"]
        assert cli("start", str(config), "--session", "one", "--approve", "--generations", "1")[0] == 130
        status, _, err = cli("resume", "one", "--generations", "1")
        assert status == 2
        assert "3 of 4 classes of generation 1 wait for a person's review" in err
        assert "immuno refine resume one --approve" in err
        assert (store.session("one").status, store.session("one").generations) == ("paused", 1)
        answers += ["x", "x", "x"]
        assert cli("resume", "one", "--approve", "--generations", "1")[0] == 0
        antibodies = store.antibodies(store.session("one").id)
        assert [each.reason for each in antibodies].count("dropped: by the reviewer") == 1 + 3 * 8
        assert answers == []

    def test_q_pauses(self, cli: Cli, config: Path, store: AntibodyStore, answers: list[str]) -> None:
        answers += ["q"]
        assert cli("start", str(config), "--session", "one", "--approve")[0] == 130
        assert store.session("one").status == "paused"


class TestRecordAndReplay:
    def test_a_recorded_session_is_repeated_without_a_model(
        self, cli: Cli, one: dict[str, Any], config: Path, tmp_path: Path, store: AntibodyStore
    ) -> None:
        assert said(cli, "record", "one", str(tmp_path / "calls.jsonl")) == {
            "file": str(tmp_path / "calls.jsonl"),
            "calls": 10,
        }
        write_word_world(tmp_path, llm="replay:calls.jsonl")
        again = said(cli, "start", str(config), "--session", "again")
        assert again["generations"] == one["generations"]
        texts = [
            [(each.text, each.status, each.reason) for each in store.antibodies(store.session(name).id)]
            for name in ("one", "again")
        ]
        assert texts[0] == texts[1]

    def test_a_request_that_was_not_recorded_fails_hard(
        self, cli: Cli, one: dict[str, Any], config: Path, tmp_path: Path, store: AntibodyStore
    ) -> None:
        said(cli, "record", "one", str(tmp_path / "calls.jsonl"))
        write_word_world(tmp_path, llm="replay:calls.jsonl")
        config.write_text(config.read_text().replace("proposals_per_class = 8", "proposals_per_class = 7"))
        status, out, err = cli("start", str(config), "--session", "other")
        assert (status, out) == (1, "")
        assert "calls.jsonl holds no reply to the request" in err
        assert "record a session again" in err
        assert store.session("other").status == "paused"

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (None, "no recording at"),
            ("{}\n", "line 1 is no recorded call"),
            ("", "holds no call"),
        ],
    )
    def test_a_recording_that_is_none(
        self, cli: Cli, config: Path, tmp_path: Path, content: str | None, message: str
    ) -> None:
        write_word_world(tmp_path, llm="replay:calls.jsonl")
        if content is not None:
            (tmp_path / "calls.jsonl").write_text(content)
        status, _, err = cli("start", str(config), "--session", "other")
        assert status == 2
        assert message in err


class TestPrompts:
    def test_the_family_tree_with_what_was_measured(self, cli: Cli, one: dict[str, Any]) -> None:
        tree = said(cli, "prompts", "one")
        assert tree[0]["parent"] is None
        assert {trial["generation"] for version in tree for trial in version["trials"]} == {0, 1, 2}
        changed = [version for version in tree if version["parent"] is not None]
        assert changed
        assert all(version["diff"] for version in changed)
        status, out, _ = cli("prompts", "one")
        assert status == 0
        assert all(re.search(rf"^ *{version['version']} ", out, re.M) for version in tree)
        assert "nothing but numbers" not in cli("prompts", "one", "-v")[1]


def test_no_antibody_may_be_a_synonym(cli: Cli, config: Path, tmp_path: Path, store: AntibodyStore) -> None:
    (tmp_path / "synonyms.txt").write_text("# other names\nfish: shark, eel\n")
    config.write_text(
        config.read_text().replace('names = "classes.txt"', 'names = "classes.txt"\nsynonyms = "synonyms.txt"')
    )
    said(cli, "start", str(config), "--session", "one")
    texts = {each.text: each.reason for each in store.antibodies(store.session("one").id)}
    assert texts["a photo of a shark."] == "names a known class: 'fish'"
    (tmp_path / "synonyms.txt").write_text("fihs: shark\n")
    status, _, err = cli("start", str(config), "--session", "two")
    assert status == 2
    assert "synonyms.txt, line 1: 'fihs' is no known class; did you mean 'fish'" in err


def test_a_guideline_is_as_long_as_it_may_be_and_never_empty(tmp_path: Path) -> None:
    file = tmp_path / "guideline.txt"
    file.write_text("x" * LONGEST_GUIDELINE)
    assert len(read_guideline(file)) == LONGEST_GUIDELINE
    for content, said in (("x" * (LONGEST_GUIDELINE + 1), "shorten it to"), (" \n", "is empty")):
        file.write_text(content)
        with pytest.raises(SetupError, match=said):
            read_guideline(file)


class OtherWords(WordPlaceEmbedder):
    """The same embeddings by other weights."""

    @property
    def encoder(self) -> EncoderInfo:
        return replace(super().encoder, weights_digest="another")


@contextlib.contextmanager
def other_words(*_: Any, **__: Any) -> Iterator[OtherWords]:
    yield OtherWords()


def test_a_session_goes_on_and_is_branched_with_the_encoder_that_it_was_started_with(
    cli: Cli, config: Path, one: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli("resume", "one", "--data", str(config))[0] == 0
    monkeypatch.setattr(workplace, "make_embedder", other_words)
    status, _, said = cli("resume", "one", "--data", str(config))
    assert (status, "was started with another encoder" in said) == (2, True)
    status, _, said = cli("branch", "one", "--session", "two")
    assert (status, "was measured with another encoder (words)" in said) == (2, True)


@pytest.mark.parametrize(
    ("what", "sections"),
    [
        ("seed", {"seed": 1}),
        ("template of the classes", {"classes": {"template": "a drawing of a {}."}}),
        ("template of the antibodies", {"antibodies": {"template": "a drawing of a {}."}}),
        ("score", {"refine": {"score": {"name": "calibrated", "base": "max_cosine", "eps": 0.03}}}),
        ("acceptance", {"refine": {"acceptance": 0.9}}),
    ],
)
def test_a_session_goes_on_with_what_its_figures_hang_on(
    one: dict[str, Any], store: AntibodyStore, what: str, sections: dict[str, Any]
) -> None:
    begun = store.session("one").config
    data = {key: begun[key] | value if isinstance(value, dict) else value for key, value in sections.items()}
    other = parse_config(begun | data, origin="one", folder=Path())
    with (
        Workplace.open(other, database=store.url, ray_address=None) as place,
        pytest.raises(SetupError, match=f"'one' was started with another {what}; take another session name"),
    ):
        refine.refine(place, session="one", resume=None)


def test_a_session_without_its_images_on_record_goes_on_with_its_data(
    cli: Cli, config: Path, one: dict[str, Any], store: AntibodyStore, tmp_path: Path
) -> None:
    """One of an earlier version: what its data are called is all there is to compare."""
    with writing(store.engine) as db:
        db.execute(text("UPDATE sessions SET grounds = '{}'"))
    other = tmp_path / "other.toml"
    shutil.copyfile(tmp_path / "near.npz", tmp_path / "closer.npz")
    other.write_text(config.read_text().replace('"near.npz"', '"closer.npz"'))
    status, _, said = cli("resume", "one", "--data", str(other))
    assert (status, "was started with another data" in said) == (2, True)
