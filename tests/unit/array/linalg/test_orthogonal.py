"""QR decompositions of every shape and chunking."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zcluster.array.core import Array, from_numpy
from zcluster.array.expressions import PartOf
from zcluster.array.linalg import orthogonal, panels, preparing
from zcluster.array.linalg.orthogonal import cut, qr, sfqr
from zcluster.array.lowering import lower_arrays

Near = Callable[..., None]
Matrix = Callable[..., Any]
Chunked = Callable[[int], st.SearchStrategy[tuple[int, ...]]]


@pytest.fixture(params=[(2, 1), (3, 2)], ids=["narrow", "batched"])
def panel_width(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Panels of the usual width hold small matrices whole; narrow ones do not."""
    width, batch = request.param
    monkeypatch.setattr(preparing, "_NARROW", width)
    monkeypatch.setattr(panels, "batch", lambda work: batch)


def check(found: tuple[Array, Array], a: Any, near: Near) -> None:
    q, r = (one.compute(scheduler="sync") for one in found)
    least = min(a.shape[-2:])
    assert found[0].shape == q.shape == (a.shape[0], least)
    assert found[1].shape == r.shape == (least, a.shape[1])
    assert found[0].dtype == q.dtype == r.dtype == a.dtype
    eps = 1e3 * np.finfo(a.dtype).eps
    np.testing.assert_allclose(q @ r, a, atol=eps * max(1, np.abs(a).max(initial=1)))
    np.testing.assert_allclose(q.conj().T @ q, np.eye(least), atol=eps)
    np.testing.assert_array_equal(np.tril(r, -1), 0)


@pytest.mark.proves("array.linalg.qr")
@pytest.mark.usefixtures("panel_width")
@pytest.mark.parametrize("shape", [(13, 13), (40, 4), (4, 40), (13, 9), (1, 7), (0, 3)])
@pytest.mark.parametrize("chunks", [(4, 3), (3, -1), (-1, 2), (-1, -1)])
def test_any_shape_in_any_chunks(
    shape: tuple[int, int], chunks: Any, inexact: str, matrix: Matrix, near: Near
) -> None:
    a = matrix(*shape, inexact)
    x = from_numpy(a, chunks)
    check(qr(x), a, near)
    q, r = qr(x)
    expected = np.linalg.qr(a)  # the same but for signs
    for found, one in ((q, expected[0]), (r, expected[1])):
        near(abs(found), abs(one), 100)


@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_tall_matrices_go_in_a_tree(data: st.DataObject, chunked: Chunked, near: Near) -> None:
    """Blocks of any height, also with fewer rows than columns, and empty ones."""
    rows, columns = data.draw(st.integers(1, 60)), data.draw(st.integers(1, 4))
    a = np.random.default_rng(rows).standard_normal((rows, columns))
    own = data.draw(chunked(rows))
    x = from_numpy(a, (own, (columns,)))
    if rows >= columns:
        made = orthogonal.TallSkinny(x.expr)
        q = Array(PartOf(made, 0, "q", made.chunks, a.dtype))
        if len(own) > 1:
            check((q, orthogonal._triangle_of(made)), a, near)
    check(qr(x), a, near)


def test_columns_of_zeros_and_dependent_ones(matrix: Matrix, near: Near) -> None:
    a = matrix(30, 6)
    a[:, 2] = 0
    a[:, 4] = a[:, 0]
    for chunks in ((5, 6), (10, 2), (30, 2)):
        check(qr(from_numpy(a, chunks)), a, near)


def test_a_badly_conditioned_matrix_has_an_orthonormal_q(near: Near) -> None:
    """Methods that project by products lose this."""
    a = np.vander(np.linspace(0, 1, 60), 20)
    for chunks in ((10, 20), (10, 5), (60, 5)):
        check(qr(from_numpy(a, chunks)), a, near)


def test_the_triangle_alone(matrix: Matrix, near: Near) -> None:
    """Nothing that makes Q is in its graph."""
    a = matrix(40, 3)
    r = qr(from_numpy(a, (8, 3)), mode="r")
    near(abs(r), abs(np.linalg.qr(a).R))
    graph, _ = lower_arrays([r.expr])
    assert not any("_q-" in layer.name for layer in graph.layers)
    with pytest.raises(NotImplementedError, match="map_blocks"):
        qr(from_numpy(a, 8), mode="complete")


def test_stacks(matrix: Matrix, near: Near) -> None:
    a = matrix(24, 3).reshape(4, 6, 3)
    q, r = qr(from_numpy(a, (3, 2, 2)))
    near(q, np.linalg.qr(a)[0])
    near(r, np.linalg.qr(a)[1])


@pytest.mark.proves("array.linalg.sfqr")
def test_short_and_fat(matrix: Matrix, near: Near) -> None:
    a = matrix(5, 40)
    expected = np.linalg.qr(a)
    q, r = sfqr(from_numpy(a, (5, 7)))
    near(q, expected[0])
    near(r, expected[1])
    with pytest.raises(ValueError, match="one chunk of rows"):
        sfqr(from_numpy(a, 3))


def test_the_beginning_of_chunks() -> None:
    assert cut((3, 3, 3), 7) == (3, 3, 1)
    assert cut((3, 3), 3) == (3,)
    assert cut((3,), 0) == (0,)
