"""Small decisions of the loop, each replaceable: where to go on from, which classes to work on, when to stop.

The random state is stored with each generation and taken up again by the next: a resumed session draws what an
uninterrupted one would have drawn. It is plain JSON; its integers of 128 bits are written as text, because not every
database keeps them as numbers.

The Pareto front over the feedback images, as GEPA has it: a generation *handles* an outlier that it rejects (of the
known images each accepts the same share, by its threshold). It is on the front when it alone handles some image; the
others have nothing that one of these lacks. The parent is drawn from the front, each generation by the number of images
that it alone handles, with the stored random state.

On development mini-worlds (1000 to 1003, six generations) always taking the best did better: banks grow by what is
kept, so a generation that goes back to an older one mostly repeats what has been done since. So that is the default;
with dozens of generations, or a model whose proposals contradict one another, the front may be worth its price.

GEPA (Agrawal et al., arXiv 2507.19457, and gepa-ai/gepa) counts the images where a candidate is among the best. Banks
grow by what was kept, so nearly every image is handled by nearly all of them, and that count tells little here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from db import GenerationRecord
from immuno_core.config.refine import RefineConfig
from immuno_core.errors import ImmunoError, SetupError

_KIND = "PCG64"


def new_generator(seed: int) -> np.random.Generator:
    """Return the generator that a session of this seed begins with."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, 0x1DEA])))


def state_of(generator: np.random.Generator) -> dict[str, Any]:
    """Return the state to be stored. What it draws next is fixed by it."""
    state = generator.bit_generator.state
    return {
        "kind": _KIND,
        "state": str(state["state"]["state"]),
        "increment": str(state["state"]["inc"]),
        "has_uint32": int(state["has_uint32"]),
        "uinteger": int(state["uinteger"]),
    }


def generator_of(stored: Mapping[str, Any]) -> np.random.Generator:
    """Return a generator that goes on from a stored state. Raises ImmunoError for what is none."""
    try:
        if stored["kind"] != _KIND:
            raise ValueError(stored["kind"])
        bits = np.random.PCG64(0)
        bits.state = {
            "bit_generator": _KIND,
            "state": {"state": int(stored["state"]), "inc": int(stored["increment"])},
            "has_uint32": int(stored["has_uint32"]),
            "uinteger": int(stored["uinteger"]),
        }
    except (KeyError, TypeError, ValueError) as error:
        raise ImmunoError(f"the session's random state cannot be read ({error}); start a new session") from error
    return np.random.Generator(bits)


Handled = NDArray[np.bool_]


def draw_parent(handled: Mapping[int, Handled], *, best: int, generator: np.random.Generator) -> int:
    """Return a number of the front, drawn by how many images it alone handles; `best` where none stands out.

    `handled` has (images,) per kept generation, in one order of the images. One number is drawn, whatever comes of it.
    """
    drawn = generator.random()
    alone = handled_alone(handled)
    total = sum(alone.values())
    if not total:
        return best
    numbers = sorted(alone)
    shares = np.cumsum([alone[number] / total for number in numbers])
    return numbers[min(int(np.searchsorted(shares, drawn, side="right")), len(numbers) - 1)]


def handled_alone(handled: Mapping[int, Handled]) -> dict[int, int]:
    """Return how many images each generation handles that no other handles; those with none are left out."""
    if not handled:
        return {}
    by = np.sum(list(handled.values()), axis=0)
    counts = {number: int(np.count_nonzero(own & (by == 1))) for number, own in handled.items()}
    return {number: count for number, count in counts.items() if count}


def handled_by(accepted: Mapping[str, bytes], *, known_set: str) -> Handled:
    """Return (images,) whether each outlier was rejected, by what the store says (AntibodyStore.accepted)."""
    outliers = b"".join(accepted[name] for name in sorted(accepted) if name != known_set)
    rejected: Handled = np.frombuffer(outliers, np.uint8) == 0
    return rejected


