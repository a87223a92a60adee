"""Equal values have equal tokens, in any process; other values have other tokens."""

from __future__ import annotations

import datetime
import enum
import functools
import operator
import subprocess
import sys
import threading
import uuid
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zcluster.errors import NotSerializable
from zcluster.protocol.tokens import tokenize

SCRIPT = """
import datetime, decimal, enum, functools, operator, pathlib, sys, uuid, zoneinfo
from dataclasses import dataclass, field
import numpy as np, pandas as pd
from zcluster.base import normalize_token, tokenize

names = {"alpha", "beta", "gamma", "delta", "epsilon"}

def helper(x):
    return x in names and other(x)

def other(x):
    return helper(x) if x else {"q", "w", "e"}

class Thing:
    kinds = {"one", "two", "three"}
    def __init__(self, **kw):
        self.tags = set(names)
        self.__dict__.update(kw)
    @property
    def size(self): return len(self.kinds)
    @staticmethod
    def make(): return Thing()
    @classmethod
    def build(cls): return cls()

@dataclass
class Data:
    a: int
    b: set = field(default_factory=lambda: {"x", "y", "z"})

class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"

@functools.lru_cache
def cached(x): return names

def wrapped(n):
    @functools.lru_cache
    def inner(x): return x in {"a", "b", n}
    return inner

class Level(enum.Flag):
    LOW = 1
    HIGH = 2

class Registered: pass

@normalize_token.register(Registered)
def registered_parts(value): return names

called = np.vectorize(helper, otypes=[bool])
called([""])

def outer(n):
    def inner(x, *, y={"k": names}): return [x in {"a", "b", "c"} for _ in range(n)]
    return inner

values = [
    1, -1.5, "ä", b"b", None, True, 2j, ..., (1, [2]), names, frozenset(names), {"a": names},
    helper, other, lambda x: x + len(names), outer(3), functools.partial(helper, names), cached,
    operator.add, str.upper, "x".join, len, Thing, Thing(a=1), Thing(z=names).make, Data, Data(1),
    Color.RED, Color, np.arange(6).reshape(2, 3), np.array([names, "a"], object), np.float32(2),
    np.dtype("f8"), np.add, pd.DataFrame({"x": [1, 2], "y": ["a", None]}), pd.Series(list("abca")),
    pd.Series(["a", "b"], dtype="category"), pd.date_range("2000", periods=3, tz="UTC"),
    datetime.date(2000, 1, 1), slice(1, 2), range(3), np.random.default_rng(1), pd.Timestamp(5),
    wrapped("c"), Level.LOW | Level.HIGH, Registered(), called,
    operator.methodcaller("f", names, k=1),
    np.add.reduce, np.sum, np.datetime64(1, "s"), np.dtype([("a", "f8"), ("b", "i4", 3)]),
    np.ma.masked_array([1, 2], [True, False]), (1).__add__, {"b": 1, "a": 2}.keys(),
    datetime.datetime(2000, 1, 1, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin")),
    datetime.timedelta(1), decimal.Decimal("1.5"), uuid.UUID(int=5), pathlib.PurePosixPath("a/b"),
    NotImplemented, list[int],
]
for value in values:
    print(tokenize(value), tokenize(value) == tokenize(value), repr(value)[:50].replace("\\n", " "))
print(tokenize(*values, **{"key": 1, "word": names}), True, "all")
"""


def run_script(tmp_path: Path, seed: str) -> list[tuple[str, str]]:
    path = tmp_path / f"script{seed}.py"
    path.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, str(path)],
        env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(__file__).parents[3])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = [line.split(" ", 2) for line in done.stdout.splitlines()]
    assert all(same == "True" for _, same, _ in lines), done.stdout
    return [(token, text) for token, _, text in lines]


def test_two_processes_agree(tmp_path: Path) -> None:
    """With other hash seeds, from files of other names; and all values differ from each other."""
    first, second = run_script(tmp_path, "1"), run_script(tmp_path, "2")
    assert len(first) == 63
    differing = [(a[1], b[1]) for a, b in zip(first, second, strict=True) if a[0] != b[0]]
    assert not differing
    assert len({token for token, _ in first}) == len(first)


atoms = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()
hashable = atoms | st.tuples(atoms) | st.frozensets(atoms)
values = st.recursive(
    hashable,
    lambda v: st.lists(v) | st.dictionaries(hashable, v, max_size=4) | st.tuples(v, v),
    max_leaves=15,
)


