"""Hand-written tasks into layers: the work behind `spec.from_dict`.

Three steps. `Reader` reads computations, beginning with the wanted keys, into columns.
`number_tasks` numbers them so that those of one callable stand side by side, and adds the layers.
Ranks come last. The first two cost 2 to 4 µs a task and dominate.

Nested tasks travel as a structure (`Nested`) that `evaluate` runs in the worker. For a graph that
runs in this process calls and literals are kept as the objects they are (`zcluster.protocol.held`).
"""

from __future__ import annotations

import operator
import pickle
from collections.abc import Callable, Mapping
from itertools import accumulate
from typing import Any, TypeAlias

from zcluster.errors import InvalidGraph
from zcluster.graph.layers import DEFAULT_OPTIONS, Graph, GraphLayer, LargeArgument, Options
from zcluster.graph.tasks import computation, cycle_error, flatten
from zcluster.protocol.callables import Packed, callable_name, pack_callable
from zcluster.protocol.calls import (
    CALL_ALIAS,
    CALL_INPUTS,
    CALL_PACKED,
    CALL_SINGLE,
    CALL_VALUE,
    LARGE_ARGUMENT,
    pack_call,
    reduce_as_input,
)
from zcluster.protocol.held import HeldCall, Nested, evaluate, hold_call, list_of, passes_objects
from zcluster.protocol.objects import dumps_small, plan

__all__ = [
    "LAYER_TASKS",
    "NO_FUNCTION",
    "ONE_LITERAL",
    "Nested",
    "Reader",
    "Rows",
    "Templates",
    "are_plain",
    "evaluate",
    "number_tasks",
]

#: The most tasks of one layer: their keys are named in one control frame.
LAYER_TASKS = 8192


class _Place:
    """Stands for the result of a key while a call is packed."""

    __slots__ = ("number",)
    __zcluster_input__ = True

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self) -> tuple[Any, ...]:
        return reduce_as_input(self)


#: The place of the callable in a group of tasks that have none.
NO_FUNCTION = -1
_IS_ALIAS = -2
_IS_HELD_VALUE = -3

# Types whose pickles are one opcode, with no memory of what came before.
_PLAIN = frozenset({int, float, bool, type(None)})

# Integers from here on may be larger than a constant may be.
_LARGE_INT = 1 << 1000

#: The shape (see `Templates.fill`) of a call with one argument, a literal.
ONE_LITERAL = 0b11


def are_plain(literals: list[Any]) -> bool:
    """Tell whether `Templates` can fill in all of these."""
    for literal in literals:
        kind = type(literal)
        if kind not in _PLAIN or (kind is int and not -_LARGE_INT < literal < _LARGE_INT):
            return False
    return True


class Templates:
    """Packs calls of keys and plain literals by filling in a call of the same shape.

    Pickling a call with places takes 6 µs, filling in takes 1. A pickle is a program for a stack,
    so that the opcode of one plain literal can stand where that of another stood.
    """

    def __init__(self) -> None:
        self._pieces: dict[int, list[bytes]] = {}

    def fill(self, shape: int, literals: list[Any]) -> bytes:
        """Return the constant of a call.

        Parameters
        ----------
        shape : int
            A bit for each argument, under a leading one: 1 for a literal.
        literals : list
            Of `_PLAIN` types.
        """
        pieces = self._pieces.get(shape)
        if pieces is None:
            pieces = self._pieces[shape] = _template(shape)
        result = pieces[0]
        for literal, piece in zip(literals, pieces[1:], strict=True):
            # Protocol 3 knows no frames, but for that the opcodes are the same.
            result += pickle.dumps(literal, 3)[2:-1] + piece
        return result


def _template(shape: int) -> list[bytes]:
    """Pack a call with marks for literals, and cut it at the marks."""
    bits = bin(shape)[3:]
    marks = [0x5EA1_ED00 + at for at in range(len(bits))]
    args = tuple(marks[at] if bit == "1" else _Place(at) for at, bit in enumerate(bits))
    data = pack_call(args, {}).constant
    assert data is not None  # a few bytes are no large argument
    if data[2:3] == b"\x95":  # the frame says how long what follows is; it may be left out
        data = data[:2] + data[11:]
    pieces = []
    for mark, bit in zip(marks, bits, strict=True):
        if bit == "1":
            piece, data = data.split(pickle.dumps(mark, 3)[2:-1])
            pieces.append(piece)
    return [*pieces, data]


