"""What Prometheus may ask of the service."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector, generate_latest

from evaluation.shield.artefact import Manifest
from evaluation.shield.verdicts import OUTCOMES

_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_IMAGES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """The numbers of one service, in a registry of its own."""

    def __init__(self, *, waiting: Callable[[], float], ready: Callable[[], float]) -> None:
        """`waiting` are images in the queue, `ready` is 1 or 0: asked when somebody looks."""
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.images = Counter("immuno_images", "Images by what was said of them.", ["outcome"], registry=registry)
        for outcome in OUTCOMES:
            self.images.labels(outcome)
        self.requests = Counter(
            "immuno_requests", "Requests by path and status.", ["path", "status"], registry=registry
        )
        self.request_seconds = Histogram(
            "immuno_request_seconds",
            "From the head of a request to judge to its verdicts.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.batch_seconds = Histogram(
            "immuno_batch_seconds", "What a batch takes to be judged.", buckets=_SECONDS, registry=registry
        )
        self.batch_images = Histogram("immuno_batch_images", "Images in a batch.", buckets=_IMAGES, registry=registry)
        self.reloads = Counter("immuno_reloads", "Reloads by result.", ["result"], registry=registry)
        for result in ("done", "refused"):
            self.reloads.labels(result)
        self._shield = Info("immuno_shield", "The shield that judges.", registry=registry)
        Gauge("immuno_queue_images", "Images that wait.", registry=registry).set_function(waiting)
        Gauge("immuno_ready", "1 where images are judged.", registry=registry).set_function(ready)

    def batch(self, images: int, seconds: float) -> None:
        """Count a batch."""
        self.batch_images.observe(images)
        self.batch_seconds.observe(seconds)

    def judging(self, manifest: Manifest) -> None:
        """Say which shield judges."""
        self._shield.info(
            {"digest": manifest.digest, "method": manifest.method, "created": manifest.provenance.created}
        )

    def text(self) -> bytes:
        """Return all in Prometheus' text format."""
        return generate_latest(self.registry)
