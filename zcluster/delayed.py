"""Lazy calls of any Python function: ``delayed(f)(x)`` is a call to be made later.

A `Delayed` is a node of a graph that exists only as the references between such objects: what to
call, with which arguments, some of which are other `Delayed`. Nothing is pickled and no task is
made before `compute`, which walks the nodes once (with no recursion: a chain may be as long as
memory allows), packs each call and gives the calls to a graph, those of one function side by side.
Arguments that are plain data are read then, so they should not be changed in between.

For a runner in this process nothing is packed: functions and arguments are the objects themselves.

Operators, indexing, attributes and method calls on a `Delayed` are lazy as well. What would need
the value now (``bool``, ``len``, iteration) raises, unless `nout` says how many parts there are.

The module can be called: ``zcluster.delayed(f)`` works whether ``zcluster.delayed`` is this module
or the function in it, so that ``from zcluster.delayed import Delayed`` may come before or after.
"""

from __future__ import annotations

import importlib
import operator
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from types import MethodType, ModuleType
from typing import Any, NoReturn, overload

from zcluster.collection.base import Lowered
from zcluster.collection.calls import Frozen, Lowering
from zcluster.collection.compute import Computable
from zcluster.errors import InvalidArgument
from zcluster.graph.annotations import current_options
from zcluster.graph.layers import Options
from zcluster.protocol.blobs import Plan
from zcluster.protocol.callables import callable_name
from zcluster.protocol.calls import (
    CALL_ALIAS,
    PackedCall,
    reduce_as_input,
)
from zcluster.protocol.held import container_parts, passes_objects
from zcluster.protocol.objects import ATOMS
from zcluster.protocol.tokens import tokenize

__all__ = ["Delayed", "DelayedAttr", "DelayedLeaf", "delayed"]


def _unique(name: str) -> str:
    """Return a key that nothing else has: the name and a random UUID."""
    h = os.urandom(16).hex()
    return f"{name}-{h[:8]}-{h[8:12]}-4{h[13:16]}-a{h[17:20]}-{h[20:]}"


def _operator(function: Callable[..., Any], name: str) -> Callable[..., Delayed]:
    def method(self: Delayed, *args: Any) -> Delayed:
        return Delayed(name, function, (self, *args), {})

    return method


def _reflected(function: Callable[..., Any], name: str) -> Callable[..., Delayed]:
    def method(self: Delayed, other: Any) -> Delayed:
        return Delayed(name, function, (other, self), {})

    return method


