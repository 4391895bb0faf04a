"""Refining a bank: a session run, resumed, branched from another, or made anew by another chat model."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from agents import (
    LONGEST_GUIDELINE,
    UNCOUNTED,
    OnGeneration,
    RefinementSession,
    Review,
    check_limits,
    check_settings,
    check_space,
    crosses,
    draft_branch,
    feedback_of,
    measured_anew,
)
from cluster.llm.server import serve_llm
from db import GenerationDraft, GenerationRecord, SessionRecord, chosen_generation
from evaluation.space import Space
from immuno.grounds import Grounds, changes_in_use, changes_of, grounds_of, halved, stored_grounds
from immuno.terminal.output import percentage
from immuno.workplace import Sets, Workplace
from immuno_core.config.refine import RefineConfig
from immuno_core.config.run import RunConfig, config_as_dict, parse_config
from immuno_core.errors import SetupError
from immuno_core.files import read_text
from immuno_core.text import clean_text, printable, without_markup
from immuno_core.versions import git_sha, made_with, versions


@dataclass(frozen=True, slots=True)
class RefineOutcome:
    """A session with all its generations."""

    session: SessionRecord
    generations: tuple[GenerationRecord, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        return {
            "session": self.session.name,
            "status": self.session.status,
            "seed": self.session.seed,
            "generations": [
                {
                    "number": one.number,
                    "accepted": one.accepted,
                    "reason": one.reason,
                    "proposed": one.proposed,
                    "kept": one.kept,
                    "bank": one.bank,
                    **one.metrics,
                }
                for one in self.generations
            ],
        }


def tell_generation(one: GenerationRecord) -> None:
    """Say on standard error what a generation came to, as soon as it is stored."""
    accepted = "accepted" if one.accepted else "not accepted"
    click.echo(
        f"generation {one.number}: mean FPR95 {100 * one.metrics['mean_fpr95']:.1f} %, "
        f"AUROC {percentage(one.mean_auroc)} %, "
        f"{one.kept} of {one.proposed} proposals kept, bank of {one.bank}; {accepted}: {printable(one.reason)}",
        err=True,
    )
    # Each problem names its class before it.
    for said in sorted(
        {UNCOUNTED + p.partition(UNCOUNTED)[2] for p in one.metrics.get("problems", ()) if UNCOUNTED in p}
    ):
        click.echo(f"warning: {said}", err=True)


def refine(
    place: Workplace,
    *,
    session: str,
    resume: bool | None,
    on_generation: OnGeneration = tell_generation,
    review: Review | None = None,
) -> RefineOutcome:
    """Run the refinement session of this name; see agents.session.

    `resume` False: the session must be new; True: it must exist; None: either. `review` shows proposals to a person.
    A session that is asked to stop (immuno refine stop) ends, paused, after its generation. Raises SetupError for a
    session that is not as `resume` says, for one that was started with another encoder, seed or score, and for one that
    was measured on other classes or images.
    """
    # Whatever can be wrong with a configuration is found before a new session takes its name.
    check_settings(with_server_address(place.config, "http://127.0.0.1/v1"), seed=place.config.seed)
    sets = place.sets()
    # The sealed sets are listed, which opens none: a bank that nothing could be measured on is refined for nothing.
    if not resume and (problems := sets.problems()):
        raise SetupError("\n".join(problems))
    vocabulary = place.vocabulary(sets.classes)
    known = _known_session(place, session, resume)
    if known is not None:
        _check_grounds(place, known, sets)
    try:
        check_limits(place.config.refine)
    except SetupError as error:
        if known is None:
            raise
        click.echo(f"warning: {error}", err=True)  # its configuration stands; it shall go on all the same
    # The server first: the embedding actors take what GPUs it leaves.
    with chat_server(place) as settings:
        of_half = not crosses(place.config.refine.score) if known is None else halved(known)
        space = place.space(sets=sets, halved=of_half)
        check_space(space)
        if len(feedback_of(space).outliers) == 1:
            click.echo(f"warning: {_ONE_SET}", err=True)
        if known is not None and (changes := changes_in_use(_grounds(place, known, sets, space), space)):
            raise _changed(known, changes)
        record = known or _new_session(place, session, seed=place.config.seed, grounds=grounds_of(sets, space))
        RefinementSession(
            record,
            settings,
            place.store,
            space,
            place.embedder,
            review,
            sets.synonyms,
            place.config.word_template,
            vocabulary,
        ).run(on_generation)
    outcome = RefineOutcome(place.store.session(session), place.store.generations(record.id))
    if outcome.session.status == "paused":
        click.echo(f"stopped as asked; go on with: immuno refine resume {session}", err=True)
    return outcome


_ONE_SET = (
    "there is one [[data.feedback]] set: no outliers unlike it judge what is learned from it, which may serve for no "
    "others; add sets of other kinds"
)


@contextmanager
def chat_server(place: Workplace) -> Iterator[RefineConfig]:
    """Have the server of [llm_server] up, if there is one; yields the section [refine] with its address."""
    server = place.config.llm_server
    if server is None:
        yield place.config.refine
        return
    tell = functools.partial(click.echo, err=True)
    with serve_llm(server, place.config.refine.llm, ray_address=place.ray_address, tell=tell) as base_url:
        yield with_server_address(place.config, base_url)


def with_server_address(config: RunConfig, base_url: str) -> RefineConfig:
    """Return the section [refine], with the address of the server where the configuration has one started."""
    if config.llm_server is None:
        return config.refine
    return config.refine.model_copy(update={"base_url": base_url})


def _known_session(place: Workplace, name: str, resume: bool | None) -> SessionRecord | None:
    """Return the session of that name where there may be one; None where a new one is to be made."""
    known = place.store.find_session(name)
    if known is None:
        if resume:
            place.store.session(name)  # raises the error that names the nearest session
        return None
    if resume is False:
        raise SetupError(f"session '{name}' exists; go on with: immuno refine resume {name}, or choose another name")
    # Read again, not compared as stored: a session of an older version has fewer keys.
    begun, now = parse_config(known.config, origin=f"session '{name}'", folder=Path()), place.config
    for what, same in (
        ("seed", known.seed == now.seed),
        ("encoder", place.has_encoder_of(known)),
        ("data", bool(known.grounds) or begun.data == now.data),
        ("template of the classes", begun.classes.template == now.classes.template),
        ("template of the antibodies", begun.word_template == now.word_template),
        ("score", begun.refine.score == now.refine.score),
        ("acceptance", begun.refine.acceptance == now.refine.acceptance),
    ):
        if not same:
            raise SetupError(
                f"session '{name}' was started with another {what}; take another session name, or the configuration "
                "it was started with"
            )
    return known


def _check_grounds(place: Workplace, known: SessionRecord, sets: Sets) -> None:
    """Raise SetupError where the session's classes or images are not what they were; say what else is not."""
    if (grounds := stored_grounds(known)) is not None and (changes := changes_of(grounds, sets)):
        raise _changed(known, changes)
    if not (done := place.store.generations(known.id)) or not done[-1].versions:
        return
    before, (_, now) = done[-1].versions, made_with()
    changed = [
        f"{name} {before.get(name, '-')} -> {now.get(name, '-')}" if name != "code" else "the code of immuno-vlm"
        for name in sorted(before | now)
        if before.get(name) != now.get(name)
    ]
    if changed:
        click.echo(f"changed since generation {done[-1].number}: {', '.join(changed)}", err=True)


