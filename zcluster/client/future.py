"""A future: this process's hold on the result of a task.

While a future lives, its result is wanted and kept; when the last one on a task is
gone, the task is released. A future is made for every ``submit``, so it is small:
what is known of its task is in a record that it shares with equal futures.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any, overload

from zcluster.client.engine import Engine
from zcluster.client.gates import (
    CallWhenSettled,
    Deadline,
    LoopCountdown,
    in_event_loop,
    in_thread,
    running_loop,
    stay_if_exiting,
)
from zcluster.client.html import future_html
from zcluster.client.outcomes import exception_of
from zcluster.config import Time
from zcluster.core.client.records import Announced, Wanted
from zcluster.core.client.states import STATUS, State
from zcluster.errors import InvalidArgument
from zcluster.protocol.calls import reduce_as_input
from zcluster.protocol.objects import load, load_private
from zcluster.tracebacks import hide_frames, hides_frames

if TYPE_CHECKING:
    from zcluster.client.base import ClientBase

__all__ = ["Future", "failure_of", "fetch_values", "fetch_values_in_loop", "settle_in_loop"]

_PENDING, _ANNOUNCED, _HERE = State.PENDING, State.ANNOUNCED, State.HERE


class Future:
    """The result of a task, now or later. Made by a client.

    ``Future(key, client)`` is one more of a task of which that client has a future.

    Attributes
    ----------
    key : str
        The task's name.
    status : str
        ``pending``, ``finished``, ``error``, ``cancelled`` or ``lost``.
    type : type or None
        Of the result, where that is in this process.

    Notes
    -----
    ``await future`` gives the result in any event loop, whatever the client. The methods
    that wait are to be awaited too if the client is asynchronous and an event loop runs
    in the calling thread; everywhere else they block.

    Examples
    --------
    >>> future = client.submit(sum, [1, 2, 3])     # doctest: +SKIP
    >>> future.result()                            # doctest: +SKIP
    6
    """

    __slots__ = ("__weakref__", "_client", "_is_released", "_record")

    #: Among the arguments of a call it stands for its result.
    __zcluster_input__ = True

    _client: ClientBase
    _record: Wanted

    @overload
    def __init__(self, client: ClientBase, record: Wanted) -> None: ...
    @overload
    def __init__(self, client: str, record: Any) -> None: ...
    def __init__(self, client: Any, record: Any) -> None:
        if isinstance(client, str):
            client, record = record, _record_with_key(client, record)
        self._client = client
        self._record = record
        self._is_released = False

    # ------------------------------------------------------------------- looking

    @property
    def key(self) -> str:
        """The task's name."""
        return self._record.label

    @property
    def client(self) -> ClientBase:
        """The client that made it."""
        return self._client

    @property
    def status(self) -> str:
        """What is known of the task, in one word."""
        state = self._record.state
        if self._is_released and state is _PENDING:
            return "cancelled"
        return STATUS[state]

    def done(self) -> bool:
        """Tell whether there will be no other news of it: a result, an error, or neither."""
        return self._record.state is not _PENDING

    def cancelled(self) -> bool:
        """Tell whether the task was cancelled."""
        return self._record.state is State.CANCELLED

    @property
    def type(self) -> Any:
        """The class of the result, if that has come to this process; else None."""
        record = self._record
        return type(load(record.detail)) if record.state is _HERE else None

    # ------------------------------------------------------------------- waiting

    @hides_frames
    def result(self, timeout: Time | None = None) -> Any:
        """Wait for the task and return its result.

        Raises
        ------
        Exception
            Whatever the task raised, with its traceback.
        CancelledError
            If it was cancelled.
        TimeoutError
            If it is not finished after ``timeout`` seconds.
        ClusterError
            If the scheduler or the data is lost, or the client closed.
        """
        if self._is_awaited:
            return self._result_in_loop(timeout)
        record = self._record
        if record.state is _HERE:
            return load_private(record.detail)
        self._check_held()
        return fetch_values(self._client._engine, (record,), Deadline(timeout))[0]

    def __await__(self) -> Generator[Any, None, Any]:
        return self._result_in_loop(None).__await__()

    async def _result_in_loop(self, timeout: Time | None) -> Any:
        record = self._record
        try:
            if record.state is _HERE:
                return load_private(record.detail)
            self._check_held()
            engine = self._client._engine
            return (await fetch_values_in_loop(engine, (record,), Deadline(timeout)))[0]
        except BaseException as error:
            hide_frames(error)
            raise

    def exception(self, timeout: Time | None = None) -> Any:
        """Wait for the task and return its exception, or None if it has a result.

        Raises
        ------
        CancelledError
            If it was cancelled.
        TimeoutError
            If it is not finished after ``timeout`` seconds.
        """
        if self._is_awaited:
            return self._exception_in_loop(timeout)
        record = self._record
        if record.state is _PENDING:
            self._check_held()
            deadline = Deadline(timeout)
            is_in_time = self._client._engine.wait((record,), deadline)
            if not is_in_time:
                raise _late((record,), deadline)
        return self._exception()

    async def _exception_in_loop(self, timeout: Time | None) -> BaseException | None:
        record = self._record
        if record.state is _PENDING:
            self._check_held()
            deadline = Deadline(timeout)
            if not await settle_in_loop(self._client._engine, (record,), deadline):
                raise _late((record,), deadline)
        return self._exception()

    def _exception(self) -> BaseException | None:
        record = self._record
        if record.state is _HERE or record.state is _ANNOUNCED:
            return None
        error = failure_of(self._client._engine, record)
        if isinstance(error, CancelledError):
            raise error
        return error

    def traceback(self, timeout: Time | None = None) -> Any:
        """Wait for the task and return the traceback of its exception, if it has one."""
        if self._is_awaited:
            return self._traceback_in_loop(timeout)
        error = self.exception(timeout)
        return None if error is None else error.__traceback__

    async def _traceback_in_loop(self, timeout: Time | None) -> Any:
        error = await self._exception_in_loop(timeout)
        return None if error is None else error.__traceback__

    @property
    def _is_awaited(self) -> bool:
        """Whether a method that waits has to give something to await."""
        return self._client.asynchronous and in_event_loop()

    def add_done_callback(self, function: Callable[[Future], Any]) -> None:
        """Have a function called with this future once the task is settled.

        It runs in a thread of the client's; what it raises is logged.
        """
        engine = self._client._engine
        engine.callbacks.start()
        watcher = CallWhenSettled(lambda _: engine.callbacks.call(function, self))
        if not engine.watch((self._record,), watcher):
            engine.callbacks.call(function, self)

    def log(self) -> str:
        """Return what the task has printed, as far as it has arrived; the last 64 KiB of it."""
        return self._client._output.log.text(self._record.task)

    # ------------------------------------------------------------------- letting go

    def cancel(self, reason: str | None = None, *, force: bool = False) -> Any:
        """Cancel the task unless it is finished; return whether it counts as cancelled now.

        One that runs now runs on, and nobody hears of it but other clients that want it. With
        ``force`` it is cancelled for them too, and stopped, also if it was cancelled before:
        by an exception in its thread, and where that does not help within two seconds, by
        replacing its worker; what else ran there runs again.
        """
        self._client._engine.cancel((self._record,), reason or "", force)
        return self._answer(self.cancelled())

    def retry(self) -> Any:
        """Have the task run again if it failed: this future is pending again.

        So are those whose tasks failed of it; and what it failed of runs again before it, unless
        that runs at most once and has begun: then this one fails again, and says so.
        """
        self._check_held()
        self._client._engine.retry((self._record,))
        return self._answer(None)

    def _answer(self, value: Any) -> Any:
        """Return what is known already as this client's user expects it."""
        if not self._is_awaited:
            return value
        answer = running_loop().create_future()
        answer.set_result(value)
        return answer

    def release(self) -> None:
        """Give up the hold, as the end of this object would; it cannot be used afterwards."""
        if not self._is_released:
            self._is_released = True
            engine = self._client._engine
            engine.dropped.append(self._record)
            if len(engine.dropped) == 1:
                engine.wake()

    def __del__(self) -> None:
        # Runs anywhere, also at the interpreter's end, when what it needs may be gone.
        try:
            if not self._is_released:
                engine = self._client._engine
                engine.dropped.append(self._record)
                if len(engine.dropped) == 1:
                    engine.wake()
        except (AttributeError, TypeError):
            return

    def _check_held(self) -> None:
        if self._is_released:
            raise InvalidArgument(
                f"future {self.key} was released; submit the call again, or keep the future"
            )

    # ------------------------------------------------------------------- as an object

    def __reduce__(self) -> tuple[Any, ...]:
        return reduce_as_input(self)

    def __zcluster_tokenize__(self) -> tuple[str, str]:
        return ("future", self.key)

    def __repr__(self) -> str:
        record = self._record
        detail = ""
        if record.state is _HERE:
            detail = f" type: {_type_name(record.detail)},"
        elif record.state is _ANNOUNCED:
            place: Announced = record.detail
            detail = f" size: {place.size} B,"
        return f"<Future: {self.status},{detail} key: {self.key}>"

    def _repr_html_(self) -> str:
        record = self._record
        kind = _type_name(record.detail) if record.state is _HERE else ""
        return future_html(self.key, self.status, kind)


