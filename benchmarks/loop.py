"""Does the refinement loop earn its keep? Its bank after every generation, against the same budget without feedback.

    python benchmarks/loop.py [--config FILE.toml] [--seeds 0,1,2,3,4] [--draws 5] [--unseen a,b] [--out FILE.json]

On mini-worlds of the given seeds, as configs/miniworld.toml says (lexicon, six generations), or on what another
configuration says: there a seed holds out other fit images, and halves the feedback otherwise. Every bank is measured
on the sealed test by the main method (immuno_vlm, which chooses its settings on fit and feedback for each bank anew)
and by the score that the loop itself measures with. Per world, and over the worlds with 95 % intervals (t over the
worlds):

    loop      the bank in force after each generation
    at once   (a) as many proposals, all classes alike, from the same lexicon, all at once: nothing was measured
    random    (b) as many texts drawn from the word list: half of them things, half a class in places, for any class
    mined     (c) as many things of the word list, those farthest from every known class, as NegLabel mines them

All go through the same screen; (a) and (b) are drawn `--draws` times, and the mean of its draws counts. The baselines
are ours without antibodies and every published score, as published and with its settings chosen on the feedback; those
that need a bank have the first draw of (a), texts that nobody measured, as EOE has. The first run on a world draws and
embeds its images.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from agents import RefinementSession
from agents.feedback import fit_of
from agents.lexicon.combine import propose
from agents.prompts.briefing import ClassBriefing, SharedBriefing
from agents.prompts.templates import prompt_template
from agents.replies import Wanted
from cluster import EncoderSpec, LocalEmbedder
from db import AntibodyStore, open_store
from evaluation.antibodies.captions import Captions
from evaluation.antibodies.mining import mine
from evaluation.antibodies.selection import SelectionRules, screen
from evaluation.antibodies.vocabulary import Vocabulary, load_vocabulary
from evaluation.benchmark.arms import Arms
from evaluation.benchmark.methods import FittedMethod, fit_methods
from evaluation.benchmark.order import headline_sets
from evaluation.benchmark.presets import Planned, control, expand
from evaluation.data.precomputed import PrecomputedEmbedder
from evaluation.data.sealed import SealedTest
from evaluation.metrics import fpr95_id
from evaluation.scores.base import FittedScore
from evaluation.scores.prototypes import prototypes
from evaluation.scores.registry import make_score
from evaluation.space import Bank, Space
from immuno.bench import word_list
from immuno.workplace import Workplace, with_overrides
from immuno_core.config.methods import MethodConfig, PresetConfig
from immuno_core.config.refine import RefineConfig
from immuno_core.config.run import RunConfig, config_as_dict, read_config
from immuno_core.features import Embedder, FeatureSet, IntArray
from immuno_core.paths import cache_root
from immuno_core.records import Antibody, text_digest
from immuno_core.versions import git_sha, versions

CONFIG = Path(__file__).resolve().parent.parent / "configs" / "miniworld.toml"
UNSEEN = ("near_unseen", "contextual_unseen")
"""Of the mini-world, outliers unlike any in the feedback."""
ARMS = ("at once", "random", "mined")
MAIN = "immuno_vlm"
_LARGEST_BRIEFING = 50


@dataclass(frozen=True)
class World:
    """A mini-world, embedded: what the loop may see, and the sealed test."""

    seed: int
    space: Space
    known: FeatureSet
    labels: IntArray
    outliers: Mapping[str, FeatureSet]
    embedder: Embedder
    vocabulary: Vocabulary
    unseen: tuple[str, ...]
    """The outlier sets unlike the feedback."""

    @property
    def told(self) -> tuple[str, ...]:
        """The outlier sets whose mean is the figure: near and contextual, else all that are like the feedback."""
        return headline_sets(name for name in self.outliers if name not in self.unseen)


@dataclass(frozen=True)
class Figures:
    """FPR95 by sealed set, and ID accuracy, of one bank of `bank` antibodies under one method."""

    fpr95: dict[str, float]
    id_accuracy: float
    bank: int
    told: float
    """The mean over the sets told."""
    unseen: float
    """The mean over outliers unlike any in the feedback; NaN where there are none."""


def main() -> None:
    """Run the worlds, print the comparison, and write the figures where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="0,1,2,3,4")
    parser.add_argument("--config", type=Path, default=CONFIG)
    parser.add_argument("--unseen", default="", help="sets unlike the feedback; default: those of the mini-world")
    parser.add_argument("--draws", type=int, default=5, help="of (a) and of (b), per world")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a key of [refine]")
    parser.add_argument("--out", type=Path, help="write all figures here, as JSON")
    given = parser.parse_args()
    base = read_config(given.config)
    unseen = tuple(given.unseen.split(",")) if given.unseen else UNSEEN
    changed = {key: json.loads(value) for key, value in (one.split("=", 1) for one in given.set)}
    refine = RefineConfig.model_validate(base.refine.model_dump() | changed)
    found = []
    for seed in (int(one) for one in given.seeds.split(",")):
        config = with_overrides(base, seed=seed).model_copy(update={"refine": refine})
        found.append(run_world(config, draws=given.draws, unseen=unseen))
        print_world(found[-1])
    if len(found) > 1:
        print_worlds(found)
    if given.out is not None:
        given.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def run_world(config: RunConfig, *, draws: int, unseen: tuple[str, ...]) -> dict[str, Any]:
    """Run the loop and the other arms on one world; return the figures as plain JSON values."""
    with tempfile.TemporaryDirectory() as folder, open_store(str(Path(folder) / "immuno.db")) as store:
        world = open_world(config, store, unseen)
        started = time.perf_counter()
        banks, generations = run_loop(world, config, store)
        seconds = time.perf_counter() - started
    methods = {MAIN: MethodConfig(name=MAIN), "loop's score": config.refine.score}
    budget = config.refine.generations * config.refine.classes_per_generation * config.refine.proposals_per_class
    arms = {
        "at once": [screened(at_once(world, config, budget, draw), world, config) for draw in range(draws)],
        "random": [screened(random_texts(world, config, budget, draw), world, config) for draw in range(draws)],
        "mined": [screened(mined_texts(world, config, budget), world, config)],
    }
    return {
        "seed": world.seed,
        "budget": budget,
        "sets": list(world.outliers),
        "told": list(world.told),
        "unseen": list(world.unseen),
        "loop_seconds": seconds,
        "generations": generations,
        "baselines": {
            one.label: as_json(figures(world, one.fitted, len(one.space.bank) if one.score.uses_bank else 0))
            for one in baselines(world, config, arms["at once"][0])
        },
        "loop": {name: measured_each(world, one, banks) for name, one in methods.items()},
        **{
            arm: {name: [as_json(measured(world, one, bank)) for bank in drawn] for name, one in methods.items()}
            for arm, drawn in arms.items()
        },
    }


