"""Arrays as text, as a table, and as a picture of their blocks."""

from __future__ import annotations

import math
import re
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zcluster.array.drawing import html, prefix, svg, text

SVG = "{http://www.w3.org/2000/svg}"
TOKEN = "0123456789abcdef" * 2
NAN = math.nan


def test_a_line_of_text_says_what_an_array_is() -> None:
    assert text(f"uniform-{TOKEN}", (625000, 2), np.dtype("f8"), (31250, 2), "numpy.ndarray") == (
        "zarray<uniform, shape=(625000, 2), dtype=float64, chunksize=(31250, 2), "
        "chunktype=numpy.ndarray>"
    )
    assert text(f"mean_agg-aggregate-{TOKEN}", (), np.dtype("f8"), (), "numpy.ndarray") == (
        "zarray<mean_agg-aggregate, shape=(), dtype=float64, chunksize=(), chunktype=numpy.ndarray>"
    )
    unknown = text("getitem", (NAN, 3), np.dtype("i4"), (NAN, 3), "numpy.ndarray")
    assert "shape=(nan, 3), dtype=int32, chunksize=(nan, 3)" in unknown


@pytest.mark.parametrize(
    ("name", "shown"),
    [(f"add-{TOKEN}", "add"), ("mine", "mine"), ("a-b", "a-b"), (f"a-{TOKEN[:-1]}x", None)],
)
def test_a_name_is_shown_without_its_token(name: str, shown: str | None) -> None:
    assert prefix(name) == (shown or name)


# ------------------------------------------------------------------------------------------- table