def _grounds(place: Workplace, known: SessionRecord, sets: Sets, space: Space) -> Grounds:
    """The session's grounds; of one of an older version, which recorded none, those of now, which are recorded."""
    if (stored := stored_grounds(known)) is not None:
        return stored
    grounds = grounds_of(sets, space)
    feedback = feedback_of(space)
    shown = {(images.name, key) for images in (feedback.known, *feedback.outliers.values()) for key in images.ids}
    for first in place.store.generations(known.id)[:1]:
        if {(one.set_name, one.sample_id) for one in place.store.verdicts(first.id)} != shown:
            raise _changed(known, ("feedback images have other names than those it was measured on",))
    place.store.set_grounds(known.id, grounds.model_dump())
    click.echo(
        f"session '{known.name}' is of an older version, which did not record its images: those of now are", err=True
    )
    return grounds


def _changed(known: SessionRecord, changes: Sequence[str]) -> SetupError:
    return SetupError(
        f"session '{known.name}' was measured on other data ({'; '.join(changes)}): put that back, or go on from its "
        f"bank on what is there now: immuno refine branch {known.name} --session NEW"
    )


def branch(
    place: Workplace,
    *,
    source: str,
    generation: int | None,
    session: str,
    guideline: str | None = None,
    review: Review | None = None,
) -> RefineOutcome:
    """Start a session from a generation (default: the best) of session `source`, and run it; see agents.drafting.

    Raises SetupError for a name that is taken, and where the encoder is not the one of the source's embeddings.
    """
    origin = chosen_generation(place.store, place.store.session(source), generation)
    return _descend(place, origin, session, guideline, review)


