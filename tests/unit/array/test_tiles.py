"""Element-wise steps a tile at a time: the same values, no temporaries as large as a block."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import zcluster.array as da
from zcluster.array import tiles
from zcluster.array.expressions import Literal
from zcluster.array.programs import Program, Step, Whole
from zcluster.array.tiles import TILE, Fold, tiling_of

LARGE = 4 * TILE


def chain(*more: Step) -> list[Step]:
    """``(x + 1) * y`` of values 0 and 1, which is value 3."""
    return [
        Step(np.add, (0, Literal(1)), {}),
        Step(np.multiply, (2, 1), {}),
        *more,
    ]


def blocks(shape: tuple[int, ...], dtype: str = "f8") -> list[Any]:
    generator = np.random.default_rng(len(shape))
    return [generator.integers(0, 100, shape).astype(dtype) for _ in range(2)]


def run(steps: list[Step], given: list[Any], *, plain: bool = False) -> Any:
    """Run a program, with tiles or without."""
    program = Program([Whole(), Whole()], steps)
    if plain:
        program._tiling = None
    return program(*given)


@pytest.mark.parametrize("dtype", ["f8", "f4", "i4", "c16"])
def test_a_chain_gives_the_same_bits(dtype: str) -> None:
    given = blocks((LARGE // 64 + 1, 64), dtype)
    found, expected = run(chain(), given), run(chain(), given, plain=True)
    assert found.dtype == expected.dtype
    assert (found == expected).all()


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_axes_are_folded_as_from_whole_blocks(data: st.DataObject) -> None:
    shape = data.draw(
        st.sampled_from([(LARGE + 5,), (LARGE // 4 + 3, 4), (4, LARGE // 2), (70, 40, 60)])
    )
    axes = tuple(sorted(data.draw(st.sets(st.integers(0, len(shape) - 1), min_size=1))))
    ufunc = data.draw(st.sampled_from([np.add, np.maximum, np.logical_or]))
    dtype = data.draw(st.sampled_from(["f8", "i4"]))
    given = blocks(shape, dtype)
    steps = chain(Step(Fold(ufunc, axes), (3,), {}))
    found, expected = run(steps, given), run(steps, given, plain=True)
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_what_follows_the_tiles_sees_their_result_and_what_was_read() -> None:
    given = blocks((LARGE,))
    steps = chain(Step(Fold(np.add, (0,)), (3,), {}), Step(np.subtract, (4, 0), {}))
    assert (run(steps, given) == run(steps, given, plain=True)).all()


@pytest.mark.parametrize(
    ("steps", "count"),
    [
        (chain(), 2),
        (chain(Step(Fold(np.add, (0,)), (3,), {})), 3),
        (chain(Step(Fold(np.add, (0,)), (0,), {})), 2),  # of something else
        (chain(Step(np.sort, (3,), {})), 2),
        (chain(Step(np.dot, (2, 3), {})), None),  # a value between is needed
        (chain()[:1], None),
        ([*chain()[:1], Step(Fold(np.add, (0,)), (2,), {})], 2),
        ([Step(np.sort, (0,), {}), *chain()[:1]], None),
        ([Step(np.add, (0, 1), {"dtype": "f4"}), Step(np.add, (2, 1), {})], None),
        ([Step(np.add, (0, Literal(np.ones(3))), {}), Step(np.add, (2, 1), {})], None),
        ([Step(np.matmul, (0, 1), {}), Step(np.add, (2, 1), {})], None),
    ],
)
def test_which_steps_run_in_tiles(steps: list[Step], count: int | None) -> None:
    found = tiling_of(steps, 2)
    assert (found.count if found else None) == count


@pytest.mark.parametrize(
    "given",
    [
        [np.ones(10), np.ones(10)],
        [np.ones((LARGE, 2)).T, np.ones((2, LARGE))],
        [np.ones((2, LARGE)), np.ones(LARGE)],
        [np.ones(LARGE, object), np.ones(LARGE)],
        [2.0, np.ones(LARGE)],
    ],
    ids=["small", "strided", "broadcast", "objects", "scalar"],
)
def test_blocks_that_do_not_suit_tiles_are_evaluated_whole(given: list[Any]) -> None:
    assert (run(chain(), given) == (given[0] + 1) * given[1]).all()


@pytest.mark.parametrize("axis", [None, 0, 1])
def test_a_reduction_makes_nothing_of_the_size_of_a_block(axis: int | None) -> None:
    x = da.from_array(np.ones((2000, 500)), chunks=-1)
    total = ((x + 1) * 2).sum(axis=axis)
    assert (total.compute(scheduler="sync") == 4 * (x.size // total.size)).all()
    tracemalloc.start()
    try:
        total.compute(scheduler="sync")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < x.nbytes / 4


def test_values_are_let_go_when_no_step_needs_them() -> None:
    """Ten steps that are no ufuncs hold two blocks at a time, not eleven."""
    size = 1_000_000
    steps = [Step(np.sort, (number,), {}) for number in range(10)]
    block = np.arange(size, dtype="f8")
    tracemalloc.start()
    try:
        Program([Whole()], steps)(block)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2.5 * block.nbytes


def test_a_small_result_does_not_keep_a_large_block() -> None:
    x = da.random.random((1000, 1000), chunks=-1)
    corner = x.map_blocks(lambda block: block[:1, :1], chunks=((1,), (1,)))
    made = corner.persist(scheduler="sync").compute(scheduler="sync")
    owner = made if made.base is None else made.base
    assert owner.nbytes <= 2 * made.nbytes


@st.composite
def chains(draw: st.DrawFn) -> tuple[int, list[Step]]:
    """Element-wise steps of one or two values, numbers, and each other."""
    readers = draw(st.integers(1, 2))
    steps = []
    for number in range(draw(st.integers(1, 6))):
        one = st.integers(0, readers + number - 1)
        right = draw(st.one_of(one, st.sampled_from([2, 0.5]).map(Literal)))
        function = draw(st.sampled_from([np.add, np.subtract, np.multiply, np.maximum]))
        steps.append(Step(function, (draw(one), right), {}))
    return readers, steps


class TestSmallTiles:
    """Tiles of seven, so that borders are everywhere."""

    @pytest.fixture(autouse=True)
    def small(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tiles, "TILE", 7)
        monkeypatch.setattr(tiles._Taken, "length", 7)

    @given(
        made=chains(),
        size=st.integers(0, 60),
        dtypes=st.tuples(*[st.sampled_from(["f8", "f4", "i8", "u1"])] * 2),
        fold=st.sampled_from([None, np.add, np.maximum]),
        axes=st.sets(st.integers(0, 2), min_size=1),
    )
    @settings(max_examples=60, deadline=None)
    def test_any_steps_give_the_same_bits(
        self,
        made: tuple[int, list[Step]],
        size: int,
        dtypes: tuple[str, str],
        fold: np.ufunc | None,
        axes: set[int],
    ) -> None:
        """Whatever they take, of whatever dtypes; a sum in another order is close."""
        readers, steps = made
        generator = np.random.default_rng(size)
        values = [(generator.random((size, 3, 2)) * 9).astype(one) for one in dtypes[:readers]]
        copies = [value.copy() for value in values]
        if fold is not None and size:
            steps = [*steps, Step(Fold(fold, tuple(axes)), (readers + len(steps) - 1,), {})]
        program, plain = (Program([Whole()] * readers, steps) for _ in range(2))
        plain._tiling = None
        with np.errstate(all="ignore"):
            found, expected = program(*values), plain(*values)
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
        if fold is np.add:
            np.testing.assert_allclose(found, expected, rtol=1e-5)
        else:
            assert found.tobytes() == expected.tobytes()
        for value, copy in zip(values, copies, strict=True):
            np.testing.assert_array_equal(value, copy)
