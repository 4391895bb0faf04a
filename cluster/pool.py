"""Hands work to the embedding actors, and to others when one dies.

The driver keeps two pieces in flight at each actor whose model is loaded, so that no actor waits for the driver, and
takes results as they come. A piece whose actor died goes back to the head of the queue (Ray's own task retries are
spent before it knows that a machine is gone); a new actor takes the dead one's place. A piece that kills one actor
after another ends the run.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from cluster.actor import ActorPlace, ActorSettings, EmbeddingActor
from immuno.config import ClusterConfig
from immuno.errors import ImmunoError, SetupError

_IN_FLIGHT: Final = 2
_ATTEMPTS: Final = 3
"""How many actors may die over one piece of work, or in a row while they start."""
_SLOW_START_SECONDS: Final = 60.0
_MOST_CPU_ACTORS: Final = 8

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Work:
    """A call of one of EmbeddingActor's methods."""

    method: str
    arguments: tuple[Any, ...]
    name: str
    """What an error calls it."""


@dataclass(slots=True)
class _Slot:
    """An actor, and what it was given."""

    handle: Any
    starting: Any
    """Reference to its place, until its model is loaded."""
    place: ActorPlace | None = None
    flight: dict[Any, int] = field(default_factory=dict)
    """Reference -> index of the work, oldest first: that one is being done, the next waits at the actor."""


class ActorPlan(NamedTuple):
    """How many actors, and what each of them asks Ray for."""

    actors: int
    num_cpus: float
    num_gpus: float


def plan_actors(cluster: ClusterConfig, device: str, nodes: Sequence[dict[str, float]]) -> ActorPlan:
    """Fill in the defaults of `ClusterConfig` for a cluster with these nodes (the resources of each).

    Raises SetupError if no node could ever run such an actor.
    """
    total_gpus = sum(node.get("GPU", 0.0) for node in nodes)
    total_cpus = sum(node.get("CPU", 0.0) for node in nodes)
    by_itself = 1.0 if total_gpus and device != "cpu" else 0.0
    num_gpus = by_itself if cluster.num_gpus is None else cluster.num_gpus
    if not any(node.get("CPU", 0.0) >= cluster.num_cpus and node.get("GPU", 0.0) >= num_gpus for node in nodes):
        raise SetupError(
            f"no machine of the Ray cluster has the {cluster.num_cpus:g} CPU(s) and {num_gpus:g} GPU(s) that each "
            f"embedding actor asks for (in all there are {total_cpus:g} and {total_gpus:g}); lower [cluster] num_cpus "
            "or num_gpus"
        )
    by_cpu = min(_MOST_CPU_ACTORS, int(total_cpus / cluster.num_cpus))
    fitting = int(total_gpus / num_gpus) if num_gpus else by_cpu
    return ActorPlan(cluster.actors or max(1, fitting), cluster.num_cpus, num_gpus)


