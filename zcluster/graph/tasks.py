"""Reading hand-written tasks: what they are and what they take. Nothing is run.

`spec` says what the words mean; this file is the part of it that `conversion` needs too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from zcluster.errors import InvalidGraph
from zcluster.types import Key

__all__ = [
    "computation",
    "cycle_error",
    "flatten",
    "get_dependencies",
    "ishashable",
    "istask",
    "sorted_numbers",
    "taken_keys",
]

# Keys looked through for near names, when one is missing.
_NEAR_AMONG = 5000


def istask(value: object) -> bool:
    """Tell whether a value is a task: a tuple with a callable in front.

    Examples
    --------
    >>> istask((sum, [1, 2])), istask((2, 3)), istask(("x", 0))
    (True, False, False)
    """
    return type(value) is tuple and bool(value) and callable(value[0])


def ishashable(value: object) -> bool:
    """Tell whether a value can be a key or part of one."""
    try:
        hash(value)
    except TypeError:
        return False
    return True


def flatten(nested: Any) -> Iterator[Any]:
    """Yield the items of nested lists.

    Examples
    --------
    >>> list(flatten([1, [2, [3]], []]))
    [1, 2, 3]
    """
    if type(nested) is list:
        for item in nested:
            yield from flatten(item)
    else:
        yield nested


def get_dependencies(
    dsk: Mapping[Any, Any], key: Key = None, task: Any = None, as_list: bool = False
) -> Any:
    """Return the keys that a computation takes directly.

    Parameters
    ----------
    dsk : mapping
    key : hashable, optional
        Whose computation; or give the `task` itself.
    as_list : bool
        Return a list, one entry for each place where a key stands, instead of a set.

    Examples
    --------
    >>> get_dependencies({"x": 1, "y": (sum, ["x", 2])}, "y")
    {'x'}
    """
    found = taken_keys(dsk, computation(dsk, key) if task is None else task)
    return found if as_list else set(found)


def taken_keys(dsk: Mapping[Any, Any], value: Any) -> list[Any]:
    """Return the keys in a computation, one for each place where one stands."""
    found: list[Any] = []
    stack = [value]
    while stack:
        value = stack.pop()
        if type(value) is list:
            stack += reversed(value)
        elif istask(value):
            stack += value[:0:-1]
        else:
            try:
                if value in dsk:
                    found.append(value)
            except TypeError:  # not hashable: a literal
                continue
    return found


def sorted_numbers(keys: Sequence[Any], dependencies: list[list[int]]) -> list[int]:
    """Sort numbers so that each comes after its dependencies, else in their own order."""
    waiting = list(map(len, dependencies))
    consumers: list[list[int]] = [[] for _ in keys]
    for number, inputs in enumerate(dependencies):
        for dependency in inputs:
            consumers[dependency].append(number)
    result = [number for number, count in enumerate(waiting) if not count]
    for number in result:  # grows meanwhile
        for consumer in consumers[number]:
            waiting[consumer] -= 1
            if not waiting[consumer]:
                result.append(consumer)
    if len(result) < len(keys):
        raise cycle_error(keys, dependencies, waiting)
    return result


def cycle_error(
    keys: Sequence[Any], dependencies: list[list[int]], waiting: list[int]
) -> InvalidGraph:
    """Name a cycle among the tasks that are still waiting: each of them waits for another."""
    number = next(number for number, count in enumerate(waiting) if count)
    path: list[int] = []
    places: dict[int, int] = {}
    while number not in places:
        places[number] = len(path)
        path.append(number)
        number = next(d for d in dependencies[number] if d >= 0 and waiting[d])
    path = [*path[places[number] :], number]
    names = [repr(keys[number]) for number in path]
    if len(names) > 12:
        names = [*names[:6], f"… {len(names) - 11} more …", *names[-5:]]
    return InvalidGraph(
        f"the graph has a cycle: {' → '.join(names)} (each takes the next one); expected none: "
        "let one of them take something else, or rename a literal that equals a key"
    )


def computation(dsk: Mapping[Any, Any], key: Any) -> Any:
    """Return what a graph has under a key, or raise `InvalidGraph` with near names."""
    try:
        if key in dsk:
            return dsk[key]
    except TypeError:
        raise InvalidGraph(
            f"{key!r} cannot be a key: a {type(key).__qualname__} is not hashable; expected a "
            "hashable value such as a string or a tuple, or a list of them"
        ) from None
    raise InvalidGraph(f"the graph has no key {key!r}{_near(dsk, key)}")


def _near(dsk: Mapping[Any, Any], key: Any) -> str:
    import difflib  # for this message alone

    names = {str(other): other for other in islice(dsk, _NEAR_AMONG)}
    close = difflib.get_close_matches(str(key), names, 3)
    if close:
        return "; did you mean " + " or ".join(repr(names[name]) for name in close) + "?"
    shown = ", ".join(repr(other) for other in islice(dsk, 3))
    return f"; expected one of its {len(dsk)} keys" + (f", such as {shown}" if shown else "")
