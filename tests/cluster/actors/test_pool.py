"""Work reaches every actor, comes back once, and outlives the actors that it is given to."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psutil
import pytest

import cluster.actors.pool
from cluster.actors.actor import ActorPlace
from cluster.actors.pool import ActorPlan, EmbeddingPool, plan_actors
from cluster.actors.schedule import Work
from cluster.journal import Journal
from immuno_core.config.run import ClusterConfig
from immuno_core.errors import ImmunoError, SetupError

Pools = Callable[..., EmbeddingPool]


@pytest.fixture
def pools(ray_cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pools]:
    """Makes pools whose actors hold no model, so that they start in no time, and do what the tests ask."""

    class Actor:  # defined in here, so that Ray sends it by value
        def __init__(self, folder: Path) -> None:
            self.folder = folder

        def place(self) -> ActorPlace:
            return ActorPlace("here", os.getpid())

        def prepare(self) -> ActorPlace:
            if (self.folder / "no starts").exists():
                os._exit(1)
            return self.place()

        def note(self, name: str, seconds: float = 0.0) -> tuple[str, int]:
            with (self.folder / "log").open("a") as log:
                log.write(f"{name}\n")
            time.sleep(seconds)
            return name, os.getpid()

        def wait_for(self, lines: int) -> None:
            while not (self.folder / "log").exists() or len((self.folder / "log").read_text().split()) < lines:
                time.sleep(0.01)

        def die_once(self, name: str) -> str:
            if not (self.folder / name).exists():
                (self.folder / name).touch()
                os._exit(1)
            return name

        def die(self) -> None:
            os._exit(1)

        def stumble(self, name: str, times: int) -> str:
            tried = len(list(self.folder.glob(f"{name}.*")))
            if tried < times:
                (self.folder / f"{name}.{tried}").touch()
                raise TimeoutError("the file system is slow")
            return name

        def hang_once(self, name: str) -> str:
            if not (self.folder / name).exists():
                (self.folder / name).touch()
                time.sleep(600)
            return name

        def embed(self, images: tuple[str, ...], *, lethal: frozenset[int] = frozenset()) -> list[str]:
            kept = [image for row, image in enumerate(images) if row not in lethal]
            self.embed_paths(kept)
            return kept

        def embed_paths(self, paths: Sequence[str]) -> None:
            if "poison" in paths:
                os._exit(1)

        def refuse(self, kind: type[Exception]) -> None:
            raise kind("the reason\nand a second line")

    monkeypatch.setattr(cluster.actors.pool, "EmbeddingActor", Actor)
    made = []

    def make(actors: int, journal: Journal | None = None, **options: float) -> EmbeddingPool:
        plan = ActorPlan(actors, 0.1, 0)
        made.append(EmbeddingPool(plan, tmp_path, journal, **options))  # type: ignore[arg-type]  # Actor's settings
        return made[-1]

    yield make
    for pool in made:
        pool.close()


def notes(count: int, seconds: float = 0.0) -> list[Work]:
    return [Work("note", (str(i), seconds), f"note {i}") for i in range(count)]


@pytest.mark.ray
def test_every_piece_is_done_once_by_all_actors_and_comes_when_it_is_ready(pools: Pools, tmp_path: Path) -> None:
    pool = pools(2)
    assert len(list(pool.run(notes(1)))) == 1
    first = pool.places
    assert len(first) == 1  # no more actors than there is work
    while len(pool.places) < 2:
        list(pool.run(notes(4)))

    (tmp_path / "log").unlink()
    done = dict(pool.run(notes(30, seconds=0.01)))
    assert {index: name for index, (name, _) in done.items()} == {i: str(i) for i in range(30)}
    assert {pid for _, pid in done.values()} == {place.pid for place in pool.places}
    assert sorted((tmp_path / "log").read_text().split(), key=int) == [str(i) for i in range(30)]

    (tmp_path / "log").unlink()
    order = []
    for index, _ in pool.run([Work("wait_for", (4,), "the slow one"), *notes(3)]):
        order.append(index)
        if len(order) == 3:  # what is ready is not kept waiting for what came before it
            with (tmp_path / "log").open("a") as log:
                log.write("4\n")
    assert sorted(order) == list(range(4))
    assert order[-1] == 0
    assert list(pool.run([])) == []


@pytest.mark.ray
def test_a_dead_actor_s_work_is_done_again(pools: Pools, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    journal = Journal()
    work = [Work("die_once", (f"victim {i}",), f"victim {i}") for i in range(2)] + notes(4)
    with caplog.at_level(logging.WARNING):
        done = dict(pools(1, journal).run(work))
    assert sorted(done) == list(range(6))
    deaths = journal.summary().deaths
    assert caplog.text.count("another takes its place") == len(deaths)
    assert deaths[0].host == "here"
    assert deaths[0].over in ("victim 0", "victim 0 and victim 1")  # the second may just have arrived
    assert "exit" in deaths[0].reason.lower()
    assert 1 <= len(deaths) <= 2
    assert journal.summary().retries >= len(deaths)


@pytest.mark.ray
def test_an_image_that_kills_is_left_out_and_all_others_are_done(pools: Pools) -> None:
    shards = [tuple(f"{i}/{row}" for row in range(4)) for i in range(3)]
    shards[1] = ("1/0", "1/1", "poison", "1/3")
    work = [Work("embed", (shard,), f"shard {i}", images=shard) for i, shard in enumerate(shards)]
    assert dict(pools(2).run(work)) == {i: [one for one in shard if one != "poison"] for i, shard in enumerate(shards)}


@pytest.mark.ray
def test_a_piece_that_kills_every_actor_ends_the_run(pools: Pools) -> None:
    pool = pools(1)
    done: list[tuple[int, object]] = []
    with pytest.raises(ImmunoError, match=r"^3 embedding actors died, one after another, over the poison") as caught:
        done.extend(pool.run([*notes(5), Work("die", (), "the poison"), *notes(5)]))
    assert "\n" not in str(caught.value)
    assert {index for index, _ in done} >= set(range(4))  # the fifth may have been with the poison
    assert pool.places == ()


@pytest.mark.ray
def test_what_fails_in_passing_is_tried_again(pools: Pools, caplog: pytest.LogCaptureFixture) -> None:
    journal = Journal()
    assert list(pools(1, journal).run([Work("stumble", ("it", 2), "it")])) == [(0, "it")]
    assert journal.summary().retries == 2
    assert "it failed (it failed: TimeoutError: the file system is slow); tried again in 0.5 s" in caplog.text


@pytest.mark.ray
def test_an_actor_that_hangs_is_replaced(pools: Pools) -> None:
    journal = Journal()
    pool = pools(1, journal, hung_seconds=2.0)
    assert list(pool.run([Work("hang_once", ("sleeper",), "the long one")])) == [(0, "sleeper")]
    (death,) = journal.summary().deaths
    assert (death.over, death.reason) == ("the long one", "it brought nothing for 2.0 s, see [cluster] hung_seconds")


@pytest.mark.ray
def test_actors_that_cannot_start_end_the_run(pools: Pools, tmp_path: Path) -> None:
    (tmp_path / "no starts").touch()
    with pytest.raises(ImmunoError, match=r"^3 embedding actors died, one after another, over loading the encoder"):
        list(pools(1).run(notes(3)))


@pytest.mark.ray
def test_a_refusal_reaches_the_caller_as_it_was_raised(pools: Pools) -> None:
    pool = pools(1)
    with pytest.raises(SetupError, match=r"^the reason\nand a second line$"):
        list(pool.run([Work("refuse", (SetupError,), "this piece")]))
    with pytest.raises(ImmunoError, match=r"^this piece failed: ValueError: the reason$"):
        list(pool.run([Work("refuse", (ValueError,), "this piece")]))


@pytest.mark.ray
def test_a_run_that_is_left_ends_its_actors(pools: Pools) -> None:
    pool = pools(2)
    run = pool.run(notes(50, seconds=0.2))
    next(run)
    pids = [place.pid for place in pool.places]
    run.close()
    assert pool.places == ()
    # Ray kills in its own time, and a busy machine takes longer.
    deadline = time.monotonic() + 60
    while any(psutil.pid_exists(pid) for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.05)


# --- how many, and where

CPU_NODE = {"CPU": 16.0, "memory": 1e9}
GPU_NODE = {"CPU": 32.0, "GPU": 4.0}


@pytest.mark.parametrize(
    ("config", "device", "nodes", "plan"),
    [
        (ClusterConfig(), "auto", [{"CPU": 2.0}], ActorPlan(2, 1, 0)),
        (ClusterConfig(), "auto", [CPU_NODE, CPU_NODE], ActorPlan(8, 1, 0)),
        (ClusterConfig(num_cpus=4), "auto", [CPU_NODE], ActorPlan(4, 4, 0)),
        (ClusterConfig(), "auto", [CPU_NODE, GPU_NODE], ActorPlan(4, 1, 1)),
        (ClusterConfig(num_gpus=0.5), "cuda", [GPU_NODE, GPU_NODE], ActorPlan(16, 1, 0.5)),
        (ClusterConfig(), "cpu", [GPU_NODE], ActorPlan(8, 1, 0)),
        (ClusterConfig(actors=3), "auto", [GPU_NODE], ActorPlan(3, 1, 1)),
        (ClusterConfig(num_cpus=0.25), "auto", [{"CPU": 1.0}], ActorPlan(4, 0.25, 0)),
    ],
)
def test_the_cluster_decides_what_the_configuration_leaves_open(
    config: ClusterConfig, device: str, nodes: list[dict[str, float]], plan: ActorPlan
) -> None:
    assert plan_actors(config, device, nodes) == plan


def test_actors_that_fit_no_machine_are_refused() -> None:
    with pytest.raises(
        SetupError, match=r"no machine .* has the 1 CPU\(s\) and 1 GPU\(s\) .* \(in all there are 16 an"
    ):
        plan_actors(ClusterConfig(num_gpus=1), "auto", [CPU_NODE])
    with pytest.raises(SetupError, match="lower"):
        plan_actors(ClusterConfig(num_cpus=20), "auto", [CPU_NODE, CPU_NODE])
