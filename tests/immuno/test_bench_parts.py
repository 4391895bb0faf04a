"""What the benchmark takes from the record, and which words its controls say."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from db.exchange.banks import BankSource, add_embeddings, import_bank
from db.records import EffectDraft
from db.store import AntibodyStore, open_store
from evaluation.antibodies.visual import visual_antibodies
from evaluation.antibodies.vocabulary import load_vocabulary
from evaluation.space import Bank, Feedback
from immuno import bench, workplace
from immuno.bench import BankInUse, bank_in_use, listed_antibodies, session_history, word_list
from immuno.workplace import Workplace, stored_config
from immuno_core.config.run import config_as_dict
from immuno_core.errors import SetupError
from immuno_core.features import FeatureSet
from immuno_core.records import Antibody
from tests.agents.word_place import WordPlaceEmbedder, word_embedder
from tests.configs import make_config
from tests.db.build import DIM, ENCODER, antibody, draft, effect, make_session, vector
from tests.evaluation.synthetic import feature_set, fit_calibrated, held_out, make_space, outliers, unit
from tests.rows import result_row

pytestmark = pytest.mark.usefixtures("unpainted")

METRICS = {"fpr95": {"near": 0.5}, "mean_fpr95": 0.5, "auroc": {"near": 0.75}, "id_accuracy": 0.9}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[AntibodyStore]:
    with open_store(str(tmp_path / "immuno.db")) as opened:
        yield opened


def at_work(store: AntibodyStore, **sections: Any) -> Any:
    return SimpleNamespace(
        store=store,
        session=store.session,
        config=make_config(**sections),
        embedder=SimpleNamespace(encoder=ENCODER),
        has_encoder_of=lambda session: session.encoder.digest == ENCODER.digest,
    )


def of_session(store: AntibodyStore, **antibodies: Any) -> BankInUse:
    return bank_in_use(at_work(store, antibodies={"session": "alpha"} | antibodies))


@pytest.fixture
def filled(store: AntibodyStore) -> AntibodyStore:
    """Two generations of alpha; both measured the first one's antibody."""
    session = make_session(store)
    first, second = antibody("robot dog", seed=1), antibody("toy dog", seed=2)
    effects = (
        EffectDraft(effect("solo", "near", gain=0.5, harm=0.125, fired_outliers=9, fired_id=1), first.id),
        EffectDraft(effect("solo", "far", gain=0.25, harm=0.375, fired_outliers=4, fired_id=2), first.id),
        EffectDraft(effect("leave_one_out", "near", gain=1.0, harm=1.0), first.id),
        EffectDraft(effect("bank", "near", gain=1.0, harm=1.0)),
    )
    common: dict[str, Any] = {"metrics": METRICS, "verdicts": ()}
    store.save_generation(
        draft(session.id, antibodies=(first,), effects=effects, bank=(first.id,), guideline="one", **common)
    )
    later = (EffectDraft(effect("solo", "near", gain=0.75, harm=0.0, fired_outliers=7, fired_id=0), first.id),)
    bank = (first.id, second.id)
    store.save_generation(
        draft(session.id, 1, antibodies=(second,), effects=later, bank=bank, guideline="two", **common)
    )
    return store


def test_an_antibody_is_listed_with_its_solo_effects_in_that_generation(filled: AntibodyStore) -> None:
    place = at_work(filled)
    (one,) = listed_antibodies(place, of_session(filled, generation=0))
    assert (one.text, one.generation) == ("robot dog", 0)
    assert (one.gain, one.harm, one.fired_outliers, one.fired_id) == (0.5, 0.375, 13, 2)
    first, second = listed_antibodies(place, of_session(filled))
    assert (first.generation, first.gain, first.harm, first.fired_outliers) == (0, 0.75, 0.0, 7)
    assert (second.generation, second.gain, second.harm, second.fired_outliers, second.fired_id) == (
        1,
        None,
        None,
        0,
        0,
    )


def test_visual_antibodies_of_the_bank_or_those_that_a_score_made_are_listed_with_their_images(
    store: AntibodyStore,
) -> None:
    bare = make_space(3)
    seen = outliers(bare, 3, 40, "near")
    seen = replace(seen, paths=tuple(f"/{key}" for key in seen.ids))
    feedback = Feedback(*held_out(bare, 3, 100), {"near": seen})
    bank = bare.bank.concat(visual_antibodies(feedback.outliers, 2))
    fitted, used = fit_calibrated(replace(bare, bank=bank)), BankInUse(bare.bank, None, None)
    *texts, first, second = listed_antibodies(at_work(store), used, fitted, feedback)
    assert [one.text for one in texts] == list(bare.bank.texts)
    for one, made in zip((first, second), bank.visual.antibodies, strict=True):
        assert (one.kind, one.text, one.samples) == ("visual", "", made.samples)
        assert one.images == tuple(sample.removeprefix("near") for sample in made.samples[:4])
        alone = fit_calibrated(replace(bare, bank=bank.without({*bare.bank.ids, *bank.visual.ids} - {made.id})))
        beyond = alone.exceedance(seen.features).antibody
        assert one.fired_outliers == np.count_nonzero(beyond >= 0)
    own = replace(used, bank=bank)  # of a bank that has them, no others
    assert [one.id for one in listed_antibodies(at_work(store), own, fitted, feedback)] == list(bank.ids)


