"""Systems of linear equations, inverses and determinants; the LU decomposition."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from zcluster.array.core import Array, asarray, elementwise, from_numpy, permuted, rechunked
from zcluster.array.expressions import Emitted, Expr, PartOf
from zcluster.array.linalg.definite import cholesky
from zcluster.array.linalg.kernels import adjoint, less_products, solved
from zcluster.array.linalg.orthogonal import cut, decomposition
from zcluster.array.linalg.panels import Gauss, Solution
from zcluster.array.linalg.preparing import (
    as_columns,
    batch,
    count_of,
    inexact,
    item,
    matrices,
    panel_chunks,
    real_type,
    square,
    squared,
    stacked,
)
from zcluster.array.linalg.products import matmul, tensordot
from zcluster.array.manipulation import astype, broadcast_to
from zcluster.array.reductions import prod, sum_
from zcluster.array.slicing import getitem
from zcluster.array.triangles import eye
from zcluster.errors import InvalidArgument

if TYPE_CHECKING:
    from zcluster.array.lowering import Codes, Lowering

__all__ = [
    "SlogdetResult",
    "det",
    "inv",
    "lstsq",
    "lu",
    "matrix_power",
    "slogdet",
    "solve",
    "solve_triangular",
]


class SlogdetResult(NamedTuple):
    """What `slogdet` returns."""

    sign: Array
    logabsdet: Array


# LU -----------------------------------------------------------------------------------------------


def lu(a: Any) -> tuple[Array, Array, Array]:
    """Return the LU decomposition with partial pivoting: ``a = P @ L @ U``.

    Needs SciPy where it is computed. The pivots are looked for in whole columns, as LAPACK does,
    so that the factors are those of `scipy.linalg.lu`.

    Parameters
    ----------
    a : array_like, shape (m, n)
        A task takes all rows of some columns.

    Returns
    -------
    P : Array, shape (m, m)
        A permutation.
    L : Array, shape (m, k)
        Lower triangular, with ones on the diagonal; k is the lesser of m and n.
    U : Array, shape (k, n)
        Upper triangular.

    Examples
    --------
    >>> p, l, u = lu([[1.0, 2.0], [2.0, 2.0]])
    >>> u.compute()
    array([[2., 2.],
           [0., 1.]])
    """
    array = _matrix(a, "lu")
    rows, columns = array.shape
    least = min(rows, columns)
    row_chunks, column_chunks = array.chunks
    if not array.size:
        shapes = ((rows, rows), (rows, least), (least, columns))
        types = (real_type(array.dtype), array.dtype, array.dtype)
        one, two, three = (
            from_numpy(np.eye(*shape, dtype=dtype))
            for shape, dtype in zip(shapes, types, strict=True)
        )
        return one, two, three
    widths = panel_chunks(array, least)
    made = Gauss(rechunked(array, ((rows,), widths)).expr, least)
    order = Array(PartOf(made, 2, "lu-order", ((rows,),), np.int64))
    numbers = from_numpy(np.arange(rows), (row_chunks,))
    equal = elementwise(
        np.equal,
        permuted(numbers, (0, None)),
        permuted(rechunked(order, (row_chunks,)), (None, 0)),
    )
    lower = Array(PartOf(made, 0, "lu-l", ((rows,), made.factored), array.dtype))
    upper = Array(PartOf(made, 1, "lu-u", ((least,), widths), array.dtype))
    return (
        astype(equal, real_type(array.dtype)),
        rechunked(lower, (row_chunks, cut(column_chunks, least))),
        rechunked(upper, (cut(row_chunks, least), column_chunks)),
    )


def _matrix(value: Any, what: str) -> Array:
    array = matrices(value, what)
    if array.ndim != 2:
        raise InvalidArgument(f"{what} of {array.ndim} dimensions; expected 2")
    return array


def slogdet(a: Any) -> SlogdetResult:
    """Return the sign of the determinant, and the logarithm of its modulus.

    Parameters
    ----------
    a : array_like, shape (..., n, n)

    Returns
    -------
    sign : Array, shape (...)
        Of a complex matrix, a number of modulus 1; 0 of a singular one.
    logabsdet : Array, shape (...)
        Minus infinity of a singular one.
    """
    array = square(a, "slogdet")
    dtype, real = array.dtype, real_type(array.dtype)
    if array.ndim > 2 or array.npartitions == 1 or not array.size:
        both = stacked("slogdet", _slogdet_block, [array], [2], (1,), dtype)
        return SlogdetResult(item(both, 0, 1, (), dtype), item(both, 1, 1, (), real))
    size = array.shape[0]
    made = Gauss(rechunked(array, ((size,), panel_chunks(array, size))).expr, size)
    chunks = ((1,) * len(made.factored), (2,))
    pivots = Array(PartOf(made, 3, "lu-pivots", chunks, dtype))
    sign, logarithm = (getitem(pivots, (slice(None), place)) for place in (0, 1))
    if dtype.kind == "c":
        logarithm = elementwise(np.real, logarithm)
    return SlogdetResult(prod(sign), sum_(logarithm))


def _slogdet_block(block: Any) -> Any:
    return tuple(np.linalg.slogdet(block))


def det(a: Any) -> Array:
    """Return the determinant.

    Parameters
    ----------
    a : array_like, shape (..., n, n)

    Examples
    --------
    >>> det([[1.0, 2.0], [3.0, 4.0]]).compute().round(6)
    np.float64(-2.0)
    """
    array = square(a, "det")
    if array.ndim > 2 or array.npartitions == 1 or not array.size:
        return stacked("det", np.linalg.det, [array], [2], (), array.dtype)
    sign, logarithm = slogdet(array)
    return sign * elementwise(np.exp, logarithm)


# Equations ----------------------------------------------------------------------------------------


def solve(a: Any, b: Any, sym_pos: Any = None, assume_a: str = "gen") -> Array:
    """Return x with ``a @ x = b``.

    Parameters
    ----------
    a : array_like, shape (..., n, n)
        In several blocks it needs SciPy where it is computed, unless it is positive definite.
    b : array_like, shape (n,) or (..., n, k)
    sym_pos : bool, optional
        The same as ``assume_a="pos"``.
    assume_a : {'gen', 'sym', 'her', 'pos', 'upper triangular', 'lower triangular'}
        What is known of `a`. Positive definite matrices are solved by Cholesky's decomposition,
        all others that are not triangular by Gauss's.

    Raises
    ------
    numpy.linalg.LinAlgError
        At once if `a` is not square; when it is computed, if it is singular.
    ValueError
        If the shapes do not fit.

    Examples
    --------
    >>> solve([[2.0, 0.0], [0.0, 4.0]], [2.0, 2.0]).compute()
    array([1. , 0.5])
    """
    left, right = _system(a, b, "solve")
    if sym_pos:
        assume_a = "pos"
    if assume_a not in _KINDS:
        raise InvalidArgument(f"assume_a={assume_a!r}; expected one of {', '.join(_KINDS)}")
    if assume_a.endswith("triangular"):
        return solve_triangular(left, right, lower=assume_a.startswith("lower"))
    if left.ndim > 2 or right.ndim > 2 or left.npartitions == 1 or not left.size:
        return _solved_stacks(left, right)
    columns = as_columns(right)
    if assume_a == "pos":
        factor = cholesky(left, lower=True)
        half = _substituted(factor, columns, True, False)
        found = _substituted(factor, half, True, True)
    else:
        size = left.shape[0]
        whole = rechunked(left, ((size,), panel_chunks(left, size)))
        others = rechunked(columns, ((size,), panel_chunks(columns, columns.shape[1])))
        made = Array(Solution([whole.expr, others.expr]))
        found = rechunked(made, (left.chunks[0], columns.chunks[1]))
    return permuted(found, (0,)) if right.ndim == 1 else found


_KINDS = ("gen", "sym", "her", "pos", "upper triangular", "lower triangular")


def _system(a: Any, b: Any, what: str) -> tuple[Array, Array]:
    """Return both sides of a system, of one type, after a look at their shapes."""
    left, right = inexact(a, b)
    left = square(left, what)
    if not right.ndim:
        raise InvalidArgument(f"{what}: the right-hand side has no dimensions; expected 1 or more")
    length = right.shape[0 if right.ndim == 1 else -2]
    if length != left.shape[-1]:
        raise InvalidArgument(
            f"{what}: the right-hand side has {length} rows; expected {left.shape[-1]}, as the "
            "matrix has"
        )
    return left, right


def _solved_stacks(left: Array, right: Array) -> Array:
    if right.ndim == 1:
        core, shape = 1, left.shape[-1:]
    else:
        core, shape = 2, right.shape[-2:]
    return stacked("solve", np.linalg.solve, [left, right], [2, core], shape, left.dtype)


def inv(a: Any) -> Array:
    """Return the inverse.

    Parameters
    ----------
    a : array_like, shape (..., n, n)
        In several blocks it needs SciPy where it is computed.

    Raises
    ------
    numpy.linalg.LinAlgError
        At once if it is not square; when it is computed, if it is singular.

    Examples
    --------
    >>> inv([[2.0, 0.0], [0.0, 4.0]]).compute()
    array([[0.5 , 0.  ],
           [0.  , 0.25]])
    """
    array = square(a, "inv")
    if array.ndim > 2 or array.npartitions == 1 or not array.size:
        return stacked("inv", np.linalg.inv, [array], [2], array.shape[-2:], array.dtype)
    own = max(array.chunks, key=len)
    unit = rechunked(eye(array.shape[0], dtype=array.dtype, chunks=max(own)), (own, own))
    return solve(rechunked(array, (own, own)), unit)


def matrix_power(a: Any, n: int) -> Array:
    """Return a matrix multiplied with itself, so often.

    Parameters
    ----------
    a : array_like, shape (..., m, m)
    n : int
        Below 0: of the inverse.

    Examples
    --------
    >>> matrix_power([[1, 1], [0, 1]], 5).compute()
    array([[1, 5],
           [0, 1]])
    """
    array = asarray(a)
    if array.ndim < 2 or array.shape[-1] != array.shape[-2]:
        raise np.linalg.LinAlgError(
            f"Last 2 dimensions of the array must be square: found shape {array.shape} for "
            "matrix_power"
        )
    try:
        power = n.__index__()
    except AttributeError:
        raise TypeError(f"exponent {n!r}: expected an integer") from None
    if power < 0:
        array, power = inv(array), -power
    if not power:
        unit = eye(array.shape[-1], dtype=array.dtype, chunks=max(array.chunks[-1]))
        return broadcast_to(unit, array.shape)
    found = None
    while power:
        if power & 1:
            found = array if found is None else matmul(found, array)
        power >>= 1
        if power:
            array = matmul(array, array)
    assert found is not None  # the highest bit is 1
    return found


# Triangles ----------------------------------------------------------------------------------------


def solve_triangular(a: Any, b: Any, lower: bool = False, *, unit_diagonal: bool = False) -> Array:
    """Return x with ``a @ x = b``, for a triangular matrix.

    Parameters
    ----------
    a : array_like, shape (n, n)
        Only one triangle is looked at.
    b : array_like, shape (n,) or (n, k)
    lower : bool
        It is the lower one.
    unit_diagonal : bool
        There are ones on the diagonal, whatever stands there.

    Raises
    ------
    numpy.linalg.LinAlgError
        At once if `a` is not square; when it is computed, if it is singular.

    Examples
    --------
    >>> solve_triangular([[2.0, 0.0], [1.0, 1.0]], [2.0, 3.0], lower=True).compute()
    array([1., 2.])
    """
    left, right = _system(a, b, "solve_triangular")
    if left.ndim > 2 or right.ndim > 2:
        raise NotImplementedError(
            "solve_triangular of stacks of matrices; expected one: solve() takes stacks, which is "
            "right for a triangle where the other one is made zero with tril or triu"
        )
    found = _substituted(left, as_columns(right), bool(lower), False, bool(unit_diagonal))
    return permuted(found, (0,)) if right.ndim == 1 else found


def _substituted(
    triangle: Array, right: Array, lower: bool, adjoint: bool, unit: bool = False
) -> Array:
    """Solve with a triangle, or with its adjoint."""
    whole = squared(triangle)
    rows = rechunked(right, (whole.chunks[0], right.chunks[1]))
    return Array(Substitution([whole.expr, rows.expr], lower, adjoint, unit))


class Substitution(Emitted):
    """The solution of a triangular system in blocks, row by row.

    The first input is the triangle, the second the right-hand side. Products are subtracted in
    batches, as in `cholesky`.

    Attributes
    ----------
    lower : bool
        The given triangle is the lower one.
    is_adjoint : bool
        The system has its conjugate transpose.
    unit : bool
        There are ones on its diagonal.
    """

    def __init__(self, inputs: Sequence[Expr], lower: bool, is_adjoint: bool, unit: bool) -> None:
        super().__init__("solve_triangular", inputs, inputs[1].chunks, inputs[1].dtype)
        self.lower = lower
        self.is_adjoint = is_adjoint
        self.unit = unit

    def token(self) -> Any:
        return (self.lower, self.is_adjoint, self.unit)

    def with_inputs(self, inputs: Sequence[Expr]) -> Expr:
        return Substitution(inputs, self.lower, self.is_adjoint, self.unit)

    def emit(self, lowering: Lowering) -> Codes:
        triangle, right = (lowering.codes(one) for one in self.inputs)
        if self.is_adjoint:
            triangle = triangle.T
        forward = self.lower != self.is_adjoint
        if not forward:  # the same, from the last row to the first
            triangle, right = triangle[::-1, ::-1], right[::-1]
        stem, _, token = self.name.rpartition("-")
        length, width = count_of(self.chunks[0]), count_of(self.chunks[1])
        size = batch(2 * length**2 * width)
        solve = _Solved(self.lower, self.is_adjoint, self.unit)
        update = _less_adjoint if self.is_adjoint else _less
        current = right.copy()
        found = np.empty_like(current)
        count, across = current.shape
        for k in range(count):
            ready = np.arange(k - k % size, k)
            inputs = np.empty((across, 2 + 2 * len(ready)), np.int64)
            inputs[:, 0], inputs[:, 1] = current[k], triangle[k, k]
            inputs[:, 2::2], inputs[:, 3::2] = triangle[k, ready], found[ready].T
            found[k] = lowering.add(f"{stem}_row-{k}-{token}", solve, inputs)
            below = count - k - 1
            if not below or (k + 1) % size:
                continue
            done = np.arange(k + 1 - size, k + 1)
            table = np.empty((below, across, 1 + 2 * size), np.int64)
            table[:, :, 0] = current[k + 1 :]
            table[:, :, 1::2] = triangle[k + 1 :, done][:, None]
            table[:, :, 2::2] = found[done].T[None]
            made = lowering.add(
                f"{stem}_update-{k}-{token}", update, table.reshape(below * across, -1)
            )
            current[k + 1 :] = made.reshape(below, across)
        return found if forward else found[::-1]


class _Solved:
    """Solves with a block of the diagonal, less products of blocks that are solved."""

    __slots__ = ("is_adjoint", "lower", "unit")

    def __init__(self, lower: bool, is_adjoint: bool, unit: bool) -> None:
        self.lower = lower
        self.is_adjoint = is_adjoint
        self.unit = unit

    __name__ = "solve"

    def __call__(self, block: Any, diagonal: Any, *pairs: Any) -> Any:
        rest = (_less_adjoint if self.is_adjoint else _less)(block, *pairs)
        if self.is_adjoint:
            diagonal = adjoint(diagonal)
        return solved(diagonal, rest, lower=self.lower != self.is_adjoint, unit=self.unit)


def _less(block: Any, *pairs: Any) -> Any:
    return less_products(block, pairs[::2], pairs[1::2])


def _less_adjoint(block: Any, *pairs: Any) -> Any:
    return less_products(block, [adjoint(one) for one in pairs[::2]], pairs[1::2])


# Least squares ------------------------------------------------------------------------------------


def lstsq(a: Any, b: Any, rcond: Any = None) -> tuple[Array, Array, Array, Array]:
    """Return x that makes ``a @ x - b`` as short as possible; of several, the shortest.

    Parameters
    ----------
    a : array_like, shape (m, n)
    b : array_like, shape (m,) or (m, k)
    rcond : float, optional
        Singular values below it, as a part of the largest, count as 0; by default the precision of
        the type times the longer side. Below 0: the precision.

    Returns
    -------
    x : Array, shape (n,) or (n, k)
    residuals : Array, shape (1,) or (k,)
        Sums of squares of what is left; empty if m is n or less. Where the rank is less than n
        NumPy gives none; here they are what they are.
    rank : Array, shape ()
    s : Array, shape (min(m, n),)
        Singular values.

    Examples
    --------
    >>> x, residuals, rank, s = lstsq([[1.0], [1.0]], [1.0, 3.0])
    >>> x.compute().round(6), residuals.compute().round(6)
    (array([2.]), array([2.]))
    """
    left, right = inexact(a, b)
    left = _matrix(left, "lstsq")
    rows, columns = left.shape
    if right.ndim not in (1, 2) or right.shape[0] != rows:
        raise InvalidArgument(
            f"lstsq: the right-hand side has shape {right.shape}; expected ({rows},) or ({rows}, k)"
        )
    if rcond is None:
        rcond = np.finfo(left.dtype).eps * max(rows, columns)
    target = as_columns(right)
    x, rank, s = _least_squares(left, target, rcond)
    if rows > columns:
        missed = elementwise(_squares, target - matmul(left, x), dtype=real_type(left.dtype))
        residuals = sum_(missed, axis=0)
    else:
        residuals = from_numpy(np.empty(0, real_type(left.dtype)))
    return (permuted(x, (0,)) if right.ndim == 1 else x), residuals, rank, s


def _least_squares(left: Array, target: Array, rcond: Any) -> tuple[Array, Array, Array]:
    """Solve by a QR decomposition of the longer side, and a small problem in one task."""
    rows, columns = left.shape
    if not left.size:
        return _small(left, target, rcond)
    if rows >= columns:
        q, r = decomposition(left)
        return _small(r, tensordot(_conjugate(q), target, axes=((0,), (0,))), rcond)
    q, r = decomposition(permuted(_conjugate(left), (1, 0)))
    x, rank, s = _small(permuted(_conjugate(r), (1, 0)), target, rcond)
    return matmul(q, x), rank, s


def _conjugate(array: Array) -> Array:
    return elementwise(np.conjugate, array) if array.dtype.kind == "c" else array


def _small(left: Array, right: Array, rcond: Any) -> tuple[Array, Array, Array]:
    (rows, columns), across = left.shape, right.shape[1]
    real = real_type(left.dtype)
    function = partial(_lstsq_block, rcond=rcond)
    both = stacked("lstsq", function, [left, right], [2, 2], (columns, across), left.dtype)
    return (
        item(both, 0, 2, (columns, across), left.dtype),
        item(both, 1, 2, (), np.int64),
        item(both, 2, 2, (min(rows, columns),), real),
    )


def _lstsq_block(left: Any, right: Any, rcond: Any) -> Any:
    x, _, rank, s = np.linalg.lstsq(left, right, rcond=rcond)
    return x, np.int64(rank), s


def _squares(block: Any) -> Any:
    return np.square(block.real) + np.square(block.imag)
