"""Every score agrees with its formula written down image by image; identities between scores hold exactly."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from evaluation.scores.registry import SCORES, make_score
from evaluation.space import Space
from immuno_core import arrays as blocks
from immuno_core.errors import SetupError
from tests.evaluation import reference
from tests.evaluation.synthetic import make_space, outliers, unit_rows, with_rows

shapes = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 10**6),
        "classes": st.integers(1, 6),
        "dim": st.integers(2, 12),
        "antibodies": st.integers(0, 8),
        "fit": st.integers(0, 20),
    }
)

OF_EMBEDDINGS = [name for name in SCORES if name not in ("gl_mcm", "negrefine")]
"""Every score that needs no more than embeddings; GL-MCM and NegRefine have tests of their own."""


@settings(max_examples=60)
@given(shapes, st.integers(0, 12), st.sampled_from([0.01, 0.5, 1.0]), st.sampled_from([0.0, 0.25, 2.0]))
def test_scores_agree_with_their_formulas(shape: dict[str, int], n: int, temperature: float, weight: float) -> None:
    space = make_space(**shape)
    x, texts, antibodies = outliers(space, 0, n).features, space.texts, space.bank.vectors
    mu: NDArray[Any] = texts
    if space.fit is not None and space.fit_labels is not None:
        mu = reference.prototypes(texts, space.fit.features, list(space.fit_labels), 0.9, 0.2)
    for name, params, expected in (
        ("mcm", {"temperature": temperature}, [reference.mcm(v, texts, temperature) for v in x]),
        ("msp", {}, [reference.mcm(v, texts, 1 / space.logit_scale) for v in x]),
        ("max_logit", {}, [reference.max_logit(v, texts) for v in x]),
        ("energy", {"temperature": temperature}, [reference.energy(v, texts, temperature) for v in x]),
        (
            "eoe",
            {"temperature": temperature, "beta": weight},
            [reference.eoe(v, texts, antibodies, temperature, weight) for v in x],
        ),
        ("eoe_max_logit", {}, [reference.difference(v, texts, antibodies, 1.0) for v in x]),
        (
            "s_dis",
            {"lambda_inf": weight, "alpha": 0.9, "xi": 0.2},
            [reference.difference(v, mu, antibodies, weight) for v in x],
        ),
    ):
        found = make_score(name, **params).fit(space).score(x)
        assert found.shape == (n,)
        assert found.dtype == np.float64
        # Prototypes at the cap differ in the last bits of float32 (see test_prototypes); everything else is float64.
        np.testing.assert_allclose(found, expected, atol=1e-6 if name == "s_dis" else 1e-12, err_msg=name)


@settings(max_examples=40)
@given(shapes, st.integers(1, 12))
def test_identities_hold_exactly(shape: dict[str, int], n: int) -> None:
    space = make_space(**shape)
    x = outliers(space, 0, n).features

    def scores(on: Space, name: str, **params: Any) -> list[float]:
        return list(make_score(name, **params).fit(on).score(x))

    bare = with_rows(space, [])
    plain = scores(bare, "max_logit")
    assert scores(bare, "calibrated", base="max_cosine") == plain
    assert scores(bare, "s_dis", alpha=1.0) == plain
    assert scores(bare, "eoe_max_logit") == plain
    assert scores(space, "s_dis", lambda_inf=0.0, alpha=1.0) == plain
    assert scores(space, "calibrated", base="max_cosine", beta=0.0) == plain
    assert scores(space, "s_dis", lambda_inf=1.0, alpha=1.0) == scores(space, "eoe_max_logit")
    assert scores(bare, "eoe") == scores(bare, "mcm")
    assert scores(space, "calibrated", base="prototype", beta=0.0) == scores(bare, "s_dis")
    assert scores(space, "calibrated", base="fused", w=1.0) == scores(space, "calibrated", base="prototype")


def test_mcm_of_one_class_is_one_and_energy_of_one_class_is_its_cosine() -> None:
    space = make_space(0, classes=1, antibodies=0, fit=0)
    x = unit_rows(np.random.default_rng(1), 5, 8)
    assert make_score("mcm").fit(space).score(x).tolist() == [1.0] * 5
    np.testing.assert_allclose(
        make_score("energy").fit(space).score(x), make_score("max_logit").fit(space).score(x), atol=1e-15
    )


def test_small_temperatures_neither_overflow_nor_vanish() -> None:
    space = make_space(0)
    x = unit_rows(np.random.default_rng(1), 5, 8)
    for name in ("mcm", "energy", "eoe"):
        assert np.isfinite(make_score(name, temperature=1e-4).fit(space).score(x)).all()
    cold = make_score("energy", temperature=1e-4).fit(space).score(x)
    np.testing.assert_allclose(cold, make_score("max_logit").fit(space).score(x), atol=1e-3)


@pytest.mark.parametrize("name", [name for name in OF_EMBEDDINGS if name != "msp"])  # which is 1 for all of them
def test_scores_rank_known_images_above_what_an_antibody_describes(name: str) -> None:
    space = make_space(1, classes=4, dim=32, antibodies=6, fit=80, spread=0.05)
    assert space.fit is not None
    fitted = make_score(name, **({"k": 5} if name == "knn" else {})).fit(space)
    assert fitted.name == name
    assert fitted.score(space.fit.features).min() > fitted.score(space.bank.vectors).max()


@pytest.mark.parametrize("name", OF_EMBEDDINGS)
def test_blocks_change_nothing_but_the_last_bits(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    space = make_space(2, fit=30)
    x = outliers(space, 0, 50).features
    fitted = make_score(name).fit(space)
    whole, classes = fitted.score(x), fitted.predict(x)
    monkeypatch.setattr(blocks, "MOST_ELEMENTS", 100)
    in_pieces = make_score(name).fit(space)
    np.testing.assert_allclose(in_pieces.score(x), whole, atol=1e-14)
    assert in_pieces.predict(x).tolist() == classes.tolist()
    assert in_pieces.score(x).tolist() == in_pieces.score(x).tolist()
    np.testing.assert_allclose([in_pieces.score(x[i : i + 1])[0] for i in range(50)], whole, atol=1e-14)


def test_no_block_is_large() -> None:
    for width in (1, 10, 10_000, 10**8):
        slices = list(blocks.blocks(10_000, width))
        assert [s.start for s in slices[1:]] == [s.stop for s in slices[:-1]]
        assert (slices[0].start, slices[-1].stop) == (0, 10_000)
        rows = max(s.stop - s.start for s in slices)
        assert rows == 1 or (rows <= 4096 and rows * width <= blocks.MOST_ELEMENTS)
    assert list(blocks.blocks(0, 5)) == []


@pytest.mark.parametrize("name", list(SCORES))
def test_predict_is_the_nearest_class_by_the_cosine_the_score_uses(name: str) -> None:
    space = make_space(3, fit=40, spread=0.6)
    assert space.fit is not None
    assert space.fit_labels is not None
    x = outliers(space, 0, 30).features
    mu = reference.prototypes(space.texts, space.fit.features, list(space.fit_labels), 0.9, 10)
    uses = mu if name in ("s_dis", "calibrated", "immuno_vlm", "immuno_vlm_paper") else space.texts
    # An adapter moves the image before the cosine is taken: see test_immuno_vlm_paper.
    fitted = make_score(name, **({"adapter": False} if name == "immuno_vlm_paper" else {})).fit(space)
    assert fitted.predict(x).tolist() == [int(np.argmax(reference.cosines(v, uses))) for v in x]
    assert fitted.predict(x[:0]).tolist() == []


def test_images_that_are_no_unit_vectors_of_the_space_are_refused() -> None:
    fitted = make_score("mcm").fit(make_space(0))
    x = unit_rows(np.random.default_rng(0), 3, 8)
    broken = x.copy()
    broken[2, 1] = np.inf
    bad: list[tuple[Any, str]] = [
        (x[:, :5], "5 dimensions where the class texts have 8"),
        (broken, r"NaN or infinity \(first: row 2\)"),
        (x * 1.01, "unit norm"),
        (np.zeros((1, 8), np.float32), "norm 0"),
        (x[0], "shape"),
        (np.ones((2, 8), np.int64), "int64"),
    ]
    for images, said in bad:
        for use in (fitted.score, fitted.predict):
            with pytest.raises(SetupError, match=said):
                use(images)


def test_embeddings_stored_in_half_precision_are_unit_enough() -> None:
    x = unit_rows(np.random.default_rng(0), 20, 8).astype(np.float16).astype(np.float32)
    assert make_score("mcm").fit(make_space(0)).score(x).shape == (20,)


@pytest.mark.parametrize(
    ("name", "params", "said"),
    [
        ("mmc", {}, "no score 'mmc'; did you mean 'mcm'"),
        ("calibratd", {}, "'calibrated'"),
        ("mcm", {"temprature": 1.0}, "no parameter 'temprature'; did you mean 'temperature'"),
        ("max_logit", {"temperature": 1.0}, "no parameter 'temperature'; it has none"),
        ("mcm", {"temperature": -1.0}, "temperature = -1.0: .* greater than"),
        ("energy", {"temperature": 0.0}, "temperature = 0.0"),
        ("mcm", {"temperature": float("nan")}, "temperature = nan"),
        ("mcm", {"temperature": "1"}, "temperature = '1'"),
        ("mcm", {"temperature": True}, "temperature = True"),
        ("eoe", {"beta": -0.1}, "beta = -0.1"),
        ("s_dis", {"lambda": 1.0}, "no parameter 'lambda'; did you mean 'lambda_inf'"),
        ("s_dis", {"lambda_inf": -1.0}, "lambda_inf = -1.0"),
        ("s_dis", {"alpha": 1.5}, "alpha = 1.5"),
        ("s_dis", {"xi": 7.0}, "xi = 7.0"),
        ("calibrated", {"eps": 0.0}, "eps = 0.0"),
        ("calibrated", {"eps": 1.0}, "eps = 1.0"),
        ("calibrated", {"beta": float("inf")}, "beta = inf"),
        ("calibrated", {"base": "max_cos"}, "base = 'max_cos': .*'max_cosine'"),
        ("calibrated", {"w": -0.1}, "w = -0.1"),
    ],
)
def test_unknown_names_and_wrong_values_are_refused_with_the_nearest_valid_one(
    name: str, params: dict[str, Any], said: str
) -> None:
    with pytest.raises(SetupError, match=said):
        make_score(name, **params)


def test_a_whole_number_is_a_number_and_params_name_every_value_in_force() -> None:
    assert make_score("mcm", temperature=2).params == {"temperature": 2.0}
    assert make_score("max_logit").params == {}
    assert set(make_score("calibrated").params) == {
        *("eps", "beta", "base", "alpha", "xi", "w", "v", "shrinkage", "margin", "combine", "guarded"),
        *("class_radii", "class_eps", "radii", "visual_eps", "visual_weight"),
    }
