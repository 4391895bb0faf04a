"""Refinement sessions: generation after generation, each stored whole, so that a session can stop anywhere and go on.

The database is the record. Before each generation the state is read from it (agents.memory), after each the generation
is written in one transaction; a stop in between costs that generation's work, but none of its recorded calls.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, cast

from agents.chat.calls import Caller, RecordedCaller
from agents.chat.failures import ModelUnavailable
from agents.chat.models import Chat, make_chat_model
from agents.chat.review import Review, ReviewedCaller
from agents.drafting import Began, draft_first_generation, draft_generation
from agents.feedback import Gauge, check_space, feedback_of, fit_of, halve, measure
from agents.graph import GenerationState, Loop
from agents.memory import Memory, choose_origin, recall
from agents.policies import given_up, handled_by, new_generator, state_of, stop_reason
from agents.prompts.inspection import Inspector
from agents.prompts.templates import examples
from agents.sense import against_random_words
from db import AntibodyStore, ClaimLostError, GenerationRecord, HeldClaim, SessionRecord
from evaluation.antibodies.vocabulary import Vocabulary, load_vocabulary
from evaluation.scores import configured_score
from evaluation.scores.prototypes import prototypes
from evaluation.space import Bank, Space
from immuno_core.config.refine import RefineConfig
from immuno_core.features import TextEmbedder

OnGeneration = Callable[[GenerationRecord], None]


def check_settings(config: RefineConfig, *, seed: int) -> None:
    """Raise SetupError for a score or a chat model that cannot be made. Asks the model nothing."""
    configured_score(config.score)
    make_chat_model(config, seed=seed, vocabulary=load_vocabulary())


@dataclass(frozen=True, slots=True)
class RefinementSession:
    """A session and what it works with."""

    record: SessionRecord
    """Without the configuration it was started with: that names the sealed test's folders."""
    config: RefineConfig
    store: AntibodyStore
    space: Space
    """What it measures on: fit and feedback images, never the sealed test. Its bank plays no part."""
    embedder: TextEmbedder
    review: Review | None = None
    """Shows proposals to a person before anything is measured. None: what was decided before holds all the same."""
    synonyms: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Other names of classes, which no antibody may be."""
    template: str = "a photo of a {}."
    """What the things and places that the model names are put into."""
    vocabulary: Vocabulary | None = None
    """What mistakes are told in, and all that can be said where it is closed; None: the words that come with immuno."""

    def __post_init__(self) -> None:
        check_space(self.space)
        object.__setattr__(self, "record", replace(self.record, config={}))

    def run(self, on_generation: OnGeneration = lambda _: None) -> tuple[GenerationRecord, ...]:
        """Run the generations that are still missing, and return all of them, the baseline (number 0) first.

        `on_generation` is called after each one is stored. A session that is asked to stop (db.claims) is paused after
        the generation in progress. Raises ModelUnavailable when the chat model gives no reply: the session is then
        paused, and can be resumed. Raises SetupError while another process runs this session.
        """
        with self.store.claim_session(self.record.id) as claim:
            return self._run(on_generation, claim)

    def _run(self, on_generation: OnGeneration, claim: HeldClaim) -> tuple[GenerationRecord, ...]:
        done = self.store.generations(self.record.id)
        if done and stop_reason(self.config, done) is not None:
            self.store.set_session_status(self.record.id, "finished")
            return tuple(done)
        self.store.set_session_status(self.record.id, "running")
        try:
            if not done:
                on_generation(self._first_generation())
            status = self._run_missing(on_generation, claim)
        except ClaimLostError:  # the session is another's now, and so is its status
            raise
        except BaseException:
            # A stop by Ctrl-C too: whoever looks at the database sees that the session waits.
            self.store.set_session_status(self.record.id, "paused")
            raise
        self.store.set_session_status(self.record.id, status)
        return tuple(self.store.generations(self.record.id))

    @property
    def stopped_because(self) -> str | None:
        """Why no further generation runs; None while there is one to run."""
        done = self.store.generations(self.record.id)
        return stop_reason(self.config, done) if done else None

    def _first_generation(self) -> GenerationRecord:
        """Measure the classifier without antibodies: what every later generation is compared with."""
        began = Began()
        boundary = measure(self.space, Bank.empty(self.space.dim), self.config.score, self.config.acceptance)
        draft = draft_first_generation(
            self.record.id, self.space, boundary, state_of(new_generator(self.record.seed)), began=began
        )
        return self.store.save_generation(draft)

    def _run_missing(self, on_generation: OnGeneration, claim: HeldClaim) -> Literal["finished", "paused"]:
        loop = self.loop()
        graph = loop.compile()
        while stop_reason(self.config, generations := self.store.generations(self.record.id)) is None:
            if claim.asked_to_stop():
                return "paused"
            claim.check()
            began = Began()
            memory = self.recall(generations)
            state = cast(GenerationState, graph.invoke({"memory": memory}))
            sense = against_random_words(loop, state["bank"]) if state["decision"].accepted else None
            draft = draft_generation(self.record.id, self.space, state, mu=loop.class_prototypes, began=began)
            draft = replace(draft, metrics={**draft.metrics, "sense": sense})
            claim.check()
            on_generation(self.store.save_generation(draft))
            done = self.store.generations(self.record.id)
            if stop_reason(self.config, done) is None and (why := given_up(done)) is not None:
                raise ModelUnavailable(f"{why}; try another refine.structured, or a larger refine.max_tokens or model")
        return "finished"

    def loop(self) -> Loop:
        """Return the nodes of its generations, with what they work with."""
        vocabulary = self.vocabulary or load_vocabulary()
        model = make_chat_model(self.config, seed=self.record.seed, vocabulary=vocabulary)
        caller: Caller = RecordedCaller(
            Chat(model, self.config.structured, self.config.timeout),
            self.config,
            self.record.seed,
            self.store,
            self.record.id,
        )
        fit, labels = fit_of(self.space)
        return Loop(
            space=self.space,
            synonyms=self.synonyms,
            template=self.template,
            vocabulary=vocabulary,
            examples=examples(self.space.classes, self.synonyms),
            halves=halve(feedback_of(self.space), seed=self.record.seed),
            gauge=Gauge(self.space, self.config.score, self.config.acceptance),
            embedder=self.embedder,
            inspector=Inspector(self.space, self.embedder, vocabulary, self.template, self.config.score),
            caller=ReviewedCaller(caller, self.review, self.store, self.record),
            config=self.config,
            class_prototypes=prototypes(self.space.texts, fit.features, labels).mu,
            seed=self.record.seed,
        )

    def recall(self, generations: Sequence[GenerationRecord] | None = None) -> Memory:
        """Return what its next generation starts from; `generations` are those stored, where they were read already."""
        generations = generations or self.store.generations(self.record.id)
        known_set = feedback_of(self.space).known.name
        handled = {
            kept.number: handled_by(self.store.accepted(kept.id), known_set=known_set)
            for kept in generations
            if kept.accepted and self.config.parents == "pareto"
        }
        origin = choose_origin(generations, handled or None, seed=self.record.seed)
        return recall(
            origin,
            generations,
            self.store.antibodies(self.record.id),
            self.store.effects(self.record.id, generation=origin.parent.number, scope="solo"),
            self.store.bank(origin.parent.id),
            self.store.prompts(self.record.id),
        )
