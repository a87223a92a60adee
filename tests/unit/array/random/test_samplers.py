"""A sampler draws any box; parameters follow the box."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zcluster.array.random.cells import local_generator
from zcluster.array.random.samplers import Draw, Method, Normals, Part, Weighted, normal_factor
from zcluster.protocol.tokens import tokenize

KEY = (5, 6)


def test_arrays_are_cut_to_the_box() -> None:
    """Along the last axes of the array; an axis of length 1 goes with any place."""
    rows, columns = np.arange(6.0).reshape(6, 1), np.arange(4.0)
    method = Method("uniform", (rows + columns, rows + columns + 1e-9))
    drawn = method(local_generator(KEY), (2, 1), (3, 2))
    assert np.allclose(drawn, (rows + columns)[2:5, 1:3])
    apart = Method("uniform", (rows, rows + 1e-9))(local_generator(KEY), (2, 1), (3, 2))
    assert np.allclose(apart, [[2, 2], [3, 3], [4, 4]])


def test_uniform_numbers_are_numpys() -> None:
    """Though they are made in another way where low and high are numbers."""
    drawn = Method("uniform", (-3, 5.5))(local_generator(KEY), (0, 0), (30, 40))
    assert np.allclose(drawn, local_generator(KEY).uniform(-3, 5.5, (30, 40)), rtol=1e-15)


def test_a_part_of_an_array_is_cut_from_where_it_begins() -> None:
    part = Part(np.arange(10.0, 20.0), (10,))
    method = Method("normal", (part, 0.0))
    assert method(local_generator(KEY), (12,), (3,)).tolist() == [12, 13, 14]


@given(st.integers(0, 5), st.integers(0, 7))
def test_a_draw_of_a_part_is_a_part_of_the_draw(start: int, count: int) -> None:
    """With parameters for each element, on both sides of the borders of cells."""
    lam = np.linspace(0.5, 50, 12_000).reshape(12, 1000)
    draw = Draw(Method("poisson", (lam,)), KEY, (12, 1000), np.dtype(int))
    assert draw.cell != (12, 1000)
    whole = draw((0, 0), (12, 1000))
    assert np.array_equal(draw((start, 100), (count, 800)), whole[start : start + count, 100:900])


def test_vectors_have_the_covariance_that_was_asked_for() -> None:
    """By each method, and with the mean; a sum of products of 40,000 vectors within 4 sigma."""
    cov = np.array([[2.0, 1.0, 0.0], [1.0, 3.0, -1.0], [0.0, -1.0, 1.0]])
    for method in ("svd", "eigh", "cholesky"):
        factor = normal_factor(cov, method)
        assert np.allclose(factor.T @ factor, cov)
    sampler = Normals(np.array([1.0, -2.0, 0.5]), normal_factor(cov, "svd"), "")
    drawn = Draw(sampler, KEY, (40_000,), np.dtype(float))((0, 0), (40_000, 3))
    sigma = np.sqrt(np.outer(np.diag(cov), np.diag(cov)) + cov**2) / 200
    assert (np.abs(np.cov(drawn.T) - cov) < 4 * sigma).all()
    assert (np.abs(drawn.mean(0) - sampler.mean) < 4 * np.sqrt(np.diag(cov)) / 200).all()


def test_a_covariance_without_full_rank_has_a_root() -> None:
    """Its small eigenvalues may come out below zero."""
    cov = np.ones((4, 4))
    for method in ("svd", "eigh"):
        factor = normal_factor(cov, method)
        assert np.allclose(factor.T @ factor, cov)


def test_indices_have_their_probabilities() -> None:
    drawn = Draw(Weighted(np.array([0.25, 0.25, 1.0])), KEY, (10_000,), np.dtype(int))(
        (0,), (10_000,)
    )
    counts = np.bincount(drawn, minlength=3)
    assert counts[1] == 0
    assert abs(counts[0] - 2500) < 4 * np.sqrt(10_000 * 0.25 * 0.75)


def test_numbers_may_be_indices_of_values() -> None:
    values = np.array(["a", "b", "c"])
    draw = Draw(Method("integers", (0, 3)), KEY, (50,), values.dtype, values)
    places = Draw(Method("integers", (0, 3)), KEY, (50,), np.dtype(int))
    assert np.array_equal(draw((10,), (20,)), values[places((0,), (50,))][10:30])


@pytest.mark.parametrize(
    "sampler",
    [
        Method("normal", (0.0, np.arange(3.0)), keywords={}),
        Method("random", (), keywords={"dtype": np.dtype("f4")}),
        Normals(np.zeros(2), np.eye(2), "x"),
        Weighted(np.array([0.5, 1.0])),
    ],
)
def test_draws_travel_and_have_tokens(sampler: Any) -> None:
    """The copy draws the same; the token is that of equals, and of no other key."""
    draw = Draw(sampler, KEY, (2, 3), np.dtype(float))
    copy = pickle.loads(pickle.dumps(draw))
    starts, shape = (0, 0) + (0,) * len(sampler.inner), (2, 3, *sampler.inner)
    assert np.array_equal(copy(starts, shape), draw(starts, shape))
    assert tokenize(copy) == tokenize(draw)
    assert tokenize(Draw(sampler, (5, 7), (2, 3), np.dtype(float))) != tokenize(draw)
    assert draw.__name__ in ("normal", "random", "multivariate_normal", "choice")
    assert len(pickle.dumps(draw)) < 1500


def test_an_array_without_axes_is_one_number() -> None:
    draw = Draw(Method("normal", (0.0, 1.0)), KEY, (), np.dtype(float))
    assert draw((), ()).shape == ()
    assert draw((), ()) == draw((), ())
