"""`immuno refine` where a table holds all texts that can be embedded: the lexicon and any model choose from it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents.lexicon.model import LexiconChatModel
from db.store import open_store
from evaluation.antibodies.maturation import unmatured_text
from immuno.cli import main
from tests.agents import word_world as world
from tests.agents.word_place import write_word_world
from tests.configs import write_config

NOUNS = (*world.LOOK_ALIKES.values(), *(f"Thing{i}" for i in range(60)), "apple")
TEMPLATE = "a {}"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """The word world with a table of its texts."""
    return configured(tmp_path)


def configured(folder: Path, template: str = TEMPLATE, **refine: Any) -> Path:
    write_word_world(folder)
    texts = [*(f"a photo of a {name}." for name in world.CLASSES), *(f"a {noun}" for noun in NOUNS)]
    np.savez(folder / "texts.npz", texts=np.array(texts), features=world.WordEmbedder().embed_texts(texts))
    score = {"name": "calibrated", "base": "max_cosine", "eps": 0.02}
    return write_config(
        folder / "closed.toml",
        encoder={"kind": "precomputed", "texts": "texts.npz", "logit_scale": 25.0},
        classes={"names": "classes.txt"},
        antibodies={"template": template},
        data={
            "fit": "fit.npz",
            "feedback_id": "known.npz",
            "feedback": {"near": "near.npz", "contextual": "contextual.npz"},
            "id": "sealed_known.npz",
            "ood": {"near": "sealed_near.npz"},
        },
        refine={"generations": 2, "classes_per_generation": 4, "proposals_per_class": 6, "score": score} | refine,
    )


def refine(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        main(["refine", *arguments])
    out, err = capsys.readouterr()
    return int(stopped.value.code or 0), out, err


def test_a_session_proposes_what_the_table_holds_and_finds_the_look_alikes(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    database = str(config.parent / "x.db")
    status, out, err = refine(capsys, "start", str(config), "--session", "one", "--db", database, "--json")
    assert status == 0, err
    baseline, *_, last = json.loads(out)["generations"]
    assert last["bank"] > 0
    assert last["fpr95"]["near"] < baseline["fpr95"]["near"]
    with open_store(database) as store:
        session = store.session("one")
        proposed = [one for one in store.antibodies(session.id) if one.is_worded]
        bank = store.bank(store.generations(session.id)[-1].id)
    # One that matured may take the place of the text that it came from.
    kept = {unmatured_text(one.text) for one in bank.antibodies}
    said = {one.text for one in proposed}
    assert said <= {f"a {noun}" for noun in NOUNS}
    assert {f"a {noun}" for noun in world.LOOK_ALIKES.values()} <= kept
    assert {one.kind for one in proposed} == {"look_alike"}
    assert len(proposed) >= 2 * 4 * 6  # the whole budget, in both generations
    assert not [one for one in proposed if one.reason.startswith(("duplicate", "not offered"))]


def test_what_a_model_says_that_is_not_in_the_table_is_turned_down_with_that_reason(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    said = json.dumps({"look_alikes": ["shark", "Submarine", "an apple"], "places": ["on the moon"]})
    reply = LexiconChatModel._reply
    monkeypatch.setattr(
        LexiconChatModel,
        "_reply",
        lambda self, messages: said if "look_alikes" in messages[-1].text[-200:] else reply(self, messages),
    )
    database = str(config.parent / "x.db")
    status, _, err = refine(capsys, "start", str(config), "--session", "one", "--db", database)
    assert status == 0, err
    with open_store(database) as store:
        first = store.antibodies(store.session("one").id, generation=1)
    refused = {one.text for one in first if one.reason.startswith("not offered: the table")}
    assert "a Submarine" in refused
    assert any("on the moon" in text for text in refused)
    assert not refused & {"a shark", "a apple"}
    assert {"a shark", "a apple"} <= {one.text for one in first}


@pytest.mark.parametrize("template", ["{}", "itap of a {}."])
def test_a_table_without_the_template_is_told_before_a_session_takes_its_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], template: str
) -> None:
    config, database = configured(tmp_path, template), tmp_path / "x.db"
    status, _, err = refine(capsys, "start", str(config), "--session", "one", "--db", str(database))
    assert status == 2
    shown = "a photo of a {}." if template == "{}" else template  # whole texts: as classes are said
    assert f"no word but known classes in {shown!r}" in err
    assert f"its texts look like 'a {{}}' ({len(NOUNS) + 4} texts)" in err
    assert "set antibodies.template" in err
    assert not database.exists()


def test_one_feedback_set_of_three_images_runs_and_is_told_for_what_it_is(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with np.load(config.parent / "near.npz") as near:
        few = {name: near[name][:3] for name in near.files}
    np.savez(config.parent / "near.npz", **few)
    text = config.read_text()
    first = text.index('[[data.feedback]]\nname = "contextual"')
    config.write_text(text[:first] + text[text.index("[", first + 2) :])
    database = str(config.parent / "x.db")
    status, _, err = refine(capsys, "start", str(config), "--session", "one", "--db", database)
    assert status == 0, err
    assert "warning: the set 'feedback near' has 3 images: each of them moves its figures by 33.3 points\n" in err
    assert err.count("warning: there is one [[data.feedback]] set: no outliers unlike it judge") == 1
    assert "looks like known images" not in err
