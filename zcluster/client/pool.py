"""A client in the shape of `multiprocessing.Pool`.

For libraries that take a pool, or its ``map``: ``differential_evolution(workers=pool.map)``.
Like the pool's own, calls travel in chunks and run to their end even if nobody keeps what
was returned for them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, TypeAlias

from zcluster.client.chunks import run_call
from zcluster.client.completing import as_completed
from zcluster.client.executor import cancel_all, map_rows, options_of, slots_of, value_of
from zcluster.client.future import Future, fetch_values
from zcluster.client.gates import Countdown, Deadline
from zcluster.client.waiting import Holding, by_engine, settle_all
from zcluster.config import Time
from zcluster.core.client.states import State

if TYPE_CHECKING:
    from zcluster.client.client import Client

__all__ = ["AsyncResult", "ClientPool"]

#: Tasks that ``imap`` has begun before anything was taken from it.
_AHEAD = 1000
#: Chunks that a slot gets of each ``map``: fewer cost less, more end at the same time.
_CHUNKS = 4
_FINISHED = (State.HERE, State.ANNOUNCED)


class ClientPool:
    """Runs calls on a cluster, in the way of `multiprocessing.Pool`.

    Made by `Client.get_pool`; its end leaves the client as it is.

    Parameters
    ----------
    client : Client
    **options
        For each call, as in `Client.submit`.

    Examples
    --------
    >>> with client.get_pool() as pool:                         # doctest: +SKIP
    ...     print(pool.map(abs, [-1, -2]))
    [1, 2]
    """

    def __init__(self, client: Client, **options: Any) -> None:
        self._client = client
        self._options = options_of("a pool", options)
        self._is_closed = False
        self._held = Holding()

    # One call -------------------------------------------------------------------------

    def apply(
        self, func: Callable[..., Any], args: Iterable[Any] = (), kwds: Mapping[str, Any] = {}
    ) -> Any:
        """Call ``func(*args, **kwds)`` on a worker and return the result."""
        return self.apply_async(func, args, kwds).get()

    def apply_async(
        self,
        func: Callable[..., Any],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] = {},
        callback: Callable[[Any], Any] | None = None,
        error_callback: Callable[[BaseException], Any] | None = None,
    ) -> AsyncResult:
        """Begin a call; the callbacks get its result or its exception, in another thread."""
        self._check_open()
        task = self._client.submit(run_call, func, tuple(args), dict(kwds), **self._options)
        return self._result([task], _only, callback, error_callback)

    # Many calls -----------------------------------------------------------------------

    def map(
        self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int | None = None
    ) -> list[Any]:
        """Call a function on each item and return the results, in order."""
        result: list[Any] = self.map_async(func, iterable, chunksize).get()
        return result

    def starmap(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
    ) -> list[Any]:
        """Call a function on each tuple of arguments and return the results, in order."""
        result: list[Any] = self.starmap_async(func, iterable, chunksize).get()
        return result

    def map_async(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        callback: Callable[[Any], Any] | None = None,
        error_callback: Callable[[BaseException], Any] | None = None,
    ) -> AsyncResult:
        """Begin a `map`; the callbacks get its list or the first exception."""
        rows = [(item,) for item in iterable]
        return self._map(func, rows, chunksize, callback, error_callback)

    def starmap_async(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callable[[Any], Any] | None = None,
        error_callback: Callable[[BaseException], Any] | None = None,
    ) -> AsyncResult:
        """Begin a `starmap`; the callbacks get its list or the first exception."""
        rows = [tuple(row) for row in iterable]
        return self._map(func, rows, chunksize, callback, error_callback)

    def imap(
        self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int = 1
    ) -> Results:
        """Return an iterator of the results, in order.

        The first thousand chunks begin now, a further one with each that is taken.
        """
        return self._imap(func, iterable, chunksize, _InOrder())

    def imap_unordered(
        self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int = 1
    ) -> Results:
        """Return an iterator of the results, in the order in which they are done."""
        return self._imap(func, iterable, chunksize, as_completed())

    def _map(
        self,
        func: Callable[..., Any],
        rows: list[tuple[Any, ...]],
        chunksize: int | None,
        callback: Callable[[Any], Any] | None,
        error_callback: Callable[[BaseException], Any] | None,
    ) -> AsyncResult:
        self._check_open()
        if chunksize is None:
            # Rounded up, so that there is no small chunk left over.
            chunksize = max(1, -(-len(rows) // (_CHUNKS * slots_of(self._client))))
        size = _checked(chunksize)
        tasks = map_rows(self._client, func, rows, size, self._options)
        return self._result(tasks, list if size == 1 else _joined, callback, error_callback)

    def _imap(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Any],
        chunksize: int,
        order: _InOrder | as_completed,
    ) -> Results:
        self._check_open()
        size = _checked(chunksize)
        rows = ((item,) for item in iterable)

        def submit(count: int) -> list[Future]:
            some = islice(rows, count * size)
            tasks = map_rows(self._client, func, some, size, self._options)
            self._held.add(tasks)
            return tasks

        return Results(order, submit, is_chunked=size > 1)

    def _result(
        self,
        tasks: list[Future],
        make: Callable[[list[Any]], Any],
        callback: Callable[[Any], Any] | None,
        error_callback: Callable[[BaseException], Any] | None,
    ) -> AsyncResult:
        self._held.add(tasks)
        result = AsyncResult(tasks, make)
        if callback is not None or error_callback is not None:
            engine = self._client._engine
            engine.callbacks.start()
            calls = (result, callback, error_callback)
            end = _AtTheEnd(partial(engine.callbacks.call, _tell, calls))
            if not engine.watch([task._record for task in tasks], end):
                end.open()
        return result

    # Its end --------------------------------------------------------------------------

    def close(self) -> None:
        """Take no more calls."""
        self._is_closed = True

    def terminate(self) -> None:
        """Take no more calls, and cancel those that are not done."""
        self._is_closed = True
        cancel_all(self._held.futures, "the pool was terminated")

    def join(self) -> None:
        """Wait until all calls are done.

        Raises
        ------
        ValueError
            Before `close` or `terminate`.
        """
        if not self._is_closed:
            raise ValueError("Pool is still running")
        self._held.wait()

    def __enter__(self) -> ClientPool:
        self._check_open()
        return self

    def __exit__(self, *_: object) -> None:
        self.terminate()

    def _check_open(self) -> None:
        if self._is_closed:
            raise ValueError("Pool not running")

    def __repr__(self) -> str:
        return f"<ClientPool of {self._client!r}{' closed' if self._is_closed else ''}>"


class AsyncResult:
    """What becomes of calls that a pool began."""

    def __init__(self, tasks: list[Future], make: Callable[[list[Any]], Any]) -> None:
        self._tasks = tasks
        self._make = make

    def get(self, timeout: Time | None = None) -> Any:
        """Wait and return the result, or raise what the first failing call raised.

        Raises
        ------
        multiprocessing.TimeoutError
            If it is not there after ``timeout`` seconds.
        """
        records = [task._record for task in self._tasks]
        if not records:
            return self._make([])
        engine = self._tasks[0]._client._engine
        deadline = Deadline(timeout)
        try:
            return self._make(fetch_values(engine, records, deadline))
        except TimeoutError as error:
            # A call may have raised one of its own.
            if deadline.left == 0.0 and not self.ready():
                raise _too_late(error) from None
            raise

    def wait(self, timeout: Time | None = None) -> None:
        """Wait until it is done, at most ``timeout`` seconds."""
        settle_all(by_engine(self._tasks), Deadline(timeout))

    def ready(self) -> bool:
        """Tell whether it is done."""
        return all(task.done() for task in self._tasks)

    def successful(self) -> bool:
        """Tell whether it was done without an exception.

        Raises
        ------
        ValueError
            If it is not done.
        """
        if not self.ready():
            raise ValueError(f"{self!r} not ready")
        return all(task._record.state in _FINISHED for task in self._tasks)


class Results:
    """Iterates over the results of an ``imap``; ``next(timeout)`` waits that long only."""

    def __init__(
        self,
        order: _InOrder | as_completed,
        submit: Callable[[int], list[Future]],
        is_chunked: bool,
    ) -> None:
        self._order = order
        self._submit = submit
        self._is_chunked = is_chunked
        self._ready: Iterator[Any] = iter(())
        order.update(submit(_AHEAD))

    def __iter__(self) -> Results:
        return self

    def __next__(self) -> Any:
        return self.next()

    def next(self, timeout: Time | None = None) -> Any:
        """Return the next result, or raise what its call raised.

        Raises
        ------
        multiprocessing.TimeoutError
            If it is not there after ``timeout`` seconds; it can be asked for again.
        """
        for value in self._ready:
            return value
        try:
            task = self._order.take(Deadline(timeout))
        except TimeoutError as error:
            raise _too_late(error) from None
        if task is None:
            raise StopIteration
        self._order.update(self._submit(1))
        value = value_of(task, Deadline(None))
        if not self._is_chunked:
            return value
        self._ready = iter(value)
        return next(self._ready)


class _InOrder:
    """Gives futures in the order in which they were added, as `as_completed` in its own."""

    def __init__(self) -> None:
        self._futures: deque[Future] = deque()

    def update(self, futures: Iterable[Future]) -> None:
        self._futures.extend(futures)

    def take(self, deadline: Deadline) -> Future | None:
        if not self._futures:
            return None
        if not settle_all(by_engine((self._futures[0],)), deadline):
            raise TimeoutError(
                f"{self._futures[0].key} not finished after {deadline.seconds:g} s; ask again"
            )
        return self._futures.popleft()


class _AtTheEnd(Countdown):
    """Calls a function when all tasks are settled."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[[], Any]) -> None:
        super().__init__()
        self._call = call

    def open(self) -> None:
        self._call()


_Calls: TypeAlias = tuple[
    AsyncResult, Callable[[Any], Any] | None, Callable[[BaseException], Any] | None
]


def _tell(calls: _Calls) -> None:
    """Give the result of calls that are done to their callbacks."""
    result, callback, error_callback = calls
    try:
        value = result.get()
    except BaseException as error:  # what the user's calls raised, whatever it is
        if error_callback is not None:
            error_callback(error)
    else:
        if callback is not None:
            callback(value)


def _only(values: list[Any]) -> Any:
    return values[0]


def _joined(chunks: list[list[Any]]) -> list[Any]:
    return list(chain.from_iterable(chunks))


def _checked(chunksize: int) -> int:
    if chunksize < 1:
        raise ValueError(f"chunksize is {chunksize}, expected 1 or more")
    return chunksize


def _too_late(error: TimeoutError) -> Exception:
    """Return the exception that users of pools expect."""
    import multiprocessing  # not at the top: nothing else here needs it

    return multiprocessing.TimeoutError(str(error))
