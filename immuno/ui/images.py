"""Small pictures of the images that a session looked at: by set and sample, through the session's configuration.

Those of fit and feedback alone: the sealed test is never listed, and no path comes from outside.
"""

from __future__ import annotations

import io
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Final, NamedTuple

from db import AntibodyStore, SessionRecord
from db.questions.listing import session_by_id
from immuno.meaning import config_of
from immuno_core.errors import SetupError
from immuno_core.images import feature_row, open_on_white
from immuno_core.images.places import containing_files
from immuno_core.records import ID_SET

if TYPE_CHECKING:
    from immuno.workplace import Sets

_MOST_SESSIONS: Final = 8
_SIDE: Final = 160
_TINY: Final = 64
_Places = Mapping[tuple[str, str], str]


class Picture(NamedTuple):
    """An image file: its bytes, and of what type."""

    content: bytes
    media_type: str


class Pictures:
    """Pictures for all sessions of a store. What a session's sets hold is listed once, when it is first asked for."""

    def __init__(self, store: AntibodyStore) -> None:
        self._store = store
        self._lock = Lock()
        self._known: OrderedDict[str, _Places | str] = OrderedDict()

    def get(self, session_id: str, set_name: str, sample: str) -> Picture:
        """Return the picture, or one that says why there is none. Raises SetupError for an unknown session."""
        places = self._places(session_id)
        if isinstance(places, str):
            return _words(places)
        path = places.get((set_name, sample))
        if path is None:
            return _words("file has gone")
        if feature_row(path) is not None:
            return _words("embedding, no image")
        if not all(Path(one).is_file() for one in containing_files(path)):
            return _words("file has gone")
        image = open_on_white(path, _SIDE)
        if image is None:
            return _words("cannot be read")
        stream = io.BytesIO()
        if max(image.size) <= _TINY:
            image.save(stream, "PNG", optimize=True)
            return Picture(stream.getvalue(), "image/png")
        image.save(stream, "JPEG", quality=82)
        return Picture(stream.getvalue(), "image/jpeg")

    def _places(self, session_id: str) -> _Places | str:
        """Where the images of a session are, or in few words why nobody knows."""
        with self._lock:
            if session_id not in self._known:
                self._known[session_id] = _found(session_by_id(self._store, session_id))
                while len(self._known) > _MOST_SESSIONS:
                    self._known.popitem(last=False)
            self._known.move_to_end(session_id)
            return self._known[session_id]


def _found(session: SessionRecord) -> _Places | str:
    from immuno.workplace import Sets, is_drawn

    try:
        config = config_of(session)
        if not is_drawn(config):
            return "not drawn here"
        return dict(_listed(Sets(config)))
    except (SetupError, OSError):
        return "folder has gone"


def _listed(sets: Sets) -> Iterator[tuple[tuple[str, str], str]]:
    known = [images for images in (sets.fit, sets.known) if images is not None]  # a set of its own comes last, and wins
    for name, images in (*((ID_SET, one) for one in known), *((one.name, one) for one in sets.outliers)):
        for sample in images.samples:
            yield (name, sample.id), sample.path


def _words(why: str) -> Picture:
    drawn = (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 96 96"><rect width="96" height="96" fill="#e2e0db"/>'
        '<text x="48" y="52" text-anchor="middle" font-family="sans-serif" font-size="11" fill="#3c444d">'
        f"{escape(why)}</text></svg>"
    )
    return Picture(drawn.encode(), "image/svg+xml")
