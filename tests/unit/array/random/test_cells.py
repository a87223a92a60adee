"""An element's number depends on the key and its place, whatever block is drawn."""

from __future__ import annotations

import math
import threading
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zcluster.array.random.cells import cell_shape, draw_block, local_generator

KEY = (123, 2**64 - 5)


def poisson(
    generator: np.random.Generator, starts: tuple[int, ...], shape: tuple[int, ...]
) -> npt.NDArray[Any]:
    """It takes more words for some numbers than for others."""
    return generator.poisson(20.0, shape)


def drawn(
    whole: tuple[int, ...], cell: tuple[int, ...], starts: Any, shape: Any, sample: Any = poisson
) -> npt.NDArray[Any]:
    out = np.full(shape, -1, np.int64)
    draw_block(sample, KEY, whole, cell, starts, out)
    return out


@given(st.data())
def test_any_block_is_that_part_of_the_whole(data: Any) -> None:
    """Of one to four axes, empty ones and single elements too, with cells of any shape."""
    whole = tuple(data.draw(st.lists(st.integers(0, 13), min_size=1, max_size=4)))
    cell = tuple(data.draw(st.integers(1, max(n, 1))) for n in whole)
    low = [data.draw(st.integers(0, n)) for n in whole]
    high = [data.draw(st.integers(a, n)) for a, n in zip(low, whole, strict=True)]
    part = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    shape = [b - a for a, b in zip(low, high, strict=True)]
    everything = drawn(whole, cell, [0] * len(whole), whole)
    assert (everything >= 0).all()
    assert np.array_equal(drawn(whole, cell, low, shape), everything[part])


def test_inner_axes_are_cut_like_outer_ones() -> None:
    """A slice of an array of vectors may leave out a part of each vector."""

    def vectors(generator: Any, starts: Any, shape: Any) -> Any:
        return generator.random((*shape, 5))

    whole = np.empty((7, 6, 5))
    draw_block(vectors, KEY, (7, 6), (4, 3), (0, 0), whole, (slice(0, 5),))
    part = np.empty((3, 4, 2))
    draw_block(vectors, KEY, (7, 6), (4, 3), (2, 1), part, (slice(1, 3),))
    assert np.array_equal(part, whole[2:5, 1:5, 1:3])


def test_the_numbers_are_these_in_every_process() -> None:
    """Words of both bit generators, which NumPy keeps as they are from release to release."""
    words = local_generator((1, 2)).bit_generator.random_raw(2).tolist()
    assert words == [11587756255302621045, 12011242334723120698]
    later = local_generator((1, 2), 7).bit_generator.random_raw(2).tolist()
    assert later == [2991108012475699709, 7298359386105355756]


def test_a_cell_forgets_half_a_word_that_the_one_before_left() -> None:
    """Single precision takes half a word; an odd count leaves the other half."""

    def halves(generator: Any, starts: Any, shape: Any) -> Any:
        return generator.integers(0, 1000, shape, dtype=np.int32)

    whole = drawn((9,), (3,), (0,), (9,), halves)
    assert np.array_equal(drawn((9,), (3,), (3,), (6,), halves), whole[3:])


@given(
    st.lists(st.integers(0, 10**7), min_size=1, max_size=5).map(tuple),
    st.sampled_from([1, 5, 2048, 16384]),
)
def test_cells_are_about_as_large_as_they_should_be(shape: tuple[int, ...], room: int) -> None:
    """Within a factor, and no side is longer than its axis."""
    cell = cell_shape(shape, room)
    assert all(1 <= side <= max(length, 1) for side, length in zip(cell, shape, strict=True))
    size = math.prod(max(length, 1) for length in shape)
    assert math.prod(cell) <= 2 * room
    assert math.prod(cell) >= min(room, size) / 2 ** (len(shape) + 1)


@pytest.mark.parametrize(
    ("shape", "cell"),
    [
        ((10_000, 10_000), (125, 125)),
        ((4096, 4096), (128, 128)),
        ((9973, 9973), (128, 128)),
        ((625_000, 2), (6250, 2)),
        ((100,), (100,)),
    ],
)
def test_sides_divide_their_axis_if_they_can(shape: tuple[int, ...], cell: tuple[int, ...]) -> None:
    """So that chunks, which mostly divide it too, end where cells do."""
    assert cell_shape(shape, 16_384) == cell


def test_neighbouring_cells_have_nothing_in_common() -> None:
    """Words of 500 cells and of other keys: no two equal, no correlation along any axis."""

    def uniform(generator: Any, starts: Any, shape: Any) -> Any:
        return generator.random(shape)

    out = np.empty((500, 400))
    draw_block(uniform, KEY, (500, 400), (1, 400), (0, 0), out)
    assert len(np.unique(out)) == out.size
    centred = (out - 0.5) * math.sqrt(12)
    n = out.size
    for one, other in [
        (centred[1:], centred[:-1]),  # of neighbouring cells, element by element
        (centred[2:], centred[:-2]),
        (centred[:, 1:], centred[:, :-1]),  # within a cell
        (centred[1:, :-1], centred[:-1, 1:]),
    ]:
        assert abs((one * other).sum()) < 4 * math.sqrt(n)
    # The first numbers of all cells, and the sums of cells, are as even as others.
    assert abs(centred[:, 0].sum()) < 4 * math.sqrt(500)
    assert abs((centred.sum(axis=1) ** 2).sum() / n - 1) < 4 * math.sqrt(2 / 500)


def test_keys_that_differ_in_a_bit_have_nothing_in_common() -> None:
    rows = [local_generator((1 << bit, 0)).random(1000) for bit in range(64)]
    rows += [local_generator((0, 1 << bit)).random(1000) for bit in range(64)]
    correlations = np.corrcoef(rows) - np.eye(128)
    assert np.abs(correlations).max() < 6 / math.sqrt(1000)  # of 8,000 pairs


def test_threads_do_not_disturb_each_other() -> None:
    """Each has generators of its own."""
    whole = drawn((64, 64), (8, 8), (0, 0), (64, 64))
    found: list[bool] = []

    def draw() -> None:
        found.extend(
            np.array_equal(drawn((64, 64), (8, 8), (0, 0), (64, 64)), whole) for _ in range(20)
        )

    threads = [threading.Thread(target=draw) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 80