#: See `Rows.groups`.
Group: TypeAlias = tuple[int, int, bool, int]


class Rows:
    """Calls that have no task numbers yet, in columns.

    Attributes
    ----------
    graph : Graph
        Holds the imports.
    keys : list
        By number, in the order in which they were met.
    groups : list of Group
        Of each: its callable (its place in `functions`, or `NO_FUNCTION`), the form, whether
        its key is shared, and its place in `options`. Tasks of one group share layers.
    inputs : list of list of int
        Numbers, and imports of `graph` (below zero).
    constants : list
        Bytes or None; of what is held in this process the `HeldCall`, or the value.
    functions : list of (str, Packed or None)
        None: each of the calls holds its own.
    """

    def __init__(self) -> None:
        self.graph = Graph()
        self.keys: list[Any] = []
        self.groups: list[Group] = []
        #: By the last item of a group; the first are the usual ones.
        self.options: list[Options] = [DEFAULT_OPTIONS]
        self.inputs: list[list[int]] = []
        self.constants: list[Any] = []
        self.functions: list[tuple[str, Packed | None]] = []
        self._held: list[Any] = []  # keeps the ids in the next one from being used again
        self._by_id: dict[int, int] = {}
        self._by_digest: dict[bytes, int] = {}
        self._by_name: dict[str, int] = {}

    def add(self, group: Group, inputs: list[int], constant: bytes | None) -> None:
        """Add a row, under the next number."""
        self.groups.append(group)
        self.inputs.append(inputs)
        self.constants.append(constant)

    def hold(
        self, name: str, call: HeldCall, inputs: list[int], shared: bool = False, option: int = 0
    ) -> None:
        """Add a call that is made in this process; calls of one name share layers."""
        place = self._by_name.get(name)
        if place is None:
            place = self._by_name[name] = len(self.functions)
            self.functions.append((name, None))
        self.groups.append((place, CALL_INPUTS, shared, option))
        self.inputs.append(inputs)
        self.constants.append(call)

    def hold_value(self, value: Any, shared: bool = False, option: int = 0) -> None:
        """Add a value that stays in this process."""
        self.groups.append((_IS_HELD_VALUE, CALL_VALUE, shared, option))
        self.inputs.append([])
        self.constants.append(value)

    def function(self, function: Callable[..., Any]) -> int:
        """Return the place of a callable; each object is pickled once."""
        place = self._by_id.get(id(function))
        if place is None:
            place = self.packed_function(callable_name(function), pack_callable(function))
            self._held.append(function)
            self._by_id[id(function)] = place
        return place

    def option(self, options: Options) -> int:
        """Return the place of what a user wishes."""
        if options is DEFAULT_OPTIONS:
            return 0
        if options not in self.options:
            self.options.append(options)
        return self.options.index(options)

    def packed_function(self, name: str, packed: Packed) -> int:
        """Return the place of a callable as bytes; equal bytes have one place."""
        place = self._by_digest.setdefault(packed.digest, len(self.functions))
        if place == len(self.functions):
            self.functions.append((name, packed))
        return place


