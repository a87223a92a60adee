"""A client as a standard `concurrent.futures.Executor`.

Its futures are the standard library's own, so whatever reads their insides works with
them: ``concurrent.futures.wait``, ``asyncio.wrap_future``, ``loop.run_in_executor``. What
becomes of a task is handed to its standard future in a thread of the executor's: there
the result is loaded, a large one is fetched, and the future's callbacks run.

Nothing is kept longer than it has to be. A task is released once its result was handed
over, and neither the executor nor ``map`` keeps what it has given away.
"""

from __future__ import annotations

import inspect
import threading
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent import futures as standard
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

from zcluster.client import describing
from zcluster.client.callbacks import Callbacks
from zcluster.client.calls import Calls
from zcluster.client.chunks import run_call, run_chunk
from zcluster.client.future import Future, failure_of, fetch_values
from zcluster.client.gates import Deadline
from zcluster.client.waiting import Holding, by_engine
from zcluster.config import Time
from zcluster.core.client.records import Wanted
from zcluster.core.client.states import State
from zcluster.errors import InvalidArgument
from zcluster.protocol.objects import load_private
from zcluster.tracebacks import hides_frames
from zcluster.types import waiting

if TYPE_CHECKING:
    from zcluster.client.client import Client

__all__ = ["ClientExecutor", "cancel_all", "map_rows", "options_of", "slots_of", "value_of"]

_MISSING = object()

#: The names that `Client.submit` takes for itself.
_NAMED = frozenset(
    name
    for name, parameter in inspect.signature(Calls.submit).parameters.items()
    if parameter.kind is inspect.Parameter.KEYWORD_ONLY
)
_OPTIONS = _NAMED - {"key", "actor"}


