"""One generation of the loop, as a LangGraph graph:

    inspect -> propose -> embed -> screen -> measure -> decide -> mature -> weigh -> prune -> reflect

Each node takes the state and returns what it adds. The graph keeps nothing between generations: what a generation
starts from is read from the database (agents.memory), and an interrupted run leaves nothing but its recorded calls.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypedDict

import numpy as np
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph

from agents.acceptance import Acceptance, Decision, decide_pruning, suspects
from agents.chat.calls import Caller, Request
from agents.feedback import Boundary, Gauge, Halves, Scores, feedback_of
from agents.guidelines import guideline_flaw
from agents.maturing import Maturation, Matured
from agents.memory import Memory
from agents.policies import RequestKind, share_requests, worst_first
from agents.prompts.briefing import ReflectionBriefing
from agents.prompts.composing import Composer, tokens_per_estimate
from agents.prompts.inspection import Inspector, OfNoClass, ShownMistakes, mis_accepted_by_class
from agents.prompts.promise import Sample
from agents.prompts.remembered import shared_briefing
from agents.prompts.templates import Example
from agents.replies import LOOK_ALIKE_SHARE, Focus, Proposals, Reflection, Wanted, proposals_of
from db import new_id
from evaluation.antibodies.captions import Captions
from evaluation.antibodies.maturation import unmatured_text
from evaluation.antibodies.selection import SelectionRules, screen
from evaluation.antibodies.vocabulary import Vocabulary
from evaluation.effects.antibody_effects import AntibodyEffect
from evaluation.space import Bank, Space
from immuno_core.config.refine import RefineConfig
from immuno_core.features import FloatArray, TextEmbedder
from immuno_core.records import LONGEST_ANTIBODY, Antibody, TextKind


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
    prompt: dict[str, Any]
    """What is to be told of the prompts."""
    asked_by: dict[str, RequestKind]
    """The kind of request that each proposal, by its id, answers."""
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
_EXCERPT = 60
_GROUP = 8
"""Classes of a request for a group."""
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
    examples: tuple[Example, ...]
    halves: Halves
    gauge: Gauge
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
        before = self.gauge.measure(memory.bank)
        mistakes = mis_accepted_by_class(self.space, before, self.halves.first)
        shares = share_requests(self.config.classes_per_generation, memory.worth, generation=memory.number)
        chosen = worst_first(
            shares["class"],
            {name: len(samples) for name, samples in mistakes.items()},
            memory.last_worked_on,
            self.space.classes,
            generation=memory.number,
        )
        others = dict(self._of_no_class(shares, mistakes, memory.number))
        wanted = {name: self._wanted(name, memory.focus, shares) for name in chosen}
        wanted |= dict.fromkeys(others, Wanted(look_alikes=self.config.proposals_per_class, places=0))
        pictures = self.config.pictures_per_class
        shown = self.inspector.brief_all(wanted, mistakes, before, memory, others=others, pictures=pictures)
        return {"before": before, "shown": shown}

    def _of_no_class(
        self, shares: Mapping[RequestKind, int], mistakes: Mapping[str, Sequence[Sample]], generation: int
    ) -> Iterator[tuple[str, OfNoClass]]:
        """Yield the requests for groups of confused classes, another each generation, and those for all, with what each
        is called."""
        groups = self.inspector.confused(mistakes, _GROUP) if shares["group"] else []
        for i in range(min(shares["group"], len(groups))):
            group = groups[((generation - 1) * shares["group"] + i) % len(groups)]
            yield f"[group] {', '.join(group)}", OfNoClass(group, [one for name in group for one in mistakes[name]])
        everything = [one for samples in mistakes.values() for one in samples]
        for i in range(min(shares["far"], max(1, len(everything)))):  # without mistakes of its own one asks as another
            yield f"[far] {i + 1}", OfNoClass((), everything[i :: shares["far"]])

    def propose(self, state: GenerationState) -> GenerationState:
        """Ask the model for antibodies of all classes; a reply that cannot be had or read costs only its class."""
        memory = state["memory"]
        names = tuple(state["shown"])
        composer = Composer(self.config.prompt_tokens, memory.tokens_per_estimate, self.examples)
        prompts, told = composer.propose(
            shared_briefing(memory, self.template), {name: shown.briefing for name, shown in state["shown"].items()}
        )
        requests = (self._request(name, prompts[name], state["shown"][name]) for name in names)
        replies = self.caller.ask_all(memory.number, requests)
        counted = zip(prompts.items(), replies, strict=True)
        ratio = tokens_per_estimate(
            (prompt, reply.prompt_tokens) for (name, prompt), reply in counted if not state["shown"][name].images
        )
        told["tokens_per_estimate"] = memory.tokens_per_estimate if ratio is None else round(ratio, 3)
        proposals: list[Antibody] = []
        turned_down: list[Antibody] = []
        problems: list[str] = []
        asked_by: dict[str, RequestKind] = {}
        for name, reply in zip(names, replies, strict=True):
            problems.extend(f"{name}: {problem}" for problem in reply.problems)
            guards = name if state["shown"][name].kind == "class" else ""
            made = [
                Antibody(p.text, p.kind, guards, p.rationale, id=new_id(), origin=self.config.llm)
                for p in (reply.parsed.antibodies if reply.parsed is not None else ())
            ]
            refused = [replace(a, id=new_id(), guards=guards, origin=self.config.llm) for a in reply.refused]
            # Of equal texts the first one is stored.
            ids = {antibody.text: antibody.id for antibody in reversed((*made, *refused))}
            for antibody in made:
                parent = ids.get(reply.originals.get(antibody.text, ""))
                one = antibody if parent is None else replace(antibody, parent_id=parent, relation="edited")
                if self._captions(guards).known(one.text):
                    proposals.append(one)
                else:
                    turned_down.append(one.turned_down("not offered: the table of texts does not hold it"))
            turned_down.extend(refused)
            asked_by |= dict.fromkeys((one.id for one in made), state["shown"][name].kind)
        return {
            "proposals": tuple(proposals),
            "turned_down": tuple(turned_down),
            "problems": tuple(problems),
            "unread": problems[0] if problems and all(reply.parsed is None for reply in replies) else "",
            "prompt": told,
            "asked_by": asked_by,
        }

    def _request(self, name: str, prompt: str, shown: ShownMistakes) -> Request[Proposals]:
        briefing, images = shown
        captions = self._captions(name if shown.kind == "class" else "")
        return Request("propose", name, prompt, proposals_of(briefing.wanted), images, captions)

    def _captions(self, name: str) -> Captions:
        return Captions(self.template, name, self.vocabulary.table)

    def _wanted(self, name: str, focus: Focus, shares: Mapping[RequestKind, int]) -> Wanted:
        """How many things and places of a class are asked for: no places where no caption can say its name, nor where
        the vocabulary is a table's, which has none.

        Where other requests ask for things alone, classes are asked for more places: the focus is that of all requests.
        """
        each = self.config.proposals_per_class
        places = min(each, round((1 - LOOK_ALIKE_SHARE[focus]) * each * sum(shares.values()) / shares["class"]))
        wanted = Wanted(look_alikes=each - places, places=places)
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
            examples=[phrase for one in self.examples for phrase in (*one.look_alikes, *one.places)],
        )
        return {"screened": tuple(screened)}

    def measure(self, state: GenerationState) -> GenerationState:
        """Measure the bank with the new antibodies."""
        kept = [i for i, antibody in enumerate(state["screened"]) if antibody.accepted]
        newcomers = Bank(tuple(state["screened"][i] for i in kept), state["vectors"][kept])
        candidate = state["memory"].bank.concat(newcomers)
        return {"candidate": candidate, "after": self.gauge.measure(candidate)}

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
        after = self.gauge.measure(bank)
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
        attempt = Maturation(feedback_of(self.space).outliers, self.halves, self.gauge.measure, self.seed)
        ways = {"matured": (self.config.maturation, attempt.mature), "seen": (self.config.visual, attempt.see)}
        for name, (wanted, way) in ways.items():
            found[name] = tried = way(bank, boundary) if wanted and state["decision"].accepted else None
            if tried is not None and tried.decision.accepted:
                bank, boundary = tried.bank, tried.boundary
        return {"matured": found["matured"], "seen": found["seen"], "grown": bank, "weighed": boundary}

    def weigh(self, state: GenerationState) -> GenerationState:
        """Measure what each antibody does."""
        return {"effects": self.gauge.effects(state["weighed"].fitted)}

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
        final = self.gauge.measure(bank)
        decision = decide_pruning(self.halves, state["weighed"], final, len(harmful), seed=self.seed)
        if not decision.accepted:
            return {**unchanged, "pruning": decision}
        return {"pruned": harmful, "pruning": decision, "bank": bank, "final": final}

    def reflect(self, state: GenerationState) -> GenerationState:
        """Let the model revise the guideline from what was measured: the one just tried if it did well, else the last
        that did. Without a readable reply, or with one that is no advice, that one stays; the model is not asked where
        guidelines never helped."""
        memory = state["memory"]
        guideline = memory.guideline if state["decision"].accepted else memory.prompt.kept_guideline
        kept: GenerationState = {"guideline": guideline, "focus": memory.focus, "reflection_problems": ()}
        if not memory.reflects:
            return kept
        composer = Composer(self.config.prompt_tokens, memory.tokens_per_estimate, ())
        prompt = composer.reflect(self._reflection_briefing(state, guideline))
        (reply,) = self.caller.ask_all(memory.number, [Request("reflect", "", prompt, Reflection)])
        revised = reply.parsed
        if revised is None:
            return {**kept, "reflection_problems": reply.problems}
        if flaw := guideline_flaw(revised.guideline):
            refused = f"the guideline '{revised.guideline[:_EXCERPT]}' was refused: {flaw}"
            return {**kept, "reflection_problems": (*reply.problems, refused)}
        return {"guideline": revised.guideline, "focus": revised.focus, "reflection_problems": reply.problems}

    def harmful(self, boundary: Boundary) -> tuple[str, ...]:
        """Return the ids of the antibodies that seem to harm, by the first half of the feedback; no visual ones, which
        are made of its outliers."""
        found = suspects(self.gauge.effects(boundary.fitted, self.halves.first))
        visual = frozenset(boundary.fitted.bank.visual.ids)
        return tuple(key for key in found if key not in visual)

    def _reflection_briefing(self, state: GenerationState, guideline: str) -> ReflectionBriefing:
        memory, bank = state["memory"], state["grown"].worded
        texts = {
            one.id: Captions(self.template, one.guards).phrase(one.kind, unmatured_text(one.text))
            for one in bank.antibodies
        }
        solo = [one for one in state["effects"] if one.effect.scope == "solo" and one.antibody_id in texts]
        gain = _largest((texts[effect.antibody_id], effect.effect.gain) for effect in solo)
        harm = _largest((texts[effect.antibody_id], effect.effect.harm) for effect in solo)
        failed = () if state["decision"].accepted or memory.prompt.parent is None else (memory.guideline,)
        return ReflectionBriefing(
            history=[_shown(metrics) for metrics in (*memory.history, generation_metrics(state))],
            worth={kind: 100 * self._worth(state, kind) for kind in sorted(set(bank.text_kinds))},
            helped={text: 100 * share for text, share in gain[:_EFFECTS_SHOWN]},
            harmed={text: 100 * share for text, share in harm[:_EFFECTS_SHOWN]},
            refused=Counter(a.reason.partition(":")[0] for a in state["screened"] if not a.accepted),
            guideline=guideline,
            dropped=() if state["decision"].accepted else tuple(dict.fromkeys((*memory.prompt.dropped, *failed))),
        )

    def _worth(self, state: GenerationState, kind: TextKind) -> float:
        """By how much the mean FPR95 would rise without the antibodies of a kind."""
        others = [i for i, other in enumerate(state["grown"].kinds) if other != kind]
        without = state["grown"].take(np.array(others, dtype=np.int64))
        return self.gauge.measure(without).mean_fpr95 - state["weighed"].mean_fpr95


_TOLD = {"fpr95": "mean_fpr95", "worst_fpr95": "worst_fpr95", "id_accuracy": "id_accuracy"}


def _shown(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """What the model is shown of a generation's metrics, in percent. The names of outlier sets would tell it what to
    look for."""
    told = {name: round(100 * metrics[key], 1) for name, key in _TOLD.items() if key in metrics}
    return told | ({"decision": metrics["decision"]} if "decision" in metrics else {})


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
        "prompt": state["prompt"],
        "requests": _requests(state),
    }


def _requests(state: GenerationState) -> dict[str, Any]:
    """By kind of request: how many antibodies were asked for, how many are kept, and what these do alone: the mean over
    the outlier sets of the share of outliers that they make rejected, less that of known images."""
    solo: dict[str, list[float]] = {}
    for measured in state["effects"]:
        if measured.effect.scope == "solo" and measured.antibody_id in state["asked_by"]:
            solo.setdefault(measured.antibody_id, []).append(measured.effect.gain - measured.effect.harm)
    kept = set(state["bank"].ids) if state["decision"].accepted else set()
    told: dict[str, Any] = {}
    for shown in state["shown"].values():
        one = told.setdefault(shown.kind, {"asked": 0, "kept": 0, "gain": 0.0})
        one["asked"] += shown.briefing.wanted.total
    for key, kind in state["asked_by"].items():
        if key in kept:
            told[kind]["kept"] += 1
            told[kind]["gain"] += max(0.0, float(np.mean(solo.get(key, [0.0]))))
    return told


def _told(decision: Decision) -> dict[str, Any]:
    return {"kept": decision.accepted, "reason": decision.reason, **decision.measured}


def _largest(values: Iterable[tuple[str, float]]) -> list[tuple[str, float]]:
    """The largest value above 0 of each text over its outlier sets, largest first."""
    best: dict[str, float] = {}
    for key, value in values:
        if value > best.get(key, 0.0):
            best[key] = value
    return sorted(best.items(), key=lambda item: (-item[1], item[0]))
