"""Callables travel once; the cache is bounded; names are readable."""

from __future__ import annotations

import gc
import operator
import os
import sys
import threading
import types
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest

from zcluster.errors import NotSerializable
from zcluster.protocol import callables
from zcluster.protocol.callables import (
    CallableCache,
    callable_name,
    forget_callables,
    load_callable,
    pack_callable,
)


class Adder:
    def __init__(self, n: int) -> None:
        self.n = n

    def __call__(self, x: int) -> int:
        return x + self.n

    def add(self, x: int) -> int:
        return x + self.n


@pytest.fixture
def module() -> Iterator[types.ModuleType]:
    """An importable module made here."""
    made = types.ModuleType("zc_made")
    exec("def f(x):\n    return x + 1\n", made.__dict__)
    sys.modules["zc_made"] = made
    yield made
    del sys.modules["zc_made"]


def test_a_reference_is_remembered_by_object(module: types.ModuleType) -> None:
    """The second time, the very same answer comes."""
    first = pack_callable(module.f)
    assert pack_callable(module.f) is first
    assert load_callable(first.data) is module.f
    forget_callables()
    assert pack_callable(module.f) is not first
    assert pack_callable(module.f) == first
    assert pack_callable(np.add) is pack_callable(np.add)
    assert pack_callable(dict) is pack_callable(dict)
    assert len(first.digest) == 16


def test_a_function_that_died_is_forgotten(module: types.ModuleType) -> None:
    """Its id may be given to another function."""
    forget_callables()
    pack_callable(module.f)
    assert len(callables._remembered) == 1
    del module.f
    gc.collect()
    assert not callables._remembered