class Cells(HTMLParser):
    """Collects the texts of the cells, by row."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.tags: set[str] = set()
        self.inside = False
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.add(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
            self.inside = True

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self.inside = False

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.rows[-1][-1] += data


def test_the_table_has_sizes_of_array_and_chunk() -> None:
    page = html(
        f"uniform-{TOKEN}",
        (625000, 2),
        np.dtype("f8"),
        ((31250,) * 20, (2,)),
        tasks=20,
        layers=1,
    )
    assert Cells(page).rows == [
        ["uniform", "Array", "Chunk"],
        ["Bytes", "9.54 MiB", "488.28 KiB"],
        ["Shape", "(625000, 2)", "(31250, 2)"],
        ["Count", "20 tasks in 1 graph layer", "20 chunks"],
        ["Type", "float64", "numpy.ndarray"],
    ]
    assert page.count("<svg") == 1


def test_what_is_not_known_is_called_so() -> None:
    """Sizes that only a computation tells, and a type that nobody said."""
    page = html("getitem", (NAN, 3), np.dtype("f8"), ((NAN, NAN), (3,)), tasks=12345678, layers=3)
    rows = Cells(page).rows
    assert rows[1] == ["Bytes", "unknown", "unknown"]
    assert rows[2] == ["Shape", "(unknown, 3)", "(unknown, 3)"]
    assert rows[3] == ["Count", "12345678 tasks in 3 graph layers", "2 chunks"]
    assert "svg" not in page
    rows = Cells(html("x", (3,), None, ((3,),), tasks=1, layers=1)).rows
    assert (rows[1][1], rows[4][1]) == ("unknown", "unknown")


def test_arrays_without_axes_or_elements_have_a_table_only() -> None:
    for shape, chunks in (((), ()), ((0, 3), ((0,), (3,)))):
        page = html("x", shape, np.dtype("f8"), chunks, tasks=1, layers=1)
        assert Cells(page).rows[3][2] == "1 chunk"
        assert "svg" not in page
    assert Cells(html("x", (), "f8", (), tasks=1, layers=1)).rows[1] == ["Bytes", "8 B", "8 B"]


def test_names_and_types_are_text_and_nothing_else() -> None:
    """Whatever is in them."""
    bad = '<script>alert("x")</script>&amp;'
    dtype = np.dtype([("<b>a</b>", "<f8")])
    page = html(bad, (2,), dtype, ((2,),), tasks=1, layers=1, chunktype=bad)
    found = Cells(page)
    assert not {"script", "b"} & found.tags
    assert found.rows[0][0] == bad
    assert found.rows[4] == ["Type", str(dtype), bad]


def test_the_whole_is_well_formed() -> None:
    """A page of its own may be XML."""
    ElementTree.fromstring(html("x", (5, 5), "f8", ((5,), (3, 2)), tasks=1, layers=1))


# ----------------------------------------------------------------------------------------- picture


def parsed(chunks: Any) -> ElementTree.Element:
    return ElementTree.fromstring(svg(chunks))


def lines(root: ElementTree.Element) -> list[tuple[float, ...]]:
    return [
        tuple(float(line.attrib[name]) for name in ("x1", "y1", "x2", "y2"))
        for line in root.iter(f"{SVG}line")
    ]


def labels(root: ElementTree.Element) -> list[str]:
    return [str(label.text) for label in root.iter(f"{SVG}text")]


def faces(root: ElementTree.Element) -> list[list[list[float]]]:
    return [
        [[float(at) for at in point.split(",")] for point in face.attrib["points"].split()]
        for face in root.iter(f"{SVG}polygon")
    ]


def test_one_axis_is_a_row_of_blocks() -> None:
    root = parsed(((5, 5, 5, 2),))
    places = sorted(line[0] for line in lines(root))
    lengths = np.diff(places)
    assert len(places) == 5
    assert lengths / lengths[0] == pytest.approx([1, 1, 1, 0.4], abs=0.02)
    assert labels(root) == ["17"]
    assert len(faces(root)) == 1


def test_two_axes_are_a_grid() -> None:
    """The first goes down, as rows of a matrix do."""
    root = parsed(((10, 5), (5, 5, 5)))
    down = [line for line in lines(root) if line[0] == line[2]]
    across = [line for line in lines(root) if line[1] == line[3]]
    assert (len(down), len(across)) == (4, 3)
    heights = np.diff(sorted(line[1] for line in across))
    assert heights[0] == pytest.approx(2 * heights[1], rel=0.02)
    ((start, _, end, _),) = faces(root)
    assert end[0] - start[0] == end[1] - start[1], "a square is a square"
    assert labels(root) == ["15", "15"]


def test_three_axes_are_a_box_with_three_faces() -> None:
    root = parsed(((10,) * 2, (20,) * 3, (30,) * 4))
    assert len(faces(root)) == 3
    assert len(lines(root)) == (3 + 4) + (3 + 5) + (4 + 5)
    assert labels(root) == ["120", "60", "20"]


@pytest.mark.parametrize(("ndim", "boxes"), [(3, [3]), (4, [1, 3]), (5, [2, 3]), (7, [1, 3, 3])])
def test_more_axes_are_several_boxes(ndim: int, boxes: list[int]) -> None:
    """The last three axes in the last one."""
    root = parsed(tuple((axis + 2,) for axis in range(ndim)))
    groups = list(root.iter(f"{SVG}g"))
    assert [len(list(group.iter(f"{SVG}text"))) for group in groups] == boxes
    assert sorted(labels(groups[-1])) == sorted(str(axis + 2) for axis in range(ndim)[-3:])
    lefts = [float(re.findall(r"[\d.]+", group.attrib["transform"])[0]) for group in groups]
    assert lefts == sorted(set(lefts))


def test_the_short_axis_of_a_long_array_can_be_seen() -> None:
    ((start, _, end, _),) = faces(parsed(((10000,) * 10, (2,))))
    assert end[0] - start[0] > 10
    assert 0.05 < (end[0] - start[0]) / (end[1] - start[1]) < 0.2


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_of_many_chunks_few_are_drawn(ndim: int) -> None:
    """A million chunks make no million lines."""
    root = parsed(((1,) * 100_000,) * ndim)
    assert len(lines(root)) <= {1: 21, 2: 42, 3: 126}[ndim]
    assert len(svg(((1,) * 100_000,) * ndim)) < 12_000


@pytest.mark.parametrize("chunks", [(), ((0,),), ((2, 2), (0,)), ((NAN, NAN),), ((3,), (NAN,))])
def test_what_cannot_be_drawn_is_not(chunks: Any) -> None:
    assert svg(chunks) == ""


def test_colours_are_those_of_the_page() -> None:
    """Lines and text in the colour of the text: dark pages exist."""
    root = parsed(((2, 2), (3,), (4,)))
    assert root.attrib["stroke"] == root.attrib["fill"] == "currentColor"
    colours = {element.attrib.get("fill") for element in root.iter() if element is not root}
    assert len(colours - {None}) == 1
    assert all(float(face.attrib["fill-opacity"]) < 1 for face in root.iter(f"{SVG}polygon"))


axis_chunks = st.lists(st.integers(0, 10**7), min_size=1, max_size=60).map(tuple)


@given(st.lists(axis_chunks, min_size=1, max_size=5).map(tuple))
def test_every_chunking_is_drawn_within_its_frame(chunks: tuple[tuple[int, ...], ...]) -> None:
    """Every face and line lies inside, no axis is too thin to see, each length stands beside it."""
    if not all(map(sum, chunks)):
        assert svg(chunks) == ""
        return
    root = parsed(chunks)
    assert sorted(labels(root)) == sorted(str(sum(axis)) for axis in chunks)
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    for group in root.iter(f"{SVG}g"):
        left = float(re.findall(r"[\d.]+", group.attrib["transform"])[0])
        xs = [x for line in lines(group) for x in line[::2]]
        ys = [y for line in lines(group) for y in line[1::2]]
        assert min(xs) + left >= 0
        assert max(xs) + left <= width
        assert 0 <= min(ys) < max(ys) <= height
        assert max(xs) - min(xs) >= 8
        assert max(ys) - min(ys) >= 5
        assert len(lines(group)) <= 6 * 21
