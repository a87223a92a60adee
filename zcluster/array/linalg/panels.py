"""Decompositions that go through a matrix by panels: some columns, all rows.

LU with partial pivoting and Householder's QR look at whole columns, so a **panel** is one task's
block. Each is factored when what the panels before it do to it is done, and changes all panels
after it::

    for each panel k:   factor(k):      panel k             -> what it does to others
                        update(k, j):   panel j, factor(k)  -> panel j,   for all j > k

As in `cholesky`, several panels' changes are made by one task where one would not be worth it: a
panel takes those of a whole **batch** of panels at a time, and what is left of an unfinished
batch just before it is factored. The values are what LAPACK would get with the same panels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from zcluster.array.chunks import AxisChunks, bounds
from zcluster.array.expressions import Emitted, Expr
from zcluster.array.linalg.kernels import adjoint, factored_lu, householder, solved
from zcluster.array.linalg.preparing import batch
from zcluster.array.rows import Rows

if TYPE_CHECKING:
    from zcluster.array.lowering import Codes, Lowering

__all__ = ["Gauss", "Householder", "Solution"]


@dataclass(eq=False)
class _Steps:
    """What is done to panels.

    Attributes
    ----------
    factor : callable
        ``factor(constant, panel, *factors)``: applies factors to the panel and factors the rest.
        The constant holds the rows that are done with.
    update : callable
        ``update(panel, *factors)``: applies factors to a panel.
    """

    factor: Callable[..., Any]
    update: Callable[..., Any]


@dataclass(eq=False)
class _Eliminated:
    """Codes of what came of it: factors of panels, and panels that were only changed."""

    factors: Codes
    others: Codes


def _eliminated(
    lowering: Lowering,
    name: str,
    steps: _Steps,
    panels: Codes,
    others: Codes,
    lengths: AxisChunks,
    size: int,
) -> _Eliminated:
    """Factor panels one after the other, and change all that stand right of them.

    Parameters
    ----------
    panels, others : ndarray of int64
        Codes: what is factored, and what is changed only.
    lengths : tuple of int
        The columns of the panels that are factored.
    size : int
        Panels in a batch.
    """
    stem, _, token = name.rpartition("-")
    count = len(panels)
    current = np.concatenate([panels, others])
    factors = np.empty(count, np.int64)
    starts = bounds(lengths)
    for k in range(count):
        ready = factors[k - k % size : k]
        (factors[k],) = lowering.add(
            f"{stem}_factor-{k}-{token}",
            steps.factor,
            np.concatenate([current[k : k + 1], ready])[None],
            constants=Rows.fixed(starts[k : k + 1, None]),
        )
        is_last = k + 1 == count
        left = current[count:] if is_last else current[k + 1 :]
        if len(left) and (is_last or (k + 1) % size == 0):
            done = factors[k - k % size : k + 1]
            inputs = np.concatenate(
                [left[:, None], np.broadcast_to(done, (len(left), len(done)))], axis=1
            )
            left[:] = lowering.add(f"{stem}_update-{k}-{token}", steps.update, inputs)
    return _Eliminated(factors, current[count:])


def _each(
    lowering: Lowering,
    name: str,
    part: str,
    function: Callable[..., Any],
    inputs: Any,
    **kwargs: Any,
) -> Codes:
    """Add a layer named after a part of a decomposition."""
    stem, _, token = name.rpartition("-")
    return lowering.add(f"{stem}_{part}-{token}", function, inputs, **kwargs)


class _Panelled(Emitted):
    """A decomposition of a matrix in panels: all rows in one chunk.

    Attributes
    ----------
    border : int
        Columns that are factored; a chunk ends there.
    """

    def __init__(self, label: str, inputs: Sequence[Expr], border: int) -> None:
        super().__init__(label, inputs, inputs[0].chunks, inputs[0].dtype)
        self.border = border

    def token(self) -> Any:
        return self.border

    @property
    def factored(self) -> AxisChunks:
        """The columns of each panel that is factored."""
        points = bounds(self.inputs[0].chunks[1])
        count = int(np.searchsorted(points, self.border))
        return self.inputs[0].chunks[1][:count]

    @property
    def size(self) -> int:
        """Panels in a batch."""
        rows, width = self.inputs[0].shape[0], max(self.inputs[0].chunks[1])
        return batch(2.0 * rows * width**2)


# LU -----------------------------------------------------------------------------------------------


class Gauss(_Panelled):
    """The LU decomposition: L and U by panels, the order of the rows, and signs and logarithms.

    Its parts, as `PartOf` counts them: 0: L, by panels; 1: U, by panels; 2: which row of the matrix
    is row ``i`` of ``L U``, in one block; 3: a block for each panel, of the sign and the logarithm
    of the modulus of the product of its pivots.
    """

    def __init__(self, source: Expr, border: int) -> None:
        super().__init__("lu", [source], border)

    def with_inputs(self, inputs: Sequence[Expr]) -> Expr:
        return Gauss(inputs[0], self.border)

    def emit(self, lowering: Lowering) -> Sequence[Codes]:
        codes = lowering.codes(self.inputs[0]).ravel()
        lengths = self.factored
        count = len(lengths)
        done = _eliminated(
            lowering, self.name, _gauss, codes[:count], codes[count:], lengths, self.size
        )
        orders = _each(lowering, self.name, "order", order_of, done.factors[:, None])
        later = np.empty(count, np.int64)  # how each panel's rows are moved by those after it
        later[-1] = orders[-1]
        stem, _, token = self.name.rpartition("-")
        for k in range(count - 2, -1, -1):
            (later[k],) = lowering.add(
                f"{stem}_moved-{k}-{token}", moved, [[orders[k], later[k + 1]]]
            )
        starts = Rows.fixed(np.stack([bounds(lengths)[:-1], bounds(lengths)[1:]], axis=1))
        pairs = Rows.of(
            np.append(np.arange(count) * 2, 2 * count - 1),
            np.stack([done.factors, np.append(later[1:], -1)], axis=1).ravel()[:-1],
        )
        lower = _each(lowering, self.name, "lower", lower_of, pairs, constants=starts)
        border = Rows.fixed(np.full((count, 1), self.border))
        upper = _each(
            lowering, self.name, "upper", upper_of, done.factors[:, None], constants=border
        )
        if len(done.others):
            border = Rows.fixed(np.full((len(done.others), 1), self.border))
            rest = _each(
                lowering, self.name, "right", top_of, done.others[:, None], constants=border
            )
            upper = np.concatenate([upper, rest])
        pivots = _each(
            lowering, self.name, "pivots", pivots_of, done.factors[:, None], constants=starts
        )
        return [lower[None], upper[None], later[:1], pivots[:, None]]


class Solution(_Panelled):
    """What a square matrix must be multiplied with to give another, by Gaussian elimination.

    The inputs are the matrix and the other one, both in panels. The other's panels are changed
    with those of the matrix; then the upper triangle is solved from the last panel to the first.
    """

    def __init__(self, inputs: Sequence[Expr]) -> None:
        super().__init__("solve", inputs, inputs[0].shape[1])
        self.chunks = inputs[1].chunks

    def with_inputs(self, inputs: Sequence[Expr]) -> Expr:
        return Solution(inputs)

    def emit(self, lowering: Lowering) -> Codes:
        panels, others = (lowering.codes(one).ravel() for one in self.inputs)
        lengths, size = self.factored, self.size
        done = _eliminated(lowering, self.name, _gauss_strict, panels, others, lengths, size)
        stem, _, token = self.name.rpartition("-")
        starts, current, count = bounds(lengths), done.others, len(lengths)
        for last in range(count, 0, -size):
            first = max(last - size, 0)
            factors = done.factors[first:last][::-1]
            inputs = np.concatenate(
                [current[:, None], np.broadcast_to(factors, (len(current), len(factors)))], axis=1
            )
            points = np.broadcast_to(
                starts[first : last + 1][::-1], (len(current), last - first + 1)
            )
            name = f"{stem}_back-{first}-{token}" if first else self.name
            current = lowering.add(name, substituted, inputs, constants=Rows.fixed(points))
        return current[None]


def _integers(constant: Any) -> list[int]:
    """Return the row of a task."""
    return memoryview(constant).cast("q").tolist()


def gauss_factor(constant: Any, panel: Any, *factors: Any) -> Any:
    """Factor a panel; the result is (packed, order of rows, rows done before)."""
    (done,) = _integers(constant)
    return (*factored_lu(gauss_update(panel, *factors), done, is_strict=False), done)


def gauss_factor_strict(constant: Any, panel: Any, *factors: Any) -> Any:
    """Do the same; a pivot of zero is an error."""
    (done,) = _integers(constant)
    return (*factored_lu(gauss_update(panel, *factors), done, is_strict=True), done)


def gauss_update(panel: Any, *factors: Any) -> Any:
    """Do to a panel what panels before it do."""
    for packed, order, done in factors:
        panel = panel[order]  # a copy
        width = min(packed.shape[1], len(panel) - done)
        triangle = packed[done : done + width, :width]
        top = solved(triangle, panel[done : done + width], lower=True, unit=True)
        panel[done : done + width] = top
        panel[done + width :] -= np.matmul(packed[done + width :, :width], top)
    return panel


_gauss = _Steps(gauss_factor, gauss_update)
_gauss_strict = _Steps(gauss_factor_strict, gauss_update)


def order_of(factor: Any) -> Any:
    """Return how a factored panel moves rows."""
    return factor[1]


def moved(order: Any, later: Any) -> Any:
    """Return how rows are moved by a panel and all after it."""
    return order[later]


def lower_of(constant: Any, factor: Any, later: Any = None) -> Any:
    """Return a panel of L: unit lower trapezoidal, its rows moved as panels after it moved them."""
    first, last = _integers(constant)
    packed = factor[0] if later is None else factor[0][later]
    width = last - first
    made = np.zeros_like(packed, shape=(len(packed), width), order="C")
    made[first:] = np.tril(packed[first:, :width], -1)
    np.fill_diagonal(made[first:], 1)
    return made


def upper_of(constant: Any, factor: Any) -> Any:
    """Return a panel of U."""
    packed, _, done = factor
    (rows,) = _integers(constant)
    made = np.array(packed[:rows], order="C")
    made[done:] = np.triu(made[done:])
    return made


def top_of(constant: Any, panel: Any) -> Any:
    """Return the first rows of a panel."""
    (rows,) = _integers(constant)
    return panel[:rows]


def pivots_of(constant: Any, factor: Any) -> Any:
    """Return the sign and the logarithm of the modulus of a panel's part of the determinant."""
    first, last = _integers(constant)
    packed, order, _ = factor
    pivots = np.diagonal(packed[first:last])
    modulus = np.abs(pivots)
    if not modulus.all():
        return np.array([[0, -np.inf]], packed.dtype)
    sign = np.prod(pivots / modulus) * _parity(order)
    return np.array([[sign, np.log(modulus).sum()]], packed.dtype)


