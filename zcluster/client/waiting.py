"""Waiting for several futures, of one client or of several."""

from __future__ import annotations

import queue
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from zcluster.client.engine import Engine
from zcluster.client.future import Future, failure_of, fetch_values
from zcluster.client.gates import CallWhenSettled, Deadline, Gate
from zcluster.core.client.records import Wanted
from zcluster.errors import InvalidArgument

__all__ = [
    "ALL_COMPLETED",
    "FIRST_COMPLETED",
    "DoneAndNotDone",
    "as_completed",
    "futures_in",
    "wait",
]

ALL_COMPLETED = "ALL_COMPLETED"
FIRST_COMPLETED = "FIRST_COMPLETED"


class DoneAndNotDone(NamedTuple):
    """What `wait` returns."""

    done: set[Future]
    not_done: set[Future]


def futures_in(*values: Any) -> list[Future]:
    """Return the futures in nested lists, tuples, sets, dicts and iterators, in order."""
    found: list[Future] = []
    stack = list(reversed(values))
    while stack:
        value = stack.pop()
        if isinstance(value, Future):
            found.append(value)
        elif isinstance(value, dict):
            stack.extend(reversed(list(value.values())))
        elif isinstance(value, Iterable) and not isinstance(value, str | bytes):
            stack.extend(reversed(list(value)))
        else:
            raise InvalidArgument(
                f"found {type(value).__name__} {value!r:.80} among futures; expected futures, "
                "alone or in lists, tuples, sets or dicts"
            )
    return found


def wait(fs: Any, timeout: float | None = None, return_when: str = ALL_COMPLETED) -> DoneAndNotDone:
    """Wait until all futures are done, or the first.

    Parameters
    ----------
    fs : futures
        Alone or nested in containers.
    timeout : float, optional
        Seconds.
    return_when : str
        ``"ALL_COMPLETED"`` or ``"FIRST_COMPLETED"``.

    Returns
    -------
    DoneAndNotDone
        ``(done, not_done)``, two sets.

    Raises
    ------
    TimeoutError
        If that is not so after ``timeout`` seconds.
    """
    if return_when not in (ALL_COMPLETED, FIRST_COMPLETED):
        raise InvalidArgument(
            f"return_when is {return_when!r}, expected {ALL_COMPLETED!r} or {FIRST_COMPLETED!r}"
        )
    futures = futures_in(fs)
    deadline = Deadline(timeout)
    groups: dict[Engine, list[Wanted]] = {}
    for future in futures:
        future._check_held()
        groups.setdefault(future._client._engine, []).append(future._record)
    if return_when == ALL_COMPLETED:
        is_in_time = all(engine.wait(records, deadline) for engine, records in groups.items())
    else:
        is_in_time = _wait_first(groups, deadline)
    done = {future for future in futures if future.done()}
    if not is_in_time:
        raise TimeoutError(
            f"{len(done)} of {len(futures)} futures were done after {timeout:g} s; wait longer, "
            "or ask client.explain(future) what one waits for"
        )
    return DoneAndNotDone(done, set(futures) - done)


def _wait_first(groups: dict[Engine, list[Wanted]], deadline: Deadline) -> bool:
    gate = Gate()
    watcher = CallWhenSettled(lambda _: gate.open())
    try:
        for engine, records in groups.items():
            if engine.watch(records, watcher) < len(records):
                return True
            engine.flush()
        return not groups or gate.wait(deadline)
    finally:
        for engine, records in groups.items():
            engine.unwatch(records, watcher)


class as_completed:
    """Iterate over futures in the order in which they are done.

    More can be added while it runs.

    Parameters
    ----------
    futures : iterable of Future
    with_results : bool
        Give pairs of future and result.
    raise_errors : bool
        With results: raise a task's exception; else give it in place of the result.
    timeout : float, optional
        Seconds for the whole iteration; then it raises `TimeoutError`.

    Examples
    --------
    >>> for future in as_completed(client.map(f, range(10))):   # doctest: +SKIP
    ...     print(future.result())
    """

    def __init__(
        self,
        futures: Any = (),
        *,
        with_results: bool = False,
        raise_errors: bool = True,
        timeout: float | None = None,
    ) -> None:
        self._done: queue.SimpleQueue[Future] = queue.SimpleQueue()
        self._left = 0
        self._with_results = with_results
        self._raise_errors = raise_errors
        self._deadline = Deadline(timeout)
        self.update(futures)

    def add(self, future: Future) -> None:
        """Add one future."""
        self.update((future,))

    def update(self, futures: Any) -> None:
        """Add several futures."""
        engines = set()
        for future in futures_in(futures):
            future._check_held()
            engine = future._client._engine
            engines.add(engine)
            self._left += 1
            watcher = self._watcher(future)
            if not engine.watch((future._record,), watcher):
                self._done.put(future)
        for engine in engines:
            engine.flush()

    def _watcher(self, future: Future) -> CallWhenSettled:
        return CallWhenSettled(lambda _: self._done.put(future))

    def count(self) -> int:
        """Return how many futures were added and not given yet."""
        return self._left

    def is_empty(self) -> bool:
        """Tell whether all futures were given."""
        return self._left == 0

    def has_ready(self) -> bool:
        """Tell whether the next future would be given at once."""
        return not self._done.empty()

    def next_batch(self, block: bool = True) -> list[Any]:
        """Return all that are done, at least one if ``block``."""
        batch = []
        if block and self._left:
            batch.append(self._take())
        while not self._done.empty():
            batch.append(self._take())
        return [self._present(future) for future in batch]

    def batches(self) -> Iterator[list[Any]]:
        """Iterate over lists of futures that were done by the time they are asked for."""
        while self._left:
            yield self.next_batch()

    def __iter__(self) -> as_completed:
        return self

    def __next__(self) -> Any:
        if not self._left:
            raise StopIteration
        return self._present(self._take())

    def _take(self) -> Future:
        try:
            future = self._done.get(timeout=self._deadline.left)
        except queue.Empty:
            raise TimeoutError(
                f"{self._left} futures are not done after {self._deadline.seconds:g} s; wait "
                "longer, or ask client.explain(future) what one waits for"
            ) from None
        self._left -= 1
        return future

    def _present(self, future: Future) -> Any:
        if not self._with_results:
            return future
        engine, record = future._client._engine, future._record
        skipped = object()
        value = fetch_values(engine, (record,), self._deadline, skip=skipped)[0]
        if value is skipped:
            error = failure_of(engine, record)
            if self._raise_errors:
                raise error
            value = error
        return future, value
