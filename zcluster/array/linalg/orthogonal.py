r"""The QR decomposition.

A matrix with many more rows than columns is factored in a tree (TSQR): each block of rows, then
the triangles R of several blocks put together, and so on; going back down, the block's Q is
multiplied with its part of the Q above it::

    A0 -> Q0 R0 \                              / Q0 = Q0 P[:n]
                 R0 over R1 -> P R  =>  R, and
    A1 -> Q1 R1 /                              \ Q1 = Q1 P[n:]

Any other matrix in several blocks goes by panels of columns (`panels.Householder`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from zcluster.array.chunks import AxisChunks, bounds, normalize_chunks
from zcluster.array.core import Array, rechunked
from zcluster.array.expressions import Emitted, Expr, PartOf
from zcluster.array.linalg.panels import Householder
from zcluster.array.linalg.preparing import LARGE, item, matrices, panel_chunks, stacked
from zcluster.array.rows import Rows
from zcluster.errors import InvalidArgument

if TYPE_CHECKING:
    from zcluster.array.lowering import Codes, Lowering

__all__ = ["QRResult", "TallSkinny", "cut", "decomposition", "qr", "sfqr"]

#: Triangles that are put together in one task, at most.
_MOST_TRIANGLES = 16


class QRResult(NamedTuple):
    """What `qr` returns."""

    Q: Array
    R: Array


def qr(a: Any, mode: str = "reduced") -> Any:
    """Return an orthonormal matrix and an upper triangular one, of which a matrix is the product.

    Parameters
    ----------
    a : array_like, shape (..., m, n)
        In any chunks. With several blocks of rows and few columns it is done in a tree; then the
        signs of Q's columns may be others than NumPy's.
    mode : {'reduced', 'r'}
        With ``'r'`` only the triangle is returned.

    Returns
    -------
    Q : Array, shape (..., m, k)
        With k the lesser of m and n.
    R : Array, shape (..., k, n)

    Examples
    --------
    >>> q, r = qr([[3.0, 1.0], [4.0, 2.0]])
    >>> abs(r.compute().round(3))
    array([[5. , 2.2],
           [0. , 0.4]])
    """
    if mode not in ("reduced", "r"):
        raise NotImplementedError(
            f"qr(mode={mode!r}): expected 'reduced' or 'r'; of a matrix in one chunk, "
            f"map_blocks(numpy.linalg.qr, x, mode={mode!r}) computes it"
        )
    array = matrices(a, "qr")
    found = decomposition(array)
    return found if mode == "reduced" else found.R


def decomposition(array: Array) -> QRResult:
    """Return Q and R of matrices that were looked at by `preparing.matrices`."""
    if array.ndim > 2 or array.npartitions == 1 or not array.size:
        return _of_stacks(array)
    tall = _as_tall(array)
    if tall is None:
        return _by_panels(array)
    if tall.npartitions == 1:
        return _of_stacks(tall)
    made = TallSkinny(tall.expr)
    return QRResult(Array(PartOf(made, 0, "qr-q", made.chunks, array.dtype)), _triangle_of(made))


def _triangle_of(made: TallSkinny) -> Array:
    columns = made.shape[1]
    return Array(PartOf(made, 1, "qr-r", ((columns,), (columns,)), made.dtype))


def _of_stacks(array: Array) -> QRResult:
    rows, columns = array.shape[-2:]
    least = min(rows, columns)
    both = stacked("qr", decomposed, [array], [2], (rows, least), array.dtype)
    return QRResult(
        item(both, 0, 2, (rows, least), array.dtype),
        item(both, 1, 2, (least, columns), array.dtype),
    )


def _as_tall(array: Array) -> Array | None:
    """Return a matrix in blocks of rows for a tree, or None if it is not tall enough."""
    rows, columns = array.shape
    own = array.chunks[0]
    if rows < columns or (rows < 2 * columns and len(array.chunks[1]) > 1):
        return None
    if columns * columns * array.itemsize > LARGE:
        return None
    height = max(*own, 2 * columns)
    if height * columns * array.itemsize > LARGE:
        height = max(LARGE // (columns * array.itemsize), 2 * columns)
    # Blocks with fewer rows than columns would not become smaller.
    is_fine = max(own) == height and all(length >= columns for length in own[:-1])
    chosen = own if is_fine else normalize_chunks(height, (rows,))[0]
    return rechunked(array, (chosen, (columns,)))


def _by_panels(array: Array) -> QRResult:
    rows, columns = array.shape
    least = min(rows, columns)
    widths = panel_chunks(array, least)
    panels = rechunked(array, ((rows,), widths))
    made = Householder(panels.expr, least)
    own = made.factored
    q = Array(PartOf(made, 0, "qr-q", ((rows,), own), array.dtype))
    r = Array(PartOf(made, 1, "qr-r", ((least,), widths), array.dtype))
    return QRResult(
        rechunked(q, (array.chunks[0], cut(array.chunks[1], least))),
        rechunked(r, (cut(array.chunks[0], least), array.chunks[1])),
    )


def cut(lengths: AxisChunks, length: int) -> AxisChunks:
    """Return the chunks of the beginning of an axis.

    Examples
    --------
    >>> cut((4, 4, 4), 6)
    (4, 2)
    """
    points = np.minimum(bounds(lengths), length)
    kept = np.diff(points)
    return tuple(kept[kept > 0].tolist()) or (0,)


def sfqr(data: Any, name: str | None = None) -> QRResult:
    """Return the QR decomposition of a short matrix in one chunk of rows.

    Raises
    ------
    ValueError
        If it has several chunks of rows.
    """
    array = matrices(data, "sfqr")
    if array.ndim != 2 or len(array.chunks[0]) > 1:
        raise InvalidArgument(
            f"sfqr of shape {array.shape} in chunks {array.numblocks}; expected a matrix in one "
            "chunk of rows: qr() takes any"
        )
    return decomposition(array)


class TallSkinny(Emitted):
    """The QR decomposition of a matrix in blocks of rows, in a tree. Its parts: 0: Q; 1: R."""

    def __init__(self, source: Expr) -> None:
        super().__init__("tsqr", [source], source.chunks, source.dtype)

    def with_inputs(self, inputs: Sequence[Expr]) -> Expr:
        return TallSkinny(inputs[0])

    def emit(self, lowering: Lowering) -> Sequence[Codes]:
        stem, _, token = self.name.rpartition("-")
        lengths = np.asarray(self.chunks[0], np.int64)
        columns = self.shape[1]
        width = min(max(int(lengths.max()) // max(columns, 1), 2), _MOST_TRIANGLES)
        codes = lowering.codes(self.inputs[0]).ravel()
        heights = np.minimum(lengths, columns)  # of the triangles
        levels = [lowering.add(f"{stem}_blocks-{token}", decomposed, codes[:, None])]
        groups, sizes = [], []
        while len(levels[-1]) > 1:
            level = len(levels)
            triangles = lowering.add(
                f"{stem}_triangles-{level}-{token}", triangle_of, levels[-1][:, None]
            )
            count = len(triangles)
            points = np.append(np.arange(0, count, width), count)
            groups.append(np.repeat(np.arange(len(points) - 1), np.diff(points)))
            sizes.append(heights)
            inputs = Rows.of(points, triangles)
            levels.append(lowering.add(f"{stem}_join-{level}-{token}", joined, inputs))
            heights = np.minimum(np.add.reduceat(heights, points[:-1]), columns)
        (r,) = lowering.add(f"{stem}_r-{token}", triangle_of, levels[-1][:, None])
        above = lowering.add(f"{stem}_top-{token}", orthogonal_of, levels[-1][:, None])
        for level in range(len(levels) - 2, -1, -1):
            stops = np.cumsum(sizes[level])
            begins = np.flatnonzero(np.diff(groups[level], prepend=-1))
            first = (stops - sizes[level])[begins][groups[level]]
            places = np.stack([stops - sizes[level] - first, stops - first], axis=1)
            above = lowering.add(
                f"{stem}_q-{level}-{token}",
                multiplied,
                np.stack([levels[level], above[groups[level]]], axis=1),
                constants=Rows.fixed(places),
            )
        return [above[:, None], np.array([[r]])]


def decomposed(block: Any) -> tuple[Any, Any]:
    """Return Q and R of a block."""
    q, r = np.linalg.qr(block)
    return q, r


def joined(*triangles: Any) -> tuple[Any, Any]:
    """Return Q and R of triangles on top of each other."""
    return decomposed(np.concatenate(triangles))


def triangle_of(factors: Any) -> Any:
    """Return R."""
    return factors[1]


def orthogonal_of(factors: Any) -> Any:
    """Return Q."""
    return factors[0]


def multiplied(constant: Any, factors: Any, above: Any) -> Any:
    """Multiply a block's Q with its rows of the Q above it."""
    first, last = memoryview(constant).cast("q")
    return factors[0] @ above[first:last]