class Delayed(Computable):
    """A value that will be computed.

    Made by `delayed`, by calling what `delayed` returned, and by operators; not by hand.
    """

    __slots__ = (
        "__weakref__",
        "_args",
        "_function",
        "_key",
        "_kwargs",
        "_length",
        "_name",
        "_options",
        "_pure",
    )
    __zcluster_input__ = True

    _name: str  # the key's prefix
    _function: Callable[..., Any] | Frozen | None  # None: the only argument is the value
    _args: tuple[Any, ...]
    _kwargs: dict[str, Any]
    _key: str | None
    _length: int | None
    _options: Options  # as `annotate` had it when this was made
    _pure: bool

    def __init__(
        self,
        name: str,
        function: Callable[..., Any] | Frozen | None,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        key: str | None = None,
        length: int | None = None,
        pure: bool = False,
    ) -> None:
        put = object.__setattr__
        put(self, "_name", name)
        put(self, "_function", function)
        put(self, "_args", args)
        put(self, "_kwargs", kwargs)
        put(self, "_key", key)
        put(self, "_length", length)
        put(self, "_options", current_options())
        put(self, "_pure", pure)

    @property
    def key(self) -> str:
        """The name of the task and its result, such as ``add-6c7530f5-…``."""
        key = self._key
        if key is None:
            key = _unique(self._name)
            object.__setattr__(self, "_key", key)
        return key

    def __repr__(self) -> str:
        return f"Delayed({self.key!r})"

    # As an input ------------------------------------------------------------------------

    @staticmethod
    def __zcluster_lower__(collections: Sequence[Delayed]) -> Lowered:
        """Return a graph of the calls, and how to pick the results from its outputs."""
        graph, tasks = Lowering(Delayed, collections, passes_objects()).build()
        places = graph.want(tasks)
        return graph, _Rebuild(collections, [places[task] for task in tasks])

    def __zcluster_tokenize__(self) -> str:
        return self.key

    def __reduce__(self) -> Any:
        return reduce_as_input(self)

    def __zcluster_outside__(self) -> Any:
        """Pickle the whole expression, outside a call, as a flat list of packed calls."""
        lowering = Lowering(Delayed, [self])
        lowering.read()
        records = []
        for node, one in zip(lowering.nodes, lowering.calls, strict=True):
            assert isinstance(one, Frozen)  # nothing is held in a pickle
            function, call, inputs = one
            large = None if call.plan is None else call.plan.tobytes()
            # A number for an input in this list; what else there is travels as it is.
            refs = [lowering.number(v) if isinstance(v, Delayed) else v for v in inputs]
            call = call._replace(plan=None, inputs=[])
            records.append(
                (node._name, node.key, node._length, node._pure, function, call, large, refs)
            )
        return _thawed, (records,)

    def __copy__(self) -> Delayed:
        return self

    def __deepcopy__(self, memo: Any) -> Delayed:
        return self

    # What gives another Delayed ---------------------------------------------------------

    def __call__(self, *args: Any, pure: bool | None = None, **kwargs: Any) -> Delayed:
        return _call("call", operator.call, (self, *args), kwargs, pure, None)

    def __getattr__(self, name: str) -> DelayedAttr:
        if name.startswith("_"):
            raise AttributeError(f"a Delayed has no {name!r}: names with _ in front are not lazy")
        return DelayedAttr(self, name)

    def __getitem__(self, index: Any) -> Delayed:
        return Delayed("getitem", operator.getitem, (self, index), {})

    def __get__(self, instance: Any, owner: Any) -> Any:
        # A delayed function in a class is a method, as a plain function would be.
        return self if instance is None else MethodType(self, instance)

    __add__ = _operator(operator.__add__, "add")
    __radd__ = _reflected(operator.__add__, "add")
    __sub__ = _operator(operator.__sub__, "sub")
    __rsub__ = _reflected(operator.__sub__, "sub")
    __mul__ = _operator(operator.__mul__, "mul")
    __rmul__ = _reflected(operator.__mul__, "mul")
    __matmul__ = _operator(operator.__matmul__, "matmul")
    __rmatmul__ = _reflected(operator.__matmul__, "matmul")
    __truediv__ = _operator(operator.__truediv__, "truediv")
    __rtruediv__ = _reflected(operator.__truediv__, "truediv")
    __floordiv__ = _operator(operator.__floordiv__, "floordiv")
    __rfloordiv__ = _reflected(operator.__floordiv__, "floordiv")
    __mod__ = _operator(operator.__mod__, "mod")
    __rmod__ = _reflected(operator.__mod__, "mod")
    __pow__ = _operator(operator.__pow__, "pow")
    __rpow__ = _reflected(operator.__pow__, "pow")
    __lshift__ = _operator(operator.__lshift__, "lshift")
    __rlshift__ = _reflected(operator.__lshift__, "lshift")
    __rshift__ = _operator(operator.__rshift__, "rshift")
    __rrshift__ = _reflected(operator.__rshift__, "rshift")
    __and__ = _operator(operator.__and__, "and")
    __rand__ = _reflected(operator.__and__, "and")
    __or__ = _operator(operator.__or__, "or")
    __ror__ = _reflected(operator.__or__, "or")
    __xor__ = _operator(operator.__xor__, "xor")
    __rxor__ = _reflected(operator.__xor__, "xor")
    __divmod__ = _operator(divmod, "divmod")
    __rdivmod__ = _reflected(divmod, "divmod")
    __lt__ = _operator(operator.__lt__, "lt")
    __le__ = _operator(operator.__le__, "le")
    __gt__ = _operator(operator.__gt__, "gt")
    __ge__ = _operator(operator.__ge__, "ge")
    __neg__ = _operator(operator.__neg__, "neg")
    __pos__ = _operator(operator.__pos__, "pos")
    __invert__ = _operator(operator.__invert__, "invert")
    __abs__ = _operator(abs, "abs")
    __round__ = _operator(round, "round")
    __eq__ = _operator(operator.eq, "eq")  # type: ignore[assignment]
    __ne__ = _operator(operator.ne, "ne")  # type: ignore[assignment]

    # NumPy's scalars leave the operator to the other side: ``np.float64(2) * x`` is lazy.
    __array_ufunc__ = None

    # What would need the value ----------------------------------------------------------

    def __iter__(self) -> Iterator[Delayed]:
        if self._length is None:
            raise TypeError(
                f"{self!r} cannot be iterated: its length is not known before it is computed; "
                "say it with delayed(f, nout=n), or compute it first"
            )
        return (self[i] for i in range(self._length))

    def __len__(self) -> int:
        if self._length is None:
            raise TypeError(
                f"{self!r} has no len(): its length is not known before it is computed; "
                "say it with delayed(f, nout=n), or compute it first"
            )
        return self._length

    def __contains__(self, item: object) -> NoReturn:
        raise TypeError(
            f"whether something is in {self!r} is not known before it is computed; compute it "
            "first, or ask in a delayed function"
        )

    def __bool__(self) -> NoReturn:
        raise TypeError(
            f"{self!r} is neither true nor false before it is computed; compute it first, "
            "or put the decision into a delayed function"
        )

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise TypeError(
            f"cannot set {name!r} of {self!r}: a Delayed does not change; set it in a delayed "
            "function that returns the object"
        )

    def __setitem__(self, index: Any, value: Any) -> NoReturn:
        raise TypeError(
            f"cannot set item {index!r} of {self!r}: a Delayed does not change; set it in a "
            "delayed function that returns the object"
        )

    # Two nodes are one only if they are the same object; == is a lazy operator.
    __hash__ = object.__hash__