def test_memory_for_references_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that makes up functions does not fill the memory."""
    monkeypatch.setattr(callables, "_MOST_REMEMBERED", 3)
    forget_callables()
    for function in (operator.add, operator.sub, operator.mul, operator.neg, operator.pos):
        pack_callable(function)
    assert len(callables._remembered) <= 3


def test_code_by_value_is_pickled_at_every_call() -> None:
    """A closure variable or a global that changed in between is seen."""
    n = 1

    def closure(x: int) -> int:
        return x + n

    first = pack_callable(closure)
    n = 2
    second = pack_callable(closure)
    assert first.digest != second.digest
    assert load_callable(first.data)(1) == 2
    assert load_callable(second.data)(1) == 3


@pytest.mark.parametrize("make", [lambda a: a, lambda a: a.add, lambda a: partial(a, 5)])
def test_callables_with_state_are_pickled_at_every_call(make: Callable[[Any], Any]) -> None:
    """Instances, bound methods and partials: their state may have changed."""
    adder = types.SimpleNamespace(it=Adder(1)).it
    function = make(adder)
    first = pack_callable(function)
    adder.n = 10
    assert pack_callable(function).digest != first.digest
    assert pack_callable([].append).data not in (b"", pack_callable([1].append).data)


def test_what_cannot_be_pickled_is_named() -> None:
    """The path starts with the name of the callable."""
    lock = threading.Lock()

    def guarded() -> Any:
        return lock

    with pytest.raises(NotSerializable, match=r"guarded\.lock: _thread\.lock"):
        pack_callable(guarded)


class Named:
    def __call__(self) -> None: ...

    def method(self) -> None: ...


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (os.getcwd, "getcwd"),
        (lambda: 1, "lambda"),
        (partial(partial(operator.add, 1), 2), "add"),
        (str.split, "split"),
        ("a b".split, "split"),
        (Named().method, "method"),
        (Named(), "named"),
        (Named, "Named"),
        (np.add, "add"),
        (operator.itemgetter(1), "itemgetter"),
        (operator.methodcaller("upper"), "upper"),
        (operator.methodcaller("split", ",", maxsplit=1), "split"),
        (operator.methodcaller("split", maxsplit=1), "split"),
    ],
    ids=range(13),
)
def test_names_are_readable(function: Any, name: str) -> None:
    """They become key prefixes."""
    assert callable_name(function) == name


def test_the_cache_loads_when_asked_and_keeps_the_object() -> None:
    """Unpickling may import a library: not before it is needed, and once."""
    cache = CallableCache()
    packed = pack_callable(lambda x: x + 1)
    assert cache.get(packed.digest) is None
    assert cache.put(packed.digest, packed.data) == []
    function = cache.get(packed.digest)
    assert function is not None
    assert function(1) == 2
    assert cache.get(packed.digest) is function
    assert cache.put(packed.digest, packed.data) == []
    assert cache.size == len(packed.data)
    bad = b"\x80\x05cno_such_module_here\nf\n."
    cache.put(b"bad", bad)
    for _ in range(2):
        with pytest.raises(ModuleNotFoundError):
            cache.get(b"bad")


def test_the_cache_drops_what_was_used_longest_ago() -> None:
    """By bytes; the newest stays even if it is over the limit alone."""
    data = pack_callable(operator.add).data
    cache = CallableCache(limit=2 * len(data))
    cache.put(b"a", data)
    cache.put(b"b", data)
    cache.get(b"a")
    assert cache.put(b"c", data) == [b"b"]
    assert b"a" in cache
    assert cache.put(b"d", data * 5) == [b"a", b"c"]
    assert len(cache) == 1
    assert cache.size == 5 * len(data)
    cache.clear()
    assert cache.size == 0
    assert cache.get(b"d") is None


class TestFunctionsOfMain:
    """Functions of ``__main__`` travel by value, and are remembered as long as nothing changes."""

    @staticmethod
    def made(source: str, **scope: object) -> dict[str, object]:
        """Run source as ``__main__`` would."""
        namespace: dict[str, object] = {"__name__": "__main__", **scope}
        exec(source, namespace)
        return namespace

    def test_packing_again_gives_the_very_same_bytes(self) -> None:
        f = self.made("def f(x): return x + 1")["f"]
        assert callables.pack_callable(f) is callables.pack_callable(f)  # type: ignore[arg-type]

    def test_a_changed_global_is_seen(self) -> None:
        namespace = self.made("def f(x): return x + step", step=1)
        first = callables.pack_callable(namespace["f"])  # type: ignore[arg-type]
        namespace["step"] = 2
        second = callables.pack_callable(namespace["f"])  # type: ignore[arg-type]
        assert callables.load_callable(first.data)(1) == 2
        assert callables.load_callable(second.data)(1) == 3

    def test_a_global_that_can_change_in_place_is_pickled_each_time(self) -> None:
        namespace = self.made("def f(x): return x + steps[0]", steps=[1])
        callables.pack_callable(namespace["f"])  # type: ignore[arg-type]
        namespace["steps"][0] = 5  # type: ignore[index]
        packed = callables.pack_callable(namespace["f"])  # type: ignore[arg-type]
        assert callables.load_callable(packed.data)(1) == 6

    def test_a_helper_that_is_defined_anew_is_seen(self) -> None:
        namespace = self.made("def g(x): return x\ndef f(x): return g(x)")
        callables.pack_callable(namespace["f"])  # type: ignore[arg-type]
        exec("def g(x): return -x", namespace)
        packed = callables.pack_callable(namespace["f"])  # type: ignore[arg-type]
        assert callables.load_callable(packed.data)(1) == -1

    def test_changed_defaults_and_code_are_seen(self) -> None:
        f = self.made("def f(x, y=1): return x + y")["f"]
        callables.pack_callable(f)  # type: ignore[arg-type]
        f.__defaults__ = (10,)  # type: ignore[attr-defined]
        assert callables.load_callable(callables.pack_callable(f).data)(1) == 11  # type: ignore[arg-type]
        g = self.made("def g(x, y): return x * y")["g"]
        f.__code__ = g.__code__  # type: ignore[attr-defined]
        assert callables.load_callable(callables.pack_callable(f).data)(2) == 20  # type: ignore[arg-type]

    def test_a_builtin_that_is_shadowed_later_is_seen(self) -> None:
        namespace = self.made("def f(x): return abs(x)")
        callables.pack_callable(namespace["f"])  # type: ignore[arg-type]
        namespace["abs"] = 7
        first = callables.pack_callable(namespace["f"])  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            callables.load_callable(first.data)(-1)