class Reader(Rows):
    """Reads computations, beginning with the wanted keys."""

    def __init__(self, dsk: Mapping[Any, Any]) -> None:
        super().__init__()
        self.dsk = dsk
        self.numbers: dict[Any, int] = {}
        self._templates = Templates()
        self._holds = passes_objects()
        self._held_names: dict[int, str] = {}  # by id: the calls hold the functions

    def want(self, keys: Any) -> Any:
        """Return the numbers of (nested lists of) wanted keys."""
        if type(keys) is list:
            return [self.want(key) for key in keys]
        computation(self.dsk, keys)
        return self.number(keys)

    def number(self, key: Any) -> int:
        """Return the number of a key of the graph."""
        number = self.numbers.get(key)
        if number is None:
            if type(key) is tuple and key and callable(key[0]):
                raise InvalidGraph(
                    f"the key {key!r} is a task; expected a hashable value that is not a tuple "
                    "with a callable in front: put a name in front of it"
                )
            number = self.numbers[key] = len(self.keys)
            self.keys.append(key)
        return number

    def read(self) -> None:
        """Read the computations of all keys that were numbered, and of those they take."""
        dsk = self.dsk
        for key in self.keys:  # grows meanwhile
            value = dsk[key]
            if type(value) is tuple and value and callable(value[0]):
                self._read_task(value)
            else:
                self._read_value(key, value)

    def _read_task(self, task: tuple[Any, ...]) -> None:
        """Read a task; those that take keys alone, or one literal, are the quick ones."""
        if self._holds:
            self._hold(task[0], tuple(map(self._argument, task[1:])))
            return
        numbers, dsk = self.numbers, self.dsk
        inputs: list[int] = []
        literals: list[Any] = []
        shape = 1  # a bit for each argument, under a leading one: is it a literal?
        for argument in task[1:]:
            kind = type(argument)
            if kind is list or (kind is tuple and argument and callable(argument[0])):
                self._read_nested(task)
                return
            try:
                number = numbers.get(argument)
                if number is None and argument in dsk:
                    number = self.number(argument)
            except TypeError:  # not hashable: a literal
                number = None
            shape += shape
            if number is None:
                literals.append(argument)
                shape += 1
            else:
                inputs.append(number)
        function = self._by_id.get(id(task[0]), -1)
        if function < 0:
            function = self.function(task[0])
        if not literals:
            self.add((function, CALL_INPUTS, False, 0), inputs, None)
        elif not are_plain(literals):
            self._pack(function, tuple(map(self._argument, task[1:])))
        elif shape == ONE_LITERAL:
            self.add((function, CALL_SINGLE, False, 0), inputs, pickle.dumps(literals[0], 5))
        else:
            self.add(
                (function, CALL_PACKED, False, 0), inputs, self._templates.fill(shape, literals)
            )

    def _hold(self, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        call, inputs = hold_call(function, args, {})
        name = self._held_names.get(id(function))
        if name is None:
            name = self._held_names[id(function)] = callable_name(function)
        self.hold(name, call, self._numbered(inputs))

    def _numbered(self, inputs: list[Any]) -> list[int]:
        return [
            value.number if type(value) is _Place else self.graph.add_import(value)
            for value in inputs
        ]

    def _pack(self, function: int, args: tuple[Any, ...]) -> None:
        call = pack_call(args, {})
        inputs = self._numbered(call.inputs)
        if call.plan is not None:
            inputs.append(self.graph.add_import(LargeArgument(call.plan)))
        self.add((function, call.form, False, 0), inputs, call.constant)

    def _read_nested(self, task: tuple[Any, ...]) -> None:
        """Read a task whose arguments contain lists or tasks."""
        args = [self._argument(argument) for argument in task[1:]]
        if any(type(argument) is Nested for argument in args):
            outer = Nested(task[0], args)
            self._pack(self.function(evaluate), (outer,))
        else:
            self._pack(self.function(task[0]), tuple(args))

    def _argument(self, argument: Any) -> Any:
        """Return an argument with `_Place` for keys and `Nested` for tasks."""
        kind = type(argument)
        if kind is list:
            items = [self._argument(item) for item in argument]
            if any(type(item) is Nested for item in items):
                return Nested(list_of, items)
            return argument if all(map(operator.is_, items, argument)) else items
        if kind is tuple and argument and callable(argument[0]):
            return Nested(argument[0], [self._argument(item) for item in argument[1:]])
        try:
            number = self.numbers.get(argument)
            if number is None and argument in self.dsk:
                number = self.number(argument)
        except TypeError:  # not hashable: a literal
            return argument
        return argument if number is None else _Place(number)

    def _read_value(self, key: Any, value: Any) -> None:
        """Read a computation that is no task: a literal, a key or a list."""
        kind = type(value)
        if kind is list:
            found = self._argument(value)
            if type(found) is Nested or _stands_for_inputs(found):
                if self._holds:
                    self._hold(evaluate, (found,))
                    return
                self._pack(self.function(evaluate), (found,))
                return
        elif getattr(kind, "__zcluster_input__", False):
            self.add((NO_FUNCTION, CALL_ALIAS, False, 0), [self.graph.add_import(value)], None)
            return
        else:
            found = self._argument(value)
            if type(found) is _Place:
                self.add((_IS_ALIAS, CALL_ALIAS, False, 0), [found.number], None)
                return
        if self._holds:
            self.hold_value(value)
            return
        constant = dumps_small(value, LARGE_ARGUMENT)
        if constant is not None:
            self.add((NO_FUNCTION, CALL_VALUE, False, 0), [], constant)
        else:
            large = self.graph.add_import(LargeArgument(plan(value, repr(key))))
            self.add((NO_FUNCTION, CALL_ALIAS, False, 0), [large], None)


def _stands_for_inputs(found: list[Any]) -> bool:
    return any(getattr(type(item), "__zcluster_input__", False) for item in flatten(found))


def number_tasks(rows: Rows) -> list[int]:
    """Add layers for all rows to their graph; return the task of each number.

    Raises
    ------
    InvalidGraph
        For a cycle.
    """
    return _Layers(rows).build()


class _Layers:
    """Numbers the tasks of some rows so that those of one callable stand side by side.

    It takes a callable and runs through all its tasks that are ready, those that this makes ready
    included; then the callable that has waited longest. A tree of additions is one layer of leaves
    and one of additions; a chain of one function is one layer.
    """

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self.numbers = [-1] * len(rows.keys)
        self.ready: dict[Group, list[int]] = {}
        self.waiting: list[int] = []
        self.consumers: list[list[int]] = [[] for _ in rows.keys]
        self.done = 0

    def build(self) -> list[int]:
        """Add the layers; return the task of each number."""
        rows = self.rows
        consumers, waiting, ready = self.consumers, self.waiting, self.ready
        aliases: list[int] = []
        for number, inputs in enumerate(rows.inputs):
            missing = 0
            for dependency in inputs:
                if dependency >= 0:
                    consumers[dependency].append(number)
                    missing += 1
            waiting.append(missing)
            if not missing:
                ready.setdefault(rows.groups[number], []).append(number)
        while ready:
            group = next(iter(ready))
            tasks = ready[group]
            self._number(group, tasks, aliases)
            del ready[group]
            for start in range(0, len(tasks), LAYER_TASKS):
                self._add_layer(group, tasks[start : start + LAYER_TASKS])
        if self.done < len(rows.keys):
            raise cycle_error(rows.keys, rows.inputs, waiting)
        return self.numbers

    def _number(self, group: Group, tasks: list[int], aliases: list[int]) -> None:
        """Number the ready tasks of a group, and those that become ready meanwhile."""
        groups, numbers = self.rows.groups, self.numbers
        waiting, consumers, ready = self.waiting, self.consumers, self.ready
        number = self.rows.graph.count
        done = 0
        for task in tasks:  # grows meanwhile
            numbers[task] = number
            number += 1
            done += 1
            finished = task
            while True:
                for consumer in consumers[finished]:
                    waiting[consumer] -= 1
                    if not waiting[consumer]:
                        its_group = groups[consumer]
                        if its_group == group:
                            tasks.append(consumer)
                        elif its_group[0] == _IS_ALIAS:
                            aliases.append(consumer)
                        elif its_group in ready:
                            ready[its_group].append(consumer)
                        else:
                            ready[its_group] = [consumer]
                if not aliases:
                    break
                # An alias is no task: it has the number of what it stands for.
                finished = aliases.pop()
                numbers[finished] = numbers[self.rows.inputs[finished][0]]
                done += 1
        self.done += done

    def _add_layer(self, group: Group, tasks: list[int]) -> None:
        rows, numbers = self.rows, self.numbers
        place, form, shared, options = group
        name, function = ("value", None) if place < 0 else rows.functions[place]
        if form == CALL_ALIAS:
            name = "alias"
        listed = [rows.inputs[task] for task in tasks]
        lengths = set(map(len, listed))
        indptr = None
        if len(lengths) > 1:
            indptr = list(accumulate(map(len, listed), initial=0))
        offsets, constants = None, b""
        objects = None
        if place == _IS_HELD_VALUE or (place >= 0 and function is None):
            objects = [rows.constants[task] for task in tasks]
            if form == CALL_VALUE:  # without constants it would be data that is there already
                offsets = [0] * (len(tasks) + 1)
        elif form != CALL_ALIAS and form != CALL_INPUTS and rows.constants[tasks[0]] is not None:
            each: list[Any] = [rows.constants[task] for task in tasks]
            constants = b"".join(each)
            offsets = list(accumulate(map(len, each), initial=0))
        keys = rows.keys
        rows.graph.add_layer(
            GraphLayer(
                name,
                (len(tasks),),
                len(tasks),
                form,
                function,
                lengths.pop() if indptr is None else -1,
                indptr,
                [numbers[i] if i >= 0 else i for row in listed for i in row],
                None,
                constants,
                offsets,
                [key if type(key) is str else repr(key) for key in map(keys.__getitem__, tasks)],
                shared,
                options=rows.options[options],
                objects=objects,
            )
        )
