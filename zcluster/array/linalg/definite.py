"""The Cholesky decomposition of a matrix in blocks.

With ``A = L L*``, the blocks of a column of L are made of those in the columns before::

    L[k, k] = cholesky(A[k, k] - sum over j < k of L[k, j] L[k, j]*)
    L[i, k] = (A[i, k] - sum over j < k of L[i, j] L[k, j]*) / L[k, k]*

Each line is one task, which subtracts several products and then factors or solves. So as not to
leave all subtracting to the end, when the last column is there, what is there already is
subtracted a **batch** of columns at a time: ``A[i, k] - L[i, j0:j1] L[k, j0:j1]*`` is a task for
each block to the right of the batch, of the batch's blocks side by side. Large blocks go in batches
of one column, which is the algorithm that looks furthest ahead; small ones in larger batches, which
take far fewer tasks.

The upper factor is the adjoint of the lower one, made of the blocks above the diagonal.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from zcluster.array.core import Array
from zcluster.array.expressions import Emitted, Expr
from zcluster.array.linalg.kernels import adjoint, less_products, solved
from zcluster.array.linalg.preparing import batch, count_of, square, squared, stacked
from zcluster.array.rows import Rows

if TYPE_CHECKING:
    from zcluster.array.lowering import Codes, Lowering

__all__ = ["Cholesky", "cholesky"]


def cholesky(a: Any, lower: bool = False) -> Array:
    """Return the triangular factor of a Hermitian, positive definite matrix.

    Parameters
    ----------
    a : array_like, shape (..., n, n)
        Only one triangle is looked at: the lower one for the lower factor.
    lower : bool
        Return L with ``a = L L*``; otherwise U with ``a = U* U``.

    Raises
    ------
    numpy.linalg.LinAlgError
        At once if the matrix is not square; when it is computed, if it is not positive definite.

    Examples
    --------
    >>> cholesky([[4.0, 2.0], [2.0, 5.0]], lower=True).compute()
    array([[2., 0.],
           [1., 2.]])
    """
    array = square(a, "cholesky")
    if array.ndim > 2 or array.npartitions == 1:
        function = _lower if lower else _upper
        return stacked("cholesky", function, [array], [2], array.shape[-2:], array.dtype)
    return Array(Cholesky(squared(array).expr, bool(lower)))


def _lower(block: Any) -> Any:
    return np.linalg.cholesky(block)


def _upper(block: Any) -> Any:
    factor = np.linalg.cholesky(np.conj(np.swapaxes(block, -1, -2)))
    return np.conj(np.swapaxes(factor, -1, -2))


class Cholesky(Emitted):
    """The triangular factor of a matrix; see the top of the file.

    Attributes
    ----------
    lower : bool
    """

    def __init__(self, source: Expr, lower: bool) -> None:
        super().__init__("cholesky", [source], source.chunks, source.dtype)
        self.lower = lower

    def token(self) -> Any:
        return self.lower

    def with_inputs(self, inputs: Sequence[Expr]) -> Expr:
        return Cholesky(inputs[0], self.lower)

    def emit(self, lowering: Lowering) -> Codes:
        codes = lowering.codes(self.inputs[0])
        count = len(self.chunks[0])
        length = count_of(self.chunks[0])
        current = (codes if self.lower else codes.T).copy()  # what stands in each block by now
        factor = self._zeros(lowering)
        if not self.lower:
            factor = factor.T
        stem, _, token = self.name.rpartition("-")
        steps = _lower_steps if self.lower else _upper_steps
        size = batch(2 * length**3)
        rows, columns = np.tril_indices(count)
        for k in range(count):
            ready = factor[k:, k - k % size : k]  # not subtracted yet
            own = np.concatenate([current[k, k, None], ready[0]])
            (factor[k, k],) = lowering.add(f"{stem}_factor-{k}-{token}", steps[0], own[None])
            below = count - k - 1
            if not below:
                break
            inputs = np.empty((below, 2 + 2 * ready.shape[1]), np.int64)
            inputs[:, 0] = current[k + 1 :, k]
            inputs[:, 1] = factor[k, k]
            inputs[:, 2::2] = ready[1:]
            inputs[:, 3::2] = ready[0]
            factor[k + 1 :, k] = lowering.add(f"{stem}_solve-{k}-{token}", steps[1], inputs)
            if (k + 1) % size:
                continue
            done = factor[k + 1 :, k + 1 - size : k + 1]
            if size > 1:
                done = lowering.add(f"{stem}_join-{k}-{token}", steps[3], done)
            row, column = rows[: below * (below + 1) // 2], columns[: below * (below + 1) // 2]
            old = current[k + 1 :, k + 1 :][row, column]
            done = done.ravel()
            inputs = np.stack([old, done[row], done[column]], axis=1)
            made = lowering.add(f"{stem}_update-{k}-{token}", steps[2], inputs)
            current[k + 1 :, k + 1 :][row, column] = made
        return factor if self.lower else factor.T

    def _zeros(self, lowering: Lowering) -> Codes:
        """Return codes of zeros for all blocks; blocks of one shape are one task's result."""
        stem, _, token = self.name.rpartition("-")
        lengths = np.asarray(self.chunks[0], np.int64)
        distinct, kind = np.unique(lengths, return_inverse=True)
        shapes = np.stack(np.meshgrid(distinct, distinct, indexing="ij"), axis=-1).reshape(-1, 2)
        made = lowering.add(
            f"{stem}_zeros-{token}",
            _Zeros(self.dtype.str),
            constants=Rows.fixed(shapes),
            count=len(shapes),
        )
        return made.reshape(len(distinct), len(distinct))[kind[:, None], kind[None, :]]


