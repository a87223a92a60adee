"""How an array behaves where Python, NumPy and notebooks expect an array.

- NumPy's functions and ufuncs stay lazy: ``np.sum(x)`` is `zcluster.array.sum` of `x`. There is no
  table: a function of NumPy's is looked up here under the name that it has there. Where there is
  none, the error says what to do instead.
- What needs values computes them: ``float(x)``, ``bool(x)``, ``np.asarray(x)``, ``x.tolist()``.
- `__array_namespace__` is the standard of array libraries; docs/array-api.md says what is left out.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from zcluster.array import drawing
from zcluster.array.chunks import is_known
from zcluster.array.core import Array, rechunked
from zcluster.array.expressions import Blockwise
from zcluster.array.lowering import lower_arrays
from zcluster.array.missing import missing
from zcluster.array.restating import Restated, check_known, picked
from zcluster.array.routines import matrix_transpose
from zcluster.array.universal import Ufunc
from zcluster.collection.compute import compute
from zcluster.errors import InvalidArgument

__all__ = ["API_VERSIONS", "compute_chunk_sizes", "view"]

#: Of the array API standard.
API_VERSIONS = ("2021.12", "2022.12", "2023.12", "2024.12")

_CHUNKTYPE = "numpy.ndarray"


# NumPy's functions --------------------------------------------------------------------------------


def _array_ufunc(array: Array, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
    """Call a ufunc of NumPy's, or a method of one; lazy."""
    given = [*inputs, *kwargs.get("out", ())]
    for one in given:
        is_ours = isinstance(one, Array | np.ndarray | np.generic)
        if not is_ours and hasattr(type(one), "__array_ufunc__"):
            return NotImplemented  # its own library is asked next
    if ufunc.signature is not None:
        if method == "__call__":
            return _found(ufunc.__name__)(*inputs, **kwargs)
        raise NotImplementedError(
            f"{ufunc.__name__}.{method} of arrays in chunks; use apply_gufunc, or map_blocks with "
            "the axes in one chunk"
        )
    function = Ufunc(ufunc)
    if method == "__call__":
        return function(*inputs, **kwargs)
    return getattr(function, method)(*inputs, **kwargs)