def _record_with_key(key: str, client: ClientBase) -> Wanted:
    """Return what is known of a task that a client wants."""
    engine = client._engine
    with engine.lock:
        engine.check_usable()
        record = engine.core.shared(key)
    if record is None:
        raise InvalidArgument(
            f"this client holds no future with the key {key!r}; share futures of others with "
            "publish_dataset, a Queue or a Variable"
        )
    return record


def _type_name(blob: bytes) -> str:
    """Return the type of a result that is here, by looking at it."""
    try:
        return type(load(blob)).__name__
    except Exception:  # its class may raise anything when it is unpickled
        return "unreadable"


def failure_of(engine: Engine, record: Wanted) -> BaseException:
    """Return the exception of a settled task that has no result."""
    info = getattr(record.detail, "info", None)
    origin = None if info is None else engine.core.wanted.get(info.origin)
    return exception_of(record, origin)


def fetch_values(
    engine: Engine, records: Sequence[Wanted], deadline: Deadline, skip: Any = None
) -> list[Any]:
    """Wait for tasks and return their results, in order.

    Parameters
    ----------
    engine : Engine
    records : sequence of Wanted
    deadline : Deadline
    skip : object, optional
        Stands for the results of tasks that have none; without it the first such
        task's exception is raised, as soon as it is known.

    Raises
    ------
    Exception
        Whatever a task raised.
    TimeoutError
        If they are not all finished in time.
    """
    blobs: dict[int, memoryview] = {}
    while True:
        is_in_time = engine.wait(records, deadline, stop_at_failure=skip is None)
        away = _to_fetch(engine, records, blobs, skip)
        if not is_in_time:
            raise _late(records, deadline)
        if away is None:
            return _values(records, blobs, skip)
        if away:
            blobs.update(engine.fetch(away, deadline))
            _check_fetched(away, blobs, deadline)