def plain(value: Any) -> Any:
    """A model: a form that differs exactly where tokens shall differ."""
    kind = type(value).__name__
    if isinstance(value, float):
        return kind, np.float64(value).tobytes()
    if isinstance(value, list | tuple):
        return kind, tuple(map(plain, value))
    if isinstance(value, frozenset):
        return kind, frozenset(map(plain, value))
    if isinstance(value, dict):
        return kind, frozenset((plain(k), plain(v)) for k, v in value.items())
    return kind, value


@settings(max_examples=200, deadline=None)
@given(values, values)
def test_tokens_are_equal_exactly_where_values_are(a: Any, b: Any) -> None:
    """Types count: 1, 1.0 and True are three values."""
    assert (tokenize(a) == tokenize(b)) == (plain(a) == plain(b))
    assert tokenize(a, b) != tokenize((a, b))


def test_dicts_are_compared_without_their_order() -> None:
    """But an ordered dict by it."""
    assert tokenize({"a": 1, "b": 2}) == tokenize({"b": 2, "a": 1})
    assert tokenize(a=1, b=2) == tokenize(b=2, a=1)
    assert tokenize(OrderedDict(a=1, b=2)) != tokenize(OrderedDict(b=2, a=1))
    assert tokenize(a=1) != tokenize({"a": 1})


def test_views_of_dicts_are_compared_as_they_are() -> None:
    """Keys and items as sets, values in order."""
    one, two = {"a": 1, "b": 2}, {"b": 2, "a": 1}
    assert tokenize(one.keys()) == tokenize(two.keys())
    assert tokenize(one.items()) == tokenize(two.items())
    assert tokenize(one.values()) != tokenize(two.values())
    assert tokenize({}.keys()) != tokenize({}.items())


short = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary(),
    lambda v: st.tuples(v) | st.tuples(v, v),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(short, max_size=4), st.lists(short, max_size=4))
def test_the_short_way_tells_apart_what_the_long_one_does(a: list[Any], b: list[Any]) -> None:
    """And no token of the one is a token of the other."""
    assert (tokenize(*a) == tokenize(*b)) == (tokenize([], *a) == tokenize([], *b))
    assert tokenize(*a) != tokenize(list(a))


def test_the_short_way_is_for_what_is_not_deep() -> None:
    """Marshal gives up where the interpreter does not."""
    deep: tuple[Any, ...] = ()
    for _ in range(150):
        deep = (deep, "x")
    assert tokenize(deep) == tokenize((deep[0], "x"))
    assert tokenize(deep) != tokenize((deep[0], "y"))
    assert tokenize("\udc80", 10**5000) == tokenize("\udc80", 10**5000)


def test_sharing_does_not_count() -> None:
    """Two equal lists or one list twice: the same value."""
    a = [1, "x"]
    assert tokenize([a, a]) == tokenize([[1, "x"], [1, "x"]])


def test_cycles_end() -> None:
    """Containers in themselves, and functions that name each other."""
    a: list[Any] = [1]
    a.append(a)
    b: list[Any] = [1]
    b.append(b)
    assert tokenize(a) == tokenize(b)
    scope: dict[str, Any] = {"__name__": "__main__"}
    exec("def f(x): return g(x)\ndef g(x): return f(x), S\nS = set()", scope)
    scope["S"].add(scope["f"])
    assert tokenize(scope["f"]) == tokenize(scope["f"])
    assert tokenize(scope["f"]) != tokenize(scope["g"])


def test_functions_that_all_use_each_other_are_written_once_each() -> None:
    """Not once for each path through them."""
    count = 30
    calls = ", ".join(f"f{n}(x)" for n in range(count))
    scope: dict[str, Any] = {"__name__": "__main__"}
    for n in range(count):
        exec(f"def f{n}(x): return {calls}, {n}", scope)
    assert len({tokenize(scope[f"f{n}"]) for n in range(count)}) == count


def make(source: str, **scope: Any) -> Any:
    space = {"__name__": "__main__", **scope}
    exec(source, space)
    return space["f"]


def test_code_by_value_is_told_apart_by_what_it_does() -> None:
    """Constants, names, defaults, closures and used globals count; the file and unused globals
    do not.
    """
    base = "def f(x, a=1): return x + n"
    token = tokenize(make(base, n=1))
    assert tokenize(make("\n\n" + base, n=1)) == token
    assert tokenize(make(base, n=1, unused=5)) == token
    assert tokenize(make(base, n=2)) != token
    assert tokenize(make("def f(x, a=2): return x + n", n=1)) != token
    assert tokenize(make("def f(x, a=1): return x - n", n=1)) != token
    inner = "def f(x): return (lambda: n.size)()"
    assert tokenize(make(inner, n=1)) != tokenize(make(inner, n=2))
    assert tokenize(make(inner, n=1, size=1)) == tokenize(make(inner, n=1, size=2))

    def close(n: int) -> Any:
        return lambda: n

    assert tokenize(close(1)) == tokenize(close(1))
    assert tokenize(close(1)) != tokenize(close(2))


