"""Products of rows: each number the same whatever is beside it."""

from __future__ import annotations

import numpy as np
import pytest

from immuno_core.arrays import product


@pytest.mark.parametrize("dim", [1, 5, 64, 96, 512])
def test_a_product_does_not_depend_on_its_shape(dim: int) -> None:
    rng = np.random.default_rng(dim)
    x, y = rng.normal(size=(300, dim)), rng.normal(size=(333, dim))
    whole = product(x, y)
    np.testing.assert_allclose(whole, x @ y.T, rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(product(y, x).T, whole)
    for m, n in ((0, 3), (1, 1), (1, 333), (2, 17), (100, 1), (65, 64), (300, 48)):
        i, j = rng.permutation(300)[:m], rng.permutation(333)[:n]
        np.testing.assert_array_equal(product(x[i], y[j]), whole[np.ix_(i, j)])