class ClientExecutor(standard.Executor):
    """Runs calls on a cluster, in the way of the standard library's executors.

    Made by `Client.get_executor`; its end leaves the client as it is.

    Parameters
    ----------
    client : Client
    **options
        For each call, as in `Client.submit`: ``workers``, ``resources``, ``retries``,
        ``priority``. Calls are not ``pure`` unless that is asked for.

    Examples
    --------
    >>> with client.get_executor(retries=2) as executor:        # doctest: +SKIP
    ...     print(list(executor.map(abs, [-1, -2])))
    [1, 2]
    """

    def __init__(self, client: Client, **options: Any) -> None:
        self._client = client
        self._options = options_of("an executor", options)
        self._lock = threading.RLock()  # of its own thread: arguments may submit when pickled
        self._is_shut = False
        self._handing = _Handing()
        self._mapped = Holding()

    @property
    def client(self) -> Client:
        """The client that runs the calls."""
        return self._client

    @property
    def _max_workers(self) -> int:
        """How many calls run at once; some libraries read this."""
        return slots_of(self._client)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> standard.Future[Any]:
        """Have ``fn(*args, **kwargs)`` called; return a standard future of the result.

        It is pending until it is done: who runs what is known to the cluster only.

        Raises
        ------
        RuntimeError
            After `shutdown`.
        """
        with self._lock:
            self._check_open()
            if kwargs and not _NAMED.isdisjoint(kwargs):
                task = self._client.submit(run_call, fn, args, kwargs, **self._options)
            else:
                task = self._client.submit(fn, *args, **self._options, **kwargs)
            return self._handing.follow(task)

    def map(
        self,
        fn: Callable[..., Any],
        *iterables: Iterable[Any],
        timeout: Time | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[Any]:
        """Return an iterator of the results, in order.

        Parameters
        ----------
        *iterables
            As for the built-in ``map``: the shortest ends it.
        timeout : float, str or timedelta, optional
            Seconds until the last result, from now; then it raises `TimeoutError`.
        chunksize : int
            How many calls make a task. Small calls travel together anyway.
        buffersize : int, optional
            How many tasks may be ahead of what was taken; the iterables are read as
            they are needed then, and may be endless. All at once if absent.
        """
        if chunksize < 1:
            raise ValueError(f"chunksize is {chunksize}, expected 1 or more")
        if buffersize is not None and not isinstance(buffersize, int):
            raise TypeError(
                f"buffersize is a {type(buffersize).__name__} ({buffersize!r}), expected a whole "
                "number or None"
            )
        if buffersize is not None and buffersize < 1:
            raise ValueError(f"buffersize is {buffersize}, expected 1 or more, or None")
        deadline = Deadline(timeout)
        rows = zip(*iterables, strict=False)
        submit = partial(self._map_some, fn, rows, chunksize)
        tasks = submit(buffersize)
        tasks.reverse()  # so that each is taken from the end, and kept no longer
        results = _results(tasks, None if buffersize is None else partial(submit, 1), deadline)
        if chunksize == 1:
            return _MapResults(results)
        return _MapResults(_flat(results))

    def _map_some(
        self,
        function: Callable[..., Any],
        rows: Iterator[tuple[Any, ...]],
        chunksize: int,
        limit: int | None,
    ) -> list[Future]:
        with self._lock:
            self._check_open()
            some = rows if limit is None else islice(rows, limit * chunksize)
            tasks = map_rows(self._client, function, some, chunksize, self._options)
            self._mapped.add(tasks)
            return tasks

    def _check_open(self) -> None:
        if self._is_shut:
            raise RuntimeError("cannot schedule new futures after shutdown")

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls; the client stays open.

        Parameters
        ----------
        wait : bool
            Return when all that was submitted is done.
        cancel_futures : bool
            Cancel what is not done. That includes calls that run: their results are
            thrown away.
        """
        with self._lock:
            self._is_shut = True
        if cancel_futures:
            cancel_all(self._mapped.futures, "the executor was shut down")
            self._handing.cancel("the executor was shut down")
        if wait:
            self._mapped.wait()
            with waiting():
                standard.wait(self._handing.futures)

    def __repr__(self) -> str:
        return f"<ClientExecutor of {self._client!r}{' shut down' if self._is_shut else ''}>"


# --- handing over -------------------------------------------------------------------------------


class _Handing:
    """Hands what becomes of tasks to standard futures, in a thread of its own.

    The thread ends with the last who needs it: the executor, or a task that is followed.
    """

    def __init__(self) -> None:
        self._links: set[_Link] = set()
        self._settled: deque[_Link] = deque()
        self._lock = threading.Lock()
        self._callbacks = Callbacks("zcluster-executor")
        self._is_started = False
        weakref.finalize(self, self._callbacks.stop).atexit = False

    def follow(self, task: Future) -> standard.Future[Any]:
        """Return a standard future that gets the result of a task."""
        if not self._is_started:
            self._is_started = True
            self._callbacks.start()
        future: standard.Future[Any] = standard.Future()
        link = _Link(self, task, future)
        self._links.add(link)
        future.add_done_callback(link.on_done)
        if not task._client._engine.watch((task._record,), link):
            link.settle(task._record)
        return future

    def hand_over(self, link: _Link) -> None:
        """Have the thread hand over what became of a task."""
        with self._lock:
            self._settled.append(link)
            is_first = len(self._settled) == 1
        if is_first:  # else the thread is at it
            self._callbacks.call(_Handing._hand_over, self)

    def _hand_over(self) -> None:
        settled = self._settled
        while settled:
            # Taken when it is done: who adds another one until then need not wake this thread.
            settled[0].hand_over()
            settled.popleft()

    def forget(self, link: _Link) -> None:
        """Follow a task no more."""
        self._links.discard(link)

    @property
    def futures(self) -> list[standard.Future[Any]]:
        """The standard futures that are not done."""
        return [future for link in list(self._links) if (future := link.future) is not None]

    def cancel(self, reason: str) -> None:
        """Cancel all that is not done: the tasks together, then their futures."""
        cancel_all([task for link in list(self._links) if (task := link.task) is not None], reason)
        for future in self.futures:
            future.cancel()


class _Link:
    """Joins a task to a standard future: results go one way, cancelling both."""

    __slots__ = ("_handing", "future", "task")

    def __init__(self, handing: _Handing, task: Future, future: standard.Future[Any]) -> None:
        self._handing = handing
        #: Both None when it was handed over: then nothing here holds the result.
        self.task: Future | None = task
        self.future: standard.Future[Any] | None = future

    def settle(self, record: Wanted) -> None:
        """Be told, in any thread, that the task is settled."""
        self._handing.hand_over(self)

    def hand_over(self) -> None:
        """Give the result or the exception to the future; user code may run in here."""
        task, future = self.task, self.future
        if task is None or future is None:
            return
        engine, record = task._client._engine, task._record
        try:
            error = None
            if record.state is State.HERE:
                value = load_private(record.detail)
            else:
                value = fetch_values(engine, (record,), Deadline(None), _MISSING)[0]
                if value is _MISSING:
                    error = failure_of(engine, record)
        except BaseException as raised:  # also what a result's own class raises when it is loaded
            value, error = None, raised
        self.task = None
        try:
            if error is None:
                future.set_result(value)
            elif isinstance(error, standard.CancelledError):
                future.cancel()
            else:
                future.set_exception(error)
        except standard.InvalidStateError:
            return  # its user was quicker, and cancelled it
        finally:
            del task, error  # which knows this frame

    def on_done(self, future: standard.Future[Any]) -> None:
        """Be told that the future is done, or was cancelled by its user."""
        task, self.task, self.future = self.task, None, None
        self._handing.forget(self)
        if future.cancelled():
            if task is not None and task._record.state is State.PENDING:
                cancel_all([task], "its future was cancelled")
            future.set_running_or_notify_cancel()  # those who wait for it are told only here


# --- shared with the pool -----------------------------------------------------------------------


def map_rows(
    client: Client,
    function: Callable[..., Any],
    rows: Iterable[tuple[Any, ...]],
    chunksize: int,
    options: dict[str, Any],
) -> list[Future]:
    """Have a function called on rows of arguments, ``chunksize`` of them in a task."""
    if chunksize == 1:
        columns = list(zip(*rows, strict=True))
        return client.map(function, *columns, **options) if columns else []
    left = iter(rows)
    chunks = list(iter(lambda: list(islice(left, chunksize)), []))
    return client.map(partial(run_chunk, function), chunks, **options) if chunks else []


def options_of(what: str, options: dict[str, Any]) -> dict[str, Any]:
    """Return the options of each call, checked: those of `Client.submit`."""
    unknown = sorted(set(options) - _OPTIONS)
    if unknown:
        raise InvalidArgument(
            f"{what} has no option {', '.join(unknown)}; expected {', '.join(sorted(_OPTIONS))}"
        )
    return {"pure": False, **options}


def slots_of(client: Client) -> int:
    """Return how many calls a client's cluster runs at once, at least 1."""
    return max(1, describing.totals(client._nodes())[1])


def value_of(task: Future, deadline: Deadline) -> Any:
    """Wait for a task, in any thread, and return its result."""
    try:
        return fetch_values(task._client._engine, (task._record,), deadline)[0]
    finally:
        del task  # an exception that its user keeps knows this frame


def cancel_all(tasks: Iterable[Future], reason: str) -> None:
    """Cancel tasks that are not finished."""
    for engine, records in by_engine(tasks).items():
        engine.cancel(records, reason)


def _results(
    tasks: list[Future], refill: Callable[[], list[Future]] | None, deadline: Deadline
) -> Generator[Any, None, None]:
    """Give the results of tasks, the last one's first; cancel those that are left."""
    try:
        while tasks:
            if refill is not None:
                tasks[:0] = refill()
            yield _value_or_cancel(tasks.pop(), deadline)
    finally:
        cancel_all(tasks, "nobody asks for more results of the map")
        tasks.clear()


class _MapResults(Iterator[Any]):
    """What `ClientExecutor.map` returns: a generator whose exceptions show no frame of ours."""

    def __init__(self, generator: Generator[Any, None, None]) -> None:
        self._generator = generator

    @hides_frames
    def __next__(self) -> Any:
        return next(self._generator)

    def close(self) -> None:
        """Cancel what is not done; its end does the same."""
        self._generator.close()


def _value_or_cancel(task: Future, deadline: Deadline) -> Any:
    try:
        return value_of(task, deadline)
    except BaseException:
        cancel_all([task], "its result was not waited for")
        raise
    finally:
        del task


def _flat(chunks: Generator[list[Any], None, None]) -> Generator[Any, None, None]:
    try:
        for chunk in chunks:
            chunk.reverse()
            while chunk:
                yield chunk.pop()
    finally:
        chunks.close()
