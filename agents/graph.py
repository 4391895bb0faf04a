"""One generation of the loop, as a LangGraph graph:

    inspect -> propose -> embed -> screen -> measure -> decide -> mature -> weigh -> prune -> reflect

Each node takes the state and returns what it adds. The graph keeps nothing between generations: what a generation
starts from is read from the database (agents.memory), and an interrupted run leaves nothing but its recorded calls.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypedDict

import numpy as np
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph

from agents.acceptance import Acceptance, Decision, decide_pruning, suspects
from agents.chat.calls import Caller, Request
from agents.feedback import Boundary, Halves, Scores, feedback_of, measure
from agents.maturing import Maturation, Matured
from agents.memory import Memory
from agents.policies import worst_first
from agents.prompts.briefing import ReflectionBriefing, render
from agents.prompts.inspection import Inspector, ShownMistakes, mis_accepted_by_class
from agents.prompts.templates import fill, prompt_template
from agents.replies import Focus, Proposals, Reflection, Wanted, proposals_of
from db import new_id
from evaluation.antibodies.captions import Captions
from evaluation.antibodies.selection import SelectionRules, screen
from evaluation.antibodies.vocabulary import Vocabulary
from evaluation.effects.antibody_effects import AntibodyEffect, antibody_effects
from evaluation.space import Bank, Space
from immuno_core.config.refine import RefineConfig
from immuno_core.features import FloatArray, TextEmbedder
from immuno_core.records import LONGEST_ANTIBODY, Antibody, TextKind
from immuno_core.text import clean_text, without_markup


class GenerationState(TypedDict, total=False):
    """What the nodes hand on. Each key is written by one node only."""

    memory: Memory
    before: Boundary
    shown: dict[str, ShownMistakes]
    proposals: tuple[Antibody, ...]
    turned_down: tuple[Antibody, ...]
    """Before they were embedded."""
    problems: tuple[str, ...]
    unread: str
    """The first problem, where no reply of all could be read; else ""."""
    vectors: FloatArray
    screened: tuple[Antibody, ...]
    candidate: Bank
    after: Boundary
    decision: Decision
    taken: Bank
    taken_after: Boundary
    withdrawn: tuple[str, ...]
    matured: Matured | None
    seen: Matured | None
    grown: Bank
    weighed: Boundary
    effects: tuple[AntibodyEffect, ...]
    pruned: tuple[str, ...]
    pruning: Decision | None
    bank: Bank
    final: Boundary
    guideline: str
    focus: Focus
    reflection_problems: tuple[str, ...]


_EFFECTS_SHOWN = 12
_PLACE = 30
"""Characters that a place may need."""
STEPS = ("inspect", "propose", "embed", "screen", "measure", "decide", "mature", "weigh", "prune", "reflect")
"""The nodes of a generation, in their order."""


@dataclass(frozen=True, slots=True)
class Loop:
    """The nodes of the graph, and what they work with."""

    space: Space
    synonyms: Mapping[str, Sequence[str]]
    """Other names of classes, which no antibody may be."""
    template: str
    """What the things and places that the model names are put into."""
    vocabulary: Vocabulary
    halves: Halves
    embedder: TextEmbedder
    inspector: Inspector
    caller: Caller
    config: RefineConfig
    class_prototypes: Scores
    """mu_k (K, d): what the band-pass compares with."""
    seed: int

    def compile(self) -> CompiledStateGraph[Any, Any, Any, Any]:
        """Return the runnable graph of one generation."""
        graph = StateGraph(GenerationState)
        for step in STEPS:
            graph.add_node(step, getattr(self, step))
        for here, there in zip((START, *STEPS), (*STEPS, END), strict=True):
            graph.add_edge(here, there)
        return graph.compile()

    def inspect(self, state: GenerationState) -> GenerationState:
        """Find the mistakes of the bank that is continued from, and tell those of the classes whose turn it is."""
        memory = state["memory"]
        before = self._measure(memory.bank)
        mistakes = mis_accepted_by_class(self.space, before, self.halves.first)
        chosen = worst_first(
            self.config.classes_per_generation,
            {name: len(samples) for name, samples in mistakes.items()},
            memory.last_worked_on,
            self.space.classes,
            generation=memory.number,
        )
        wanted = {name: self._wanted(name, memory.focus) for name in chosen}
        shown = self.inspector.brief_all(wanted, mistakes, before, memory, pictures=self.config.pictures_per_class)
        return {"before": before, "shown": shown}

    def propose(self, state: GenerationState) -> GenerationState:
        """Ask the model for antibodies of all classes; a reply that cannot be had or read costs only its class."""
        memory = state["memory"]
        names = tuple(state["shown"])
        replies = self.caller.ask_all(memory.number, (self._request(name, state) for name in names))
        proposals: list[Antibody] = []
        turned_down: list[Antibody] = []
        problems: list[str] = []
        for name, reply in zip(names, replies, strict=True):
            problems.extend(f"{name}: {problem}" for problem in reply.problems)
            made = [
                Antibody(p.text, p.kind, name, p.rationale, id=new_id(), origin=self.config.llm)
                for p in (reply.parsed.antibodies if reply.parsed is not None else ())
            ]
            refused = [replace(a, id=new_id(), guards=name, origin=self.config.llm) for a in reply.refused]
            # Of equal texts the first one is stored.
            ids = {antibody.text: antibody.id for antibody in reversed((*made, *refused))}
            for antibody in made:
                parent = ids.get(reply.originals.get(antibody.text, ""))
                one = antibody if parent is None else replace(antibody, parent_id=parent, relation="edited")
                if self._captions(name).known(one.text):
                    proposals.append(one)
                else:
                    turned_down.append(one.turned_down("not offered: the table of texts does not hold it"))
            turned_down.extend(refused)
        return {
            "proposals": tuple(proposals),
            "turned_down": tuple(turned_down),
            "problems": tuple(problems),
            "unread": problems[0] if problems and all(reply.parsed is None for reply in replies) else "",
        }

    def _request(self, name: str, state: GenerationState) -> Request[Proposals]:
        briefing, images = state["shown"][name]
        prompt = fill(
            prompt_template("propose"),
            class_name=clean_text(without_markup(name)),
            guideline=state["memory"].guideline,
            briefing=render(briefing),
            wanted=_asked_for(briefing.wanted),
        )
        return Request("propose", name, prompt, proposals_of(briefing.wanted), images, self._captions(name))

    def _captions(self, name: str) -> Captions:
        return Captions(self.template, name, self.vocabulary.table)

    def _wanted(self, name: str, focus: Focus) -> Wanted:
        """How many things and places of a class are asked for: no places where no caption can say its name, nor where
        the vocabulary is a table's, which has none."""
        wanted = Wanted.shared(self.config.proposals_per_class, focus)
        fits = len(self._captions(name).caption("contextual", "x" * _PLACE)) <= LONGEST_ANTIBODY
        if fits and not self.vocabulary.table:
            return wanted
        return Wanted(look_alikes=wanted.total, places=0)

    def embed(self, state: GenerationState) -> GenerationState:
        """Embed the proposals, all at once."""
        texts = [proposal.text for proposal in state["proposals"]]
        return {"vectors": self.embedder.embed_texts(texts) if texts else np.zeros((0, self.space.dim), np.float32)}

    def screen(self, state: GenerationState) -> GenerationState:
        """Negative selection: turn down what is no antibody, with the reason."""
        screened = screen(
            state["proposals"],
            state["vectors"],
            classes=self.space.classes,
            synonyms=self.synonyms,
            mu=self.class_prototypes,
            bank=state["memory"].bank.worded,
            rules=SelectionRules(band=self.config.band),
            cut=self.embedder.cut_texts([proposal.text for proposal in state["proposals"]]),
        )
        return {"screened": tuple(screened)}

    def measure(self, state: GenerationState) -> GenerationState:
        """Measure the bank with the new antibodies."""
        kept = [i for i, antibody in enumerate(state["screened"]) if antibody.accepted]
        newcomers = Bank(tuple(state["screened"][i] for i in kept), state["vectors"][kept])
        candidate = state["memory"].bank.concat(newcomers)
        return {"candidate": candidate, "after": self._measure(candidate)}

    def decide(self, state: GenerationState) -> GenerationState:
        """Keep the bank; or, if that is turned down, the bank without the new antibodies that harm; or neither."""
        whole: GenerationState = {"taken": state["candidate"], "taken_after": state["after"], "withdrawn": ()}
        new = {antibody.id for antibody in state["screened"] if antibody.accepted}
        if not new:
            why = f"no reply could be read ({state['unread']})" if state["unread"] else "no proposal passed the screen"
            return {**whole, "decision": Decision(False, why, {"unread": bool(state["unread"])})}
        rule, best = Acceptance(self.halves, self.seed, self.config.confirmation), state["memory"].best_mean_auroc
        decision = rule.decide(state["before"], state["after"], best=best)
        if decision.accepted or not self.config.pruning:
            return {**whole, "decision": decision}
        harmful = tuple(key for key in self.harmful(state["after"]) if key in new)
        if not 0 < len(harmful) < len(new):
            return {**whole, "decision": decision}
        bank = state["candidate"].without(harmful)
        after = self._measure(bank)
        of_part = rule.decide(state["before"], after, best=best)
        if not of_part.accepted:
            return {**whole, "decision": decision}
        reason = (
            f"{len(harmful)} of {len(new)} new antibodies withdrawn; {of_part.reason}; with them: {decision.reason}"
        )
        return {
            "taken": bank,
            "taken_after": after,
            "withdrawn": harmful,
            "decision": Decision(True, reason, of_part.measured | {"withdrawn": len(harmful)}),
        }

    def mature(self, state: GenerationState) -> GenerationState:
        """Let a bank that is kept learn from outliers what texts do not say, where that is shown to help: antibodies
        move toward the outliers nearest to them, and visual ones are what outliers look like."""
        found: dict[str, Matured | None] = {}
        bank, boundary = state["taken"], state["taken_after"]
        attempt = Maturation(feedback_of(self.space).outliers, self.halves, self._measure, self.seed)
        ways = {"matured": (self.config.maturation, attempt.mature), "seen": (self.config.visual, attempt.see)}
        for name, (wanted, way) in ways.items():
            found[name] = tried = way(bank, boundary) if wanted and state["decision"].accepted else None
            if tried is not None and tried.decision.accepted:
                bank, boundary = tried.bank, tried.boundary
        return {"matured": found["matured"], "seen": found["seen"], "grown": bank, "weighed": boundary}

    def weigh(self, state: GenerationState) -> GenerationState:
        """Measure what each antibody does."""
        feedback = feedback_of(self.space)
        effects = antibody_effects(
            state["weighed"].fitted,
            feedback.known,
            feedback.labels,
            feedback.outliers,
            acceptance=self.config.acceptance,
        )
        return {"effects": tuple(effects)}

    def prune(self, state: GenerationState) -> GenerationState:
        """Take out of a bank that is kept what harms it, where that is shown to help."""
        unchanged: GenerationState = {
            "pruned": (),
            "pruning": None,
            "bank": state["grown"],
            "final": state["weighed"],
        }
        harmful = self.harmful(state["weighed"]) if self.config.pruning and state["decision"].accepted else ()
        if not harmful:
            return unchanged
        bank = state["grown"].without(harmful)
        final = self._measure(bank)
        decision = decide_pruning(self.halves, state["weighed"], final, len(harmful), seed=self.seed)
        if not decision.accepted:
            return {**unchanged, "pruning": decision}
        return {"pruned": harmful, "pruning": decision, "bank": bank, "final": final}

    def reflect(self, state: GenerationState) -> GenerationState:
        """Let the model revise the guideline from what was measured: the one just tried if it did well, else the last
        that did. Without a readable reply that one stays."""
        memory = state["memory"]
        guideline = memory.guideline if state["decision"].accepted else memory.prompt.kept_guideline
        prompt = fill(
            prompt_template("reflect"),
            guideline=guideline,
            briefing=render(self._reflection_briefing(state, guideline)),
        )
        (reply,) = self.caller.ask_all(memory.number, [Request("reflect", "", prompt, Reflection)])
        revised = reply.parsed
        return {
            "guideline": revised.guideline if revised is not None else guideline,
            "focus": revised.focus if revised is not None else memory.focus,
            "reflection_problems": reply.problems,
        }

    def harmful(self, boundary: Boundary) -> tuple[str, ...]:
        """Return the ids of the antibodies that seem to harm, by the first half of the feedback; no visual ones, which
        are made of its outliers."""
        half, feedback = self.halves.first, feedback_of(self.space)
        found = suspects(
            antibody_effects(
                boundary.fitted,
                feedback.known.take(half.known),
                feedback.labels[half.known],
                {name: images.take(half.outliers[name]) for name, images in feedback.outliers.items()},
                acceptance=self.config.acceptance,
            )
        )
        visual = frozenset(boundary.fitted.bank.visual.ids)
        return tuple(key for key in found if key not in visual)

    def _measure(self, bank: Bank) -> Boundary:
        return measure(self.space, bank, self.config.score, self.config.acceptance)

    def _reflection_briefing(self, state: GenerationState, guideline: str) -> ReflectionBriefing:
        memory, bank = state["memory"], state["grown"].worded
        texts = dict(zip(bank.ids, bank.texts, strict=True))
        solo = [one for one in state["effects"] if one.effect.scope == "solo" and one.antibody_id in texts]
        gain = _largest((texts[effect.antibody_id], effect.effect.gain) for effect in solo)
        harm = _largest((texts[effect.antibody_id], effect.effect.harm) for effect in solo)
        failed = () if state["decision"].accepted or memory.prompt.parent is None else (memory.guideline,)
        return ReflectionBriefing(
            history=[_shown(metrics) for metrics in (*memory.history, generation_metrics(state))],
            worth={kind: self._worth(state, kind) for kind in sorted(set(bank.text_kinds))},
            helped=gain[:_EFFECTS_SHOWN],
            harmed=harm[:_EFFECTS_SHOWN],
            rejected=Counter(a.reason.partition(":")[0] for a in state["screened"] if not a.accepted),
            guideline=guideline,
            dropped=() if state["decision"].accepted else tuple(dict.fromkeys((*memory.prompt.dropped, *failed))),
        )

    def _worth(self, state: GenerationState, kind: TextKind) -> float:
        """By how much the mean FPR95 would rise without the antibodies of a kind."""
        others = [i for i, other in enumerate(state["grown"].kinds) if other != kind]
        without = state["grown"].take(np.array(others, dtype=np.int64))
        return self._measure(without).mean_fpr95 - state["weighed"].mean_fpr95


