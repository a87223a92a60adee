"""Sums of products of blocks: what `tensordot`, `matmul` and `einsum` are made of.

The axes of the operands are labelled with integers. Axes with the same label go along with each
other and have the same chunks; labels that the result does not have are **contracted**: summed
over. A block of the result is thus a sum over the combinations of contracted blocks::

    (m @ n)[i, k]      labels (0, 1), (1, 2) -> (0, 2);     sum over j of m[i, j] @ n[j, k]

A task takes several of these combinations and adds up their products itself: a task for each, and
a tree of sums, would hold all the products at a time and move each of them twice. How many a task
takes is said by `_share`; where that is not all of them, partial sums are added in a tree.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from zcluster.array.core import Array, unified
from zcluster.array.expressions import Dims, Emitted, Expr
from zcluster.array.rows import Rows

if TYPE_CHECKING:
    from zcluster.array.lowering import Codes, Lowering

__all__ = ["Contracted", "Einsum", "Labels", "Pair", "contracted", "summed"]

#: A number for each axis; equal ones go along with each other.
Labels: TypeAlias = tuple[int, ...]

#: A task should have as many floating point operations as this, so that its own cost is nothing.
ENOUGH_WORK = 3e7
#: Tasks that are wanted, for there may be many processors.
_ENOUGH_TASKS = 32
#: Bytes of the inputs of one task.
_MOST_BYTES = 1 << 27
#: Combinations in one task.
_MOST_COMBINED = 16
#: Partial sums that go into one task.
_SPLIT_EVERY = 8


def contracted(
    label: str,
    arrays: Sequence[Array],
    labels: Sequence[Labels],
    result: Labels,
    dtype: Any,
    make: Callable[[Sequence[Labels], Labels], Callable[..., Any]] | None = None,
) -> Array:
    """Return the sum of products of arrays.

    Parameters
    ----------
    label : str
        What the name begins with.
    arrays : sequence of Array
    labels : sequence of tuple of int
        Of the axes of each array. Axes of length 1 go with any others.
    result : tuple of int
        Labels of the result, each once.
    dtype : dtype
        Of the result.
    make : callable, optional
        Of labels and result; returns a kernel: a function of one block of each array, that is
        their product, summed over what the result does not have.

    Raises
    ------
    ValueError
        If axes with one label differ in length.
    """
    turned = [_without_turns(array, own) for array, own in zip(arrays, labels, strict=True)]
    labels = tuple(own for _, own in turned)
    arrays, chunks = unified([array for array, _ in turned], labels)
    return Array(
        Contracted(
            label,
            [array.expr for array in arrays],
            labels,
            result,
            (make or _kernel)(labels, result),
            tuple(chunks[number] for number in result),
            dtype,
        )
    )


def _kernel(labels: Sequence[Labels], result: Labels) -> Callable[..., Any]:
    if len(labels) == 2 and all(len(set(own)) == len(own) for own in labels):
        return Pair(labels[0], labels[1], result)
    return Einsum(labels, result)


def _without_turns(array: Array, labels: Labels) -> tuple[Array, Labels]:
    """Return what an array with permuted axes is made of, with its labels: nothing is turned."""
    expr = array.expr
    while isinstance(expr, Dims) and None not in expr.axes and expr.ndim == expr.inputs[0].ndim:
        found = dict(zip(expr.axes, labels, strict=True))
        expr = expr.inputs[0]
        labels = tuple(found[axis] for axis in range(expr.ndim))
    return (array if expr is array.expr else Array(expr)), labels


class Contracted(Emitted):
    """A sum of products; see the top of the file.

    Attributes
    ----------
    labels : tuple of tuple of int
        For each input.
    result : tuple of int
    kernel : callable
    """

    def __init__(
        self,
        label: str,
        inputs: Sequence[Expr],
        labels: Sequence[Labels],
        result: Labels,
        kernel: Callable[..., Any],
        chunks: Any,
        dtype: Any,
    ) -> None:
        super().__init__(label, inputs, chunks, dtype)
        self.labels = tuple(labels)
        self.result = result
        self.kernel = kernel

    def token(self) -> Any:
        return (self.labels, self.result, self.kernel, str(self.dtype))

    def with_inputs(self, inputs: Sequence[Expr]) -> Expr:
        return Contracted(
            self.label, inputs, self.labels, self.result, self.kernel, self.chunks, self.dtype
        )

    def emit(self, lowering: Lowering) -> Codes:
        lengths = self._lengths()
        inner = tuple(sorted(lengths.keys() - set(self.result)))
        order = (*self.result, *inner)
        counts = [self._count(label) for label in order]
        tasks = math.prod(counts[: len(self.result)])
        combinations = math.prod(counts[len(self.result) :])
        columns = [
            np.broadcast_to(_laid(lowering.codes(source), own, order), counts).reshape(tasks, -1)
            for source, own in zip(self.inputs, self.labels, strict=True)
        ]
        codes = np.stack(columns, axis=2)  # by task, combination and operand
        work = 2.0 * math.prod(lengths.values())
        size = sum(_mean_bytes(source) for source in self.inputs)
        each = _share(tasks, combinations, work, size)
        function = Products(self.kernel, len(self.inputs))
        grid = self.numblocks
        if each == combinations:
            made = lowering.add(self.name, function, codes.reshape(tasks, -1), shape=grid)
            return made.reshape(grid)
        stem, _, token = self.name.rpartition("-")
        batches = -(-combinations // each)
        points = np.minimum(np.arange(batches + 1) * each, combinations)
        starts = (np.arange(tasks)[:, None] * combinations + points[:-1]).ravel()
        rows = np.append(starts, tasks * combinations) * len(self.inputs)
        partial = lowering.add(
            f"{stem}_partial-{token}",
            function,
            Rows.of(rows, codes.ravel()),
            shape=(*grid, batches),
        )
        return summed(lowering, self.name, partial.reshape(tasks, batches), grid)

    def _count(self, label: int) -> int:
        """Return how many blocks there are along a label."""
        return max(
            source.numblocks[axis]
            for source, own in zip(self.inputs, self.labels, strict=True)
            for axis, one in enumerate(own)
            if one == label
        )

    def _lengths(self) -> dict[int, float]:
        """Return, by label, how long blocks are on average."""
        found: dict[int, float] = {}
        for source, own in zip(self.inputs, self.labels, strict=True):
            for label, length, count in zip(own, source.shape, source.numblocks, strict=True):
                mean = 1.0 if math.isnan(length) else length / count
                found[label] = max(found.get(label, 0.0), mean)
        return found


def _mean_bytes(one: Expr) -> float:
    size = math.prod(1 if math.isnan(length) else length for length in one.shape)
    return float(size * one.dtype.itemsize / max(one.count, 1))


def _share(tasks: int, combinations: int, work: float, size: float) -> int:
    """Return how many combinations a task takes.

    Enough to be worth a task; more, as long as there are enough tasks and they do not need too
    much memory; all of them alike.

    Parameters
    ----------
    tasks, combinations : int
        Blocks of the result, and of how many products each is the sum.
    work : float
        Floating point operations of one product.
    size : float
        Bytes that one product needs.
    """
    for_work = math.ceil(ENOUGH_WORK / max(work, 1.0))
    for_tasks = tasks * combinations // _ENOUGH_TASKS
    fits = max(int(_MOST_BYTES / max(size, 1.0)), 2)
    each = min(max(for_work, for_tasks, 1), fits, _MOST_COMBINED, combinations)
    return -(-combinations // -(-combinations // each))


def _laid(codes: Codes, own: Labels, order: Labels) -> npt.NDArray[np.int64]:
    """Return codes with an axis for each label of an order, of length 1 where they have none.

    Where a label is there twice, blocks on the diagonal are what counts.
    """
    distinct = tuple(label for label in order if label in own)
    places = {label: place for place, label in enumerate(distinct)}
    if distinct != own:
        codes = np.einsum(codes, [places[label] for label in own], list(range(len(distinct))))
    return codes[tuple(slice(None) if label in places else None for label in order)]


def summed(
    lowering: Lowering, name: str, codes: Codes, grid: tuple[int, ...], leaves: int = _SPLIT_EVERY
) -> Codes:
    """Add layers that add up the rows of some codes, in a tree; return the codes of the sums.

    Parameters
    ----------
    name : str
        Of the last layer.
    codes : ndarray of int64, shape (sums, terms)
    grid : tuple of int
        Of the sums.
    leaves : int
        Terms that go into one task.
    """
    stem, _, token = name.rpartition("-")
    level = 0
    while codes.shape[1] > leaves:
        rows, terms = codes.shape
        tasks = -(-terms // leaves)
        points = np.minimum(np.arange(tasks + 1) * leaves, terms)
        starts = (np.arange(rows)[:, None] * terms + points[:-1]).ravel()
        made = lowering.add(
            f"{stem}_sum-{level}-{token}",
            added,
            Rows.of(np.append(starts, rows * terms), codes.ravel()),
            shape=(rows, tasks),
        )
        codes = made.reshape(rows, tasks)
        level += 1
    return lowering.add(name, added, codes, shape=grid).reshape(grid)


def added(first: Any, *others: Any) -> Any:
    """Return the sum of some blocks."""
    if not others:
        return first
    total = np.add(first, others[0])
    for one in others[1:]:
        total = np.add(total, one, out=total if isinstance(total, np.ndarray) else None)
    return total


# What tasks do ------------------------------------------------------------------------------------


class Products:
    """The sum of the products of several combinations of blocks.

    Called with ``kernel``'s operands of the first combination, then those of the second, ….
    """

    __slots__ = ("kernel", "width")

    def __init__(self, kernel: Callable[..., Any], width: int) -> None:
        self.kernel = kernel
        self.width = width

    @property
    def __name__(self) -> str:
        return str(getattr(self.kernel, "__name__", "product"))

    def __call__(self, *blocks: Any) -> Any:
        width = self.width
        if len(blocks) > width and getattr(self.kernel, "is_matmul", False):
            return _matrix_products(blocks[::2], blocks[1::2])
        total = self.kernel(*blocks[:width])
        for start in range(width, len(blocks), width):
            product = self.kernel(*blocks[start : start + width])
            # The first product may be a view of a block. Numbers are added as arrays are: what
            # does not fit wraps around without a word.
            is_own = start > width and isinstance(total, np.ndarray)
            total = np.add(total, product, out=total if is_own else None)
        return total


def _matrix_products(left: Sequence[Any], right: Sequence[Any]) -> Any:
    """Return the sum of products of matrices, in as little new memory as it takes."""
    total = np.matmul(left[0], right[0])
    product = np.empty_like(total)
    for one, other in zip(left[1:], right[1:], strict=True):
        np.matmul(one, other, out=product)
        total += product
    return total


class Pair:
    """The product of two blocks, by way of `numpy.matmul`, which is where BLAS is.

    Parameters
    ----------
    left, right, result : tuple of int
        Labels; none is twice in one of them.
    """

    __slots__ = ("_plan", "is_matmul", "labels")

    def __init__(self, left: Labels, right: Labels, result: Labels) -> None:
        self.labels = (left, right, result)
        self.is_matmul = (
            len(left) == len(right) == 2
            and left[1] == right[0]
            and result == (left[0], right[1])
            and left[0] != right[1]
        )
        self._plan = None if self.is_matmul else _Plan(left, right, result)

    def __reduce__(self) -> Any:
        return Pair, self.labels

    __name__ = "product"

    def __zcluster_tokenize__(self) -> Any:
        return ("pair", *self.labels)

    def __call__(self, left: Any, right: Any) -> Any:
        if self._plan is None:
            return np.matmul(left, right)
        return self._plan.product(left, right)


class _Plan:
    """How two blocks become stacks of matrices, and their product a block.

    Attributes
    ----------
    sums : tuple of (tuple of int, tuple of int)
        Axes of each that only it has, and the result has not.
    axes : tuple of (list of int, list of int)
        Of each, then: shared ones that stay, own ones, contracted ones; of the right one the
        contracted ones before its own.
    stays, contracts : int
        How many shared axes stay, and how many are contracted.
    order : list of int
        From the order (shared, left's own, right's own) to that of the result.
    """

    __slots__ = ("axes", "contracts", "labels", "order", "stays", "sums")

    def __init__(self, left: Labels, right: Labels, result: Labels) -> None:
        self.labels = (left, right, result)
        shared = [label for label in left if label in right and label in result]
        inner = [label for label in left if label in right and label not in result]
        own = [[x for x in one if x in result and x not in shared] for one in (left, right)]
        self.sums = tuple(
            tuple(axis for axis, label in enumerate(one) if label not in other + result)
            for one, other in ((left, right), (right, left))
        )
        kept = [[x for x in one if x in other + result] for one, other in self._both()]
        self.axes = (
            [kept[0].index(label) for label in [*shared, *own[0], *inner]],
            [kept[1].index(label) for label in [*shared, *inner, *own[1]]],
        )
        self.stays, self.contracts = len(shared), len(inner)
        made = [*shared, *own[0], *own[1]]
        self.order = [made.index(label) for label in result]

    def _both(self) -> tuple[tuple[Labels, Labels], tuple[Labels, Labels]]:
        left, right, _ = self.labels
        return (left, right), (right, left)

    def product(self, left: Any, right: Any) -> Any:
        if self.sums[0]:
            left = left.sum(axis=self.sums[0], dtype=left.dtype)
        if self.sums[1]:
            right = right.sum(axis=self.sums[1], dtype=right.dtype)
        left, right = left.transpose(self.axes[0]), right.transpose(self.axes[1])
        stays, contracts = self.stays, self.contracts
        rows = left.shape[stays : left.ndim - contracts]
        columns = right.shape[stays + contracts :]
        inner = left.shape[left.ndim - contracts :]
        if inner != right.shape[stays : stays + contracts]:  # one of length 1 with a longer one
            return np.einsum(*self._for_einsum(left, right), optimize=True)
        if not contracts:
            apart = (slice(None),) * stays
            product = np.multiply(
                left[(*apart, ..., *(None,) * len(columns))],
                right[(*apart, *(None,) * len(rows), ...)],
            )
            return product.transpose(self.order)
        if stays and not rows and not columns:
            return np.einsum(*self._for_einsum(left, right))
        count = math.prod(inner)
        product = np.matmul(
            left.reshape((*left.shape[:stays], math.prod(rows), count)),
            right.reshape((*right.shape[:stays], count, math.prod(columns))),
        )
        made = product.reshape((*product.shape[:stays], *rows, *columns))
        return made.transpose(self.order)

    def _for_einsum(self, left: Any, right: Any) -> list[Any]:
        """Return the arguments for transposed operands."""
        shared = list(range(self.stays))
        inner = list(range(self.stays, self.stays + self.contracts))
        rows = [50 - axis for axis in range(left.ndim - self.stays - self.contracts)]
        columns = [25 - axis for axis in range(right.ndim - self.stays - self.contracts)]
        made = [*shared, *rows, *columns]
        result = [made[place] for place in self.order]
        return [left, [*shared, *rows, *inner], right, [*shared, *inner, *columns], result]


class Einsum:
    """The product of any number of blocks, as `numpy.einsum` has it.

    Parameters
    ----------
    labels : sequence of tuple of int
    result : tuple of int
    dtype : dtype, optional
        To calculate with.
    """

    __slots__ = ("dtype", "labels", "result")

    def __init__(self, labels: Sequence[Labels], result: Labels, dtype: Any = None) -> None:
        self.labels = tuple(labels)
        self.result = result
        self.dtype = dtype

    __name__ = "einsum"

    def __zcluster_tokenize__(self) -> Any:
        return ("einsum", self.labels, self.result, str(self.dtype))

    def __call__(self, *blocks: Any) -> Any:
        arguments: list[Any] = []
        for block, own in zip(blocks, self.labels, strict=True):
            arguments += (block, list(own))
        kwargs = {} if self.dtype is None else {"dtype": self.dtype}
        return np.einsum(*arguments, list(self.result), **kwargs)
