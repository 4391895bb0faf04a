"""Affinity maturation: antibodies move toward the feedback outliers that came nearest to them."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.antibodies.maturation import mature
from evaluation.space import Bank
from immuno_core.errors import SetupError
from immuno_core.records import MATURATION, Antibody, AntibodyKind


def unit(rows: list[list[float]]) -> np.ndarray:
    found = np.array(rows, dtype=np.float64)
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def bank(vectors: np.ndarray) -> Bank:
    kinds: tuple[AntibodyKind, ...] = ("look_alike", "contextual", "look_alike")
    named = zip("abc", kinds, vectors, strict=False)
    return Bank(tuple(Antibody(name, kind, name, id=name) for name, kind, _ in named), vectors)


BANK = bank(unit([[1, 0, 0], [0, 1, 0], [0, 0, 1]]))
NEAR_A = unit([[1, 0.1 * i, 0.02] for i in range(5)])
NEAR_B = unit([[0.1, 1, 0.05 * i] for i in range(4)])


def test_it_is_the_weighted_mean_with_the_normalised_mean_of_its_outliers() -> None:
    found = mature(BANK, [NEAR_A], g=0.3)
    centre = NEAR_A.astype(np.float64).mean(axis=0)
    centre /= np.linalg.norm(centre)
    expected = 0.7 * np.array([1.0, 0, 0]) + 0.3 * centre
    assert found.vectors[0] == pytest.approx(expected / np.linalg.norm(expected), abs=1e-6)
    assert (found.ids, found.texts, found.kinds, found.guards) == (
        ("a+matured",),
        ("a (matured)",),
        ("look_alike",),
        ("a",),
    )
    (matured,) = found.antibodies
    assert (matured.parent_id, matured.relation, matured.origin) == ("a", "matured", MATURATION)


def test_it_takes_at_least_five_outliers() -> None:
    assert mature(BANK, [NEAR_B]).ids == ()
    assert mature(BANK, [NEAR_B], least=4).ids == ("b+matured",)


def test_outliers_of_all_sets_count_together() -> None:
    assert mature(BANK, [NEAR_B, NEAR_A, NEAR_B]).ids == ("a+matured", "b+matured")


def test_without_pull_nothing_moves_and_with_full_pull_it_is_the_centre() -> None:
    assert mature(BANK, [NEAR_A], g=0).vectors[0] == pytest.approx([1, 0, 0])
    centre = NEAR_A.mean(axis=0)
    assert mature(BANK, [NEAR_A], g=1).vectors[0] == pytest.approx(centre / np.linalg.norm(centre), abs=1e-6)


def test_outliers_that_cancel_have_no_direction_to_move_to() -> None:
    lone = bank(unit([[1, 0, 0]]))
    opposite = unit([[0, 1, 0], [0, -1, 0]] * 3)
    assert mature(lone, [opposite]).ids == ()


@pytest.mark.parametrize("outliers", [[], [np.zeros((0, 3), np.float32)]])
def test_no_outliers_and_no_antibodies_are_fine(outliers: list[np.ndarray]) -> None:
    assert len(mature(BANK, outliers)) == 0
    assert len(mature(Bank.empty(3), [NEAR_A])) == 0


def test_it_does_not_depend_on_the_order_of_the_outliers() -> None:
    rng = np.random.default_rng(0)
    cloud = unit(rng.standard_normal((200, 3)).tolist())
    one, other = mature(BANK, [cloud]), mature(BANK, [cloud[::-1]])
    assert one.ids == other.ids
    assert one.vectors == pytest.approx(other.vectors, abs=1e-6)


@pytest.mark.parametrize(
    ("given", "says"),
    [({"g": 1.5}, "g = 1.5"), ({"g": -0.1}, "g = -0.1"), ({"least": 0}, "least = 0")],
)
def test_parameters_out_of_range_are_told(given: dict[str, float], says: str) -> None:
    with pytest.raises(SetupError, match=says):
        mature(BANK, [NEAR_A], **given)  # type: ignore[arg-type]


def test_outliers_of_another_encoder_are_refused() -> None:
    with pytest.raises(SetupError, match="4 dimensions"):
        mature(BANK, [unit([[1, 0, 0, 0]])])
