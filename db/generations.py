"""Which generation of a session is meant where a user may name one, or none."""

from __future__ import annotations

from db.records import GenerationRecord, SessionRecord
from db.store import AntibodyStore
from immuno.errors import SetupError


def chosen_generation(store: AntibodyStore, session: SessionRecord, number: int | None) -> GenerationRecord:
    """Return generation `number` of a session; None means its best.

    Raises SetupError for a session without generations, and for a number that it does not have.
    """
    best = store.best_generation(session.id)
    if best is None:
        raise SetupError(f"session '{session.name}' has no generation yet; run: immuno refine resume {session.name}")
    if number is None:
        return best
    generations = store.generations(session.id)
    found = next((one for one in generations if one.number == number), None)
    if found is None:
        raise SetupError(f"session '{session.name}' has no generation {number}; it has 0 to {len(generations) - 1}")
    return found