async def fetch_values_in_loop(
    engine: Engine, records: Sequence[Wanted], deadline: Deadline, skip: Any = None
) -> list[Any]:
    """Do what `fetch_values` does, in an event loop: only large results take a thread."""
    blobs: dict[int, memoryview] = {}
    while True:
        is_in_time = await settle_in_loop(engine, records, deadline, skip is None)
        away = _to_fetch(engine, records, blobs, skip)
        if not is_in_time:
            raise _late(records, deadline)
        if away is None:
            if not blobs:
                return _values(records, blobs, skip)
            values: list[Any] = await in_thread(_values, records, blobs, skip)
            return values
        if away:
            blobs.update(await in_thread(engine.fetch, away, deadline))
            _check_fetched(away, blobs, deadline)


async def settle_in_loop(
    engine: Engine, records: Sequence[Wanted], deadline: Deadline, stop_at_failure: bool = False
) -> bool:
    """Do what `Engine.wait` does, in an event loop."""
    countdown = LoopCountdown(stop_at_failure)
    if not engine.watch(records, countdown):
        await stay_if_exiting()
        return True
    try:
        if stop_at_failure and any(record.state > _HERE for record in records):
            return True
        engine.flush()
        return await countdown.wait_in_loop(deadline) or countdown.left <= 0
    finally:
        if countdown.left > 0:
            engine.unwatch(records, countdown)


def _to_fetch(
    engine: Engine, records: Sequence[Wanted], blobs: dict[int, memoryview], skip: Any
) -> list[Wanted] | None:
    """Return which results are still on their nodes; None if everything is here.

    Nothing to fetch, but not None either, where a result's node is gone: then one has to
    wait once more. Without ``skip`` a failure is raised.
    """
    if skip is None:
        for record in records:
            if record.state > _HERE:
                raise failure_of(engine, record)
    away = [r for r in records if r.state is _ANNOUNCED and r.task not in blobs]
    if away or any(r.state is _PENDING and r.task not in blobs for r in records):
        return away
    return None


def _check_fetched(
    away: Sequence[Wanted], blobs: dict[int, memoryview], deadline: Deadline
) -> None:
    if deadline.left == 0.0 and any(record.task not in blobs for record in away):
        raise _late(away, deadline)


def _values(records: Sequence[Wanted], blobs: dict[int, memoryview], skip: Any) -> list[Any]:
    values = []
    for record in records:
        if record.state is _HERE:
            values.append(load_private(record.detail))
        elif record.task in blobs:
            values.append(load(blobs[record.task]))
        else:
            values.append(skip)
    return values


def _late(records: Sequence[Wanted], deadline: Deadline) -> TimeoutError:
    open_ = [record for record in records if record.state in (_PENDING, _ANNOUNCED)]
    first = open_[0].label if open_ else records[0].label
    more = f" and {len(open_) - 1} more" if len(open_) > 1 else ""
    return TimeoutError(
        f"{first}{more} not finished after {deadline.seconds:g} s; wait longer, or ask "
        "client.explain(future) what it waits for"
    )
