"""`Array`: a NumPy array in chunks, of which each block is made when it is computed.

An array is an expression (`expressions`) with the manners of a NumPy array: operators, ufuncs and
functions of NumPy give lazy arrays, `compute` gives a NumPy array. Nothing here runs anything.

The functions of the package are in family files above this one; `methods` hangs them onto the
class.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from zcluster.array.axes import identity
from zcluster.array.chunks import (
    AxisChunks,
    Chunks,
    bounds,
    broadcast_shapes,
    is_known,
    normalize_chunks,
    unify_axis,
)
from zcluster.array.expressions import Blockwise, Data, Dims, Expr, Gather, Held, Literal
from zcluster.array.lowering import lower_arrays
from zcluster.collection.base import Lowered
from zcluster.collection.compute import Computable
from zcluster.errors import InvalidArgument
from zcluster.protocol.callables import callable_name
from zcluster.protocol.held import passes_objects
from zcluster.protocol.tokens import tokenize

__all__ = ["Array", "asarray", "elementwise", "from_numpy", "permuted", "rechunked", "unified"]


def _binary(function: Callable[..., Any], left: Any, right: Any) -> Array:
    """Return the result of an operator, or NotImplemented where the other side shall decide."""
    for one in (left, right):
        if not isinstance(one, Array) and getattr(type(one), "__array_ufunc__", True) is None:
            return NotImplemented  # type: ignore[no-any-return]
    return elementwise(function, left, right)


def _operator(function: Callable[..., Any]) -> Callable[[Array, Any], Array]:
    def method(self: Array, other: Any) -> Array:
        return _binary(function, self, other)

    return method


def _reflected(function: Callable[..., Any]) -> Callable[[Array, Any], Array]:
    def method(self: Array, other: Any) -> Array:
        return _binary(function, other, self)

    return method


class Array(Computable):
    """A chunked array that is computed when it is asked for.

    Made by functions of `zcluster.array`, not by hand.

    Attributes
    ----------
    shape : tuple of int
        A length that is not known is nan.
    dtype : numpy.dtype
    chunks : tuple of tuple of int
        The lengths of the chunks along each axis.
    name : str
        What the keys of all blocks begin with.
    """

    __slots__ = ("__weakref__", "_expr")
    __array_priority__ = 11  # before NumPy's own arrays

    _expr: Expr

    def __init__(self, expr: Expr) -> None:
        self._expr = expr

    # What is known ----------------------------------------------------------------------------

    @property
    def expr(self) -> Expr:
        """The expression that says how this is computed."""
        return self._expr

    @property
    def name(self) -> str:
        return self._expr.name

    @property
    def dtype(self) -> np.dtype[Any]:
        dtype: np.dtype[Any] = self._expr.dtype
        return dtype

    @property
    def chunks(self) -> Chunks:
        return self._expr.chunks

    @property
    def shape(self) -> tuple[Any, ...]:
        return self._expr.shape

    @property
    def ndim(self) -> int:
        return self._expr.ndim

    @property
    def size(self) -> Any:
        """The number of elements."""
        return math.prod(self.shape)

    @property
    def itemsize(self) -> int:
        return self.dtype.itemsize

    @property
    def nbytes(self) -> Any:
        """The bytes of all elements; nothing is computed for it."""
        return self.size * self.itemsize

    @property
    def numblocks(self) -> tuple[int, ...]:
        """The number of blocks along each axis."""
        return self._expr.numblocks

    @property
    def npartitions(self) -> int:
        """The number of blocks."""
        return self._expr.count

    @property
    def chunksize(self) -> tuple[int, ...]:
        """The length of the longest chunk along each axis."""
        return tuple(max(lengths) for lengths in self.chunks)

    # As a collection --------------------------------------------------------------------------

    @staticmethod
    def __zcluster_lower__(collections: Sequence[Array]) -> Lowered:
        """Return a graph of the arrays, and how to put their blocks together."""
        graph, codes = lower_arrays([one._expr for one in collections])
        places = graph.want(np.concatenate([each.reshape(-1) for each in codes]).tolist())
        stand = [[places[task] for task in each.reshape(-1).tolist()] for each in codes]
        return graph, _Rebuild(collections, stand)

    def __zcluster_tokenize__(self) -> str:
        return self.name

    def __reduce__(self) -> Any:
        return Array, (self._expr,)

    def __copy__(self) -> Array:
        return Array(self._expr)  # an assignment to one does not change the other

    def __deepcopy__(self, memo: Any) -> Array:
        return Array(self._expr)

    # Operators --------------------------------------------------------------------------------

    __add__ = _operator(np.add)
    __radd__ = _reflected(np.add)
    __sub__ = _operator(np.subtract)
    __rsub__ = _reflected(np.subtract)
    __mul__ = _operator(np.multiply)
    __rmul__ = _reflected(np.multiply)
    __truediv__ = _operator(np.true_divide)
    __rtruediv__ = _reflected(np.true_divide)
    __floordiv__ = _operator(np.floor_divide)
    __rfloordiv__ = _reflected(np.floor_divide)
    __mod__ = _operator(np.remainder)
    __rmod__ = _reflected(np.remainder)
    __lshift__ = _operator(np.left_shift)
    __rlshift__ = _reflected(np.left_shift)
    __rshift__ = _operator(np.right_shift)
    __rrshift__ = _reflected(np.right_shift)
    __and__ = _operator(np.bitwise_and)
    __rand__ = _reflected(np.bitwise_and)
    __or__ = _operator(np.bitwise_or)
    __ror__ = _reflected(np.bitwise_or)
    __xor__ = _operator(np.bitwise_xor)
    __rxor__ = _reflected(np.bitwise_xor)
    __rpow__ = _reflected(np.power)
    __lt__ = _operator(np.less)
    __le__ = _operator(np.less_equal)
    __gt__ = _operator(np.greater)
    __ge__ = _operator(np.greater_equal)
    __eq__ = _operator(np.equal)  # type: ignore[assignment]
    __ne__ = _operator(np.not_equal)  # type: ignore[assignment]

    def __pow__(self, other: Any) -> Array:
        if type(other) is int and other == 2 and self.dtype.kind in "biufc":
            return elementwise(np.square, self)  # the same, and quicker: NumPy does so too
        return _binary(np.power, self, other)

    __hash__ = None  # type: ignore[assignment]

    def __neg__(self) -> Array:
        return elementwise(np.negative, self)

    def __pos__(self) -> Array:
        return elementwise(np.positive, self)

    def __abs__(self) -> Array:
        return elementwise(np.absolute, self)

    def __invert__(self) -> Array:
        return elementwise(np.invert, self)

    def __divmod__(self, other: Any) -> tuple[Array, Array]:
        return self // other, self % other

    def __rdivmod__(self, other: Any) -> tuple[Array, Array]:
        return other // self, other % self

    # What families of functions give; `methods` says which.
    if TYPE_CHECKING:
        __getitem__: ClassVar[Callable[..., Any]]
        __setitem__: ClassVar[Callable[..., None]]
        __matmul__: ClassVar[Callable[..., Any]]
        __iter__: ClassVar[Callable[..., Iterator[Any]]]
        all: ClassVar[Callable[..., Array]]
        any: ClassVar[Callable[..., Array]]
        astype: ClassVar[Callable[..., Array]]
        clip: ClassVar[Callable[..., Array]]
        conj: ClassVar[Callable[..., Array]]
        copy: ClassVar[Callable[..., Array]]
        flatten: ClassVar[Callable[..., Array]]
        map_blocks: ClassVar[Callable[..., Array]]
        map_overlap: ClassVar[Callable[..., Array]]
        max: ClassVar[Callable[..., Array]]
        mean: ClassVar[Callable[..., Array]]
        min: ClassVar[Callable[..., Array]]
        nonzero: ClassVar[Callable[..., Any]]
        prod: ClassVar[Callable[..., Array]]
        ravel: ClassVar[Callable[..., Array]]
        rechunk: ClassVar[Callable[..., Array]]
        reshape: ClassVar[Callable[..., Array]]
        repeat: ClassVar[Callable[..., Array]]
        round: ClassVar[Callable[..., Array]]
        squeeze: ClassVar[Callable[..., Array]]
        std: ClassVar[Callable[..., Array]]
        sum: ClassVar[Callable[..., Array]]
        swapaxes: ClassVar[Callable[..., Array]]
        take: ClassVar[Callable[..., Array]]
        transpose: ClassVar[Callable[..., Array]]
        var: ClassVar[Callable[..., Array]]
        blocks: ClassVar[Any]
        partitions: ClassVar[Any]
        vindex: ClassVar[Any]
        compress: ClassVar[Callable[..., Array]]
        store: ClassVar[Callable[..., Any]]
        to_delayed: ClassVar[Callable[..., Any]]
        to_hdf5: ClassVar[Callable[..., None]]
        to_zarr: ClassVar[Callable[..., Any]]
        argmax: ClassVar[Callable[..., Array]]
        compute_chunk_sizes: ClassVar[Callable[..., Array]]
        choose: ClassVar[Callable[..., Array]]
        conjugate: ClassVar[Callable[..., Array]]
        diagonal: ClassVar[Callable[..., Array]]
        item: ClassVar[Callable[..., Any]]
        tolist: ClassVar[Callable[..., Any]]
        view: ClassVar[Callable[..., Array]]
        to_svg: ClassVar[Callable[..., str]]
        to_device: ClassVar[Callable[..., Array]]
        _repr_html_: ClassVar[Callable[..., str]]
        __array_namespace__: ClassVar[Callable[..., Any]]
        __float__: ClassVar[Callable[..., float]]
        __int__: ClassVar[Callable[..., int]]
        __complex__: ClassVar[Callable[..., complex]]
        __index__: ClassVar[Callable[..., int]]
        __len__: ClassVar[Callable[..., int]]
        __contains__: ClassVar[Callable[..., bool]]
        __array__: ClassVar[Callable[..., Any]]
        T: ClassVar[Array]
        mT: ClassVar[Array]
        device: ClassVar[str]
        imag: ClassVar[Array]
        real: ClassVar[Array]


class _Rebuild:
    """Puts arrays together of the blocks that are the outputs of their graph.

    Pickled, it makes results only: the arrays themselves stay here.
    """

    def __init__(
        self,
        arrays: Sequence[Array],
        places: list[list[int]],
        makers: list[_Whole] | None = None,
    ) -> None:
        self._arrays = arrays
        self._places = places
        self._makers = [_Whole(one.expr) for one in arrays] if makers is None else makers

    def __call__(self, values: Sequence[Any]) -> list[Any]:
        return [
            maker([values[place] for place in places])
            for maker, places in zip(self._makers, self._places, strict=True)
        ]

    def kept(self, values: Sequence[Any]) -> list[Array]:
        """Return the arrays with their blocks, or futures of them, in the place of their graphs."""
        kept = []
        for one, places in zip(self._arrays, self._places, strict=True):
            blocks = np.empty(len(places), object)
            for number, place in enumerate(places):
                blocks[number] = values[place]
            kept.append(Array(Held(one.name, blocks.reshape(one.numblocks), one.chunks, one.dtype)))
        return kept

    def __reduce__(self) -> Any:
        return _Rebuild, ((), self._places, self._makers)


class _Whole:
    """Puts the blocks of one array together."""

    __slots__ = ("chunks", "dtype", "is_here")

    def __init__(self, expr: Expr) -> None:
        self.chunks = expr.chunks
        self.dtype = expr.dtype
        #: Blocks may be the caller's own memory.
        self.is_here = passes_objects()

    def __call__(self, blocks: list[Any]) -> Any:
        if not self.chunks:
            value = blocks[0]
            return value[()] if isinstance(value, np.ndarray) else value
        if len(blocks) == 1:
            return np.array(blocks[0], subok=True) if self.is_here else blocks[0]
        if not all(map(is_known, self.chunks)):
            return _stacked(blocks, tuple(map(len, self.chunks)))
        shape = tuple(map(sum, self.chunks))
        whole = np.empty_like(blocks[0], dtype=self.dtype, shape=shape)
        points = [bounds(lengths).tolist() for lengths in self.chunks]
        for index, block in zip(np.ndindex(*map(len, self.chunks)), blocks, strict=True):
            where = tuple(slice(p[i], p[i + 1]) for p, i in zip(points, index, strict=True))
            if np.shape(block) != whole[where].shape:
                raise InvalidArgument(
                    f"block {index} came with shape {np.shape(block)}; the chunks of the array "
                    f"promise {whole[where].shape}: say with chunks= or adjust_chunks= what the "
                    "function that made it returns"
                )
            whole[where] = block
        return whole


def _stacked(blocks: list[Any], numblocks: tuple[int, ...]) -> Any:
    """Concatenate blocks whose shapes say how long the chunks are."""
    for axis in range(len(numblocks) - 1, -1, -1):
        count = numblocks[axis]
        blocks = [
            np.concatenate(blocks[start : start + count], axis=axis)
            for start in range(0, len(blocks), count)
        ]
    return blocks[0]


# Making arrays ------------------------------------------------------------------------------------


def from_numpy(value: npt.NDArray[Any], chunks: Any = -1, name: str | None = None) -> Array:
    """Return an array of a NumPy array that is here, which goes along with the graph."""
    identity_of = (tokenize(value) if name is None else name,)
    data = Data(value, identity_of)
    return rechunked(Array(data), chunks) if value.ndim else Array(data)


def asarray(value: Any) -> Array:
    """Return an array: itself, or what NumPy makes of something in one chunk."""
    if isinstance(value, Array):
        return value
    return from_numpy(np.asarray(value))


def rechunked(array: Array, chunks: Any) -> Array:
    """Return the same array in other chunks; see `normalize_chunks`."""
    wanted = normalize_chunks(chunks, array.shape, array.dtype, previous=array.chunks)
    return _in_chunks(array, wanted)


def _in_chunks(array: Array, wanted: Chunks) -> Array:
    if wanted == array.chunks:
        return array
    maps = [identity(length, own) for length, own in zip(array.shape, wanted, strict=True)]
    return Array(Gather(array._expr, maps, label="rechunk"))


def permuted(array: Array, axes: Sequence[int | None], label: str = "transpose") -> Array:
    """Return an array with its axes in another order; see `expressions.Dims`."""
    return Array(Dims(array._expr, axes, label))


def unified(
    arrays: Sequence[Array], axes: Sequence[tuple[int, ...]]
) -> tuple[list[Array], dict[int, AxisChunks]]:
    """Give arrays the same chunks along the axes that they share.

    Parameters
    ----------
    arrays : sequence of Array
    axes : sequence of tuple of int
        For each axis of each array a number that says which axes are the same; -1: none.

    Returns
    -------
    arrays : list of Array
    chunks : dict
        By number, the chunks that all have now. Axes of length 1 go with any others.

    Raises
    ------
    ValueError
        If the lengths differ.
    """
    candidates: dict[int, list[AxisChunks]] = {}
    ones: dict[int, set[AxisChunks]] = {}  # of axes of length 1
    for array, own in zip(arrays, axes, strict=True):
        for number, lengths, length in zip(own, array.chunks, array.shape, strict=True):
            if number >= 0:
                found = candidates.setdefault(number, [])
                if length != 1:
                    found.append(lengths)
                else:
                    ones.setdefault(number, set()).add(lengths)
    chunks: dict[int, AxisChunks] = {}
    for number, found in candidates.items():
        if found:
            chunks[number] = unify_axis(found)
        else:
            chunks[number] = ones[number].pop() if len(ones[number]) == 1 else (1,)
    made = []
    for array, own in zip(arrays, axes, strict=True):
        wanted = tuple(
            lengths
            if number < 0
            else (1,)
            if length == 1 and candidates[number]
            else chunks[number]
            if is_known(chunks[number])
            else lengths  # as many chunks, and what is known of them
            for number, lengths, length in zip(own, array.chunks, array.shape, strict=True)
        )
        made.append(_in_chunks(array, wanted))
    return made, chunks


def elementwise(
    function: Callable[..., Any],
    *args: Any,
    dtype: Any = None,
    name: str | None = None,
    **kwargs: Any,
) -> Array:
    """Return an array of a function that works element by element, with NumPy's broadcasting.

    Parameters
    ----------
    function : callable
        Of blocks; it writes into none of them.
    *args
        Arrays, lazy or not, and scalars.
    dtype : dtype, optional
        Of the result; by default what the function gives for arrays of one element.
    name : str, optional
        What the array's name begins with.
    **kwargs
        Passed on to the function.

    Raises
    ------
    ValueError
        If the shapes do not broadcast.

    Examples
    --------
    >>> elementwise(np.hypot, asarray([3.0, 5.0]), asarray([4.0, 12.0])).compute()
    array([ 5., 13.])
    """
    arrays: list[Array] = []
    arguments: list[Any] = []
    for one in args:
        given = _operand(one)
        if isinstance(given, Array):
            arguments.append(len(arrays))
            arrays.append(given)
        else:
            arguments.append(Literal(given))
    shape = broadcast_shapes(*[array.shape for array in arrays])
    ndim = len(shape)
    numbers = [tuple(range(ndim - array.ndim, ndim)) for array in arrays]
    arrays, chunks = unified(arrays, numbers)
    if dtype is None:
        dtype = _dtype_of(function, arrays, arguments, kwargs)
    axes = [
        tuple(
            -1 if length == 1 and shape[number] != 1 else number
            for number, length in zip(own, array.shape, strict=True)
        )
        for own, array in zip(numbers, arrays, strict=True)
    ]
    return Array(
        Blockwise(
            name or callable_name(function),
            function,
            [array._expr for array in arrays],
            arguments,
            axes,
            tuple(chunks[number] for number in range(ndim)),
            dtype,
            kwargs=kwargs,
            is_elementwise=True,
        )
    )


def _operand(value: Any) -> Any:
    """Return what an operand is to be: an array, or a scalar that is passed on as it is."""
    if isinstance(value, Array | int | float | complex | bool | str | bytes | np.generic):
        return value
    if isinstance(value, np.ndarray):
        return value[()] if not value.ndim else from_numpy(value)
    if isinstance(value, list | tuple) or hasattr(value, "__array__"):
        return _operand(np.asarray(value))
    return value


def _dtype_of(
    function: Callable[..., Any], arrays: list[Array], arguments: list[Any], kwargs: dict[str, Any]
) -> Any:
    """Return the dtype of what a function gives for arrays of one element."""
    metas = [np.ones((1,) * array.ndim, array.dtype) for array in arrays]
    given = [metas[one] if type(one) is int else one.value for one in arguments]
    with np.errstate(all="ignore"):
        found = function(*given, **kwargs)
    if isinstance(found, tuple):
        raise InvalidArgument(
            f"{callable_name(function)} gives {len(found)} arrays; expected one: use a function "
            "for each, as zcluster.array.divmod and frexp do"
        )
    dtype: Any = getattr(found, "dtype", None)
    return np.asarray(found).dtype if dtype is None else dtype