def _parity(order: Any) -> int:
    """Return 1 for an even permutation, -1 for an odd one."""
    left = order.tolist()
    sign = 1
    for place in range(len(left)):
        while left[place] != place:
            other = left[place]
            left[place], left[other] = left[other], left[place]
            sign = -sign
    return sign


def substituted(constant: Any, block: Any, *factors: Any) -> Any:
    """Solve rows of an upper triangular system, from the last to the first of some panels."""
    points = _integers(constant)  # rows, from the last to the first
    block = block.copy()
    for (packed, _, _), last, first in zip(factors, points[:-1], points[1:], strict=True):
        own = solved(packed[first:last], block[first:last], lower=False)
        block[first:last] = own
        block[:first] -= np.matmul(packed[:first], own)
    return block


# QR -----------------------------------------------------------------------------------------------


class Householder(_Panelled):
    """The QR decomposition. Its parts: 0: Q by panels; 1: R by panels."""

    def __init__(self, source: Expr, border: int) -> None:
        super().__init__("qr", [source], border)

    def with_inputs(self, inputs: Sequence[Expr]) -> Expr:
        return Householder(inputs[0], self.border)

    def emit(self, lowering: Lowering) -> Sequence[Codes]:
        codes = lowering.codes(self.inputs[0]).ravel()
        lengths, size = self.factored, self.size
        count = len(lengths)
        done = _eliminated(
            lowering, self.name, _householder, codes[:count], codes[count:], lengths, size
        )
        border = Rows.fixed(np.full((count, 1), self.border))
        upper = _each(
            lowering, self.name, "upper", first_rows, done.factors[:, None], constants=border
        )
        if len(done.others):
            border = Rows.fixed(np.full((len(done.others), 1), self.border))
            rest = _each(
                lowering, self.name, "right", top_of, done.others[:, None], constants=border
            )
            upper = np.concatenate([upper, rest])
        return [self._orthogonal(lowering, done.factors, lengths)[None], upper[None]]

    def _orthogonal(self, lowering: Lowering, factors: Codes, lengths: AxisChunks) -> Codes:
        """Add layers that make Q of the columns of the identity, with the last factors first."""
        starts, size, count = bounds(lengths), self.size, len(lengths)
        sides = np.stack([starts[:-1], starts[1:], np.full(count, self.shape[0])], axis=1)
        current = _each(
            lowering,
            self.name,
            "unit",
            _Unit(self.dtype.str),
            None,
            count=count,
            constants=Rows.fixed(sides),
        )
        stem, _, token = self.name.rpartition("-")
        for first in range((count - 1) // size * size, -1, -size):
            last = min(first + size, count)
            # Factors after a panel's own do nothing to it: there are zeros below.
            own = np.arange(first, count)
            taken = np.minimum(own + 1, last) - first
            points = np.zeros(len(own) + 1, np.int64)
            np.cumsum(1 + taken, out=points[1:])
            values = np.empty(points[-1], np.int64)
            values[points[:-1]] = current[first:]
            place = np.arange(len(values)) - np.repeat(points[:-1], 1 + taken)
            inner = place > 0
            values[inner] = factors[(np.repeat(first + taken, 1 + taken) - place)[inner]]
            current[first:] = lowering.add(
                f"{stem}_apply-{first}-{token}", reflected, Rows.of(points, values)
            )
        return current


def qr_factor(constant: Any, panel: Any, *factors: Any) -> Any:
    """Factor a panel; the result is (panel with R, V, T), see `kernels.householder`."""
    (done,) = _integers(constant)
    return householder(qr_update(panel, *factors), done)


def qr_update(panel: Any, *factors: Any) -> Any:
    """Do to a panel what panels before it do."""
    if not factors:
        return panel
    panel = panel.copy()
    for _, vectors, inner in factors:
        below = panel[len(panel) - len(vectors) :]
        below -= vectors @ (adjoint(inner) @ (adjoint(vectors) @ below))
    return panel


def reflected(panel: Any, *factors: Any) -> Any:
    """Apply reflections to a panel of Q, the last one first."""
    panel = panel.copy()
    for _, vectors, inner in factors:
        below = panel[len(panel) - len(vectors) :]
        below -= vectors @ (inner @ (adjoint(vectors) @ below))
    return panel


_householder = _Steps(qr_factor, qr_update)


def first_rows(constant: Any, factor: Any) -> Any:
    """Return the first rows of a factored panel."""
    (rows,) = _integers(constant)
    return factor[0][:rows]


class _Unit:
    """Columns of the identity; the constant of a task says which, and how long they are."""

    __slots__ = ("dtype",)

    def __init__(self, dtype: str) -> None:
        self.dtype = dtype

    __name__ = "eye"

    def __call__(self, constant: Any) -> Any:
        first, last, rows = _integers(constant)
        return np.eye(rows, last - first, -first, self.dtype)
