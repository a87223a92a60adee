"""The error for what cannot be pickled names the path to the bad part."""

from __future__ import annotations

import threading
from functools import partial
from typing import Any

import pytest

from zcluster.errors import NotSerializable
from zcluster.protocol.culprits import refusal


class Holder:
    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)

    def method(self) -> None: ...


class Slotted:
    __slots__ = ("bad", "unset")

    def __init__(self, bad: Any) -> None:
        self.bad = bad


def message(**roots: Any) -> str:
    error = refusal(TypeError("cannot pickle it"), roots)
    assert isinstance(error, NotSerializable)
    return str(error)


lock = threading.Lock()


def closure() -> Any:
    inner = lock
    return lambda: inner


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (lock, "value"),
        ((1, [lock]), "value[1][0]"),
        ({"k": lock}, "value['k']"),
        ({lock: 1}, "value, key <lock>"),
        ({1, lock}, "value, element <lock>"),
        (Holder(a=1, cache=Holder(lock=lock)), "value.cache.lock"),
        (Slotted([lock]), "value.bad[0]"),
        (partial(print, [1], end=lock), "value.keywords['end']"),
        (Holder(lock=lock).method, "value.__self__.lock"),
        (closure(), "value.inner"),
    ],
    ids=range(10),
)
def test_the_path_leads_to_the_bad_part(value: Any, path: str) -> None:
    """Through containers, attributes, partials, methods and closures."""
    text = message(value=value)
    assert f"cannot be pickled: {path}: _thread.lock (TypeError: cannot pickle it)" in text


def test_the_first_bad_root_is_taken() -> None:
    """Arguments by position come before those by name, and good ones are passed over."""
    assert "args[1]: _thread.lock" in message(args=(1, lock), kwargs={})
    assert "kwargs['x']: _thread.lock" in message(args=(1,), kwargs={"x": lock})


def test_a_cycle_ends() -> None:
    """An object that contains itself is visited once."""
    holder = Holder()
    holder.me = holder  # type: ignore[attr-defined]
    holder.lock = lock  # type: ignore[attr-defined]
    assert "value.lock: _thread.lock" in message(value=holder)


def test_a_wide_value_is_not_searched_to_the_end() -> None:
    """The error comes soon, and names what was reached."""
    assert "value: list" in message(value=[*range(5000), lock])
