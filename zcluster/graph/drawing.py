"""Pictures of graphs, as SVG, with nothing but the standard library.

Circles are functions, rectangles are results; data flows upwards in rows, each task above its
inputs. A graph of more tasks than anybody can look at is drawn by its layers: one circle for each
layer, with the number of its tasks.

The layout is the usual one for layered drawings: a row for each depth, and a few sweeps that put
each task at the middle of its neighbours in the row before.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from typing import Any

from zcluster.errors import InvalidArgument
from zcluster.graph.layers import Graph
from zcluster.graph.tasks import istask, taken_keys

__all__ = ["MOST_DRAWN", "Picture", "draw"]

#: Graphs of more tasks than this are drawn by their layers.
MOST_DRAWN = 1000

_COLUMN, _ROW, _RADIUS, _HEIGHT, _MARGIN = 150, 130, 26, 26, 20
_LABEL = 20  # characters of a label that fit

# Forms of `zcluster.protocol.calls` that call no function.
_VALUES = frozenset({3, 4})


class Picture:
    """A drawing of a graph; notebooks show it.

    Attributes
    ----------
    svg : str
        The picture.
    tasks : int
        How many functions (circles) it shows.
    """

    def __init__(self, svg: str, tasks: int) -> None:
        self.svg = svg
        self.tasks = tasks

    def __repr__(self) -> str:
        return f"<Picture: {self.tasks} tasks, {len(self.svg)} bytes of SVG>"

    def _repr_svg_(self) -> str:
        return self.svg

    def save(self, filename: str | os.PathLike[str]) -> str:
        """Write the picture to a file; return its name.

        Parameters
        ----------
        filename : str or path
            With ``.svg`` at the end, or with no ending: then it is added.

        Raises
        ------
        InvalidArgument
            For another format.
        """
        name = check_filename(filename)
        with open(name, "w", encoding="utf-8") as file:
            file.write(self.svg)
        return name


def check_filename(filename: str | os.PathLike[str]) -> str:
    """Return the name of a picture's file, or raise `InvalidArgument` for another format."""
    name = os.fspath(filename)
    ending = os.path.splitext(name)[1]
    if not ending:
        return name + ".svg"
    if ending.lower() != ".svg":
        raise InvalidArgument(
            f"cannot write {name!r}: pictures are SVG, found the ending {ending!r}; use "
            f"{os.path.splitext(name)[0] + '.svg'!r}, and convert it with a browser, Inkscape or "
            "rsvg-convert"
        )
    return name


@dataclass(slots=True)
class _Node:
    """A task to draw: a function's circle (or none) under its result's rectangle."""

    function: str
    result: str
    inputs: list[int] = field(default_factory=list)
    row: int = 0
    x: float = 0.0


def draw(
    graph: Graph | Mapping[Any, Any], filename: str | os.PathLike[str] | None = None
) -> Picture:
    """Draw a graph.

    Parameters
    ----------
    graph : Graph or mapping
        A graph of layers, or a hand-written one.
    filename : str or path, optional
        Where to write the picture, as SVG.

    Raises
    ------
    InvalidArgument
        For a file name with the ending of another format.
    """
    if filename is not None:
        check_filename(filename)
    if not isinstance(graph, Graph):
        nodes = _nodes_of_mapping(graph)
    elif graph.count <= MOST_DRAWN:
        nodes = _nodes_of_tasks(graph)
    else:
        nodes = _nodes_of_layers(graph)
    _lay_out(nodes)
    picture = Picture(_svg(nodes), sum(bool(node.function) for node in nodes))
    if filename is not None:
        picture.save(filename)
    return picture


def _text(key: Any) -> str:
    return key if isinstance(key, str) else repr(key)


def _nodes_of_tasks(graph: Graph) -> list[_Node]:
    nodes: list[_Node] = []
    imports = [
        _Node("", _text(getattr(value, "key", type(value).__name__))) for value in graph.imports
    ]
    for layer in graph.layers:
        function = "" if layer.call in _VALUES else layer.name
        taken = [t for k in layer.whole for t in _tasks(graph, k)]
        for position in range(layer.count):
            inputs = layer.inputs(position) + taken
            inputs = [i if i >= 0 else graph.count + ~i for i in inputs]
            nodes.append(_Node(_prefix(function), _text(layer.key(position)), inputs))
    return nodes + imports


def _tasks(graph: Graph, layer: int) -> range:
    first = graph.layers[layer].first
    return range(first, first + graph.layers[layer].count)


def _nodes_of_layers(graph: Graph) -> list[_Node]:
    nodes = []
    layers = graph.layers
    place = {id(layer): number for number, layer in enumerate(layers)}
    for layer in layers:
        inputs = set(layer.whole)
        low = 0
        while low < len(layer.indices):  # a look at some: enough to see which layers are taken
            number = int(layer.indices[low])
            if number >= 0:
                inputs.add(place[id(graph.layer_of(number))])
            low += 1 + len(layer.indices) // 1000
        inputs.discard(place[id(layer)])
        nodes.append(_Node(_prefix(layer.name), f"{layer.count} × {layer.name}", sorted(inputs)))
    return nodes


