"""Pictures show every task once, without any program but this one."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from operator import add, neg
from pathlib import Path
from typing import Any

import pytest

from zcluster.errors import InvalidArgument
from zcluster.graph.drawing import MOST_DRAWN, draw
from zcluster.graph.layers import Graph, GraphLayer
from zcluster.graph.spec import from_dict

SVG = "{http://www.w3.org/2000/svg}"
DSK: dict[Any, Any] = {"x": 1, "y": (neg, "x"), "z": (add, "y", "x"), ("w<&>", 0): (neg, "z")}


def boxes(svg: str) -> list[tuple[float, float, float, float]]:
    found = []
    for rect in ET.fromstring(svg).iter(f"{SVG}rect"):
        x, y, w, h = (float(rect.attrib[name]) for name in ("x", "y", "width", "height"))
        found.append((x, y, x + w, y + h))
    return found


def titles(svg: str, kind: str) -> list[str]:
    groups = ET.fromstring(svg).iter(f"{SVG}g")
    return [g.find(f"{SVG}title").text or "" for g in groups if g.attrib["class"] == kind]  # type: ignore[union-attr]


@pytest.mark.parametrize("as_arrays", [False, True])
def test_circles_are_functions_and_rectangles_are_results(as_arrays: bool) -> None:
    graph: Any = from_dict(DSK, list(DSK))[0] if as_arrays else DSK
    picture = draw(graph)
    assert picture.tasks == 3
    assert sorted(titles(picture.svg, "task")) == ["add", "neg", "neg"]
    assert sorted(titles(picture.svg, "data")) == ["('w<&>', 0)", "x", "y", "z"]
    assert len(list(ET.fromstring(picture.svg).iter(f"{SVG}line"))) == 3 + 4
    assert picture._repr_svg_() == picture.svg


def test_nothing_overlaps_and_all_lies_inside() -> None:
    dsk: dict[Any, Any] = {("a", i): (neg, i) for i in range(16)}
    dsk |= {("b", i): (add, ("a", i), ("a", 15 - i)) for i in range(16)}
    svg = draw(dsk).svg
    found = boxes(svg)
    width, height = (float(ET.fromstring(svg).attrib[n]) for n in ("width", "height"))
    for n, (left, top, right, bottom) in enumerate(found):
        assert left >= 0
        assert top >= 0
        assert right <= width
        assert bottom <= height
        for x0, y0, x1, y1 in found[:n]:
            assert right <= x0 or left >= x1 or bottom <= y0 or top >= y1


def test_data_flows_upwards() -> None:
    dsk = {"x": 1, "y": (neg, "x"), "z": (neg, "y")}
    tops = dict(zip(titles(draw(dsk).svg, "data"), boxes(draw(dsk).svg), strict=True))
    assert tops["x"][1] > tops["y"][1] > tops["z"][1]


def test_a_picture_is_written_as_svg(tmp_path: Path) -> None:
    picture = draw(DSK, tmp_path / "mydask.svg")
    assert (tmp_path / "mydask.svg").read_text() == picture.svg
    assert picture.save(tmp_path / "other") == str(tmp_path / "other.svg")


@pytest.mark.parametrize("ending", ["png", "pdf", "dot"])
def test_other_formats_are_refused_with_a_way_out(tmp_path: Path, ending: str) -> None:
    with pytest.raises(InvalidArgument, match=r"g\.svg"):
        draw(DSK, tmp_path / f"g.{ending}")
    assert list(tmp_path.iterdir()) == []


def test_a_graph_too_large_to_look_at_is_drawn_by_its_layers() -> None:
    count = MOST_DRAWN
    graph = Graph()
    graph.add_layer(GraphLayer("x-" + "0" * 32, (count,), count, 0))
    graph.add_layer(GraphLayer("y", (count,), count, 0, None, 1, None, range(count)))
    graph.add_layer(GraphLayer("sum", (), 1, 0, whole=[1]))
    picture = draw(graph)
    assert titles(picture.svg, "task") == ["x", "y", "sum"]
    assert titles(picture.svg, "data")[1] == f"{count} × y"
    assert len(list(ET.fromstring(picture.svg).iter(f"{SVG}line"))) == 3 + 2


def test_an_empty_graph_is_an_empty_picture() -> None:
    assert draw({}).tasks == 0
    assert boxes(draw(Graph()).svg) == []


def test_a_long_chain_does_not_recurse() -> None:
    dsk: dict[Any, Any] = {i: (neg, i - 1) for i in range(1, 3000)}
    dsk[0] = "start"
    assert draw(dsk).tasks == 2999
