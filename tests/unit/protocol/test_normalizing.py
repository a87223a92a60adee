"""Users and libraries say what tokens are made of, by type."""

from __future__ import annotations

import sys
import threading
import types
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from zcluster.base import normalize_token, tokenize
from zcluster.errors import InvalidArgument
from zcluster.protocol.normalizing import Normalizers


class Base:
    def __init__(self, name: str) -> None:
        self.name = name
        self.lock = threading.Lock()  # has no token


class Sub(Base):
    pass


class SubWithMethod(Base):
    def __dask_tokenize__(self) -> Any:
        return "method", self.name


class SubOfMethod(SubWithMethod):
    pass


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Forget what a test registers."""
    monkeypatch.setattr(normalize_token, "_functions", {})
    monkeypatch.setattr(normalize_token, "_lazy", {})
    normalize_token._on_change()
    yield
    normalize_token._on_change()


def name_of(value: Base) -> str:
    return value.name


@pytest.mark.dask("dask.base.normalize_token")
def test_a_registered_function_says_what_a_token_is_made_of() -> None:
    """Also for subclasses, which differ from their base all the same."""
    assert tokenize(Base("a")) != tokenize(Base("a"))
    assert normalize_token.register(Base)(name_of) is name_of
    assert tokenize(Base("a")) == tokenize(Base("a"))
    assert tokenize(Base("a")) != tokenize(Base("b"))
    assert tokenize([{"x": Base("a")}]) == tokenize([{"x": Base("a")}])
    assert tokenize(Sub("a")) == tokenize(Sub("a"), ensure_deterministic=True)
    assert tokenize(Sub("a")) != tokenize(Base("a"))


@pytest.mark.dask("dask.base.normalize_token")
def test_the_nearest_class_that_says_something_is_heard() -> None:
    """A function for a type, or a method in it, whichever comes first along the order."""
    normalize_token.register(Base, name_of)
    assert normalize_token.dispatch(Base) is normalize_token.dispatch(Sub) is name_of
    assert normalize_token(SubWithMethod("a")) == ("method", "a")
    assert normalize_token(SubOfMethod("a")) == ("method", "a")
    normalize_token.register(SubOfMethod, str.lower)
    assert normalize_token.dispatch(SubOfMethod) is str.lower
    assert normalize_token.dispatch(int) is None
    assert normalize_token(5) == 5, "for functions that hand on what belongs to others"
    assert normalize_token(Base) is Base, "a class is no object of itself"


def test_several_types_are_registered_at_once() -> None:
    """Or none, if one of them will not do."""
    with pytest.raises(InvalidArgument, match=r"got int, which tokenize always writes"):
        normalize_token.register((Base, int), name_of)
    assert normalize_token.dispatch(Base) is None
    normalize_token.register((Base, threading.Thread), name_of)
    assert normalize_token.dispatch(threading.Timer) is name_of


@pytest.mark.parametrize("kind", [object, str, dict, types.FunctionType, type])
def test_what_has_a_way_of_its_own_is_refused(kind: type) -> None:
    with pytest.raises(InvalidArgument, match=f"got {kind.__name__}, which tokenize"):
        normalize_token.register(kind, repr)


def test_what_is_no_type_is_refused() -> None:
    with pytest.raises(InvalidArgument, match=r"got 'numpy'; expected a type.*register_lazy"):
        normalize_token.register("numpy", repr)  # type: ignore[call-overload]
    with pytest.raises(InvalidArgument, match=r"got 'numpy.ma'; expected the name of a package"):
        normalize_token.register_lazy("numpy.ma", repr)


def test_a_function_outranks_what_is_known_of_a_library() -> None:
    """Though objects of that type were met before; and only from then on."""
    one, two = np.zeros(3), np.ones(3)
    token = tokenize(one)
    normalize_token.register(np.ndarray, lambda array: array.shape)
    assert tokenize(one) == tokenize(two) != token


@pytest.mark.dask("dask.base.normalize_token")
def test_functions_for_a_library_wait_until_it_is_met(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a type of it, or a subclass of one somewhere else; and then once."""
    library = types.ModuleType("somelibrary")
    exec("class Thing:\n    def __init__(self): self.x = object()", library.__dict__)
    monkeypatch.setitem(sys.modules, "somelibrary", library)
    calls = []

    @normalize_token.register_lazy("somelibrary")
    def register_things() -> None:
        calls.append(1)
        normalize_token.register(library.Thing, lambda thing: "thing")

    tokenize(Base("a"), np.zeros(2))
    assert calls == []
    assert repr(normalize_token) == "<Normalizers: 0 types, waiting for somelibrary>"
    mine = type("Mine", (library.Thing,), {})
    assert tokenize(mine(), ensure_deterministic=True) == tokenize(mine())
    assert tokenize(library.Thing()) == tokenize(library.Thing())
    assert calls == [1]
    assert repr(normalize_token) == "<Normalizers: 1 types>"


def test_an_error_in_a_function_is_not_hidden() -> None:
    """Nor does it harm what comes after."""

    def fail(value: Any) -> Any:
        raise RuntimeError("on purpose")

    normalize_token.register(Base, fail)
    value = [1]
    with pytest.raises(RuntimeError, match="on purpose"):
        tokenize([value, types.SimpleNamespace(x=Base("a"))])
    assert tokenize([value]) == tokenize([[1]])


def test_parts_that_lead_back_end() -> None:
    """A function may name its object among the parts."""
    normalize_token.register(Base, lambda value: [value.name, value])
    assert tokenize(Base("a")) == tokenize(Base("a"), ensure_deterministic=True)
    assert tokenize(Base("a")) != tokenize(Base("b"))


def test_a_change_is_told() -> None:
    changes = []
    normalizers = Normalizers((), lambda: changes.append(1))
    normalizers.register(int, str)
    normalizers.register_lazy("numpy", list)
    assert len(changes) == 2
    assert normalizers(3) == "3"