def _array_function(
    array: Array, func: Any, types: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Call the function here that has the name of a function of NumPy's."""
    if not all(issubclass(kind, Array | np.ndarray) for kind in types):
        return NotImplemented
    owner = func.__module__.removeprefix("numpy").strip(".")
    return _found(f"{owner}.{func.__name__}" if owner else func.__name__)(*args, **kwargs)


def _found(name: str) -> Any:
    """Return the function of this package that has a name of NumPy's.

    Raises
    ------
    NotAvailable
        If there is none; the text says what to do instead.
    """
    value: Any = sys.modules[__name__.rpartition(".")[0]]
    for part in name.split("."):
        if not hasattr(value, part):
            raise missing(name)
        value = getattr(value, part)
    return value


def _array_namespace(array: Array, *, api_version: str | None = None) -> Any:
    """Return the module with the functions of the array API standard."""
    if api_version is not None and api_version not in API_VERSIONS:
        raise ValueError(
            f"version {api_version!r} of the array API standard; expected one of "
            f"{', '.join(API_VERSIONS)}"
        )
    return sys.modules[__name__.rpartition(".")[0]]


# Values -------------------------------------------------------------------------------------------


def _array(array: Array, dtype: Any = None, copy: bool | None = None) -> Any:
    """Return the values, as NumPy asks for them."""
    if copy is False:
        raise ValueError(
            "Unable to avoid copy while creating an array as requested: an array in chunks is "
            "computed; leave out copy=False"
        )
    value = np.asarray(array.compute())
    return value if dtype is None else value.astype(dtype, copy=False)


def _scalar(array: Array) -> Any:
    """Return the only element, in an array without axes or with axes of length 1."""
    if array.size > 1:
        raise TypeError(
            f"only arrays of one element can be converted to Python scalars; found shape "
            f"{array.shape}"
        )
    return array.compute()


def _float(array: Array) -> float:
    return float(_scalar(array))


def _int(array: Array) -> int:
    return int(_scalar(array))


def _complex(array: Array) -> complex:
    return complex(_scalar(array))


def _index(array: Array) -> int:
    if array.ndim or array.dtype.kind not in "iu":
        raise TypeError(
            "only integer scalar arrays can be converted to a scalar index; found "
            f"{array.ndim} axes of {array.dtype}"
        )
    return int(array.compute())


def _bool(array: Array) -> bool:
    if array.size > 1:
        raise ValueError(
            f"The truth value of an array with more than one element is ambiguous; found shape "
            f"{array.shape}. Use a.any() or a.all()"
        )
    return bool(array.compute())


def _len(array: Array) -> int:
    if not array.ndim:
        raise TypeError("len() of unsized object: the array has no axes")
    check_known(array, [0], "len()")
    return int(array.shape[0])


def _iter(array: Array) -> Iterator[Array]:
    if not array.ndim:
        raise TypeError("iteration over a 0-d array")
    check_known(array, [0], "iteration")
    return (array[place] for place in range(array.shape[0]))


def _contains(array: Array, item: Any) -> bool:
    return bool((array == item).any())


def item(array: Array, *args: Any) -> Any:
    """Return one element as an object of Python; see `numpy.ndarray.item`."""
    if not args:
        if array.size != 1 and not math.isnan(array.size):
            raise ValueError("can only convert an array of size 1 to a Python scalar")
        return np.asarray(array.compute()).item()
    place = args[0] if len(args) == 1 and isinstance(args[0], tuple) else args
    if len(place) == 1 and array.ndim != 1:
        check_known(array, range(array.ndim), "item with one number")
        number = place[0] + array.size if place[0] < 0 else place[0]
        place = tuple(int(n) for n in np.unravel_index(number, array.shape))
    return np.asarray(array[tuple(place)].compute()).item()


def tolist(array: Array) -> Any:
    """Return the values as nested lists of objects of Python."""
    return np.asarray(array.compute()).tolist()


def compute_chunk_sizes(array: Array, **kwargs: Any) -> Array:
    """Compute the lengths of chunks that are not known; the array knows them from then on.

    Only the blocks along the first line of each such axis are looked at. They are computed for it,
    and again when the array is: `persist` first if that is dear.

    Parameters
    ----------
    array : Array
    **kwargs
        As `compute` has them, such as ``scheduler=``.

    Returns
    -------
    array : Array
        The same object.

    Examples
    --------
    >>> from zcluster.array.core import from_numpy
    >>> x = from_numpy(np.arange(6), chunks=3)
    >>> y = x[x > 1]
    >>> y.shape, y.compute_chunk_sizes().chunks, y.shape
    ((nan,), ((1, 3),), (4,))
    """
    unknown = [axis for axis, own in enumerate(array.chunks) if not is_known(own)]
    if not unknown:
        return array
    found = compute(*[_lengths(array, axis) for axis in unknown], **kwargs)
    chunks = list(array.chunks)
    for axis, lengths in zip(unknown, found, strict=True):
        chunks[axis] = tuple(np.asarray(lengths).tolist())
    array._expr = Restated(array.expr, tuple(chunks))
    return array


class _LengthOf:
    """Returns the length of a block along an axis."""

    __slots__ = ("axis",)

    __name__ = "length"

    def __init__(self, axis: int) -> None:
        self.axis = axis

    def __call__(self, block: Any) -> Any:
        return np.array([block.shape[self.axis]], np.int64)

    def __zcluster_tokenize__(self) -> Any:
        return ("length of", self.axis)


def _lengths(array: Array, axis: int) -> Array:
    """Return the lengths of the chunks along an axis."""
    places = [range(len(own)) if n == axis else [0] for n, own in enumerate(array.chunks)]
    line = picked(array, places)
    axes = tuple(0 if n == axis else -1 for n in range(array.ndim))
    chunks = ((1,) * len(array.chunks[axis]),)
    function = _LengthOf(axis)
    return Array(Blockwise("lengths", function, [line.expr], [0], [axes], chunks, np.int64))


# Memory -------------------------------------------------------------------------------------------


class _View:
    """The function of `view`: the same bytes as another dtype."""

    __slots__ = ("dtype",)

    __name__ = "view"

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self.dtype = dtype

    def __call__(self, block: Any) -> Any:
        same = block.dtype.itemsize == self.dtype.itemsize
        return (block if same else np.ascontiguousarray(block)).view(self.dtype)

    def __zcluster_tokenize__(self) -> Any:
        return ("view", self.dtype)


def view(array: Array, dtype: Any = None) -> Array:
    """Return an array of the same bytes, as another dtype.

    With another size of items the last axis becomes longer or shorter.

    Raises
    ------
    ValueError
        If the bytes of the last axis do not go into the items evenly.

    Examples
    --------
    >>> from zcluster.array.core import from_numpy
    >>> view(from_numpy(np.array([1.0])), "i8").compute()
    array([4607182418800017408])
    """
    if dtype is None:
        return Array(array.expr)
    wanted = np.dtype(dtype)
    old, new = array.dtype.itemsize, wanted.itemsize
    chunks = list(array.chunks)
    if old != new:
        if not array.ndim:
            raise ValueError(
                "Changing the dtype of a 0d array is only supported if the itemsize is unchanged"
            )
        check_known(array, [array.ndim - 1], "view with items of another size")
        if array.shape[-1] * old % new:
            raise ValueError(
                "When changing to a larger dtype, its size must be a divisor of the total size in "
                f"bytes of the last axis of the array; found {array.shape[-1] * old} bytes for "
                f"items of {new}"
            )
        if any(n * old % new for n in chunks[-1]):
            array = rechunked(array, {-1: -1})
            chunks = list(array.chunks)
        chunks[-1] = tuple(n * old // new for n in chunks[-1])
    axes = tuple(range(array.ndim))
    return Array(Blockwise("view", _View(wanted), [array.expr], [0], [axes], tuple(chunks), wanted))


# Showing ------------------------------------------------------------------------------------------


def _repr(array: Array) -> str:
    return drawing.text(array.name, array.shape, array.dtype, array.chunksize, _CHUNKTYPE)


def _repr_html(array: Array) -> str:
    """Return what notebooks show."""
    graph, _ = lower_arrays([array.expr])
    return drawing.html(
        array.name,
        array.shape,
        array.dtype,
        array.chunks,
        tasks=graph.count,
        layers=len(graph.layers),
        chunktype=_CHUNKTYPE,
    )


def to_svg(array: Array) -> str:
    """Return a picture of the blocks."""
    return drawing.svg(array.chunks)


def to_device(array: Array, device: str, /, *, stream: Any = None) -> Array:
    """Return the array, which is on the only device that there is: ``"cpu"``."""
    if device != "cpu":
        raise InvalidArgument(f"device {device!r}; expected 'cpu': blocks are NumPy's")
    return array


def _device(array: Array) -> str:
    """Return ``"cpu"``, as the array API standard has it."""
    return "cpu"


METHODS = {
    "__array__": _array,
    "__array_function__": _array_function,
    "__array_namespace__": _array_namespace,
    "__array_ufunc__": _array_ufunc,
    "__bool__": _bool,
    "__complex__": _complex,
    "__contains__": _contains,
    "__float__": _float,
    "__index__": _index,
    "__int__": _int,
    "__iter__": _iter,
    "__len__": _len,
    "__repr__": _repr,
    "_repr_html_": _repr_html,
    "compute_chunk_sizes": compute_chunk_sizes,
    "item": item,
    "to_device": to_device,
    "to_svg": to_svg,
    "tolist": tolist,
    "view": view,
}
PROPERTIES = {"device": _device, "mT": matrix_transpose}
