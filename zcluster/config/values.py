"""The values that count: `get`, `set` and what stands behind them.

Readers take no lock: what they look into is one dictionary that is never changed, only
replaced. Each `set` lies over the sources as a layer of its own, and its end takes away that
layer and no other, in whatever order threads end theirs.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from zcluster.config.defaults import KEYS
from zcluster.config.sources import (
    Source,
    check_values,
    files,
    flatten,
    nearest,
    nest,
    normal,
    read_environment,
    read_file,
)
from zcluster.errors import InvalidArgument, UnknownKey

__all__ = [
    "Place",
    "collect",
    "config",
    "get",
    "merge",
    "places",
    "pop",
    "refresh",
    "set",
    "update",
    "update_defaults",
]

_MISSING: Any = object()
_DEFAULTS = {key.name: key.default for key in KEYS}


@dataclass(frozen=True)
class Place:
    """A value of a key, and where it is set."""

    source: str
    value: Any


class _State:
    """The sources, the layers over them, and what comes of both."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.sources: list[Source] | None = None
        #: Who made it, and what it sets. An object that is gone can no longer take it back.
        self.layers: list[tuple[weakref.ref[set], dict[str, Any]]] = []
        self.effective: dict[str, Any] | None = None
        #: Defaults of keys that other packages read here.
        self.defaults: dict[str, Any] = {}

    def read(self) -> list[Source]:
        """Return the sources, read if they were not yet."""
        with self.lock:
            if self.sources is None:
                self.sources = _read_sources()
            return self.sources

    def values(self) -> dict[str, Any]:
        """Return what counts."""
        found = self.effective
        if found is None:
            with self.lock:
                found = _DEFAULTS | self.defaults
                for source in self.read():
                    found |= source.values
                for _, values in self.layers:
                    found |= values
                self.effective = found
        return found

    def push(self, owner: set, values: dict[str, Any]) -> None:
        """Lay values over all others."""
        with self.lock:
            if len(self.layers) > 1 and self.layers[-1][0]() is self.layers[-2][0]() is None:
                # Nobody can take either back: they become one, or a loop would fill memory.
                gone, upper = self.layers.pop()
                self.layers[-1] = (gone, self.layers[-1][1] | upper)
            self.layers.append((weakref.ref(owner), values))
            self.effective = None

    def pop(self, owner: set) -> None:
        """Take away the layer of one owner."""
        with self.lock:
            self.layers = [layer for layer in self.layers if layer[0]() is not owner]
            self.effective = None

    def remove(self, name: str) -> None:
        """Take one value away wherever it is set; a default of our own stays."""
        with self.lock:
            self.defaults = {key: value for key, value in self.defaults.items() if key != name}
            for source in self.read():
                source.values.pop(name, None)
            self.layers = [
                (owner, {key: value for key, value in layer.items() if key != name})
                for owner, layer in self.layers
            ]
            self.effective = None

    def clear(self) -> None:
        """Forget everything that was read or set."""
        with self.lock:
            self.sources = None
            self.layers = []
            self.effective = None


_state = _State()


def _read_sources() -> list[Source]:
    return [*(read_file(path) for path in files()), *read_environment(os.environ)]


def get(key: str, default: Any = _MISSING) -> Any:
    """Return the value of a key.

    Parameters
    ----------
    key : str
        ``"worker.memory-limit"``; ``-`` and ``_`` are the same. The name of a section,
        ``"worker"``, gives all of it as a dictionary.
    default
        Returned where nothing sets the key and it has no default of its own.

    Raises
    ------
    UnknownKey
        If there is no such key and no ``default``; also a `KeyError`.
    InvalidArgument
        If a file or variable is wrong.

    Examples
    --------
    >>> get("client.unrunnable"), get("num_workers", 4), get("scheduler") is None
    ('warn', 4, True)
    """
    values = _state.values()
    value = values.get(key, _MISSING)
    if value is _MISSING:
        name = normal(key)
        value = values.get(name, _MISSING)
        if value is _MISSING:
            value = _section(values, name)
    if value is _MISSING and default is _MISSING:
        raise UnknownKey(
            f"configuration has no key {key!r}; did you mean {nearest(normal(key))!r}? "
            "'zcluster config list' prints all keys"
        )
    if (value is None or value is _MISSING) and default is not _MISSING:
        return default
    return value


def _section(values: Mapping[str, Any], name: str) -> Any:
    below = {
        key.removeprefix(name + "."): value
        for key, value in values.items()
        if key.startswith(name + ".")
    }
    return nest(below) if below else _MISSING


