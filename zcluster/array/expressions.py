"""What an array is before it is computed: an immutable expression.

An expression is an operation with its parameters and inputs, and what is known without computing:
dtype and chunks (and so the shape). There are few kinds, and every function of the package is
made of them:

============  =====================================================================================
`Data`        an object that is here, as one block: a NumPy array, or anything that can be sliced
`Held`        blocks that were made before: futures, values
`Generated`   blocks that a function makes of their position alone: ``ones``, random numbers
`Gather`      blocks put together from boxes of input blocks: slices, rechunks, ghost cells
`Concatenate` the blocks of several arrays after each other: no work at all
`Dims`        axes permuted, taken out (of length 1) and put in
`Blockwise`   a function of the blocks at one place of several inputs; element-wise ones say so
`Reduction`   a function of each block, then of what came of several, in a tree
`Emitted`     anything else: writes its layers itself (`lowering.Lowering.add`)
`PartOf`      one of the arrays of an `Emitted` that makes several
============  =====================================================================================

Names are deterministic: the same operation on the same inputs has the same name in two processes,
and is computed once where it occurs twice. `simplify` rewrites expressions, `fusion` decides which
become one task per block, and `lowering` writes the layers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from zcluster.array.axes import AxisMap
from zcluster.array.chunks import AxisChunks, Chunks, chunks_token
from zcluster.graph.annotations import current_options
from zcluster.graph.layers import Options
from zcluster.protocol.tokens import tokenize

if TYPE_CHECKING:
    from zcluster.array.lowering import Codes, Lowering

__all__ = [
    "Blockwise",
    "Concatenate",
    "Data",
    "Dims",
    "Emitted",
    "Expr",
    "Gather",
    "Generated",
    "Held",
    "PartOf",
    "Reduction",
]


class Expr:
    """An operation on arrays that will be computed.

    Parameters
    ----------
    label : str
        What names and reprs begin with.
    inputs : sequence of Expr
    chunks : tuple of tuples
    dtype : dtype
    """

    def __init__(self, label: str, inputs: Sequence[Expr], chunks: Chunks, dtype: Any) -> None:
        self.label = label
        self.inputs = tuple(inputs)
        self.chunks = chunks
        self.dtype = np.dtype(dtype)
        self.options: Options = current_options()
        self._name: str | None = None

    def token(self) -> Any:
        """Return the parameters, as far as they decide about the values."""
        return ()

    def with_inputs(self, inputs: Sequence[Expr]) -> Expr:
        """Return the same operation on other inputs of the same shapes and chunks."""
        raise NotImplementedError

    @property
    def name(self) -> str:
        """The prefix of the keys of all blocks: the label and a token."""
        name = self._name
        if name is not None:
            return name
        stack: list[Expr] = [self]
        while stack:  # no recursion: chains may be long
            one = stack[-1]
            missing = [source for source in one.inputs if source._name is None]
            if missing:
                stack += missing
                continue
            stack.pop()
            if one._name is None:
                one._name = f"{one.label}-{one._token()}"
        name = self._name
        assert name is not None  # it was last on the stack
        return name

    def _token(self) -> str:
        return tokenize(
            type(self).__name__, self.label, self.token(), *[one.name for one in self.inputs]
        )

    def rename(self, name: str) -> None:
        """Give a fresh expression a name that its maker chose."""
        self._name = name

    def under(self, name: str) -> Expr:
        """Return the same expression under another name; this one keeps its own.

        Examples
        --------
        >>> one = Generated("x", None, ((4, 4),), "f8")
        >>> other = one.under("y")
        >>> other.name, one.name.startswith("x-"), other.chunks
        ('y', True, ((4, 4),))
        """
        made = object.__new__(type(self))
        made.__dict__.update(self.__dict__)
        made._name = name
        return made

    @cached_property
    def shape(self) -> tuple[Any, ...]:
        """The length of each axis; nan where it is not known."""
        return tuple(sum(lengths) if len(lengths) > 1 else lengths[0] for lengths in self.chunks)

    @property
    def ndim(self) -> int:
        return len(self.chunks)

    @cached_property
    def numblocks(self) -> tuple[int, ...]:
        return tuple(map(len, self.chunks))

    @cached_property
    def count(self) -> int:
        """The number of blocks."""
        return math.prod(self.numblocks)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

    def __reduce__(self) -> tuple[Any, ...]:
        """Return all that is below in a row: no recursion, chains may be long."""
        numbers: dict[int, int] = {}  # by id
        rows: list[tuple[type[Expr], dict[str, Any], list[int]]] = []
        stack = [self]
        while stack:
            one = stack[-1]
            missing = [source for source in one.inputs if id(source) not in numbers]
            if missing:
                stack += missing
                continue
            stack.pop()
            if id(one) not in numbers:
                numbers[id(one)] = len(rows)
                state = {key: value for key, value in one.__dict__.items() if key != "inputs"}
                rows.append((type(one), state, [numbers[id(source)] for source in one.inputs]))
        return _restored, (rows,)


def _restored(rows: Sequence[tuple[type[Expr], dict[str, Any], list[int]]]) -> Expr:
    """Make expressions of what `Expr.__reduce__` returned; return the last one."""
    made: list[Expr] = []
    for kind, state, inputs in rows:
        one = kind.__new__(kind)
        one.__dict__.update(state)
        one.inputs = tuple([made[number] for number in inputs])
        made.append(one)
    return made[-1]


class Data(Expr):
    """One block: an object that is here, with a shape and a dtype.

    Attributes
    ----------
    value : object
        A NumPy array.
    identity : object
        What the name is made of.
    """

    def __init__(self, value: Any, identity: Any, label: str = "array") -> None:
        super().__init__(label, (), tuple((n,) for n in value.shape), value.dtype)
        self.value = value
        self.identity = identity

    def token(self) -> Any:
        return self.identity


class Held(Expr):
    """Blocks that are made already.

    Attributes
    ----------
    blocks : ndarray of object
        Futures or values, in the grid of the chunks.
    """

    def __init__(self, name: str, blocks: Any, chunks: Chunks, dtype: Any) -> None:
        super().__init__(name.rpartition("-")[0] or name, (), chunks, dtype)
        self.blocks = blocks
        self._name = name


class Generated(Expr):
    """Blocks that a function makes of where they are.

    Attributes
    ----------
    function : callable
        ``function(starts, shape)`` with tuples of int: the place of the block's first element in
        the array, and the shape of the block. It depends on nothing else, and a part of a block is
        the same whether it is made alone or cut out.
    is_cheap : bool
        Making a block again costs less than keeping it.
    is_uniform : bool
        The place does not matter.
    """

    def __init__(
        self,
        label: str,
        function: Callable[[tuple[int, ...], tuple[int, ...]], Any],
        chunks: Chunks,
        dtype: Any,
        *,
        is_cheap: bool = False,
        is_uniform: bool = False,
    ) -> None:
        super().__init__(label, (), chunks, dtype)
        self.function = function
        self.is_cheap = is_cheap
        self.is_uniform = is_uniform

    def token(self) -> Any:
        return (self.function, chunks_token(self.chunks), str(self.dtype))


class Gather(Expr):
    """Blocks put together from boxes of input blocks.

    Attributes
    ----------
    maps : tuple of AxisMap
        For each axis, where its elements come from.
    fill : scalar
        What stands where they come from nowhere.
    """

    def __init__(
        self, source: Expr, maps: Sequence[AxisMap], fill: Any = 0, label: str = "getitem"
    ) -> None:
        super().__init__(label, (source,), tuple(one.chunks for one in maps), source.dtype)
        self.maps = tuple(maps)
        self.fill = fill

    def token(self) -> Any:
        return (self.maps, self.fill)

    def with_inputs(self, inputs: Sequence[Expr]) -> Expr:
        return Gather(inputs[0], self.maps, self.fill, self.label)


class Concatenate(Expr):
    """The blocks of several arrays after each other along an axis; their other chunks agree."""

    def __init__(self, inputs: Sequence[Expr], axis: int) -> None:
        chunks = list(inputs[0].chunks)
        chunks[axis] = tuple(length for one in inputs for length in one.chunks[axis])
        super().__init__("concatenate", inputs, tuple(chunks), inputs[0].dtype)
        self.axis = axis

    def token(self) -> Any:
        return self.axis

    def with_inputs(self, inputs: Sequence[Expr]) -> Expr:
        return Concatenate(inputs, self.axis)


class Dims(Expr):
    """Axes in another order.

    Attributes
    ----------
    axes : tuple of int or None
        For each axis of the result the axis of the input; None for a new one of length 1. Axes of
        the input that are not named have length 1, and go.
    """

    def __init__(self, source: Expr, axes: Sequence[int | None], label: str = "transpose") -> None:
        chunks: Chunks = tuple((1,) if axis is None else source.chunks[axis] for axis in axes)
        super().__init__(label, (source,), chunks, source.dtype)
        self.axes = tuple(axes)

    def token(self) -> Any:
        return self.axes

    def with_inputs(self, inputs: Sequence[Expr]) -> Expr:
        return Dims(inputs[0], self.axes, self.label)


class Blockwise(Expr):
    """A function of the blocks at one place of several inputs.

    Attributes
    ----------
    function : callable
    arguments : tuple
        What it is called with: for an input its number in `inputs`, else a `Literal`.
    axes : tuple of tuples
        For each input, for each of its axes, the axis of the result that it goes along; -1 for an
        axis of one chunk that all blocks take.
    kwargs : dict
    is_elementwise : bool
        An element of the result depends on the elements at its place alone, by the rules of
        broadcasting.
    reads_only : bool
        The function writes into no input. What users give may; what is ours does not.
    extra : tuple of (str, str)
        What else it is told, as keyword and kind: of its block in the result, the ``"index"`` in
        the grid, the place of the first element (``"start"``), or the ``"shape"``.
    """

    def __init__(
        self,
        label: str,
        function: Callable[..., Any],
        inputs: Sequence[Expr],
        arguments: Sequence[Any],
        axes: Sequence[tuple[int, ...]],
        chunks: Chunks,
        dtype: Any,
        *,
        kwargs: dict[str, Any] | None = None,
        is_elementwise: bool = False,
        reads_only: bool = True,
        extra: tuple[tuple[str, str], ...] = (),
        identity: Any = None,
    ) -> None:
        super().__init__(label, inputs, chunks, dtype)
        self.function = function
        self.arguments = tuple(arguments)
        self.axes = tuple(axes)
        self.kwargs = kwargs or {}
        self.is_elementwise = is_elementwise
        self.reads_only = reads_only
        self.extra = extra
        self.identity = identity

    def token(self) -> Any:
        if self.identity is not None:
            return self.identity
        literals = [one.value if isinstance(one, Literal) else one for one in self.arguments]
        chunks = chunks_token(self.chunks)
        return (self.function, literals, self.axes, self.kwargs, chunks, str(self.dtype))

    def with_inputs(self, inputs: Sequence[Expr]) -> Expr:
        return self.on(inputs, self.chunks)

    def on(self, inputs: Sequence[Expr], chunks: Chunks) -> Blockwise:
        """Return the same operation on inputs of other chunks, with these in the result."""
        return Blockwise(
            self.label,
            self.function,
            inputs,
            self.arguments,
            self.axes,
            chunks,
            self.dtype,
            kwargs=self.kwargs,
            is_elementwise=self.is_elementwise,
            reads_only=self.reads_only,
            extra=self.extra,
            identity=self.identity,
        )


class Literal:
    """An argument that is no array of blocks: every block gets it as it is."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __repr__(self) -> str:
        return f"Literal({self.value!r})"


