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

__all__ = ["PRIORITY_SHIFT", "Entry", "ReadyQueues", "base_rank"]

Entry = tuple[int, int, int]

#: A rank is ``-priority << 55 | generation << 32 | order``: it travels in 64 bits.
PRIORITY_SHIFT = 55
_GENERATION_SHIFT = 32
#: Priorities past this count as this.
_MOST = 127
#: After so many submissions the count of ages starts over: for a moment young goes first.
_GENERATIONS = 1 << PRIORITY_SHIFT - _GENERATION_SHIFT


def base_rank(priority: int, generation: int) -> int:
    """Return the rank of order zero in a submission."""
    level = max(-_MOST, min(_MOST, priority))
    return (-level << PRIORITY_SHIFT) + (generation % _GENERATIONS << _GENERATION_SHIFT)


class ReadyQueues:
    """One heap a client, and a turn between them.

    Tasks that only some workers may run wait in heaps of their own
    (``restricted``), by the tuple of worker names.
    """

    __slots__ = ("_heaps", "_turns", "restricted")

    def __init__(self) -> None:
        self._heaps: dict[int, list[Entry]] = {}
        self._turns: list[int] = []
        self.restricted: dict[tuple[str, ...], list[Entry]] = {}

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

    def push_restricted(self, workers: tuple[str, ...], entry: Entry) -> None:
        """Add a ready task that only these workers may run."""
        heapq.heappush(self.restricted.setdefault(workers, []), entry)

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

    def lengths(self) -> dict[int, int]:
        """Return the number of entries by client, stale ones included."""
        return {client: len(heap) for client, heap in self._heaps.items()}