class DelayedAttr(Delayed):
    """An attribute of a `Delayed`; calling it calls the method."""

    __slots__ = ()

    def __init__(self, owner: Delayed, name: str) -> None:
        super().__init__("getattr", getattr, (owner, name), {})

    def __call__(self, *args: Any, pure: bool | None = None, **kwargs: Any) -> Delayed:
        owner, name = self._args
        return _call(name, call_method, (owner, name, *args), kwargs, pure, None)


def call_method(owner: Any, name: str, /, *args: Any, **kwargs: Any) -> Any:
    """Call a method by its name: what ``delayed(x).method(…)`` runs."""
    return getattr(owner, name)(*args, **kwargs)


def the_same(value: Any) -> Any:
    """Return the argument: what puts together a container of lazy values."""
    return value


class _Rebuild:
    """Picks the results of some lazy values from the outputs of their graph."""

    def __init__(self, collections: Sequence[Delayed], places: list[int]) -> None:
        self._collections = collections
        self._places = places

    def __call__(self, values: Sequence[Any]) -> list[Any]:
        return [values[place] for place in self._places]

    def kept(self, values: Sequence[Any]) -> list[Delayed]:
        return [
            _made(one, result) for one, result in zip(self._collections, self(values), strict=True)
        ]


class DelayedLeaf(Delayed):
    """A plain value, or a function: calling that gives a `Delayed` for the call."""

    # With a dict, unlike others: a decorated function keeps its name and documentation.

    def __init__(
        self,
        value: Any,
        name: str,
        key: str | None = None,
        pure: bool = False,
        nout: int | None = None,
        function: Callable[..., Any] | None = None,
    ) -> None:
        is_function = callable(value)
        super().__init__(name, function, (value,), {}, key, None if is_function else nout, pure)
        if is_function:
            kept = self.__dict__
            kept["_nout"] = nout
            kept["__wrapped__"] = value
            for attribute in ("__module__", "__name__", "__qualname__", "__doc__"):
                found = getattr(value, attribute, None)
                if found is not None:
                    kept[attribute] = found

    def __call__(self, *args: Any, pure: bool | None = None, **kwargs: Any) -> Delayed:
        function = self._args[0]
        if not callable(function):
            return super().__call__(*args, pure=pure, **kwargs)
        if pure is None:
            pure = self._pure
        nout: int | None = self.__dict__["_nout"]
        return _call(self._name, function, args, kwargs, pure, nout)


def _call(
    name: str,
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    pure: bool | None,
    length: int | None,
) -> Delayed:
    """Make a call, with the keywords that are meant for zcluster taken out."""
    key = None
    if kwargs:
        key = kwargs.pop("dask_key_name", None)
        key = kwargs.pop("zcluster_key_name", key)
        if key is not None and not (isinstance(key, str) and key):
            raise InvalidArgument(
                f"the key of a delayed call is {key!r}; expected a string that is not empty"
            )
    if key is None and pure:
        key = f"{name}-{tokenize(function, args, kwargs)}"
    return Delayed(name, function, args, kwargs, key, length, bool(pure))


