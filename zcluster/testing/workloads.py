"""Graphs drawn by chance, each with the model of what it must give.

A `Mix` is what the graphs of one history have in common; most histories draw few kinds of trouble,
so that the rare ones meet undisturbed. `draw_graph` draws one graph of a given size.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from zcluster.graph.layers import Graph, GraphLayer, Options
from zcluster.protocol.calls import CALL_ALIAS, CALL_INPUTS, CALL_PACKED, CALL_VALUE
from zcluster.protocol.messages import Needs, Slot
from zcluster.testing.fakes import function
from zcluster.testing.model import Spec

__all__ = ["SHAPES", "Drawn", "Mix", "add_layer", "data_graph", "draw_graph", "draw_size"]

#: Shapes of graphs; ``mixed`` draws each layer's.
SHAPES = ("chain", "tree", "map", "diamond", "whole", "parts", "random", "mixed")

_PIECES = ("chain", "tree", "map", "random", "random", "whole", "parts")
_RESCUE = "rescue"  # the node that is left alone


@dataclass(frozen=True)
class Mix:
    """What the graphs of a history are like.

    Attributes
    ----------
    names : tuple of str
        Beginnings of callables; the first letter says what results are, see `fakes`.
    failing, needy, shared, restricted, limited, once, actors, aliases : float
        How often a task raises or kills; how often a layer needs resources or threads, shares its
        keys, may run at some nodes only, has a time limit, runs at most once, makes actors, or
        is another name of an earlier task.
    shapes : tuple of str
        Among which graphs choose.
    """

    names: tuple[str, ...] = ("s",)
    failing: float = 0.0
    needy: float = 0.0
    shared: float = 0.0
    restricted: float = 0.0
    limited: float = 0.0
    once: float = 0.0
    actors: float = 0.0
    aliases: float = 0.0
    shapes: tuple[str, ...] = SHAPES

    @classmethod
    def draw(cls, chance: random.Random) -> Mix:
        """Draw a mix: most have few kinds of trouble."""
        return cls(
            names=chance.choice((("s",), ("s", "b"), ("s", "b", "p", "u"))),
            failing=chance.choice((0.0, 0.0, 0.02, 0.1)),
            needy=chance.choice((0.0, 0.0, 0.3)),
            shared=chance.choice((0.0, 0.25)),
            restricted=chance.choice((0.0, 0.0, 0.2)),
            limited=chance.choice((0.0, 0.0, 0.0, 0.2)),
            once=chance.choice((0.0, 0.0, 0.0, 0.2)),
            actors=chance.choice((0.0, 0.0, 0.0, 0.0, 0.3)),
            aliases=chance.choice((0.0, 0.1)),
            shapes=SHAPES if chance.random() < 0.5 else (chance.choice(SHAPES),),
        )


def draw_size(chance: random.Random, least: int, most: int) -> int:
    """Draw a size such that small ones are as likely as large ones (log-uniform).

    Examples
    --------
    >>> sizes = [draw_size(random.Random(seed), 3, 300) for seed in range(400)]
    >>> 150 < sum(size < 30 for size in sizes) < 250
    True
    """
    return min(most, int(least * (((most + 1) / least) ** chance.random())))


def add_layer(
    graph: Graph,
    name: str = "s",
    inputs: Sequence[Sequence[int]] = ((),),
    constants: Sequence[bytes] | None = None,
    **options: Any,
) -> int:
    """Append a layer with a task for each list of inputs (``~k``: import k); return its first.

    Examples
    --------
    >>> graph = Graph()
    >>> add_layer(graph, "s", [(), ()]), add_layer(graph, "s", [(0, 1)])
    (0, 2)
    """
    arities = {len(sources) for sources in inputs}
    arity = arities.pop() if len(arities) == 1 else -1
    starts = [0]
    for sources in inputs:
        starts.append(starts[-1] + len(sources))
    offsets = None
    if constants is not None:
        offsets = [0]
        for constant in constants:
            offsets.append(offsets[-1] + len(constant))
    wishes = {wish: options.pop(wish) for wish in Options._fields if wish in options}
    layer = GraphLayer(
        name,
        () if len(inputs) == 1 else (len(inputs),),
        len(inputs),
        options.pop("call", CALL_INPUTS if constants is None else CALL_PACKED),
        options.pop("function", function(name)),
        arity,
        starts if arity < 0 else None,
        [source for sources in inputs for source in sources],
        constants=b"".join(constants or ()),
        offsets=offsets,
        options=Options(**wishes),
        **options,
    )
    return graph.add_layer(layer)


@dataclass
class Drawn:
    """A graph and what its tasks should give.

    Attributes
    ----------
    imports : list of int
        The tasks its imports stand for.
    specs : list of Spec
        By number in the graph; inputs are (is it of this graph, number or task, part).
    """

    graph: Graph
    imports: list[int] = field(default_factory=list)
    specs: list[Spec] = field(default_factory=list)

    def placed(self, first: int) -> Iterator[tuple[int, Spec]]:
        """Yield (task, spec) as they are once the graph's first task has its number."""
        # Tasks that take the same share a list.
        lists: dict[int, list[Any]] = {}
        for number, spec in enumerate(self.specs):
            drawn = spec.inputs
            placed = lists.get(id(drawn))
            if placed is None:
                placed = lists[id(drawn)] = [
                    (n + first if own else n, part) for own, n, part in drawn
                ]
            spec.inputs = placed
            if spec.alias is not None:
                spec.alias += first
            yield first + number, spec


