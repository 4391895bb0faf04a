"""From a session, or a configuration and its bank, to a shield."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from db import SessionRecord
from evaluation.benchmark.order import OURS
from evaluation.benchmark.presets import expand
from evaluation.scores import score_class
from evaluation.scores.calibrated import FittedCalibrated
from evaluation.scores.registry import configured_score
from evaluation.shield.artefact import Artefact, Provenance, ShieldEncoder
from evaluation.shield.thresholds import DEFAULT_ACCEPT, DEFAULT_REVIEW
from evaluation.space import Bank
from immuno.bench import bank_in_use
from immuno.workplace import Workplace
from immuno_core.config.methods import MethodConfig, MethodEntry
from immuno_core.config.run import RunConfig, parse_config
from immuno_core.errors import SetupError, did_you_mean
from immuno_core.versions import digest_of, git_sha, versions


def config_of(session: SessionRecord) -> RunConfig:
    """Return the configuration that a session was begun with. Raises SetupError where it was imported without one."""
    if not session.config.get("data"):
        raise SetupError(
            f"session '{session.name}' has no configuration of its own (its antibodies were imported); give the "
            "configuration to fit them with: immuno guard export CONFIG --session ..."
        )
    return parse_config(session.config, origin=f"session '{session.name}'", folder=Path())


def method_of(entries: Sequence[MethodEntry], name: str) -> MethodConfig:
    """Return the method of a configuration with this label, else the score of this name with its defaults.

    Raises SetupError for neither.
    """
    planned = [one.method for one in expand(entries)]
    for method in planned:
        if name in (method.label, method.name):
            return method
    labels = [one.label or one.name for one in planned]
    try:
        score_class(name)
    except SetupError:
        raise SetupError(f"no method '{name}' in the configuration{did_you_mean(name, [*labels, OURS])}") from None
    return MethodConfig(name=name)


def export(
    place: Workplace,
    *,
    method: str = OURS,
    accept: float = DEFAULT_ACCEPT,
    review: float = DEFAULT_REVIEW,
    per_class: bool = False,
    keep_known: bool = True,
    licence: str = "",
) -> Artefact:
    """Fit a method of the configuration as the benchmark does, and make a shield of it. The sealed test stays closed.

    Raises SetupError for a method that is not made of self-calibrated antibodies, and without known images.
    """
    config = place.config
    sets = place.sets()
    if problems := sets.problems():
        raise SetupError("\n".join(problems))
    used = bank_in_use(place, sets)
    space = place.spaced(used.bank, sets).space
    chosen = method_of(config.methods, method)
    score = configured_score(chosen)
    if chosen.arm not in (None, "bank", "none"):
        raise SetupError(f"the method '{method}' is a control (arm \"{chosen.arm}\"), and no shield; use {OURS}")
    if chosen.arm == "none":
        space = replace(space, bank=Bank.empty(space.dim))
    fitted = score.fit(space)
    if not isinstance(fitted, FittedCalibrated):
        raise SetupError(
            f"the method '{method}' cannot be a shield: it is not made of self-calibrated antibodies; use {OURS} or "
            "calibrated"
        )
    encoder = place.embedder.encoder
    return Artefact.make(
        space,
        fitted,
        encoder=ShieldEncoder(
            kind=config.encoder.kind,
            model=encoder.model,
            pretrained=config.encoder.pretrained,
            dim=encoder.dim,
            logit_scale=encoder.logit_scale,
            image_size=encoder.image_size,
            precision=config.encoder.precision,
            weights_digest=encoder.weights_digest,
            preprocess_digest=encoder.preprocess_digest,
            fast_decode=config.encoder.fast_decode,
        ),
        method=chosen.label or chosen.name,
        class_template=config.classes.template,
        provenance=Provenance(
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            session=used.session.name if used.session else "",
            generation=used.generation.number if used.generation else None,
            config_digest=digest_of(config.model_dump(mode="json")),
            git_sha=git_sha(),
            versions=versions(),
            licence=licence,
        ),
        accept=accept,
        review=review,
        per_class=per_class,
        keep_known=keep_known,
    )


def chosen_bank(config: RunConfig, generation: str | None) -> RunConfig:
    """Return the configuration with the generation of its session that `--generation` names; None leaves it.

    Raises SetupError for what is no number, and where no session is named.
    """
    if generation is None:
        return config
    if config.antibodies.session is None:
        raise SetupError(f"--generation {generation} goes with a session: give --session")
    if generation != "best" and not generation.isdecimal():
        raise SetupError(f"--generation {generation}: give a number, or best")
    chosen = None if generation == "best" else int(generation)
    return config.model_copy(update={"antibodies": config.antibodies.model_copy(update={"generation": chosen})})
