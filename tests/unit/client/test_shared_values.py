"""Values with futures in them, to bytes and back."""

from __future__ import annotations

import operator
import threading
import weakref

import pytest

from zcluster.client import shared_values
from zcluster.client.client import Client
from zcluster.client.shared_values import pack_value, unpack_value
from zcluster.delayed import delayed
from zcluster.errors import InvalidArgument, NotSerializable
from zcluster.protocol.services import VALUE_LIMIT

Two = tuple[Client, Client]


def test_futures_anywhere_are_found_and_put_back_in_place(two: Two) -> None:
    client = two[0]
    a, b = client.submit(operator.neg, 1), client.submit(operator.neg, 2)
    blob, found = pack_value({"list": [a, b], "again": (a, 7)}, client, "a queue")
    assert found == [a, b]
    assert unpack_value(blob, ["A", "B"]) == {"list": ["A", "B"], "again": ("A", 7)}  # type: ignore[list-item]


def test_packing_keeps_no_future(two: Two) -> None:
    """Not even until the next garbage collection: a dropped future frees its result."""
    client = two[0]
    future = client.submit(operator.neg, 1)
    ended = weakref.ref(future)
    for value in ([future], [future, lambda: 1]):
        pack_value(value, client, "a queue")
    del future, value
    assert ended() is None


def test_a_lazy_call_takes_its_futures_along(two: Two) -> None:
    client = two[0]
    future = client.submit(operator.neg, 1)
    blob, found = pack_value(delayed(operator.add)(future, 2), client, "a queue")
    assert found == [future]
    assert "add" in repr(unpack_value(blob, [future]))


def test_code_of_a_script_travels_by_value(two: Two) -> None:
    base = 40
    blob, _ = pack_value(lambda x: x + base, two[0], "a queue")
    assert unpack_value(blob, ())(2) == 42


def test_what_cannot_be_pickled_is_named(two: Two) -> None:
    with pytest.raises(NotSerializable, match=r"value\[1\]"):
        pack_value([1, threading.Lock()], two[0], "a queue")


def test_what_is_too_large_is_refused_with_the_way_out(two: Two) -> None:
    assert pack_value(b"." * (VALUE_LIMIT - 100), two[0], "queue 'q'").futures == []
    with pytest.raises(InvalidArgument, match=r"queue 'q' has .* scatter it"):
        pack_value(b"." * VALUE_LIMIT, two[0], "queue 'q'")


def test_futures_that_cannot_be_shared_are_refused(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = two
    future = a.submit(operator.neg, 1)
    with pytest.raises(InvalidArgument, match="belongs to another client"):
        pack_value([future], b, "queue 'q'")
    with pytest.raises(InvalidArgument, match="expected plain values"):
        pack_value([future], a, "topic 't'", futures=False)
    monkeypatch.setattr(shared_values, "_KEYS_LIMIT", 10)
    with pytest.raises(InvalidArgument, match="has 1 futures, whose keys have"):
        pack_value([future], a, "queue 'q'")
    future.release()
    with pytest.raises(InvalidArgument, match="was released"):
        pack_value([future], a, "queue 'q'")