class _Zeros:
    """Blocks of zeros; the constant of a task is the shape."""

    __slots__ = ("dtype",)

    def __init__(self, dtype: str) -> None:
        self.dtype = dtype

    __name__ = "zeros"

    def __call__(self, constant: Any) -> Any:
        return np.zeros(tuple(memoryview(constant).cast("q")), self.dtype)


# What tasks do. The upper factor's blocks are the adjoints of those of the lower one. -------------


def factored(block: Any, *done: Any) -> Any:
    """Factor a block of the diagonal, less the squares of those left of it."""
    return np.linalg.cholesky(less_products(block, done, [adjoint(one) for one in done]))


def solved_below(block: Any, diagonal: Any, *pairs: Any) -> Any:
    """Make a block below the diagonal, of the factor's block above it and pairs of its others."""
    rest = updated(block, *pairs)
    return adjoint(solved(diagonal, adjoint(rest), lower=True))


def updated(block: Any, *pairs: Any) -> Any:
    """Subtract the products of pairs of blocks: of one's row, and of its column's row."""
    return less_products(block, pairs[::2], [adjoint(one) for one in pairs[1::2]])


def factored_upper(*blocks: Any) -> Any:
    """Do the same as `factored` for the upper factor."""
    return adjoint(factored(*map(adjoint, blocks)))


def solved_upper(*blocks: Any) -> Any:
    """Do the same as `solved_below` for the upper factor."""
    return adjoint(solved_below(*map(adjoint, blocks)))


def updated_upper(block: Any, *pairs: Any) -> Any:
    """Do the same as `updated` for the upper factor."""
    return less_products(block, [adjoint(one) for one in pairs[1::2]], pairs[::2])


def joined(*blocks: Any) -> Any:
    """Put the blocks of a batch side by side, so that one product does what several did."""
    return np.concatenate(blocks, axis=1)


def joined_upper(*blocks: Any) -> Any:
    """Do the same for the upper factor."""
    return np.concatenate(blocks, axis=0)


_lower_steps = (factored, solved_below, updated, joined)
_upper_steps = (factored_upper, solved_upper, updated_upper, joined_upper)
