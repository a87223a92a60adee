"""The memory of a node's workers, watched: who is paused, who is replaced, and why.

A worker is **charged** what it has for itself (its anonymous memory, and that of the
processes its tasks have started) and what results that it made take of the store. What
it maps of the store is not its own. Four shares of its limit matter
(`zcluster.servers.settings.MemoryShares`):

========= =================== ==========================================================
target    results in memory   older results go to disk (`zcluster.core.node.spilling`)
spill     charge              the same
pause     charge              it gets no more work until it is below again
terminate what it has itself  it is replaced, and its tasks fail or run again: out of memory
========= =================== ==========================================================

A worker that has too much between tasks has lost it: nobody holds that memory and
nobody will free it. It is replaced then, and no task is blamed.

The system may be quicker and kill a worker by itself. It counts such kills; where the
count rose when a worker was killed, that was the reason.

Without a memory limit nothing is watched and no timer runs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

from zcluster.config import format_bytes
from zcluster.core.node import pausing
from zcluster.core.node.core import NodeCore
from zcluster.core.node.records import WorkerEnd, WorkerRecord
from zcluster.servers.process_memory import KillCounter, exact_own_bytes, members_of, own_bytes
from zcluster.servers.settings import MemoryShares
from zcluster.transport.loop import Loop, Timer

__all__ = ["Pressure", "WatchedCrew"]

_log = logging.getLogger(__name__)
#: Seconds between two looks: as a rule, and while a worker has more than half of its limit.
_LOOK, _LOOK_CLOSELY = 0.1, 0.02
_CLOSE = 0.5
#: A paused worker runs again when it is so much, as a share of its limit, below the pause.
_RELIEF = 0.05
#: Seconds that a pause lasts before it is logged: while results go to disk it comes and goes.
_TELL_AFTER = 2.0
#: Seconds in which less of a paused worker's results must be in memory; else they stay there,
#: for want of a disk say, and nobody is paused for them.
_STUCK_AFTER = 2.0
#: Seconds that a worker without work stays paused before it is replaced.
_LEAK_AFTER = 1.0
#: Seconds between two looks for the processes that tasks have started; looking takes at most
#: this share of the time.
_KIN, _KIN_SHARE = 1.0, 0.01
#: A kill by the system counts for workers that end within so many seconds, or twice as many.
_KILLS = 5.0
#: A worker that something killed and that had this share of its limit was out of memory.
_NEAR = 0.9


class WatchedCrew(Protocol):
    """What is needed of a `zcluster.servers.crew.Crew`."""

    def pid(self, number: int) -> int:
        """Return a worker's process id (0: none yet)."""

    def incarnation(self, number: int) -> int:
        """Return which start of a worker is the current one (0: none)."""

    def kill(self, number: int) -> None:
        """Kill a worker; the tasks that run in it are blamed."""

    def restart(self, number: int) -> None:
        """Kill a worker and start it anew; nobody is blamed."""


