"""Waiting for several futures, of one client or of several; and not waiting for them."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, FIRST_EXCEPTION
from typing import Any, NamedTuple

from zcluster.client.default import live_clients
from zcluster.client.engine import Engine
from zcluster.client.future import Future
from zcluster.client.gates import Deadline, Gate, LoopGate, in_event_loop
from zcluster.config import Time
from zcluster.core.client.records import Wanted
from zcluster.core.client.states import State
from zcluster.errors import InvalidArgument

__all__ = [
    "ALL_COMPLETED",
    "DEEPEST",
    "FIRST_COMPLETED",
    "FIRST_EXCEPTION",
    "DoneAndNotDone",
    "Holding",
    "by_engine",
    "fire_and_forget",
    "futures_in",
    "futures_of",
    "settle_all",
    "too_deep",
    "wait",
]

#: Containers within containers; nobody writes as many, and one that contains itself has more.
DEEPEST = 100

_MODES = (ALL_COMPLETED, FIRST_COMPLETED, FIRST_EXCEPTION)
_RAISED = (State.ERROR, State.LOST)


class DoneAndNotDone(NamedTuple):
    """What `wait` returns."""

    done: set[Future]
    not_done: set[Future]


# --- finding futures ----------------------------------------------------------------------------


def too_deep(value: object) -> InvalidArgument:
    """Return the error for a container that has no bottom."""
    return InvalidArgument(
        f"found a {type(value).__name__} that contains itself, or containers nested deeper than "
        f"{DEEPEST}; expected futures in a few lists, tuples, sets or dicts"
    )


def futures_in(*values: Any) -> list[Future]:
    """Return the futures in nested lists, tuples, sets, dicts, iterators and collections, in order.

    Raises
    ------
    InvalidArgument
        For anything else among them, and for a container without a bottom.
    """
    found: list[Future] = []
    stack: list[Iterator[Any]] = [iter(values)]
    while stack:
        for value in stack[-1]:
            if isinstance(value, Future):
                found.append(value)
                continue
            if hasattr(type(value), "__zcluster_lower__"):
                found += futures_of(value)  # to iterate over an array would compute it
                continue
            if isinstance(value, dict):
                value = value.values()
            if not isinstance(value, Iterable) or isinstance(value, str | bytes):
                raise InvalidArgument(
                    f"found {type(value).__name__} {value!r:.80} among futures; expected futures, "
                    "alone or in lists, tuples, sets or dicts"
                )
            if len(stack) > DEEPEST:
                raise too_deep(value)
            stack.append(iter(value))
            break
        else:
            stack.pop()
    return found


def futures_of(*values: Any) -> list[Future]:
    """Return the futures in containers and collections, each once; other things have none.

    Examples
    --------
    >>> futures_of([1, {"a": 2}], "text")
    []
    """
    found: dict[Future, None] = {}
    seen: set[int] = set()
    stack = list(reversed(values))
    while stack:
        value = stack.pop()
        if isinstance(value, Future):
            found[value] = None
            continue
        if id(value) in seen:
            continue
        if isinstance(value, list | tuple | set | frozenset):
            inside = list(value)
        elif isinstance(value, dict):
            inside = list(value.values())
        elif hasattr(type(value), "__zcluster_lower__"):
            # Its graph holds a future as such, or within the arguments of a task.
            graph = value.dask
            inside = [graph[key] for key in graph] if isinstance(graph, Mapping) else []
        else:
            continue
        seen.add(id(value))
        stack.extend(reversed(inside))
    return list(found)


def by_engine(futures: Iterable[Future]) -> dict[Engine, list[Wanted]]:
    """Return the records of futures by the engines that are told of them."""
    groups: dict[Engine, list[Wanted]] = {}
    for future in futures:
        groups.setdefault(future._client._engine, []).append(future._record)
    return groups


# --- wait ---------------------------------------------------------------------------------------


class _Tally:
    """A watcher that opens a gate once enough of some tasks are settled.

    The tasks may be of several clients, whose threads settle them at the same time.
    """

    def __init__(self, gate: Gate | LoopGate, mode: str) -> None:
        self._gate = gate
        self._mode = mode
        self._lock = threading.Lock()
        self._left = 0

    def start(self, groups: dict[Engine, list[Wanted]]) -> bool:
        """Watch tasks; return whether what is settled already is enough."""
        self._left = sum(len(records) for records in groups.values())
        is_enough = self._left == 0
        for engine, records in groups.items():
            settled = len(records) - engine.watch(records, self)
            engine.flush()
            with self._lock:
                self._left -= settled
                is_enough = self._left == 0
            if settled and self._mode != ALL_COMPLETED:
                is_enough = is_enough or any(self._decides(record) for record in records)
            if is_enough:
                break
        return is_enough

    def _decides(self, record: Wanted) -> bool:
        if self._mode == FIRST_COMPLETED:
            return record.state is not State.PENDING
        return self._mode == FIRST_EXCEPTION and record.state in _RAISED

    def settle(self, record: Wanted) -> None:
        """Count one settled task."""
        with self._lock:
            self._left -= 1
            is_last = self._left == 0
        if is_last or self._decides(record):
            self._gate.open()

    def stop(self, groups: dict[Engine, list[Wanted]]) -> None:
        """Watch no more."""
        for engine, records in groups.items():
            engine.unwatch(records, self)


def wait(fs: Any, timeout: Time | None = None, return_when: str = ALL_COMPLETED) -> Any:
    """Wait until all futures are done, or the first.

    Parameters
    ----------
    fs : futures
        Alone or nested in containers.
    timeout : float, str or timedelta, optional
        Seconds.
    return_when : str
        ``"ALL_COMPLETED"``, ``"FIRST_COMPLETED"`` or ``"FIRST_EXCEPTION"``: the first
        that raises ends the wait too.

    Returns
    -------
    DoneAndNotDone
        ``(done, not_done)``, two sets; to be awaited in an event loop if the futures are
        those of an asynchronous client.

    Raises
    ------
    TimeoutError
        If that is not so after ``timeout`` seconds.
    """
    if return_when not in _MODES:
        raise InvalidArgument(
            f"return_when is {return_when!r}, expected {', '.join(map(repr, _MODES))}"
        )
    futures = futures_in(fs)
    for future in futures:
        future._check_held()
    groups = by_engine(futures)
    deadline = Deadline(timeout)
    if _are_awaited(futures):
        return _wait_in_loop(futures, groups, deadline, return_when)
    return _split(futures, settle_all(groups, deadline, return_when), deadline)


def settle_all(
    groups: dict[Engine, list[Wanted]], deadline: Deadline, mode: str = ALL_COMPLETED
) -> bool:
    """Wait in this thread until tasks are settled, as `wait`; return whether it was in time."""
    gate = Gate()
    tally = _Tally(gate, mode)
    try:
        if tally.start(groups):
            return True
        return gate.wait(deadline)
    finally:
        tally.stop(groups)


async def _wait_in_loop(
    futures: list[Future], groups: dict[Engine, list[Wanted]], deadline: Deadline, mode: str
) -> DoneAndNotDone:
    gate = LoopGate()
    tally = _Tally(gate, mode)
    try:
        is_in_time = tally.start(groups) or await gate.wait(deadline)
    finally:
        tally.stop(groups)
    return _split(futures, is_in_time, deadline)


def _are_awaited(futures: list[Future]) -> bool:
    """Tell whether whoever waits for these is to be given something to await."""
    if not in_event_loop():
        return False
    if futures:
        return futures[0]._client.asynchronous
    return any(client.asynchronous for client in live_clients()[-1:])


def _split(futures: list[Future], is_in_time: bool, deadline: Deadline) -> DoneAndNotDone:
    done = {future for future in futures if future.done()}
    if not is_in_time:
        raise TimeoutError(
            f"{len(done)} of {len(futures)} futures were done after {deadline.seconds:g} s; wait "
            "longer, or ask client.explain(future) what one waits for"
        )
    return DoneAndNotDone(done, set(futures) - done)


# --- not waiting --------------------------------------------------------------------------------


class Holding:
    """A watcher that holds futures until they are settled; the engine holds the watcher.

    So what was begun is finished though nobody asks for it.
    """

    def __init__(self) -> None:
        self._futures: dict[Wanted, Future] = {}

    def add(self, futures: Iterable[Future]) -> None:
        """Hold some more, as far as they are not settled."""
        held = list(futures)
        for future in held:
            self._futures[future._record] = future
        for engine, records in by_engine(held).items():
            engine.watch(records, self)
            for record in records:
                if record.state is not State.PENDING:
                    self.settle(record)

    def settle(self, record: Wanted) -> None:
        """Let go of one."""
        self._futures.pop(record, None)

    def wait(self) -> None:
        """Wait until those that are held now are settled."""
        settle_all(by_engine(self.futures), Deadline(None))

    @property
    def futures(self) -> list[Future]:
        """Those that are not settled yet."""
        return list(self._futures.values())


def fire_and_forget(obj: Any) -> None:
    """Have tasks run to their end though nobody keeps their futures.

    The client holds them until then; with its close they end.

    Parameters
    ----------
    obj : futures or collections
        Alone or in containers.

    Examples
    --------
    >>> fire_and_forget(client.submit(save, data))      # doctest: +SKIP
    """
    futures = futures_of(obj)
    if not futures:
        raise InvalidArgument(
            f"found no futures in {type(obj).__name__} {obj!r:.80}; expected what client.submit, "
            "client.compute or client.persist returned"
        )
    Holding().add(futures)
