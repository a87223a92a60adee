"""What a universal function of NumPy's is here: lazy, if one of its operands is.

A `Ufunc` has the keywords and methods of NumPy's: ``where=``, ``dtype=``, ``out=`` with an array in
chunks, ``outer``, ``reduce``. Without an array in chunks among its operands it is NumPy's function,
which answers at once; so it may be used inside the functions of blocks. `ufuncs` has all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from zcluster.array.chunks import is_known, normalize_axes, normalize_axis
from zcluster.array.core import Array, asarray, elementwise, permuted, rechunked
from zcluster.array.expressions import Blockwise, Reduction
from zcluster.array.manipulation import astype, broadcast_to
from zcluster.array.programs import Fold
from zcluster.errors import InvalidArgument
from zcluster.protocol.callables import callable_name

__all__ = ["Ufunc", "frompyfunc", "put_into"]

#: Ufuncs of which it does not matter in which groups operands are taken.
_ASSOCIATIVE = frozenset(
    {
        "add",
        "bitwise_and",
        "bitwise_or",
        "bitwise_xor",
        "fmax",
        "fmin",
        "gcd",
        "hypot",
        "lcm",
        "logaddexp",
        "logaddexp2",
        "logical_and",
        "logical_or",
        "logical_xor",
        "maximum",
        "minimum",
        "multiply",
    }
)


class _Called:
    """A ufunc with keywords, or one of its results."""

    __slots__ = ("kwargs", "part", "ufunc")

    def __init__(self, ufunc: Any, kwargs: dict[str, Any], part: int | None) -> None:
        self.ufunc = ufunc
        self.kwargs = kwargs
        self.part = part

    @property
    def __name__(self) -> str:
        return callable_name(self.ufunc)

    def __call__(self, *blocks: Any) -> Any:
        found = self.ufunc(*blocks, **self.kwargs)
        return found if self.part is None else found[self.part]

    def __zcluster_tokenize__(self) -> Any:
        return ("called", self.ufunc, self.kwargs, self.part)


class _Masked:
    """A ufunc where a mask says so; elsewhere what is there is taken, or 0."""

    __slots__ = ("kwargs", "part", "ufunc")

    def __init__(self, ufunc: Any, kwargs: dict[str, Any], part: int) -> None:
        self.ufunc = ufunc
        self.kwargs = kwargs
        self.part = part

    @property
    def __name__(self) -> str:
        return callable_name(self.ufunc)

    def __call__(self, mask: Any, held: Any, *blocks: Any) -> Any:
        shape = np.broadcast_shapes(np.shape(mask), np.shape(held), *map(np.shape, blocks))
        ones = [
            np.ones((), np.asarray(one).dtype) if hasattr(one, "dtype") else one for one in blocks
        ]
        probe = self.ufunc(*ones, **self.kwargs)
        found = probe if type(probe) is tuple else (probe,)
        outs = []
        for number, one in enumerate(found):
            start = 0 if held is None or number != self.part else held
            outs.append(np.array(np.broadcast_to(np.asarray(start, one.dtype), shape)))
        self.ufunc(*blocks, out=tuple(outs), where=mask, **self.kwargs)
        return outs[self.part]

    def __zcluster_tokenize__(self) -> Any:
        return ("masked", self.ufunc, self.kwargs, self.part)


class _Again:
    """Reduces partial results, which have all axes."""

    __slots__ = ("axes", "keepdims", "kwargs", "ufunc")

    def __init__(
        self, ufunc: Any, axes: tuple[int, ...], keepdims: bool, kwargs: dict[str, Any]
    ) -> None:
        self.ufunc = ufunc
        self.axes = axes
        self.keepdims = keepdims
        self.kwargs = kwargs

    @property
    def __name__(self) -> str:
        return f"{callable_name(self.ufunc)}_reduce"

    def __call__(self, partial_results: Any) -> Any:
        return self.ufunc.reduce(
            partial_results, axis=self.axes, keepdims=self.keepdims, **self.kwargs
        )

    def __zcluster_tokenize__(self) -> Any:
        return ("again", self.ufunc, self.axes, self.keepdims, self.kwargs)


class Ufunc:
    """A universal function of NumPy's that makes arrays in chunks of arrays in chunks.

    Parameters
    ----------
    of : numpy.ufunc

    Examples
    --------
    >>> from zcluster.array.core import from_numpy
    >>> x = from_numpy(np.array([1.0, 4.0, 9.0]), chunks=2)
    >>> sqrt = Ufunc(np.sqrt)
    >>> sqrt(x).compute(), sqrt(4.0)
    (array([1., 2., 3.]), np.float64(2.0))
    >>> Ufunc(np.add).outer(x, x).shape
    (3, 3)
    """

    def __init__(self, of: Any) -> None:
        self._of = of
        self.__name__ = callable_name(of)
        self.__doc__ = (
            f"Call ``numpy.{self.__name__}`` element by element; lazy for arrays in chunks.\n\n"
            f"{(of.__doc__ or '').partition(chr(10))[0]}"
        )

    def __repr__(self) -> str:
        return f"<ufunc {self.__name__!r} of zcluster.array>"

    def __reduce__(self) -> Any:
        return Ufunc, (self._of,)

    def __zcluster_tokenize__(self) -> Any:
        return ("ufunc", self._of)

    @property
    def numpy(self) -> Any:
        """The function of NumPy's."""
        return self._of

    @property
    def nin(self) -> int:
        """The number of operands."""
        return int(self._of.nin)

    @property
    def nout(self) -> int:
        """The number of results."""
        return int(self._of.nout)

    @property
    def nargs(self) -> int:
        """The number of operands and results."""
        return int(self._of.nargs)

    @property
    def ntypes(self) -> int:
        """The number of types that it works on."""
        return int(self._of.ntypes)

    @property
    def types(self) -> list[str]:
        """The types that it works on, as NumPy writes them."""
        return list(self._of.types)

    @property
    def identity(self) -> Any:
        """What changes nothing as an operand; None if there is no such thing."""
        return self._of.identity

    @property
    def signature(self) -> None:
        """None: it goes element by element."""
        return

    def __call__(self, *args: Any, out: Any = None, where: Any = True, **kwargs: Any) -> Any:
        """Call it with operands that are broadcast; see the class."""
        of = self._of
        if len(args) > of.nin:  # results may be given by position
            if out is not None:
                raise TypeError("cannot specify 'out' as both a positional and keyword argument")
            args, out = args[: of.nin], args[of.nin :]
        if not kwargs and out is None and where is True and of.nout == 1:
            if any(isinstance(one, Array) for one in args):
                return elementwise(of, *args)
            return of(*args)
        held = out if isinstance(out, tuple) else (out,)
        if not any(isinstance(one, Array) for one in (*args, *held, where)):
            return of(*args, **({} if out is None else {"out": out}), where=where, **kwargs)
        results = []
        for part, target in enumerate(_outs(out, of.nout)):
            if where is True:
                called = _Called(of, kwargs, part if of.nout > 1 else None)
                made = elementwise(called, *args, name=self.__name__)
            else:
                masked = _Masked(of, kwargs, part)
                made = elementwise(masked, where, target, *args, name=self.__name__)
            results.append(made if target is None else put_into(target, made))
        return results[0] if of.nout == 1 else tuple(results)

    def outer(self, A: Any, B: Any, **kwargs: Any) -> Any:
        """Call it with all pairs of elements of two arrays.

        Returns
        -------
        results : Array, shape (*A.shape, *B.shape)
        """
        if not isinstance(A, Array) and not isinstance(B, Array):
            return self._of.outer(A, B, **kwargs)
        if self.nin != 2:
            raise ValueError("outer product only supported for binary functions")
        first, second = asarray(A), asarray(B)
        axes = [*range(first.ndim), *[None] * second.ndim]
        return self(permuted(first, axes, "outer"), second, **kwargs)

    def reduce(
        self,
        array: Any,
        axis: Any = 0,
        dtype: Any = None,
        out: Any = None,
        keepdims: bool = False,
        initial: Any = None,
        where: Any = True,
    ) -> Any:
        """Reduce axes by calling it again and again.

        Where the order matters (``subtract``) the axis is brought into one chunk first.

        Parameters
        ----------
        array : array_like
        axis : int, tuple of int or None
            None: all of them.
        dtype : dtype, optional
            To calculate with.
        out : Array, optional
        keepdims : bool
            The reduced axes stay, with length 1.
        initial : scalar, optional
            To begin with.
        where : array_like of bool
            Which elements count.

        Raises
        ------
        ValueError
            If there is nothing to reduce, and nothing to begin with.

        Examples
        --------
        >>> Ufunc(np.add).reduce(asarray([[1, 2], [3, 4]]), axis=1).compute()
        array([3, 7])
        """
        if not any(isinstance(one, Array) for one in (array, out, where)):
            begin = {} if initial is None else {"initial": initial}
            return self._of.reduce(array, axis, dtype, out, keepdims, where=where, **begin)
        made = self._reduced(asarray(array), axis, dtype, keepdims, initial, where)
        return made if out is None else put_into(_outs(out, 1)[0], made)

    def _reduced(
        self, array: Array, axis: Any, dtype: Any, keepdims: bool, initial: Any, where: Any
    ) -> Array:
        of = self._of
        axes = () if not array.ndim and axis in (0, -1) else normalize_axes(axis, array.ndim)
        is_free = self.__name__ in _ASSOCIATIVE
        if where is not True and not is_free:
            raise NotImplementedError(
                f"{self.__name__}.reduce with where=, in which the order matters; use the "
                f"elements that count: {self.__name__}.reduce(x[mask])"
            )
        begin = {} if initial is None else {"initial": initial}
        whole = {"dtype": dtype} if dtype is not None else {}
        probe = of.reduce(np.ones((1,) * array.ndim, array.dtype), axis=axes, **whole, **begin)
        found = np.asarray(probe).dtype
        if where is not True:
            fill = initial if of.identity is None else of.identity
            if fill is None:
                raise ValueError(
                    f"reduction operation '{self.__name__}' does not have an identity, so to use "
                    "a where mask one has to specify 'initial'"
                )
            array = astype(array, found)  # which has room for the identity
            held = np.asarray(fill).astype(found)[()]
            array = elementwise(np.where, where, array, held, dtype=found)
        if not axes:
            again = partial(of.reduce, axis=(), **whole, **begin)
            return elementwise(again, array, dtype=found, name=self.__name__)
        lengths = [array.shape[n] for n in axes]
        if of.identity is None and initial is None and 0 in lengths:
            raise ValueError(
                f"zero-size array to reduction operation {self.__name__} which has no identity"
            )
        first: Any = Fold(of, axes, dtype)
        last: Any = _Again(of, axes, keepdims, whole | begin)
        if is_free and (of.identity is not None or 0 not in lengths):
            array = _without_empty(array, axes)
        else:
            array = rechunked(array, dict.fromkeys(axes, -1))
            first = _Again(of, axes, True, whole | begin)
            last = _identical if keepdims else partial(np.squeeze, axis=axes)
        return Array(
            Reduction(
                f"{self.__name__}_reduce",
                array.expr,
                axes,
                first,
                _Again(of, axes, True, whole),
                last,
                found,
                keepdims=keepdims,
            )
        )

    def accumulate(self, array: Any, axis: int = 0, dtype: Any = None, out: Any = None) -> Any:
        """Reduce the beginnings of an axis, each one longer by one; it is brought into one chunk.

        Examples
        --------
        >>> Ufunc(np.add).accumulate(asarray([1, 2, 3])).compute()
        array([1, 3, 6])
        """
        if not isinstance(array, Array):
            return self._of.accumulate(array, axis, dtype, out)
        number = normalize_axis(axis, array.ndim)
        function = partial(self._of.accumulate, axis=number, dtype=dtype)
        found = function(np.ones((1,) * array.ndim, array.dtype)).dtype
        made = self._along(array, number, array.shape[number], function, found)
        return made if out is None else put_into(_outs(out, 1)[0], made)

    def reduceat(
        self, array: Any, indices: Any, axis: int = 0, dtype: Any = None, out: Any = None
    ) -> Any:
        """Reduce the parts of an axis that begin at indices; it is brought into one chunk."""
        if not isinstance(array, Array):
            return self._of.reduceat(array, indices, axis, dtype, out)
        number = normalize_axis(axis, array.ndim)
        places = np.asarray(indices)
        wrong = (places < 0) | (places >= array.shape[number])
        if wrong.any():
            raise IndexError(
                f"index {places[wrong][0]} out-of-bounds in {self.__name__}.reduceat "
                f"[0, {array.shape[number]})"
            )
        function = partial(self._of.reduceat, indices=places, axis=number, dtype=dtype)
        ones = np.ones((1,) * array.ndim, array.dtype)
        found = self._of.reduceat(ones, [0], axis=number, dtype=dtype).dtype
        made = self._along(array, number, len(places), function, found)
        return made if out is None else put_into(_outs(out, 1)[0], made)

    def _along(
        self, array: Array, axis: int, length: int, function: Callable[..., Any], dtype: Any
    ) -> Array:
        source = rechunked(array, {axis: -1})
        chunks = list(source.chunks)
        chunks[axis] = (length,)
        name = f"{self.__name__}_along"
        axes = tuple(range(array.ndim))
        return Array(Blockwise(name, function, [source.expr], [0], [axes], tuple(chunks), dtype))

    def at(self, a: Any, indices: Any, b: Any = None, /) -> None:
        """Change some elements of a NumPy array in place.

        Raises
        ------
        NotImplementedError
            For an array in chunks.
        """
        if isinstance(a, Array):
            raise NotImplementedError(
                f"{self.__name__}.at changes memory, and an array in chunks has none of its own; "
                "use where(mask, values, x), an assignment x[mask] = values, or bincount to count"
            )
        self._of.at(a, indices, *[] if b is None else [b])


