"""How an array shows itself: a line of text, and for notebooks a table beside a picture.

The picture is the grid of blocks. Up to three axes are one box, seen from its corner if there are
three; arrays of more axes are several boxes, the last three axes in the last one. Inside one axis
lines stand where chunks meet, to scale; of many chunks only some of the lines are drawn. Between
axes the scale is not linear: an axis is shorter the more its length is below that of the longest
one, by the logarithm, so that the second axis of ``(100000, 2)`` can be seen and a square is a
square.

Lines and text have the colour of the text around them, blocks a colour that goes with light and
dark pages. Everything here is a pure function of names and numbers; nothing is computed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import accumulate
from typing import Any

import numpy as np

from zcluster.array.chunks import Chunks, is_known
from zcluster.config.sizes import format_bytes

__all__ = ["html", "prefix", "svg", "text"]

_SIZE = 140  # pixels of the longest axis
_PARTS, _NARROWEST = 20, 4  # of an axis: so many parts at most, of so many pixels at least
_MARGIN, _LABEL, _GAP = 8, 16, 24
_FLAT = 28  # how high the only axis of an array is drawn
# An axis of half the length of the longest one is drawn 0.65 times as long, one of a thousandth
# 0.16 times: a line of two digits still fits beside it.
_SHRINK = 0.54
_DEPTH = (0.55, 0.4)  # how far the third axis goes to the right and down, for each pixel of it
_TOKEN = 32  # digits at the end of a name


def prefix(name: str) -> str:
    """Return the name of an array without its token.

    Examples
    --------
    >>> prefix("mean_agg-aggregate-" + 32 * "0"), prefix("mine-1")
    ('mean_agg-aggregate', 'mine-1')
    """
    head, dash, tail = name.rpartition("-")
    is_token = len(tail) == _TOKEN and not set(tail) - set("0123456789abcdef")
    return head if dash and is_token else name


def text(
    name: str, shape: Sequence[Any], dtype: Any, chunksize: Sequence[Any], chunktype: str
) -> str:
    """Return an array as one line.

    Parameters
    ----------
    name : str
        Of the array; its token is left out.
    shape : sequence of int
        With nan for lengths that are not known.
    dtype : dtype
    chunksize : sequence of int
        The largest chunk along each axis.
    chunktype : str
        The type of the blocks.

    Examples
    --------
    >>> text("uniform", (8, 2), "float64", (4, 2), "numpy.ndarray")
    'zarray<uniform, shape=(8, 2), dtype=float64, chunksize=(4, 2), chunktype=numpy.ndarray>'
    """
    return (
        f"zarray<{prefix(name)}, shape={_shape(shape, 'nan')}, dtype={dtype}, "
        f"chunksize={_shape(chunksize, 'nan')}, chunktype={chunktype}>"
    )


def html(
    name: str,
    shape: Sequence[Any],
    dtype: Any,
    chunks: Chunks,
    *,
    tasks: int,
    layers: int,
    chunktype: str = "numpy.ndarray",
) -> str:
    """Return an array as a table, beside a picture of its blocks.

    Parameters
    ----------
    name : str
        Of the array; its token is left out.
    shape : sequence of int
        With nan for lengths that are not known.
    dtype : dtype or None
    chunks : tuple of tuples
        The lengths of the chunks of each axis.
    tasks, layers : int
        What its graph consists of.
    chunktype : str
        The type of the blocks.

    Returns
    -------
    str
        A ``<div>``. Names and types are escaped.

    Examples
    --------
    >>> page = html("ones", (4, 4), np.dtype("f8"), ((2, 2), (4,)), tasks=2, layers=1)
    >>> "128 B" in page, "(2, 4)" in page, "2 tasks in 1 graph layer" in page, "<svg" in page
    (True, True, True, True)
    """
    chunksize = [max(lengths, default=0) if is_known(lengths) else math.nan for lengths in chunks]
    blocks = math.prod(map(len, chunks))
    kind = "unknown" if dtype is None else str(dtype)
    rows = [
        ("Bytes", _bytes(shape, dtype), _bytes(chunksize, dtype)),
        ("Shape", _shape(shape), _shape(chunksize)),
        (
            "Count",
            f"{_count(tasks, 'task')} in {_count(layers, 'graph layer')}",
            _count(blocks, "chunk"),
        ),
        ("Type", kind, chunktype),
    ]
    body = "".join(_row("td", *row) for row in rows)
    head = _row("th", prefix(name), "Array", "Chunk")
    table = f"<table><thead>{head}</thead><tbody>{body}</tbody></table>"
    picture = svg(chunks)
    return (
        '<div style="display: flex; flex-wrap: wrap; align-items: center; gap: 2em">'
        f"<div>{table}</div>{picture and f'<div>{picture}</div>'}</div>"
    )


def _row(tag: str, name: str, array: str, chunk: str) -> str:
    cells = "".join(
        f'<{tag} style="text-align: left">{escape(cell)}</{tag}>' for cell in (array, chunk)
    )
    return f'<tr><th style="text-align: left">{escape(name)}</th>{cells}</tr>'


def _shape(shape: Sequence[Any], unknown: str = "unknown") -> str:
    lengths = [unknown if math.isnan(length) else str(int(length)) for length in shape]
    return f"({', '.join(lengths)}{',' if len(lengths) == 1 else ''})"


def _bytes(shape: Sequence[Any], dtype: Any) -> str:
    size = math.prod(shape)
    if dtype is None or math.isnan(size):
        return "unknown"
    return format_bytes(int(size) * int(np.dtype(dtype).itemsize))


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


# The picture ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Axis:
    """One axis as it is drawn: how long, and where its lines are, in pixels."""

    length: int
    pixels: float
    lines: list[float]


def svg(chunks: Chunks, size: float = _SIZE) -> str:
    """Return a picture of the blocks of an array, as SVG.

    Parameters
    ----------
    chunks : tuple of tuples
        The lengths of the chunks of each axis.
    size : float
        How long the longest axis is drawn, in pixels.

    Returns
    -------
    str
        Empty if there is nothing to draw: without axes, without elements, or where lengths are not
        known.

    Examples
    --------
    >>> svg(((5, 5, 2),)).count("<line")
    4
    >>> svg(((float("nan"),),))
    ''
    """
    lengths = [sum(axis) for axis in chunks]
    if not chunks or any(math.isnan(length) or length == 0 for length in lengths):
        return ""
    longest = max(lengths)
    axes = [
        _Axis(length, pixels := _pixels(length, longest, size), _lines(axis, pixels))
        for length, axis in zip(lengths, chunks, strict=True)
    ]
    parts: list[str] = []
    left, height = 0.0, 0.0
    for group in _groups(axes):
        drawn, width, high = _BOXES[len(group)](group)
        parts.append(f'<g transform="translate({left:g},0)">{drawn}</g>')
        left += width + _GAP
        height = max(height, high)
    width = math.ceil(left - _GAP)
    height = math.ceil(height)
    shape, blocks = _shape(lengths), _shape([len(axis) for axis in chunks])
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" overflow="visible" role="img" stroke="currentColor" '
        'fill="currentColor" font-family="sans-serif" font-size="11">'
        f"<title>shape {shape}, chunks {blocks}</title>"
        f"{''.join(parts)}</svg>"
    )


def _pixels(length: int, longest: int, size: float) -> float:
    return round(size / (1 + _SHRINK * math.log2(longest / length)), 1)


def _lines(lengths: Sequence[int], pixels: float) -> list[float]:
    """Return where lines cross an axis: at its ends, and where chunks meet, or some of them do."""
    starts = [0, *accumulate(lengths[:-1])]
    parts = max(1, min(_PARTS, int(pixels / _NARROWEST)))
    drawn = [*starts[:: math.ceil(len(starts) / parts)], sum(lengths)]
    scale = pixels / drawn[-1]
    return list(dict.fromkeys(round(border * scale, 1) for border in drawn))


def _groups(axes: list[_Axis]) -> list[list[_Axis]]:
    """Cut axes into threes, from the end."""
    first = len(axes) % 3
    groups = [axes[:first]] if first else []
    return groups + [axes[start : start + 3] for start in range(first, len(axes), 3)]


def _flat_box(axes: list[_Axis]) -> tuple[str, float, float]:
    """Draw one axis, from left to right."""
    (x,) = axes
    face = _face((_MARGIN, _MARGIN), (1, 0), (0, 1), x, _Axis(1, _FLAT, []))
    label = _label(_MARGIN + x.pixels / 2, _MARGIN + _FLAT + _LABEL, x)
    return face + label, x.pixels + 2 * _MARGIN, _FLAT + _LABEL + 2 * _MARGIN


def _sheet(axes: list[_Axis]) -> tuple[str, float, float]:
    """Draw two axes: the first one downwards, the second one to the right."""
    y, x = axes
    face = _face((_MARGIN, _MARGIN), (1, 0), (0, 1), x, y)
    right, below = _MARGIN + x.pixels, _MARGIN + y.pixels
    labels = _label(_MARGIN + x.pixels / 2, below + _LABEL, x)
    labels += _label(right + _LABEL, _MARGIN + y.pixels / 2, y, turn=-90)
    return face + labels, right + _LABEL + _MARGIN, below + _LABEL + _MARGIN


def _box(axes: list[_Axis]) -> tuple[str, float, float]:
    """Draw three axes: the first one goes towards the reader, to the right and down."""
    z, y, x = axes
    right, down = (z.pixels * part for part in _DEPTH)
    start = (_MARGIN, _MARGIN)
    front = (_MARGIN + right, _MARGIN + down)
    faces = _face(start, (1, 0), _DEPTH, x, z, shade=0.35)  # the top
    faces += _face(start, _DEPTH, (0, 1), z, y, shade=0.8)  # the left side
    faces += _face(front, (1, 0), (0, 1), x, y)
    width, height = front[0] + x.pixels, front[1] + y.pixels
    labels = _label(front[0] + x.pixels / 2, height + _LABEL, x)
    labels += _label(width + _LABEL, front[1] + y.pixels / 2, y, turn=-90)
    slope = math.degrees(math.atan2(_DEPTH[1], _DEPTH[0]))
    middle = (_MARGIN + right / 2, _MARGIN + y.pixels + down / 2)
    labels += _label(middle[0] - _LABEL * 0.6, middle[1] + _LABEL * 0.8, z, turn=slope)
    return faces + labels, width + _LABEL + _MARGIN, height + _LABEL + _MARGIN


_BOXES = {1: _flat_box, 2: _sheet, 3: _box}

_Point = tuple[float, float]


def _face(
    start: _Point, along: _Point, across: _Point, a: _Axis, b: _Axis, shade: float = 0.55
) -> str:
    """Draw a parallelogram with its lines.

    Parameters
    ----------
    start : pair of float
        The corner where both axes begin.
    along, across : pair of float
        Where one pixel of the axis `a`, and of `b`, leads.
    shade : float
        How opaque it is.
    """

    def at(one: float, other: float) -> _Point:
        return (
            round(start[0] + one * along[0] + other * across[0], 1),
            round(start[1] + one * along[1] + other * across[1], 1),
        )

    corners = [at(0, 0), at(a.pixels, 0), at(a.pixels, b.pixels), at(0, b.pixels)]
    points = " ".join(f"{x:g},{y:g}" for x, y in corners)
    lines = [_line(at(place, 0), at(place, b.pixels)) for place in a.lines]
    lines += [_line(at(0, place), at(a.pixels, place)) for place in b.lines]
    shape = f'<polygon points="{points}" fill="#e8a33d" fill-opacity="{shade}"/>'
    return shape + "".join(lines)


def _line(one: _Point, other: _Point) -> str:
    return f'<line x1="{one[0]:g}" y1="{one[1]:g}" x2="{other[0]:g}" y2="{other[1]:g}"/>'


def _label(x: float, y: float, axis: _Axis, turn: float = 0.0) -> str:
    turned = f' transform="rotate({turn:.3g},{x:g},{y:g})"' if turn else ""
    return (
        f'<text x="{x:g}" y="{y:g}" text-anchor="middle" stroke="none"{turned}>{axis.length}</text>'
    )
