"""What a monitoring system sees of an embedding run: Ray exports these beside its own figures (docs/faults.md).

All come from the driver, and carry Ray's own tags (job, session, node).
"""

from __future__ import annotations

from typing import Final

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
    "immuno_images_per_second": "Images embedded per second, all actors together, over the last half minute.",
}


class EmbeddingMetrics:
    """The counters and gauges, registered with Ray, to which this process must be connected."""

    def __init__(self) -> None:
        from ray.util.metrics import Counter, Gauge

        self._counters = {name: Counter(name, description=text) for name, text in COUNTERS.items()}
        self._gauges = {name: Gauge(name, description=text) for name, text in GAUGES.items()}

    def add(self, name: str, by: int = 1) -> None:
        """Count further."""
        if by > 0:  # Ray refuses to count nothing
            self._counters[name].inc(by)

    def set(self, name: str, value: float) -> None:
        """Say where something stands."""
        self._gauges[name].set(value)