def regenerate(place: Workplace, *, source: str, session: str, review: Review | None = None) -> RefineOutcome:
    """Start a session from the baseline of `source`, with the guideline of its best generation, and run it.

    Raises SetupError as `branch` does.
    """
    record = place.store.session(source)
    best = chosen_generation(place.store, record, None)
    return _descend(place, chosen_generation(place.store, record, 0), session, best.guideline, review)


def read_guideline(path: Path) -> str:
    """Return the guideline in a text file, on one line. Raises SetupError for one missing, empty or too long."""
    text = without_markup(clean_text(read_text(path, "guideline")))
    if not text:
        raise SetupError(f"the guideline {path} is empty")
    if len(text) > LONGEST_GUIDELINE:
        raise SetupError(f"the guideline {path} has {len(text)} characters; shorten it to {LONGEST_GUIDELINE}")
    return text


def _descend(
    place: Workplace, origin: GenerationRecord, session: str, guideline: str | None, review: Review | None
) -> RefineOutcome:
    parent = place.store.session(origin.session)
    if place.store.find_session(session) is not None:
        raise SetupError(f"session '{session}' exists; choose another name")
    if not place.has_encoder_of(parent):
        raise SetupError(
            f"session '{parent.name}' was measured with another encoder ({parent.encoder.model}): its weights or its "
            "preprocessing are not those that its configuration names now; start a new session instead"
        )
    check_settings(with_server_address(place.config, "http://127.0.0.1/v1"), seed=place.config.seed)
    check_limits(place.config.refine)
    first, grounds, sets = draft_branch(place.store, origin, guideline=guideline), stored_grounds(parent), place.sets()
    if grounds is not None and changes_of(grounds, sets):
        space = place.space(sets=sets, halved=not crosses(place.config.refine.score))
        first, grounds = measured_anew(first, space, place.config.refine), grounds_of(sets, space)
    _new_session(place, session, seed=parent.seed, parent=origin, first=first, grounds=grounds)
    return refine(place, session=session, resume=True, review=review)


def _new_session(
    place: Workplace,
    name: str,
    *,
    seed: int,
    parent: GenerationRecord | None = None,
    first: GenerationDraft | None = None,
    grounds: Grounds | None,
) -> SessionRecord:
    return place.store.create_session(
        name,
        config=config_as_dict(place.config),
        seed=seed,
        git_sha=git_sha(),
        versions=versions(),
        encoder=place.embedder.encoder,
        llm=place.config.refine.llm,
        parent_generation_id=None if parent is None else parent.id,
        first=first,
        grounds=None if grounds is None else grounds.model_dump(),
    )
