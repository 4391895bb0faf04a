"""How the actor pool scales: images per second of 1 to 16 actors against the ideal, and what a shard costs the driver.

    python benchmarks/scaling.py [--shards N] [--seconds S] [--json]

The model is a fixed delay: an actor embeds one shard after another, each in S seconds, and does nothing else, so that
16 of them fit on any machine. Ideal is actors / S shards per second. Everything else is real: the pool, its schedule,
Ray's calls, the shards' arguments and receipts. Actors are up before the clock starts.

The second part sends 10,000 shards to actors without any delay: the driver's processor time per shard is what it costs
to hand one out and to take its receipt; wall time per shard is where Ray itself ends, with all of its processes on this
machine.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import cluster.actors.pool
from cluster.actors.actor import ActorPlace, ShardReceipt
from cluster.actors.pool import ActorPlan, EmbeddingPool
from cluster.actors.runtime import connect
from cluster.actors.schedule import Work
from cluster.records import ShardStats
from cluster.store.shards import Shard
from immuno_core.records import EncoderInfo

ACTORS = (1, 2, 4, 8, 16)
SHARD_SIZE = 256
TARGET = 0.95
ENCODER = EncoderInfo("delay", None, 512, 100.0, 224, "fp32", "0" * 64, "0" * 64)


def delayed_actor() -> type:
    """Return the actor class; made in here, so that Ray sends it by value."""

    class DelayedActor:
        """One model, as a GPU is one: shards wait for one another, whatever is decoded ahead."""

        def __init__(self, seconds: float) -> None:
            self.seconds = seconds
            self.model = threading.Lock()

        def prepare(self) -> ActorPlace:
            return ActorPlace("here", os.getpid())

        def embed_shard(self, shard: Shard, encoder: EncoderInfo) -> ShardReceipt:  # noqa: ARG002
            with self.model:
                time.sleep(self.seconds)
            return ShardReceipt(shard.key, None, ShardStats(len(shard.paths), 0, self.seconds))

    return DelayedActor


@dataclass(frozen=True, slots=True)
class Scaling:
    """What a number of actors reached."""

    actors: int
    shards: int
    seconds: float
    ideal_seconds: float

    @property
    def of_ideal(self) -> float:
        """The share of the ideal rate."""
        return self.ideal_seconds / self.seconds


@dataclass(frozen=True, slots=True)
class Overhead:
    """What one shard costs, in microseconds."""

    actors: int
    shards: int
    driver_us: float
    """Processor time of the driver's process."""
    wall_us: float


def shards(count: int) -> list[Work]:
    """Return the work on so many shards, with paths as long as people's are."""
    work = []
    for i in range(count):
        paths = tuple(f"/data/imagenet/train/n{i % 1000:08}/n{i % 1000:08}_{row:05}.JPEG" for row in range(SHARD_SIZE))
        shard = Shard(f"{i:064x}", paths, frozenset())
        work.append(Work("embed_shard", (shard, ENCODER), f"shard {i}", images=paths))
    return work


def pool_of(actors: int, seconds: float) -> EmbeddingPool:
    """Return a pool whose actors are up."""
    settings: Any = seconds
    pool = EmbeddingPool(ActorPlan(actors, 0.01, 0), settings)
    while len(pool.places) < actors:
        for _ in pool.run(shards(2 * actors)):
            pass
    return pool


def measure_scaling(actors: int, shards_each: int, seconds: float) -> Scaling:
    """Time `shards_each` shards per actor."""
    pool, work = pool_of(actors, seconds), shards(shards_each * actors)
    started = time.perf_counter()
    done = sum(1 for _ in pool.run(work))
    elapsed = time.perf_counter() - started
    pool.close()
    return Scaling(actors, done, elapsed, shards_each * seconds)


def measure_overhead(actors: int, count: int) -> Overhead:
    """Time shards that take no time."""
    pool, work = pool_of(actors, 0.0), shards(count)
    wall, cpu = time.perf_counter(), time.process_time()
    done = sum(1 for _ in pool.run(work))
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    pool.close()
    return Overhead(actors, done, 1e6 * cpu / done, 1e6 * wall / done)


def main() -> None:
    """Measure, print, and say whether the target is met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=int, default=16, help="per actor, in the first part (default 16)")
    parser.add_argument("--seconds", type=float, default=0.5, help="that the model takes over a shard (default 0.5)")
    parser.add_argument("--overhead-shards", type=int, default=10_000, help="in the second part (default 10,000)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    cluster.actors.pool.EmbeddingActor = delayed_actor()  # type: ignore[misc,assignment]  # its stand-in
    with connect("local", num_cpus=2):
        scaling = [measure_scaling(actors, options.shards, options.seconds) for actors in ACTORS]
        overhead = [measure_overhead(actors, options.overhead_shards) for actors in (1, 4)]
    met = all(one.of_ideal >= TARGET for one in scaling)
    if options.json:
        rows = [{**asdict(one), "of_ideal": one.of_ideal} for one in scaling]
        print(json.dumps({"scaling": rows, "overhead": [asdict(one) for one in overhead], "met": met}, indent=2))
        return
    print(f"model simulated by {options.seconds:g} s a shard of {SHARD_SIZE} images, {options.shards} shards per actor")
    for one in scaling:
        rate, ideal = one.shards * SHARD_SIZE / one.seconds, one.shards * SHARD_SIZE / one.ideal_seconds
        print(f"  {one.actors:2} actors: {rate:8,.0f} images/s, ideal {ideal:8,.0f}: {one.of_ideal:.1%}")
    print(f"target: at least {TARGET:.0%} of ideal with 1 to 16 actors: {'met' if met else 'MISSED'}")
    for two in overhead:
        print(
            f"{two.shards:,} shards that take no time, {two.actors} actor(s): the driver's processor time is "
            f"{two.driver_us:,.0f} us a shard, wall time {two.wall_us:,.0f} us"
        )


if __name__ == "__main__":
    main()
