"""Sessions that come from other sessions: a branch from a generation, and a bank made anew by another chat model."""

from __future__ import annotations

from pathlib import Path

from agents.branching import draft_branch
from agents.review import Review
from agents.schemas import LONGEST_GUIDELINE
from agents.session import check_settings
from agents.text import clean_text, without_markup
from db.generations import chosen_generation
from db.records import GenerationRecord
from immuno.errors import SetupError
from immuno.provenance import config_as_dict, git_sha, versions
from immuno.workflow import RefineOutcome, Workplace, refine, with_server_address


def branch(
    place: Workplace,
    *,
    source: str,
    generation: int | None,
    session: str,
    guideline: str | None = None,
    review: Review | None = None,
) -> RefineOutcome:
    """Start a session from a generation (default: the best) of session `source`, and run it; see agents.branching.

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
    try:
        text = without_markup(clean_text(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise SetupError(f"the guideline {path} cannot be read: {why}") from None
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
    if parent.encoder.digest != place.embedder.encoder.digest:
        raise SetupError(
            f"session '{parent.name}' was measured with another encoder ({parent.encoder.model}): its weights or its "
            "preprocessing are not those that its configuration names now; start a new session instead"
        )
    check_settings(with_server_address(place.config, "http://127.0.0.1/v1"), seed=place.config.seed)
    record = place.store.create_session(
        session,
        config=config_as_dict(place.config),
        seed=parent.seed,
        git_sha=git_sha(),
        versions=versions(),
        encoder=place.embedder.encoder,
        llm=place.config.refine.llm,
        parent_generation_id=origin.id,
    )
    place.store.save_generation(draft_branch(place.store, origin, session_id=record.id, guideline=guideline))
    return refine(place, session=session, resume=True, review=review)
