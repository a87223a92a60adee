"""Functions that go element by element give what NumPy's give."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zcluster.array import functions as f
from zcluster.array.core import from_numpy

np: Any = numpy  # NumPy is the model; its stubs do not know what is tried here

FAST = settings(max_examples=15, deadline=None)

Agrees = Callable[..., None]


@pytest.mark.proves(
    "array.clip",
    "array.Array.clip",
    "array.around",
    "array.round",
    "array.Array.round",
    "array.fix",
    "array.real",
    "array.Array.real",
    "array.imag",
    "array.Array.imag",
    "array.angle",
    "array.iscomplex",
    "array.isreal",
    "array.iscomplexobj",
    "array.isrealobj",
    "array.isposinf",
    "array.isneginf",
    "array.nan_to_num",
    "array.i0",
    "array.sinc",
    "array.Array.conj",
    "array.Array.conjugate",
)
@pytest.mark.filterwarnings("ignore")
@given(data=st.data())
@FAST
def test_of_one_array(data: st.DataObject, arrays: Any, agrees: Agrees) -> None:
    """Real and complex, with NaN and infinities."""
    a, chunks = data.draw(arrays(dtypes=("i8", "f4", "f8", "c16")))
    if a.dtype.kind == "f" and data.draw(st.booleans()):
        a = np.where(a == 2, np.inf, np.where(a == 3, -np.inf, a)).astype(a.dtype)
    x = from_numpy(a, chunks)
    for name in ("real", "imag", "angle", "iscomplex", "isreal", "sinc"):
        agrees(getattr(f, name)(x), getattr(np, name)(a))
    agrees(x.real, a.real)
    agrees(x.imag, a.imag)
    agrees(x.conj(), a.conj())
    agrees(f.nan_to_num(x, nan=5, posinf=1), np.nan_to_num(a, nan=5, posinf=1))
    agrees(x.round(1), a.round(1))
    assert (f.iscomplexobj(x), f.isrealobj(x)) == (np.iscomplexobj(a), np.isrealobj(a))
    if a.dtype.kind == "c":
        return
    for name in ("fix", "i0", "isposinf", "isneginf"):
        agrees(getattr(f, name)(x), getattr(np, name)(a))
    agrees(x.clip(-1, 2), a.clip(-1, 2))
    agrees(f.clip(x, None, a), np.clip(a, None, a))
    agrees(f.clip(x, min=1), np.clip(a, min=1))


@pytest.mark.proves("array.isnull", "array.notnull")
def test_missing_values(agrees: Agrees) -> None:
    """NaN, NaT and None; integers miss nothing."""
    for a, missing in (
        (np.array([1.0, np.nan]), [False, True]),
        (np.array(["2020", "NaT"], "M8[D]"), [False, True]),
        (np.array([None, 1, np.nan], object), [True, False, True]),
        (np.array([1, 2]), [False, False]),
    ):
        x = from_numpy(a, 1)
        agrees(f.isnull(x), np.array(missing))
        agrees(f.notnull(x), ~np.array(missing))


@pytest.mark.proves("array.isclose", "array.allclose", "array.array_equal", "array.array_equiv")
@given(data=st.data())
@FAST
def test_comparing(data: st.DataObject, arrays: Any, agrees: Agrees) -> None:
    """Of equal arrays, of nearly equal ones, and of others."""
    a, chunks = data.draw(arrays(dtypes=("i8", "f8"), length=(0, 4)))
    b = a + data.draw(st.sampled_from([0, 1e-9, 1]))
    same = data.draw(st.booleans())
    x = from_numpy(a, chunks)
    agrees(f.isclose(x, b, equal_nan=same), np.isclose(a, b, equal_nan=same))
    agrees(f.allclose(x, b, equal_nan=same), np.allclose(a, b, equal_nan=same))
    agrees(f.array_equal(x, b, equal_nan=same), np.array_equal(a, b, equal_nan=same))
    agrees(f.array_equal(x, [1]), np.array_equal(a, [1]))
    agrees(f.array_equiv(x, b), np.array_equiv(a, b))
    agrees(f.array_equiv(x, np.ones(5)), np.array_equiv(a, np.ones(5)))


@pytest.mark.proves(
    "array.where",
    "array.choose",
    "array.Array.choose",
    "array.select",
    "array.piecewise",
    "array.interp",
)
@given(data=st.data())
@FAST
def test_choosing(data: st.DataObject, arrays: Any, agrees: Agrees) -> None:
    """Conditions, numbers and places of which each says what to take."""
    a, chunks = data.draw(arrays(dtypes=("i8", "f4"), ndim=(1, 2), length=(1, 6), nan=False))
    x, mask = from_numpy(a, chunks), a > 0
    where = from_numpy(mask, chunks)
    agrees(f.where(where, x, 7), np.where(mask, a, 7))
    agrees(f.where(mask, 1.5, x), np.where(mask, 1.5, a))
    agrees(f.where(True, x, 0), np.where(True, a, 0))
    places = abs(a.astype(int)) % 2
    agrees(f.choose(from_numpy(places, chunks), [x, a * 2]), np.choose(places, [a, a * 2]))
    agrees(from_numpy(places, 1).choose([10, 20]), places.choose([10, 20]))
    agrees(f.select([where, x < -1], [x, a * 2.5], 9), np.select([mask, a < -1], [a, a * 2.5], 9))
    both = [lambda v, k: v * k, 3, lambda v, k: -v]
    agrees(f.piecewise(x, [where, x < -1], both, 2), np.piecewise(a, [mask, a < -1], both, 2))
    if a.ndim == 1:
        agrees(f.piecewise(x, where, [1]), np.piecewise(a, mask, [1]))
    known = ([-2.0, 0.0, 3.0], [5.0, 6.0, 1.0])
    agrees(f.interp(x, *known), np.interp(a, *known))
    agrees(
        f.interp(x, from_numpy(np.array(known[0]), 2), known[1], -1, -2),
        np.interp(a, *known, -1, -2),
    )
    agrees(f.interp(x, *known, period=4), np.interp(a, *known, period=4))


def test_where_of_a_condition_alone() -> None:
    """The places where it is true."""
    a = np.array([[0, 1], [2, 0]])
    found = f.where(from_numpy(a, 1))
    for one, expected in zip(found, np.where(a), strict=True):
        np.testing.assert_array_equal(one.compute(scheduler="sync"), expected)


def test_numpy_answers_where_nothing_is_lazy() -> None:
    """At once, with all of its keywords."""
    a = np.array([1.5, np.nan])
    for found in (
        f.clip(a, 0, 1),
        f.round_(a),
        f.fix(a),
        f.real(a),
        f.imag(a),
        f.angle(a),
        f.iscomplex(a),
        f.isreal(a),
        f.isposinf(a),
        f.isneginf(a),
        f.nan_to_num(a),
        f.i0(a),
        f.sinc(a),
        f.isclose(a, a),
        f.where(a > 1, a, 0),
        f.choose(np.array([0]), [a[:1]]),
        f.select([a > 1], [a]),
        f.piecewise(a, [a > 1], [1]),
        f.interp(a, [0, 1], [0, 1]),
    ):
        assert isinstance(found, np.ndarray)
    assert not f.allclose(a, a)
    assert not f.iscomplexobj(a)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda x: f.where(x > 0, x), ValueError),
        (lambda x: f.choose(x, [1]), TypeError),
        (lambda x: f.select([x > 0], []), ValueError),
        (lambda x: f.select([], []), ValueError),
        (lambda x: f.select([x], [x]), TypeError),
        (lambda x: f.piecewise(x, [x > 0], [1, 2, 3]), ValueError),
        (lambda x: f.interp(x, [0, 1], [0]), ValueError),
        (lambda x: f.clip(x, 0, 1, out=np.ones(3)), NotImplementedError),
    ],
)
def test_errors(call: Callable[[Any], Any], error: type[Exception]) -> None:
    """At the call."""
    with pytest.raises(error):
        call(from_numpy(np.ones(3)))


def test_out(agrees: Agrees) -> None:
    """An array in chunks can be the target."""
    x = from_numpy(np.array([1.2, 3.7]), 1)
    target = from_numpy(np.zeros(2))
    assert f.clip(x, 2, 3, out=target) is target
    agrees(target, np.array([2.0, 3.0]))
