"""What is to be done, by whom next, and what happens to a piece of work whose actor died. Knows nothing of Ray.

A piece goes out with others, until an actor dies over it. From then on it is given to an actor that has nothing else,
so that a second death is surely its own: actors decode the next piece while they embed the first, and either may be to
blame. A piece that kills again is searched for the images that do it (`PoisonHunt`), and done without them.

A decoder that crashes takes no exception with it, so all that is known of a shard that kills its actors is that one of
its images does it. Both halves are tried, then the halves of the half that killed again, down to single images; one
that has killed twice by itself is guilty. With one such image among n that takes about log2(n) + 3 actors.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from immuno_core.errors import ImmunoError
from immuno_core.retries import Backoff

KILLED: Final = "killed the embedding process"
"""The reason that a quarantined image is stored and reported with."""
Rows = tuple[int, ...]
"""Places of images in the shard."""
_CONFIRMED: Final = 2
"""How often an image must kill by itself: once may be chance."""


class PoisonHunt:
    """The search through one shard. The caller tries each group that it is given, alone, and says what came of it."""

    def __init__(self, rows: Sequence[int]) -> None:
        """`rows` are the places under suspicion, at least one."""
        self.guilty: set[int] = set()
        self._kills: dict[int, int] = {}
        self._open: set[Rows] = set()
        self._rows = tuple(rows)

    @property
    def over(self) -> bool:
        """Whether every group has been tried."""
        return not self._open

    def begin(self) -> list[Rows]:
        """Return the first groups to try."""
        return self._halves(self._rows)

    def survived(self, rows: Rows) -> None:
        """A group was embedded: none of its images is guilty."""
        self._open.remove(rows)

    def killed(self, rows: Rows) -> list[Rows]:
        """A group killed its actor; return the groups to try next."""
        self._open.remove(rows)
        if len(rows) > 1:
            return self._halves(rows)
        (row,) = rows
        self._kills[row] = self._kills.get(row, 0) + 1
        if self._kills[row] < _CONFIRMED:
            return self._halves(rows)
        self.guilty.add(row)
        return []

    def _halves(self, rows: Rows) -> list[Rows]:
        middle = len(rows) // 2
        groups = [half for half in (rows[:middle], rows[middle:]) if half]
        self._open.update(groups)
        return groups


_SUSPECTED: Final = 2
"""So many deaths over a piece start the search for the image that kills."""
_DEATHS: Final = 3
"""How many actors may die over a piece that cannot be searched."""
_MOST_GUILTY: Final = 16
"""With more of them in one run, it is the machines that are at fault and not the images."""
_TRIES: Final = 5
"""How often a piece is tried that fails with an error that may pass."""
_BACKOFF: Final = Backoff(first=0.5, longest=15.0)


@dataclass(frozen=True, slots=True)
class Work:
    """A call of one of EmbeddingActor's methods."""

    method: str
    arguments: tuple[Any, ...]
    name: str
    """What an error calls it."""
    images: tuple[str, ...] = ()
    """The files of the shard that is its first argument, where some may be left out: the method takes `lethal`, their
    places, and `embed_paths` takes some of the files in place of the shard."""


@dataclass(slots=True, eq=False)
class Piece:
    """Work on its way to being done, or a group of its images that is tried for the one that kills."""

    work: Work
    index: int
    """Of the work."""
    rows: Rows = ()
    """The images to try; empty: this is the work itself."""
    of: Piece | None = None
    """The work that a group belongs to."""
    hunt: PoisonHunt | None = None
    lethal: frozenset[int] = frozenset()
    deaths: int = 0
    failures: int = 0

    @property
    def alone(self) -> bool:
        """Whether it must be the only thing its actor does."""
        return self.deaths > 0 or bool(self.rows)

    @property
    def name(self) -> str:
        """What it is called."""
        return f"{len(self.rows)} of {self.work.name}" if self.rows else self.work.name

    def call(self) -> tuple[str, tuple[Any, ...], dict[str, Any]]:
        """Return the actor's method, its arguments, and those by keyword."""
        if self.rows:
            return "embed_paths", ([self.work.images[row] for row in self.rows], *self.work.arguments[1:]), {}
        return self.work.method, self.work.arguments, {"lethal": self.lethal} if self.lethal else {}


