"""Every ufunc of NumPy's is here, and gives what NumPy's gives."""

from __future__ import annotations

from typing import Any

import numpy
import pytest

from zcluster.array import ufuncs
from zcluster.array.core import Array, from_numpy
from zcluster.collection.compute import compute

np: Any = numpy  # NumPy is the model; its stubs do not know what is tried here

NAMES = sorted(
    name
    for name in dir(np)
    if isinstance(getattr(np, name), np.ufunc) and getattr(np, name).signature is None
)

#: Few values of many kinds, with what is special among them.
OPERANDS = [
    np.array([True, False, True]),
    np.array([-3, 0, 7], "i1"),
    np.array([0, 5, 60_000], "u2"),
    np.array([[1], [-2]], "i8"),
    np.array([0.5, np.nan, -np.inf], "f4"),
    np.array([[0.25], [-0.0]], "f8"),
    np.array([1 + 2j, -1j, np.nan], "c8"),
    np.array(["2020-01-01", "NaT", "1969-12-31"], "M8[D]"),
    np.array([5, "NaT", -1], "m8[s]"),
]


def test_all_are_here() -> None:
    """Those of linear algebra are elsewhere."""
    assert set(NAMES) == set(ufuncs.__all__)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.proves(f"array.{name}")) for name in NAMES]
)
@pytest.mark.filterwarnings("ignore")
def test_equals(name: str) -> None:
    """Of all dtypes that it takes, broadcast; where NumPy refuses, it does so at the call."""
    of, ours = getattr(np, name), getattr(ufuncs, name)
    found: list[Array] = []
    expected: list[Any] = []
    for number, a in enumerate(OPERANDS):
        for b in OPERANDS[number % 2 :: 2] if of.nin == 2 else (a,):
            operands = (a, b)[: of.nin]
            lazy = [from_numpy(one, (1,) * one.ndim if number % 2 else -1) for one in operands]
            try:
                results = of(*operands)
            except (TypeError, ValueError) as error:
                with pytest.raises(type(error)):
                    _compute(ours(*lazy))
                continue
            made = ours(*lazy)
            found += [made] if of.nout == 1 else made
            expected += [results] if of.nout == 1 else results
    assert found
    for lazy_one, value, result in zip(
        found, compute(*found, scheduler="sync"), expected, strict=True
    ):
        assert (lazy_one.dtype, lazy_one.shape) == (result.dtype, result.shape)
        assert value.dtype == result.dtype
        np.testing.assert_array_equal(value, result)


def _compute(found: Any) -> None:
    compute(found, scheduler="sync")


@pytest.mark.parametrize(
    ("name", "same"), [("abs", "absolute"), ("mod", "remainder"), ("true_divide", "divide")]
)
def test_two_names_are_one_object(name: str, same: str) -> None:
    """As they are in NumPy."""
    assert getattr(ufuncs, name) is getattr(ufuncs, same)
