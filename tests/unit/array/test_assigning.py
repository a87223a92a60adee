"""``x[index] = value`` leaves what NumPy leaves, and nothing else is changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zcluster.array.assigning import assigned
from zcluster.array.core import Array, from_numpy
from zcluster.array.lowering import lower_arrays

FAST = settings(max_examples=80, deadline=None)

Agrees = Callable[..., None]
Arrays = Callable[..., st.SearchStrategy[Any]]
Chunked = Callable[[int], st.SearchStrategy[tuple[int, ...]]]


def made_lazy(data: st.DataObject, one: Any, chunked: Chunked) -> Any:
    if isinstance(one, np.ndarray) and data.draw(st.booleans()):
        return from_numpy(one, tuple(data.draw(chunked(n)) for n in one.shape))
    return one


def a_value(data: st.DataObject, shape: tuple[int, ...]) -> Any:
    """Something that is broadcast to a shape, mostly."""
    own = [1 if data.draw(st.integers(0, 3)) == 0 else n for n in shape]
    while own and data.draw(st.integers(0, 3)) == 0:
        own = own[1:]
    kind = data.draw(st.sampled_from(["fits", "fits", "fits", "long", "wrong"]))
    if kind == "long":
        own = [1, *own]
    elif kind == "wrong" and own:
        own = [n + 1 for n in own]
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    return np.asarray(rng.integers(100, 200, own))


def check(data: st.DataObject, drawn: Any, index: Any, lazy: Any, chunked: Chunked) -> None:
    """Compare one assignment."""
    a, chunks = drawn
    x, y = from_numpy(a, chunks), a.copy()
    try:
        picked = a[index]
    except IndexError:
        return
    value = a_value(data, picked.shape)
    # NumPy has stricter rules for one element and for one mask, which serve speed alone.
    if not picked.shape and value.ndim:
        return
    try:
        y[index] = value
    except TypeError:
        return
    except ValueError:
        with pytest.raises((ValueError, NotImplementedError)):
            x[lazy] = made_lazy(data, value, chunked)
        return
    before = x.name
    try:
        x[lazy] = made_lazy(data, value, chunked)
    except NotImplementedError:
        assert lazy is not index
        assert x.name == before
        return
    found = x.compute(scheduler="sync")
    np.testing.assert_array_equal(found, y)
    assert found.dtype == y.dtype
    assert x.chunks == chunks


class TestAgainstNumPy:
    @pytest.mark.proves("array.Array.__setitem__")
    @given(data=st.data())
    @settings(FAST, max_examples=150)
    def test_any_index(
        self, data: st.DataObject, arrays: Arrays, indices: Arrays, chunked: Chunked
    ) -> None:
        """Integers, slices, lists and masks, and any value."""
        drawn = data.draw(arrays(ndim=(0, 3), length=(0, 5), dtypes=("i8", "f4")))
        index = data.draw(indices(drawn[0].shape))
        check(data, drawn, index, index, chunked)

    @given(data=st.data())
    @FAST
    def test_lazy_index(
        self, data: st.DataObject, arrays: Arrays, indices: Arrays, chunked: Chunked
    ) -> None:
        """Masks and places that are not known when it is built."""
        drawn = data.draw(arrays(ndim=(1, 3), length=(1, 5), dtypes=("i8",)))
        index = data.draw(indices(drawn[0].shape))
        check(data, drawn, index, tuple(made_lazy(data, one, chunked) for one in index), chunked)

    @given(data=st.data())
    @FAST
    def test_masks_of_all_axes(self, data: st.DataObject, arrays: Arrays, chunked: Chunked) -> None:
        """Lazy or not, with a scalar or a value for each element."""
        drawn = data.draw(arrays(ndim=(1, 3), dtypes=("i8",)))
        mask = np.random.default_rng(data.draw(st.integers(0, 99))).random(drawn[0].shape) < 0.5
        check(data, drawn, mask, made_lazy(data, mask, chunked), chunked)

    def test_what_a_user_writes_first(self, agrees: Agrees) -> None:
        """In a row, on one array."""
        a = np.random.default_rng(0).normal(size=(30, 20))
        x = from_numpy(a, (7, 9))
        a = a.copy()
        pair: tuple[Any, Any] = (x, a)
        for each in pair:
            each[each < 0] = 0
            each[3:20:4, ::-1] = np.arange(20)
            each[[5, 1]] = each[[1, 5]]
            each[each > 1] = each[each > 1] * 2
            each[:, -1] = each[:, 0] + each[:, 1]
            each[..., 0] = np.float32(0.1)
            each[[0, 1, 2], [2, 1, 0]] = [7, 8, 9]
            each[each[:, 3] > 0] = -1.5
        agrees(x, a)

    def test_fields(self) -> None:
        """Of records."""
        a = np.zeros(4, [("n", "i4"), ("v", "f8")])
        x = from_numpy(a, 2)
        x["v"] = from_numpy(np.arange(4.0), 3)
        assert x.compute(scheduler="sync")["v"].tolist() == [0, 1, 2, 3]

    def test_lazy_values_in_lists(self) -> None:
        """A list of lazy arrays stays lazy."""
        x = from_numpy(np.zeros(4), 2)
        x[:2] = [x[3] + 1, x[2] + 2]
        assert x.compute(scheduler="sync").tolist() == [1, 2, 0, 0]


class TestLaziness:
    def test_the_source_is_left_alone(self) -> None:
        """Neither the memory nor what was made of the array before."""
        a = np.arange(6)
        x = from_numpy(a, 2)
        before, other = x + 1, x
        x[1:4] = 0
        assert x.compute(scheduler="sync").tolist() == [0, 0, 0, 0, 4, 5]
        assert before.compute(scheduler="sync").tolist() == [1, 2, 3, 4, 5, 6]
        assert other is x
        assert a.tolist() == [*range(6)]

    def test_only_touched_blocks_get_a_task(self) -> None:
        """One element of ten thousand blocks is one task more."""
        x = from_numpy(np.zeros((1000, 1000)), 10) + 1
        count = lower_arrays([x.expr])[0].count
        x[3, 4] = 5
        assert lower_arrays([x.expr])[0].count == count + 1
        x[[5, 995], [5, 995]] = 6
        assert lower_arrays([x.expr])[0].count == count + 3
        assert lower_arrays([x[500:510, 500:510].expr])[0].count <= 2

    def test_nothing_touched_is_nothing_done(self) -> None:
        """An empty slice, list or mask."""
        x = from_numpy(np.arange(6), 2)
        name = x.name
        x[3:3] = 1
        x[[]] = 1
        x[np.zeros(0, int), ...] = np.ones(0)
        x[np.zeros((2, 0), int)] = 1
        assert x.name == name

    def test_names_are_the_same_again(self) -> None:
        """Deterministic, and told apart by index and value."""
        x = from_numpy(np.arange(6), 2)
        names = [
            assigned(x, index, value).name
            for index in (slice(2), [0, 1], x > 2, np.array([[0], [1]]))
            for value in (1, 2, from_numpy(np.array(3)))
            for _ in range(2)
        ]
        assert names[::2] == names[1::2]
        assert len(set(names)) == len(names) // 2


class TestErrors:
    def test_shapes(self) -> None:
        """NumPy's words, at the call; the array stays what it was."""
        x = from_numpy(np.arange(6), 2)
        name = x.name
        for value in (np.ones(2), from_numpy(np.ones(2))):
            with pytest.raises(ValueError, match=r"from shape \(2,\) into shape \(3,\)"):
                x[1:4] = value
            with pytest.raises(ValueError, match=r"from shape \(2,\) into shape \(3,\)"):
                x[from_numpy(np.array([1, 2, 3]))] = value
            with pytest.raises(ValueError, match=r"from shape \(2,\) into shape \(1, 3\)"):
                x[np.array([[1, 2, 3]])] = value
        with pytest.raises(IndexError, match="index 9 is out of bounds for axis 0 with size 6"):
            x[9] = 0
        with pytest.raises(IndexError, match="corresponding boolean axis is 5"):
            x[np.ones(5, bool)] = 0
        assert x.name == name

    def test_scalars_that_are_none_of_the_dtype(self) -> None:
        """They fail where NumPy's would."""
        x = from_numpy(np.arange(6), 2)
        with pytest.raises(ValueError, match="NaN"):
            x[0] = float("nan")
        with pytest.raises(TypeError):
            x[0] = 1j

    def test_ways_round(self) -> None:
        """What cannot be done lazily says how else."""
        x = from_numpy(np.arange(6), 2)
        with pytest.raises(NotImplementedError, match=r"where\(mask, values, x\)"):
            x[x > 3] = np.array([1, 2])
        y = from_numpy(np.zeros((4, 4)), 2)
        with pytest.raises(NotImplementedError, match=r"x\[index.compute\(\)\] = value"):
            y[from_numpy(np.array([0, 1])), [0, 1]] = 1

    def test_places_out_of_range_when_computed(self) -> None:
        """Lazy places are looked at there."""
        x = from_numpy(np.arange(6), 2)
        x[from_numpy(np.array([7]))] = 1
        with pytest.raises(IndexError, match="index 7 is out of bounds for axis 0 with size 6"):
            x.compute(scheduler="sync")

    def test_a_mask_that_picked_something_else(self) -> None:
        """Values of another mask do not fit, which shows when it is computed."""
        x = from_numpy(np.arange(6), 3)
        x[x > 3] = x[x > 1]
        with pytest.raises(ValueError, match=r"NumPy boolean array indexing assignment|broadcast"):
            x.compute(scheduler="sync")


def test_an_array_is_returned() -> None:
    """`assigned` changes nothing."""
    x = from_numpy(np.arange(3))
    assert isinstance(assigned(x, 0, 1), Array)
    assert x.compute(scheduler="sync").tolist() == [0, 1, 2]