@dataclass(slots=True)
class Schedule:
    """The pieces of one run that no actor has at the moment."""

    work: Sequence[Work]
    unfinished: int = 0
    _ready: deque[Piece] = field(default_factory=deque)
    _suspects: deque[Piece] = field(default_factory=deque)
    _waiting: list[tuple[float, int, Piece]] = field(default_factory=list)
    _ticket: itertools.count[int] = field(default_factory=itertools.count)
    _guilty: int = 0

    def __post_init__(self) -> None:
        self.unfinished = len(self.work)
        self._ready.extend(Piece(work, index) for index, work in enumerate(self.work))

    def take(self, in_flight: int) -> Piece | None:
        """Return what an actor that has `in_flight` pieces shall do next; None: nothing for now."""
        if self._suspects:  # until they are through, actors run empty
            return self._suspects.popleft() if in_flight == 0 else None
        return self._ready.popleft() if self._ready else None

    def wake(self, now: float) -> float | None:
        """Make ready what has waited long enough; return the seconds until the next is due, None where none waits."""
        while self._waiting and self._waiting[0][0] <= now:
            self._put_back(heapq.heappop(self._waiting)[2])
        return self._waiting[0][0] - now if self._waiting else None

    def done(self, piece: Piece) -> bool:
        """A piece came to its end; whether that is the work itself."""
        if piece.of is not None and piece.of.hunt is not None:
            piece.of.hunt.survived(piece.rows)
            self._after_hunt(piece.of, piece.of.hunt)
            return False
        self.unfinished -= 1
        return True

    def failed(self, piece: Piece, now: float) -> float | None:
        """A piece failed with what may pass: return in how many seconds it is tried again; None: not any more."""
        piece.failures += 1
        if piece.failures >= _TRIES:
            return None
        wait = _BACKOFF.seconds(piece.failures)
        heapq.heappush(self._waiting, (now + wait, next(self._ticket), piece))
        return wait

    def lost(self, pieces: Sequence[Piece]) -> None:
        """Pieces were lost through no fault of theirs: their machine is gone."""
        for piece in reversed(pieces):
            self._put_back(piece)

    def killed(self, pieces: Sequence[Piece], reason: str) -> None:
        """An actor died that had these pieces. Raises ImmunoError for one over which too many did."""
        for piece in reversed(pieces):
            piece.deaths += 1
            suspects = [row for row in range(len(piece.work.images)) if row not in piece.lethal]
            if piece.of is not None and piece.of.hunt is not None:
                self._try(piece.of, piece.of.hunt.killed(piece.rows))
                self._check_guilty(piece.of, piece.of.hunt, reason)
                self._after_hunt(piece.of, piece.of.hunt)
            elif suspects and piece.deaths >= _SUSPECTED:
                piece.hunt = PoisonHunt(suspects)
                self._try(piece, piece.hunt.begin())
            elif piece.deaths >= _DEATHS:
                raise ImmunoError(
                    f"{piece.deaths} embedding actors died, one after another, over {piece.name} ({reason}); what was "
                    "finished is stored. Did the machine run out of memory?"
                )
            else:
                self._put_back(piece)

    def _put_back(self, piece: Piece) -> None:
        (self._suspects if piece.alone else self._ready).appendleft(piece)

    def _try(self, piece: Piece, groups: Sequence[Rows]) -> None:
        self._suspects.extend(Piece(piece.work, piece.index, rows=rows, of=piece) for rows in groups)

    def _check_guilty(self, piece: Piece, hunt: PoisonHunt, reason: str) -> None:
        if self._guilty + len(hunt.guilty) > _MOST_GUILTY:
            raise ImmunoError(
                f"more than {_MOST_GUILTY} images killed the process that embedded them, the last of them in "
                f"{piece.name} ({reason}): look for the fault in the machines; what was finished is stored"
            )

    def _after_hunt(self, piece: Piece, hunt: PoisonHunt) -> None:
        """Once all groups are tried, have the work done without the guilty images."""
        if not hunt.over:
            return
        if not hunt.guilty:
            raise ImmunoError(
                f"{piece.deaths} embedding actors died over {piece.name}, though none over a part of it; what was "
                "finished is stored. Did the machine run out of memory? Lower [encoder] batch_size or [cluster] "
                "shard_size"
            )
        self._guilty += len(hunt.guilty)
        piece.lethal |= hunt.guilty
        piece.hunt, piece.deaths = None, 0
        self._put_back(piece)