def open_world(config: RunConfig, store: AntibodyStore, unseen: tuple[str, ...]) -> World:
    """Draw and embed a world; what was embedded is kept in the cache."""
    embedder: Embedder = (
        PrecomputedEmbedder(config.encoder)
        if config.encoder.kind == "precomputed"
        else LocalEmbedder(EncoderSpec.from_config(config.encoder), cache_root() / "embeddings")
    )
    place = Workplace(config, lambda: store, embedder)
    space = place.space()
    sealed = SealedTest(config.data, seed=config.seed, classes=space.classes)
    opened = sealed.open(
        "benchmarks/loop.py", on_open=lambda *_: print(f"world {config.seed}: sealed test opened", file=sys.stderr)
    )
    known = embedder.embed_images(opened.id)
    outliers = {images.name: embedder.embed_images(images) for images in opened.ood}
    vocabulary = place.vocabulary(space.classes) or load_vocabulary()
    labels = known.labels(space.classes)
    there = tuple(name for name in unseen if name in outliers)
    return World(config.seed, space, known, labels, outliers, embedder, vocabulary, there)


def run_loop(world: World, config: RunConfig, store: AntibodyStore) -> tuple[list[Bank], list[dict[str, Any]]]:
    """Run a session; return the bank in force after each generation (the baseline's first), and what was decided."""
    record = store.create_session(
        "loop",
        config=config_as_dict(config),
        seed=config.seed,
        git_sha=git_sha(),
        versions=versions(),
        encoder=world.embedder.encoder,
    )
    generations = RefinementSession(
        record,
        config.refine,
        store,
        world.space,
        world.embedder,
        template=config.word_template,
        vocabulary=world.vocabulary,
    ).run()
    banks: list[Bank] = []
    for one in generations:
        if one.accepted:
            best = store.bank(one.id)
        banks.append(best)
    told = [
        {
            "number": one.number,
            "parent": one.parent,
            "prompt": one.prompt_version,
            "accepted": one.accepted,
            "reason": one.reason,
            "feedback_fpr95": one.metrics["mean_fpr95"],
            "maturation": one.metrics.get("maturation"),
            "pruning": one.metrics.get("pruning"),
        }
        for one in generations
    ]
    return banks, told


