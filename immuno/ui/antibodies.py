"""Pages of antibodies and of images: which there are, and the life of one."""

from __future__ import annotations

from dataclasses import asdict, fields
from itertools import groupby
from typing import Any, Final, cast, get_args

from starlette.requests import Request
from starlette.responses import Response

from db import chosen_generation
from db.questions.judging import judgements, rejections_of
from db.questions.lineage import Relative, lineage
from db.questions.listing import (
    ListedAntibody,
    Sort,
    Wanted,
    antibody_count,
    antibody_page,
    classes_guarded,
    life,
    session_by_id,
)
from db.questions.nearest import nearest
from immuno.ui.rendering import page
from immuno.ui.site import Site, asked, asked_number, exported
from immuno_core.errors import SetupError
from immuno_core.records import ID_SET, AntibodyKind, AntibodyStatus

_ON_A_PAGE: Final = 50
_EXPORTED: Final = 100_000
_IMAGES: Final = 60
_RELATIVES: Final = 200
_SHOWN: Final = 24


def listed(site: Site, request: Request) -> Response:
    """Antibodies, filtered and sorted, page by page."""
    kinds, states = get_args(AntibodyKind), get_args(AntibodyStatus)
    kind, status = _word(request, "kind", kinds), _word(request, "status", states)
    session_id = asked(request, "session")
    wanted = Wanted(
        session_id if session_id is None else session_by_id(site.store, session_id).id,
        asked(request, "class"),
        cast("AntibodyKind | None", kind),
        cast("AntibodyStatus | None", status),
        asked(request, "text"),
    )
    sort = cast("Sort", _word(request, "sort", get_args(Sort)) or "newest")
    after = asked(request, "after")
    exporting = asked(request, "as") is not None
    found = antibody_page(site.store, wanted, sort=sort, after=after, limit=_EXPORTED if exporting else _ON_A_PAGE)
    if exporting:
        columns = [field.name for field in fields(ListedAntibody)]
        export = exported(request, "antibodies", columns, [asdict(one) for one in found.rows])
        if export is not None:
            return export
    query = {"session": wanted.session_id, "class": wanted.guards, "kind": kind, "status": status, "text": wanted.text}
    return page(
        "antibodies",
        rows=found.rows,
        after=found.after,
        is_first=after is None,
        total=antibody_count(site.store, wanted),
        query=query | {"sort": sort},
        sorts=get_args(Sort),
        kinds=kinds,
        states=states,
        sessions=site.store.sessions(),
        classes=classes_guarded(site.store, wanted.session_id),
    )


def _word(request: Request, name: str, words: tuple[str, ...]) -> str | None:
    value = asked(request, name)
    if value is not None and value not in words:
        raise SetupError(f"{name} = {value[:60]!r} is none of {', '.join(words)}")
    return value


def one(site: Site, request: Request) -> Response:
    """An antibody's life: record, effects, lineage, neighbours, and the images that it spoke loudest against."""
    store = site.store
    found = life(store, request.path_params["id"])
    antibody = found.antibody
    session = store.session(antibody.session)
    family = lineage(store, antibody.id)
    in_bank = [r.number for r in family if r.what == "generation" and r.distance > 0 and r.session == session.name]
    asked_for = asked_number(request, "generation")
    best = session.best if session.best in in_bank else in_bank[-1] if in_bank else None
    number = asked_for if asked_for in in_bank else best
    rejected = () if number is None else rejections_of(store, chosen_generation(store, session, number).id, antibody.id)
    try:
        neighbours, alone = nearest(store, antibody.id, limit=10), ""
    except SetupError as error:
        neighbours, alone = (), str(error)
    return page(
        "antibody",
        one=antibody,
        session=session,
        effects=found.effects,
        family=_drawn(family),
        neighbours=neighbours,
        alone=alone,
        number=number,
        in_bank=in_bank,
        repelled=[v for v in rejected if v.set_name != ID_SET],
        cost=[v for v in rejected if v.set_name == ID_SET],
        most=_SHOWN,
    )


def _drawn(family: tuple[Relative, ...]) -> list[Relative]:
    """The relatives as they are drawn: of the banks that it was in only the first and the last."""
    banks = [r for r in family if r.what == "generation" and r.distance > 0]
    middle = {id(r) for r in banks[1:-1]}
    return [r for r in family if id(r) not in middle][:_RELATIVES]


def images(site: Site, request: Request) -> Response:
    """The feedback images of a session, as one of its generations judged them."""
    store, session_id = site.store, asked(request, "session")
    sessions = store.sessions()
    if session_id is None:
        return page("images", sessions=sessions, session=None)
    session = session_by_id(store, session_id)
    generation = chosen_generation(store, session, asked_number(request, "generation"))
    outcome = _word(request, "outcome", ("accepted", "rejected"))
    set_name, start = asked(request, "set"), asked_number(request, "from") or 0
    said = store.verdicts(generation.id)
    wanted = [
        v
        for v in said
        if (set_name is None or v.set_name == set_name) and (outcome is None or v.accepted == (outcome == "accepted"))
    ]
    return page(
        "images",
        sessions=sessions,
        session=session,
        number=generation.number,
        generations=session.generations,
        sets=list(dict.fromkeys(v.set_name for v in said)),
        query={"session": session.id, "generation": generation.number, "set": set_name, "outcome": outcome},
        rows=wanted[start : start + _IMAGES],
        total=len(wanted),
        start=start,
        step=_IMAGES,
    )


def image(site: Site, request: Request) -> Response:
    """An image's life: what every generation said of it."""
    sample, set_name = asked(request, "sample"), asked(request, "set")
    if sample is None:
        raise SetupError("no image is named; choose one among the images of a session")
    found = judgements(site.store, sample, set_name=set_name)
    ids = {session.name: session.id for session in site.store.sessions()}
    groups: list[dict[str, Any]] = [
        {"session": name, "id": ids.get(name, ""), "set": of_set, "said": list(said)}
        for (name, of_set), said in groupby(sorted(found, key=_of_session), key=_of_session)
    ]
    return page("image", sample=sample, groups=groups)


def _of_session(said: Any) -> tuple[str, str]:
    return said.session, said.set_name


def picture(site: Site, request: Request) -> Response:
    """A small picture of an image, or one that says why there is none."""
    names = [asked(request, name) or "" for name in ("session", "set", "sample")]
    found = site.pictures.get(*names)
    return Response(found.content, media_type=found.media_type, headers={"cache-control": "private, max-age=60"})