def _identical(block: Any) -> Any:
    return block


def _without_empty(array: Array, axes: tuple[int, ...]) -> Array:
    """Take out chunks of no length, of which there may be nothing to reduce."""
    lean = {}
    for axis in axes:
        own = array.chunks[axis]
        if is_known(own) and 0 in own and len(own) > 1:
            lean[axis] = tuple(n for n in own if n) or (0,)
    return rechunked(array, lean) if lean else array


def _outs(out: Any, count: int) -> tuple[Any, ...]:
    """Return what results are put into, for each; None where that is nothing."""
    given = out if isinstance(out, tuple) else (out,) * (1 if count == 1 or out is not None else 0)
    if not given:
        return (None,) * count
    if len(given) != count:
        raise ValueError(f"out={out!r}: the number of results is {count}; expected as many")
    for one in given:
        if one is not None and not isinstance(one, Array):
            raise NotImplementedError(
                f"out= of type {type(one).__name__} cannot hold what is not computed yet; leave "
                "it out, and assign what compute() returns: out[...] = result.compute()"
            )
    return given


def put_into(held: Array, made: Array) -> Array:
    """Let an array be another from now on, as ``out=`` has it.

    Parameters
    ----------
    held : Array
        Which keeps its shape and dtype.
    made : Array

    Returns
    -------
    held : Array
        The same object.

    Raises
    ------
    ValueError
        If the shapes do not agree.
    TypeError
        If the dtype would have to change kind.
    """
    if not np.can_cast(made.dtype, held.dtype, "same_kind"):
        raise TypeError(
            f"Cannot cast output from {made.dtype!r} to {held.dtype!r} with casting rule "
            "'same_kind'"
        )
    if made.shape != held.shape and made.ndim > held.ndim:
        raise ValueError(
            f"non-broadcastable output operand with shape {held.shape} doesn't match the broadcast "
            f"shape {made.shape}"
        )
    held._expr = astype(broadcast_to(made, held.shape), held.dtype).expr
    return held