class EmbeddingPool:
    """The embedding actors of one run. Ray must be connected; `close` ends the actors."""

    def __init__(self, plan: ActorPlan, settings: ActorSettings) -> None:
        import ray

        actor: Any = ray.remote(EmbeddingActor)
        # One more than are in flight, so that a question about the encoder or a few texts need not wait for shards.
        self._actor = actor.options(num_cpus=plan.num_cpus, num_gpus=plan.num_gpus, max_concurrency=_IN_FLIGHT + 1)
        self._plan = plan
        self._settings = settings
        self._slots: list[_Slot] = []
        self._failed_starts = 0

    @property
    def places(self) -> tuple[ActorPlace, ...]:
        """Where the actors run whose models are loaded by now."""
        return tuple(slot.place for slot in self._slots if slot.place is not None)

    def run(self, work: Sequence[Work]) -> Generator[tuple[int, Any], None, None]:
        """Do the work on as many actors as there are pieces, at most the plan's.

        Yields (place in the list, result) as results come. Raises what a method raised (SetupError, ImmunoError), and
        ImmunoError for a piece over which actors died again and again. If it is left before its end (an error, Ctrl-C),
        the actors are killed with what they were doing.
        """
        import ray

        queue = deque(range(len(work)))
        deaths = [0] * len(work)
        unfinished = len(work)
        started, warned = time.monotonic(), False
        try:
            while unfinished:
                self._start_actors(unfinished)
                self._submit(queue, work)
                awaited = [ref for slot in self._slots for ref in (*slot.flight, slot.starting) if ref is not None]
                ready, _ = ray.wait(awaited, num_returns=1, timeout=_SLOW_START_SECONDS)
                if not ready:
                    if not warned and not self.places and time.monotonic() - started >= _SLOW_START_SECONDS:
                        warned = True
                        _log.warning("no embedding actor is up yet: the Ray cluster is busy, or the model large")
                    continue
                slot = next(slot for slot in self._slots if ready[0] == slot.starting or ready[0] in slot.flight)
                done = self._receive(slot, ready[0], queue, deaths, work)
                if done is not None:
                    unfinished -= 1
                    yield done
        finally:
            if unfinished:
                self.close()

    def close(self) -> None:
        """Kill the actors. What they have stored stays."""
        for slot in self._slots:
            _kill(slot.handle)
        self._slots.clear()

    def _start_actors(self, unfinished: int) -> None:
        while len(self._slots) < min(self._plan.actors, unfinished):
            handle = self._actor.remote(self._settings)
            self._slots.append(_Slot(handle, handle.prepare.remote()))

    def _submit(self, queue: deque[int], work: Sequence[Work]) -> None:
        """Give every actor one piece before any gets its second."""
        for load in range(_IN_FLIGHT):
            for slot in self._slots:
                if queue and slot.place is not None and len(slot.flight) == load:
                    index = queue.popleft()
                    call = getattr(slot.handle, work[index].method)
                    slot.flight[call.remote(*work[index].arguments)] = index

    def _receive(
        self, slot: _Slot, ref: Any, queue: deque[int], deaths: list[int], work: Sequence[Work]
    ) -> tuple[int, Any] | None:
        """Take what one reference brought: a result, an actor that is now up, or the news of a death."""
        import ray

        try:
            value = ray.get(ref)
        except ray.exceptions.RayTaskError as error:
            name = work[slot.flight.pop(ref)].name if ref in slot.flight else "loading the encoder"
            raise _own_error(error, name) from error
        except (ray.exceptions.RayActorError, ray.exceptions.ObjectLostError, ray.exceptions.OutOfMemoryError) as error:
            self._bury(slot, queue, deaths, work, error)
            return None
        if ref == slot.starting:
            slot.place, slot.starting = value, None
            self._failed_starts = 0
            return None
        return slot.flight.pop(ref), value

    def _bury(self, slot: _Slot, queue: deque[int], deaths: list[int], work: Sequence[Work], error: Exception) -> None:
        """Put a dead actor's work back at the head of the queue; only what it was doing is blamed."""
        self._slots.remove(slot)
        _kill(slot.handle)
        if "No module named" in str(error):
            raise SetupError(
                "the machines of the Ray cluster cannot import this checkout: run the command there, as "
                "ray job submit --working-dir . -- python -m immuno ..."
            ) from error
        lost = list(slot.flight.values())
        queue.extendleft(reversed(lost))
        if lost:
            deaths[lost[0]] += 1
            what, count = work[lost[0]].name, deaths[lost[0]]
        else:
            self._failed_starts += 1
            what, count = "loading the encoder", self._failed_starts
        if count >= _ATTEMPTS:
            raise ImmunoError(
                f"{count} embedding actors died, one after another, over {what} ({_reason(error)}); what was finished "
                "is stored. Did the machine run out of memory?"
            ) from error
        where = f" on {slot.place.host} (process {slot.place.pid})" if slot.place else ""
        _log.warning("an embedding actor%s died over %s; another takes its place", where, what)


def _kill(handle: Any) -> None:
    import ray

    if ray.is_initialized():
        ray.kill(handle, no_restart=True)


def _own_error(error: Any, name: str) -> ImmunoError:
    """What a method raised, without Ray's traceback around it."""
    cause = error.cause
    if isinstance(cause, ImmunoError):
        return type(cause)(str(cause))
    lines = str(cause).splitlines()
    return ImmunoError(f"{name} failed: {type(cause).__name__}: {lines[0] if lines else ''}")


def _reason(error: Exception) -> str:
    """The line of Ray's long message that says why a process ended."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return next((line.split("Some common causes")[0].strip() for line in lines if "exit" in line.lower()), lines[0])