def test_importable_code_is_named() -> None:
    """Its content is the business of whoever installs it."""
    assert tokenize(operator.add) != tokenize(operator.sub)
    assert tokenize(Path) != tokenize(Path.cwd)
    assert tokenize([].append) != tokenize([1].append)
    assert tokenize(Decimal(1).sqrt) != tokenize(Decimal(2).sqrt)
    assert tokenize(functools.partial(int, base=2)) != tokenize(functools.partial(int, base=3))
    assert tokenize((1).__add__) == tokenize((1).__add__)
    assert tokenize((1).__add__) != tokenize((2).__add__)
    assert tokenize(np.add) != tokenize(np.subtract)
    assert tokenize(str.__len__) != tokenize(bytes.__len__)


class Cached:
    def __init__(self, n: int) -> None:
        self.n = n
        self.cache = object()

    def __zcluster_tokenize__(self) -> Any:
        return self.n


class Foreign:
    def __dask_tokenize__(self) -> Any:
        return "x"


@dataclass
class Record:
    a: int
    b: list[int] = field(default_factory=list)

    @functools.cached_property
    def total(self) -> int:
        return self.a + sum(self.b)


class Slotted:
    __slots__ = ("a",)

    def __init__(self, a: Any) -> None:
        self.a = a


Pair = namedtuple("Pair", "a b")


class Level(enum.IntEnum):
    LOW = 1


def test_objects_say_what_they_are() -> None:
    """By their own method, by their fields, or by their state."""
    assert tokenize(Cached(1)) == tokenize(Cached(1))
    assert tokenize(Cached(1)) != tokenize(Cached(2))
    assert tokenize(Foreign()) == tokenize(Foreign())
    record = Record(1, [2])
    token = tokenize(record)
    assert record.total == 3
    assert tokenize(record) == token == tokenize(Record(1, [2]))
    assert tokenize(Record(1, [3])) != token
    assert tokenize(Slotted({"b", "a"})) == tokenize(Slotted({"a", "b"}))
    assert tokenize(Slotted(1)) != tokenize(Slotted(2))
    different = [Pair(1, 2), (1, 2), Level.LOW, 1, Decimal(1), datetime.timedelta(1), Slotted]
    assert len({tokenize(value) for value in different}) == len(different)


class Wider(Record):
    """No dataclass itself: what it adds is no field."""

    def __init__(self, a: int, c: int) -> None:
        self.a, self.b, self.c = a, [], c


def test_what_a_subclass_adds_counts() -> None:
    assert tokenize(Wider(1, 2)) == tokenize(Wider(1, 2))
    assert tokenize(Wider(1, 2)) != tokenize(Wider(1, 3))


@pytest.mark.dask("tokenize(ensure_deterministic=)")
def test_values_of_the_standard_library_have_tokens_of_their_own() -> None:
    """None of them at random."""
    noon = datetime.datetime(2000, 1, 1, 12)
    different = [
        noon,
        noon.date(),
        noon.time(),
        noon.replace(tzinfo=datetime.UTC),
        noon.replace(tzinfo=ZoneInfo("Europe/Berlin")),
        datetime.timedelta(1),
        Decimal("1.0"),
        Fraction(1, 2),
        uuid.UUID(int=1),
        uuid.UUID(int=2),
        PurePosixPath("a/b"),
        PureWindowsPath("a/b"),
        Level.LOW,
        Record(1),
        slice(1, 2),
        slice(1, 2, None).indices,
        slice(1, None, 2),
        range(1, 2),
        range(2),
        ...,
        NotImplemented,
        {1: 2}.keys(),
        {1: 2}.values(),
        {1: 2}.items(),
        deque([1]),
        deque([1], 3),
        Counter("aab"),
        defaultdict(int, a=2),
        OrderedDict(a=2),
        functools.partial(print, 1),
        functools.partial(print, x=1),
        operator.itemgetter(1),
        operator.attrgetter("a"),
        operator.methodcaller("a"),
        operator.methodcaller("a", 1),
        operator.methodcaller("a", x=1),
        list[int],
        bytearray(b"x"),
        memoryview(b"x"),
        lambda: 1,
        lambda: 2,
        noon.isoformat,
        test_what_a_subclass_adds_counts,
    ]
    tokens = {tokenize(value, ensure_deterministic=True) for value in different}
    assert len(tokens) == len(different)
    assert tokenize(PurePosixPath("a", "b")) == tokenize(PurePosixPath("a/b"))


