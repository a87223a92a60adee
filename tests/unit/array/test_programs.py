"""What the tasks of a layer run: readers, steps, tiles."""

from __future__ import annotations

import operator
import pickle
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zcluster.array.expressions import Literal
from zcluster.array.programs import (
    BACKWARD,
    FILLED,
    FORWARD,
    REPEATED,
    Assemble,
    Generate,
    Numbers,
    Program,
    Step,
    Whole,
    with_own,
)

FAST = settings(max_examples=40, deadline=None)
Values = npt.NDArray[Any]


def row(*numbers: int) -> bytes:
    return np.array(numbers, np.int64).tobytes()


class TestReaders:
    """Values of a task's row and results."""

    def test_in_order(self) -> None:
        """Each takes its own from the front."""
        program = Program(
            [Whole(), Numbers(2), Generate(lambda starts, shape: (starts, shape), 1), Whole()],
            [Step(lambda *values: values, (3, 1, 0, 2), {})],
        )
        assert program.takes_row
        assert program(row(7, 8, 5, 3), "a", "b") == ("b", (7, 8), "a", ((5,), (3,)))

    def test_without_steps(self) -> None:
        """The first value is the result."""
        assert Program([Whole()], [])("a") == "a"
        assert Program([Whole()], []).__name__ == "whole"
        assert Program([Generate(lambda s, n: (s, n), 0)], [])(b"") == ((), ())

    @pytest.mark.parametrize("constant", [bytes, bytearray, memoryview])
    def test_rows_of_any_kind(self, constant: Callable[[bytes], Any]) -> None:
        """However the bytes come."""
        program = Program([Numbers(2)], [])
        assert program(constant(row(3, 4))) == (3, 4)

    def test_pickled(self) -> None:
        """A program is the same elsewhere, and shows its steps."""
        program = Program([Whole()], [Step(np.negative, (0,), {}), Step(np.add, (1, 0), {})])
        again = pickle.loads(pickle.dumps(program))
        assert again(np.array(3)) == 0
        assert again.__name__ == "negative-add"
        assert repr(again) == "<program: negative-add>"


LAYOUT = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from([FORWARD, BACKWARD, REPEATED, FILLED])),
    min_size=1,
    max_size=3,
)


class TestAssemble:
    """Boxes of results put together."""

    @given(layouts=st.lists(LAYOUT, max_size=3))
    @FAST
    def test_any_layout(self, layouts: list[list[tuple[int, int]]]) -> None:
        """Forward, backward, repeated and filled pieces, along every axis."""
        sizes = [[1 if how == REPEATED else n for n, how in pieces] for pieces in layouts]
        rng = np.random.default_rng(0)
        expected: Values = np.zeros([sum(n for n, _ in pieces) for pieces in layouts])
        results = []
        starts = [np.cumsum([0, *[n for n, _ in pieces]]) for pieces in layouts]
        for place in np.ndindex(*map(len, layouts)):
            chosen = [pieces[i] for pieces, i in zip(layouts, place, strict=True)]
            where = tuple(
                slice(points[i], points[i] + n)
                for points, i, (n, _) in zip(starts, place, chosen, strict=True)
            )
            if any(how == FILLED for _, how in chosen):
                expected[where] = -1
                continue
            piece = rng.random([own[i] for own, i in zip(sizes, place, strict=True)])
            results.append(piece)
            turn = tuple(slice(None, None, -1 if how == BACKWARD else 1) for _, how in chosen)
            expected[where] = piece[turn]
        numbers: list[int] = []
        for pieces in layouts:
            numbers += [len(pieces), *[n for piece in pieces for n in piece]]
        found = Program([Assemble(len(layouts), "f8", -1)], [])(row(*numbers), *results)
        np.testing.assert_array_equal(found, expected)

    def test_one_piece_is_taken_as_it_is(self) -> None:
        """Nothing is copied."""
        block = np.ones((2, 3))
        program = Program([Assemble(2, "f8", 0)], [])
        assert program(row(1, 2, FORWARD, 1, 3, FORWARD), block) is block


