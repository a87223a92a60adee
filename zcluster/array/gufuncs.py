"""Generalised ufuncs: functions of whole core dimensions, along blocks of all other axes.

`apply_gufunc` calls a function with blocks: aligned along the loop dimensions of its signature, and
with the core dimensions in one piece, at the end (`signatures`). A function of several results
makes them in one task a block, and each of them is taken from there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from zcluster.array.chunks import AxisChunks, Chunks, broadcast_shapes
from zcluster.array.core import Array, asarray, permuted, rechunked, unified
from zcluster.array.emission import Edges
from zcluster.array.expressions import Blockwise, Emitted, Expr, PartOf
from zcluster.array.lowering import Codes, Lowering
from zcluster.array.rows import Rows
from zcluster.array.signatures import Core, Signature, order_to_end, parse, placed
from zcluster.errors import InvalidArgument
from zcluster.protocol.blobs import Parts
from zcluster.protocol.callables import callable_name
from zcluster.protocol.messages import Slot

__all__ = ["apply_gufunc", "as_gufunc", "gufunc"]

#: Elements of the arrays that a function is tried on to find out its dtypes.
_MOST_TRIED = 10_000


def apply_gufunc(
    func: Callable[..., Any],
    signature: str,
    *args: Any,
    axes: Any = None,
    axis: int | None = None,
    keepdims: bool = False,
    output_dtypes: Any = None,
    output_sizes: dict[str, int] | None = None,
    vectorize: bool | None = None,
    allow_rechunk: bool = False,
    meta: Any = None,
    **kwargs: Any,
) -> Any:
    """Call a function of whole core dimensions with blocks of all other axes.

    Parameters
    ----------
    func : callable
        Called with arrays whose last axes are the core dimensions; those before are broadcast, as
        by a ufunc.
    signature : str
        The core dimensions of arguments and results, such as ``"(i,j),(j)->(i)"``.
    *args : array_like
    axes : list of tuple of int, optional
        Where the core dimensions are, for each argument and result; by default they are last.
    axis : int, optional
        The same, where all arguments share one core dimension.
    keepdims : bool
        Results without core dimensions have those of the arguments, with length 1.
    output_dtypes : dtype or sequence of dtypes, optional
        Of the results; by default what the function gives when it is tried on ones.
    output_sizes : dict, optional
        Lengths of core dimensions that only results have.
    vectorize : bool, optional
        The function takes core dimensions alone; it is called in a loop (`numpy.vectorize`).
    allow_rechunk : bool
        Bring core dimensions into one chunk where they are in several.
    meta : array or tuple of arrays, optional
        Of which the dtypes are the results'.
    **kwargs
        Passed on to the function.

    Returns
    -------
    results : Array or tuple of Array

    Raises
    ------
    InvalidArgument
        If signature and arguments do not go together, or (when computed) results come in other
        shapes than the signature says; this is a ValueError too.

    Examples
    --------
    >>> def span(block):
    ...     return block.min(axis=-1), block.max(axis=-1)
    >>> low, high = apply_gufunc(span, "(i)->(),()", [[1, 5, 3], [8, 7, 9]])
    >>> low.compute(), high.compute()
    (array([1, 7]), array([5, 9]))
    """
    parsed = parse(signature)
    if len(args) != len(parsed.inputs):
        raise InvalidArgument(
            f"{len(args)} arguments for signature {signature!r}; expected {len(parsed.inputs)}"
        )
    where = placed(parsed, axes, axis, keepdims)
    arrays = [asarray(one) for one in args]
    turned = [_turned(array, own) for array, own in zip(arrays, where.inputs, strict=True)]
    sizes = _sizes(parsed, turned, output_sizes or {})
    cores = [len(core) for core in parsed.inputs]
    whole = [_whole(*one, allow_rechunk) for one in zip(turned, parsed.inputs, strict=True)]
    whole, loops = _aligned(whole, cores)
    shapes = [tuple(sizes[name] for name in core) for core in parsed.outputs]
    call = Loop(func, signature if vectorize else None, kwargs, shapes, parsed.is_single)
    call.dtypes = _dtypes(call, whole, parsed, sizes, output_dtypes, meta)
    made = _made(call, callable_name(func), whole, cores, loops)
    results = []
    for result, own in zip(made, where.outputs, strict=True):
        if keepdims:
            order: list[int | None] = [*range(result.ndim), *[None] * len(parsed.inputs[0])]
            result = permuted(result, order, "keepdims")
        results.append(_turned_back(result, own))
    return results[0] if parsed.is_single else tuple(results)


def _turned(array: Array, axes: tuple[int, ...]) -> Array:
    """Bring axes to the end."""
    if len(axes) > array.ndim:
        raise InvalidArgument(
            f"an argument of {array.ndim} dimensions; the signature says {len(axes)} core "
            "dimensions or more"
        )
    order = order_to_end(axes, array.ndim)
    return array if order == list(range(array.ndim)) else permuted(array, order)


def _turned_back(array: Array, axes: tuple[int, ...]) -> Array:
    """Bring the last axes to where they belong."""
    order = order_to_end(axes, array.ndim)
    if order == list(range(array.ndim)):
        return array
    return permuted(array, [order.index(axis) for axis in range(array.ndim)])


def _sizes(signature: Signature, arrays: Sequence[Array], said: dict[str, int]) -> dict[str, Any]:
    """Return the length of every core dimension."""
    sizes: dict[str, Any] = {name: int(length) for name, length in said.items()}
    for core in (*signature.inputs, *signature.outputs):
        sizes |= {name: int(name) for name in core if name.isdigit()}
    for array, core in zip(arrays, signature.inputs, strict=True):
        for name, length in zip(core, array.shape[array.ndim - len(core) :], strict=True):
            known = sizes.setdefault(name, length)
            if known != length and known == known and length == length:
                raise InvalidArgument(
                    f"core dimension {name!r} has lengths {known} and {length}; expected one"
                )
    for core in signature.outputs:
        for name in core:
            if name not in sizes:
                raise InvalidArgument(
                    f"core dimension {name!r} of the results is in no argument; say its length: "
                    f"output_sizes={{{name!r}: …}}"
                )
    return sizes


def _whole(array: Array, core: Core, allow_rechunk: bool) -> Array:
    """See that core dimensions are in one chunk."""
    first = array.ndim - len(core)
    cut = [axis for axis in range(first, array.ndim) if array.numblocks[axis] > 1]
    if not cut:
        return array
    if not allow_rechunk:
        axis = cut[0]
        raise InvalidArgument(
            f"core dimension {core[axis - first]!r} has {array.numblocks[axis]} chunks; expected "
            "one: rechunk it first, or give allow_rechunk=True, which brings it into one chunk at "
            "the price of memory"
        )
    return rechunked(array, dict.fromkeys(cut, -1))


def _aligned(arrays: list[Array], cores: list[int]) -> tuple[list[Array], Chunks]:
    """Give arrays the same chunks along their loop dimensions; return these."""
    loops = [array.ndim - core for array, core in zip(arrays, cores, strict=True)]
    broadcast_shapes(*[array.shape[:loop] for array, loop in zip(arrays, loops, strict=True)])
    most = max(loops, default=0)
    numbers = [
        (*range(most - loop, most), *[-1] * core) for loop, core in zip(loops, cores, strict=True)
    ]
    arrays, found = unified(arrays, numbers)
    return arrays, tuple(found[number] for number in range(most))


# Calling ------------------------------------------------------------------------------------------


class Loop:
    """Calls a function with blocks, and looks at what it returns.

    Attributes
    ----------
    vectorized : str or None
        The signature, if the function is to be called in a loop.
    shapes : list of tuple
        Of the core dimensions of the results.
    is_single : bool
        It returns one result, not a sequence.
    dtypes : list of dtype or None
        Of the results, once they are known.
    """

    __slots__ = ("dtypes", "function", "is_single", "kwargs", "shapes", "vectorized")

    def __init__(
        self,
        function: Callable[..., Any],
        vectorized: str | None,
        kwargs: dict[str, Any],
        shapes: list[tuple[Any, ...]],
        is_single: bool,
    ) -> None:
        self.function = function
        self.vectorized = vectorized
        self.kwargs = kwargs
        self.shapes = shapes
        self.is_single = is_single
        self.dtypes: list[Any] | None = None

    @property
    def __name__(self) -> str:
        return callable_name(self.function)

    def __zcluster_tokenize__(self) -> Any:
        dtypes = list(map(str, self.dtypes or ()))
        return ("loop", self.function, self.vectorized, self.kwargs, str(self.shapes), dtypes)

    def call(self, blocks: Sequence[Any]) -> list[Any]:
        """Return the results, however many there are."""
        function = self.function
        if self.vectorized is not None:
            otypes = None if self.dtypes is None else [one.char for one in self.dtypes]
            function = np.vectorize(function, otypes=otypes, signature=self.vectorized)
        found = function(*blocks, **self.kwargs)
        if self.is_single:
            return [found]
        if not isinstance(found, tuple | list) or len(found) != len(self.shapes):
            what = f"{len(found)} results" if isinstance(found, tuple | list) else "one result"
            raise InvalidArgument(
                f"{self.__name__} returned {what}; the signature says {len(self.shapes)}"
            )
        return list(found)

    def __call__(self, *blocks: Any, at: tuple[int, ...], loop: tuple[int, ...]) -> Any:
        results = []
        for found, core in zip(self.call(blocks), self.shapes, strict=True):
            promised = (*loop, *core)
            shape = np.shape(found)
            if len(shape) != len(promised) or any(
                n != m for n, m in zip(shape, promised, strict=True) if m >= 0
            ):
                raise InvalidArgument(
                    f"{self.__name__} returned an array of shape {shape} for block {at} of the "
                    f"loop dimensions; the signature says {promised}"
                )
            results.append(np.asarray(found))
        return results[0] if self.is_single else Parts(results)


def _dtypes(
    call: Loop,
    arrays: Sequence[Array],
    signature: Signature,
    sizes: dict[str, Any],
    said: Any,
    meta: Any,
) -> list[Any]:
    """Return the dtypes of the results, as they are said or found out."""
    count = len(signature.outputs)
    given = said
    if given is None and meta is not None:
        listed = meta if isinstance(meta, tuple | list) else (meta,)
        given = [getattr(one, "dtype", np.asarray(one).dtype) for one in listed]
    if given is not None:
        several = isinstance(given, tuple | list)
        if len(given) != count if several else count != 1:
            raise InvalidArgument(
                f"output_dtypes={said!r}, meta={meta!r} for {count} results; expected one for each"
            )
        return [np.dtype(one) for one in (given if several else [given])]
    lengths = {n: 1 if size != size else size for n, size in sizes.items()}
    small = {n: int(n) if n.isdigit() else 1 for n in sizes}
    problem: Exception | None = None
    for tried in (lengths, small):
        blocks = []
        for array, core in zip(arrays, signature.inputs, strict=True):
            shape = (*[1] * (array.ndim - len(core)), *[tried[name] for name in core])
            blocks.append(np.ones(shape, array.dtype))
        if sum(block.size for block in blocks) > _MOST_TRIED:
            continue
        try:
            with np.errstate(all="ignore"):
                return [np.asarray(one).dtype for one in call.call(blocks)]
        except Exception as error:  # whatever the user's function does not take
            problem = error
    why = f": {type(problem).__name__}: {problem}" if problem else ""
    raise InvalidArgument(
        f"the dtypes of what {call.__name__} returns could not be found out by calling it with "
        f"ones{why}; say them with output_dtypes="
    ) from problem


def _made(
    call: Loop, label: str, arrays: Sequence[Array], cores: Sequence[int], loops: Chunks
) -> list[Array]:
    """Return the results as arrays, core dimensions last."""
    dtypes = call.dtypes
    assert dtypes is not None  # they were found out before
    outputs: list[Chunks] = []
    for shape in call.shapes:
        own: list[AxisChunks] = [(length,) for length in shape]
        outputs.append((*loops, *own))
    axes = []
    for array, core in zip(arrays, cores, strict=True):
        loop = array.ndim - core
        ahead = len(loops) - loop
        axes.append(
            tuple(
                ahead + axis if axis < loop and array.numblocks[axis] > 1 else -1
                for axis in range(array.ndim)
            )
        )
    made = Blockwise(
        label,
        call,
        [array.expr for array in arrays],
        tuple(range(len(arrays))),
        axes,
        outputs[0] if call.is_single else loops,
        dtypes[0] if call.is_single else object,
        reads_only=False,
        extra=(("at", "index"), ("loop", "shape")),
    )
    if call.is_single:
        made.function = OfLoop(call, len(loops))
        return [Array(made)]
    results = Results(made, outputs, dtypes)
    return [
        Array(PartOf(results, number, label, chunks, dtype))
        for number, (chunks, dtype) in enumerate(zip(outputs, dtypes, strict=True))
    ]


class OfLoop:
    """The same of a whole block's place and shape, of which the first axes are the loop's."""

    __slots__ = ("call", "count")

    def __init__(self, call: Loop, count: int) -> None:
        self.call = call
        self.count = count

    @property
    def __name__(self) -> str:
        return self.call.__name__

    def __call__(self, *blocks: Any, at: tuple[int, ...], loop: tuple[int, ...]) -> Any:
        return self.call(*blocks, at=at[: self.count], loop=loop[: self.count])

    def __zcluster_tokenize__(self) -> Any:
        return ("of-loop", self.call, self.count)


class Results(Emitted):
    """The results of a function that makes several, each taken from what it returned.

    Parameters
    ----------
    source : Expr
        Whose blocks are the sequences that the function returned.
    outputs : list of chunks
    dtypes : list of dtype
    """

    def __init__(self, source: Expr, outputs: list[Chunks], dtypes: list[Any]) -> None:
        super().__init__(source.label, [source], outputs[0], dtypes[0])
        self.outputs = outputs
        self.dtypes = dtypes

    def token(self) -> Any:
        return str(self.outputs), list(map(str, self.dtypes))

    def with_inputs(self, inputs: Sequence[Expr]) -> Expr:
        return Results(inputs[0], self.outputs, self.dtypes)

    def emit(self, lowering: Lowering) -> list[Codes]:
        codes = lowering.codes(self.inputs[0])
        count = codes.size
        slot = Slot(1, 0, 1 / len(self.outputs))
        made = []
        for number, chunks in enumerate(self.outputs):
            shape = tuple(map(len, chunks))
            numbers = np.full(count, number, np.int64)
            edges = Edges(Rows.fixed(codes.reshape(-1, 1)), [slot], numbers)
            taken = lowering.add(
                f"{self.name}-{number}", _itself, edges, shape=shape, options=self.options
            )
            made.append(taken.reshape(shape))
        return made


def _itself(block: Any) -> Any:
    return block


# As objects ---------------------------------------------------------------------------------------


class gufunc:
    """A function with a signature, which arrays in chunks can be given to.

    Parameters
    ----------
    pyfunc : callable
    signature : str, optional
        By default the function's own attribute ``signature``.
    **options
        As of `apply_gufunc`.

    Examples
    --------
    >>> mean = gufunc(lambda x: x.mean(axis=-1), signature="(i)->()")
    >>> mean([[1.0, 3.0], [5.0, 7.0]]).compute()
    array([2., 6.])
    """

    def __init__(
        self,
        pyfunc: Callable[..., Any],
        *,
        signature: str | None = None,
        vectorize: bool = False,
        axes: Any = None,
        axis: int | None = None,
        keepdims: bool = False,
        output_sizes: dict[str, int] | None = None,
        output_dtypes: Any = None,
        allow_rechunk: bool = False,
        meta: Any = None,
    ) -> None:
        found = getattr(pyfunc, "signature", None) if signature is None else signature
        if not isinstance(found, str):
            raise InvalidArgument(
                f"{callable_name(pyfunc)} has no signature; give one, such as "
                "signature='(i),(i)->()'"
            )
        parse(found)
        self.pyfunc = pyfunc
        self.signature = found
        self.options = {
            "vectorize": vectorize,
            "axes": axes,
            "axis": axis,
            "keepdims": keepdims,
            "output_sizes": output_sizes,
            "output_dtypes": output_dtypes,
            "allow_rechunk": allow_rechunk,
            "meta": meta,
        }
        self.__name__ = callable_name(pyfunc)
        self.__doc__ = getattr(pyfunc, "__doc__", None)

    def __repr__(self) -> str:
        return f"<gufunc {self.__name__!r} of signature {self.signature!r}>"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call it with arrays; keywords are options of `apply_gufunc`, or the function's own."""
        return apply_gufunc(self.pyfunc, self.signature, *args, **(self.options | kwargs))


def as_gufunc(
    signature: str | None = None, **kwargs: Any
) -> Callable[[Callable[..., Any]], gufunc]:
    """Return a decorator that makes a `gufunc` of a function.

    Parameters
    ----------
    signature : str, optional
    **kwargs
        Options of `apply_gufunc`.

    Examples
    --------
    >>> @as_gufunc("(i),(i)->()")
    ... def dot(x, y):
    ...     return (x * y).sum(axis=-1)
    >>> dot([[1, 2], [3, 4]], [10, 100]).compute()
    array([210, 430])
    """

    def decorate(function: Callable[..., Any]) -> gufunc:
        return gufunc(function, signature=signature, **kwargs)

    return decorate