class Careless:
    """Its parts have a random token, which it makes into text."""

    def __dask_tokenize__(self) -> Any:
        return tokenize(threading.Lock())


@pytest.mark.dask("tokenize(ensure_deterministic=)")
def test_a_random_token_is_an_error_if_one_asks() -> None:
    """However deep inside; the text says what it is and what to do."""
    for value in (threading.Lock(), [{"a": Slotted(threading.Lock())}], Careless()):
        with pytest.raises(NotSerializable, match=r"no deterministic token for _thread.lock; .*"):
            tokenize(1, value, ensure_deterministic=True)
        assert tokenize(value) != tokenize(value)
    with pytest.raises(NotSerializable, match=r"normalize_token.register"):
        tokenize(x=(i for i in [1]), ensure_deterministic=True)
    deep: list[Any] = []
    for _ in range(5000):
        deep = [deep]
    with pytest.raises(NotSerializable, match="nested too deep"):
        tokenize(deep, ensure_deterministic=True)
    assert tokenize(1, x=[2], ensure_deterministic=True) == tokenize(1, x=[2])


def test_what_cannot_be_written_equals_nothing() -> None:
    """A lock, alone or inside, has a random token; so has what is nested too deep."""
    lock = threading.Lock()
    assert tokenize(lock) != tokenize(lock)
    assert tokenize(Slotted([lock])) != tokenize(Slotted([lock]))
    deep: list[Any] = []
    for _ in range(5000):
        deep = [deep]
    assert tokenize(deep) != tokenize(deep)


class Failing:
    def __init__(self, inside: Any) -> None:
        self.inside = inside

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise RuntimeError("on purpose")


def test_a_failure_leaves_no_trace() -> None:
    """What comes after it is written as ever."""
    value = [1, 2]
    tokenize([Failing(value), Slotted([value, Failing(value)]), value])
    assert tokenize(Slotted([value])) == tokenize(Slotted([[1, 2]]))


def test_arrays_are_told_apart_by_content() -> None:
    """Dtype, shape and items; whether a view or a copy holds them does not count."""
    array = np.arange(24).reshape(4, 6)
    assert tokenize(array) == tokenize(array.copy())
    assert tokenize(array[:, ::2]) == tokenize(array[:, ::2].copy())
    assert tokenize(array.T) == tokenize(array.copy().T)
    different = [
        array,
        array.T,
        array.reshape(6, 4),
        array.astype("i4"),
        array.astype(">i8"),
        array + 1,
        array[::2],
        array.astype("M8[s]"),
        array.astype("M8[ms]"),
        array.astype(object),
        np.zeros(3, [("a", "i4")]),
        np.zeros(3, [("b", "i4")]),
        np.zeros((0, 3)),
        np.zeros((3, 0)),
        np.array(1),
    ]
    assert len({tokenize(value) for value in different}) == len(different)


def test_pandas_objects_are_told_apart_by_content() -> None:
    """Values, labels and dtypes."""
    frame = pd.DataFrame({"x": [1, 2], "y": ["a", "b"], "t": pd.to_datetime(["2000", "2001"])})
    assert tokenize(frame) == tokenize(frame.copy())
    different = [
        frame,
        frame.rename(columns={"x": "z"}),
        frame.set_index("y"),
        frame.astype({"x": "f8"}),
        frame.assign(y=["a", "c"]).where(frame["x"] < 2),
        frame.assign(y=pd.Categorical(["a", "b"])),
        frame.assign(y=pd.Categorical(["a", "b"], ["b", "a"])),
        frame.assign(x=pd.array([1, None], dtype="Int64")),
        frame.assign(x=pd.array([2, None], dtype="Int64")),
        frame["x"],
        frame["x"].rename("w"),
        frame["t"].dt.tz_localize("UTC"),
        frame["t"],
        frame.index,
        frame.columns,
        pd.MultiIndex.from_product([[1, 2], ["a"]]),
        pd.MultiIndex.from_product([[1, 2], ["b"]]),
        pd.date_range("2000", periods=2),
        pd.period_range("2000", periods=2),
    ]
    assert len({tokenize(value) for value in different}) == len(different)
    for value in different:
        assert tokenize(value) == tokenize(value.copy())
