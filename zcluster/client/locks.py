"""Locks, semaphores and events of a whole cluster.

Made with an asynchronous client, their methods are to be awaited where an event loop runs.

They are known by their names: equal names are the same thing for all clients and tasks,
and pickling one sends the name. Who asked first is served first.

A lease belongs to the client (of the script, or of the worker process in which a task
runs) that acquired it: when that ends, in whatever way, its leases go to whoever is next.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from zcluster.client.base import ClientBase
from zcluster.client.client import get_client
from zcluster.client.coordinating import Exchange, Outcome, settle
from zcluster.config import Time, parse_timedelta
from zcluster.errors import InvalidArgument

__all__ = ["Event", "Lock", "MultiLock", "Semaphore", "Thing"]

T = TypeVar("T")
_Self = TypeVar("_Self", bound="_Leased")


def _nothing(_: Outcome) -> None:
    """Make nothing of an answer."""


def _number(outcome: Outcome) -> int:
    return int(outcome.value)


def _is_yes(outcome: Outcome) -> bool:
    return outcome.ok


class Thing:
    """What has a name that all clients know it by.

    Attributes
    ----------
    name : str
    """

    _kind: str

    def __init__(self, name: str | None = None, client: Any = None) -> None:
        if name is not None and not (isinstance(name, str) and name):
            raise InvalidArgument(
                f"the name of a {type(self).__name__} is {name!r}, expected text that is not empty"
            )
        self.name = name if name is not None else f"{self._kind}-{uuid.uuid4().hex}"
        self._given = client

    @property
    def client(self) -> ClientBase:
        """The client it speaks through: the one given, or that of the task or the script."""
        given: ClientBase | None = self._given
        return get_client() if given is None else given

    def _ask(
        self,
        action: str,
        then: Callable[[Outcome], T],
        client: ClientBase | None = None,
        **options: Any,
    ) -> T:
        client = client or self.client
        return settle(client, Exchange(client, self._kind, self.name, action, **options), then)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.name,)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.name}>"


class _Leased(Thing):
    """What is acquired and released."""

    def __init__(self, name: str | None, client: Any) -> None:
        super().__init__(name, client)
        #: What this object has acquired: the client that did, names, and the lease.
        self._leases: list[tuple[ClientBase, list[str], int]] = []

    def _names(self) -> list[str]:
        return [self.name]

    def _exchange(self, number: int, timeout: Time | None) -> tuple[ClientBase, Exchange]:
        client = self.client
        names = self._names()
        return client, Exchange(
            client,
            self._kind,
            names[0],
            "acquire",
            names=names,
            number=number,
            timeout=parse_timedelta(timeout),
            undo="release",
        )

    def _acquire(self, number: int, timeout: Time | None) -> bool:
        client, exchange = self._exchange(number, timeout)
        return settle(client, exchange, partial(self._acquired, client))

    def _acquired(self, client: ClientBase, outcome: Outcome) -> bool:
        if outcome.ok:
            self._leases.append((client, self._names(), outcome.request))
        return outcome.ok

    def _default_number(self) -> int:
        return 1

    def release(self) -> None:
        """Give back what this object acquired last.

        Raises
        ------
        InvalidArgument
            If it has acquired nothing.
        """
        client, exchange = self._give_back()
        return settle(client, exchange, _nothing)

    def _give_back(self) -> tuple[ClientBase, Exchange]:
        try:
            lease = self._leases.pop()
        except IndexError:
            raise InvalidArgument(
                f"{self!r} was released and not acquired before; a copy of it, also in another "
                "task, releases what it acquired itself"
            ) from None
        client, names, number = lease
        exchange = Exchange(client, self._kind, names[0], "release", names=names, number=number)
        try:
            exchange.send()
        except BaseException:
            self._leases.append(lease)
            raise
        return client, exchange

    def __enter__(self: _Self) -> _Self:
        client, exchange = self._exchange(self._default_number(), None)
        self._acquired(client, exchange.wait())
        return self

    def __exit__(self, *_: object) -> None:
        self._give_back()[1].wait()

    async def __aenter__(self: _Self) -> _Self:
        client, exchange = self._exchange(self._default_number(), None)
        self._acquired(client, await exchange.arrive())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._give_back()[1].arrive()


class Lock(_Leased):
    """A lock that one task or thread of the whole cluster can have at a time.

    Parameters
    ----------
    name : str, optional
        Locks of one name are the same lock; without a name it is a new one.
    client : Client, optional
        Else that of the task it is used in, or the newest one.

    Examples
    --------
    >>> def append(path, line):
    ...     with Lock(path):
    ...         with open(path, "a") as file:
    ...             file.write(line)
    >>> Lock("results")
    <Lock: results>
    """

    _kind = "lock"

    def __init__(self, name: str | None = None, client: Any = None) -> None:
        super().__init__(name, client)

    def acquire(self, blocking: bool = True, timeout: Time | None = None) -> bool:
        """Wait for the lock; return whether it was had.

        Parameters
        ----------
        blocking : bool
            False: do not wait.
        timeout : float, str or timedelta, optional
            Seconds to wait.
        """
        return self._acquire(1, timeout if blocking else 0.0)

    def locked(self) -> bool:
        """Tell whether anybody has it."""
        return self._ask("count", lambda outcome: bool(outcome.value))


class MultiLock(_Leased):
    """Several locks at once, without the danger that two of these wait for each other.

    Parameters
    ----------
    names : list of str
        The locks; a `Lock` of one of these names is the same lock.
    client : Client, optional
        As in `Lock`.

    Examples
    --------
    >>> with MultiLock(["left", "right"]):      # doctest: +SKIP
    ...     swap()
    """

    _kind = "lock"

    def __init__(self, names: Sequence[str], client: Any = None) -> None:
        self.names = [names] if isinstance(names, str) else list(dict.fromkeys(names))
        if not self.names or not all(isinstance(name, str) and name for name in self.names):
            raise InvalidArgument(f"names are {names!r}, expected one or more texts, none empty")
        super().__init__(self.names[0], client)

    def acquire(
        self, blocking: bool = True, timeout: Time | None = None, num_locks: int | None = None
    ) -> bool:
        """Wait for all of the locks, or for any ``num_locks``; return whether they were had.

        None of them is taken before enough are free.
        """
        number = len(self.names) if num_locks is None else num_locks
        if not isinstance(number, int) or not 0 < number <= len(self.names):
            raise InvalidArgument(f"num_locks is {number!r}, expected 1 to {len(self.names)}")
        return self._acquire(number, timeout if blocking else 0.0)

    def _names(self) -> list[str]:
        return self.names

    def _default_number(self) -> int:
        return len(self.names)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.names,)

    def __repr__(self) -> str:
        return f"<MultiLock: {', '.join(self.names)}>"


class Semaphore(_Leased):
    """A number of leases that tasks and threads of the whole cluster share.

    Parameters
    ----------
    max_leases : int
        How many can be out at a time. All who use one name must say the same.
    name : str, optional
        As in `Lock`.
    client : Client, optional
        As in `Lock`.

    Examples
    --------
    >>> database = Semaphore(max_leases=2, name="database")
    >>> with database:                          # doctest: +SKIP
    ...     query()
    """

    _kind = "semaphore"

    def __init__(self, max_leases: int = 1, name: str | None = None, client: Any = None) -> None:
        if isinstance(max_leases, bool) or not isinstance(max_leases, int) or max_leases < 1:
            raise InvalidArgument(f"max_leases is {max_leases!r}, expected a number from 1 on")
        super().__init__(name, client)
        self.max_leases = max_leases

    def acquire(self, timeout: Time | None = None) -> bool:
        """Wait for a lease; return whether it was had within ``timeout`` seconds."""
        return self._acquire(self.max_leases, timeout)

    def get_value(self) -> int:
        """Return how many leases are out."""
        return self._ask("count", _number)

    @property
    def leases(self) -> tuple[int, ...]:
        """The leases that this object has, by number."""
        return tuple(lease for _, _, lease in self._leases)

    def close(self) -> None:
        """Forget it with all its leases; who waits for one gets an `InvalidArgument`."""
        self._leases.clear()
        return self._ask("close", _nothing)

    def _default_number(self) -> int:
        return self.max_leases

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.max_leases, self.name)


class Event(Thing):
    """A flag that tasks and threads of the whole cluster can wait for.

    Parameters
    ----------
    name : str, optional
        Events of one name are the same event; without a name it is a new one.
    client : Client, optional
        As in `Lock`.

    Examples
    --------
    >>> ready = Event("ready")
    >>> ready.wait(timeout=10)                  # doctest: +SKIP
    True
    """

    _kind = "event"

    def set(self) -> None:
        """Set it: all who wait go on."""
        return self._ask("set", _nothing)

    def clear(self) -> None:
        """Clear it: who waits from now on waits until it is set again."""
        return self._ask("clear", _nothing)

    def is_set(self) -> bool:
        """Tell whether it is set."""
        return self._ask("is_set", _is_yes)

    def wait(self, timeout: Time | None = None) -> bool:
        """Wait until it is set; return whether it was within ``timeout`` seconds."""
        return self._ask("wait", _is_yes, timeout=parse_timedelta(timeout))
