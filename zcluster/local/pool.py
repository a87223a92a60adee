"""Threads that help runs: made when they are needed, kept while the interpreter lives.

Work is handed over directly, to a thread that has nothing to do, or not at all: there is no queue.
Whoever asks works too, so a task that computes something of its own never waits for a thread that
waits for it.

The threads are daemons, yet nothing is cut off that somebody waits for: a run ends before its
caller goes on. What may still run at the end of the program are tasks that Ctrl-C or an error left
behind; the program does not wait for those. Threads without work are joined.
"""

from __future__ import annotations

import atexit
import os
from _thread import allocate_lock
from collections.abc import Callable
from threading import Lock, Thread

__all__ = ["Pool", "close_pool", "shared_pool"]

#: Seconds to wait at the end for a thread that was told to go.
_GRACE = 1.0


class _Helper:
    """A thread of the pool and the lock it waits at, as at a bell."""

    def __init__(self, pool: Pool, number: int) -> None:
        self.work: Callable[[], None] | None = None
        self.bell = allocate_lock()
        self.bell.acquire()
        self._pool = pool
        self.thread = Thread(target=self._live, name=f"zcluster-threads-{number}", daemon=True)

    def _live(self) -> None:
        while True:
            self.bell.acquire()
            work, self.work = self.work, None
            if work is None:
                return
            work()
            del work  # or the last run would be kept while this waits
            if not self._pool.take_back(self):
                return


class Pool:
    """Threads that wait for work.

    Examples
    --------
    >>> import queue
    >>> pool, out = Pool(), queue.SimpleQueue()
    >>> pool.give(lambda: out.put("done"), most=1)
    True
    >>> out.get()
    'done'
    >>> pool.close()
    """

    def __init__(self) -> None:
        self._guard = Lock()
        self._idle: list[_Helper] = []
        self._all: list[_Helper] = []
        self._is_closed = False

    def __len__(self) -> int:
        return len(self._all)

    def give(self, work: Callable[[], None], most: int) -> bool:
        """Have a thread do something, which must not raise; False if none is free.

        Parameters
        ----------
        work : callable
        most : int
            Make a new thread only where there are fewer than that.
        """
        with self._guard:
            if self._idle:
                helper = self._idle.pop()
                is_new = False
            elif len(self._all) < most and not self._is_closed:
                helper = _Helper(self, len(self._all))
                self._all.append(helper)
                is_new = True
            else:
                return False
        helper.work = work
        if is_new:
            try:
                helper.thread.start()
            except RuntimeError:  # no more threads may be had, or the program ends
                with self._guard:
                    self._all.remove(helper)
                return False
        helper.bell.release()
        return True

    def take_back(self, helper: _Helper) -> bool:
        """A thread is done; False if it is to end."""
        with self._guard:
            if self._is_closed:
                return False
            self._idle.append(helper)
            return True

    def close(self) -> None:
        """End the threads: those without work now, the others when they are done."""
        with self._guard:
            self._is_closed = True
            idle, self._idle = self._idle, []
            self._all.clear()
        for helper in idle:
            helper.bell.release()
        for helper in idle:
            helper.thread.join(_GRACE)


_shared: Pool | None = None
_making = Lock()
_is_hooked = False


def shared_pool() -> Pool:
    """Return the pool of this process."""
    global _shared, _is_hooked
    with _making:
        if not _is_hooked:
            _is_hooked = True
            atexit.register(close_pool)
            os.register_at_fork(after_in_child=_after_fork)
        if _shared is None:
            _shared = Pool()
        return _shared


def close_pool() -> None:
    """End the threads of this process's pool; the next run that wants some makes new ones."""
    global _shared
    with _making:
        pool, _shared = _shared, None
    if pool is not None:
        pool.close()


def _after_fork() -> None:
    """Forget threads that a forked process does not have, and locks that they may have held."""
    global _shared, _making
    _shared, _making = None, Lock()