# Functions of Python ------------------------------------------------------------------------------


class _OfPython:
    """What ``numpy.frompyfunc`` makes of a function, made anew where it is unpickled."""

    __slots__ = ("_made", "function", "nin", "nout")

    def __init__(self, function: Callable[..., Any], nin: int, nout: int) -> None:
        self.function = function
        self.nin = nin
        self.nout = nout
        self._made = np.frompyfunc(function, nin, nout)

    @property
    def __name__(self) -> str:
        return callable_name(self.function)

    def __reduce__(self) -> Any:
        return _OfPython, (self.function, self.nin, self.nout)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._made(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._made, name)

    def __zcluster_tokenize__(self) -> Any:
        return ("of python", self.function, self.nin, self.nout)


def frompyfunc(func: Callable[..., Any], nin: int, nout: int) -> Ufunc:
    """Return a universal function that calls a function of Python for every element.

    Its results are of dtype object, as NumPy's are; use `astype`.

    Parameters
    ----------
    func : callable
        Of `nin` scalars; returns `nout`, as a tuple if there are several.
    nin, nout : int

    Examples
    --------
    >>> double = frompyfunc(lambda one: one + one, 1, 1)
    >>> double(asarray(["a", "b"]).astype(object)).compute()
    array(['aa', 'bb'], dtype=object)
    """
    if nout < 1:
        raise InvalidArgument(f"nout={nout}: expected one result or more")
    return Ufunc(_OfPython(func, nin, nout))