def at_once(world: World, config: RunConfig, budget: int, draw: int) -> list[Antibody]:
    """(a): the lexicon asked for everything at once, with nothing measured."""
    vocabulary, classes = world.vocabulary, world.space.classes
    found: list[Antibody] = []
    things: list[str] = []
    for k, name in enumerate(classes):
        left = budget * (k + 1) // len(classes) - budget * k // len(classes)
        said: list[str] = list(things)
        turn = 0
        captions = Captions(config.word_template, name, vocabulary.table)
        while left > 0:
            briefing = ClassBriefing(
                class_name=name,
                own_tried=tuple(said),
                shared=SharedBriefing(guideline=prompt_template("guideline")),
                wanted=wanted_of(vocabulary, min(left, _LARGEST_BRIEFING)),
            )
            key = text_digest("at once", str(world.seed), str(draw), name, str(turn))
            named = propose(briefing, vocabulary, key)
            if not any(named):
                break
            found += [Antibody(captions.caption("look_alike", one), "look_alike", name) for one in named.look_alikes]
            found += [Antibody(captions.caption("contextual", one), "contextual", name) for one in named.places]
            said += (*named.look_alikes, *named.places)
            things += named.look_alikes
            left, turn = left - len(named.look_alikes) - len(named.places), turn + 1
    return found


def random_texts(world: World, config: RunConfig, budget: int, draw: int) -> list[Antibody]:
    """(b): things, and classes in places, drawn from the word list, each for a class drawn at random."""
    rng = np.random.default_rng([world.seed, draw])
    vocabulary = world.vocabulary
    found: dict[str, Antibody] = {}
    while len(found) < budget:
        guards = str(rng.choice(world.space.classes))
        captions = Captions(config.word_template, guards, vocabulary.table)
        if vocabulary.places and rng.random() < 0.5:
            text = captions.caption("contextual", str(rng.choice(vocabulary.places)))
            found.setdefault(text, Antibody(text, "contextual", guards))
        else:
            text = captions.caption("look_alike", str(rng.choice(vocabulary.nouns)))
            found.setdefault(text, Antibody(text, "look_alike", guards))
    return list(found.values())


def mined_texts(world: World, config: RunConfig, budget: int) -> list[Antibody]:
    """(c): the things that are farthest from the known classes."""
    captions = Captions(config.word_template, table=world.vocabulary.table)
    texts = list(dict.fromkeys(captions.caption("look_alike", noun) for noun in world.vocabulary.nouns))
    order = mine(world.embedder.embed_texts(texts), world.space.texts, keep=1.0)
    return [Antibody(texts[i], "look_alike") for i in order[:budget]]


