"""Tasks that are ready, in order: fair between clients, by rank within one.

An entry is ``(rank, task, count)``: a run of consecutive tasks with consecutive
ranks, so that a million independent tasks are one entry, cut as it is used.
Ranks order by the user's priority first, then by age; between clients whose best
entries have the same priority the queues take turns.

An entry may be stale (its task cancelled, or finished by an earlier attempt):
whoever takes a task looks at its state.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator

from zcluster.core.scheduler.records import Profile

__all__ = ["PRIORITY_SHIFT", "Entry", "Kept", "ReadyQueues", "base_rank"]

Entry = tuple[int, int, int]

#: A rank is ``-priority << 55 | generation << 32 | order``: it travels in 64 bits.
PRIORITY_SHIFT = 55
_GENERATION_SHIFT = 32
#: Priorities past this count as this.
_MOST = 127
#: After so many submissions the count of ages starts over: for a moment young goes first.
_GENERATIONS = 1 << PRIORITY_SHIFT - _GENERATION_SHIFT


def base_rank(priority: int, generation: int, is_inner: bool = False) -> int:
    """Return the rank of order zero in a submission.

    What tasks submit (``is_inner``) comes before what clients submit of the same priority,
    and the youngest first: somebody waits for it and holds a thread, and so it goes down
    into a recursion before it goes along.
    """
    level = max(-_MOST, min(_MOST, priority + is_inner))
    if is_inner:
        generation = -generation
    return (-level << PRIORITY_SHIFT) + (generation % _GENERATIONS << _GENERATION_SHIFT)


class Kept:
    """The tasks kept for a node, and the inputs on their way to it for tasks of other nodes.

    See `zcluster.core.scheduler.keeping`.

    Attributes
    ----------
    tasks : list of (int, int)
        Ranks and tasks, sorted.
    moved : float
        When the node last took one, or had the first of them.
    fetched : set of int
        Inputs that tasks need that were kept for others and given to this node.
    fetched_at : float
        When the last of those is expected to be there.
    """

    __slots__ = ("_has_turn", "fetched", "fetched_at", "moved", "tasks")

    def __init__(self) -> None:
        self.tasks: list[tuple[int, int]] = []
        self.moved = 0.0
        self.fetched: set[int] = set()
        self.fetched_at = 0.0
        self._has_turn = False

    def is_before(self, top: Entry | None) -> bool:
        """Whether it is the first task's turn, and not that of the entry all nodes may take.

        With a task of another client of the same priority it takes turns.
        """
        if top is None:
            return True
        rank, task = self.tasks[0]
        if task >> 40 == top[1] >> 40 or rank >> PRIORITY_SHIFT != top[0] >> PRIORITY_SHIFT:
            return rank < top[0]
        self._has_turn = not self._has_turn
        return self._has_turn


class ReadyQueues:
    """One heap a client, and a turn between them.

    Tasks that only some workers may run wait in heaps of their own
    (``restricted``), by what a worker must be; those that are to be tried again later in
    ``delayed``, as (when, rank, task); those that wait for the node that has their large
    inputs in ``kept``, by node.
    """

    __slots__ = ("_heaps", "_turns", "delayed", "kept", "restricted")

    def __init__(self) -> None:
        self._heaps: dict[int, list[Entry]] = {}
        self._turns: list[int] = []
        self.restricted: dict[Profile, list[Entry]] = {}
        self.delayed: list[tuple[float, int, int]] = []
        self.kept: dict[int, Kept] = {}

    def __bool__(self) -> bool:
        return bool(self._heaps)

    def push(self, client: int, entry: Entry) -> None:
        """Add a run of ready tasks of a client."""
        heap = self._heaps.get(client)
        if heap is None:
            self._heaps[client] = [entry]
            self._turns.append(client)
        else:
            heapq.heappush(heap, entry)

    def push_restricted(self, profile: Profile, entry: Entry) -> None:
        """Add a ready task that only such workers may run."""
        heapq.heappush(self.restricted.setdefault(profile, []), entry)

    def push_delayed(self, when: float, entry: Entry) -> None:
        """Add a ready task that is not to run before a certain time."""
        heapq.heappush(self.delayed, (when, entry[0], entry[1]))

    def take_due(self, now: float) -> Iterator[int]:
        """Remove and yield the delayed tasks whose time has come."""
        while self.delayed and self.delayed[0][0] <= now:
            yield heapq.heappop(self.delayed)[2]

    def peek(self) -> Entry | None:
        """Return the entry whose turn it is."""
        turns = self._turns
        if not turns:
            return None
        if len(turns) > 1:
            self._give_turn_to_highest_priority()
        return self._heaps[turns[0]][0]

    def _give_turn_to_highest_priority(self) -> None:
        turns, heaps = self._turns, self._heaps
        best = min(heaps[client][0][0] >> PRIORITY_SHIFT for client in turns)
        while heaps[turns[0]][0][0] >> PRIORITY_SHIFT != best:
            turns.append(turns.pop(0))

    def head(self) -> Entry | None:
        """Return the entry `take` would take from, without giving a turn to anybody."""
        return self._heaps[self._turns[0]][0] if self._turns else None

    def take(self, most: int) -> Entry:
        """Remove and return up to ``most`` tasks of the entry `peek` shows."""
        client = self._turns[0]
        heap = self._heaps[client]
        rank, task, count = heap[0]
        if count > most:
            heap[0] = (rank + most, task + most, count - most)
            if len(heap) > 1:
                # The rest of the run may now come after another entry.
                heapq.heapreplace(heap, heap[0])
            return rank, task, most
        heapq.heappop(heap)
        if not heap:
            del self._heaps[client]
            self._turns.pop(0)
        return rank, task, count

    def next_turn(self) -> None:
        """Let the next client go first."""
        if len(self._turns) > 1:
            self._turns.append(self._turns.pop(0))

    def entries(self) -> Iterator[list[Entry]]:
        """Yield the entries of each queue, stale ones included."""
        yield from self._heaps.values()
        yield from self.restricted.values()
        if self.delayed:
            yield [(rank, task, 1) for _, rank, task in self.delayed]
        for kept in self.kept.values():
            yield [(rank, task, 1) for rank, task in kept.tasks]

    def first_tasks(self) -> list[int]:
        """Return the first task of each run that is queued without a profile."""
        return [task for heap in self._heaps.values() for _, task, _ in heap]

    def lengths(self) -> dict[int, int]:
        """Return the number of entries by client, stale ones included."""
        return {client: len(heap) for client, heap in self._heaps.items()}
