"""Lazy calls of any Python function: ``delayed(f)(x)`` is a call to be made later.

A `Delayed` is a node of a graph that exists only as the references between such objects: what to
call, with which arguments, some of which are other `Delayed`. Nothing is pickled and no task is
made before `compute`, which walks the nodes once (with no recursion: a chain may be as long as
memory allows), packs each call and gives the calls to a graph, those of one function side by side.
Arguments that are plain data are read then, so they should not be changed in between.

Operators, indexing, attributes and method calls on a `Delayed` are lazy as well. What would need
the value now (``bool``, ``len``, iteration) raises, unless `nout` says how many parts there are.

The module can be called: ``zcluster.delayed(f)`` works whether ``zcluster.delayed`` is this module
or the function in it, so that ``from zcluster.delayed import Delayed`` may come before or after.
"""

from __future__ import annotations

import operator
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import is_dataclass
from functools import partial, update_wrapper
from types import MethodType, ModuleType
from typing import Any, NamedTuple, NoReturn

from zcluster.collection.base import Lowered
from zcluster.collection.compute import Computable
from zcluster.errors import InvalidArgument, InvalidGraph
from zcluster.graph.layers import Graph, GraphLayer, LargeArgument
from zcluster.graph.order import order_graph
from zcluster.protocol.callables import Packed, callable_name, pack_callable
from zcluster.protocol.calls import (
    CALL_ALIAS,
    CALL_VALUE,
    LARGE_ARGUMENT,
    PackedCall,
    pack_call,
    reduce_as_input,
)
from zcluster.protocol.objects import ATOMS, dumps_small, plan
from zcluster.protocol.tokens import tokenize

__all__ = ["Delayed", "DelayedAttr", "DelayedLeaf", "delayed"]

# The most tasks of one layer: their keys are named in one control frame.
_LAYER_TASKS = 4096


def _unique(name: str) -> str:
    """Return a key that nothing else has: the name and a random UUID."""
    h = os.urandom(16).hex()
    return f"{name}-{h[:8]}-{h[8:12]}-4{h[13:16]}-a{h[17:20]}-{h[20:]}"


class _Frozen(NamedTuple):
    """A call that was packed already: what a `Delayed` becomes when it is pickled."""

    function: Packed | None
    call: PackedCall
    inputs: list[Any]


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
        "_pure",
    )
    __zcluster_input__ = True

    def __init__(
        self,
        name: str,
        function: Callable[..., Any] | None,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        key: str | None = None,
        length: int | None = None,
        pure: bool = False,
    ) -> None:
        put = object.__setattr__
        put(self, "_name", name)
        put(self, "_function", function)  # None: the only argument is the value
        put(self, "_args", args)
        put(self, "_kwargs", kwargs)
        put(self, "_key", key)
        put(self, "_length", length)
        put(self, "_pure", pure)

    @property
    def key(self) -> str:
        """The name of the task and its result, such as ``add-6c7530f5-…``."""
        key: str | None = self._key
        if key is None:
            key = _unique(self._name)
            object.__setattr__(self, "_key", key)
        return key

    def __repr__(self) -> str:
        return f"Delayed({self.key!r})"

    # As an input ------------------------------------------------------------------------

    @staticmethod
    def __zcluster_lower__(collections: Sequence[Delayed]) -> Lowered:
        """Return a graph of the calls, and the identity on its outputs."""
        graph, tasks = _Lowering(collections).build()
        places = graph.want(tasks)
        return graph, lambda values: [values[places[task]] for task in tasks]

    def __zcluster_tokenize__(self) -> str:
        return self.key

    def __reduce__(self) -> Any:
        return reduce_as_input(self)

    def __zcluster_outside__(self) -> Any:
        """Pickle the whole expression as a flat list of packed calls."""
        nodes, frozen = _Lowering([self]).read()
        numbers = {id(node): number for number, node in enumerate(nodes)}
        records = []
        for node, (function, call, inputs) in zip(nodes, frozen, strict=True):
            if call.plan is not None:
                call = call._replace(plan=None, constant=call.plan.tobytes())
            # A number for an input in this list; what else there is travels as it is.
            refs = [numbers.get(id(value), value) for value in inputs]
            call = call._replace(inputs=[])
            records.append((node._name, node.key, node._length, node._pure, function, call, refs))
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
        if name == "persist":
            raise AttributeError(
                "a Delayed has no 'persist'; client.compute(x) gives a future that holds the result"
            )
        return DelayedAttr(self, name)

    def __getitem__(self, index: Any) -> Delayed:
        return Delayed("getitem", operator.getitem, (self, index), {})

    def __get__(self, instance: Any, owner: Any) -> Any:
        # A delayed function in a class is a method, as a plain function would be.
        return self if instance is None else MethodType(self, instance)

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
        return int(self._length)

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