def wanted_of(vocabulary: Vocabulary, count: int) -> Wanted:
    """So many antibodies of both kinds; things alone where there are no places."""
    return Wanted.shared(count, "both") if vocabulary.places else Wanted(look_alikes=count, places=0)


def screened(proposals: Sequence[Antibody], world: World, config: RunConfig) -> Bank:
    """Embed proposals and put them through the loop's screen."""
    vectors = world.embedder.embed_texts([one.text for one in proposals])
    space, (fit_images, labels) = world.space, fit_of(world.space)
    kept = screen(
        proposals,
        vectors,
        classes=space.classes,
        synonyms={},
        mu=prototypes(space.texts, fit_images.features, labels).mu,
        bank=Bank.empty(world.space.dim),
        rules=SelectionRules(band=config.refine.band),
    )
    rows = [i for i, one in enumerate(kept) if one.accepted]
    return Bank.of([kept[i] for i in rows], vectors[rows])


def baselines(world: World, config: RunConfig, bank: Bank) -> tuple[FittedMethod, ...]:
    """The published scores (GL-MCM apart, which needs the patches of images) in both settings, and ours without any."""
    planned = [
        one
        for one in expand([PresetConfig(preset="scores")])
        if one.method.name not in (MAIN, config.refine.score.name, "gl_mcm")
    ]
    none = Planned(control(MethodConfig(name=MAIN, visual=0), "none"))
    return fit_methods(arms_of(world, config, bank), [*planned, none]).methods


def arms_of(world: World, config: RunConfig, bank: Bank) -> Arms:
    """The arms of a world with this bank."""
    return Arms(
        base=replace(world.space, bank=bank),
        embedder=world.embedder,
        class_template=config.classes.template,
        antibody_template=config.word_template,
        words=word_list(config),
        seed=config.seed,
    )


def measured(world: World, method: MethodConfig, bank: Bank) -> Figures:
    """Measure a bank on the sealed test."""
    fitted = make_score(method.name, **method.params).fit(replace(world.space, bank=bank))
    return figures(world, fitted, len(bank))


def measured_each(world: World, method: MethodConfig, banks: Sequence[Bank]) -> list[dict[str, Any]]:
    """Measure the bank in force after each generation; one that stayed, once."""
    found: dict[int, dict[str, Any]] = {}
    for bank in banks:
        if id(bank) not in found:
            found[id(bank)] = as_json(measured(world, method, bank))
    return [found[id(bank)] for bank in banks]


def figures(world: World, fitted: FittedScore, bank: int) -> Figures:
    """Measure a fitted score on the sealed test."""
    known = fitted.score(world.known.features)
    right = fitted.predict(world.known.features) == world.labels
    found = {name: fpr95_id(known, fitted.score(images.features)) for name, images in world.outliers.items()}
    told, unseen = ([found[name] for name in names] for names in (world.told, world.unseen))
    accuracy = float(np.mean(right))
    return Figures(found, accuracy, bank, statistics.mean(told), statistics.mean(unseen) if unseen else math.nan)


def as_json(one: Figures) -> dict[str, Any]:
    """Return figures as plain JSON values."""
    return {"told": one.told, "unseen": one.unseen, **one.fpr95, "id_accuracy": one.id_accuracy, "bank": one.bank}


def print_world(found: dict[str, Any]) -> None:
    """Print what one world came to."""
    seed, best = found["seed"], best_baseline(found)
    print(f"\nworld {seed}: {found['budget']} proposals, loop {found['loop_seconds']:.0f} s; FPR95 in %, sealed")
    told = "  ".join(f"{name} {100 * one['told']:.1f}" for name, one in found["baselines"].items())
    print(f"  baselines (told): {told}")
    for method in found["loop"]:
        print(f"  {method}: {' + '.join(found['told'])} | {', '.join(found['sets'])} | accuracy | bank")
        for number, one in enumerate(found["loop"][method]):
            decided = found["generations"][number]
            print(f"    generation {number}  {line(found, one)}  {'kept' if decided['accepted'] else 'not kept'}")
        for arm in ARMS:
            print(
                f"    {arm:12}  {line(found, mean_of(found[arm][method]))}  (mean of {len(found[arm][method])} draws)"
            )
        last = found["loop"][method][-1]["told"]
        falls = count_falls([one["told"] for one in found["loop"][method]])
        print(
            f"    falls in {falls} of {len(found['generations']) - 1}; {last / (best[1] or math.nan):.2f} x {best[0]}"
        )


