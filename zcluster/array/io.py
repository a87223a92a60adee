"""Arrays of what is there already: NumPy arrays, files, lazy values; and back to lazy values.

A NumPy array goes along with the graph, once, and tasks take boxes of it. Anything else that has a
shape, a dtype and items is read where it is needed, and only what is needed of it: slices move
towards the reading. Storing is in `storing`.
"""

from __future__ import annotations

import math
import operator
import uuid
from collections.abc import Callable
from typing import Any

import numpy as np

from zcluster.array.chunks import Chunks, normalize_chunks
from zcluster.array.core import Array, from_numpy
from zcluster.array.expressions import Blockwise, Data, Emitted, Expr, Generated, Held
from zcluster.array.fusion import topological
from zcluster.array.joining import stack
from zcluster.array.lowering import Codes, Lowering, lower_arrays
from zcluster.array.manipulation import astype
from zcluster.array.routines import asarray_of
from zcluster.array.stores import StoreReader, is_mapped, lock_of
from zcluster.delayed import Delayed, delayed, the_same
from zcluster.errors import InvalidArgument
from zcluster.graph.mapping import GraphView
from zcluster.protocol.held import passing_objects
from zcluster.protocol.tokens import tokenize

__all__ = ["asanyarray", "asarray", "from_array", "from_delayed", "lazy_object", "to_delayed"]


def from_array(
    x: Any,
    chunks: Any = "auto",
    name: str | bool | None = None,
    lock: Any = False,
    asarray: bool | None = None,
    fancy: bool = True,
    getitem: Callable[..., Any] | None = None,
    meta: Any = None,
    inline_array: bool = False,
) -> Array:
    """Return an array of something that has a shape, a dtype and items which are arrays.

    Parameters
    ----------
    x : object
        An array of NumPy, a mapped file, a dataset of h5py, an array of zarr or the like. Of an
        array of NumPy the graph has the elements, once; of the others blocks are read by tasks.
        What is only read, a mapped file or a dataset, goes to other processes by its name.
    chunks : optional
        See `normalize_chunks`; automatic ones keep to the chunks of the store.
    name : str or bool, optional
        The array's name; False for one that no other array has. By default it is made of what is
        read.
    lock : bool or context manager
        Held while something is read; True for a new one. Each process has its own.
    asarray : bool, optional
        Blocks become arrays of NumPy. By default so, unless they can do themselves what NumPy's
        functions ask of arrays.
    fancy : bool
        Accepted; items are only asked for with slices.
    getitem : callable, optional
        ``getitem(x, slices)``, in place of ``x[slices]``.
    meta : array_like, optional
        Its dtype is the array's; for an `x` that has none.
    inline_array : bool
        Accepted; `x` is in the graph once in any case.

    Raises
    ------
    InvalidArgument
        If `x` is nothing of this; this is a ValueError too.

    Examples
    --------
    >>> x = from_array(np.arange(10), chunks=4)
    >>> x.chunks, int(x.sum().compute())
    (((4, 4, 2),), 45)
    """
    if isinstance(x, Array):
        raise InvalidArgument("this array is lazy already; use rechunk(), or asarray()")
    if isinstance(x, list | tuple | memoryview | int | float | complex | bool | str | np.generic):
        x = np.asarray(x)
    is_numpy = isinstance(x, np.ndarray) and not (is_mapped(x) and getattr(x, "mode", "") == "r")
    if is_numpy and getitem is None and not lock:
        return _from_numpy(x, chunks, name, asarray)
    dtype = getattr(meta, "dtype", None) if meta is not None else getattr(x, "dtype", None)
    if dtype is None or not hasattr(x, "shape") or not (getitem or hasattr(x, "__getitem__")):
        raise InvalidArgument(
            f"found a {type(x).__qualname__}; expected something with shape, dtype and items: an "
            "array of NumPy, a dataset of h5py, an array of zarr. Use numpy.asarray(x), or "
            "from_delayed() of what makes an array; meta= gives a dtype where there is none"
        )
    shape = tuple(int(length) for length in x.shape)
    if asarray is None:
        asarray = isinstance(x, np.ndarray) or not hasattr(x, "__array_function__")
    own = normalize_chunks(chunks, shape, np.dtype(dtype), previous=_own_chunks(x, shape))
    told = uuid.uuid4().hex if name is False else None
    reader = StoreReader(x, getitem, lock_of(lock), asarray, None, told)
    expr = Generated("array", reader, own, dtype)
    if isinstance(name, str):
        expr.rename(name)
    return Array(expr)


def _from_numpy(x: Any, chunks: Any, name: Any, as_array: bool | None) -> Array:
    if as_array is not False and not isinstance(x, np.ma.MaskedArray):
        x = np.asarray(x)
    if not isinstance(name, str):
        name = tokenize(x) if name is not False else uuid.uuid4().hex
        return from_numpy(x, chunks, name)
    made = from_numpy(x, chunks, name)
    if not isinstance(made.expr, Data):
        made.expr.rename(name)
    return made