def _made(node: Delayed, result: Any) -> Delayed:
    """Return a node of the same key whose value is there, or on its way as a future."""
    if getattr(type(result), "__zcluster_input__", False):
        function = Frozen(None, PackedCall(CALL_ALIAS, None, None, []), [result])
        return Delayed(node._name, function, (), {}, node.key, node._length, node._pure)
    return Delayed(node._name, None, (result,), {}, node.key, node._length, node._pure)


def _check_nout(nout: Any) -> None:
    if nout is not None and not (type(nout) is int and nout >= 0):
        raise InvalidArgument(
            f"nout={nout!r}; expected how many parts the result has, as an integer from 0 on, or "
            "None"
        )


_NOTHING: Any = object()


@overload
def delayed(
    *,
    name: str | None = None,
    pure: bool | None = None,
    nout: int | None = None,
    traverse: bool = True,
) -> Callable[[Callable[..., Any]], DelayedLeaf]: ...
@overload
def delayed(
    obj: Any,
    name: str | None = None,
    pure: bool | None = None,
    nout: int | None = None,
    traverse: bool = True,
) -> Any: ...
def delayed(
    obj: Any = _NOTHING,
    name: str | None = None,
    pure: bool | None = None,
    nout: int | None = None,
    traverse: bool = True,
) -> Any:
    """Make a function lazy, or a value part of a lazy computation.

    Parameters
    ----------
    obj : object
        A callable: calling the result makes a lazy call. A `Delayed` is returned as it is. A
        container (list, tuple, dict, set, dataclass) may contain lazy values. Anything else is a
        value. Left out, with other arguments: a decorator.
    name : str, optional
        The key, in place of a made-up one.
    pure : bool, optional
        The function gives equal results for equal arguments: calls are named by what they
        compute, and equal ones are computed once.
    nout : int, optional
        How many parts the result has, so that it can be unpacked: ``a, b = f(x)``.
    traverse : bool
        Look for lazy values in a container; without, those inside stay as they are.

    Returns
    -------
    delayed : Delayed

    Examples
    --------
    >>> @delayed
    ... def inc(x):
    ...     return x + 1
    >>> total = inc(1) + inc(2)
    >>> total  # doctest: +ELLIPSIS
    Delayed('add-...')
    """
    if obj is _NOTHING:
        return partial(delayed, name=name, pure=pure, nout=nout, traverse=traverse)
    if isinstance(obj, Delayed):
        return obj
    _check_nout(nout)
    label = callable_name(obj) if callable(obj) else type(obj).__name__
    key = f"{label}-{tokenize(obj)}" if name is None and pure else name
    function = the_same if traverse and _holds_inputs(obj) else None
    return DelayedLeaf(obj, label, key, bool(pure), nout, function)


def _holds_inputs(value: Any) -> bool:
    """Tell whether a container has lazy values or futures in it."""
    if getattr(type(value), "__zcluster_input__", False):
        return True
    children = None if type(value) in ATOMS else container_parts(value)
    return children is not None and any(map(_holds_inputs, children[0]))


def _thawed(records: list[Any]) -> Delayed:
    """Return the first node of what `Delayed.__zcluster_outside__` wrote."""
    nodes: list[Delayed] = []
    for name, key, length, pure, function, call, large, _ in records:
        if large is not None:
            call = call._replace(plan=Plan([large]))
        frozen = Frozen(function, call, [])
        nodes.append(Delayed(name, frozen, (), {}, key, length, pure))
    for node, record in zip(nodes, records, strict=True):
        assert isinstance(node._function, Frozen)  # made above
        node._function.inputs.extend(nodes[v] if type(v) is int else v for v in record[-1])
    return nodes[0]


# zcluster.delayed(f) -------------------------------------------------------------------------


class _CallableModule(ModuleType):
    """A module that can be called as its function `delayed`."""

    @staticmethod
    def __call__(*args: Any, **kwargs: Any) -> Any:
        return delayed(*args, **kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        # Pickles know modules by their exact type, so this one has to say where it is.
        return importlib.import_module, (__name__,)


sys.modules[__name__].__class__ = _CallableModule