def _operator(function: Callable[..., Any], name: str) -> Callable[..., Delayed]:
    def method(self: Delayed, *args: Any) -> Delayed:
        return Delayed(name, function, (self, *args), {})

    return method


def _reflected(function: Callable[..., Any], name: str) -> Callable[..., Delayed]:
    def method(self: Delayed, other: Any) -> Delayed:
        return Delayed(name, function, (other, self), {})

    return method


_BINARY = "add sub mul matmul truediv floordiv mod pow lshift rshift and or xor"
for _name in _BINARY.split():
    _function = getattr(operator, f"__{_name}__")
    setattr(Delayed, f"__{_name}__", _operator(_function, _name))
    setattr(Delayed, f"__r{_name}__", _reflected(_function, _name))
for _name in "eq ne lt le gt ge neg pos invert".split():
    setattr(Delayed, f"__{_name}__", _operator(getattr(operator, f"__{_name}__"), _name))
for _name, _function in {
    "abs": abs,
    "divmod": divmod,
    "round": round,
}.items():
    setattr(Delayed, f"__{_name}__", _operator(_function, _name))
Delayed.__rdivmod__ = _reflected(divmod, "divmod")  # type: ignore[attr-defined]
del _name, _function


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


class DelayedLeaf(Delayed):
    """A plain value, or a function: calling that gives a `Delayed` for the call."""

    # With a dict, unlike other Delayed: a decorated function keeps its name and documentation.

    def __init__(
        self,
        value: Any,
        name: str,
        key: str | None,
        pure: bool | None,
        nout: int | None,
        function: Callable[..., Any] | None = None,
    ) -> None:
        super().__init__(name, function, (value,), {}, key, nout, bool(pure))
        if callable(value):
            names = ("__module__", "__name__", "__qualname__", "__doc__", "__wrapped__")
            for attribute in names[:-1]:
                found = getattr(value, attribute, None)
                if found is not None:
                    self.__dict__[attribute] = found
            self.__dict__[names[-1]] = value

    def __call__(self, *args: Any, pure: bool | None = None, **kwargs: Any) -> Delayed:
        function = self._args[0]
        if self._function is not None or not callable(function):
            return super().__call__(*args, pure=pure, **kwargs)
        if pure is None:
            pure = self._pure
        return _call(self._name, function, args, kwargs, pure, self._length)


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


def _check_nout(nout: Any) -> None:
    if nout is not None and not (type(nout) is int and nout >= 0):
        raise InvalidArgument(
            f"nout={nout!r}; expected how many parts the result has, as an integer from 0 on, or "
            "None"
        )


_NOTHING: Any = object()


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
    key = name
    if key is None and pure:
        key = f"{label}-{tokenize(obj)}"
    holds = traverse and (type(obj) in _CONTAINERS or _is_record(obj))
    function = the_same if holds and pack_call((obj,), {}).inputs else None
    return DelayedLeaf(obj, label, key, pure, nout, function)


_CONTAINERS = frozenset({list, tuple, dict, set, frozenset})


def _is_record(value: object) -> bool:
    return is_dataclass(value) and not isinstance(value, type)


# Lowering ------------------------------------------------------------------------------------


class _Lowering:
    """Turns the nodes that some `Delayed` need into layers, in three steps without recursion."""

    def __init__(self, wanted: Sequence[Delayed]) -> None:
        self.wanted = wanted
        self.nodes: list[Delayed] = []
        self.frozen: list[_Frozen] = []
        self.numbers: dict[int, int] = {}  # id of a node to its number
        self.by_key: dict[str, int] = {}

    def read(self) -> tuple[list[Delayed], list[_Frozen]]:
        """Pack the call of each node, once; return the nodes and their calls."""
        nodes, frozen, number = self.nodes, self.frozen, self.number
        for node in self.wanted:
            number(node)
        for node in nodes:  # grows meanwhile
            packed = _pack(node)
            frozen.append(packed)
            for value in packed.inputs:
                if isinstance(value, Delayed):
                    number(value)
        return nodes, frozen

    def number(self, node: Delayed) -> int:
        """Return the number of a node; pure calls of one key are one."""
        number = self.numbers.get(id(node))
        if number is None:
            key = node._key
            if key is not None:
                number = self.by_key.setdefault(key, len(self.nodes))
                if number < len(self.nodes):
                    if not (node._pure and self.nodes[number]._pure):
                        raise InvalidGraph(
                            f"two different delayed calls have the key {key!r}; expected one: "
                            "give them other names, or mark them pure if they are equal"
                        )
                    self._same.append(node)
            if number is None or number == len(self.nodes):
                number = len(self.nodes)
                self.nodes.append(node)
            self.numbers[id(node)] = number
        return number
