"""Which results go to disk, and when they may be used again from there.

A result in the store is in memory or on disk; its place says which. Those that were not
used for longest go out first, when results take more than the **target** of memory, when
the driver says that memory is short (`Spilling.on_pressure`), and when somebody waits for
room (`zcluster.core.node.room`). What somebody can see at the moment stays: to move it
would free nothing.

A result on disk is used where it is: workers and clients map the file as they map memory.
So nothing needs room to come back, and no two tasks can wait for each other's. Before
its first use, and after a while again, the driver reads it back and compares checksums.
What does not compare is lost, as with a node that is gone: another node has it, or it is
made again.

What takes long is done by the driver: `Effects.to_disk` are jobs, `Spilling.on_done` is
told what came of each. While a job looks at a range it has a lease on it.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zcluster.core.node.records import Assignment, Result
from zcluster.core.node.states import State
from zcluster.protocol.messages import Lost
from zcluster.storage.arena import Range
from zcluster.storage.disk import DiskJob, is_on_disk

if TYPE_CHECKING:
    from zcluster.core.node.inputs import NodeInputs

__all__ = ["FRESH", "HOLDER", "Spilling"]

#: Who holds the leases of jobs.
HOLDER = -1
#: Seconds for which a result that was checked needs no other check.
FRESH = 300.0
#: A disk that was full is tried again after so many seconds.
RETRY = 0.5
#: Results that could not be read, one after the other, before a disk is given up.
_ERRORS = 3
#: How many results are looked at for one that no task here will use.
_LOOKS = 64


@dataclass(slots=True)
class _Job:
    kind: str
    number: int
    result: Result
    #: Where it is written to, or read.
    place: Range
    #: Where it is written from.
    source: Range | None = None


class Spilling:
    """The results of a node that are on disk, on their way there, or next to go.

    Parameters
    ----------
    core : NodeInputs

    Attributes
    ----------
    recent : dict of int to Result
        Results that take room in memory, those first that were not used for longest.
    spilled : dict of int to Result
        Results that are on disk.
    leaving : int
        Bytes of memory that are being written to disk.
    full : str
        Why nothing more goes to disk at present; empty: it does.
    broken : str
        Why the disk is used no more.
    is_fuller : bool
        There may be more in memory than there should be.
    asleep : list
        A heap of ready tasks with inputs on disk that have to be checked.
    opening : dict
        Those of them whose inputs are being checked, with the inputs that are left.
    """

    def __init__(self, core: NodeInputs) -> None:
        self._core = core
        self.recent: dict[int, Result] = {}
        self.spilled: dict[int, Result] = {}
        self.leaving = 0
        self.full = ""
        self.broken = ""
        self.is_fuller = False
        self.asleep: list[tuple[int, int, Assignment]] = []
        self.opening: dict[int, tuple[Assignment, set[int]]] = {}
        self._jobs: dict[int, _Job] = {}
        self._checking: dict[int, list[int]] = {}
        self._errors = 0
        #: What leaves goes because the system wants the memory.
        self._is_pressed = False
        self._retry_at = 0.0
        self._next = 1

    # ----------------------------------------------------------------- what is where

    def note(self, number: int, result: Result) -> None:
        """A result that takes room came to be."""
        place = result.place
        assert place is not None
        if not is_on_disk(place):
            self.recent[number] = result
            self.is_fuller = True
            return
        # There was no room for it in memory. What was written by others is read once for
        # its checksums, while the system still has it in memory.
        self._leave_memory(number, result, place)
        result.fresh_until = self._core.now + FRESH
        self._start(_Job("sum", number, result, place))

    def touch(self, number: int) -> None:
        """A result is being used."""
        result = self.recent.pop(number, None)
        if result is not None:
            self.recent[number] = result

    def forget(self, number: int, result: Result) -> None:
        """A result is no more."""
        if self.recent.get(number) is result:
            del self.recent[number]
        elif self.spilled.get(number) is result:
            del self.spilled[number]

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to be done, or being done."""
        return not (self._jobs or self.asleep or self.opening)

    # ------------------------------------------------------------------------- out

    @property
    def can_write(self) -> bool:
        """Whether results may go to disk now."""
        if not self._core.memory.has_disk or self.broken:
            return False
        return not self.full or (self._core.now >= self._retry_at and not self.leaving)

    def balance(self) -> None:
        """Have results go out until no more than the target is in memory."""
        target = self._core.settings.target
        if not target or not self.can_write:
            return
        over = self._core.memory.used - self.leaving - target
        self.is_fuller = over > 0 and self.spill(over) < over

    def on_pressure(self, excess: int) -> None:
        """Memory is short by so many bytes, whatever the target is."""
        if excess > self.leaving and self.can_write and self.spill(excess - self.leaving):
            self._is_pressed = True

    def spill(self, wanted: int) -> int:
        """Have at least so many bytes of results go out, if there are; return how many go."""
        going = 0
        while going < wanted and self.can_write:
            number = self._next_to_go()
            if number is None:
                break
            result = self.recent.pop(number)
            source = result.place
            assert source is not None
            place = self._core.memory.allocate_on_disk(result.size)
            if place is None:
                self.recent[number] = result
                self.note_full(f"{self._core.memory.disk_space()}")
                break
            self.leaving += source.length
            going += source.length
            self._start(_Job("write", number, result, place, source))
            if self.full:
                break  # one, to see whether there is space again
        return going

    def _next_to_go(self) -> int | None:
        """Return the result that was not used for longest, and that nobody looks at.

        Rather one that no task here will use, if there is one among the first.
        """
        uses, is_leased = self._core.uses, self._core.memory.is_leased
        best = None
        later: list[int] = []
        for looked, (number, result) in enumerate(self.recent.items()):
            if best is not None and looked >= _LOOKS:
                break
            assert result.place is not None
            if is_leased(result.place):
                later.append(number)
            elif number not in uses:
                best = number
                break
            elif best is None:
                best = number
        for number in later:
            # In use: so that the next look does not begin with it.
            self.touch(number)
        return best

    def _start(self, job: _Job) -> None:
        ticket = self._next
        self._next += 1
        self._jobs[ticket] = job
        memory = self._core.memory
        memory.lease(job.place if job.source is None else job.source, HOLDER)
        sums = tuple(job.result.sums or ()) if job.kind == "check" else ()
        told = DiskJob(ticket, job.kind, job.place, job.result.size, job.source, sums)
        self._core.effects.to_disk.append(told)

    def claim(self, place: Range, size: int) -> int:
        """Have space claimed for somebody who will write there; return the ticket."""
        ticket = self._next
        self._next += 1
        self._core.effects.to_disk.append(DiskJob(ticket, "claim", place, size))
        return ticket

    def note_full(self, reason: str) -> None:
        """Take note that there is no space on the disk, or that it cannot be written to."""
        self.full = reason
        self._retry_at = self._core.now + RETRY

    def note_space(self) -> None:
        """Take note that there is space on the disk."""
        self.full = ""

    def _leave_memory(self, number: int, result: Result, place: Range) -> None:
        """Take note that a result is on disk, and charged to nobody."""
        self.forget(number, result)
        charged = result.place
        assert charged is not None
        self._core.charge(result.maker, -charged.length)
        result.maker = -1
        result.place = place
        self.spilled[number] = result

    # ----------------------------------------------------------------------- in again

    def is_open(self, assignment: Assignment) -> bool:
        """Whether all inputs of a task may be used as they are."""
        return not any(map(self._is_stale, assignment.inputs))

    def _is_stale(self, number: int) -> bool:
        result = self._core.results.get(number)
        if result is not None and result.borrowed:
            result = self._core.results[self._core.parts[number][0]]
        if result is None or result.place is None or not is_on_disk(result.place):
            return False
        return result.fresh_until < self._core.now

    def sleep(self, entry: tuple[int, int, Assignment]) -> None:
        """Put a ready task aside until its inputs were checked."""
        heapq.heappush(self.asleep, entry)

    def wake(self) -> None:
        """Begin to check what the next tasks need, for as many as will find a slot soon."""
        core = self._core
        most = 2 * sum(worker.slots for worker in core.workers.values())
        while self.asleep and len(self.opening) < most:
            entry = heapq.heappop(self.asleep)
            _, task, assignment = entry
            if assignment.state != State.READY or core.tasks.get(task) is not assignment:
                continue
            stale = {self._whole(number) for number in assignment.inputs if self._is_stale(number)}
            if not stale:
                heapq.heappush(core.ready, entry)
                continue
            self.opening[task] = (assignment, stale)
            for number in stale:
                self._check(number).append(task)

    def _whole(self, number: int) -> int:
        """Return the number of what has the bytes of an input."""
        return self._core.parts[number][0] if self._core.results[number].borrowed else number

    def open(self, number: int) -> bool:
        """Whether a result may be used now; if not, `Effects.opened` will name it."""
        if not self._is_stale(number):
            return True
        self._check(number)
        return False

    def _check(self, number: int) -> list[int]:
        """Have a result checked; return the list of the tasks that wait for it."""
        waiting = self._checking.get(number)
        if waiting is None:
            waiting = self._checking[number] = []
            result = self._core.results[number]
            assert result.place is not None
            self._start(_Job("check", number, result, result.place))
        return waiting

    # -------------------------------------------------------------------- jobs done

    def on_done(self, ticket: int, sums: list[int], error: str, is_full: bool) -> bool:
        """A job is done; False if it is not one of ours."""
        job = self._jobs.pop(ticket, None)
        if job is None:
            return False
        core = self._core
        result, number = job.result, job.number
        is_here = core.results.get(number) is result
        if job.kind == "write":
            self._written(job, sums, error)
        elif error and is_here:
            self._lose(number, error)
        else:
            result.sums = sums
            result.fresh_until = core.now + FRESH
            self._errors = 0
        core.memory.give_back(job.place if job.source is None else job.source, HOLDER)
        if job.kind == "check":
            self._checked(number)
        self._release()
        return True

    def _written(self, job: _Job, sums: list[int], error: str) -> None:
        core = self._core
        result, source = job.result, job.source
        assert source is not None
        self.leaving -= source.length
        if not error:
            self.note_space()
        if error or core.results.get(job.number) is not result:
            core.memory.free(job.place)
            if error:
                # It stays where it is, and is the last to be tried again.
                self.note_full(error)
                if core.results.get(job.number) is result:
                    self.recent[job.number] = result
                    self.is_fuller = True
            return
        self._leave_memory(job.number, result, job.place)
        result.sums = sums
        core.memory.free(source)

    def _release(self) -> None:
        """Give back memory that results have left under pressure."""
        if self._is_pressed and not self.leaving:
            self._is_pressed = False
            self._core.memory.release()

    def _checked(self, number: int) -> None:
        """Wake who has waited for a check; what was lost has taken its tasks along."""
        core = self._core
        core.effects.opened.append(number)
        for task in self._checking.pop(number, ()):
            entry = self.opening.get(task)
            if entry is None:
                continue
            assignment, stale = entry
            stale.discard(number)
            if stale:
                continue
            del self.opening[task]
            if assignment.state == State.READY and core.tasks.get(task) is assignment:
                heapq.heappush(core.ready, (assignment.rank, task, assignment))

    def _lose(self, number: int, error: str) -> None:
        """What was read is not what was written, or cannot be read: it is no longer here."""
        core = self._core
        self._errors += 1
        if self._errors >= _ERRORS:
            self.broken = f"{self._errors} results in a row could not be read back: {error}"
        gone = {number}
        gone.update(
            part
            for part, (task, _, _) in core.parts.items()
            if task == number and part in core.results and core.results[part].borrowed
        )
        core.effects.lost_on_disk.append(error)
        core.give_back(
            [
                assignment
                for assignment in core.tasks.values()
                if assignment.state != State.SENT and not gone.isdisjoint(assignment.inputs)
            ]
        )
        # What was lent is gone with the last of them, unless tasks that run still look at it.
        for part in gone & core.results.keys():
            result = core.results.pop(part)
            if part >= 0:
                core.passing.discard(part)
                if not result.lent:
                    core.effects.to_scheduler.append((Lost([part]), ()))
            if not result.borrowed:
                core.let_go(part, result)
                if part < 0:  # it counts as a use of the whole again, as it is not here
                    whole = core.parts[part][0]
                    core.uses[whole] = core.uses.get(whole, 0) + 1

    # ------------------------------------------------------------------- invariants

    def check(self) -> list[str]:
        """Return what contradicts itself; for tests."""
        core, wrong = self._core, []
        for name, table, on_disk in (("memory", self.recent, False), ("disk", self.spilled, True)):
            for number, result in table.items():
                if core.results.get(number) is not result:
                    wrong.append(f"result {number} in {name} is not known any more")
                elif result.place is None or is_on_disk(result.place) != on_disk:
                    wrong.append(f"result {number} is not in {name}, but at {result.place}")
        writing = {job.number for job in self._jobs.values() if job.kind == "write"}
        recent, spilled = self.recent, self.spilled
        for number, result in core.results.items():
            if result.place is None or number in recent or number in spilled or number in writing:
                continue
            wrong.append(f"result {number} is neither known in memory nor on disk")
        leaving = sum(job.source.length for job in self._jobs.values() if job.source is not None)
        if leaving != self.leaving:
            wrong.append(f"{self.leaving} bytes are leaving by count, not {leaving}")
        return wrong
