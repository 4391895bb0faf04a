"""The lexicon answers as a language model would, through the same messages: always the same, and within the schema."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage

from agents.chat.models import Chat
from agents.lexicon.combine import propose
from agents.lexicon.model import LexiconChatModel
from agents.replies import Proposals, Reflection, Wanted, proposals_of, wire_schema
from evaluation.antibodies.captions import Captions
from evaluation.antibodies.vocabulary import Vocabulary, load_vocabulary
from immuno_core.errors import SetupError
from immuno_core.text import text_key
from tests.agents.prompts.briefings import INJECTIONS, class_briefing, in_a_prompt, reflection_briefing, sample

from .lexicon_replies import digest_of_replies

VOCABULARY = load_vocabulary()
FISH = Captions(class_name="fish")


def lexicon(seed=0, vocabulary=VOCABULARY):
    return LexiconChatModel(seed=seed, vocabulary=vocabulary)


def proposals(briefing, seed=0, vocabulary=VOCABULARY):
    asked = [HumanMessage(in_a_prompt(briefing))]
    captions = Captions(class_name=briefing.class_name)
    answer = Chat(lexicon(seed, vocabulary)).ask(asked, proposals_of(briefing.wanted), captions=captions)
    assert answer.problems == ()
    return answer.parsed.antibodies


def said(briefing, **model):
    return [proposal.text for proposal in proposals(briefing, **model)]


def reflection(briefing):
    return Chat(lexicon()).ask([HumanMessage(in_a_prompt(briefing))], Reflection).parsed


class TestLikeAnyChatModel:
    def test_it_says_that_it_is_no_language_model(self):
        assert lexicon()._llm_type == "lexicon"
        assert "not an LLM" in LexiconChatModel.__doc__

    def test_it_answers_with_json_text(self):
        message = lexicon().invoke([SystemMessage("You help."), HumanMessage(in_a_prompt(class_briefing()))])
        assert isinstance(message, AIMessage)
        named = json.loads(message.content)
        assert (len(named["look_alikes"]), len(named["places"])) == (8, 4)

    def test_a_prompt_without_a_briefing_is_a_setup_error(self):
        with pytest.raises(SetupError, match=r"a prompt must hold \{briefing\}"):
            Chat(lexicon()).ask([HumanMessage("Hello?")], Proposals)

    def test_it_reads_the_last_human_message(self):
        messages = [HumanMessage(in_a_prompt(class_briefing(class_name="dog"))), AIMessage("?")]
        messages.append(HumanMessage(in_a_prompt(class_briefing(class_name="fish"))))
        found = Chat(lexicon()).ask(messages, Proposals, captions=Captions(class_name="fish")).parsed
        assert "a photo of a fish in the desert." in [proposal.text for proposal in found.antibodies]


class TestSchema:
    @pytest.mark.parametrize("wanted", [1, 2, 3, 12, 50])
    @pytest.mark.parametrize("focus", ["look_alikes", "contexts", "both"])
    def test_every_reply_fits_the_wire_schema_and_has_as_many_as_wanted(self, wanted, focus):
        briefing = class_briefing(wanted=wanted, focus=focus)
        schema = proposals_of(briefing.wanted)
        text = Chat(lexicon()).ask([HumanMessage(in_a_prompt(briefing))], schema).raw_text
        jsonschema.validate(json.loads(text), wire_schema(schema))
        assert sum(map(len, json.loads(text).values())) == wanted

    @pytest.mark.parametrize("helped", [{}, dict.fromkeys(VOCABULARY.nouns[:300], 10.0)])
    def test_every_reflection_fits_the_wire_schema(self, helped):
        prompt = in_a_prompt(reflection_briefing(helped=helped, harmed={"in space": 100}))
        answer = Chat(lexicon()).ask([HumanMessage(prompt)], Reflection)
        jsonschema.validate(json.loads(answer.raw_text), wire_schema(Reflection))

    @pytest.mark.parametrize("hostile", INJECTIONS)
    def test_injections_change_nothing_but_text(self, hostile):
        tame = proposals(class_briefing(samples=[sample(("shark", "noun"))]))
        briefing = class_briefing(class_name="fish", samples=[sample((hostile, "noun"))], shared={"guideline": hostile})
        wild = proposals(briefing)
        assert sorted(proposal.kind for proposal in wild) == sorted(proposal.kind for proposal in tame)
        assert all(proposal.text.startswith("a photo of ") for proposal in wild)

    @pytest.mark.parametrize("hostile", INJECTIONS)
    def test_a_class_name_with_markup_is_a_name(self, hostile):
        kinds = {proposal.kind for proposal in proposals(class_briefing(class_name=hostile))}
        assert kinds == {"look_alike", "contextual"}

    def test_class_names_of_other_languages_and_of_folders_work(self):
        assert "a photo of a собака in the desert." in said(class_briefing(class_name="собака"))
        assert "a photo of an ice bear in the desert." in said(class_briefing(class_name="ice_bear"))


class TestDeterminism:
    def test_the_same_messages_and_seed_give_the_same_reply_in_any_process(self):
        script = "from tests.agents.lexicon.lexicon_replies import digest_of_replies; print(digest_of_replies())"
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", script],
                cwd=Path(__file__).parents[3],
                env={**os.environ, "PYTHONHASHSEED": hash_seed},
                stdout=subprocess.PIPE,
                text=True,
            )
            for hash_seed in ("1", "2")
        ]
        assert {process.communicate()[0].strip() for process in processes} == {digest_of_replies()}

    def test_seed_and_messages_change_what_is_explored(self):
        briefing = class_briefing(samples=[], near_places=[])
        assert set(said(briefing, seed=0)) != set(said(briefing, seed=1))
        other = class_briefing(samples=[], near_places=[], shared={"guideline": "Vary them."})
        assert set(said(briefing)) != set(said(other))

    def test_global_random_state_is_neither_read_nor_written(self):
        random.seed(1)
        before = random.getstate()
        first = said(class_briefing())
        assert random.getstate() == before
        random.seed(2)
        assert said(class_briefing()) == first


class TestProposals:
    def test_the_nearest_nouns_become_look_alikes_and_the_class_does_not(self):
        texts = said(class_briefing())
        assert "a photo of a shark." in texts
        assert "a photo of an eel." in texts
        assert "a photo of a fish." not in texts

    def test_attributes_are_left_out(self):
        assert not [text for text in said(class_briefing(wanted=30)) if "striped" in text or "wooden" in text]

    def test_near_places_hold_the_class(self):
        texts = said(class_briefing())
        assert "a photo of a fish in the desert." in texts
        assert "a photo of a fish in the deep sea." in texts

    def test_a_class_is_not_put_into_itself(self):
        given = class_briefing(class_name="car", near_places=["in a car", "in a parking lot"], wanted=30)
        texts = said(given)
        assert "a photo of a car in a car." not in texts
        assert "a photo of a car in a parking lot." in texts
        assert len(texts) == 30

    def test_articles_are_right(self):
        texts = said(class_briefing(class_name="owl", samples=[sample(("scissors", "noun"), ("unicorn", "noun"))]))
        assert {"a photo of scissors.", "a photo of a unicorn.", "a photo of an owl in the desert."} <= set(texts)

    def test_part_of_the_budget_explores_what_was_not_shown(self):
        shown = {"shark", "whale", "kite", "eel", "fish"}
        places = {"in the desert", "in the deep sea"}
        found = proposals(class_briefing(wanted=30))
        things = {p.text.removesuffix(".").split(maxsplit=4)[-1] for p in found if p.kind == "look_alike"}
        assert len(things - shown) >= 20 - 13
        assert len([p for p in found if p.kind == "contextual" and not any(one in p.text for one in places)]) >= 5

    def test_exploration_fills_up_where_nothing_was_accepted(self):
        found = proposals(class_briefing(accepted_outliers=0, samples=[], near_places=[]))
        assert len(found) == 12
        assert sum(proposal.kind == "look_alike" for proposal in found) == 8

    def test_nothing_is_ever_repeated(self):
        bank, rejected, helped = [], [], {}
        for _ in range(6):
            refused = {"near-duplicate": rejected}
            shared = {"tried": rejected, "refused": refused}
            given = class_briefing(own_tried=bank, shared=shared, own_helped=helped, wanted=30)
            phrases = [FISH.phrase(proposal.kind, proposal.text) for proposal in proposals(given)]
            known = {text_key(phrase) for phrase in (*bank, *rejected, *helped)}
            assert len(phrases) == 30
            assert not known & {text_key(phrase) for phrase in phrases}
            bank += phrases[:10]
            rejected += [phrase.upper() for phrase in phrases[10:20]]
            helped |= dict.fromkeys(phrases[20:], 10.0)

    def test_generations_spread_over_the_places(self):
        bank = []
        for _ in range(16):
            found = proposals(class_briefing(own_tried=bank, focus="contexts", wanted=20))
            bank += [FISH.phrase(proposal.kind, proposal.text) for proposal in found]
        assert set(VOCABULARY.places) <= set(bank)

    def test_what_was_rejected_is_not_tried_again(self):
        shared = {"refused": {"a known class": ["shark", "eel"]}}
        texts = said(class_briefing(shared=shared, wanted=30, focus="look_alikes"))
        assert not [text for text in texts if text.endswith((" shark.", " eel."))]

    @pytest.mark.parametrize(("focus", "look_alikes"), [("look_alikes", 14), ("both", 13), ("contexts", 12)])
    def test_the_focus_shifts_the_shares(self, focus, look_alikes):
        found = proposals(class_briefing(focus=focus, wanted=20))
        assert abs(sum(proposal.kind == "look_alike" for proposal in found) - look_alikes) <= 1

    def test_the_guideline_names_words_to_prefer_and_to_avoid(self):
        plain = class_briefing(samples=[], near_places=[])
        advice = {"guideline": "Prefer: on a plate, robot. Avoid: in space, toy."}
        guided = class_briefing(samples=[], near_places=[], shared=advice)
        assert "a photo of a fish on a plate." in said(guided)
        assert "a photo of a robot." in said(guided)
        assert "a photo of a fish on a plate." not in said(plain)
        near_space = class_briefing(near_places=["in space"], shared={"guideline": "Avoid: in space."}, wanted=9)
        assert "a photo of a fish in space." not in said(near_space)

    def test_a_place_that_helped_one_text_is_tried_for_the_class(self):
        briefing = class_briefing(own_helped={"dog in a bathtub": 20})
        assert "a photo of a fish in a bathtub." in said(briefing)

    def test_a_small_vocabulary_that_is_used_up_says_less(self):
        tiny = Vocabulary(nouns=("robot",), places=("in space",), attributes=("red",))
        briefing = class_briefing(samples=[], near_places=[])
        assert sorted(said(briefing, vocabulary=tiny)) == ["a photo of a fish in space.", "a photo of a robot."]
        spent = class_briefing(samples=[], near_places=[], own_tried=["in space", "robot"])
        answer = Chat(lexicon(vocabulary=tiny)).ask([HumanMessage(in_a_prompt(spent))], proposals_of(spent.wanted))
        assert answer.parsed is None
        assert answer.problems


class TestReflection:
    def test_the_kind_that_the_bank_could_spare_least_becomes_the_focus(self):
        assert reflection(reflection_briefing(worth={"look_alike": 10, "contextual": 30})).focus == "contexts"
        assert reflection(reflection_briefing(worth={"look_alike": 0.3, "contextual": 0.1})).focus == "look_alikes"

    def test_a_kind_that_harms_does_not_become_the_focus(self):
        assert reflection(reflection_briefing(worth={"look_alike": -0.1, "contextual": -0.3})).focus == "both"

    def test_without_a_clear_difference_it_is_both(self):
        assert reflection(reflection_briefing(worth={})).focus == "both"
        assert reflection(reflection_briefing(worth={"look_alike": 0.2, "contextual": 0.21})).focus == "both"

    def test_the_guideline_names_the_words_that_helped_and_harmed(self):
        guideline = reflection(reflection_briefing()).guideline
        assert "Prefer: in the desert, shark, toy." in guideline
        assert "Avoid: eel." in guideline

    def test_its_guideline_reaches_its_own_proposals(self):
        guideline = reflection(reflection_briefing(helped={"on a plate": 40})).guideline
        texts = said(class_briefing(class_name="horse", samples=[], near_places=[], shared={"guideline": guideline}))
        assert "a photo of a horse on a plate." in texts


class TestClosedVocabulary:
    def test_it_names_what_is_offered_and_explores_the_last_of_it(self):
        asked = class_briefing(
            wanted=6, near_things=["kite", "eel"], offered=["kite", "eel", "Harp", "Gong", "Bell", "Drum", "Lute"]
        )
        asked = asked.model_copy(update={"wanted": Wanted(look_alikes=6, places=0)})
        named = propose(asked, Vocabulary(("Anvil", "kite"), (), (), {"a kite": "a kite"}), "key")
        assert named == (("kite", "eel", "Harp", "Gong", "Bell", "Drum"), ())