def test_a_generation_is_shown_with_the_guideline_it_was_written_by(filled: AntibodyStore) -> None:
    history = session_history(at_work(filled), of_session(filled))
    assert history is not None
    assert [(one.number, one.guideline) for one in history.generations] == [(0, "one"), (1, "one")]
    assert [(one.mean_auroc, one.bank) for one in history.generations] == [(0.75, 1), (0.75, 2)]


def test_the_generation_that_is_named_is_used_else_the_best(filled: AntibodyStore) -> None:
    numbers = []
    for named in ({"generation": 0}, {}):
        used = of_session(filled, **named)
        assert used.generation is not None
        numbers.append((used.generation.number, len(used.bank)))
    assert numbers == [(0, 1), (1, 2)]
    assert len(bank_in_use(at_work(filled)).bank) == 0


def test_where_there_is_no_database_a_session_is_refused_and_none_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workplace, "make_embedder", word_embedder)
    config, missing = make_config(tmp_path, antibodies={"session": "one"}), tmp_path / "new.db"
    with (
        Workplace.open(config, database=str(missing), ray_address=None, progress="quiet") as place,
        pytest.raises(SetupError, match=rf"there is no database at {missing}; name one with --db"),
    ):
        bank_in_use(place)
    assert not missing.exists()


def test_a_bank_of_another_encoder_is_refused(store: AntibodyStore) -> None:
    session = make_session(store, encoder=replace(ENCODER, precision="bf16"))
    store.save_generation(draft(session.id))
    with pytest.raises(SetupError, match=r"session 'alpha' embedded its antibodies with tiny, .* it was made with"):
        of_session(store)


def test_rows_with_antibodies_of_a_session_say_that_feedback_chose_them(filled: AntibodyStore, tmp_path: Path) -> None:
    rows = [result_row(method=arm, arm=arm) for arm in ("none", "bank", "shuffled", "noise")]
    space = make_space(0, fit=9)
    feedback = Feedback(*held_out(space, 0, 9), {name: outliers(space, 0, 25, name) for name in ("near", "far")})
    space = replace(space, feedback=feedback)
    for used, marked in ((of_session(filled), {"bank", "shuffled"}), (BankInUse(Bank.empty(DIM), None, None), set())):
        run = bench._Bench(at_work(filled), tmp_path, SimpleNamespace(), used, False)  # type: ignore[arg-type]
        found = run._marked(rows, space)
        assert {row.method for row in found if row.uses_feedback} == marked
        assert {row.method for row in found if row.metrics["outliers_used"] == 50} == marked


def test_single_words_are_said_as_the_bank_says_its_texts() -> None:
    classes = {"names": "dataset", "template": "a drawing of a {}."}
    assert make_config(classes=classes, antibodies={"template": "a sketch of {}"}).word_template == "a sketch of {}"
    assert make_config(classes=classes, antibodies={"template": "{}"}).word_template == "a drawing of a {}."


def test_the_verdict_knows_thresholds_only_where_both_arms_have_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, filled: AntibodyStore
) -> None:
    said: list[Any] = []
    monkeypatch.setattr(bench, "settle", lambda *_, **options: said.append(options["thresholds"]))
    monkeypatch.setattr(bench, "main_by_arm", lambda _: {"bank": "ours", "none": "plain", "noise": "noisy"})
    run = bench._Bench(at_work(filled), tmp_path, SimpleNamespace(seed=0), of_session(filled), True)  # type: ignore[arg-type]
    for thresholds in ({"ours": 1, "plain": 2, "noisy": None}, {"ours": 1, "plain": None, "noisy": 3}):
        measured = SimpleNamespace(measured=dict.fromkeys(thresholds), left_out={}, thresholds=thresholds)
        run._verdict(measured)  # type: ignore[arg-type]
    assert said == [{"bank": 1, "none": 2}, None]


