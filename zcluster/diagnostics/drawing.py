"""Measurements over time as SVG, with nothing but the standard library.

Each profiler gives a `Panel`: bars in rows, or lines. Panels of one picture share the axis of time.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Protocol

from zcluster.errors import InvalidArgument
from zcluster.graph.drawing import Picture

__all__ = ["Panel", "visualize"]

_WIDTH, _ROW, _LINES, _LEFT, _TITLE, _GAP = 800, 24, 120, 120, 24, 16
_COLORS = ("#4e79a7", "#f28e2b", "#59a14f", "#e15759", "#76b7b2", "#b07aa1", "#9c755f", "#edc948")


@dataclass
class Panel:
    """What one profiler measured; times in seconds.

    Attributes
    ----------
    title : str
    bars : list of (row, start, end, name)
        Bars of one name have one colour.
    rows : list of str
        Names of the rows of bars.
    lines : dict
        By name, points as (time, value).
    """

    title: str
    bars: list[tuple[int, float, float, str]] = field(default_factory=list)
    rows: list[str] = field(default_factory=list)
    lines: dict[str, list[tuple[float, float]]] = field(default_factory=dict)

    def times(self) -> Iterable[float]:
        """Yield all times in it."""
        for _, start, end, _ in self.bars:
            yield start
            yield end
        for points in self.lines.values():
            yield from (when for when, _ in points)

    @property
    def height(self) -> int:
        """In pixels."""
        return _TITLE + _ROW * len(self.rows) + _LINES * len(self.lines) + _GAP


class _Profiler(Protocol):
    def panel(self) -> Panel: ...


def visualize(
    profilers: _Profiler | Sequence[_Profiler],
    filename: str | os.PathLike[str] | None = "profile.svg",
    show: bool = False,
) -> Picture:
    """Draw what profilers measured, over one axis of time.

    Parameters
    ----------
    profilers : profiler, or sequence of them
    filename : str, path or None
        Where to write the picture, as SVG, or as a page with it if that ends in ``.html``;
        None: nowhere.
    show : bool
        Open that file in the browser. Notebooks show what is returned anyway.

    Raises
    ------
    InvalidArgument
        Where nothing was measured, or for another format.
    """
    if not isinstance(profilers, Sequence):
        profilers = [profilers]
    panels = [profiler.panel() for profiler in profilers]
    times = [when for panel in panels for when in panel.times()]
    if not times:
        raise InvalidArgument(
            "found no measurements; expected a profiler that looked on while a graph ran in this "
            "process: use it as `with profiler: x.compute()`"
        )
    picture = Picture(
        _svg(panels, min(times), max(times)), sum(len(panel.bars) for panel in panels)
    )
    if filename is not None:
        written = _save(picture, filename)
        if show:
            import webbrowser  # few ask for it

            webbrowser.open(written.absolute().as_uri())
    return picture


def _save(picture: Picture, filename: str | os.PathLike[str]) -> Path:
    path = Path(filename)
    if path.suffix.lower() not in (".html", ".htm"):
        return Path(picture.save(filename))
    path.write_text(
        f'<!DOCTYPE html>\n<meta charset="utf-8">\n<title>{escape(path.stem)}</title>\n'
        f"{picture.svg}",
        encoding="utf-8",
    )
    return path


def _svg(panels: list[Panel], first: float, last: float) -> str:
    scale = (_WIDTH - _LEFT - _GAP) / ((last - first) or 1.0)
    height = sum(panel.height for panel in panels) + _TITLE
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" '
        f'font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{height}" fill="white"/>',
    ]
    top = 0
    for panel in panels:
        parts += _panel(panel, top, first, scale)
        top += panel.height
    axis = top + _TITLE - 8
    parts.append(f'<text x="{_LEFT}" y="{axis}">0 s</text>')
    parts.append(
        f'<text x="{_WIDTH - _GAP}" y="{axis}" text-anchor="end">{last - first:.3g} s</text>'
    )
    return "\n".join([*parts, "</svg>\n"])


def _panel(panel: Panel, top: int, first: float, scale: float) -> Iterable[str]:
    yield f'<text x="4" y="{top + 16}" font-weight="bold">{escape(panel.title)}</text>'
    top += _TITLE
    for number, name in enumerate(panel.rows):
        yield f'<text x="4" y="{top + _ROW * number + 16}">{escape(name)}</text>'
    for row, start, end, name in panel.bars:
        color = _COLORS[zlib.crc32(name.encode()) % len(_COLORS)]
        yield (
            f'<rect x="{_LEFT + (start - first) * scale:.2f}" y="{top + _ROW * row + 2}" '
            f'width="{max(0.5, (end - start) * scale):.2f}" height="{_ROW - 4}" fill="{color}">'
            f"<title>{escape(name)}: {1000 * (end - start):.3g} ms</title></rect>"
        )
    top += _ROW * len(panel.rows)
    for number, (name, points) in enumerate(panel.lines.items()):
        most = max((value for _, value in points), default=0.0)
        yield f'<text x="4" y="{top + 16}">{escape(name)}</text>'
        yield f'<text x="4" y="{top + 32}">up to {most:,.4g}</text>'
        at = " ".join(
            f"{_LEFT + (when - first) * scale:.2f},"
            f"{top + _LINES - 8 - value / (most or 1.0) * (_LINES - 16):.2f}"
            for when, value in points
        )
        color = _COLORS[number % len(_COLORS)]
        yield f'<polyline points="{at}" fill="none" stroke="{color}" stroke-width="1.5"/>'
        top += _LINES
