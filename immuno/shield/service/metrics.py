"""What Prometheus may ask of the service."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from evaluation.shield.artefact import Manifest
from evaluation.shield.drift import Drift
from evaluation.shield.verdicts import OUTCOMES

_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_IMAGES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """The numbers of one service, in a registry of its own."""

    def __init__(
        self,
        *,
        waiting: Callable[[], float],
        ready: Callable[[], float],
        drift: Callable[[], Drift | None],
        logged: Callable[[], float] | None,
    ) -> None:
        """What is asked when somebody looks: images in the queue, 1 or 0, the window, images in the log."""
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
        if logged is not None:
            Gauge("immuno_logged_images", "Rejected images in the log.", registry=registry).set_function(logged)
        registry.register(_Window(drift))

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


class _Window(Collector):
    """The last images beside the known ones; see evaluation.shield.drift."""

    def __init__(self, drift: Callable[[], Drift | None]) -> None:
        self._drift = drift

    def collect(self) -> Iterator[GaugeMetricFamily]:
        found = self._drift()
        if found is None:
            return
        for name, what, value in (
            ("drift", "1 where the last images are not like the known ones.", float(found.drifted)),
            ("window_images", "Of the last images, those that are looked at.", found.images),
            ("window_accepted", "Share of them that is accepted.", found.accepted),
            ("window_typicality", "Median share of known images that score lower.", found.typicality),
            ("window_psi", "Population stability index of their scores.", found.psi),
            ("window_ks_p_value", "Of the two-sample test of their scores.", found.p_value),
        ):
            if value is not None:
                yield GaugeMetricFamily(f"immuno_{name}", what, value=value)
        fired = GaugeMetricFamily(
            "immuno_window_fired", "Share that an antibody repels, more than of known ones.", labels=["antibody"]
        )
        for antibody, share, _ in found.fired:
            fired.add_metric([antibody], share)
        yield fired
