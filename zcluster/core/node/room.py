"""Who waits for room in the store, and how it comes to be.

Workers want room for results, fetches for inputs, clients for data they put here. Where
memory has none, they wait in line: first what runs (its end frees what it holds), then
inputs, those first whose tasks come first, then data.

The first in line gets room by results that go to disk; if all that is in memory is
in use, it gets room on disk itself. So nobody who waits holds up what he waits for, as
long as the disk has space. An input that no task waits for any more leaves the line.
Without a disk, or when it is full, he waits while something is freed now and then.
When nothing was for a while, an input's room is taken from tasks that come later: they
go back to the scheduler. If there are none, the one who waits is refused, with figures.
"""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from zcluster.core.node.records import Assignment, RoomGiven
from zcluster.core.node.states import State
from zcluster.protocol.messages import Grant
from zcluster.storage.arena import Range

if TYPE_CHECKING:
    from zcluster.core.node.inputs import NodeInputs

__all__ = ["Room"]

#: Seconds in which nothing has to be freed for one who waits to be refused, when nothing
#: runs: so long what the scheduler lets go of may be on its way.
_GRACE = 0.5
#: Seconds that somebody waits before the node takes no more work.
_PAUSE_AFTER = 0.1
#: Seconds for which it takes none then, unless something is freed; twice as long each time again.
_HOLD, _LONGEST_HOLD = 1.0, 8.0
#: So often in a row what waits goes back to the scheduler; then the first one stays, to have room
#: or be refused.
_MOST_TROUBLES = 3
_RUNNING, _INPUT, _DATA = range(3)


@dataclass(slots=True, order=True)
class _Wanted:
    """One who waits. Those of a smaller kind come first, then of a smaller rank."""

    kind: int
    rank: int
    order: int
    size: int = field(compare=False)
    #: The input's number, the data's ticket, or the task.
    number: int = field(compare=False)
    since: float = field(compare=False)
    worker: int = field(default=-1, compare=False)
    request: int = field(default=0, compare=False)