def _own_chunks(store: Any, shape: tuple[int, ...]) -> Chunks | None:
    """Return the chunks that a store says it has, if it says so."""
    said = getattr(store, "chunks", None)
    if not isinstance(said, tuple | list) or len(said) != len(shape) or not shape:
        return None
    return normalize_chunks(tuple(said), shape)


# What asks for an array ---------------------------------------------------------------------------


def asarray(
    a: Any,
    allow_unknown_chunksizes: bool = False,
    dtype: Any = None,
    order: str | None = None,
    *,
    like: Any = None,
    copy: bool | None = None,
    device: str | None = None,
    chunks: Any = "auto",
    **kwargs: Any,
) -> Array:
    """Return an array of anything: the same one, if it is lazy already.

    Parameters
    ----------
    a : array_like
        Also a list of lazy arrays, and what `from_array` reads in parts, such as a dataset of h5py.
    allow_unknown_chunksizes : bool
        Lazy arrays of unknown chunk sizes may be put together; they are taken to be equal.
    dtype : dtype, optional
    order, like, copy, device
        As NumPy has them; without effect, since a lazy array has no memory that could be shared.
    chunks : optional
        Of what is not lazy yet.
    **kwargs
        Passed on to `from_array`.

    Raises
    ------
    TypeError
        For a lazy value, whose shape is not known.

    Examples
    --------
    >>> asarray([asarray([1, 2]), asarray([3, 4])]).compute()
    array([[1, 2],
           [3, 4]])
    """
    if isinstance(a, Delayed):
        raise TypeError(
            f"the shape of {a!r} is not known; use from_delayed(value, shape=…, dtype=…)"
        )
    if not isinstance(a, Array) and _is_store(a):
        made = from_array(a, chunks, **kwargs)
        return made if dtype is None else astype(made, dtype)
    if allow_unknown_chunksizes and isinstance(a, list | tuple):
        parts = [asarray(one, True) for one in a]
        a = stack(parts, allow_unknown_chunksizes=True)
    return asarray_of(a, dtype, order, device=device, copy=copy, like=like, chunks=chunks)


def asanyarray(a: Any, dtype: Any = None, order: str | None = None, **kwargs: Any) -> Array:
    """Return an array of anything; blocks of subclasses of NumPy's array stay such. See `asarray`.

    Examples
    --------
    >>> asanyarray([1.5, 2]).dtype
    dtype('float64')
    """
    if isinstance(a, np.ndarray) and type(a) is not np.ndarray and not is_mapped(a):
        made = from_array(a, kwargs.pop("chunks", "auto"), asarray=False)
        return made if dtype is None else astype(made, dtype)
    return asarray(a, dtype=dtype, order=order, **kwargs)


def _is_store(a: Any) -> bool:
    """Tell whether something is better read in parts than turned into an array of NumPy."""
    if isinstance(a, np.ndarray):
        return is_mapped(a)
    return all(hasattr(a, name) for name in ("shape", "dtype", "chunks", "__getitem__"))


# Lazy values --------------------------------------------------------------------------------------


class _FromDelayed(Emitted):
    """A block that a delayed call makes."""

    def __init__(self, value: Delayed, chunks: Chunks, dtype: Any, name: str | None) -> None:
        super().__init__("from-value", (), chunks, dtype)
        self.value = value
        if name is not None:
            self.rename(name)

    def token(self) -> Any:
        return (self.value.key, self.chunks, str(self.dtype))

    def emit(self, lowering: Lowering) -> Codes:
        """Add the calls of all such blocks at once: what they share is made once."""
        blocks = [one for one in topological(lowering.outputs) if isinstance(one, _FromDelayed)]
        calls, rebuild = Delayed.__zcluster_lower__([one.value for one in blocks])
        tasks = [task for first, count in calls.outputs for task in range(first, first + count)]
        calls.outputs = []
        offset = lowering.graph.merge(calls)
        for one, task in zip(blocks, rebuild(tasks), strict=True):
            lowering.put(one, np.full(one.numblocks, task + offset, np.int64))
        return lowering.codes(self)


def lazy_object(value: Delayed) -> Expr:
    """Return an expression without axes, whose only block is whatever a lazy value gives."""
    return _FromDelayed(value, (), object, None)


