"""Hands work to the embedding actors, and to others when one dies.

The driver keeps two pieces in flight at each actor whose model is loaded, so that no actor waits for the driver, and
takes results as they come. `cluster.actors.schedule` decides what an actor is given, and what becomes of the work of
one that died (Ray's own task retries are spent before it knows that a machine is gone). A new actor takes the dead
one's place; where one after another dies, after a while.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from cluster.actors.actor import ActorPlace, ActorSettings, EmbeddingActor, ShardReceipt
from cluster.actors.schedule import Piece, Schedule, Work
from cluster.journal import Journal
from cluster.records import ActorDeath
from immuno_core.config.run import ClusterConfig
from immuno_core.errors import ImmunoError, SetupError
from immuno_core.retries import Backoff, is_passing
from immuno_core.text import duration

_IN_FLIGHT: Final = 2
_CONCURRENT: Final = _IN_FLIGHT + 1
"""Calls an actor works on at once: it decodes the next piece while its model is at the first."""
_STARTS: Final = 3
"""How many actors in a row may fail to start."""
_STARTING: Final = Backoff(first=0.5, longest=30.0)
"""Before another actor takes the place of one that died; the first takes it at once."""
_CALLS_UNHEARD: Final = 5
"""So many calls in a row that do not reach an actor are its end."""
_LAST_NEWS_SECONDS: Final = 5.0
_SLOW_START_SECONDS: Final = 60.0
_MOST_CPU_ACTORS: Final = 8
_NODE_DIED: Final = re.compile(r"its node has died\. Node Id: (\w+)")
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Slot:
    """An actor, and what it was given."""

    handle: Any
    starting: Any
    """Reference to its place, until its model is loaded; again when it is out of reach, until it is heard of."""
    place: ActorPlace | None = None
    flight: dict[Any, Piece] = field(default_factory=dict)
    """Reference -> the piece, oldest first."""
    since: float = 0.0
    """When it last brought something, or was given its first piece."""
    out_of_reach: int = 0
    """How often in a row."""

    @property
    def name(self) -> str:
        """Host and process; "" until they are known."""
        return f"{self.place.host}:{self.place.pid}" if self.place else ""

    def room(self, load: int) -> bool:
        """Whether it is up, holds exactly `load` pieces, and may have another beside them."""
        return self.up and len(self.flight) == load and not any(piece.alone for piece in self.flight.values())

    @property
    def up(self) -> bool:
        """Whether its model is loaded, and it is within reach."""
        return self.place is not None and self.starting is None


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

    def __init__(
        self,
        plan: ActorPlan,
        settings: ActorSettings,
        journal: Journal | None = None,
        *,
        hung_seconds: float = 1800.0,
    ) -> None:
        """An actor that brings nothing for `hung_seconds`, with work at hand, is replaced."""
        import ray

        actor: Any = ray.remote(EmbeddingActor)
        self._actor = actor.options(
            num_cpus=plan.num_cpus, num_gpus=plan.num_gpus, max_concurrency=_CONCURRENT, max_restarts=0
        )
        self._plan = plan
        self._settings = settings
        self._journal = journal or Journal()
        self._journal.connected()
        self._hung_seconds = hung_seconds
        self._slots: list[_Slot] = []
        self._awaited: dict[Any, _Slot] = {}
        self._failed_starts = 0
        self._deaths_in_a_row = 0
        self._start_after = 0.0

    @property
    def places(self) -> tuple[ActorPlace, ...]:
        """Where the actors run whose models are loaded by now."""
        return tuple(slot.place for slot in self._slots if slot.place is not None and slot.up)

    def run(self, work: Sequence[Work]) -> Generator[tuple[int, Any], None, None]:
        """Do the work on as many actors as there are pieces, at most the plan's.

        Yields (place in the list, result) as results come. Raises what a method raised (SetupError, ImmunoError), and
        ImmunoError for a piece over which actors died again and again though no image of it is to blame. If it is left
        before its end (an error, Ctrl-C), the actors are killed with what they were doing.
        """
        schedule = Schedule(work)
        try:
            while schedule.unfinished:
                self._start_actors(schedule.unfinished)
                due = schedule.wake(time.monotonic())
                self._submit(schedule)
                for ref in self._wait(due):
                    slot = self._awaited.pop(ref, None)
                    # None: what an actor was doing when it was replaced.
                    if slot is not None and (done := self._receive(slot, ref, schedule)) is not None:
                        yield done
                self._replace_hung(schedule)
            self._ask_after_missing(schedule)
        finally:
            if schedule.unfinished:
                self.close()

    def close(self) -> None:
        """Kill the actors. What they have stored stays."""
        for slot in self._slots:
            _kill(slot.handle)
        self._slots.clear()
        self._awaited.clear()
        self._journal.closed()

    def _start_actors(self, unfinished: int) -> None:
        while len(self._slots) < min(self._plan.actors, unfinished) and time.monotonic() >= self._start_after:
            handle = self._actor.remote(self._settings)
            slot = _Slot(handle, handle.prepare.remote(), since=time.monotonic())
            self._slots.append(slot)
            self._awaited[slot.starting] = slot

    def _submit(self, schedule: Schedule) -> None:
        """Give every actor one piece before any gets its second."""
        for load in range(_IN_FLIGHT):
            for slot in self._slots:
                if not slot.room(load):
                    continue
                piece = schedule.take(load)
                if piece is None:
                    break
                method, arguments, keywords = piece.call()
                ref = getattr(slot.handle, method).remote(*arguments, **keywords)
                if not slot.flight:
                    slot.since = time.monotonic()
                slot.flight[ref] = piece
                self._awaited[ref] = slot

    def _wait(self, due: float | None) -> Sequence[Any]:
        """Return references whose results, or errors, are there; none if something else is to be done first."""
        import ray

        now = time.monotonic()
        soon = [_SLOW_START_SECONDS, *([due] if due is not None else [])]
        soon += [slot.since + self._hung_seconds - now for slot in self._slots if slot.flight]
        if len(self._slots) < self._plan.actors and self._start_after > now:
            soon.append(self._start_after - now)
        timeout = max(0.0, min(soon))
        if not self._awaited:
            time.sleep(timeout)
            return ()
        ready, _ = ray.wait(list(self._awaited), num_returns=1, timeout=timeout)
        if not ready and timeout == _SLOW_START_SECONDS and not self.places:
            waited = duration(now + timeout - min(slot.since for slot in self._slots))
            _log.warning("no embedding actor is up after %s: the Ray cluster is busy, or the model large", waited)
        return ready

    def _receive(self, slot: _Slot, ref: Any, schedule: Schedule) -> tuple[int, Any] | None:
        """Take what one reference brought: a result, an actor that is now up, or bad news."""
        import ray

        try:
            value = ray.get(ref)
        except ray.exceptions.RayTaskError as error:
            self._failed(slot, ref, schedule, error)
            return None
        except (ray.exceptions.ObjectLostError, ray.exceptions.RpcError) as error:
            if ref not in slot.flight or not self._again(slot.flight.pop(ref), schedule, _reason(error)):
                self._bury(slot, schedule, error)
            return None
        except ray.exceptions.ActorUnavailableError as error:
            self._look_for(slot, ref, schedule, error)
            return None
        except ray.exceptions.RayError as error:
            _refuse_hopeless(error)
            self._bury(slot, schedule, error)
            return None
        slot.since, slot.out_of_reach = time.monotonic(), 0
        if ref == slot.starting:
            slot.place, slot.starting = value, None
            self._failed_starts = 0
            self._journal.actor_up(slot.name)
            return None
        self._deaths_in_a_row = 0
        piece = slot.flight.pop(ref)
        if isinstance(value, ShardReceipt):
            self._journal.shard_done(slot.name, value.stats)
        return (piece.index, value) if schedule.done(piece) else None

    def _look_for(self, slot: _Slot, ref: Any, schedule: Schedule, error: Exception) -> None:
        """An actor is out of reach: have its work done by others, and ask it, or Ray, what became of it."""
        slot.out_of_reach += 1
        if slot.out_of_reach > _CALLS_UNHEARD:
            self._bury(slot, schedule, error)
            return
        if ref in slot.flight:
            piece = slot.flight.pop(ref)
            self._journal.retried(piece.name, _reason(error))
            schedule.lost([piece])
        if slot.starting in (None, ref):
            slot.starting = slot.handle.prepare.remote()
            self._awaited[slot.starting] = slot

    def _ask_after_missing(self, schedule: Schedule) -> None:
        """Wait a moment at the end for news of actors that are out of reach: the summary shall know of their deaths."""
        import ray

        missing = {slot.starting: slot for slot in self._slots if slot.place is not None and not slot.up}
        if missing:
            news, _ = ray.wait(list(missing), num_returns=len(missing), timeout=_LAST_NEWS_SECONDS)
            for ref in news:
                self._awaited.pop(ref, None)
                self._receive(missing[ref], ref, schedule)

    def _failed(self, slot: _Slot, ref: Any, schedule: Schedule, error: Any) -> None:
        """A method raised: try again what may pass, raise the rest."""
        piece = slot.flight.pop(ref, None)
        own = _own_error(error, piece.name if piece else "loading the encoder")
        if not is_passing(error.cause):
            raise own from error
        if piece is None:
            self._bury(slot, schedule, own)
        elif not self._again(piece, schedule, str(own)):
            raise own from error

    def _again(self, piece: Piece, schedule: Schedule, reason: str) -> bool:
        wait = schedule.failed(piece, time.monotonic())
        if wait is not None:
            self._journal.retried(piece.name, reason, seconds=wait)
        return wait is not None

    def _replace_hung(self, schedule: Schedule) -> None:
        now = time.monotonic()
        for slot in [slot for slot in self._slots if slot.flight and now - slot.since >= self._hung_seconds]:
            limit = duration(self._hung_seconds)
            self._bury(slot, schedule, TimeoutError(f"it brought nothing for {limit}, see [cluster] hung_seconds"))

    def _bury(self, slot: _Slot, schedule: Schedule, error: Exception) -> None:
        """Take leave of an actor: its work goes back, and its place is free for another."""
        import ray

        self._slots.remove(slot)
        for ref in (slot.starting, *slot.flight):
            self._awaited.pop(ref, None)
        _kill(slot.handle)
        if "No module named" in str(error):
            raise SetupError(
                "the machines of the Ray cluster cannot import this checkout: run the command there, as "
                "ray job submit --working-dir . -- python -m immuno ..."
            ) from error
        pieces, reason, node = list(slot.flight.values()), _reason(error), _lost_node(error)
        over = " and ".join(piece.name for piece in pieces) or "loading the encoder"
        host, pid = (slot.place.host, slot.place.pid) if slot.place else ("", 0)
        innocent = bool(node) or isinstance(error, ray.exceptions.ActorUnavailableError)
        if slot.place is None and not innocent:
            self._failed_starts += 1
            if self._failed_starts >= _STARTS:
                raise ImmunoError(
                    f"{self._failed_starts} embedding actors died, one after another, over {over} ({reason}). Did the "
                    "machine run out of memory?"
                ) from error
        self._deaths_in_a_row += 1
        self._start_after = time.monotonic() + _STARTING.seconds(self._deaths_in_a_row - 1)
        self._journal.died(ActorDeath(host, pid, over, reason, bool(node)), node=node)
        for piece in pieces:
            self._journal.retried(piece.name, reason)
        if innocent:
            schedule.lost(pieces)
        else:
            schedule.killed(pieces, reason)


def _refuse_hopeless(error: Exception) -> None:
    """Raise what no other actor could do better: the cluster cannot run such actors, or is gone."""
    import ray

    if isinstance(error, ray.exceptions.ActorUnschedulableError | ray.exceptions.RuntimeEnvSetupError):
        raise SetupError(f"the Ray cluster cannot start embedding actors: {_reason(error)}") from error
    if isinstance(error, ray.exceptions.LocalRayletDiedError | ray.exceptions.RaySystemError):
        raise ImmunoError(
            f"the connection to the Ray cluster is lost ({_reason(error)}); run the same command again when the "
            "cluster is back: finished shards are kept"
        ) from error


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


def _lost_node(error: Exception) -> str:
    """The id of the machine with which an actor went down; "" where the machine is there still."""
    found = _NODE_DIED.search(str(error))
    return found[1] if found else ""


def _reason(error: Exception) -> str:
    """The line of Ray's long message that says why a process ended."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    said = (line for line in lines if "exit" in line.lower() or "its node has died" in line)
    return next(said, lines[0]).split("Some common causes")[0].strip()