class set:
    """Set values, for good or for the length of a ``with`` block; for all threads.

    Parameters
    ----------
    values : mapping, optional
        By key, ``{"worker.memory-limit": "2GB"}``, or nested.
    **more
        Further ones; ``worker__threads=2`` is ``worker.threads``.

    Raises
    ------
    InvalidArgument
        If a value is of the wrong kind. An unknown key gives a warning.

    Examples
    --------
    >>> with set(scheduler="sync", worker__threads=2):
    ...     get("scheduler"), get("worker.threads")
    ('sync', 2)
    >>> get("worker.threads") is None
    True
    """

    def __init__(self, values: Mapping[str, Any] | None = None, /, **more: Any) -> None:
        if not isinstance(values, Mapping | None):
            raise InvalidArgument(
                f"config.set was given {values!r}, expected a dict such as {{'worker.threads': 2}}"
            )
        flat = flatten(values or {}) | flatten(more)
        _state.push(self, check_values(flat, "zcluster.config.set", _state.defaults))

    def __enter__(self) -> dict[str, Any]:
        return nest(_state.values())

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _state.pop(self)


def pop(key: str, default: Any = _MISSING) -> Any:
    """Return the value of a key, and take it away: its default is what counts then.

    Files and variables are not changed; `refresh` reads them again.

    Parameters
    ----------
    key : str
        As in `get`, but of no section.
    default
        As in `get`.

    Raises
    ------
    UnknownKey
        If there is no such key and no ``default``.

    Examples
    --------
    >>> with set(num_workers=3):
    ...     pop("num-workers"), get("num-workers") is None
    (3, True)
    """
    value = get(key, default)
    _state.remove(normal(key))
    return value


def update_defaults(new: Mapping[str, Any]) -> None:
    """Add defaults: for keys of another package that keeps its configuration here.

    Parameters
    ----------
    new : mapping
        By key, or nested.

    Raises
    ------
    InvalidArgument
        If one is of a key that is here already, whose default is what it is.

    Examples
    --------
    >>> update_defaults({"example-package": {"size": 3}})
    >>> pop("example-package.size")
    3
    """
    flat = flatten(new)
    taken = sorted(flat.keys() & _DEFAULTS.keys())
    if taken:
        raise InvalidArgument(
            f"update_defaults was given {taken[0]}, a key of zcluster's own; expected keys of "
            "another package: use config.set, or a file in ~/.config/zcluster"
        )
    with _state.lock:
        _state.defaults = _state.defaults | flat
        _state.effective = None


def refresh() -> None:
    """Read files and environment again, now; what was set by `set` is forgotten, as in Dask.

    Raises
    ------
    InvalidArgument
        If one of them is wrong.
    """
    _state.clear()
    _state.values()


def collect(
    paths: list[str | os.PathLike[str]] | None = None, env: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Return what files and environment set, nested, without defaults and without using it.

    Parameters
    ----------
    paths : list of paths, optional
        Files to read; those of this machine and user if absent.
    env : mapping, optional
        Variables to read; those of this process if absent.

    Examples
    --------
    >>> collect([], {"ZCLUSTER_WORKER__THREADS": "2"})
    {'worker': {'threads': 2}}
    """
    found: dict[str, Any] = {}
    for path in files() if paths is None else map(Path, paths):
        found |= read_file(path).values
    for source in read_environment(os.environ if env is None else env):
        found |= source.values
    return nest(found)


def places(key: str) -> list[Place]:
    """Return every place that sets a key, the default first, what counts last.

    Examples
    --------
    >>> with set({"output.prefix": False}):
    ...     [(place.source, place.value) for place in places("output.prefix")]
    [('default', True), ('zcluster.config.set', False)]
    """
    name = normal(key)
    defaults = _DEFAULTS | _state.defaults
    found = [Place("default", defaults[name])] if name in defaults else []
    with _state.lock:
        for source in _state.read():
            if name in source.values:
                found.append(Place(source.name, source.values[name]))
        for _, values in _state.layers:
            if name in values:
                found.append(Place("zcluster.config.set", values[name]))
    return found


def update(
    old: dict[str, Any], new: Mapping[str, Any], priority: Literal["new", "old"] = "new"
) -> dict[str, Any]:
    """Put the values of one nested dictionary into another; return that one.

    Examples
    --------
    >>> update({"worker": {"threads": 1}}, {"worker": {"threads": 2, "memory_limit": 0}}, "old")
    {'worker': {'threads': 1, 'memory-limit': 0}}
    """
    mine, others = flatten(old), flatten(new)
    both = mine | others if priority == "new" else others | mine
    result = nest({key: both[key] for key in mine | others})
    old.clear()
    old.update(result)
    return old


def merge(*dicts: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested dictionaries as one, later ones first.

    Examples
    --------
    >>> merge({"worker": {"threads": 1}}, {"worker": {"memory-limit": 0}})
    {'worker': {'threads': 1, 'memory-limit': 0}}
    """
    merged: dict[str, Any] = {}
    for values in dicts:
        merged |= flatten(values)
    return nest(merged)


class _View(Mapping[str, Any]):
    """The values that count now, by flat key."""

    def __getitem__(self, key: str) -> Any:
        values = _state.values()
        name = normal(key)
        value = values.get(name, _MISSING)
        if value is _MISSING:
            value = _section(values, name)
        if value is _MISSING:
            raise KeyError(key)
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(_state.values())

    def __len__(self) -> int:
        return len(_state.values())

    def __repr__(self) -> str:
        return repr(nest(_state.values()))


#: All values as they are now, to look at: by flat key, or by section.
config = _View()
