"""What embedding hands over: rows and failures of a shard, what they took, and what a run came to.

Free of torch and Ray, so that whoever prints it need not load them. File names and reasons come from disks and
machines: whoever shows them escapes them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, NamedTuple

from immuno_core.features import FloatArray
from immuno_core.records import FailedImage, told
from immuno_core.text import count, duration, printable


class EmbeddedImages(NamedTuple):
    """The embeddings of a list of image files: a row for each that is not a failure, in the order of the list."""

    features: FloatArray
    """(n - failures, d) float32, unit rows."""
    failures: Mapping[int, FailedImage]
    """By their places in the list, in ascending order."""
    transient: frozenset[int] = frozenset()
    """Those failures where the system refused the file (permission, network file system): another try may succeed."""
    checksum: str = ""
    """Of the file in the store; "" where they are in none."""


class EmbeddedTexts(NamedTuple):
    """The embeddings of a list of texts, and the places of those that are longer than what the encoder reads."""

    features: FloatArray
    """(n, d) float32, unit rows."""
    cut: Sequence[int]


class ShardStats(NamedTuple):
    """The work on one shard, or on several added up. Seconds are wall-clock seconds."""

    images: int = 0
    """How many were asked for, failures included."""
    failures: int = 0
    """How many of them gave no embedding."""
    seconds: float = 0.0
    """From the actor's taking the shard up to its being embedded; shards in flight at one actor overlap."""
    decode_seconds: float = 0.0
    """Reading and preprocessing, summed over the workers that share it: it may exceed `seconds`."""
    wait_seconds: float = 0.0
    """The model had nothing to do but wait for decoded images of this shard."""
    model_seconds: float = 0.0
    """The model was at work on this shard, copies to and from its device included."""
    halvings: int = 0
    """How often the batch size was halved because memory ran out."""


def total(stats: Iterable[ShardStats]) -> ShardStats:
    """Return the sum of the stats of several shards, field by field."""
    fields = zip(*stats, strict=True)
    return ShardStats(*(sum(values) for values in fields))


_WAITING: Final = 0.05
"""Where the model waited for images for more than this share of its time, decoding is what limits."""
_MOST_NAMED: Final = 5
_NO_STATS: Final = ShardStats()


class ActorDeath(NamedTuple):
    """An embedding actor that ended before its time."""

    host: str
    """"" where it died before it said where it ran."""
    pid: int
    over: str
    """What it was doing."""
    reason: str
    node_lost: bool = False
    """It went down with its machine."""

    @property
    def actor(self) -> str:
        """What the actor is called."""
        return f"{self.host}:{self.pid}"


@dataclass(frozen=True, slots=True)
class EmbeddingSummary:
    """What was embedded in one run of a command, all image sets together."""

    embedded: int = 0
    """Images that a model embedded in this run; those quarantined are not among them."""
    from_store: int = 0
    """Images whose embeddings an earlier run had left."""
    quarantined: tuple[FailedImage, ...] = ()
    """Images without an embedding, found in this run or in an earlier one, and what was left out of a set before."""
    shards: int = 0
    """Pieces of work that actors finished."""
    retries: int = 0
    """Pieces done again, after an error that passes or the death of an actor."""
    deaths: tuple[ActorDeath, ...] = ()
    nodes_lost: int = 0
    batches_halved: int = 0
    """Because memory ran out."""
    seconds: float = 0.0
    """In which images were embedded, starting the actors included."""
    stats: ShardStats = _NO_STATS
    """What the actors measured, added up."""

    @property
    def images_per_second(self) -> float | None:
        """Over the whole time, so start-up counts; None where nothing was embedded."""
        return self.embedded / self.seconds if self.embedded and self.seconds > 0 else None

    @property
    def limit(self) -> str | None:
        """Which stage the actors waited for: decoding or model; None where that was not measured."""
        busy = self.stats.wait_seconds + self.stats.model_seconds
        if busy <= 0:
            return None
        return "decoding" if self.stats.wait_seconds > _WAITING * busy else "model"

    @property
    def model_rate(self) -> float | None:
        """Images per second that one actor's model would reach if it never waited; None where not measured."""
        done = self.stats.images - self.stats.failures
        return done / self.stats.model_seconds if done and self.stats.model_seconds > 0 else None

    @property
    def is_worth_telling(self) -> bool:
        """Whether anything was embedded, is left out, or went wrong."""
        return bool(self.embedded or self.quarantined or self.deaths or self.retries)

    def as_dict(self) -> dict[str, Any]:
        """Return strict JSON values, the `embedding` of `results.json`."""
        values = asdict(self)
        del values["stats"]
        return {
            **values,
            "deaths": [one._asdict() for one in self.deaths],
            "images_per_second": self.images_per_second,
            "limit": self.limit,
            "model_images_per_second": self.model_rate,
            "stages": {
                "decode_seconds": self.stats.decode_seconds,
                "wait_seconds": self.stats.wait_seconds,
                "model_seconds": self.stats.model_seconds,
            },
        }

    def lines(self) -> list[str]:
        """Return what a person is told at the end: what was done, then a line for each thing that went wrong.

        What a terminal would obey, or cannot show, is written out: file names may hold anything.
        """
        return [printable(line) for line in (*self._work(), *self._troubles(), *self._left_out())]

    def _work(self) -> list[str]:
        if not self.embedded:
            return []
        rate = f", {self.images_per_second:,.0f}/s" if self.images_per_second else ""
        limit = f", limited by {'the model' if self.limit == 'model' else 'decoding'}" if self.limit else ""
        stored = f"; {self.from_store:,} were in the store" if self.from_store else ""
        return [f"embedded {count(self.embedded, 'image')} in {duration(self.seconds)}{rate}{limit}{stored}"]

    def _troubles(self) -> list[str]:
        found = []
        if self.deaths:
            with_node = f", with {count(self.nodes_lost, 'machine')} lost" if self.nodes_lost else ""
            found.append(
                f"{count(len(self.deaths), 'embedding actor')} died and {_were(self.deaths)} replaced{with_node}"
            )
            found += [f"  {_death(one)}" for one in self.deaths[:_MOST_NAMED]]
            found += _more(self.deaths)
        if self.retries:
            found.append(f"{count(self.retries, 'piece')} of work done again")
        if self.batches_halved:
            found.append(f"batches halved {count(self.batches_halved, 'time')}, for want of memory")
        return found

    def _left_out(self) -> list[str]:
        if not self.quarantined:
            return []
        return [f"{count(len(self.quarantined), 'image')} left out:", *(f"  {one}" for one in told(self.quarantined))]


def _were(things: Sequence[object]) -> str:
    return "was" if len(things) == 1 else "were"


def _death(one: ActorDeath) -> str:
    where = f"on {one.host} (process {one.pid})" if one.host else "while starting"
    return f"{where}, over {one.over}: {one.reason}"


def _more(things: Sequence[object]) -> list[str]:
    return [f"  and {len(things) - _MOST_NAMED:,} more"] if len(things) > _MOST_NAMED else []
