"""What shards took adds up."""

from __future__ import annotations

from cluster.records import ShardStats, total


def test_stats_are_added_field_by_field() -> None:
    first = ShardStats(4, 1, 2.0, 3.0, 0.5, 1.0, 1)
    assert total([first, ShardStats(images=2, seconds=1.5)]) == ShardStats(6, 1, 3.5, 3.0, 0.5, 1.0, 1)
    assert total([]) == ShardStats()
