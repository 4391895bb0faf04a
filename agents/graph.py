"""One generation of the loop, as a LangGraph graph:

    inspect -> propose -> embed -> screen -> measure -> decide -> reflect

Each node takes the state and returns what it adds. The graph keeps nothing between generations: what a generation
starts from is read from the database (agents.memory), and an interrupted run leaves nothing but its recorded calls.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph

from agents.boundary import Boundary, Scores, measure
from agents.briefing import ClassBriefing, ReflectionBriefing, render
from agents.calls import Caller, Request
from agents.feedback import FeedbackData
from agents.inspection import Inspector, mis_accepted_by_class
from agents.memory import Memory
from agents.policies import Decision, choose_classes, decide
from agents.schemas import Focus, Proposals, Reflection, proposals_of
from agents.templates import fill, prompt_template
from agents.text import clean_text, without_markup
from db.store import new_id
from evaluation.bank import Bank
from evaluation.effects import AntibodyEffect, antibody_effects
from evaluation.features import FloatArray, TextEmbedder
from evaluation.selection import Screened, SelectionRules, screen
from immuno.config import RefineConfig
from immuno.records import AntibodyKind, ProposedAntibody


@dataclass(frozen=True, slots=True)
class TurnedDown:
    """A proposal that was turned down before it was embedded, and why ("category: detail")."""

    proposal: ProposedAntibody
    reason: str


class GenerationState(TypedDict, total=False):
    """What the nodes hand on. Each key is written by one node only."""

    memory: Memory
    before: Boundary
    briefings: dict[str, ClassBriefing]
    proposals: tuple[ProposedAntibody, ...]
    turned_down: tuple[TurnedDown, ...]
    problems: tuple[str, ...]
    vectors: FloatArray
    screened: tuple[Screened, ...]
    ids: tuple[str, ...]
    candidate: Bank
    after: Boundary
    effects: tuple[AntibodyEffect, ...]
    decision: Decision
    guideline: str
    focus: Focus
    reflection_problems: tuple[str, ...]


_EFFECTS_SHOWN = 12


@dataclass(frozen=True, slots=True)
class Loop:
    """The nodes of the graph, and what they work with."""

    data: FeedbackData
    embedder: TextEmbedder
    inspector: Inspector
    caller: Caller
    config: RefineConfig
    class_prototypes: Scores
    """mu_k (K, d): what the band-pass compares with."""

    def compile(self) -> CompiledStateGraph[Any, Any, Any, Any]:
        """Return the runnable graph of one generation."""
        graph = StateGraph(GenerationState)
        steps = ("inspect", "propose", "embed", "screen", "measure", "decide", "reflect")
        for step in steps:
            graph.add_node(step, getattr(self, step))
        for here, there in zip((START, *steps), (*steps, END), strict=True):
            graph.add_edge(here, there)
        return graph.compile()

    def inspect(self, state: GenerationState) -> GenerationState:
        """Find the mistakes of the bank in force, and tell those of the classes whose turn it is."""
        memory = state["memory"]
        before = measure(self.data, memory.bank, self.config.score, self.config.acceptance)
        mistakes = mis_accepted_by_class(self.data, before)
        chosen = choose_classes(
            {name: len(found.samples) for name, found in mistakes.items()},
            memory.last_worked_on,
            self.data.classes,
            self.config.classes_per_generation,
        )
        briefings = {
            name: self.inspector.brief(mistakes[name], before, memory, wanted=self.config.proposals_per_class)
            for name in chosen
        }
        return {"before": before, "briefings": briefings}

    def propose(self, state: GenerationState) -> GenerationState:
        """Ask the model for antibodies of all classes; a reply that cannot be had or read costs only its class."""
        memory = state["memory"]
        names = tuple(state["briefings"])
        replies = self.caller.ask_all(memory.number, (self._request(name, state) for name in names))
        proposals: list[ProposedAntibody] = []
        turned_down: list[TurnedDown] = []
        problems: list[str] = []
        for name, reply in zip(names, replies, strict=True):
            problems.extend(f"{name}: {problem}" for problem in reply.problems)
            turned_down.extend(
                TurnedDown(ProposedAntibody(text=one.text, kind=one.kind, guards=name), one.reason)
                for one in reply.refused
            )
            if reply.parsed is not None:
                proposals.extend(
                    ProposedAntibody(text=p.text, kind=p.kind, guards=name, rationale=p.rationale)
                    for p in reply.parsed.antibodies
                )
        return {"proposals": tuple(proposals), "turned_down": tuple(turned_down), "problems": tuple(problems)}

    def _request(self, name: str, state: GenerationState) -> Request[Proposals]:
        briefing = state["briefings"][name]
        prompt = fill(
            prompt_template("propose"),
            class_name=clean_text(without_markup(name)),
            guideline=state["memory"].guideline,
            briefing=render(briefing),
            wanted=briefing.wanted,
        )
        return Request("propose", name, prompt, proposals_of(briefing.wanted))

    def embed(self, state: GenerationState) -> GenerationState:
        """Embed the proposals, all at once."""
        texts = [proposal.text for proposal in state["proposals"]]
        dim = self.data.texts.shape[1]
        return {"vectors": self.embedder.embed_texts(texts) if texts else np.zeros((0, dim), np.float32)}

    def screen(self, state: GenerationState) -> GenerationState:
        """Negative selection: turn down what is no antibody, with the reason."""
        screened = screen(
            state["proposals"],
            state["vectors"],
            classes=self.data.classes,
            synonyms={},
            mu=self.class_prototypes,
            bank=state["memory"].bank,
            rules=SelectionRules(band=self.config.band),
        )
        return {"screened": tuple(screened), "ids": tuple(new_id() for _ in screened)}

    def measure(self, state: GenerationState) -> GenerationState:
        """Measure the bank with the new antibodies, and what each of its antibodies does."""
        kept = [i for i, one in enumerate(state["screened"]) if one.accepted]
        newcomers = Bank(
            ids=tuple(state["ids"][i] for i in kept),
            texts=tuple(state["screened"][i].proposal.text for i in kept),
            kinds=tuple(state["screened"][i].proposal.kind for i in kept),
            guards=tuple(state["screened"][i].proposal.guards for i in kept),
            vectors=state["vectors"][kept],
        )
        candidate = state["memory"].bank.concat(newcomers)
        after = measure(self.data, candidate, self.config.score, self.config.acceptance)
        effects = antibody_effects(
            after.fitted, self.data.known, self.data.known_labels, self.data.outliers, acceptance=self.config.acceptance
        )
        return {"candidate": candidate, "after": after, "effects": tuple(effects)}

    def decide(self, state: GenerationState) -> GenerationState:
        """Accept the bank, or keep the one in force."""
        if not any(one.accepted for one in state["screened"]):
            return {"decision": Decision(False, "no proposal passed the screen")}
        return {"decision": decide(state["before"], state["after"], best=state["memory"].best_mean_fpr95)}

    def reflect(self, state: GenerationState) -> GenerationState:
        """Let the model revise its guideline from what was measured. Without a readable reply the old one stays."""
        memory = state["memory"]
        prompt = fill(
            prompt_template("reflect"),
            guideline=memory.guideline,
            briefing=render(self._reflection_briefing(state)),
        )
        answer = self.caller.ask(memory.number, Request("reflect", "", prompt, Reflection))
        revised = answer.parsed
        return {
            "guideline": revised.guideline if revised is not None else memory.guideline,
            "focus": revised.focus if revised is not None else memory.focus,
            "reflection_problems": answer.problems,
        }

    def _reflection_briefing(self, state: GenerationState) -> ReflectionBriefing:
        candidate = state["candidate"]
        solo = [effect for effect in state["effects"] if effect.effect.scope == "solo"]
        texts = dict(zip(candidate.ids, candidate.texts, strict=True))
        gain = _largest((effect.antibody_id, effect.effect.gain) for effect in solo)
        harm = _largest((effect.antibody_id, effect.effect.harm) for effect in solo)
        return ReflectionBriefing(
            history=[_shown(metrics) for metrics in (*state["memory"].history, generation_metrics(state))],
            worth={kind: self._worth(state, kind) for kind in sorted(set(candidate.kinds))},
            helped=[(texts[key], value) for key, value in gain[:_EFFECTS_SHOWN]],
            harmed=[(texts[key], value) for key, value in harm[:_EFFECTS_SHOWN]],
            rejected=Counter(one.reason.partition(":")[0] for one in state["screened"] if not one.accepted),
            guideline=state["memory"].guideline,
        )

    def _worth(self, state: GenerationState, kind: AntibodyKind) -> float:
        """By how much the mean FPR95 would rise without the antibodies of a kind."""
        others = [i for i, one in enumerate(state["candidate"].kinds) if one != kind]
        without = state["candidate"].take(np.array(others, dtype=np.int64))
        left = measure(self.data, without, self.config.score, self.config.acceptance)
        return left.mean_fpr95 - state["after"].mean_fpr95


def _shown(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """What the model is shown of a generation's metrics. The names of outlier sets would tell it what to look for."""
    return {key: metrics[key] for key in ("mean_fpr95", "worst_fpr95", "id_accuracy", "decision") if key in metrics}


def generation_metrics(state: GenerationState) -> dict[str, Any]:
    """Return what a generation measured, as it is stored and as the model is shown it."""
    return {**state["after"].as_metrics(), "decision": state["decision"].reason}


def _largest(values: Iterable[tuple[str, float]]) -> list[tuple[str, float]]:
    """The largest value above 0 of each antibody over its outlier sets, largest first."""
    best: dict[str, float] = {}
    for key, value in values:
        if value > best.get(key, 0.0):
            best[key] = value
    return sorted(best.items(), key=lambda item: (-item[1], item[0]))