def _nodes_of_mapping(dsk: Mapping[Any, Any]) -> list[_Node]:
    from zcluster.protocol.callables import callable_name  # drawing arrays needs no pickling

    numbers = {key: number for number, key in enumerate(dsk)}
    nodes = []
    for key in numbers:
        value = dsk[key]
        function = callable_name(value[0]) if istask(value) else ""
        inputs = [numbers[taken] for taken in taken_keys(dsk, value)]
        nodes.append(_Node(function, _text(key), inputs))
    return nodes


def _prefix(name: str) -> str:
    """Return the part of a name before its token."""
    head, dash, tail = name.rpartition("-")
    return head if dash and len(tail) >= 32 else name


# Layout --------------------------------------------------------------------------------------


def _lay_out(nodes: list[_Node]) -> None:
    """Give each node a row and a place in it."""
    for number in _inputs_first(nodes):
        node = nodes[number]
        node.row = 1 + max((nodes[i].row for i in node.inputs), default=-1)
    rows: dict[int, list[int]] = {}
    for number, node in enumerate(nodes):
        rows.setdefault(node.row, []).append(number)
    consumers: list[list[int]] = [[] for _ in nodes]
    for number, node in enumerate(nodes):
        for i in node.inputs:
            consumers[i].append(number)
    # What is taken by one row only stands right below it, not at the very bottom.
    for place in sorted(rows, reverse=True):
        for number in rows[place]:
            if consumers[number]:
                nodes[number].row = min(nodes[c].row for c in consumers[number]) - 1
    rows = {}
    for number, node in enumerate(nodes):
        rows.setdefault(node.row, []).append(number)
    for row in rows.values():
        _spread(nodes, row)
    for sweep in range(4):
        upwards = sweep % 2 == 0
        for place in sorted(rows, reverse=not upwards):
            row = rows[place]
            for number in row:
                near = nodes[number].inputs if upwards else consumers[number]
                if near:
                    nodes[number].x = sum(nodes[i].x for i in near) / len(near)
            row.sort(key=lambda number: nodes[number].x)
            _spread(nodes, row)


def _spread(nodes: list[_Node], row: list[int]) -> None:
    """Put the nodes of a row one column apart, around the middle."""
    for place, number in enumerate(row):
        nodes[number].x = place - (len(row) - 1) / 2


def _inputs_first(nodes: list[_Node]) -> list[int]:
    """Return the nodes so that each comes after its inputs; a cycle is broken anywhere."""
    done = bytearray(len(nodes))
    result: list[int] = []
    for root in range(len(nodes)):
        stack = [root]
        while stack:
            number = stack.pop()
            if number < 0:
                result.append(~number)
            elif not done[number]:
                done[number] = 1
                stack.append(~number)
                stack += [i for i in nodes[number].inputs if not done[i]]
    return result


# SVG -----------------------------------------------------------------------------------------


def _svg(nodes: list[_Node]) -> str:
    left = min((node.x for node in nodes), default=0.0)
    right = max((node.x for node in nodes), default=0.0)
    height = 2 * _MARGIN + _ROW * (1 + max((node.row for node in nodes), default=0))
    width = 2 * _MARGIN + _COLUMN * (right - left + 1)

    def at(node: _Node) -> tuple[float, float, float]:
        """Return the middle of the node, the height of its circle and of its rectangle."""
        x = _MARGIN + _COLUMN * (node.x - left + 0.5)
        y = height - _MARGIN - _ROW * node.row
        return x, y - _RADIUS, y - _ROW + 2 * _RADIUS

    lines, shapes = [], []
    for node in nodes:
        x, circle, rectangle = at(node)
        foot = circle + _RADIUS if node.function else rectangle + _HEIGHT / 2
        for number in dict.fromkeys(node.inputs):
            below, _, top = at(nodes[number])
            lines.append(_line(below, top - _HEIGHT / 2, x, foot))
        if node.function:
            lines.append(_line(x, circle - _RADIUS, x, rectangle + _HEIGHT / 2))
            shapes.append(
                f'<g class="task"><title>{escape(node.function)}</title>'
                f'<circle cx="{x:g}" cy="{circle:g}" r="{_RADIUS}"/>'
                f'<text x="{x:g}" y="{circle:g}">{escape(_short(node.function))}</text></g>'
            )
        shapes.append(
            f'<g class="data"><title>{escape(node.result)}</title>'
            f'<rect x="{x - _COLUMN * 0.45:g}" y="{rectangle - _HEIGHT / 2:g}" '
            f'width="{_COLUMN * 0.9:g}" height="{_HEIGHT}"/>'
            f'<text x="{x:g}" y="{rectangle:g}">{escape(_short(node.result))}</text></g>'
        )
    body = "\n".join(lines + shapes)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}" height="{height:g}" '
        f'viewBox="0 0 {width:g} {height:g}">\n<style>{_STYLE}</style>\n{_ARROW}\n{body}\n</svg>\n'
    )


_STYLE = (
    "circle,rect{fill:#fff;stroke:#333}line{stroke:#666;marker-end:url(#arrow)}"
    "text{font:11px sans-serif;text-anchor:middle;dominant-baseline:central}"
)
_ARROW = (
    '<defs><marker id="arrow" viewBox="0 0 6 6" refX="6" refY="3" markerWidth="6" '
    'markerHeight="6" orient="auto"><path d="M0 0L6 3L0 6z" fill="#666"/></marker></defs>'
)


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}"/>'


def _short(text: str) -> str:
    return text if len(text) <= _LABEL else text[: _LABEL - 1] + "…"
