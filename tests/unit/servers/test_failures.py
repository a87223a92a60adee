"""Whatever a task raises becomes bounded text, and a pickle if that can be."""

from __future__ import annotations

import pickle
import threading
import time
import traceback
from typing import Any, NoReturn

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zcluster import config
from zcluster.client.outcomes import exception_of
from zcluster.core.client.records import Failure, Wanted
from zcluster.core.client.states import State
from zcluster.protocol.calls import make_call
from zcluster.servers.failures import (
    MESSAGE_LIMIT,
    PICKLE_LIMIT,
    TRACEBACK_LIMIT,
    describe,
    own_frames_off,
)


def caught(function: Any, *args: Any) -> BaseException:
    try:
        function(*args)
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


def told(error: BaseException, arguments: str = "") -> tuple[Any, bytes]:
    return describe(error, 7, "task", "node-a", "worker-b", arguments)


def fail(text: str) -> NoReturn:
    raise ValueError(text)


def test_the_fields_say_what_and_where() -> None:
    info, pickled = told(caught(fail, "no good"))
    assert (info.kind, info.origin, info.node, info.worker) == ("task", 7, "node-a", "worker-b")
    assert info.type_name == "builtins.ValueError"
    assert info.message == "no good"
    assert "in fail\n    raise ValueError(text)\n" in info.traceback
    assert info.traceback.endswith("ValueError: no good\n")
    assert repr(pickle.loads(pickled)) == "ValueError('no good')"


def test_frames_of_zcluster_are_taken_off() -> None:
    """The user did not write them and cannot do anything about them."""
    error = caught(make_call, 0, fail, None, ["x"])
    error.__traceback__ = error.__traceback__ and error.__traceback__.tb_next  # that of `caught`
    own_frames_off(error)
    assert [f.name for f in traceback.extract_tb(error.__traceback__)] == ["fail"]


def test_a_wrong_call_has_no_frames_at_all() -> None:
    error = caught(make_call, 0, fail, None, [])
    error.__traceback__ = error.__traceback__ and error.__traceback__.tb_next
    info, _ = told(error)
    assert info.traceback == ("TypeError: fail() missing 1 required positional argument: 'text'\n")


def test_the_pickled_exception_keeps_its_traceback_cause_and_notes() -> None:
    def outer() -> None:
        try:
            fail("inner")
        except ValueError as error:
            raise KeyError("outer") from error

    error = caught(outer)
    error.add_note("remember")
    again = pickle.loads(told(error)[1])
    assert type(again) is KeyError
    assert again.__notes__ == ["remember"]
    assert type(again.__cause__) is ValueError
    assert traceback.extract_tb(again.__cause__.__traceback__)[-1].name == "fail"


def test_the_exception_lets_go_of_its_frames() -> None:
    """Frames keep the inputs of the task alive, and so their leases."""
    error = caught(fail, "x")
    told(error)
    assert error.__traceback__ is None


class Broken(Exception):
    def __str__(self) -> str:
        raise SystemExit(3)

    def __reduce__(self) -> NoReturn:
        raise KeyboardInterrupt


def test_an_exception_that_can_neither_be_shown_nor_pickled_is_still_told() -> None:
    info, pickled = told(caught(_raise, Broken()))
    assert info.type_name.endswith("Broken")
    assert "SystemExit" in info.message
    assert "Broken" in info.traceback
    assert pickled == b""


def _raise(error: BaseException) -> NoReturn:
    raise error


class WithLock(Exception):
    def __init__(self) -> None:
        import threading

        super().__init__("holds a lock")
        self.lock = threading.Lock()


def test_an_exception_that_cannot_be_pickled_is_told_as_text() -> None:
    info, pickled = told(caught(_raise, WithLock()))
    assert (info.message, pickled) == ("holds a lock", b"")


class ByArguments(Exception):
    def __init__(self, one: int, two: str) -> None:
        super().__init__(f"{one} and {two}")
        self.one, self.two = one, two


def test_an_exception_with_an_init_of_its_own_comes_back() -> None:
    again = pickle.loads(told(caught(_raise, ByArguments(1, "x")))[1])
    assert (type(again), again.one, again.two) == (ByArguments, 1, "x")


def deep(depth: int) -> int:
    return deep(depth + 1) + 1


def test_endless_recursion_is_told_in_little_space() -> None:
    info, pickled = told(caught(deep, 0))
    assert info.type_name == "builtins.RecursionError"
    assert "Previous line repeated" in info.traceback
    assert isinstance(pickle.loads(pickled), RecursionError)


@pytest.mark.parametrize("sign", ["x", "é", "\ud800"])
def test_huge_texts_are_cut_in_the_middle(sign: str) -> None:
    started = time.monotonic()
    info, pickled = told(caught(fail, "head" + sign * 5_000_000 + "tail"))
    assert len(info.message.encode()) <= MESSAGE_LIMIT
    assert len(info.traceback.encode()) <= TRACEBACK_LIMIT
    assert len(pickled) <= PICKLE_LIMIT
    assert info.message.startswith("head")
    assert info.message.endswith("tail")
    assert "5000008 characters" in info.message
    assert time.monotonic() - started < 5
    msgspec.msgpack.encode(info)  # a lone surrogate would not encode


