"""The graph as the client holds and sends it: layers of arrays, and what they refer to.

A **layer** is a run of consecutive tasks that share one callable. Its edges are compressed sparse
rows: the inputs of the task at position ``p`` are ``indices[indptr[p]:indptr[p + 1]]`` (with a
fixed ``arity`` no ``indptr`` is needed). An input is

- ``n >= 0``: task ``n`` of the same graph, always one that comes before the task that takes it;
- ``~k`` (that is ``-1 - k``): entry ``k`` of ``Graph.imports``: something that is not made in this
  graph, such as a future, or a `LargeArgument`.

There are three ways to a graph. Collections write layers with vectorised NumPy and add them with
`Graph.add_layer`; calls that come one at a time go through a `GraphBuilder`, which merges
neighbours into layers; several graphs become one by `Graph.merge`. `lowering` turns the graph into
messages.

Nothing here pickles or imports a pickling module: callables and constants arrive as bytes, or as
objects where the graph will run in this process.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

from zcluster.errors import InvalidArgument
from zcluster.protocol.messages import Needs, Slot
from zcluster.types import Buffer, Key

if TYPE_CHECKING:
    import numpy as np

__all__ = [
    "DEFAULT_OPTIONS",
    "MERGED_CALLS",
    "Graph",
    "GraphBuilder",
    "GraphLayer",
    "HeldLayer",
    "Integers",
    "LargeArgument",
    "Options",
    "PackedCall",
    "PackedFunction",
    "Plan",
]

#: Integers in bulk: NumPy from about 50 on, a list or an ``array`` below.
Integers: TypeAlias = "Sequence[int] | np.ndarray[Any, Any]"

#: The most calls a `GraphBuilder` merges into one layer.
MERGED_CALLS = 512


class PackedFunction(Protocol):
    """A callable as bytes, under their hash (`zcluster.protocol.callables.Packed`)."""

    @property
    def digest(self) -> bytes: ...

    @property
    def data(self) -> bytes: ...


class Plan(Protocol):
    """A blob that is not written yet (`zcluster.protocol.blobs.Plan`)."""

    size: int

    def write_into(self, target: memoryview) -> None: ...

    def tobytes(self) -> bytes: ...


class PackedCall(Protocol):
    """The arguments of a call as bytes (`zcluster.protocol.calls.PackedCall`)."""

    @property
    def form(self) -> int: ...

    @property
    def constant(self) -> bytes | None: ...

    @property
    def plan(self) -> Plan | None: ...


class LargeArgument:
    """An import that is not made yet: data too large to travel in the graph.

    Whoever submits the graph puts it into a store first.

    Attributes
    ----------
    plan : Plan
        The blob to be written.
    """

    __slots__ = ("plan",)

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    def __repr__(self) -> str:
        return f"<LargeArgument: {self.plan.size} bytes>"


class HeldLayer:
    """The calls of a layer, all of one function that is here: of its inputs, as they come.

    In a layer with constants (`zcluster.protocol.calls.CALL_ROW`) each call has its constant first.

    Attributes
    ----------
    function : callable
    reads_only : bool
        It writes into none of its inputs and keeps none of them, so that nobody needs a copy.
    """

    __slots__ = ("function", "reads_only")

    def __init__(self, function: Callable[..., Any], reads_only: bool = False) -> None:
        self.function = function
        self.reads_only = reads_only


class Options(NamedTuple):
    """How a user wants calls to be run; calls that want the same share a layer.

    Attributes
    ----------
    workers : tuple of str
        Names of the workers, nodes or hosts where they shall run.
    allow_other_workers : bool
        Whether these are a wish only.
    retries : int
        How often each may be tried again after an exception.
    priority : int
        Larger runs earlier.
    needs : Needs, optional
        What else they need.
    """

    workers: tuple[str, ...] = ()
    allow_other_workers: bool = False
    retries: int = 0
    priority: int = 0
    needs: Needs | None = None


#: The usual options; builders are quicker for this very object.
DEFAULT_OPTIONS = Options()


@dataclass(slots=True)
class GraphLayer:
    """A run of consecutive tasks that share one callable.

    Attributes
    ----------
    name : str
        Prefix of the keys, or the key itself where `shape` is ``()``.
    shape : tuple of int
        What turns a position in the layer into a key: ``(name, i, j, …)``.
    count : int
        Number of tasks.
    call : int
        A form of `zcluster.protocol.calls`.
    function : PackedFunction or None
        None for literals and aliases.
    arity : int
        Listed inputs a task, or -1 where `indptr` says.
    indptr, indices : integers
        The edges; see the top of the file.
    orders : integers or None
        Ranks of the tasks within the graph; None: their numbers.
    constants, offsets : bytes-like, integers or None
        The constant of position ``p`` is ``constants[offsets[p]:offsets[p + 1]]``.
    keys : list of str or None
        Keys given by name, in place of the name and shape.
    shared : bool
        Equal keys mean the same task for all clients.
    slots, whole, whole_slots, selections
        What part of each input a task takes; see `zcluster.protocol.messages.Layer`. ``whole``
        holds positions in ``Graph.layers``.
    options : Options
        How the user wants the tasks run.
    first : int
        Number of the first task; set by `Graph.add_layer`.
    objects : sequence, HeldLayer or None
        In a graph that runs in this process, by position: a `zcluster.protocol.held.HeldCall` with
        the function in it, or with `CALL_VALUE` the value; in the place of `function` and
        `constants`. Or a `HeldLayer`, in the place of `function` alone.
    """

    name: str
    shape: tuple[int, ...]
    count: int
    call: int
    function: PackedFunction | None = None
    arity: int = 0
    indptr: Integers | None = None
    indices: Integers = ()
    orders: Integers | None = None
    constants: Buffer = b""
    offsets: Integers | None = None
    keys: list[str] | None = None
    shared: bool = False
    slots: Sequence[Slot] = ()
    whole: Sequence[int] = ()
    whole_slots: Sequence[Slot] = ()
    selections: Integers | None = None
    options: Options = DEFAULT_OPTIONS
    first: int = 0
    objects: Sequence[Any] | HeldLayer | None = None

    def key(self, position: int) -> Key:
        """Return the key of the task at a position in the layer.

        Examples
        --------
        >>> GraphLayer("x", (2, 3), 6, 0).key(4)
        ('x', 1, 1)
        """
        if self.keys is not None:
            return self.keys[position]
        if not self.shape:
            return self.name
        index = []
        for length in reversed(self.shape):
            position, i = divmod(position, length)
            index.append(i)
        return (self.name, *reversed(index))

    def inputs(self, position: int) -> list[int]:
        """Return the listed inputs of the task at a position."""
        if self.indptr is None:
            start, stop = position * self.arity, (position + 1) * self.arity
        else:
            start, stop = self.indptr[position], self.indptr[position + 1]
        return [int(i) for i in self.indices[start:stop]]

    def constant(self, position: int) -> Buffer | None:
        """Return the constant of the task at a position, if the layer has constants."""
        if self.offsets is None:
            return None
        return self.constants[self.offsets[position] : self.offsets[position + 1]]


class Graph:
    """Layers with dense task numbers, imports, and the tasks that are wanted.

    Attributes
    ----------
    layers : list of GraphLayer
    imports : list
        Objects that stand for inputs made elsewhere (futures), and `LargeArgument`.
    outputs : list of (int, int)
        The wanted tasks, as (first, count).
    count : int
        Number of tasks.
    """

    __slots__ = ("_numbers", "count", "imports", "layers", "outputs")

    def __init__(self) -> None:
        self.layers: list[GraphLayer] = []
        self.imports: list[Any] = []
        self.outputs: list[tuple[int, int]] = []
        self.count = 0
        self._numbers: dict[int, int] = {}  # id of an import to its entry

    def __repr__(self) -> str:
        return f"<Graph: {self.count} tasks in {len(self.layers)} layers>"

    def add_layer(self, layer: GraphLayer) -> int:
        """Add a layer; return the number of its first task.

        Raises
        ------
        InvalidArgument
            If the lengths of its columns do not fit together.
        """
        _check_layer(layer)
        layer.first = first = self.count
        self.layers.append(layer)
        self.count = first + layer.count
        return first

    def add_import(self, value: Any) -> int:
        """Add an import, once for each object; return it as an input (``~k``)."""
        entry = self._numbers.get(id(value))
        if entry is None:
            entry = self._numbers[id(value)] = len(self.imports)
            self.imports.append(value)
        return ~entry

    def set_imports(self, values: Sequence[Any]) -> None:
        """Put other imports in the place of these; the layers have been renumbered for them."""
        self.imports = []
        self._numbers = {}
        for value in values:
            self.add_import(value)

    def merge(self, other: Graph) -> int:
        """Append another graph, which is used up; return what its task numbers grew by.

        Imports that are the same object become one; outputs follow this graph's outputs.
        """
        offset = self.count
        layers = len(self.layers)
        entries = [self.add_import(value) for value in other.imports]
        imports_move = any(entry != ~k for k, entry in enumerate(entries))
        for layer in other.layers:
            if offset or imports_move:
                layer.indices = _moved(layer.indices, offset, entries)
                if layer.orders is not None:
                    layer.orders = _moved(layer.orders, offset, [])
            if layers and layer.whole:
                layer.whole = [k + layers for k in layer.whole]
            layer.first += offset
            self.layers.append(layer)
        self.count += other.count
        self.outputs += [(first + offset, count) for first, count in other.outputs]
        return offset

    def want(self, tasks: Sequence[int]) -> dict[int, int]:
        """Make tasks outputs, each once; return where the result of each will stand.

        Example: ``places = graph.want([3, 4, 3])``, then ``values[places[3]]``.
        """
        place = sum(count for _, count in self.outputs)
        places: dict[int, int] = {}
        for task in tasks:
            if task in places:
                continue
            places[task] = place
            place += 1
            if self.outputs and task == sum(self.outputs[-1]):
                first, count = self.outputs[-1]
                self.outputs[-1] = (first, count + 1)
            else:
                self.outputs.append((task, 1))
        return places

    def layer_of(self, task: int) -> GraphLayer:
        """Return the layer a task belongs to."""
        if not 0 <= task < self.count:
            raise InvalidArgument(f"no task {task} in a graph of {self.count} tasks")
        low, high = 0, len(self.layers)
        while high - low > 1:
            middle = (low + high) // 2
            if self.layers[middle].first <= task:
                low = middle
            else:
                high = middle
        return self.layers[low]

    def key(self, task: int) -> Key:
        """Return the key of a task."""
        layer = self.layer_of(task)
        return layer.key(task - layer.first)


def _check_layer(layer: GraphLayer) -> None:
    count = layer.count
    if count < 1:
        raise InvalidArgument(f"layer {layer.name!r} has {count} tasks; expected at least one")
    if layer.indptr is None:
        edges = layer.arity * count
    else:
        edges = int(layer.indptr[-1]) if len(layer.indptr) == count + 1 else -1
    wrong = None
    if (layer.arity < 0) != (layer.indptr is not None) or edges != len(layer.indices):
        wrong = "its arity, indptr and indices do not fit together"
    elif layer.offsets is not None and (
        len(layer.offsets) != count + 1 or layer.offsets[-1] != len(layer.constants)
    ):
        wrong = "its offsets do not cut its constants into one a task"
    elif layer.keys is not None and len(layer.keys) != count:
        wrong = f"it has {len(layer.keys)} keys"
    elif layer.orders is not None and len(layer.orders) != count:
        wrong = f"it has {len(layer.orders)} orders"
    if wrong:
        raise InvalidArgument(
            f"layer {layer.name!r} of {count} tasks: {wrong}; see zcluster.graph.layers"
        )


def _moved(values: Integers, offset: int, entries: list[int]) -> Integers:
    """Add an offset to task numbers and renumber imports."""
    if isinstance(values, (list, tuple, array)):
        return [v + offset if v >= 0 else entries[~v] for v in values]
    numpy_values: Any = values
    moved = numpy_values + offset
    negative = numpy_values < 0
    if negative.any():
        moved[negative] = [entries[~v] for v in numpy_values[negative].tolist()]
    return moved  # type: ignore[no-any-return]


class GraphBuilder:
    """Makes a graph of calls that come one at a time, merging neighbours into layers.

    Consecutive calls with the same callable, form and options share a layer, at most
    `MERGED_CALLS` of them. A call may take the results of calls before it in the same layer.
    """

    __slots__ = (
        "_arities",
        "_call",
        "_constants",
        "_function",
        "_indices",
        "_keys",
        "_mark",
        "_name",
        "graph",
    )

    def __init__(self, graph: Graph | None = None) -> None:
        self.graph = Graph() if graph is None else graph
        self._mark: tuple[Any, ...] | None = None
        self._name = ""
        self._call = 0
        self._function: PackedFunction | None = None
        self._arities: list[int] = []
        self._indices: list[int] = []
        self._constants: list[bytes] = []
        self._keys: list[str] = []

    def __len__(self) -> int:
        return self.graph.count + len(self._arities)

    def add_import(self, value: Any) -> int:
        """Add an import, once for each object; return it as an input (``~k``)."""
        return self.graph.add_import(value)

    def add_call(
        self,
        name: str,
        function: PackedFunction | None,
        call: PackedCall,
        inputs: Sequence[int],
        *,
        key: str | None = None,
        shared: bool = False,
        options: Options = DEFAULT_OPTIONS,
    ) -> int:
        """Add a call; return its task number.

        Parameters
        ----------
        name : str
            Prefix of the layer's keys; with a `key` it is only shown.
        function : PackedFunction or None
            None for literals and aliases.
        call : PackedCall
            What `pack_call` returned; a large argument in it becomes an import and the last input.
        inputs : sequence of int
            The call's inputs as task numbers and imports, in the order of ``call.inputs``.
        key : str, optional
            The task's key; without it, the key is made of the name and the place in the layer.
        """
        mark = (
            None if function is None else function.digest,
            call.form,
            name if key is None else None,
            shared,
            options,
        )
        arities = self._arities
        if mark != self._mark or len(arities) >= MERGED_CALLS:
            if arities:
                self._close()
                arities = self._arities
            self._mark, self._name, self._call, self._function = mark, name, call.form, function
        self._indices += inputs
        constant = call.constant
        if constant is not None:
            self._constants.append(constant)
        elif call.plan is not None:
            self._indices.append(self.graph.add_import(LargeArgument(call.plan)))
            inputs = (*inputs, 0)
        arities.append(len(inputs))
        if key is not None:
            self._keys.append(key)
        return self.graph.count + len(arities) - 1

    def add_map(
        self,
        name: str,
        function: PackedFunction,
        constants: Sequence[bytes],
        form: int,
        *,
        indices: Sequence[int] = (),
        arity: int = 0,
        keys: list[str] | None = None,
        shared: bool = False,
        options: Options = DEFAULT_OPTIONS,
    ) -> int:
        """Add many calls of one callable as one layer; return the number of the first.

        Parameters
        ----------
        constants : sequence of bytes
            The constant of each call; empty for a form that has none.
        form : int
            The form of all calls.
        indices, arity : sequence of int, int
            The inputs of all calls, joined, and how many each has.
        """
        if self._arities:
            self._close()
        count = len(constants) or (len(indices) // arity if arity else 0)
        return self.graph.add_layer(
            GraphLayer(
                name,
                (count,),
                count,
                form,
                function,
                arity,
                None,
                indices,
                None,
                b"".join(constants),
                _starts(map(len, constants)) if constants else None,
                keys,
                shared,
                options=options,
            )
        )

    def _close(self) -> None:
        """Turn the open calls into a layer."""
        arities, keys, constants = self._arities, self._keys, self._constants
        assert self._mark is not None  # set with the first of the open calls
        count = len(arities)
        arity = arities[0]
        indptr = None
        if count > 1 and arities.count(arity) != count:
            arity, indptr = -1, _starts(arities)
        _, _, _, shared, options = self._mark
        layer = GraphLayer(
            self._name,
            () if count == 1 else (count,),
            count,
            self._call,
            self._function,
            arity,
            indptr,
            self._indices,
            None,
            b"".join(constants),
            _starts(map(len, constants)) if constants else None,
            keys or None,
            shared,
            (),
            (),
            (),
            None,
            options,
        )
        self._arities, self._indices, self._keys, self._constants = [], [], [], []
        self.graph.add_layer(layer)

    def finish(self) -> Graph:
        """Return the graph; the builder goes on adding to the same one if it is used again."""
        if self._arities:
            self._close()
        return self.graph


def _starts(lengths: Any) -> list[int]:
    """Return where runs of these lengths start, and where the last one ends."""
    return list(accumulate(lengths, initial=0))
