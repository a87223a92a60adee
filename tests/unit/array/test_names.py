"""The names of the package: all public ones, no others, and errors for what is missing."""

from __future__ import annotations

import builtins
from typing import Any

import numpy
import pytest

import zcluster.array as da
from zcluster.errors import NotAvailable

np: Any = numpy  # NumPy is the model; its stubs do not know what is tried here

#: Of the array API standard, but for what is left out; see docs/array-api.md.
STANDARD = [
    "unique_all",
    "unique_counts",
    "unique_inverse",
    "unique_values",
    "nonzero",
    "searchsorted",
    "sort",
    "argsort",
    "matmul",
    "tensordot",
    "vecdot",
    "linalg",
    "e",
    "inf",
    "nan",
    "newaxis",
    "pi",
    "astype",
    "can_cast",
    "finfo",
    "iinfo",
    "isdtype",
    "result_type",
    "bool",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "float32",
    "float64",
    "complex64",
    "complex128",
    "arange",
    "asarray",
    "empty",
    "empty_like",
    "eye",
    "full",
    "full_like",
    "linspace",
    "meshgrid",
    "ones",
    "ones_like",
    "tril",
    "triu",
    "zeros",
    "zeros_like",
    "abs",
    "acos",
    "acosh",
    "add",
    "asin",
    "asinh",
    "atan",
    "atan2",
    "atanh",
    "bitwise_and",
    "bitwise_left_shift",
    "bitwise_invert",
    "bitwise_or",
    "bitwise_right_shift",
    "bitwise_xor",
    "ceil",
    "clip",
    "conj",
    "copysign",
    "cos",
    "cosh",
    "divide",
    "equal",
    "exp",
    "expm1",
    "floor",
    "floor_divide",
    "greater",
    "greater_equal",
    "hypot",
    "imag",
    "isfinite",
    "isinf",
    "isnan",
    "less",
    "less_equal",
    "log",
    "log1p",
    "log2",
    "log10",
    "logaddexp",
    "logical_and",
    "logical_not",
    "logical_or",
    "logical_xor",
    "maximum",
    "minimum",
    "multiply",
    "negative",
    "nextafter",
    "not_equal",
    "positive",
    "pow",
    "real",
    "reciprocal",
    "remainder",
    "round",
    "sign",
    "signbit",
    "sin",
    "sinh",
    "square",
    "sqrt",
    "subtract",
    "tan",
    "tanh",
    "trunc",
    "broadcast_arrays",
    "broadcast_to",
    "concat",
    "expand_dims",
    "flip",
    "moveaxis",
    "permute_dims",
    "repeat",
    "reshape",
    "roll",
    "squeeze",
    "stack",
    "tile",
    "unstack",
    "take",
    "take_along_axis",
    "matrix_transpose",
    "cumulative_prod",
    "cumulative_sum",
    "max",
    "mean",
    "min",
    "prod",
    "std",
    "sum",
    "var",
    "all",
    "any",
    "count_nonzero",
    "diff",
    "argmax",
    "argmin",
    "where",
    "__array_namespace_info__",
]


@pytest.mark.parametrize("name", STANDARD)
def test_the_standard_has_it(name: str) -> None:
    """A name of the array API is there."""
    assert hasattr(da, name)


def test_all_names_are_there_once() -> None:
    """And in `dir`, where nothing else is."""
    assert len(set(da.__all__)) == len(da.__all__)
    assert sorted(da.__all__) == dir(da)
    for name in da.__all__:
        assert hasattr(da, name), name
    assert "methods" not in dir(da)
    assert "np" not in dir(da)


def test_names_of_builtins_are_the_packages_own() -> None:
    """Not Python's functions."""
    for name in ("abs", "all", "any", "divmod", "max", "min", "pow", "round", "sum"):
        assert getattr(da, name) is not getattr(builtins, name)


TYPES = ["dtype", "finfo", "iinfo", "isdtype", "issubdtype", "promote_types"]


@pytest.mark.proves(
    *[f"array.{name}" for name in ("e", "euler_gamma", "inf", "nan", "newaxis", "pi", *TYPES)]
)
def test_constants() -> None:
    """NumPy's."""
    for name in ("e", "euler_gamma", "inf", "newaxis", "pi", *TYPES):
        assert getattr(da, name) is getattr(np, name) or getattr(da, name) == getattr(np, name)
    assert np.isnan(da.nan)


def test_missing_names() -> None:
    """Those of NumPy and Dask have a way round; others are plain errors."""
    with pytest.raises(NotAvailable, match="not available: "):
        da.poly  # noqa: B018
    with pytest.raises(AttributeError, match="no attribute"):
        da.nothing_like_it  # noqa: B018
    assert not hasattr(da, "poly")