class Reduction(Expr):
    """A function of each block, then of what came of several, in a tree.

    Attributes
    ----------
    axes : tuple of int
        That are reduced.
    chunk : callable
        ``chunk(block)``, with keyword ``offsets`` (the place of the block's first element on each
        axis) if `takes_offsets`. It returns an array, or a tuple of arrays, that still has all
        axes.
    combine, aggregate : callable
        Of an array, or a tuple of them, put together along the first reduced axis from what came
        of several blocks; the same shape of thing again, and the result.
    split_every : int
        How many go into one task.
    keepdims : bool
        The reduced axes stay, with length 1; the functions know it as well.
    """

    def __init__(
        self,
        label: str,
        source: Expr,
        axes: tuple[int, ...],
        chunk: Callable[..., Any],
        combine: Callable[..., Any],
        aggregate: Callable[..., Any],
        dtype: Any,
        *,
        split_every: int = 8,
        keepdims: bool = False,
        takes_offsets: bool = False,
        lengths: Sequence[int] | None = None,
    ) -> None:
        kept = (lengths or [1] * len(axes)) if keepdims else []
        by_axis = dict(zip(axes, kept, strict=False))
        chunks: list[AxisChunks] = []
        for axis, own in enumerate(source.chunks):
            if axis not in axes:
                chunks.append(own)
            elif keepdims:
                chunks.append((by_axis[axis],))
        super().__init__(label, (source,), tuple(chunks), dtype)
        self.axes = axes
        self.chunk = chunk
        self.combine = combine
        self.aggregate = aggregate
        self.split_every = split_every
        self.keepdims = keepdims
        self.takes_offsets = takes_offsets
        self.lengths = lengths

    def token(self) -> Any:
        return (
            self.axes,
            self.chunk,
            self.combine,
            self.aggregate,
            self.split_every,
            self.keepdims,
            self.lengths,
            str(self.dtype),
        )

    def with_inputs(self, inputs: Sequence[Expr]) -> Expr:
        return Reduction(
            self.label,
            inputs[0],
            self.axes,
            self.chunk,
            self.combine,
            self.aggregate,
            self.dtype,
            split_every=self.split_every,
            keepdims=self.keepdims,
            takes_offsets=self.takes_offsets,
            lengths=self.lengths,
        )


class Emitted(Expr):
    """An operation that writes its layers itself. Subclasses say how, in `emit`.

    They define ``token`` and ``with_inputs`` as well. One that makes several arrays has the chunks
    and dtype of the first, and `PartOf` stands for each.
    """

    def emit(self, lowering: Lowering) -> Codes | Sequence[Codes]:
        """Add layers; return the task that makes each block, in the grid of the blocks."""
        raise NotImplementedError


class PartOf(Expr):
    """One of the arrays that an `Emitted` makes."""

    def __init__(self, source: Expr, number: int, label: str, chunks: Chunks, dtype: Any) -> None:
        super().__init__(label, (source,), chunks, dtype)
        self.number = number

    def token(self) -> Any:
        return self.number

    def with_inputs(self, inputs: Sequence[Expr]) -> Expr:
        return PartOf(inputs[0], self.number, self.label, self.chunks, self.dtype)
