"""What a user names on the command line: an antibody by its id or text, a generation as SESSION or SESSION:NUMBER."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session as Transaction

from db import queries
from db.records import AntibodyRecord, GenerationRecord
from db.schema import models as m
from db.store import AntibodyStore, chosen_generation
from db.writing import is_id
from immuno_core.errors import SetupError

_MOST_SUGGESTED = 3


def antibodies_named(transaction: Transaction, name: str) -> tuple[AntibodyRecord, ...]:
    """Return the antibody with that id, else all with exactly that text, in the order of their creation."""
    for column in (m.Antibody.id, m.Antibody.text) if is_id(name) else (m.Antibody.text,):
        if antibodies := queries.antibodies(transaction, queries.antibody_rows().where(column == name)):
            return antibodies
    return ()


def similar_texts(transaction: Transaction, text: str) -> str:
    """Return `"; stored are ..."` with a few stored texts that contain this one, else nothing."""
    query = select(m.Antibody.text).where(m.Antibody.text.icontains(text, autoescape=True)).distinct()
    found = transaction.scalars(query.limit(_MOST_SUGGESTED)).all()
    return "; stored are " + ", ".join(repr(one) for one in found) if found else ""


def generation_named(store: AntibodyStore, name: str) -> GenerationRecord:
    """Return the generation SESSION:NUMBER, or the best one of SESSION.

    Raises SetupError for a session or a generation that there is not.
    """
    if (session := store.find_session(name)) is not None:
        return chosen_generation(store, session, None)
    session_name, colon, number = name.rpartition(":")
    if not colon:
        return chosen_generation(store, store.session(name), None)
    if not number.isdecimal():
        raise SetupError(f"'{name}' names no generation; write SESSION, or SESSION:NUMBER as in {session_name}:3")
    return chosen_generation(store, store.session(session_name), int(number))
