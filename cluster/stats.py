"""What embedding a shard took: an actor measures it, the driver adds it up.

Free of torch and Ray, so that whoever prints it need not load them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


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