class TestSteps:
    """Calls of functions of values."""

    @pytest.mark.parametrize(
        ("arguments", "kwargs", "extra", "expected"),
        [
            ((0,), {}, (), ("a",)),
            ((0,), {"k": 1}, (), ("a", ("k", 1))),
            ((0, 1), {}, (), ("a", "b")),
            ((1, Literal("x")), {}, (), ("b", "x")),
            ((Literal("x"), 0), {}, (), ("x", "a")),
            ((Literal("x"), Literal("y")), {}, (), ("x", "y")),
            ((1, 0, Literal(3)), {"k": 2}, (), ("b", "a", 3, ("k", 2))),
            ((0,), {"k": 2}, (("e", 1),), ("a", ("k", 2), ("e", "b"))),
            ((), {}, (), ()),
        ],
    )
    def test_all_forms(self, arguments: Any, kwargs: Any, extra: Any, expected: Any) -> None:
        """Positional, literal and keyword arguments, in whatever number."""
        step = Step(lambda *given, **named: (*given, *named.items()), arguments, kwargs, extra)
        assert step.bound()(["a", "b"]) == expected

    def test_copies(self) -> None:
        """What others see, and no more, is copied for who may write."""
        taken = np.arange(3)
        other = np.arange(3)
        step = Step(lambda a, b, c, *, k: (a, b, c, k), (0, 1, Literal(2)), {}, (("k", 1),), (1,))
        a, b, c, k = step.bound()([taken, other])
        assert a is taken
        assert b is not other
        assert (c, k is other) == (2, True)

    def test_values_go_when_they_are_done_with(self) -> None:
        """A long chain holds two blocks at a time, not all."""
        alive: list[weakref.ref[Values]] = []

        def look(block: Values) -> Values:
            assert sum(one() is not None for one in alive) <= 1
            made = block + 1
            alive.append(weakref.ref(made))
            return made

        program = Program([Whole()], [Step(look, (number,), {}) for number in range(6)])
        assert program(np.zeros(3)).tolist() == [6.0] * 3

    def test_results_keep_nothing_large_alive(self) -> None:
        """A small view is copied; one of most of a block is not."""
        block = np.zeros((100, 2))
        first = Program([Whole()], [Step(operator.itemgetter(0), (0,), {})])(block)
        assert first.base is None
        turned = Program([Whole()], [Step(np.transpose, (0,), {})])(block)
        assert turned.base is block


class TestOwn:
    """Which arguments are copied."""

    def owned(self, readers: int, steps: Sequence[Step], *writers: int) -> Any:
        made, written = with_own(readers, steps, set(writers))
        return [step.owns for step in made], written

    def test_the_same_argument_twice(self) -> None:
        """It is copied for both places."""
        assert self.owned(1, [Step(print, (0, 0), {})], 0) == ([(0, 1)], set())

    def test_the_result_of_a_ufunc(self) -> None:
        """Is nobody else's memory, whatever its arguments are."""
        steps = [Step(np.negative, (0,), {}), Step(print, (1,), {}), Step(np.add, (0, 2), {})]
        assert self.owned(1, steps, 1) == ([(), (), ()], set())

    def test_through_others(self) -> None:
        """A view of a view of what another step takes."""
        steps = [
            Step(np.transpose, (0,), {}),
            Step(np.real, (1,), {}),
            Step(print, (2,), {}),
            Step(np.add, (0, 3), {}),
        ]
        assert self.owned(1, steps, 2)[0] == [(), (), (0,), ()]
        steps = [Step(np.transpose, (0,), {}), Step(print, (2, 1), {})]
        assert self.owned(2, steps, 1) == ([(), ()], {0, 1})

    def test_long_chains(self) -> None:
        """Cost by step."""
        steps = [Step(np.real, (number,), {}) for number in range(20_000)]
        owns, written = self.owned(1, steps, *range(0, 20_000, 2))
        assert not any(owns)
        assert written == {0}
