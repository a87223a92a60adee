"""Futures one by one, in the order in which they are done: `as_completed`."""

from __future__ import annotations

import threading
import weakref
from collections import deque
from typing import Any

from zcluster.client.future import Future, failure_of, fetch_values, fetch_values_in_loop
from zcluster.client.gates import Deadline, Gate, LoopGate
from zcluster.client.waiting import by_engine, futures_in
from zcluster.config import Time
from zcluster.core.client.records import Wanted
from zcluster.core.client.states import State
from zcluster.tracebacks import hides_frames

__all__ = ["as_completed"]


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
