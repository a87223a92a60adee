"""How a user's thread waits for the loop thread: gates that open once.

A gate is a lock that is taken at first and released to open it: the cheapest thing
in Python that a signal interrupts. A `Countdown` watches records and opens when
enough of them are settled. There is no polling anywhere.

When the interpreter ends, clients are closed, and all that was waited for ends with them. Threads
that are no daemons are over by then. A daemon, which is stopped at any point anyway, is not to
print a traceback because of it: at a gate, and where it asks for something new, it ends silently.
In one that runs an event loop nothing can be raised silently, for the loop's own end needs what
there is no more; there the coroutine waits for ever, or the thread does.

A coroutine waits at a `LoopGate`, which opens in its event loop: no thread waits for
it. What has to wait in a thread of its own gets one by `in_thread`. Event loops are looked at
only where somebody runs one, so nothing here loads asyncio.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any

from zcluster.config import Time, parse_timedelta
from zcluster.core.client.records import Wanted
from zcluster.core.client.states import State
from zcluster.types import running_task, waiting

if TYPE_CHECKING:
    import asyncio

__all__ = [
    "CallWhenSettled",
    "Countdown",
    "Deadline",
    "Gate",
    "LoopCountdown",
    "LoopGate",
    "begin_exit",
    "in_event_loop",
    "in_thread",
    "leave_if_exiting",
    "running_loop",
    "stay_if_exiting",
]

_FINISHED = (State.HERE, State.ANNOUNCED)
#: Seconds that a task waits in its slot: leaving it takes two messages.
_BRIEFLY = 0.002

_is_exiting = False


def begin_exit() -> None:
    """Note that the interpreter ends."""
    global _is_exiting
    _is_exiting = True


def _is_to_leave() -> bool:
    return _is_exiting and threading.current_thread().daemon


def leave_if_exiting() -> None:
    """Go no further, silently, in a daemon thread while the interpreter ends."""
    if _is_to_leave():
        if in_event_loop():
            threading.Event().wait()
        raise SystemExit


async def stay_if_exiting() -> None:
    """Do what `leave_if_exiting` does, in a coroutine: it goes no further, and its loop does."""
    if _is_to_leave():
        await running_loop().create_future()


class Deadline:
    """A moment after which a wait gives up; without a timeout there is none.

    Parameters
    ----------
    timeout : float, str, timedelta or None
        As for `parse_timedelta`.
    """

    __slots__ = ("at", "seconds")

    def __init__(self, timeout: Time | None) -> None:
        seconds = self.seconds = parse_timedelta(timeout)
        self.at = None if seconds is None else time.monotonic() + seconds

    @property
    def left(self) -> float | None:
        """Seconds that are left: at least zero, or None."""
        return None if self.at is None else max(0.0, self.at - time.monotonic())


class Gate:
    """Opens once."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def open(self) -> None:
        """Let the waiting thread go on; opening twice does nothing more."""
        try:
            self._lock.release()
        except RuntimeError:
            return  # it was open

    def wait(self, deadline: Deadline) -> bool:
        """Wait until it is open; return whether it was in time. One thread may wait.

        A task that waits long gives up its slot meanwhile.
        """
        try:
            if running_task.get() is None:
                return self._acquire(deadline.left)
            left = deadline.left
            if self._acquire(_BRIEFLY if left is None else min(left, _BRIEFLY)):
                return True
            with waiting(self.open):
                return self._acquire(deadline.left)
        finally:
            leave_if_exiting()

    def _acquire(self, left: float | None) -> bool:
        return self._lock.acquire(timeout=-1 if left is None else min(left, threading.TIMEOUT_MAX))


class Countdown(Gate):
    """Opens when ``left`` more records are settled, or at the first failure if so asked.

    Attributes
    ----------
    left : int
        Set before the first record can be settled (under the engine's lock), and
        counted down by the loop thread alone.
    """

    __slots__ = ("_stop_at_failure", "left")

    def __init__(self, stop_at_failure: bool = False) -> None:
        super().__init__()
        self.left = 0
        self._stop_at_failure = stop_at_failure

    def settle(self, record: Wanted) -> None:
        """Count one settled record."""
        self.left -= 1
        if self.left == 0 or (self._stop_at_failure and record.state not in _FINISHED):
            self.open()


class CallWhenSettled:
    """A watcher that calls a function, on the loop thread: it must be quick and not raise."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[[Wanted], Any]) -> None:
        self._call = call

    def settle(self, record: Wanted) -> None:
        """Pass the record on."""
        self._call(record)


def in_event_loop() -> bool:
    """Tell whether an event loop runs in this thread.

    Examples
    --------
    >>> in_event_loop()
    False
    """
    # Who runs a loop has loaded asyncio, so a program without one never pays for it.
    events = sys.modules.get("asyncio.events")
    return events is not None and events._get_running_loop() is not None


def running_loop() -> asyncio.AbstractEventLoop:
    """Return the event loop that runs in this thread."""
    import asyncio  # whoever runs a loop has loaded it; a program without one never does

    return asyncio.get_running_loop()


def in_thread(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Awaitable[Any]:
    """Call a function that waits, in a thread of the running loop's.

    Once the interpreter has begun to end, or its user has ended them, loops have no threads any
    more: then it is called in one of its own.
    """
    call = partial(copy_context().run, function, *args, **kwargs)
    try:
        return running_loop().run_in_executor(None, call)
    except RuntimeError:
        made: Future[Any] = Future()
        threading.Thread(target=_call_for, args=(made, call), daemon=True).start()
    import asyncio

    return asyncio.wrap_future(made)


def _call_for(made: Future[Any], call: Callable[[], Any]) -> None:
    """Settle a future with what a call gives, unless the interpreter ends meanwhile."""
    if not made.set_running_or_notify_cancel():
        return
    try:
        made.set_result(call())
    except Exception as error:
        made.set_exception(error)


class LoopGate:
    """A gate for one coroutine: any thread may open it, and the loop it was made in goes on."""

    __slots__ = ("_is_open", "_loop")

    def __init__(self) -> None:
        self._loop = running_loop()
        self._is_open: asyncio.Future[None] = self._loop.create_future()

    def open(self) -> None:
        """Let the waiting coroutine go on; opening twice does nothing more."""
        try:
            self._loop.call_soon_threadsafe(self._open)
        except RuntimeError:
            return  # the loop is closed, and with it went whoever waited

    def _open(self) -> None:
        if not self._is_open.done():
            self._is_open.set_result(None)

    async def wait(self, deadline: Deadline) -> bool:
        """Wait until it is open; return whether it was in time. One coroutine may wait.

        A task that runs a loop gives up its slot while any of its coroutines waits.
        """
        with waiting(self.open):
            if deadline.left is None:
                await self._is_open
            else:
                import asyncio

                left = min(deadline.left, threading.TIMEOUT_MAX)
                await asyncio.wait((self._is_open,), timeout=left)
        await stay_if_exiting()
        return self._is_open.done()


class LoopCountdown(Countdown):
    """A `Countdown` for one coroutine."""

    __slots__ = ("_gate",)

    def __init__(self, stop_at_failure: bool = False) -> None:
        super().__init__(stop_at_failure)
        self._gate = LoopGate()

    def open(self) -> None:
        """Let the waiting coroutine go on."""
        self._gate.open()

    async def wait_in_loop(self, deadline: Deadline) -> bool:
        """Wait until it is open; return whether it was in time."""
        return await self._gate.wait(deadline)
