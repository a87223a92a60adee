"""Queues and variables of a whole cluster.

Values are pickled; futures may be anywhere in them, and whoever gets one gets a future of
its own. The results they stand for are kept as long as the value is.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from zcluster.client.base import ClientBase
from zcluster.client.coordinating import Outcome, ask
from zcluster.client.gates import Deadline, in_event_loop, in_thread
from zcluster.client.locks import Thing
from zcluster.client.shared_values import pack_value
from zcluster.config import Time, parse_timedelta
from zcluster.errors import InvalidArgument

__all__ = ["Queue", "Variable"]


class Queue(Thing):
    """A queue that any client and any task can put into and get from.

    Parameters
    ----------
    name : str, optional
        Queues of one name are the same queue; without a name it is a new one.
    client : Client, optional
        Else that of the task it is used in, or the newest one.
    maxsize : int
        `put` waits while there are so many items; 0: it never waits. The first who puts
        into a queue decides.

    Examples
    --------
    >>> queue = Queue("work")
    >>> queue.put(client.submit(abs, -1))       # doctest: +SKIP
    >>> queue.get().result()                    # doctest: +SKIP
    1
    """

    _kind = "queue"

    def __init__(self, name: str | None = None, client: Any = None, maxsize: int = 0) -> None:
        if isinstance(maxsize, bool) or not isinstance(maxsize, int) or maxsize < 0:
            raise InvalidArgument(f"maxsize is {maxsize!r}, expected a number from 0 on")
        super().__init__(name, client)
        self.maxsize = maxsize

    def put(self, value: Any, timeout: Time | None = None) -> None:
        """Put a value at the end, once there is room.

        Raises
        ------
        TimeoutError
            If there is no room within ``timeout`` seconds.
        InvalidArgument
            If the value has more than 1 MiB.
        NotSerializable
            If it cannot be pickled.
        """
        client = self.client
        shared = pack_value(value, client, f"queue {self.name!r}")
        number, seconds = self.maxsize, parse_timedelta(timeout)

        def check(outcome: Outcome) -> None:
            if not outcome.ok:
                raise TimeoutError(
                    f"queue {self.name!r} had no room for {seconds:g} s; get from it, or make it "
                    "with a larger maxsize"
                )

        return self._ask("put", check, client, number=number, shared=shared, timeout=seconds)

    def get(self, timeout: Time | None = None, batch: bool | int = False) -> Any:
        """Take the first value, once there is one.

        Parameters
        ----------
        timeout : float, str or timedelta, optional
            Seconds to wait.
        batch : bool or int
            A number: wait for so many, and return a list; it has fewer if time runs out
            after the first 8 MiB of them. True: return a list of all that are there,
            without waiting.

        Raises
        ------
        TimeoutError
            If there is none within ``timeout`` seconds. What was there stays.
        """
        seconds = parse_timedelta(timeout)
        if batch is False:
            first = partial(self._first, seconds)
            return self._ask("get", first, number=1, timeout=seconds, undo="refuse")
        if not isinstance(batch, int) or batch < 1:
            raise InvalidArgument(f"batch is {batch!r}, expected True, False or a number from 1 on")
        client = self.client
        get: Callable[[], list[Any]] = partial(self._get_all, client)
        if batch is not True:
            get = partial(self._get, client, batch, Deadline(seconds))
        return in_thread(get) if client.asynchronous and in_event_loop() else get()

    def qsize(self) -> int:
        """Return how many items are there."""
        return self._ask("size", lambda outcome: int(outcome.value))

    def close(self) -> None:
        """Forget all items, for everybody."""
        return self._ask("close", lambda _: None)

    def _first(self, seconds: float | None, outcome: Outcome) -> Any:
        if not outcome.ok:
            raise self._too_few(1, seconds)
        return outcome.values()[0]

    def _too_few(self, count: int, seconds: float | None) -> TimeoutError:
        return TimeoutError(
            f"queue {self.name!r} did not have {count} items within {seconds:g} s; wait longer, "
            "or look who should put them"
        )

    def _get_all(self, client: ClientBase) -> list[Any]:
        outcome = ask(client, "queue", self.name, "get", undo="refuse")
        values = outcome.values()
        while outcome.value and values:  # more than one answer holds
            outcome = ask(client, "queue", self.name, "get", undo="refuse")
            values += outcome.values()
        return values

    def _get(self, client: ClientBase, count: int, deadline: Deadline) -> list[Any]:
        values: list[Any] = []
        while len(values) < count:
            # One answer has no more than fit into it, or into the queue.
            number, left = count - len(values), deadline.left
            outcome = ask(
                client, "queue", self.name, "get", number=number, timeout=left, undo="refuse"
            )
            if not outcome.ok:
                break
            values += outcome.values()
        if not values:
            raise self._too_few(count, deadline.seconds)
        return values

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.name, None, self.maxsize)


class Variable(Thing):
    """A value that any client and any task can set and get.

    Parameters
    ----------
    name : str, optional
        Variables of one name are the same variable; without a name it is a new one.
    client : Client, optional
        As in `Queue`.

    Examples
    --------
    >>> best = Variable("best")
    >>> best.set(0.5)                           # doctest: +SKIP
    >>> best.get()                              # doctest: +SKIP
    0.5
    """

    _kind = "variable"

    def set(self, value: Any) -> None:
        """Give it a value.

        Raises
        ------
        InvalidArgument
            If the value has more than 1 MiB.
        NotSerializable
            If it cannot be pickled.
        """
        client = self.client
        shared = pack_value(value, client, f"variable {self.name!r}")
        return self._ask("set", lambda _: None, client, shared=shared)

    def get(self, timeout: Time | None = None) -> Any:
        """Return its value, once it has one.

        Raises
        ------
        TimeoutError
            If it has none within ``timeout`` seconds.
        """
        seconds = parse_timedelta(timeout)

        def value_of(outcome: Outcome) -> Any:
            if not outcome.ok:
                raise TimeoutError(
                    f"variable {self.name!r} had no value for {seconds:g} s; set it, or wait longer"
                )
            return outcome.values()[0]

        return self._ask("get", value_of, timeout=seconds, undo="refuse")

    def delete(self) -> None:
        """Take its value away, for everybody."""
        return self._ask("delete", lambda _: None)
