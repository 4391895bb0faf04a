"""The arms of an experiment: the configured bank, no antibodies, and controls that share all but one thing with it.

A method is fitted on a space; an arm is that space with other antibodies. What each arm is there to ask:

    bank           the configured bank
    none           no antibodies: is the bank better than nothing?
    noise          as many vectors, uniform on the unit sphere: does it matter that they are texts?
    random_words   as many nouns drawn from a word list, all look-alikes: does it matter which texts? Names of known
                   classes and of kinds of them are left out, as in a bank; where nouns run out, adjectives are put
                   before them
    random_places  as many times the guarded class in a place drawn from a list, all contextual: does it matter which
                   places? Where places run out, adjectives are put before the class
    random_texts   kind for kind: a noun in place of each look-alike, the guarded class in a drawn place in place of
                   each contextual antibody
    shuffled       the bank, but each antibody guards another class: the known classes change places in one ring, so
                   that none keeps its own. Differs from the bank only for scores that look at the class an antibody
                   guards
    pixels         kind for kind: images made of known ones (evaluation.benchmark.pixels): does it matter that outliers
                   are told, which costs a text, instead of drawn? Needs the fit images themselves
    neglabel       nouns and adjectives mined from the word list (evaluation.antibodies.mining): is the bank better than
                   what needs neither images nor a language model?
    csp            mined nouns, and mined adjectives with a superclass, drawn for each of them ("striped creature")
    words          the whole word list, for scores that choose from it themselves
    neutral        CMA's prompts, which name nothing

Every antibody of a control is of the kind that its text is, since a score may give the kinds radii that differ widely:
contextual is what says the class that it guards in some place, and all else is a look-alike. A control guards what the
antibody in whose place it stands guards (a class drawn for it, where random_places needs one); mined ones guard no
class in particular. Ids begin with the arm ("noise:0"). Texts are the words without a template.

Templates. Random texts are embedded with the antibody template: the comparison is fair only if that says
a word as the texts of the bank are said. In the arms neglabel and csp, a score with templates of its own
(`Score.templates`) has class texts and nouns said with those, and adjectives as the paper of the arm says them; any
other score keeps its class texts, and mined words are said as class names are. So are those of the arm words, with the
adjectives as NegLabel says them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from evaluation.antibodies.mining import (
    CSP_ADJECTIVE_TEMPLATES,
    MINED_SHARE,
    NEGLABEL_ADJECTIVE_TEMPLATE,
    SUPERCLASSES,
    WordList,
    ensemble,
    mine,
)
from evaluation.antibodies.wording import ClassNames, words
from evaluation.benchmark.pixels import drawn_bank
from evaluation.scores.base import Score
from evaluation.space import Bank, Space
from immuno_core.config.methods import Arm
from immuno_core.errors import SetupError
from immuno_core.features import Embedder, FloatArray, TextEmbedder
from immuno_core.records import Antibody, TextKind, text_digest

FEWEST_MINED = 10
"""Fewer words than that are no negative labels."""
Templates = tuple[str, ...]
_KIND: dict[Arm, TextKind] = {"random_places": "contextual"}
NEUTRAL_PROMPTS = ("a photo of a thing.", "a photo of a scene we live in.")
_ADJECTIVE_TEMPLATES: dict[Arm, Templates] = {
    "words": (NEGLABEL_ADJECTIVE_TEMPLATE,),
    "neglabel": (NEGLABEL_ADJECTIVE_TEMPLATE,),
    "csp": CSP_ADJECTIVE_TEMPLATES,
}


@dataclass(frozen=True, slots=True)
class Arms:
    """Makes the space of each arm, once. The same arguments give the same antibodies.

    `base` is the space with the configured bank; `class_template` and `antibody_template` are those with which its
    class texts and its bank were embedded; `words` is what random and mined words are taken from. With a space alone
    there are the arms bank and none.
    """

    base: Space
    embedder: Embedder | None = None
    class_template: str = "{}"
    antibody_template: str = "{}"
    words: WordList = field(default_factory=lambda: WordList((), ()))
    seed: int = 0
    _made: dict[tuple[Arm, Templates | None], Space] = field(default_factory=dict, init=False)

    def space(self, arm: Arm, score: Score) -> Space:
        """Return the space that the score is fitted on in this arm.

        Raises SetupError for an arm that cannot be made: one as large as the bank where that is empty, shuffled with
        one known class, random or mined texts from a list with too few, and any control without an embedder.
        """
        if arm == "bank":
            return self.base
        key = (arm, score.templates if arm in _ADJECTIVE_TEMPLATES else None)
        if key not in self._made:
            self._made[key] = self._make(*key)
        return self._made[key]

    def _make(self, arm: Arm, templates: Templates | None) -> Space:
        if arm == "none":
            return replace(self.base, bank=Bank.empty(self.base.dim))
        if self.embedder is None:
            raise SetupError(
                f"the arm '{arm}' needs an encoder and a word list; make evaluation.benchmark.arms.Arms with them, "
                "or ask for the arms bank and none"
            )
        if arm == "neutral":
            prompts = tuple(Antibody(text, id=f"neutral:{j}") for j, text in enumerate(NEUTRAL_PROMPTS))
            return replace(self.base, bank=Bank(prompts, self.embedder.embed_texts(NEUTRAL_PROMPTS)))
        if arm in _ADJECTIVE_TEMPLATES:
            return _mined(self, self.embedder, arm, templates)
        if not len(self.base.bank):
            raise SetupError(f"the arm '{arm}' is as large as the bank, which is empty; configure [antibodies]")
        if arm == "pixels":
            return replace(self.base, bank=drawn_bank(self.base, self.embedder, seed=self.seed))
        return replace(self.base, bank=_instead(self, self.embedder, arm))


def _instead(arms: Arms, embedder: TextEmbedder, arm: Arm) -> Bank:
    """A control that replaces the antibodies of the bank one by one."""
    base, bank, rng = arms.base, arms.base.bank.worded, _generator(arms.seed, arm)
    texts, guards, vectors = bank.texts, bank.guards, bank.vectors
    kinds = bank.text_kinds if arm == "random_texts" else (_KIND.get(arm, "look_alike"),) * len(bank)
    if arm == "noise":
        texts, vectors = ("noise",) * len(bank), _uniform(rng, len(bank), base.dim)
    elif arm == "shuffled":
        other = _elsewhere(rng, base.classes)
        guards = tuple(other.get(name, name) for name in guards)
    else:
        texts, guards = _random_texts(rng, arms, kinds, arm)
        vectors = ensemble(embedder, (arms.antibody_template,), texts)
    # A text or vector of another is not matured, whatever it stands for.
    records = bank.antibodies if arm == "shuffled" else (Antibody(""),) * len(bank)
    controls = zip(records, texts, kinds, guards, strict=True)
    return Bank(
        tuple(
            replace(record, id=f"{arm}:{j}", text=text, kind=kind, guards=name)
            for j, (record, text, kind, name) in enumerate(controls)
        ),
        vectors,
    )


def _uniform(rng: np.random.Generator, count: int, dim: int) -> FloatArray:
    """(count, dim) unit rows, uniform on the sphere: directions of normal vectors."""
    rows = rng.standard_normal((count, dim))
    unit: FloatArray = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return unit


def _random_texts(
    rng: np.random.Generator, arms: Arms, kinds: Sequence[TextKind], arm: Arm
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """In place of each antibody a text of this kind, all different, and what it guards."""
    listed, classes = arms.words, arms.base.classes
    names = ClassNames(classes, {})
    drawn = rng.integers(0, len(classes), len(kinds))
    guards = tuple(
        name if kind == "look_alike" or name in classes else classes[k]
        for kind, name, k in zip(kinds, arms.base.bank.guards, drawn, strict=True)
    )
    wanted = Counter(name for kind, name in zip(kinds, guards, strict=True) if kind == "contextual")

    def texts(count: int, phrases: Sequence[str], what: str) -> Iterator[str]:
        missing = f"the arm '{arm}' needs {count} {what}, as many as the bank has antibodies"
        return iter(_drawn(rng, phrases, listed.adjectives, count, missing=missing))

    nouns = [noun for noun in _no_classes(listed.nouns, classes) if names.kind_of(words(noun)) is None]
    things = texts(kinds.count("look_alike"), nouns, "words that name no known class")
    elsewhere = {
        name: texts(count, [f"{name} {place}" for place in dict.fromkeys(listed.places)], f"places for '{name}'")
        for name, count in wanted.items()
    }
    told = (next(things if kind == "look_alike" else elsewhere[name]) for kind, name in zip(kinds, guards, strict=True))
    return tuple(told), guards


def _drawn(
    rng: np.random.Generator, phrases: Sequence[str], adjectives: Sequence[str], count: int, *, missing: str
) -> list[str]:
    """So many different texts: phrases in random order, then adjectives with phrases."""
    adjectives = tuple(dict.fromkeys(adjectives))
    if (available := len(phrases) * (1 + len(adjectives))) < count:
        raise SetupError(f"{missing}; the word list gives {available}; take a longer list")
    found = [phrases[i] for i in rng.permutation(len(phrases))[:count]]
    for pair in rng.choice(max(1, len(phrases) * len(adjectives)), size=count - len(found), replace=False):
        adjective, phrase = divmod(int(pair), len(phrases))
        found.append(f"{adjectives[adjective]} {phrases[phrase]}")
    return found


def _elsewhere(rng: np.random.Generator, classes: Sequence[str]) -> dict[str, str]:
    """Each class with the next one in a ring of all classes in random order."""
    if len(classes) < 2:
        raise SetupError("the arm 'shuffled' needs at least two known classes to change places; leave it out")
    ring = [classes[k] for k in rng.permutation(len(classes))]
    return dict(zip(ring, [*ring[1:], ring[0]], strict=True))


def _mined(arms: Arms, embedder: TextEmbedder, arm: Arm, own_templates: Templates | None) -> Space:
    """The space with what is mined from the word list, nouns and adjectives apart."""
    base = arms.base
    nouns, adjectives = (_no_classes(listed, base.classes) for listed in (arms.words.nouns, arms.words.adjectives))
    if not nouns and not adjectives:
        raise SetupError(f"the arm '{arm}' mines a word list, and this one has no word but names of known classes")
    if arm == "csp":
        drawn = _generator(arms.seed, arm).integers(0, len(SUPERCLASSES), len(adjectives))
        adjectives = [f"{word} {SUPERCLASSES[i]}" for word, i in zip(adjectives, drawn, strict=True)]
    class_texts = base.texts
    noun_templates: Templates = (arms.class_template,)
    adjective_templates: Templates = (arms.class_template,)
    if own_templates is not None:
        class_texts = ensemble(embedder, own_templates, base.classes, whole="class names")
        noun_templates, adjective_templates = own_templates, _ADJECTIVE_TEMPLATES[arm]
    keep = 1.0 if arm == "words" else MINED_SHARE
    parts = [
        _farthest(embedder, noun_templates, nouns, class_texts, keep),
        _farthest(embedder, adjective_templates, adjectives, class_texts, keep),
    ]
    texts = [text for part, _ in parts for text in part]
    if arm != "words" and len(texts) < FEWEST_MINED:
        raise SetupError(
            f"the arm '{arm}' mines the farthest 15 % of a word list, and of {len(nouns) + len(adjectives)} words that "
            f"is {len(texts)}; its authors mine about 10,000: name a longer list in antibodies.words"
        )
    antibodies = tuple(Antibody(text, id=f"{arm}:{j}") for j, text in enumerate(texts))
    return replace(base, texts=class_texts, bank=Bank(antibodies, np.concatenate([part for _, part in parts])))


def _no_classes(listed: Sequence[str], classes: Sequence[str]) -> list[str]:
    """Words, each once and in order, without those that name a known class."""
    names = ClassNames(classes, {})
    return [word for word in dict.fromkeys(listed) if (said := words(word)) and names.named_only(said) is None]


def _farthest(
    embedder: TextEmbedder, templates: Templates, candidates: Sequence[str], class_texts: FloatArray, keep: float
) -> tuple[list[str], FloatArray]:
    """The share of the candidates that mining keeps, the farthest first, and their embeddings."""
    if not candidates:
        return [], np.zeros((0, class_texts.shape[1]), np.float32)
    vectors = ensemble(embedder, templates, candidates)
    rows = mine(vectors, class_texts, keep=keep)
    return [candidates[i] for i in rows], vectors[rows]


def _generator(seed: int, arm: Arm) -> np.random.Generator:
    """A stream of random numbers for each arm, whatever other arms are made."""
    return np.random.default_rng([seed, int(text_digest(arm)[:8], 16)])