def test_a_list_of_words_has_remarks_and_underscores(tmp_path: Path) -> None:
    (tmp_path / "nouns.txt").write_text("# from WordNet\nsea_lion\n\nstone\nsea lion\n")
    words = word_list(make_config(tmp_path, antibodies={"words": "nouns.txt"}))
    assert (words.nouns, words.adjectives, words.places) == (("sea lion", "stone"), (), load_vocabulary().places)
    os.mkfifo(tmp_path / "pipe")
    for name, said in (
        ("pipe", r"cannot read the word list \S+pipe: it is no regular file"),
        ("none", "no word list at"),
    ):
        with pytest.raises(SetupError, match=said):
            word_list(make_config(tmp_path, antibodies={"words": name}))
    (tmp_path / "nouns.txt").write_text("# nothing\n")
    with pytest.raises(SetupError, match=r"nouns\.txt holds no words"):
        word_list(make_config(tmp_path, antibodies={"words": "nouns.txt"}))


def with_file(store: AntibodyStore, tmp_path: Path, texts: str, **antibodies: Any) -> BankInUse:
    (tmp_path / "bank.txt").write_text(texts)
    section = {"file": str(tmp_path / "bank.txt"), "template": "a photo of a {}."} | antibodies
    place = at_work(store, antibodies=section)
    place.embedder = WordPlaceEmbedder()
    place.sets = lambda: SimpleNamespace(classes=("fish", "car"), synonyms={"car": ("automobile",)})
    return bank_in_use(place)


def test_what_names_a_known_class_is_left_out_of_a_file_and_said(
    store: AntibodyStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = "shark\nFish\nautomobiles\nwhale\nShark\n"
    used = with_file(store, tmp_path, texts)
    assert used.bank.texts == ("shark", "whale")
    said = "3 of 5 texts of bank.txt were left out: 2 name a known class ('Fish' for one), 1 were said before"
    assert used.left_out == said
    assert capsys.readouterr().err == f"{said}; [antibodies] drop_known = false keeps them\n"
    kept = with_file(store, tmp_path, texts, drop_known=False)
    assert len(kept.bank) == 5
    assert kept.left_out == ""
    with pytest.raises(SetupError, match=r"every text of .*bank.txt names a known class; .*drop_known = false"):
        with_file(store, tmp_path, "fish\ncar\n")


def test_an_imported_bank_is_used_once_it_is_embedded_and_has_no_history(store: AntibodyStore) -> None:
    texts = [Antibody(text, "look_alike", "dog", id=text) for text in ("husky", "wolf")]
    import_bank(store, "alpha", texts, BankSource("a.txt", "0" * 64))
    with pytest.raises(SetupError, match="'alpha' embedded its antibodies with none"):
        of_session(store)
    add_embeddings(store, ENCODER, {one.id: vector(i) for i, one in enumerate(store.antibodies())})
    used = of_session(store)
    assert used.bank.texts == ("husky", "wolf")
    assert session_history(at_work(store), used) is None
    assert [one.text for one in listed_antibodies(at_work(store), used)] == ["husky", "wolf"]


def test_what_a_bank_does_beyond_random_words_is_that_of_the_last_generation_kept(store: AntibodyStore) -> None:
    session = make_session(store)
    for number, accepted, said in ((0, True, None), (1, True, "first"), (2, False, "second")):
        metrics = METRICS | {"sense": said and {"said": said}}
        store.save_generation(draft(session.id, number=number, accepted=accepted, metrics=metrics))
    history = session_history(at_work(store), of_session(store))
    assert history is not None
    assert history.sense == "first"


def test_an_imported_bank_is_compared_on_the_data_of_another_session(store: AntibodyStore, tmp_path: Path) -> None:
    import_bank(store, "alpha", [Antibody("husky", "look_alike", "dog", id="a")], BankSource("a.txt", "0" * 64))
    config = config_as_dict(make_config(tmp_path))
    store.create_session("beta", config=config, seed=3, git_sha=None, versions={}, encoder=ENCODER)
    assert stored_config("alpha", "beta", database=store.url) == stored_config("beta", database=store.url)
    with pytest.raises(SetupError, match="session 'alpha' is an imported bank, which has no configuration"):
        stored_config("alpha", database=store.url)


@pytest.mark.parametrize(
    ("shown", "tested", "unseen"),
    [
        ({"near": "3"}, {"near": "3", "far": "3"}, ("far",)),  # the names of sets tell; one number is two things
        ({"near": "3"}, {"wild": "4"}, ()),  # neither does
        ({"near": "wolf"}, {"wild": "fox"}, ("wild",)),
        ({"near": "wolf"}, {"wild": "wolf"}, ()),
    ],
)
def test_a_number_as_a_label_is_no_class_that_two_sets_have_in_common(
    shown: dict[str, str], tested: dict[str, str], unseen: tuple[str, ...]
) -> None:
    def some(sets: dict[str, str]) -> dict[str, FeatureSet]:
        return {name: feature_set(unit(np.ones((2, 8))), name=name, label=label) for name, label in sets.items()}

    space = make_space(0, fit=9)
    space = replace(space, feedback=Feedback(*held_out(space, 0, 9), some(shown)))
    assert bench._unseen(space, tuple(some(tested).values()), None) == unseen
