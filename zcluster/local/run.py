"""One run of one graph in this process: the calling thread, and the threads that help it.

`Run.run` is the loop of the calling thread, which takes part in the work. Where helpers are
allowed, threads of a pool come into `Run.help` while there is more to do than one thread can, and
leave when there is not; how they share the work is said in `driver`.
"""

from __future__ import annotations

import heapq
from _thread import allocate_lock
from collections.abc import Callable
from time import perf_counter

from zcluster.graph.layers import Graph
from zcluster.local.driver import Driver
from zcluster.local.libraries import begin_sharing, end_sharing
from zcluster.local.watching import Watching

__all__ = ["Run", "Summon"]

#: Tasks of less than so many seconds are quick: they wait for the interpreter's lock longer than
#: they take.
_QUICK = 30e-6
#: A helper measures so many tasks to find out.
_FEW = 16
#: Seconds between two looks of a helper that stands by, and before its first.
_LOOK = 0.005
_FIRST_LOOK = 0.0005

#: Has a thread help a run; False if none is free.
Summon = Callable[["Run"], bool]


class Run(Driver):
    """One run of one graph.

    Parameters
    ----------
    graph : Graph
    most : int
        Helpers that may be at work at a time.
    summon : callable, optional
        Gets a helper.
    watch : Watching, optional
        Who looks on.
    takes_part : bool
        The calling thread runs tasks too; otherwise it waits for helpers, while there are some.
    """

    def __init__(
        self,
        graph: Graph,
        most: int = 0,
        summon: Summon | None = None,
        watch: Watching | None = None,
        takes_part: bool = True,
    ) -> None:
        super().__init__(graph)
        self._most, self._helpers, self._summon = most, 0, summon
        #: Where the calling thread waits, while `_is_asleep`.
        self._bell = allocate_lock()
        self._bell.acquire()
        self._is_asleep = False
        self._takes_part = takes_part
        self._begun = 0
        #: BLAS was told that threads share the processors.
        self._is_sharing = False
        #: One helper at a time stands by where tasks are quick; at `_end_bell` it hears of the end.
        self._is_standing_by = False
        self._end_bell = allocate_lock()
        self._end_bell.acquire()
        self._watch = watch
        if watch is not None:
            self._shelf.dropped = watch.dropped

    def run(self) -> BaseException | None:
        """Run what the outputs need; return the exception of a task that failed, if one did."""
        try:
            while not self._is_over:
                if self._takes_part or (self._drive() and not self._call_helpers()):
                    self._work()
                self._wait()
        finally:
            with self._shelf.guard:
                self._is_over = True  # Ctrl-C: helpers take up nothing more
            self._end_bell.release()
            if self._is_sharing:
                end_sharing()
        return self._error

    def help(self) -> None:
        """Run what is ready, in a thread that was summoned."""
        few = _FEW if self._takes_part else 0
        while True:
            is_needed = True
            try:
                if self._work(few):
                    looks = self._stand_by()
                    is_needed = looks >= 0
                    # Not in vain again so soon, where the others have longer tasks than this one.
                    few = _FEW if looks else 2 * few
            except BaseException as error:  # SystemExit, say: it ends the run, not this thread
                self._end(error)
                del error
            with self._shelf.guard:
                if not (is_needed and self._ready) or self._is_over:
                    self._helpers -= 1
                    if self._is_over or not self._helpers:
                        self._wake()
                    return

    def _stand_by(self) -> int:
        """Wait as long as others run quick tasks: two threads would be in each other's way.

        Returns
        -------
        looks : int
            How often the others were found to be quick; -1: another helper stands by already.
        """
        with self._shelf.guard:
            if self._is_standing_by:
                return -1
            self._is_standing_by = True
        looks, seconds = 0, _FIRST_LOOK
        while self._ready:
            begun = self._begun
            if self._end_bell.acquire(timeout=seconds):
                self._end_bell.release()
                break
            if self._begun - begun < seconds / _QUICK:
                break
            looks, seconds = looks + 1, _LOOK
        self._is_standing_by = False
        return looks

    def _work(self, few: int = 0) -> bool:
        """Run tasks until none is ready and the core has no more.

        Parameters
        ----------
        few : int
            Stop after so many where those were quick.

        Returns
        -------
        are_quick : bool
            Whether that was why.
        """
        ready, jobs, done, watch = self._ready, self._jobs, self._done, self._watch
        pop = heapq.heappop
        left, since = few, perf_counter() if few else 0.0
        while not self._is_over:
            try:
                _, task, _, job = pop(ready)
            except IndexError:
                if not self._drive():
                    return False
                continue
            if jobs.pop(task, None) is not job:  # taken back
                continue
            if self._most:
                self._begun += 1
                if ready:
                    self._call_helper()
            try:
                if watch is not None:
                    watch.task(task)
                value = self._call(job)
            except Exception as error:  # not Ctrl-C, nor SystemExit: they end the run
                self._failed.append((job, error))
                del error
                self._drive()
                continue
            self._put(task, value)
            if watch is not None:
                watch.result(task, value)
            del value
            done.append(job)
            if few:
                left -= 1
                if not left:
                    now = perf_counter()
                    if now - since < few * _QUICK:
                        return True
                    left, since = few, now
        return False

    def _call_helper(self) -> None:
        """See that one more thread is at work, if there may be one."""
        if (self._helpers >= self._most or self._is_standing_by) and not self._is_asleep:
            return
        with self._shelf.guard:
            if self._is_asleep:
                self._wake()
                return
            if self._helpers >= self._most or self._is_over:
                return
            self._helpers += 1
            begins, self._is_sharing = not self._is_sharing, True
        if begins:
            begin_sharing()
        if self._summon is None or not self._summon(self):
            with self._shelf.guard:
                self._helpers -= 1

    def helper_is_gone(self) -> None:
        """A helper that was summoned will not come."""
        with self._shelf.guard:
            self._helpers -= 1
            self._wake()

    def _call_helpers(self) -> bool:
        """See that threads are at work; False if there are none."""
        for _ in range(min(len(self._ready), self._most)):
            self._call_helper()
        return self._helpers > 0

    def _wait(self) -> None:
        """Wait until there is something to do here, or all is over."""
        with self._shelf.guard:
            if self._is_over or (self._ready and self._takes_part):
                return
            if not self._helpers:
                if not (self._ready or self._done or self._failed):
                    self._raise_stuck()
                return
            self._is_asleep = True
        self._bell.acquire()

    def _wake(self) -> None:
        """Wake the calling thread; the guard is held."""
        if self._is_asleep:
            self._is_asleep = False
            self._bell.release()

    def _end(self, error: BaseException | None) -> None:
        super()._end(error)
        with self._shelf.guard:
            self._wake()