class _Import:
    """An import of a graph; the same object is the same import."""


def draw_graph(
    chance: random.Random,
    mix: Mix,
    size: int,
    imports: Sequence[int] = (),
    nodes: Sequence[str] = (),
    unique: Callable[[], int] = lambda: 0,
) -> Drawn:
    """Draw a graph of about so many tasks.

    Parameters
    ----------
    chance : random.Random
    mix : Mix
    size : int
    imports : sequence of int
        Tasks it may take results of.
    nodes : sequence of str
        Names that restricted layers may choose among.
    unique : callable
        Gives a number nobody has, for keys that nobody shares.

    Examples
    --------
    >>> drawn = draw_graph(random.Random(1), Mix(shapes=("tree",)), 20)
    >>> drawn.graph.count == len(drawn.specs) == 20
    True
    """
    drawing = _Drawing(chance, mix, imports, nodes, unique)
    drawing.draw(chance.choice(mix.shapes), size)
    return drawing.finish()


class _Drawing:
    """One graph being drawn."""

    def __init__(
        self,
        chance: random.Random,
        mix: Mix,
        imports: Sequence[int],
        nodes: Sequence[str],
        unique: Callable[[], int],
    ) -> None:
        self._chance, self._mix, self._nodes, self._unique = chance, mix, nodes, unique
        self._graph = Graph()
        self._drawn = Drawn(self._graph, list(imports))
        for _ in imports:
            self._graph.add_import(_Import())

    def finish(self) -> Drawn:
        """Choose what is wanted."""
        chance, graph = self._chance, self._graph
        wanted = [k for k in range(graph.count) if chance.random() < 0.4] or [graph.count - 1]
        if chance.random() < 0.3:
            wanted = list(range(graph.count))
        elif chance.random() < 0.4:
            wanted = [graph.count - 1]
        graph.want(wanted)
        return self._drawn

    def draw(self, shape: str, size: int) -> None:
        """Draw the layers of a shape."""
        if shape == "mixed":
            while self._graph.count < size:
                left = size - self._graph.count
                self._piece(self._chance.choice(_PIECES), max(1, draw_size(self._chance, 1, left)))
        elif shape in ("chain", "random"):
            self._piece(shape, size)
        elif shape == "map":
            self._layer([[] for _ in range(max(1, size // 2))])
            self._piece("map", max(1, size - size // 2))
        elif shape == "tree":
            self._layer([[] for _ in range((size + 1) // 2)])
            self._piece("tree", size - (size + 1) // 2)
        elif shape == "diamond":
            self._diamonds(size)
        else:
            self._layer([[] for _ in range(max(1, size // 2))])
            self._piece(shape, max(1, size - size // 2))

    def _diamonds(self, size: int) -> None:
        """One task, many that take it, one that takes them all, and again."""
        top = self._layer([[]])
        while (left := size - self._graph.count) > 0:
            width = max(1, draw_size(self._chance, 1, max(1, left - 1)))
            first = self._layer([[top]] * width)
            if self._graph.count < size:
                top = self._layer([list(range(first, first + width))])

    def _piece(self, shape: str, count: int) -> None:
        chance, graph = self._chance, self._graph
        if not graph.count and shape in ("map", "tree", "whole", "parts"):
            shape = "random"
        if graph.count and chance.random() < self._mix.aliases:
            self._alias()
        start = graph.count
        inputs: list[list[int]]
        if shape == "chain":
            inputs = [[start + k - 1] if start + k else [] for k in range(count)]
        elif shape == "map":
            inputs = [[max(0, start - count) + k % start] for k in range(min(count, 2 * start))]
            inputs = [[source[0] % start] for source in inputs]
        elif shape == "tree":
            inputs = self._tree(count)
        else:
            inputs = [
                [chance.randrange(start) for _ in range(chance.randint(0, 3))] if start else []
                for _ in range(count)
            ]
            if shape == "random" and not start:
                # Each takes some of those before it.
                inputs = [
                    [chance.randrange(k) for _ in range(chance.randint(0, 3))] if k else []
                    for k in range(count)
                ]
        if shape in ("whole", "parts"):
            self._gather(shape, inputs)
        else:
            self._layer(inputs)

    def _tree(self, count: int) -> list[list[int]]:
        task = self._graph.count
        level = list(range(max(0, task - count - 1), task))
        inputs: list[list[int]] = []
        while len(level) > 1:
            pairs = [level[k : k + 2] for k in range(0, len(level), 2)]
            inputs += pairs
            level = list(range(task, task + len(pairs)))
            task += len(pairs)
        return inputs[:count] or [[level[0]]]

    def _alias(self) -> None:
        source = self._chance.randrange(self._graph.count)
        add_layer(self._graph, "alias", [[source]], function=None, call=CALL_ALIAS)
        self._drawn.specs.append(Spec(b"", alias=source))

    def _gather(self, shape: str, inputs: list[list[int]]) -> None:
        """A layer that takes all of another one, or parts of its inputs, or both."""
        chance, layers = self._chance, self._graph.layers
        takes_all = shape == "whole" or chance.random() < 0.6
        kind = chance.choice((1, 2)) if shape == "parts" else 0
        if takes_all:
            whole = [chance.randrange(len(layers))]
            if chance.random() < 0.7:
                inputs = [[] for _ in inputs]
            self._layer(inputs, whole=whole, whole_kind=kind)
        else:
            self._layer(inputs, kind=kind)

    # ------------------------------------------------------------------ layers

    def _layer(
        self,
        inputs: list[list[int]],
        kind: int = 0,
        whole: Sequence[int] = (),
        whole_kind: int = 0,
    ) -> int:
        """Add a layer and its model; return the number of its first task."""
        chance, mix = self._chance, self._mix
        if self._drawn.imports:
            for sources in inputs:
                if chance.random() < 0.2:
                    sources.append(~chance.randrange(len(self._drawn.imports)))
        name = chance.choice(mix.names) + str(chance.randrange(3))
        constants = [self._constant(k) for k in range(len(inputs))]
        options = self._options()
        spec = self._limits(options)
        if kind:
            options["slots"] = [Slot(kind)]
        if whole:
            options["whole"] = list(whole)
            options["whole_slots"] = [Slot(whole_kind)] * len(whole)
        width = sum(map(len, inputs)) if kind == 1 else 0
        width += len(inputs) * len(whole) if whole_kind == 1 else 0
        table = [chance.randrange(3) for _ in range(width)]
        if table:
            options["selections"] = table
        keys = None
        if chance.random() < mix.shared:
            keys = self._keys(name, inputs, constants, bool(whole))
            options["shared"], options["keys"] = True, keys
        taken = [self._graph.layers[number] for number in whole]
        first = add_layer(self._graph, name, inputs, constants, **options)
        rows = iter(table)
        # What all of them take alike: most of what large graphs have.
        alike: list[Any] = []
        for layer in taken if not whole_kind else ():
            alike += [(True, layer.first + j, None) for j in range(layer.count)]
        for k, sources in enumerate(inputs):
            own = Spec(name.encode(), constants[k], retries=options["retries"], **spec)
            own.key = None if keys is None else keys[k]
            for source in sources:
                part = next(rows) if kind == 1 else k if kind == 2 else None
                of_graph = source >= 0
                number = source if of_graph else self._drawn.imports[~source]
                own.inputs.append((of_graph, number, part))
            if alike:
                own.inputs = own.inputs + alike if sources else alike
            for layer in taken if whole_kind else ():
                part = next(rows) if whole_kind == 1 else k
                own.inputs += [(True, layer.first + j, part) for j in range(layer.count)]
            self._drawn.specs.append(own)
        return first

    def _options(self) -> dict[str, Any]:
        chance = self._chance
        options: dict[str, Any] = {
            "retries": chance.choice((0, 0, 2)),
            "priority": chance.choice((0, 0, 0, 1)),
        }
        if chance.random() < self._mix.restricted:
            names = [name for name in self._nodes if chance.random() < 0.5]
            options["workers"] = (*names, _RESCUE)
            options["allow_other_workers"] = chance.random() < 0.5
        return options

    def _limits(self, options: dict[str, Any]) -> dict[str, Any]:
        """Draw what the tasks of a layer need, and say what that permits."""
        chance, mix = self._chance, self._mix
        needs: dict[str, Any] = {}
        spec: dict[str, Any] = {}
        if chance.random() < mix.needy:
            if chance.random() < 0.5:
                needs["resources"] = {"GPU": chance.choice((0.5, 1.0, 2.0))}
            needs["threads"] = chance.choice((1, 2))
            needs["retry_on"] = chance.choice(([], ["ValueError"]))
            needs["retry_delay"] = chance.choice((0.0, 0.3))
        if chance.random() < mix.limited:
            needs["timeout"] = chance.choice((0.01, 0.5, 5.0))
            spec["limited"] = True
        if chance.random() < mix.once:
            needs["at_most_once"] = spec["once"] = True
            options["retries"] = 0
        if chance.random() < mix.actors:
            needs["actor"] = spec["actor"] = True
        if needs:
            options["needs"] = Needs(**needs)
        return spec

    def _keys(
        self, name: str, inputs: list[list[int]], constants: list[bytes], has_whole: bool
    ) -> list[str]:
        """Make equal keys mean equal results: only calls without arguments share theirs."""
        keys = []
        for sources, constant in zip(inputs, constants, strict=True):
            key = f"k{name}{self._chance.randrange(6)}"
            if sources or has_whole or constant:
                key = f"{key}-{self._unique()}"
            keys.append(key)
        return keys

    def _constant(self, position: int) -> bytes:
        chance = self._chance
        if chance.random() < self._mix.failing:
            word = chance.choice((b"fail", b"flaky1", b"flaky2", b"kill", b"kill1", b"kill2"))
            return word + b" %d" % position
        return b"" if chance.random() < 0.5 else b"%d" % position


def data_graph(count: int) -> Graph:
    """Return a graph of data tasks, whose results are put into stores."""
    graph = Graph()
    add_layer(graph, "data", [()] * count, function=None, call=CALL_VALUE)
    graph.outputs = [(0, count)]
    return graph
