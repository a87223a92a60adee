"""Values become blobs and come back; small ones quickly, large ones without copies."""

from __future__ import annotations

import pickle
import sys
import threading
import types
from collections.abc import Callable, Iterator
from typing import Any

import cloudpickle
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zcluster.errors import NotSerializable, ProtocolError
from zcluster.protocol import objects
from zcluster.protocol.objects import Parts, dumps_small, load, load_private, plan

LIMIT = 16 * 1024

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary(max_size=300)
    | st.complex_numbers(allow_nan=False),
    lambda inner: (
        st.lists(inner, max_size=20)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(), inner, max_size=5)
    ),
    max_leaves=30,
)


@settings(max_examples=100, deadline=None)
@given(values, st.integers(0, 400))
def test_any_value_comes_back(value: Any, limit: int) -> None:
    """Three ways to bytes and back agree, and the limit means bytes of the blob."""
    planned = plan(value)
    blob = planned.tobytes()
    assert len(blob) == planned.size
    assert load(blob) == value
    assert load(memoryview(blob)) == value
    small = dumps_small(value, limit)
    assert (small is None) == (len(dumps_small(value, 1 << 30) or b"") > limit)
    if small is not None:
        assert load(small) == value
        assert len(small) <= limit


@pytest.mark.parametrize(
    "value",
    [
        b"x" * (LIMIT + 1),
        "x" * (LIMIT + 1),
        "ä" * LIMIT,
        10 ** (3 * LIMIT),
        list(range(LIMIT + 1)),
        ["x" * 1000] * 16 + ["y" * LIMIT],
        [["x" * 100 + str(n) for n in range(500)]],
        {"a": bytearray(LIMIT)},
        np.zeros(LIMIT // 8),
        [np.zeros(LIMIT)],
        [np.zeros(700), np.zeros(700), np.zeros(700)],
        Parts([b"x" * 9000, b"x" * 9000]),
        Parts([1] * 300),
    ],
    ids=range(13),
)
def test_what_is_too_large_is_none(value: Any) -> None:
    """However the bytes come about, past the limit there is no small blob."""
    assert dumps_small(value, LIMIT) is None


def test_a_large_value_is_given_up_early() -> None:
    """The pickler stops near the limit: the rest of the value is not visited."""
    seen = 0

    class Counted:
        def __reduce__(self) -> tuple[Any, ...]:
            nonlocal seen
            seen += 1
            return bytes, (b"%d" % seen * 1000,)

    assert dumps_small([[Counted() for _ in range(1000)]], LIMIT) is None
    assert 0 < seen < 300


@pytest.mark.parametrize(
    "value",
    [np.arange(10.0), Parts([1, np.arange(3), Parts(["x"])]), [np.arange(600.0)], Parts()],
    ids=["array", "parts", "buffers", "none"],
)
def test_small_blobs_equal_planned_ones(value: Any) -> None:
    """Both ways write the same form."""
    assert dumps_small(value, LIMIT) == plan(value).tobytes()


def test_parts_come_back_as_parts() -> None:
    """Whoever reads all parts sees the list."""
    back = load(plan(Parts([1, "a", np.arange(3)])).tobytes())
    assert type(back) is Parts
    assert back[:2] == [1, "a"]
    np.testing.assert_array_equal(back[2], [0, 1, 2])


def test_arrays_are_views_on_the_buffer_and_writable_as_it_is() -> None:
    """Nothing is copied on the way in."""
    value = {"a": np.arange(5000.0), "b": [np.arange(6000)]}
    for source in (value["a"], value):
        planned = plan(source)
        target = bytearray(planned.size)
        planned.write_into(memoryview(target))
        back = load(target)
        array = back if isinstance(back, np.ndarray) else back["a"]
        array[7] = -1
        assert (load(target) if array is back else load(target)["a"])[7] == -1
        frozen = load(bytes(target))
        assert not (frozen if array is back else frozen["a"]).flags.writeable


@pytest.mark.parametrize("value", [np.zeros(3), [np.zeros(3)], [np.zeros(5000)]], ids="abc")
def test_a_private_value_can_be_written_to(value: Any) -> None:
    """In bytes that several tasks share, one task's change is not another's."""
    blob = plan(value).tobytes()
    before = bytes(blob)
    array = load_private(blob)
    array = array[0] if isinstance(array, list) else array
    array[0] = 1
    assert blob == before
    assert load_private(b"\x80\x05K\x01.") == 1


def test_large_bytes_are_not_copied_before_writing() -> None:
    """The plan refers to the object itself."""
    data = bytes(1 << 20)
    assert any(piece is data for piece in plan(data).pieces)
    assert any(piece is data for piece in plan({"a": [data]}).pieces)
    array = np.zeros(1 << 17)
    piece = plan(array).pieces[1]
    assert isinstance(piece, memoryview)
    assert np.shares_memory(np.frombuffer(piece, "u1"), array)


def test_bytearrays_come_back() -> None:
    """Large ones are pieces of the pickle, and cannot be resized until it is written."""
    value = {"a": bytearray(b"xy" * 100_000)}
    planned = plan(value)
    with pytest.raises(BufferError):
        value["a"].extend(b"z")
    assert load(planned.tobytes()) == value


def test_arrays_that_only_pickle_can_tell_come_back() -> None:
    """Objects in arrays, subclasses and non-contiguous arrays inside of containers."""
    masked = np.ma.masked_array([1, 2, 3], [True, False, True])
    value = [np.array([1, "a", None], object), np.arange(20).reshape(4, 5)[:, ::2], masked]
    first, second, third = load(plan(value).tobytes())
    assert first.tolist() == [1, "a", None]
    np.testing.assert_array_equal(second, value[1])
    assert third.tolist() == [None, 2, None]
    assert load(plan(value[0]).tobytes()).tolist() == [1, "a", None]
    assert load(dumps_small(value[0], LIMIT) or b"").tolist() == [1, "a", None]


def test_lambdas_closures_and_local_classes_travel_by_value() -> None:
    """Plain pickle refuses them; cloudpickle sends the code."""
    n = 3

    class Local:
        x = n

    function, made = load(plan([lambda x: x + n, Local()]).tobytes())
    assert function(1) == 4
    assert made.x == 3
    assert load(dumps_small([lambda x: x * n], LIMIT) or b"")[0](2) == 6


@pytest.fixture
def script() -> Iterator[types.ModuleType]:
    """A pretend ``__main__`` with a class of its own."""
    module = types.ModuleType("__main__")
    exec("class Own:\n    x = 5\n", module.__dict__)
    before = sys.modules["__main__"]
    sys.modules["__main__"] = module
    yield module
    sys.modules["__main__"] = before


def test_code_of_the_script_travels_by_value(script: types.ModuleType) -> None:
    """A reference to ``__main__`` would mean another ``__main__`` over there."""
    blob = plan([script.Own()]).tobytes()
    small = dumps_small([script.Own()], LIMIT)
    del script.Own
    assert load(blob)[0].x == 5
    assert load(small or b"")[0].x == 5


def test_code_of_importable_modules_travels_by_reference() -> None:
    """Nobody sends the source of a library."""
    blob = plan([pickle.PickleError, np.linalg.norm]).tobytes()
    assert len(blob) < 120
    assert b"cloudpickle" not in blob


def test_modules_registered_by_value_travel_by_value() -> None:
    """The registry of cloudpickle is honoured."""
    module = types.ModuleType("zc_registered")
    exec("def f(x):\n    return x + 1\n", module.__dict__)
    sys.modules["zc_registered"] = module
    try:
        assert b"cloudpickle" not in plan(module.f).tobytes()
        cloudpickle.register_pickle_by_value(module)
        blob = plan(module.f).tobytes()
        cloudpickle.unregister_pickle_by_value(module)
    finally:
        del sys.modules["zc_registered"]
    assert load(blob)(1) == 2


def test_text_that_names_main_is_only_text() -> None:
    """A false alarm costs time, nothing else."""
    for value in ("__main__", ["__main__"], "x" * 9000 + "__main__"):
        assert load(plan(value).tobytes()) == value


@pytest.mark.parametrize("make", [plan, lambda v: dumps_small(v, LIMIT)], ids=["plan", "small"])
def test_the_error_names_the_path(make: Callable[[Any], Any]) -> None:
    """Where it is, what it is and what to do."""
    with pytest.raises(NotSerializable, match=r"value\[1\]\['a'\]: _thread\.lock .*Make it inside"):
        make([1, {"a": threading.Lock()}])


def test_the_error_in_a_part_names_the_part() -> None:
    """Parts are pickled one by one."""
    with pytest.raises(NotSerializable, match=r"value\[1\]: _thread\.lock"):
        plan(Parts([1, threading.Lock()]))


def test_an_error_in_reduce_is_told() -> None:
    """Also when it is none of pickle's own."""

    class Bad:
        def __reduce__(self) -> str:
            raise ZeroDivisionError("on purpose")

    with pytest.raises(NotSerializable, match="ZeroDivisionError: on purpose") as caught:
        plan(Bad())
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_each_attempt_is_announced() -> None:
    """So that whoever counts during pickling can start again."""
    attempts: list[int] = []
    objects.pickled(1, lambda: attempts.append(1))
    assert len(attempts) == 1
    objects.pickled(lambda: 1, lambda: attempts.append(1))
    assert len(attempts) == 3


def test_an_empty_buffer_is_refused() -> None:
    """It is no blob."""
    with pytest.raises(ProtocolError, match="empty"):
        load(b"")