class Pressure:
    """Watches the memory of a node's workers, for one incarnation of the node.

    Parameters
    ----------
    loop : Loop
    core : NodeCore
    crew : WatchedCrew
    shares : MemoryShares
    own : callable
        Returns the bytes a process has for itself.
    kills : callable
        Returns how many processes the system has killed for want of memory.

    Attributes
    ----------
    is_watching : bool
        Whether anything is done at all.
    """

    def __init__(
        self,
        loop: Loop,
        core: NodeCore,
        crew: WatchedCrew,
        shares: MemoryShares,
        *,
        own: Callable[[int], int] = own_bytes,
        kills: Callable[[], int] | None = None,
    ) -> None:
        self._loop = loop
        self._core = core
        self._crew = crew
        self._shares = shares
        self._read = own
        self._own: dict[int, int] = {}
        self._peaks: dict[int, int] = {}
        self._kin: dict[int, list[int]] = {}
        self._kin_due = loop.now() + _KIN
        #: What each had when it was ready, before its first task.
        self._bare: dict[int, int] = {}
        self._warned: set[int] = set()
        #: What was over the limit, by (worker, incarnation): it is being killed.
        self._over: dict[tuple[int, int], str] = {}
        #: Since when a worker is paused, until that is logged; and those of which it was.
        self._paused_since: dict[int, float] = {}
        self._told: set[int] = set()
        #: How many bytes of a paused worker's results were there at least, and since when.
        self._kept: dict[int, tuple[int, float]] = {}
        #: Workers whose results stay in memory: more of them are refused by the store.
        self._stuck: set[int] = set()
        #: Since when a worker is paused and has nothing to do.
        self._idle_since: dict[int, float] = {}
        self._kills = KillCounter().read if kills is None else kills
        self._kills_seen = [self._kills()] * 2
        self._kills_due = loop.now() + _KILLS
        has_limit = any(worker.memory_limit for worker in core.workers.values())
        acting = [share for share in (shares.spill, shares.pause, shares.terminate) if share]
        #: From this share on figures must be exact.
        self._first = min(acting, default=0.0)
        self.is_watching = has_limit and bool(acting)
        self._timer: Timer | None = None
        if self.is_watching:
            self._timer = loop.call_later(_LOOK, self._tick)

    def close(self) -> None:
        """Stop watching."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def memory(self) -> list[int]:
        """Return what each worker, by number, has for itself."""
        now = self._loop.now()
        if now >= self._kills_due:
            self._kills_due = now + _KILLS
            self._kills_seen = [self._kills_seen[1], self._kills()]
        if self.is_watching:
            return [self._own.get(number, 0) for number in self._core.workers]
        pids = [self._crew.pid(number) for number in self._core.workers]
        return [self._read(pid) if pid else 0 for pid in pids]

    def started(self, number: int) -> None:
        """Take note of what a worker has before it runs anything.

        If that is too much for its limit, to pause or to replace it would not make it less. It
        is given work, and what it is then killed for says what is wrong.
        """
        if not self.is_watching:
            return
        worker, pid = self._core.workers[number], self._crew.pid(number)
        bare = self._bare[number] = self._read(pid) if pid else 0
        lowest = self._low(worker) if self._shares.pause else self._high(worker)
        if lowest and bare >= lowest and number not in self._warned:
            self._warned.add(number)
            _log.warning(
                "worker %s has %s of memory before its first task, of the %s it may have: give "
                "workers more (memory_limit, --memory-limit)",
                worker.name,
                format_bytes(bare),
                format_bytes(worker.memory_limit),
            )

    def _low(self, worker: WorkerRecord) -> float:
        """Return the bytes below which a paused worker runs again."""
        return (self._shares.pause - _RELIEF) * worker.memory_limit

    def _high(self, worker: WorkerRecord) -> float:
        """Return the bytes for itself with which a worker is replaced (0: never)."""
        return self._shares.terminate * worker.memory_limit

    # -------------------------------------------------------------------------- looking

    def _tick(self) -> None:
        self.look()
        close = any(
            self._own.get(worker.number, 0) > _CLOSE * worker.memory_limit > 0
            for worker in self._core.workers.values()
        )
        self._timer = self._loop.call_later(_LOOK_CLOSELY if close else _LOOK, self._tick)

    def look(self) -> None:
        """Look at all workers once, and do what their memory asks for."""
        now = self._loop.now()
        if now >= self._kin_due:
            self._find_kin(now)
        excess = 0
        for worker in self._core.workers.values():
            own = self._measure(worker)
            self._own[worker.number] = own
            if not own or not worker.memory_limit:
                continue
            self._peaks[worker.number] = max(own, self._peaks.get(worker.number, 0))
            charge = own + worker.made
            if self._shares.spill:
                excess += max(0, charge - int(self._shares.spill * worker.memory_limit))
            if self._shares.terminate and own >= self._high(worker):
                self._end(worker, own)
            elif self._shares.pause and self._bare.get(worker.number, 0) < self._low(worker):
                self._pause_or_resume(worker, own, charge, now)
        if excess:
            self._core.on_pressure(excess, now)

    def _measure(self, worker: WorkerRecord) -> int:
        """Return what a worker and the processes of its tasks have for themselves."""
        pid = self._crew.pid(worker.number)
        if not pid or not worker.is_ready:
            return 0
        own = self._read(pid)
        kin = self._kin.get(pid)
        if kin:
            own += sum(map(self._read, kin))
            if own >= self._first * worker.memory_limit:
                # Forked ones share most of it: counted in each, it would be too much.
                own = sum(map(exact_own_bytes, (pid, *kin)))
        return own

    def _find_kin(self, now: float) -> None:
        pids = {self._crew.pid(number) for number in self._core.workers} - {0}
        self._kin = members_of(pids)
        took = self._loop.now() - now
        self._kin_due = now + max(_KIN, took / _KIN_SHARE)

    # --------------------------------------------------------------------------- acting

    def _pause_or_resume(self, worker: WorkerRecord, own: int, charge: int, now: float) -> None:
        number, limit = worker.number, worker.memory_limit
        low = self._low(worker)
        if charge < low:
            self._stuck.discard(number)
        counted = own if number in self._stuck else charge
        if counted >= self._shares.pause * limit:
            reason = (
                f"it has {format_bytes(own)} of memory for itself and {format_bytes(worker.made)} "
                f"of results, more than {self._shares.pause:.0%} of the {format_bytes(limit)} it "
                "may have"
            )
            pausing.pause(self._core, pausing.MEMORY, reason, [number])
        elif counted < low:
            pausing.resume(self._core, pausing.MEMORY, [number])
        self._look_if_stuck(worker, now)
        self._tell(worker, now)
        if own < low or pausing.MEMORY not in worker.pauses or not self._is_idle(worker):
            self._idle_since.pop(number, None)
        elif now - self._idle_since.setdefault(number, now) >= _LEAK_AFTER:
            self._recycle(worker, own)

    def _look_if_stuck(self, worker: WorkerRecord, now: float) -> None:
        """Take note that the results of a paused worker go nowhere.

        To wait for it would be to wait for ever. The store has a limit of its own, and says
        which task it has no room for.
        """
        number = worker.number
        if pausing.MEMORY not in worker.pauses or number in self._stuck:
            self._kept.pop(number, None)
            return
        least, since = self._kept.get(number, (worker.made + 1, now))
        if worker.made < least:
            self._kept[number] = (worker.made, now)
        elif worker.made and now - since >= _STUCK_AFTER and not self._core.spilling.leaving:
            self._stuck.add(number)  # and not only on its way to a slow disk

    def _tell(self, worker: WorkerRecord, now: float) -> None:
        """Log that a worker is paused, once it has been for a while, and that it is no more."""
        number = worker.number
        reason = worker.pauses.get(pausing.MEMORY, "")
        if not reason:
            self._paused_since.pop(number, None)
            if number in self._told:
                self._told.discard(number)
                _log.warning("worker %s gets work again", worker.name)
        elif number not in self._told and (
            now - self._paused_since.setdefault(number, now) >= _TELL_AFTER
        ):
            self._told.add(number)
            _log.warning("worker %s gets no more work for now: %s", worker.name, reason)

    def _is_idle(self, worker: WorkerRecord) -> bool:
        """Whether nothing runs in a worker, and nothing in it would be lost with it."""
        core = self._core
        return not (
            worker.batches
            or worker.ghosts
            or worker.held
            or any(number == worker.number for number in core.actors.values())
            or any(where is worker for where, _ in core.calls.values())
        )

    def _end(self, worker: WorkerRecord, own: int) -> None:
        """Replace a worker that is over its limit."""
        incarnation = self._crew.incarnation(worker.number)
        if not incarnation or (worker.number, incarnation) in self._over:
            return  # it is on its way out
        if self._is_idle(worker):
            if self._bare.get(worker.number, 0) < self._high(worker):
                self._recycle(worker, own)
            return
        text = (
            f"it had {format_bytes(own)} for itself, more than {self._shares.terminate:.0%} of "
            f"its memory limit of {format_bytes(worker.memory_limit)}; give workers more "
            "(memory_limit, --memory-limit) or fewer threads, or each task less to do"
        )
        self._over[worker.number, incarnation] = text
        _log.warning("ending worker %s (pid %d): %s", worker.name, worker.pid, text)
        self._crew.kill(worker.number)

    def _recycle(self, worker: WorkerRecord, own: int) -> None:
        """Replace a worker that runs nothing and still has much."""
        self._idle_since.pop(worker.number, None)
        if not self._crew.incarnation(worker.number):
            return  # it is on its way out
        _log.warning(
            "replacing worker %s (pid %d): it runs nothing and still has %s of the %s it may have",
            worker.name,
            worker.pid,
            format_bytes(own),
            format_bytes(worker.memory_limit),
        )
        self._crew.restart(worker.number)

    def judged(self, end: WorkerEnd, was_killed: bool) -> WorkerEnd:
        """Return how a worker ended, with what is known here of its memory.

        Parameters
        ----------
        end : WorkerEnd
        was_killed : bool
            Whether SIGKILL ended it, from wherever it came.
        """
        number = end.number
        self._own.pop(number, None)
        self._idle_since.pop(number, None)
        self._paused_since.pop(number, None)
        self._kept.pop(number, None)
        own = self._peaks.pop(number, 0)
        over = self._over.pop((number, end.incarnation), "")
        if over:
            return end._replace(cause="was ended by its nanny", peak_memory=own, out_of_memory=over)
        if not was_killed:
            return end
        kills = self._kills()
        if kills > self._kills_seen[0]:
            self._kills_seen = [kills] * 2
            text = "the system ran short of it and chose this process; use fewer workers or threads"
            return end._replace(out_of_memory=text)
        limit = self._core.workers[number].memory_limit
        if self.is_watching and limit and own >= _NEAR * limit:
            return end._replace(
                peak_memory=own,
                out_of_memory=f"it had nearly all of its {format_bytes(limit)} when it was killed",
            )
        return end