def test_a_very_deep_traceback_shows_its_end() -> None:
    code = "\n".join(f"def f{n}(): f{n - 1}()" for n in range(1, 800))
    names: dict[str, Any] = {"f0": lambda: fail("deepest")}
    exec(code, names)
    info, pickled = told(caught(names["f799"]))
    assert info.traceback.startswith("<only the last 500 frames are shown>")
    assert info.traceback.endswith("ValueError: deepest\n")
    assert len(traceback.extract_tb(pickle.loads(pickled).__traceback__)) == 100


def test_a_cycle_of_causes_ends() -> None:
    first, second = ValueError("first"), KeyError("second")
    first.__cause__, second.__cause__ = second, first
    info, _ = told(caught(_raise, first))
    assert "first" in info.traceback


def test_arguments_and_classes_are_told() -> None:
    info, _ = told(caught(_raise, ByArguments(1, "x")), "(1, 'x')")
    assert info.arguments == "(1, 'x')"
    assert [name.rpartition(".")[2] for name in info.bases] == [
        "ByArguments",
        "Exception",
        "BaseException",
    ]


def test_a_class_with_a_thousand_bases_is_told_in_part() -> None:
    kind: type[Exception] = Exception
    for number in range(1000):
        kind = type(f"Deep{number}" + "x" * 500, (kind,), {})
    info, _ = told(caught(_raise, kind("no")))
    assert len(info.bases) == 32
    assert all(len(name.encode()) <= 200 for name in info.bases)


def test_a_missing_module_is_told_with_its_place_and_the_way_out() -> None:
    info, pickled = told(caught(__import__, "no_such.module"))
    (note,) = pickle.loads(pickled).__notes__
    assert note in info.traceback
    assert "worker worker-b of node node-a" in note
    assert "has no no_such in " in note
    assert "client.upload_file('no_such.py')" in note


def test_the_configuration_shows_our_frames() -> None:
    with config.set({"traceback.full": True}):
        info, _ = told(caught(make_call, 0, fail, None, ["x"]))
    assert "in make_call" in info.traceback


# ------------------------------------------------- a thousand classes of exceptions


class _Odd:
    """Ways in which an exception's class can be strange."""

    @staticmethod
    def init(self: Any, *args: Any) -> None:
        BaseException.__init__(self, f"made of {len(args)}")
        self.lock = threading.Lock()

    @staticmethod
    def required(self: Any, one: int, two: int, *, three: int = 0) -> None:
        BaseException.__init__(self, one + two)

    @staticmethod
    def explode(self: Any, *_: Any) -> NoReturn:
        raise KeyError("from inside the exception")

    @staticmethod
    def reduce_to_nonsense(self: Any) -> Any:
        return (_explode_here, ())


def _explode_here() -> NoReturn:
    raise SystemError("while it was rebuilt")


_METHODS = {
    "__init__": (_Odd.init, _Odd.required),
    "__str__": (_Odd.explode,),
    "__repr__": (_Odd.explode,),
    "__reduce__": (_Odd.explode, _Odd.reduce_to_nonsense),
    "__getattribute__": (_Odd.explode,),
    "__setattr__": (_Odd.explode,),
    "__eq__": (_Odd.explode,),
}
_BASES = (Exception, ValueError, KeyError, OSError, RuntimeError, UnicodeError, StopIteration)


@st.composite
def odd_classes(draw: st.DrawFn) -> type[Exception]:
    names = draw(st.lists(st.sampled_from(sorted(_METHODS)), unique=True, max_size=3))
    methods = {name: draw(st.sampled_from(_METHODS[name])) for name in names}
    base = draw(st.sampled_from(_BASES))
    return type("Odd", (base,), {**methods, "__module__": draw(st.sampled_from(["nowhere", "os"]))})


@settings(max_examples=1000, deadline=None)
@given(kind=odd_classes(), text=st.text(max_size=5))
def test_any_exception_reaches_the_user_as_one_that_its_base_catches(
    kind: type[Exception], text: str
) -> None:
    """It is raised at the client in any case, bounded, and of a class above the original."""
    base: Any = kind.__mro__[1]
    error: BaseException = base.__new__(kind, text)
    info, pickled = told(caught(_raise, error))
    data = msgspec.msgpack.encode(info)
    assert len(data) + len(pickled) <= (256 << 10) + TRACEBACK_LIMIT + MESSAGE_LIMIT
    record = Wanted(7, "f", "key-1")
    record.state = State.ERROR
    record.detail = Failure("task", "", msgspec.msgpack.decode(data, type=type(info)), pickled, 1)
    again = exception_of(record)
    assert isinstance(again, base)
    assert "key-1" in "".join(getattr(again, "__notes__", ["key-1"]))
