"""How lazy calls become a graph: each is packed, or held for a runner in this process, once.

The calls are nodes that refer to each other as arguments (`Node`, as `zcluster.delayed` makes
them). `Lowering` walks them with no recursion: a chain may be as long as memory allows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from zcluster.errors import InvalidGraph
from zcluster.graph.conversion import (
    NO_FUNCTION,
    ONE_LITERAL,
    Rows,
    Templates,
    are_plain,
    number_tasks,
)
from zcluster.graph.layers import Graph, LargeArgument, Options
from zcluster.graph.order import order_graph
from zcluster.protocol.callables import Packed, pack_callable
from zcluster.protocol.calls import (
    CALL_ALIAS,
    CALL_PACKED,
    CALL_VALUE,
    LARGE_ARGUMENT,
    PackedCall,
    pack_call,
)
from zcluster.protocol.held import HeldCall, hold_call
from zcluster.protocol.objects import dumps_small, plan

__all__ = ["Frozen", "Lowering", "Node"]


class Frozen(NamedTuple):
    """A call that was packed already: what a `Delayed` becomes when it is pickled."""

    function: Packed | None
    call: PackedCall
    inputs: list[Any]


class _Held(NamedTuple):
    """A call of objects that are here; None: the node has a value, which is its argument."""

    call: HeldCall | None
    inputs: list[Any]


class Node(Protocol):
    """One call: what to call, with which arguments; without a function the argument is a value."""

    _name: str
    _function: Callable[..., Any] | Frozen | None
    _args: tuple[Any, ...]
    _kwargs: dict[str, Any]
    _key: str | None
    _options: Options
    _pure: bool

    @property
    def key(self) -> str:
        """The name of the task."""


N = TypeVar("N", bound=Node)


class Lowering(Generic[N]):
    """Turns the nodes that some nodes need into rows, without recursion.

    Parameters
    ----------
    kind : type
        That of nodes: what is not of it is an argument.
    wanted : sequence of Node
    holds : bool
        Calls are made in this process: nothing is packed.
    """

    def __init__(self, kind: type[N], wanted: Sequence[N], holds: bool = False) -> None:
        self.kind = kind
        self.holds = holds
        self.nodes: list[N] = []
        self.calls: list[Frozen | _Held] = []
        self.rows = Rows()
        self._numbers: dict[int, int] = {}  # id of a node to its number
        self._by_key: dict[str, int] = {}
        self.wanted = [self.number(node) for node in wanted]

    def number(self, node: N) -> int:
        """Return the number of a node; nodes of one key are one."""
        number = self._numbers.get(id(node))
        if number is not None:
            return number
        number = len(self.nodes)
        if node._key is not None:
            number = self._by_key.setdefault(node._key, number)
        if number == len(self.nodes):
            self.nodes.append(node)
        else:
            _check_same(self.nodes[number], node)
        self._numbers[id(node)] = number
        return number

    def read(self) -> None:
        """Pack or hold the call of each node, once."""
        functions: dict[int, Packed] = {}  # by id: a node keeps its function
        for node in self.nodes:  # grows meanwhile
            holds = self.holds and type(node._function) is not Frozen
            call = _hold(node) if holds else _pack(node, functions, self.kind)
            self.calls.append(call)
            for value in call.inputs:
                if isinstance(value, self.kind):
                    self.number(value)

    def build(self) -> tuple[Graph, list[int]]:
        """Return the graph, and the tasks of the wanted nodes."""
        self.read()
        rows, numbers, kind = self.rows, self._numbers, self.kind
        graph = rows.graph
        for node, one in zip(self.nodes, self.calls, strict=True):
            inputs = [
                numbers[id(value)] if isinstance(value, kind) else graph.add_import(value)
                for value in one.inputs
            ]
            rows.keys.append(node.key)
            option = rows.option(node._options)
            if isinstance(one, _Held):
                if one.call is None:
                    rows.hold_value(node._args[0], node._pure, option)
                else:
                    rows.hold(node._name, one.call, inputs, node._pure, option)
                continue
            function, call, _ = one
            if call.plan is not None:
                inputs.append(graph.add_import(LargeArgument(call.plan)))
            place = NO_FUNCTION
            if function is not None:
                place = rows.packed_function(node._name, function)
            rows.add((place, call.form, node._pure, option), inputs, call.constant)
        tasks = number_tasks(rows)
        order_graph(graph)
        return graph, [tasks[number] for number in self.wanted]


def _check_same(first: Node, second: Node) -> None:
    """Raise if two nodes of one key are not known to be equal."""
    if first._pure and second._pure:
        return
    if isinstance(first._function, Frozen) or isinstance(second._function, Frozen):
        return  # one is a copy of the other, by way of pickle
    raise InvalidGraph(
        f"two different delayed calls have the key {first.key!r}; expected each key once: name "
        "one of them otherwise, or use one object in both places"
    )


# Depend on nothing but the shape of a call, so they serve the whole process.
_templates = Templates()


def _pack_plain(args: tuple[Any, ...], kind: type[Any]) -> PackedCall | None:
    """Pack lazy values and plain literals the quick way; None if there is anything else."""
    shape = 1
    inputs, literals = [], []
    for value in args:
        shape += shape
        if isinstance(value, kind):
            inputs.append(value)
        else:
            literals.append(value)
            shape += 1
    if not literals or shape == ONE_LITERAL or not are_plain(literals):
        return None
    return PackedCall(CALL_PACKED, _templates.fill(shape, literals), None, inputs)


def _hold(node: Node) -> _Held:
    """Make the call of a node ready to be made in this process."""
    function = node._function
    if function is None:
        return _Held(None, [])
    assert not isinstance(function, Frozen)  # looked at before
    return _Held(*hold_call(function, node._args, node._kwargs))


def _pack(node: Node, functions: dict[int, Packed], kind: type[Any]) -> Frozen:
    """Pack the call of a node."""
    function = node._function
    if isinstance(function, Frozen):
        return function
    if function is None:
        return _pack_value(node._args[0], node._name)
    packed = functions.get(id(function))
    if packed is None:
        packed = functions[id(function)] = pack_callable(function)
    call = None if node._kwargs else _pack_plain(node._args, kind)
    if call is None:
        call = pack_call(node._args, node._kwargs)
    return Frozen(packed, call, call.inputs)


def _pack_value(value: Any, name: str) -> Frozen:
    constant = dumps_small(value, LARGE_ARGUMENT)
    if constant is not None:
        return Frozen(None, PackedCall(CALL_VALUE, constant, None, []), [])
    return Frozen(None, PackedCall(CALL_ALIAS, None, plan(value, name), []), [])