class Room:
    """Those who wait for room in a node's store.

    Parameters
    ----------
    core : NodeInputs

    Attributes
    ----------
    waiting : list
        In line.
    """

    def __init__(self, core: NodeInputs) -> None:
        self._core = core
        self.waiting: list[_Wanted] = []
        #: Those for whom space on disk is being claimed, by ticket.
        self._claims: dict[int, tuple[_Wanted, Range]] = {}
        self._order = 0
        #: What was in use at the last look, and when it was last less than before.
        self._used = 0
        self._freed_at = 0.0
        #: Why no more work was taken last, until when, what was in use then, how often in a row.
        self._trouble = ""
        self._trouble_ends = 0.0
        self._trouble_used = 0
        self._troubles = 0

    # ------------------------------------------------------------------------ asking

    def take(self, size: int) -> Range | None:
        """Return room if there is some at once, and nobody waits for it."""
        return None if self.waiting else self._core.memory.allocate(size)

    def want_result(self, worker: int, task: int, request: int, size: int) -> None:
        """A worker wants room for a result."""
        self._want(_RUNNING, 0, size, task, worker, request)

    def want_input(self, number: int, size: int) -> None:
        """An input that is being fetched has this size; `Effects.room` will answer."""
        waiting = self._core.awaited.get(number, ())
        self._want(_INPUT, min((a.rank for a in waiting), default=0), size, number)

    def want_data(self, ticket: int, size: int) -> None:
        """Data that comes from outside; `Effects.room` will answer."""
        self._want(_DATA, 0, size, ticket)

    def _want(
        self, kind: int, rank: int, size: int, number: int, worker: int = -1, request: int = 0
    ) -> None:
        self._order += 1
        now = self._core.now
        if not self.waiting:
            self._used, self._freed_at = self._core.memory.used, now
        wanted = _Wanted(kind, rank, self._order, size, number, now, worker, request)
        insort(self.waiting, wanted)

    def withdraw(self, worker: int, task: int | None = None) -> None:
        """A task ended without its result, or (None) a worker did, and wants no room."""
        self.waiting = [
            w for w in self.waiting if w.worker != worker or task not in (None, w.number)
        ]
        for ticket, (wanted, place) in list(self._claims.items()):
            if wanted.worker == worker and task in (None, wanted.number):
                self._claims[ticket] = (self._nobody(wanted), place)

    @staticmethod
    def _nobody(wanted: _Wanted) -> _Wanted:
        return _Wanted(-1, 0, wanted.order, wanted.size, wanted.number, wanted.since)

    @property
    def is_idle(self) -> bool:
        """Whether nobody waits."""
        return not self.waiting and not self._claims

    # ----------------------------------------------------------------------- serving

    def serve(self) -> None:
        """Give room to those who wait, as far as there is some, and make more."""
        core = self._core
        memory = core.memory
        used = memory.used
        if used < self._used:
            self._freed_at = core.now
        self._used = used
        while self.waiting:
            first = self.waiting[0]
            if first.kind == _INPUT and not self._is_awaited(first.number):
                del self.waiting[0]
                core.effects.room.append(RoomGiven(first.number, None, True))
                continue
            place = memory.allocate(first.size) if first.size <= memory.limit else None
            if place is not None:
                del self.waiting[0]
                self._give(first, place)
            elif not self._make_room(first):
                return

    def _is_awaited(self, number: int) -> bool:
        """Whether a task waits for an input, or the scheduler wants it kept here."""
        return number in self._core.awaited or number in self._core.copying

    def _make_room(self, first: _Wanted) -> bool:
        """Do what can be done for the first in line; True: it is in line no longer."""
        core = self._core
        spilling = core.spilling
        if first.size <= core.memory.limit:
            if spilling.leaving:
                return False
            if spilling.spill(sum(wanted.size for wanted in self.waiting)):
                return False
        if spilling.can_write:
            place = core.memory.allocate_on_disk(first.size)
            if place is not None:
                del self.waiting[0]
                self._claims[spilling.claim(place, first.size)] = (first, place)
                return True
            spilling.note_full(core.memory.disk_space())
        return self._is_hopeless(first) and self._refuse(first)

    def _is_hopeless(self, first: _Wanted) -> bool:
        """Whether there is no point in waiting any longer."""
        core = self._core
        if first.size > core.memory.limit and not self._has_disk:
            return True
        patience = core.settings.room_patience if self._is_running() else _GRACE
        return core.now - max(first.since, self._freed_at) > patience

    @property
    def _has_disk(self) -> bool:
        return self._core.memory.has_disk and not self._core.spilling.broken

    def _is_running(self) -> bool:
        """Whether a task runs that does not wait for room, or for others, itself."""
        waiting = {(wanted.worker, wanted.number) for wanted in self.waiting}
        return any(
            (worker.number, task) not in waiting and task not in worker.blocked
            for worker in self._core.workers.values()
            for batch in worker.batches
            for task in batch.tasks
        )

    def on_claimed(self, ticket: int, error: str, is_full: bool) -> None:
        """Space on disk was claimed for somebody, or could not be."""
        core = self._core
        wanted, place = self._claims.pop(ticket)
        if error:
            core.memory.free(place)
            core.spilling.note_full(error)
            if wanted.kind >= 0:
                insort(self.waiting, wanted)
            return
        core.spilling.note_space()
        if wanted.kind < 0:
            core.memory.free(place)
        else:
            self._give(wanted, place)

    def _give(self, wanted: _Wanted, place: Range) -> None:
        core = self._core
        self._trouble, self._troubles = "", 0
        if wanted.kind == _RUNNING:
            core.grant(wanted.worker, wanted.number, wanted.request, place)
        else:
            core.effects.room.append(RoomGiven(wanted.number, place, wanted.kind == _INPUT))

    def _refuse(self, wanted: _Wanted) -> bool:
        core = self._core
        if wanted.kind == _INPUT and self._take_from_later(wanted):
            self._freed_at = core.now
            return False
        self.waiting.remove(wanted)
        full = core.spilling.full or core.spilling.broken
        reason = self.explain(wanted.size)
        if wanted.kind == _RUNNING:
            answer = Grant(wanted.request, -2 if full else -1, 0, 0, reason)
            core.effects.to_workers.append((wanted.worker, answer, []))
        else:
            is_input = wanted.kind == _INPUT
            core.effects.room.append(RoomGiven(wanted.number, None, is_input, reason, bool(full)))
        # What it holds may be freed now: the next one waits anew.
        self._freed_at = core.now
        return True

    def explain(self, size: int) -> str:
        """Say why there is no room."""
        core = self._core
        memory, spilling = core.memory, core.spilling
        text = (
            f"the store of node {core.name} has no room for {size} bytes ({memory.used} of "
            f"{memory.limit} are in use"
        )
        if spilling.full or spilling.broken:
            return (
                f"{text}), and neither has its disk: {spilling.full or spilling.broken}; release "
                "results, or give it a folder with more space by --local-directory"
            )
        why = "" if memory.has_disk else ", and results do not go to disk here"
        return f"{text}{why}); release results, or start the node with a larger memory limit"

    def _take_from_later(self, wanted: _Wanted) -> bool:
        """Give back the last task that has fetched what takes room; False if there is none.

        With it go those that share what it has fetched, or nothing would be freed. What those who
        wait take themselves stays, whoever else goes.
        """
        core = self._core
        waiting = core.awaited.get(wanted.number, ())
        needed = {source for assignment in waiting for source in assignment.inputs}
        others = [a for a in core.tasks.values() if self._fetched(a) - needed]
        if not others:
            return False
        last = max(others, key=lambda assignment: (assignment.rank, assignment.task))
        sources = self._fetched(last) - needed
        core.give_back([a for a in others if not sources.isdisjoint(a.inputs)])
        return True

    def _fetched(self, assignment: Assignment) -> set[int]:
        """Return the inputs of a task that is not sent yet which were fetched for tasks."""
        if assignment.state == State.SENT:
            return set()
        results = self._core.results
        return {
            source
            for source in assignment.inputs
            if source in results and results[source].lent and results[source].place is not None
        }

    # -------------------------------------------------------------------- for others

    def trouble(self) -> str:
        """Say why the node should take no more work for now; empty: it may."""
        core = self._core
        spilling = core.spilling
        if spilling.broken:
            return spilling.broken
        used = core.memory.used
        if used < self._trouble_used:
            self._trouble, self._troubles, self._trouble_used = "", 0, used
        first = self.waiting[0] if self.waiting else None
        if first is None or not spilling.full or core.now - first.since < _PAUSE_AFTER:
            # What was waiting has gone back. If it came again at once, it would wait again: others
            # have their chance first.
            return self._trouble if core.now < self._trouble_ends else ""
        if core.now >= self._trouble_ends or not self._trouble:
            self._trouble_ends = core.now + min(_HOLD * 2**self._troubles, _LONGEST_HOLD)
            self._trouble_used = used
            self._troubles += 1
        self._trouble = (
            f"memory has no room for more results ({used} of {core.memory.limit} bytes are in "
            f"use), and neither has the disk: {spilling.full}"
        )
        return self._trouble

    def note_given_back(self) -> None:
        """Tasks went back; what they had fetched is gone with them, and makes no room for them."""
        self._trouble_used = min(self._trouble_used, self._core.memory.used)

    def stays(self, assignment: Assignment) -> bool:
        """Whether a task is to wait on where others go back, as going back did not help."""
        if self._troubles <= _MOST_TROUBLES or not self.waiting:
            return False
        first = self.waiting[0]
        waiting = self._core.awaited.get(first.number, ()) if first.kind == _INPUT else ()
        return any(other is assignment for other in waiting)
