"""How calls are wanted to be run: `annotate`, and the check of what users may wish.

The same wishes are given to ``submit`` as keywords and to lazy calls by
``with annotate(...)``; both become one `Options` here.
"""

from __future__ import annotations

import difflib
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any

from zcluster.config.times import parse_timedelta
from zcluster.errors import InvalidArgument
from zcluster.graph.layers import DEFAULT_OPTIONS, Options
from zcluster.protocol.messages import Needs

__all__ = ["annotate", "current_options", "get_annotations", "options_from", "worker_names"]

_MOST = 1 << 31

_NOTHING: Mapping[str, Any] = MappingProxyType({})
_current: ContextVar[Mapping[str, Any]] = ContextVar("zcluster-annotations", default=_NOTHING)


@contextmanager
def annotate(**wishes: Any) -> Iterator[None]:
    """Wish how the lazy calls made, and the calls submitted, in this block are run.

    Parameters
    ----------
    **wishes
        ``workers``, ``allow_other_workers``, ``retries``, ``retry_on``, ``retry_delay``,
        ``priority``, ``resources``, ``threads``, ``timeout``, ``at_most_once``: as for
        `Client.submit` (the last two have no effect where there is no cluster). An inner
        block adds to the outer one. Anything else is kept for `get_annotations`, and has no
        effect; a name that is much like one of these gives a warning.

    Raises
    ------
    InvalidArgument
        For a value that cannot be meant.

    Examples
    --------
    >>> import zcluster
    >>> with zcluster.annotate(priority=10, retries=2):
    ...     total = zcluster.delayed(sum)([1, 2])
    >>> total.compute()
    3
    """
    merged = {**_current.get(), **wishes}
    options_from(_known(merged))  # what is wrong is said here
    for name in wishes.keys() - _CHECKS.keys():
        alike = difflib.get_close_matches(name, _CHECKS, n=2, cutoff=0.66)
        if alike:
            warnings.warn(
                f"annotate was given {name}, which nothing here reads; did you mean "
                f"{' or '.join(alike)}?",
                stacklevel=3,  # through contextlib, to the `with`
            )
    token = _current.set(merged)
    try:
        yield
    finally:
        _current.reset(token)


def current_options() -> Options:
    """Return what the surrounding `annotate` blocks wish."""
    wishes = _current.get()
    return options_from(_known(wishes)) if wishes else DEFAULT_OPTIONS


def get_annotations() -> dict[str, Any]:
    """Return everything that the surrounding `annotate` blocks were given, by name.

    Examples
    --------
    >>> with annotate(priority=1), annotate(colour="blue"):
    ...     get_annotations()
    {'priority': 1, 'colour': 'blue'}
    """
    return dict(_current.get())


def _known(wishes: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in wishes.items() if name in _CHECKS}


def options_from(wishes: Mapping[str, Any], base: Options = DEFAULT_OPTIONS) -> Options:
    """Return wishes, given by their names, as one record.

    Parameters
    ----------
    wishes : mapping
        As for `annotate`, and ``actor``.
    base : Options
        What holds where nothing is wished.

    Raises
    ------
    InvalidArgument
        For a wish that nobody knows, or a value that cannot be meant.

    Examples
    --------
    >>> options_from({"retries": 2, "threads": 4}).needs.threads
    4
    """
    if not wishes:
        return base
    unknown = sorted(wishes.keys() - _CHECKS.keys())
    if unknown:
        raise InvalidArgument(
            f"found the wish {unknown[0]!r}, expected one of {', '.join(sorted(_CHECKS))}"
        )
    checked = {name: _CHECKS[name](name, value) for name, value in wishes.items()}
    needs = {name: checked.pop(name) for name in _OF_NEEDS & checked.keys()}
    if needs:
        old = base.needs or Needs()
        made = Needs(**{name: needs.get(name, getattr(old, name)) for name in _OF_NEEDS})
        checked["needs"] = None if made == Needs() else made
    found = base._replace(**checked)
    if found.retries and found.needs is not None and found.needs.at_most_once:
        raise InvalidArgument(
            f"found at_most_once=True with retries={found.retries}, expected one of them: what is "
            "tried again may run more than once"
        )
    return DEFAULT_OPTIONS if found == DEFAULT_OPTIONS else found


def worker_names(workers: Any) -> tuple[str, ...]:
    """Return the worker names a user gave, alone or in a list."""
    if workers is None:
        return ()
    if isinstance(workers, str | int):
        return (str(workers),)
    if isinstance(workers, Iterable):
        return tuple(str(name) for name in workers)
    raise InvalidArgument(
        f"workers is a {type(workers).__name__}, expected a name or a list of names"
    )


def _whole(least: int) -> Callable[[str, Any], int]:
    def check(name: str, value: Any) -> int:
        if not isinstance(value, int) or not least <= value < _MOST:
            raise InvalidArgument(f"{name} is {value!r}, expected a whole number from {least} on")
        return int(value)

    return check


def _priority(name: str, value: Any) -> int:
    if not isinstance(value, int) or abs(value) >= _MOST:
        raise InvalidArgument(f"{name} is {value!r}, expected a whole number")
    return value


def _seconds(name: str, value: Any) -> float:
    if not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise InvalidArgument(f"{name} is {value!r}, expected seconds from 0 on")
    return float(value)


def _timeout(name: str, value: Any) -> float:
    try:
        seconds = 0.0 if value is None else parse_timedelta(value)
    except (InvalidArgument, TypeError):
        seconds = math.nan
    if (value is not None and not 0 < seconds < math.inf) or isinstance(value, bool):
        raise InvalidArgument(
            f"{name} is {value!r}, expected seconds above zero, or a text such as '5s'"
        )
    return seconds


def _resources(name: str, value: Any) -> dict[str, float]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InvalidArgument(f"{name} is {value!r}, expected a dict such as {{'GPU': 1}}")
    for what, amount in value.items():
        if (
            not isinstance(what, str)
            or not isinstance(amount, int | float)
            or not 0 < amount < math.inf
        ):
            raise InvalidArgument(
                f"{name} has {what!r}: {amount!r}, expected a name and an amount above zero, "
                "such as {'GPU': 1}"
            )
    return {what: float(amount) for what, amount in value.items()}


def _exceptions(name: str, value: Any) -> list[str]:
    kinds = value if isinstance(value, list | tuple) else (value,)
    names = []
    for kind in kinds:
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            raise InvalidArgument(
                f"{name} has {kind!r}, expected an exception class or a tuple of them"
            )
        names.append(f"{kind.__module__}.{kind.__qualname__}")
    return names


_CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "workers": lambda name, value: worker_names(value),
    "allow_other_workers": lambda name, value: bool(value),
    "retries": _whole(0),
    "priority": _priority,
    "resources": _resources,
    "threads": _whole(1),
    "actor": lambda name, value: bool(value),
    "retry_on": _exceptions,
    "retry_delay": _seconds,
    "timeout": _timeout,
    "at_most_once": lambda name, value: bool(value),
}
_OF_NEEDS = {
    "resources",
    "threads",
    "actor",
    "retry_on",
    "retry_delay",
    "timeout",
    "at_most_once",
}
