"""A program with a Ray cluster of three machines and an embedder on it, for the tests of faults to command.

A process of its own, because the tests' process is connected to the shared cluster. It answers each line of JSON on
standard input with one on standard output: `{"do": "embed", ...}` and `{"do": "scrape"}`, see `Driver`.

    python -m tests.cluster.actors.fault_driver MODEL STORE
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["RAY_TMPDIR"] = TEMPORARY = tempfile.mkdtemp(prefix="if-", dir="/tmp")  # short: sockets lie in there

import numpy as np
import psutil
import ray
from ray.cluster_utils import Cluster

from cluster import RayEmbedder
from immuno_core.config.run import ClusterConfig, EncoderConfig
from immuno_core.progress import SilentProgress
from tests.cluster.tiny_models import image_set

SHARD = 4
OBJECTS = 80 * 2**20


class Interrupter(SilentProgress):
    """Does something once so many images are done."""

    def __init__(self) -> None:
        self.after, self.act, self.done = 0, lambda: None, 0

    def start(self, total: int, description: str) -> None:
        self.done = 0

    def advance(self, count: int) -> None:
        before, self.done = self.done, self.done + count
        if before < self.after <= self.done:
            self.act()


class Driver:
    """The cluster: a head that takes no actors, and two machines with room for four small ones each."""

    def __init__(self, model: str, store: Path) -> None:
        fast = {"metrics_report_interval_ms": 500, "health_check_period_ms": 500}
        head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": OBJECTS, "_system_config": fast}
        self.cluster = Cluster(initialize_head=True, head_node_args=head)
        self.nodes = [self.add_node(), self.add_node()]
        self.progress = Interrupter()
        self.embedder = RayEmbedder(
            EncoderConfig(model=model, batch_size=SHARD),
            ClusterConfig(actors=2, num_cpus=0.5, shard_size=SHARD, store=store),
            ray_address=self.cluster.address,
            progress=self.progress,
        )

    def add_node(self) -> Any:
        return self.cluster.add_node(num_cpus=2, object_store_memory=OBJECTS)

    def embed(self, images: str, out: str, after: int = 0, fault: str = "") -> dict[str, Any]:
        """Embed a folder; after so many images kill an actor, or its machine. Save the features as `out`."""
        faults: dict[str, Callable[[], None]] = {"": lambda: None, "actor": self._kill_actor, "node": self._kill_node}
        self.progress.after, self.progress.act, self.progress.done = after, faults[fault], 0
        before = self.embedder.journal.summary()
        features = self.embedder.embed_images(image_set(Path(images)))
        now = self.embedder.journal.summary()
        np.save(out, features.features)
        return {
            "ids": features.ids,
            "skipped": {Path(one.path).name: one.reason for one in features.skipped},
            "tried": self.progress.done,
            "embedded": now.embedded - before.embedded,
            "shards": now.shards - before.shards,
            "retries": now.retries - before.retries,
            "nodes_lost": now.nodes_lost - before.nodes_lost,
            "deaths": [one._asdict() for one in now.deaths[len(before.deaths) :]],
        }

    def scrape(self) -> dict[str, float]:
        """Read our metrics as Prometheus does, from every machine that is alive."""
        found: dict[str, float] = {}
        for node in ray.nodes():
            if node["Alive"]:
                url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
                with urllib.request.urlopen(url, timeout=30) as answer:
                    lines = answer.read().decode().splitlines()
                ours = (line.rsplit(" ", 1) for line in lines if line.startswith("ray_immuno_"))
                found |= {name.split("{")[0]: float(value) for name, value in ours}
        return found

    def _kill_actor(self) -> None:
        os.kill(self.embedder.started().places[0].pid, signal.SIGKILL)

    def _kill_node(self) -> None:
        """Kill the machine of one actor, with everything on it."""
        raylet = psutil.Process(self.embedder.started().places[0].pid).parent()
        assert raylet is not None
        (node,) = (node for node in self.nodes if node.all_processes["raylet"][0].process.pid == raylet.pid)
        workers = raylet.children(recursive=True)
        self.nodes.remove(node)
        self.cluster.remove_node(node, allow_graceful=False)
        for worker in workers:  # they would go on for a moment, which those of a dead machine do not
            with contextlib.suppress(psutil.NoSuchProcess):
                worker.kill()
        alive = len(self.nodes) + 1
        while sum(one["Alive"] for one in ray.nodes()) > alive:
            time.sleep(0.1)

    def close(self) -> None:
        self.embedder.close()
        if ray.is_initialized():
            ray.shutdown()
        self.cluster.shutdown()
        shutil.rmtree(TEMPORARY, ignore_errors=True)


def main() -> None:
    driver = Driver(sys.argv[1], Path(sys.argv[2]))
    print(json.dumps({"address": driver.cluster.address}), flush=True)
    try:
        for line in sys.stdin:
            command = json.loads(line)
            print(json.dumps(getattr(driver, command.pop("do"))(**command)), flush=True)
    finally:
        driver.close()


if __name__ == "__main__":
    main()