def worst_first(
    budget: int,
    mis_accepted: Mapping[str, int],
    last_worked_on: Mapping[str, int],
    classes: Sequence[str],
    *,
    generation: int,
) -> tuple[str, ...]:
    """Return at most `budget` classes: half those that accept most outliers, the rest those that have waited longest.

    Of an odd budget the one in the middle goes to the worst in odd generations, to those that wait in even ones.
    `mis_accepted` counts, per class, the outliers that it wrongly accepts; `last_worked_on` is the generation that last
    proposed for a class (absent: never). Every class gets its turn however few outliers it accepts, because a bank that
    only answers today's mistakes is narrow. Ties go by the order of `classes`.
    """
    order = {name: k for k, name in enumerate(classes)}
    by_mistakes = sorted(classes, key=lambda name: (-mis_accepted.get(name, 0), order[name]))
    worst = by_mistakes[: (budget + generation % 2) // 2]
    by_waiting = sorted(
        (name for name in classes if name not in worst),
        key=lambda name: (last_worked_on.get(name, -1), -mis_accepted.get(name, 0), order[name]),
    )
    return (*worst, *by_waiting[: budget - len(worst)])


RequestKind = Literal["class", "group", "far"]
"""What a request for antibodies is about: one class, a group of classes that are taken for one another, or all."""
_LEAST_TO_SHARE = 16
"""On development mini-worlds (1000, 1002, 1003; lexicon; eight requests) two of eight cost the classes more turns than
they brought: mean FPR95 18.8 against 17.1."""
_MOST_SHARE = 4
"""Of the requests, at most one in so many is for groups, and one in so many for all classes."""


def share_requests(budget: int, worth: Mapping[RequestKind, float], *, generation: int) -> dict[RequestKind, int]:
    """Return how many of `budget` requests are for single classes, for groups of them, and for all.

    `worth` is what each kind gained so far for each antibody asked for. Groups and all get one request in sixteen
    each until they have been measured, then in proportion to their worth; one that is worth less than a quarter of what
    the classes are is asked in every third generation only. A budget below sixteen is for classes alone.
    """
    shares: dict[RequestKind, int] = {"class": budget, "group": 0, "far": 0}
    if budget < _LEAST_TO_SHARE:
        return shares
    total = sum(worth.values())
    others: tuple[RequestKind, ...] = ("group", "far")
    for kind in others:
        share = budget // _LEAST_TO_SHARE
        if kind in worth and total > 0:
            share = min(max(1, round(budget * worth[kind] / total)), budget // _MOST_SHARE)
            if worth[kind] < worth.get("class", 0.0) / 4 and generation % 3:
                share = 0
        shares[kind] = share
        shares["class"] -= share
    return shares


def check_limits(config: RefineConfig) -> None:
    """Raise SetupError for a limit that can never act."""
    if config.stop_after_cost is not None and config.price is None:
        raise SetupError(
            f"stop_after_cost = {config.stop_after_cost:g} can never act without a price; give [refine.price] input "
            "and output, in dollars per million tokens (branch, regenerate: --price INPUT OUTPUT), or drop the limit"
        )


def stop_reason(config: RefineConfig, done: Sequence[GenerationRecord]) -> str | None:
    """Return why no further generation runs after these, the baseline first; None where one does.

    Minutes are those that generations took, so that a pause costs nothing; the baseline is part of no plateau.
    """
    run = done[1:]
    if len(run) >= config.generations:
        return f"all {config.generations} generations are done"
    spent = sum(generation.prompt_tokens + generation.completion_tokens for generation in done)
    if config.stop_after_tokens is not None and spent >= config.stop_after_tokens:
        return f"the limit of {config.stop_after_tokens:,} tokens is reached ({spent:,})"
    paid = sum(generation.cost_usd for generation in done)
    if config.stop_after_cost is not None and paid >= config.stop_after_cost:
        return f"the limit of {config.stop_after_cost:g} USD is reached ({paid:.2f})"
    minutes = sum((generation.finished_at - generation.started_at).total_seconds() for generation in done) / 60
    if config.stop_after_minutes is not None and minutes >= config.stop_after_minutes:
        return f"the limit of {config.stop_after_minutes:g} minutes is reached ({minutes:.1f})"
    plateau = config.stop_after_plateau
    if plateau is not None and len(run) >= plateau and not any(generation.accepted for generation in run[-plateau:]):
        return f"a plateau: {plateau} generation(s) in a row brought nothing that was kept"
    return None


MOST_UNREAD = 3


def given_up(done: Sequence[GenerationRecord]) -> str | None:
    """Return why it is of no use to ask the chat model as it was asked; None while a reply of late could be read."""
    last = done[-MOST_UNREAD:]
    if len(last) < MOST_UNREAD or not all(generation.metrics.get("unread") for generation in last):
        return None
    return f"{MOST_UNREAD} generations in a row got no reply that could be read; of the last one: {last[-1].reason}"