def _asked_for(wanted: Wanted) -> str:
    """What a model is to answer with, in words."""
    lists = [f"{count} {name}" for name, count in wanted.model_dump().items() if count]
    return " and ".join(lists)


def _shown(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """What the model is shown of a generation's metrics. The names of outlier sets would tell it what to look for."""
    return {key: metrics[key] for key in ("mean_fpr95", "worst_fpr95", "id_accuracy", "decision") if key in metrics}


def generation_metrics(state: GenerationState) -> dict[str, Any]:
    """Return what a generation measured, as it is stored: of the bank it ends with, or of the one it turned down."""
    matured, pruning = state["matured"], state["pruning"]
    return {
        **state["final"].as_metrics(),
        "decision": state["decision"].reason,
        **state["decision"].measured,
        "maturation": None if matured is None else _told(matured.decision),
        "visual": None if (seen := state["seen"]) is None else _told(seen.decision),
        "pruning": None if pruning is None else _told(pruning),
    }


def _told(decision: Decision) -> dict[str, Any]:
    return {"kept": decision.accepted, "reason": decision.reason, **decision.measured}


def _largest(values: Iterable[tuple[str, float]]) -> list[tuple[str, float]]:
    """The largest value above 0 of each text over its outlier sets, largest first."""
    best: dict[str, float] = {}
    for key, value in values:
        if value > best.get(key, 0.0):
            best[key] = value
    return sorted(best.items(), key=lambda item: (-item[1], item[0]))
