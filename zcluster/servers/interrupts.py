"""Stopping the task that a slot runs, by an exception in the slot's thread.

The interpreter raises such an exception at some later moment, wherever the thread is then.
It must hit the task it is meant for, and never what the slot does between two tasks. So a
slot has a `Window`: open while code of the user's runs, shut otherwise. Who interrupts says
so first (``hits``) and then looks whether the window is open; the slot shuts it first and
then looks whether somebody said so. Whichever comes second sees the other, without a lock:
the slot's part is two assignments and a look at a list for each task.

What is ours and keeps state (a client in a task, the output) is not interrupted midway
either: the attempt is repeated a little later. Here the thread may go on between the look
and the exception, so this makes it rare, not impossible.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["Interrupted", "Interrupts", "Window"]

#: Seconds after which it is tried again.
_AGAIN = 0.01
#: How often a task is looked for that no slot runs: it may be about to begin.
_LOOKS = 20

_FOLDER = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
#: Code of ours that runs within tasks and must come to its end.
_WHOLE = tuple(
    os.path.join(_FOLDER, part)
    for part in (
        f"client{os.sep}",
        f"core{os.sep}",
        f"transport{os.sep}",
        os.path.join("servers", "output.py"),
    )
)
_LIBRARY = os.path.dirname(os.__file__)


class Interrupted(BaseException):
    """Raised in a task that is to stop; its ``finally`` blocks run."""


class Window:
    """When the thread of a slot may be interrupted.

    Attributes
    ----------
    task : int
        The task whose code runs, while the window is open; else -1.
    hits : list of int
        The task that is being interrupted, if one is.
    thread : int
        The thread's identifier.
    wake : callable or None
        Ends a wait of ours in which the thread is.

    Examples
    --------
    >>> window = Window()
    >>> window.open(7)
    >>> window.interrupt(8)
    False
    """

    __slots__ = ("_is_busy", "hits", "task", "thread", "wake")

    def __init__(self) -> None:
        self.task = -1
        self.hits: list[int] = []
        self.thread = 0
        self.wake: Callable[[], None] | None = None
        self._is_busy = False

    @property
    def is_own(self) -> bool:
        """Whether the calling thread is the slot's."""
        return self.thread == threading.get_ident()

    # ------------------------------------------------------------ in the slot's thread

    def open(self, task: int, wake: Callable[[], None] | None = None) -> None:
        """Let the thread be interrupted, as it runs a task or waits in it."""
        self.wake = wake
        self.task = task

    def shut(self) -> None:
        """Let it be interrupted no more.

        Raises
        ------
        Interrupted
            If it was.
        """
        self.task = -1
        self.wake = None
        if self.hits:
            self.check()

    def check(self) -> None:
        """Raise `Interrupted` if the thread was interrupted; its window is shut."""
        self._settle()
        if self.hits:
            raise Interrupted

    def forget(self) -> None:
        """Take note that what was to stop has stopped; its window is shut."""
        self.task = -1
        self._settle()
        self.hits.clear()

    def _settle(self) -> None:
        """Have nothing raised any more; what is on its way may be raised in here."""
        while self._is_busy:
            time.sleep(0)
        if self.hits:
            _set(self.thread, None)

    # -------------------------------------------------------------- in the loop's thread

    def interrupt(self, task: int) -> bool:
        """Raise `Interrupted` in the thread if it runs a task; return whether it was done."""
        hits = self.hits
        if hits:
            return hits[0] == task
        if self.task != task or (self.wake is None and _is_ours(self.thread)):
            return False
        self._is_busy = True
        try:
            hits.append(task)
            if self.task != task:  # it went on meanwhile, and now waits for us
                hits.clear()
                return False
            _set(self.thread, Interrupted)
            if self.wake is not None:
                self.wake()
        finally:
            self._is_busy = False
        return True


def _set(thread: int, error: type[BaseException] | None) -> None:
    """Have an exception raised in a thread, or not after all."""
    # Not at the top: it takes 2 ms, and most workers are never asked to stop a task.
    import ctypes

    what = None if error is None else ctypes.py_object(error)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), what)


def _is_ours(thread: int) -> bool:
    """Whether a thread is, below the standard library, in code that must come to its end."""
    frame: FrameType | None = sys._current_frames().get(thread)
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith(_WHOLE):
            return True
        if not file.startswith((_LIBRARY, "<")) or "-packages" in file:
            return False
        frame = frame.f_back
    return False


class Running(Protocol):
    """What is asked of a slot."""

    def stop(self, task: int) -> bool:
        """Interrupt a task; False: it cannot be done at the moment."""


class Interrupts:
    """The tasks of a worker that are to be stopped, until they are.

    Parameters
    ----------
    find : callable
        Returns the slot that runs a task, or None.
    later : callable
        Calls a function in the loop's thread after so many seconds.
    """

    def __init__(
        self,
        find: Callable[[int], Running | None],
        later: Callable[[float, Callable[[], None]], object],
    ) -> None:
        self._find = find
        self._later = later
        #: How often each may still be looked for in vain.
        self._wanted: dict[int, int] = {}
        self._is_due = False

    def stop(self, tasks: Iterable[int]) -> None:
        """Interrupt tasks, now or as soon as that is possible."""
        self._wanted.update(dict.fromkeys(tasks, _LOOKS))
        if not self._is_due:
            self._try()

    def _try(self) -> None:
        for task, looks in list(self._wanted.items()):
            slot = self._find(task)
            if slot is None and looks > 0:
                self._wanted[task] = looks - 1
            elif slot is None or slot.stop(task):
                del self._wanted[task]
        self._is_due = bool(self._wanted)
        if self._is_due:
            self._later(_AGAIN, self._try)
