"""Results in this process, and who may have which: the object itself, or a copy of it.

Threads take and put at the same time, so what is counted here is counted under the shelf's guard;
nothing slow is done while it is held. Copying is slow, and is done outside: as long as somebody
copies a result, nobody gets the object itself.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from threading import Lock
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

from zcluster.errors import InvalidArgument, NotSerializable
from zcluster.graph.layers import LargeArgument
from zcluster.protocol.calls import CALL_PACKED_LAST
from zcluster.protocol.objects import ATOMS, load, plan
from zcluster.protocol.selections import Selection, apply

__all__ = ["Shelf"]

#: What is called, and not written into: all takers have the very object.
_CODE = frozenset({FunctionType, BuiltinFunctionType, MethodType})


class Shelf:
    """The results that somebody will take.

    Attributes
    ----------
    values : dict
        By task.
    left : list of int
        By task, counted from `base`: how often its result will yet be taken.
    guard : Lock
        Held while counts are looked at or changed, here and in the run.
    shared : set of int
        Tasks whose results are objects of the caller's: nobody gets a copy of these, but tasks of
        collections that write into what they take.
    dropped : callable, optional
        Told of tasks whose results go.
    """

    def __init__(self, base: int) -> None:
        self.base = base
        self.values: dict[int, Any] = {}
        self.left: list[int] = []
        self.guard = Lock()
        self.shared: set[int] = set()
        self.dropped: Callable[[int], None] | None = None
        self._copying: dict[int, int] = {}

    def take(
        self,
        sources: list[int],
        keep: bool,
        parts: Sequence[Selection | None] | None = None,
        shares: bool = False,
        spares: bool = False,
    ) -> list[Any]:
        """Return results as one task may have them: the objects themselves if nobody else will.

        Parameters
        ----------
        sources : list of int
            Tasks whose results are there.
        keep : bool
            Do not count them as taken: the task may run again.
        parts : sequence, optional
            What part to take of each.
        shares : bool
            The task only reads: it may have what others take too.
        spares : bool
            The task gets copies of the caller's objects too.
        """
        values, left, base, copying = self.values, self.left, self.base, self._copying
        taken: list[Any] = []
        copied: list[tuple[int, int]] | None = None
        with self.guard:
            for source in sources:
                value = values[source]
                if (
                    type(value) not in ATOMS
                    and (
                        (not shares and (keep or left[source - base] > 1 or source in copying))
                        or type(value) is LargeArgument
                    )
                    and source not in self.shared
                ) or (spares and source in self.shared):
                    copied = copied or []
                    copied.append((len(taken), source))
                taken.append(value)
                if not keep:
                    self._count_down(source)
            if spares:
                value = None  # refers to nothing any more
                places = {place for place, _ in copied or ()}
                for place, source in enumerate(sources):
                    if place not in places and _is_seen(taken, place):
                        copied = copied or []
                        copied.append((place, source))
            if copied:
                for _, source in copied:
                    copying[source] = copying.get(source, 0) + 1
        if copied or parts is not None:
            self._cut_and_copy(taken, parts, copied or [])
        return taken

    def _cut_and_copy(
        self,
        taken: list[Any],
        parts: Sequence[Selection | None] | None,
        copied: list[tuple[int, int]],
    ) -> None:
        """Cut out parts, and put copies in the place of what others take too."""
        try:
            for place, part in enumerate(parts or ()):
                if part is not None:
                    taken[place] = _cut(taken[place], part)
            for place, _ in copied:
                taken[place] = _copied(taken[place])
        finally:
            with self.guard:
                for _, source in copied:
                    self._copying[source] -= 1
                    if not self._copying[source]:
                        del self._copying[source]

    def take_packed(self, source: int, keep: bool) -> bytearray:
        """Return the packed arguments of a call that were too large to travel with it."""
        argument = self.values[source]
        if type(argument) is not LargeArgument:
            raise InvalidArgument(
                f"the last input of a call of form {CALL_PACKED_LAST} is a "
                f"{type(argument).__qualname__}; expected the LargeArgument that pack_call planned"
            )
        if not keep:
            self.count_down([source])
        return _blob(argument)

    def count_down(self, sources: list[int]) -> None:
        """Note that results were taken."""
        with self.guard:
            for source in sources:
                self._count_down(source)

    def _count_down(self, source: int) -> None:
        """Note under the guard that a result was taken; drop it if that was the last time."""
        at = source - self.base
        self.left[at] -= 1
        if not self.left[at] and self.values.pop(source, self) is not self and self.dropped:
            self.dropped(source)

    def drop(self, tasks: list[int]) -> None:
        """Let go of results that nobody needs; most are gone already."""
        with self.guard:
            for task in tasks:
                if self.values.pop(task, self) is not self and self.dropped:
                    self.dropped(task)


def _is_seen(values: list[Any], place: int) -> bool:
    """Tell whether others may see the memory of an array, though its result is taken for good.

    It may be a view, or others a view of it, which then refer to it.
    """
    numpy = sys.modules.get("numpy")
    if numpy is None or type(values[place]) is not getattr(numpy, "ndarray", None):
        return False
    # The list refers to it, and the call.
    return values[place].base is not None or sys.getrefcount(values[place]) > 2


def _cut(value: Any, part: Selection) -> Any:
    return apply(load(_blob(value)) if type(value) is LargeArgument else value, part)


def _blob(argument: LargeArgument) -> bytearray:
    blob = bytearray(argument.plan.size)
    argument.plan.write_into(memoryview(blob))
    return blob


def _copied(value: Any) -> Any:
    """Return a copy of a value that another may write into; itself if it cannot change."""
    kind = type(value)
    if kind is LargeArgument:
        return load(_blob(value))
    if kind in _CODE or isinstance(value, type):
        return value
    if kind is tuple and all(type(item) in ATOMS for item in value):
        return value
    numpy = sys.modules.get("numpy")  # no value is an array before somebody has imported it
    if numpy is not None and hasattr(numpy, "generic"):
        if kind is numpy.ndarray and not value.dtype.hasobject:
            return value.copy(order="K")
        if isinstance(value, numpy.generic) and not isinstance(value, numpy.void):
            return value
    try:
        planned = plan(value)
    except NotSerializable:
        return value
    return load(_blob(LargeArgument(planned)))
