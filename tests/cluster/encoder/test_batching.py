"""A batch that runs into something is got past: memory, an image that the model cannot take, a model that is broken."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from cluster.encoder.batching import BatchRunner, is_out_of_memory
from immuno_core.errors import ImmunoError, SetupError

CPU = torch.device("cpu")
NUMBERS = torch.arange(10.0)


def runner(batch_size: int = 4) -> BatchRunner:
    return BatchRunner(CPU, batch_size)


class Model:
    """Doubles its entries. Says what it was given, and raises where `refuses` tells it to."""

    def __init__(self, refuses: Callable[[torch.Tensor], Exception | None] = lambda batch: None) -> None:
        self.refuses = refuses
        self.given: list[list[float]] = []

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        self.given.append(batch.tolist())
        error = self.refuses(batch)
        if error is not None:
            raise error
        return 2 * batch


def test_rows_come_in_the_order_of_the_batch_however_it_is_cut() -> None:
    model = Model()
    answer = runner(4).run(model, NUMBERS)
    assert answer.rows.tolist() == (2 * NUMBERS).tolist()
    assert [len(piece) for piece in model.given] == [4, 4, 2]
    assert (answer.refused, answer.halvings) == ({}, 0)
    assert answer.model_seconds > 0
    assert answer.wait_seconds >= 0


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        torch.AcceleratorError("CUDA error: out of memory"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: not enough memory: you tried to ..."),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes. Error code 12"),
        MemoryError(),
    ],
    ids=["gpu", "driver", "cpu", "linux", "python"],
)
def test_a_batch_too_large_is_halved_and_so_are_later_ones(error: Exception) -> None:
    model = Model(lambda batch: error if len(batch) > 2 else None)
    run = runner(8)
    first, second = run.run(model, NUMBERS), run.run(model, NUMBERS[:3])
    assert first.rows.tolist() == (2 * NUMBERS).tolist()
    assert (first.halvings, first.refused) == (2, {})
    assert [len(piece) for piece in model.given] == [8, 4, 2, 2, 2, 2, 2, 2, 1]
    assert (second.halvings, second.rows.tolist()) == (0, [0.0, 2.0, 4.0])
    assert run.batch_size == 2


def test_of_a_padded_batch_what_the_model_was_given_is_halved() -> None:
    """The last batch holds one image, filled up to eight: that eight are too many says nothing of one."""
    model = Model(lambda batch: torch.OutOfMemoryError("CUDA out of memory") if len(batch) > 4 else None)
    run = runner(8)
    last, then = run.run(model, NUMBERS[9:], padded=True), run.run(model, NUMBERS[:5], padded=True)
    assert (last.rows.tolist(), last.halvings, run.batch_size) == ([18.0], 1, 4)
    assert then.rows.tolist() == [0.0, 2.0, 4.0, 6.0, 8.0]
    assert model.given[1:] == [[9.0, 0.0, 0.0, 0.0], [0.0, 1.0, 2.0, 3.0], [4.0, 0.0, 0.0, 0.0]]


def test_a_single_entry_that_does_not_fit_is_the_user_s_to_mend() -> None:
    with pytest.raises(SetupError, match=r"the memory of cpu does not hold the model at work on a single image; "):
        runner().run(Model(lambda batch: torch.OutOfMemoryError("CUDA out of memory")), NUMBERS)


def test_other_errors_are_not_taken_for_a_lack_of_memory() -> None:
    assert not is_out_of_memory(RuntimeError("The size of tensor a (3) must match the size of tensor b (4)"))
    assert not is_out_of_memory(ValueError("not enough memory"))


@pytest.mark.parametrize("poison", [{0.0}, {9.0}, {3.0, 4.0}, {1.0, 5.0, 8.0}, {0.0, 1.0, 2.0, 3.0}])
def test_an_entry_that_the_model_cannot_take_is_found_and_the_others_are_done(poison: set[float]) -> None:
    model = Model(lambda batch: ValueError("bad\nvalue") if poison & set(batch.tolist()) else None)
    answer = runner(4).run(model, NUMBERS)
    assert answer.refused == {int(value): "ValueError: bad" for value in poison}
    assert answer.rows.tolist() == [2 * value for value in NUMBERS.tolist() if value not in poison]


def test_poison_and_a_lack_of_memory_at_once() -> None:
    def refuses(batch: torch.Tensor) -> Exception | None:
        if len(batch) > 3:
            return torch.OutOfMemoryError("CUDA out of memory")
        return ValueError("bad") if 7 in batch else None

    run = runner(8)
    answer = run.run(Model(refuses), NUMBERS)
    assert (answer.refused, answer.halvings, run.batch_size) == ({7: "ValueError: bad"}, 2, 2)
    assert answer.rows.tolist() == [2.0 * i for i in range(10) if i != 7]


def test_a_model_that_always_fails_is_not_blamed_on_the_images() -> None:
    broken = Model(lambda batch: ValueError("no kernel"))
    with pytest.raises(ImmunoError, match=r"^the model fails on every image, the first time with ValueError: no kern"):
        runner().run(broken, NUMBERS)
    assert runner().run(broken, NUMBERS[:1]).refused == {0: "ValueError: no kernel"}  # one alone could be poison


@pytest.mark.parametrize("error", [SetupError("mend this"), torch.AcceleratorError("an illegal memory access")])
def test_what_is_no_image_s_fault_is_passed_on_at_once(error: Exception) -> None:
    model = Model(lambda batch: error)
    with pytest.raises(type(error), match=str(error)):
        runner().run(model, NUMBERS)
    assert len(model.given) == 1
    assert runner().run(Model(), NUMBERS[:2]).rows.tolist() == [0.0, 2.0]


def test_many_may_ask_and_one_thread_does_it() -> None:
    threads = set()

    def step(batch: torch.Tensor) -> torch.Tensor:
        threads.add(threading.get_ident())
        assert torch.is_inference_mode_enabled()
        return 2 * batch

    run = runner()
    with ThreadPoolExecutor(4) as askers:
        answers = list(askers.map(lambda i: run.run(step, NUMBERS + i).rows.tolist(), range(20)))
    assert answers == [(2 * (NUMBERS + i)).tolist() for i in range(20)]
    assert len(threads) == 1


def test_a_batch_that_nobody_wants_any_more_is_not_begun() -> None:
    run, gate, begun = runner(), threading.Event(), threading.Event()

    def slow(batch: torch.Tensor) -> torch.Tensor:
        begun.set()
        gate.wait(60)
        return batch

    waiting = Model()
    with run.asked():
        first, second = run.submit(slow, NUMBERS[:1]), run.submit(waiting, NUMBERS)
        begun.wait(60)
        second.drop()
        gate.set()
        assert first.answer().rows.tolist() == [0.0]
    assert run.run(Model(), NUMBERS[:1]).rows.tolist() == [0.0]
    assert waiting.given == []


def test_only_a_model_that_somebody_asks_can_be_kept_waiting() -> None:
    run, resting = runner(), threading.Event()
    run.run(Model(), NUMBERS)
    resting.wait(0.05)
    with run.asked():
        first = run.submit(Model(), NUMBERS).answer()
        resting.wait(0.05)
        second = run.submit(Model(), NUMBERS).answer()
    assert first.wait_seconds < 0.05 <= second.wait_seconds


def test_half_of_a_small_last_piece_is_the_new_size() -> None:
    model = Model(lambda batch: MemoryError() if len(batch) == 2 else None)
    run = runner(8)
    answer = run.run(model, NUMBERS)
    assert (answer.rows.tolist(), answer.halvings, run.batch_size) == ((2 * NUMBERS).tolist(), 1, 1)


def test_a_second_asker_does_not_end_the_waiting() -> None:
    run = runner()
    with run.asked():
        threading.Event().wait(0.05)
        with run.asked():
            assert run.submit(Model(), NUMBERS).answer().wait_seconds >= 0.05
