"""Clients in event loops: ``async with Client(asynchronous=True) as client``.

Such a client is of a class made here from the client's own: every public method that may
wait gives something to await instead, if an event loop runs in the calling thread.
Elsewhere (in a thread of ``run_in_executor``, in a callback) it waits, as any client's.

- What waits for tasks or workers takes no thread: the loop is told when they are there.
- Everything else is called in a thread of the loop's: connecting, closing, questions to
  the scheduler, the fetching of large results.
- What never waits stays as it is; `PLAIN` names it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial, wraps
from typing import Any
from weakref import WeakKeyDictionary

from zcluster.client.asking import LOOK
from zcluster.client.data import fill_gathered, plan_gather
from zcluster.client.future import fetch_values_in_loop
from zcluster.client.gates import Deadline, LoopGate, in_event_loop, in_thread
from zcluster.config import Time, parse_timedelta
from zcluster.errors import NoWorkers
from zcluster.graph.spec import fill, from_dict
from zcluster.tracebacks import hide_frames

__all__ = ["PLAIN", "Awaiting", "awaitable_class", "run_here"]

#: Methods that return at once in any case; `scheduler_info`, which asks the scheduler, but is
#: never awaited in Dask; and `run_graph`, by which collections compute: those cannot await, so
#: that ``x.compute()`` blocks the loop (``client.compute(x)`` does not).
PLAIN = frozenset(
    {
        "as_current",
        "get_executor",
        "get_pool",
        "map",
        "persist",
        "run_graph",
        "scheduler_info",
        "submit",
        "submit_graph",
        "sync",
    }
)


def run_here(made: Any, timeout: Time | None = None) -> Any:
    """Wait for something awaitable in this thread, whether or not a loop runs in it.

    Examples
    --------
    >>> async def answer():
    ...     return 42
    >>> run_here(answer())
    42
    """
    import asyncio  # whoever made a coroutine has loaded it; a program without one never does

    seconds = parse_timedelta(timeout)

    async def main() -> Any:
        return await asyncio.wait_for(made, seconds)

    if not in_event_loop():
        return asyncio.run(main())
    with ThreadPoolExecutor(1) as executor:
        return executor.submit(asyncio.run, main()).result()


class Awaiting:
    """What an asynchronous client does otherwise than the class it is made from."""

    asynchronous = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._connect = partial(super().__init__, *args, **kwargs)
        self._connecting: Any = None

    # Its beginning and its end --------------------------------------------------------

    def __await__(self) -> Generator[Any, None, Any]:
        return self._connected().__await__()

    async def _connected(self) -> Any:
        if self._connecting is None:
            self._connecting = in_thread(self._connect)
        import asyncio

        # Somebody who gives up leaves the others, and the thread, to what they do.
        await asyncio.shield(self._connecting)
        return self

    async def __aenter__(self) -> Any:
        return await self._connected()

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __enter__(self) -> Any:
        raise TypeError("this client is asynchronous; use `async with`")

    def close(self, timeout: Time = 10.0) -> Any:
        """Leave the cluster, and end it if it is this client's own."""
        close = partial(self._inherited.close, timeout)
        if not in_event_loop():
            return close()
        return self._close(close)

    async def _close(self, close: Callable[[], Any]) -> None:
        if self._connecting is not None:
            await self._connected()
            await in_thread(close)

    def __getattr__(self, name: str) -> Any:
        if name == "_engine":
            raise AttributeError(
                "this client is not connected yet; `await` it first, or use `async with`"
            )
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __repr__(self) -> str:
        if "_engine" not in vars(self):
            return f"<{type(self).__name__}: not connected yet>"
        text: str = self._inherited.__repr__()
        return text

    @property
    def _inherited(self) -> Any:
        """The methods of the class this one is made from, which wait."""
        return super()

    # What waits for tasks or workers --------------------------------------------------

    def gather(self, futures: Any, errors: str = "raise", direct: bool | None = None) -> Any:
        """Wait for futures and return their results, in the same containers."""
        if not in_event_loop():
            return self._inherited.gather(futures, errors, direct)
        return self._gather(futures, errors)

    async def _gather(self, futures: Any, errors: str) -> Any:
        try:
            shape, records, skip = plan_gather(self, futures, errors)
            values = await fetch_values_in_loop(self._engine, records, Deadline(None), skip)
            return fill_gathered(shape, values)
        except BaseException as error:
            hide_frames(error)
            raise

    def compute(self, collections: Any, sync: bool = False, **options: Any) -> Any:
        """Compute lazy collections; with ``sync`` the results are to be awaited."""
        found = self._inherited.compute(collections, False, **options)
        return self.gather(found) if sync else found

    def get(self, dsk: Mapping[Any, Any], keys: Any) -> Any:
        """Run a hand-written graph and return the values of some of its keys."""
        if not in_event_loop():
            return self._inherited.get(dsk, keys)
        return self._get(dsk, keys)

    async def _get(self, dsk: Mapping[Any, Any], keys: Any) -> Any:
        graph, numbers = from_dict(dsk, keys)
        values = await self._gather(self._inherited.submit_graph(graph), "raise")
        return fill(numbers, graph, values)

    def wait_for_workers(self, n_workers: int = 1, timeout: Time | None = None) -> Any:
        """Wait until there are so many workers."""
        if not in_event_loop():
            return self._inherited.wait_for_workers(n_workers, timeout)
        return self._wait_for_workers(n_workers, timeout)

    async def _wait_for_workers(self, n_workers: int, timeout: Time | None) -> None:
        engine, deadline = self._engine, Deadline(timeout)
        while True:
            gate: Any = LoopGate()
            with engine.lock:
                engine.check_usable()
                engine.node_gates.append(gate)
            try:
                found = len((await in_thread(self._inherited.scheduler_info))["workers"])
                if found >= n_workers:
                    return
                left = deadline.left
                if left == 0.0:
                    raise NoWorkers(
                        f"found {found} workers after {deadline.seconds:g} s, expected "
                        f"{n_workers}; look at the output of the nannies, or wait longer"
                    )
                await gate.wait(Deadline(LOOK if left is None else min(left, LOOK)))
            finally:
                with suppress(ValueError):  # opened, and taken out
                    engine.node_gates.remove(gate)


#: The classes made so far, by the class of clients they are made from.
_made: WeakKeyDictionary[type[Any], type[Any]] = WeakKeyDictionary()


def awaitable_class(cls: type[Any]) -> type[Any]:
    """Return the class of asynchronous clients that is made from a class of clients.

    Parameters
    ----------
    cls : type
        `Client`, or what a user derived from it.
    """
    if issubclass(cls, Awaiting):
        return cls
    if cls in _made:
        return _made[cls]
    members: dict[str, Any] = {"__module__": cls.__module__, "__doc__": cls.__doc__}
    for name in dir(cls):
        method = inspect.getattr_static(cls, name)
        is_public = not name.startswith("_") and inspect.isfunction(method)
        if is_public and name not in PLAIN and name not in vars(Awaiting):
            members[name] = _awaited(method)
    made = _made[cls] = type(cls.__name__, (Awaiting, cls), members)
    return made


def _awaited(method: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method that calls another one in a thread, if a loop runs in this one."""

    @wraps(method)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not in_event_loop():
            return method(self, *args, **kwargs)
        return _call(method, self, *args, **kwargs)

    return call


async def _call(method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    # A coroutine, so that a call which nobody awaits is warned of.
    return await in_thread(method, *args, **kwargs)