class _Expected:
    """Sees that a block has the promised shape."""

    __slots__ = ("dtype", "name")

    __name__ = "from_delayed"

    def __init__(self, name: str, dtype: Any) -> None:
        self.name = name
        self.dtype = dtype

    def __call__(self, block: Any, promised: tuple[int, ...]) -> Any:
        shape = np.shape(block)
        if len(shape) != len(promised) or any(
            length not in (had, -1) for had, length in zip(shape, promised, strict=True)
        ):
            raise InvalidArgument(
                f"{self.name} gave an array of shape {shape}; from_delayed was told "
                f"{tuple('?' if n < 0 else n for n in promised)}"
            )
        return block if hasattr(block, "dtype") else np.asarray(block, self.dtype)

    def __zcluster_tokenize__(self) -> Any:
        return ("expected", self.name, str(self.dtype))


def from_delayed(
    value: Any, shape: Any, dtype: Any = None, meta: Any = None, name: str | None = None
) -> Array:
    """Return an array of one block, which is a lazy value.

    Parameters
    ----------
    value : Delayed or Future
    shape : tuple of int
        nan for lengths that are not known.
    dtype : dtype
    meta : array_like, optional
        Its dtype is the array's, where `dtype` is left out.
    name : str, optional
        The array's name; by default it is made of the value's key.

    Examples
    --------
    >>> halves = [delayed(np.full)(3, n) for n in (1, 2)]
    >>> from zcluster.array.joining import concatenate
    >>> concatenate([from_delayed(one, (3,), int) for one in halves]).compute()
    array([1, 1, 1, 2, 2, 2])
    """
    if dtype is None:
        dtype = getattr(meta, "dtype", None)
    if dtype is None:
        raise InvalidArgument("from_delayed needs to know the dtype; say dtype= or meta=")
    lengths = tuple(shape) if isinstance(shape, tuple | list) else (shape,)
    chunks: Chunks = tuple((n if math.isnan(n) else operator.index(n),) for n in lengths)
    if getattr(type(value), "__zcluster_input__", False) and not isinstance(value, Delayed):
        block = np.empty(1, object)
        block[0] = value
        key = str(getattr(value, "key", "value"))
        held = Held(f"from-value-{tokenize(key)}", block.reshape((1,) * len(chunks)), chunks, dtype)
        source: Expr = held
    else:
        value = value if isinstance(value, Delayed) else delayed(value)
        key = value.key
        source = _FromDelayed(value, chunks, dtype, None)
    made = Blockwise(
        "from-value",
        _Expected(key, np.dtype(dtype)),
        [source],
        [0],
        [tuple(range(len(chunks)))],
        chunks,
        dtype,
        extra=(("promised", "shape"),),
    )
    if name is not None:
        made.rename(name)
    return Array(made)


def to_delayed(array: Array, optimize_graph: bool = True) -> Any:
    """Return the blocks as lazy values, in an array of NumPy in the grid of the blocks.

    Parameters
    ----------
    array : Array
    optimize_graph : bool
        Accepted; graphs are written as they will run.

    Examples
    --------
    >>> blocks = to_delayed(from_numpy(np.arange(6), chunks=2) + 1)
    >>> blocks.shape, (blocks[1] * 10).compute()
    ((3,), array([30, 40]))
    """
    with passing_objects(True):  # the calls themselves: they are packed when they are run
        graph, (codes,) = lower_arrays([array.expr])
    view = GraphView(graph)
    nodes: dict[Any, Delayed] = {}
    for key in view:
        nodes[key] = _node(view[key], key, nodes)
    blocks = np.empty(codes.size, object)
    for place, task in enumerate(codes.reshape(-1).tolist()):
        blocks[place] = nodes[graph.key(task)]
    return blocks.reshape(array.numblocks)


def _node(task: Any, key: Any, nodes: dict[Any, Delayed]) -> Delayed:
    """Return a lazy value for a task as the graph shows it."""
    parts = key if isinstance(key, tuple) else (key,)
    label = str(parts[0]).rpartition("-")[0] or "array"
    name = "-".join(map(str, parts))
    if isinstance(task, tuple) and task and callable(task[0]):
        function, arguments = task[0], tuple(_argument(one, nodes) for one in task[1:])
        return Delayed(label, function, arguments, {}, name, None, True)
    found = _argument(task, nodes)
    if found is not task or getattr(type(task), "__zcluster_input__", False):
        return Delayed(label, the_same, (found,), {}, name, None, True)
    return Delayed(label, None, (task,), {}, name, None, True)


def _argument(value: Any, nodes: dict[Any, Delayed]) -> Any:
    """Return an argument of a task with lazy values in the place of keys."""
    if isinstance(value, tuple) and value and value[0] is operator.getitem:
        return Delayed("getitem", operator.getitem, (_argument(value[1], nodes), value[2]), {})
    if isinstance(value, list):
        return [_argument(one, nodes) for one in value]
    try:
        return nodes.get(value, value)
    except TypeError:  # not hashable: an array, say
        return value


METHODS = {"to_delayed": to_delayed}
