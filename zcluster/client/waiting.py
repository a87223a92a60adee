"""Waiting for several futures, of one client or of several; and not waiting for them."""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, FIRST_EXCEPTION
from typing import Any, NamedTuple

from zcluster.client.default import live_clients
from zcluster.client.engine import Engine
from zcluster.client.future import Future, failure_of, fetch_values, fetch_values_in_loop
from zcluster.client.gates import Deadline, Gate, LoopGate, in_event_loop
from zcluster.config import Time
from zcluster.core.client.records import Wanted
from zcluster.core.client.states import State
from zcluster.errors import InvalidArgument
from zcluster.tracebacks import hides_frames

__all__ = [
    "ALL_COMPLETED",
    "DEEPEST",
    "FIRST_COMPLETED",
    "FIRST_EXCEPTION",
    "DoneAndNotDone",
    "Holding",
    "as_completed",
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
    """Return the futures in nested lists, tuples, sets, dicts and iterators, in order.

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


# --- as_completed -------------------------------------------------------------------------------


class _Teller:
    """A watcher that tells an `as_completed`, and does not keep one alive that was left."""

    __slots__ = ("_told",)

    def __init__(self, told: as_completed) -> None:
        self._told = weakref.ref(told)

    def settle(self, record: Wanted) -> None:
        told = self._told()
        if told is not None:
            told._settled(record)


class as_completed:
    """Iterate over futures in the order in which they are done.

    Any thread may add more while another iterates. In an event loop, ``async for`` does
    the same, with the futures of any client.

    Parameters
    ----------
    futures : iterable of Future
    loop
        Accepted and not needed.
    with_results : bool
        Give pairs of future and result.
    raise_errors : bool
        With results: raise a task's exception; else give what describes it in place of the
        result, as `sys.exc_info` does: its type, itself and its traceback.
    timeout : float, str or timedelta, optional
        Seconds for the whole iteration; then it raises `TimeoutError`.

    Examples
    --------
    >>> for future in as_completed(client.map(f, range(10))):   # doctest: +SKIP
    ...     print(future.result())
    """

    def __init__(
        self,
        futures: Any = (),
        loop: Any = None,
        with_results: bool = False,
        raise_errors: bool = True,
        *,
        timeout: Time | None = None,
    ) -> None:
        self._lock = threading.Lock()
        self._open: dict[Wanted, list[Future]] = {}
        self._done: deque[Future] = deque()
        self._left = 0
        self._gates: list[Gate | LoopGate] = []
        self._teller = _Teller(self)
        self._with_results = with_results
        self._raise_errors = raise_errors
        self._deadline = Deadline(timeout)
        self.update(futures)

    # Any thread, the clients' own too -----------------------------------------------

    def add(self, future: Future) -> None:
        """Add one future."""
        self.update((future,))

    def update(self, futures: Any) -> None:
        """Add several futures."""
        found = futures_in(futures)
        for future in found:
            future._check_held()
        with self._lock:
            new = [future for future in found if future._record not in self._open]
            for future in found:
                self._open.setdefault(future._record, []).append(future)
            self._left += len(found)
        for engine, records in by_engine(new).items():
            # Each once: what a record tells its watchers, it tells for all its futures here.
            unique = list(dict.fromkeys(records))
            engine.watch(unique, self._teller)
            engine.flush()
            for record in unique:
                if record.state is not State.PENDING:
                    self._settled(record)

    def clear(self) -> None:
        """Forget all futures that were added and not given yet."""
        with self._lock:
            groups = by_engine(futures[0] for futures in self._open.values())
            self._open.clear()
            self._done.clear()
            self._left = 0
            self._open_gates()
        for engine, records in groups.items():
            engine.unwatch(records, self._teller)

    def _settled(self, record: Wanted) -> None:
        with self._lock:
            self._done += self._open.pop(record, ())
            self._open_gates()

    def _open_gates(self) -> None:
        gates, self._gates = self._gates, []
        for gate in gates:
            gate.open()

    # Looking --------------------------------------------------------------------------

    def count(self) -> int:
        """Return how many futures were added and not given yet."""
        return self._left

    def is_empty(self) -> bool:
        """Tell whether all futures were given."""
        return self._left == 0

    def has_ready(self) -> bool:
        """Tell whether the next future would be given at once."""
        return bool(self._done)

    # Iterating ------------------------------------------------------------------------

    def next_batch(self, block: bool = True) -> list[Any]:
        """Return all that are done, at least one if ``block``."""
        batch = self._take_done()
        if block and not batch:
            first = self.take(self._deadline)
            batch = [] if first is None else [first, *self._take_done()]
        return [self._present(future) for future in batch]

    def batches(self) -> _Batches:
        """Iterate over lists of futures that were done by the time they are asked for."""
        return _Batches(self)

    def __iter__(self) -> as_completed:
        return self

    @hides_frames
    def __next__(self) -> Any:
        future = self.take(self._deadline)
        if future is None:
            raise StopIteration
        return self._present(future)

    def __aiter__(self) -> as_completed:
        return self

    async def __anext__(self) -> Any:
        future = await self._take_in_loop()
        if future is None:
            raise StopAsyncIteration
        return await self._present_in_loop(future)

    async def _next_batch_in_loop(self) -> list[Any]:
        first = await self._take_in_loop()
        batch = [] if first is None else [first, *self._take_done()]
        return [await self._present_in_loop(future) for future in batch]

    def _take_done(self) -> list[Future]:
        with self._lock:
            batch = list(self._done)
            self._done.clear()
            self._left -= len(batch)
            if self._left == 0:
                self._open_gates()  # for whoever waits for what was taken here
        return batch

    def take(self, deadline: Deadline) -> Future | None:
        """Return the next that is done, once there is one; None if all were given.

        Raises
        ------
        TimeoutError
            If none is done in time; it can be asked for again.
        """
        while True:
            with self._lock:
                future, is_over = self._pop()
                if is_over:
                    return future
                gate = Gate()
                self._gates.append(gate)
            self._check_time(gate, gate.wait(deadline), deadline)

    async def _take_in_loop(self) -> Future | None:
        while True:
            with self._lock:
                future, is_over = self._pop()
                if is_over:
                    return future
                gate = LoopGate()
                self._gates.append(gate)
            try:
                is_in_time = await gate.wait(self._deadline)
            except BaseException:
                self._forget(gate)
                raise
            self._check_time(gate, is_in_time, self._deadline)

    def _pop(self) -> tuple[Future | None, bool]:
        """Return the next that is done, and whether there is no need to wait; under the lock."""
        if self._done:
            self._left -= 1
            if self._left == 0:
                self._open_gates()
            return self._done.popleft(), True
        return None, self._left == 0

    def _forget(self, gate: Gate | LoopGate) -> None:
        with self._lock:
            if gate in self._gates:
                self._gates.remove(gate)

    def _check_time(self, gate: Gate | LoopGate, is_in_time: bool, deadline: Deadline) -> None:
        if is_in_time:
            return
        self._forget(gate)
        raise TimeoutError(
            f"{self._left} futures are not done after {deadline.seconds:g} s; wait "
            "longer, or ask client.explain(future) what one waits for"
        )

    def _present(self, future: Future) -> Any:
        if not self._with_results:
            return future
        engine, record = future._client._engine, future._record
        return self._pair(future, fetch_values(engine, (record,), self._deadline, _MISSING)[0])

    async def _present_in_loop(self, future: Future) -> Any:
        if not self._with_results:
            return future
        engine, record = future._client._engine, future._record
        values = await fetch_values_in_loop(engine, (record,), self._deadline, _MISSING)
        return self._pair(future, values[0])

    def _pair(self, future: Future, value: Any) -> tuple[Future, Any]:
        if value is _MISSING:
            error = failure_of(future._client._engine, future._record)
            if self._raise_errors:
                raise error
            value = (type(error), error, error.__traceback__)
        return future, value


_MISSING = object()


class _Batches:
    """Iterates over batches, in a thread or in an event loop."""

    def __init__(self, source: as_completed) -> None:
        self._source = source

    def __iter__(self) -> _Batches:
        return self

    def __next__(self) -> list[Any]:
        # Another thread may take what is left between a look at the count and this.
        batch = self._source.next_batch()
        if not batch:
            raise StopIteration
        return batch

    def __aiter__(self) -> _Batches:
        return self

    async def __anext__(self) -> list[Any]:
        batch = await self._source._next_batch_in_loop()
        if not batch:
            raise StopAsyncIteration
        return batch


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