def print_worlds(found: Sequence[dict[str, Any]]) -> None:
    """Print the comparison over the worlds, with intervals."""
    print(f"\nover {len(found)} worlds: mean [95 % interval, t over the worlds], points of FPR95")
    for method in found[0]["loop"]:
        last = [one["loop"][method][-1] for one in found]
        first = [one["loop"][method][0] for one in found]
        print(f"  {method}")
        sets, unseen = " + ".join(found[0]["told"]), found[0]["unseen"]
        print(f"    loop, {sets}  {interval([100 * one['told'] for one in last])}")
        ratios = [one["loop"][method][-1]["told"] / (best_baseline(one)[1] or math.nan) for one in found]
        print(
            f"    ... of the best baseline         {interval(ratios, digits=2)}   each {[round(r, 2) for r in ratios]}"
        )
        for arm in ARMS:
            for key, what in (
                ("told", sets),
                *([("unseen", "unseen, all")] if unseen else ()),
                *zip(unseen, unseen, strict=True),
            ):
                gaps = [100 * (a[key] - mean_of(one[arm][method])[key]) for a, one in zip(last, found, strict=True)]
                print(f"    loop minus {arm:8} {what:17}  {interval(gaps)}")
        for name in ("unseen", *unseen) if unseen else ():
            gaps = [100 * (b[name] - a[name]) for a, b in zip(first, last, strict=True)]
            print(f"    loop minus no antibodies, {name:17} {interval(gaps)}")
        if unseen:
            gaps = [100 * (one["unseen"] - best_unseen(run)) for one, run in zip(last, found, strict=True)]
            print(f"    loop minus the baseline that is best on unseen  {interval(gaps)}")
        gaps = [100 * (b["id_accuracy"] - a["id_accuracy"]) for a, b in zip(first, last, strict=True)]
        print(f"    ID accuracy, change              {interval(gaps)}")
        falls = [count_falls([step["told"] for step in one["loop"][method]]) for one in found]
        print(f"    generations with a fall          {falls}")


def best_baseline(found: dict[str, Any]) -> tuple[str, float]:
    """Return the best baseline and its figure."""
    name = min(found["baselines"], key=lambda one: found["baselines"][one]["told"])
    return name, found["baselines"][name]["told"]


def best_unseen(found: dict[str, Any]) -> float:
    """Return the figure on unseen outliers of the baseline that is best on them."""
    return min(float(one["unseen"]) for one in found["baselines"].values())


def count_falls(values: Sequence[float]) -> int:
    """How often a value is below the one before."""
    return sum(after < before for before, after in itertools.pairwise(values))


def mean_of(drawn: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The mean of each figure over the draws of an arm."""
    return {key: statistics.mean(one[key] for one in drawn) for key in drawn[0]}


def line(found: dict[str, Any], one: dict[str, Any]) -> str:
    """One bank in one line."""
    sets = " ".join(f"{100 * one[name]:5.1f}" for name in found["sets"])
    return f"{100 * one['told']:5.1f} | {sets} | {100 * one['id_accuracy']:.1f} | {one['bank']:4.0f}"


def interval(values: Sequence[float], *, digits: int = 1) -> str:
    """The mean of a figure over the worlds, with its 95 % interval by Student's t."""
    if any(map(math.isnan, values)):
        return "undefined"
    mean = statistics.mean(values)
    half = float(stats.t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / len(values) ** 0.5
    return f"{mean:.{digits}f} [{mean - half:.{digits}f}, {mean + half:.{digits}f}]"


if __name__ == "__main__":
    main()
