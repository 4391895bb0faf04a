"""A class more, without starting over: antibodies that name it, or would reject its images, fall silent.

The score is fitted anew with the settings of the shield on its known images and those of the new class: prototypes,
radii, spread and thresholds are what an export with the class would have given. Which antibodies that silenced is found
by judging the new images before and after.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np

from evaluation.antibodies.claims import somewhere
from evaluation.antibodies.maturation import unmatured_text
from evaluation.antibodies.wording import ClassNames, words
from evaluation.shield.artefact import Artefact, Known, ShieldAntibody
from evaluation.shield.calibration import judge_known
from evaluation.shield.head import Head
from evaluation.shield.thresholds import KnownScores, Thresholds
from evaluation.space import PARTS, Space
from immuno_core.errors import SetupError
from immuno_core.features import FeatureSet, FloatArray, IntArray
from immuno_core.records import VISUAL, Antibody
from immuno_core.text import composed


@dataclass(frozen=True, eq=False)
class Grown:
    """A shield with a class more, and what became of its antibodies."""

    shield: Artefact
    named: tuple[Antibody, ...]
    """Left out: their texts name the class."""
    silenced: tuple[Antibody, ...]
    """Fired on images of the class before, and do on fewer of them now."""
    accepted_before: float | None
    """The share of the new images that was accepted before, as another class; None without any."""
    accepted: float | None
    """And that is accepted now, each judged by a fit without it."""


def add_class(shield: Artefact, name: str, text: FloatArray, images: FloatArray, *, change: str) -> Grown:
    """Return the shield with a known class more; `text` (d,) and `images` (n, d), n >= 0, are unit embeddings.

    Without images the class is known by its text alone. With known images of their own for the thresholds, half of the
    new images join these. Raises SetupError for a class that is known already, and as `Artefact.space` does.
    """
    name = composed(name).strip()
    manifest = shield.manifest
    if not name:
        raise SetupError("the name of the new class is empty; give a noun, such as 'fox'")
    if name in manifest.classes:
        raise SetupError(f"'{name}' is a known class of this shield already; give another name")
    space = shield.space()
    named = tuple(one for one in space.bank.antibodies if one.kind != VISUAL and _names(unmatured_text(one.text), name))
    bank = space.bank.without({one.id for one in named})
    label = len(space.classes)
    grown = replace(
        space,
        classes=(*space.classes, name),
        texts=np.concatenate([space.texts, text[None].astype(np.float32)]),
        bank=bank,
    )
    judging = np.zeros(0, dtype=np.int64)
    if len(images):
        grown, judging = _with_images(grown, images, label, name)
    fitted = shield.fit(grown)
    judged = judge_known(grown, fitted)
    thresholds = Thresholds.of(
        judged,
        grown.classes,
        accept=manifest.thresholds.accept,
        review=manifest.thresholds.review,
        per_class=bool(manifest.thresholds.classes or manifest.thresholds.too_few),
    )
    provenance = manifest.provenance.model_copy(update={"changes": (*manifest.provenance.changes, change)})
    head = Head.of(fitted)
    after = Artefact(
        manifest.model_copy(
            update={
                "classes": grown.classes,
                "antibodies": tuple(ShieldAntibody.of(one) for one in bank.antibodies),
                "head": head.settings,
                "thresholds": thresholds,
                "calibrated_on": len(judged.score),
                "provenance": provenance,
            }
        ),
        head,
        KnownScores.of(judged, len(bank)),
        Known.of(grown, bank),
    )
    if not len(images):
        return Grown(after, named, (), None, None)
    was = shield.head.judge(images)
    silenced = _silenced(space, grown, was.antibody, head.judge(images).antibody)
    accepted_before = float(np.mean(was.score >= manifest.thresholds.overall.value))
    accepted = float(np.mean(judged.score[judging] >= thresholds.overall.value))
    return Grown(after, named, silenced, accepted_before, accepted)


def _names(text: str, name: str) -> bool:
    """Whether a text says the class, by itself, as a kind of it, or somewhere."""
    names, said = ClassNames([name], {}), words(text)
    return any(found is not None for found in (names.named_only(said), names.kind_of(said), somewhere(said, names)))


def _with_images(space: Space, images: FloatArray, label: int, name: str) -> tuple[Space, IntArray]:
    """The space with images of the new class, and their rows among the known images that set the thresholds."""
    feedback, fit, labels = space.feedback, space.fit, space.fit_labels
    if feedback is None:
        raise SetupError("this shield has no known images to calibrate on; export it again")
    if feedback.parts is None:
        # Every other one fits, and the rest are as new: with one image, that is for the thresholds.
        judged, fitting = images[::2], images[1::2]
        known = _joined(feedback.known, judged, name)
        feedback = replace(feedback, known=known, labels=np.append(feedback.labels, [label] * len(judged)))
        rows = np.arange(len(known) - len(judged), len(known))
    else:
        judged = fitting = images
        parts = np.append(feedback.parts, np.arange(len(images)) % PARTS)
        known = _joined(feedback.known, images, name)
        feedback = replace(feedback, known=known, labels=np.append(feedback.labels, [label] * len(images)), parts=parts)
        rows = np.arange(len(known) - len(images), len(known))
    if fit is not None and labels is not None and len(fitting):
        fit, labels = _joined(fit, fitting, name), np.append(labels, [label] * len(fitting))
    return replace(space, fit=fit, fit_labels=labels, feedback=feedback), rows


def _joined(images: FeatureSet, more: FloatArray, name: str) -> FeatureSet:
    ids = tuple(str(row) for row in range(len(images) + len(more)))
    features = np.concatenate([images.features, more.astype(np.float32)])
    return FeatureSet(images.name, images.split, features, ids, (*images.label_names, *[name] * len(more)), ids)


def _silenced(space: Space, grown: Space, before: IntArray, after: IntArray) -> tuple[Antibody, ...]:
    """Antibodies that take most from fewer of the new images (n,) than before."""
    was, now = (
        Counter(bank.ids[row] for row in rows if row >= 0) for bank, rows in ((space.bank, before), (grown.bank, after))
    )
    return tuple(one for one in grown.bank.antibodies if was[one.id] > now[one.id])
