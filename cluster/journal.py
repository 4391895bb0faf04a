"""What happens while images are embedded, written down once: for the summary, for the metrics, for who is watching.

The embedder and its actor pool tell the journal; it tells the progress report and, where Ray runs, Ray's metrics
(docs/faults.md): all from the driver, with Ray's own tags (job, session, node).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from rich.progress import Task

from cluster.records import ActorDeath, EmbeddingSummary, ShardStats, total
from immuno_core.progress import ProgressReport, ProgressState, SilentProgress, unseen_bar
from immuno_core.records import FailedImage, ImageSet

COUNTERS: Final = {
    "immuno_images_embedded": "Images that a model embedded.",
    "immuno_images_quarantined": "Images left out: unreadable, or killing the process that embeds them.",
    "immuno_shards_finished": "Shards of images embedded and stored.",
    "immuno_retries": "Pieces of work done again.",
    "immuno_actor_deaths": "Embedding actors that died.",
    "immuno_nodes_lost": "Machines that went down with embedding actors on them.",
    "immuno_batches_halved": "Batch sizes halved because memory ran out.",
}
GAUGES: Final = {
    "immuno_actors": "Embedding actors whose model is loaded.",
    "immuno_images_per_second": "Images embedded per second, all actors together, over the last five minutes.",
}


_log = logging.getLogger(__name__)


class _Set(NamedTuple):
    """What is known of one image set."""

    embedded: int
    from_store: int
    left_out: tuple[FailedImage, ...]


class Journal:
    """The record of one embedder, from its making to its end. Not for several threads."""

    def __init__(self, progress: ProgressReport | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.progress = progress or SilentProgress()
        """Where it is shown how far something has come; free for other work than embedding."""
        self._clock = clock
        self._metrics: dict[str, Any] = {}
        """Ray's; none before Ray is there."""
        self._rates = unseen_bar(clock)
        self._all = self._counted("")
        self._actors: dict[str, Task] = {}
        self._began = 0.0
        self._seconds_of_last = 0.0
        self._failed_of_last = 0
        self._seconds = 0.0
        self._failed = 0
        self._sets: dict[tuple[str, str], _Set] = {}
        self._shards = 0
        self._stats = ShardStats()
        self._retries = 0
        self._deaths: list[ActorDeath] = []
        self._nodes: set[str] = set()

    @classmethod
    def around(cls, progress: ProgressReport | Journal | None) -> Journal:
        """Return the journal that this is, or a new one that tells this report."""
        return progress if isinstance(progress, Journal) else cls(progress)

    # --- told by the embedder

    def start(self, total: int, description: str) -> None:
        """Something begins, of `total` images or texts."""
        self._began, self._seconds_of_last, self._failed_of_last = self._clock(), 0.0, 0
        self._rates = unseen_bar(self._clock)
        self._all, self._actors = self._counted(""), {name: self._counted(name) for name in self._actors}
        self.progress.start(total, description)

    def advance(self, count: int, *, failed: int = 0) -> None:
        """`count` of them are done and stored, `failed` of these without an embedding."""
        self._failed_of_last += failed
        self._failed += failed
        if failed:
            self._tell()
        self.progress.advance(count)

    def stop(self) -> None:
        """It is over, finished or not."""
        self._seconds_of_last = self._clock() - self._began
        self.progress.stop()

    def finished(self, images: ImageSet, failures: Sequence[FailedImage], *, tried: int) -> None:
        """All that can be embedded of a set is stored; `tried` of its images went to a model since the last `start`.

        Asked for again, a set comes from the store: that is not counted again.
        """
        embedded = tried - self._failed_of_last if tried else 0
        self._seconds += self._seconds_of_last if tried else 0.0
        stored = len(images.samples) - len(failures) - embedded
        known = self._sets.get((images.name, images.split), _Set(0, stored, ()))
        left_out = (*images.left_out, *failures)
        self._sets[images.name, images.split] = _Set(known.embedded + embedded, known.from_store, left_out)

    # --- told by the pool

    def connected(self) -> None:
        """Ray is there: from now on its metrics are told too."""
        from ray.util.metrics import Counter, Gauge

        if not self._metrics:
            self._metrics = {name: Counter(name, description=text) for name, text in COUNTERS.items()}
            self._metrics |= {name: Gauge(name, description=text) for name, text in GAUGES.items()}

    def actor_up(self, actor: str) -> None:
        """An actor ("host:pid") has loaded its model."""
        self._actors[actor] = self._counted(actor)
        self._gauge("immuno_actors", len(self._actors))

    def closed(self) -> None:
        """All actors were sent away."""
        self._actors.clear()
        self._gauge("immuno_actors", 0)
        self._gauge("immuno_images_per_second", 0)

    def shard_done(self, actor: str, stats: ShardStats) -> None:
        """An actor that is up finished a shard of images."""
        self._shards += 1
        self._stats = total((self._stats, stats))
        for task in (self._all, self._actors[actor]):
            self._rates.advance(task.id, stats.images)
        self._count("immuno_shards_finished")
        self._count("immuno_images_embedded", stats.images - stats.failures)
        self._count("immuno_images_quarantined", stats.failures)
        self._count("immuno_batches_halved", stats.halvings)
        self._gauge("immuno_images_per_second", self._all.speed or 0.0)
        self._tell()

    def retried(self, what: str, reason: str, *, seconds: float = 0.0) -> None:
        """A piece of work is done again, after so many seconds."""
        self._retries += 1
        self._count("immuno_retries")
        if seconds:
            _log.warning("%s failed (%s); tried again in %.1f s", what, reason, seconds)
        self._tell()

    def died(self, death: ActorDeath, *, node: str = "") -> None:
        """An actor died; `node` names the machine where that is gone too."""
        self._deaths.append(death)
        self._actors.pop(death.actor, None)
        self._gauge("immuno_actors", len(self._actors))
        self._count("immuno_actor_deaths")
        if node and node not in self._nodes:
            self._nodes.add(node)
            self._count("immuno_nodes_lost")
        where = f" on {death.host} (process {death.pid})" if death.host else ""
        _log.warning("an embedding actor%s died over %s (%s); another takes its place", where, death.over, death.reason)
        self._tell()

    # --- asked

    def summary(self) -> EmbeddingSummary:
        """Return what it all came to so far."""
        sets = self._sets.values()
        return EmbeddingSummary(
            embedded=sum(one.embedded for one in sets),
            from_store=sum(one.from_store for one in sets),
            quarantined=tuple(image for one in sets for image in one.left_out),
            shards=self._shards,
            retries=self._retries,
            deaths=tuple(self._deaths),
            nodes_lost=len(self._nodes),
            batches_halved=self._stats.halvings,
            seconds=self._seconds,
            stats=self._stats,
        )

    def _tell(self) -> None:
        self.progress.tell(
            ProgressState(
                actors={name: task.speed for name, task in self._actors.items()},
                retries=self._retries,
                quarantined=self._failed,
                deaths=len(self._deaths),
            )
        )

    def _counted(self, name: str) -> Task:
        self._rates.add_task(name, total=None)
        return self._rates.tasks[-1]

    def _count(self, name: str, by: int = 1) -> None:
        if self._metrics and by > 0:  # Ray refuses to count nothing
            self._metrics[name].inc(by)

    def _gauge(self, name: str, value: float) -> None:
        if self._metrics:
            self._metrics[name].set(value)
