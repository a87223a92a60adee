"""A `Run` message made ready for a slot: the tasks it runs back to back.

The loop's thread makes a batch and may recall tasks from it; one slot's thread runs
it. They meet in one place, the deque ``todo`` of positions that have not started:
the slot takes from its left end, a recall removes from anywhere, and each of these is
one step for the interpreter. So a task is either started or recalled, never both, and
it costs the slot a ``popleft`` and no lock.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Collection
from itertools import accumulate
from typing import Any

from zcluster.errors import ProtocolError
from zcluster.protocol.messages import Run
from zcluster.protocol.selections import selection_from
from zcluster.servers.values import Lease, Source

__all__ = ["Batch"]


class Batch:
    """The tasks of one `Run`.

    Parameters
    ----------
    run : Run
    frames : list of bytes
        The payload: constants, inline inputs, callables.
    returns : deque
        Where leases that have ended go.

    Attributes
    ----------
    actors : list of int
        Tasks whose result stays in this worker, and is called there.
    tasks, uses, report : list of int
        Columns of the message.
    todo : deque of int
        Positions of the tasks that have not started.
    inputs, indptr : list of int
        The inputs of the task at position ``i`` are ``inputs[indptr[i]:indptr[i + 1]]``.
    groups : list of lists of int
        How trailing inputs form list arguments; empty, or one list per task.
    constants, offsets
        The constant of position ``i`` is ``constants[offsets[i]:offsets[i + 1]]``.
    inline : bytes
        The blobs that some sources point into.
    cuts : dict
        The selections of inputs that came whole and of which a part is taken.
    sources : dict
        Where the inputs are that are not held in the worker.
    threads : int
        Slots the one task of this batch takes, or 1.
    ended : bool
        Set by the slot when nothing is left to do.

    Raises
    ------
    ProtocolError
        If the columns do not fit together.
    """

    __slots__ = (
        "_ends",
        "_runs",
        "actors",
        "constants",
        "cuts",
        "ended",
        "groups",
        "indptr",
        "inline",
        "inputs",
        "offsets",
        "report",
        "sources",
        "tasks",
        "threads",
        "todo",
        "uses",
    )

    def __init__(self, run: Run, frames: list[bytes], returns: deque[tuple[int, int, int]]) -> None:
        self.actors = run.actors
        self.tasks = run.tasks
        self.uses = run.uses
        self.report = run.report
        self.inputs = run.inputs
        self.groups = run.groups
        self.offsets = run.offsets
        self.constants = bytes(frames[0]) if frames else b""
        self.inline = bytes(frames[1]) if len(frames) > 1 else b""
        self.indptr = list(accumulate(run.arities, initial=0))
        self.todo = deque(range(len(run.tasks)))
        self.ended = False
        self.threads = run.threads
        self.cuts = {key: selection_from(kind, chosen) for key, kind, chosen in run.cuts}
        self._runs = run.runs
        self._ends = list(accumulate(count for _, _, count in run.runs))
        self._check(run)
        self.sources = _sources(run, self.inline, returns)

    def _check(self, run: Run) -> None:
        count = len(run.tasks)
        fits = (
            len(run.arities) == len(run.uses) == len(run.report) == count
            and self.indptr[-1] == len(run.inputs)
            and (not run.groups or len(run.groups) == count)
            and (not run.offsets or len(run.offsets) == count + 1)
            and (self._ends[-1] if self._ends else 0) == count
        )
        if not fits:
            raise ProtocolError(
                f"a run of {count} tasks has columns of other lengths; expected one arity, one "
                "use and one report per task, arities that sum to the inputs, runs that sum to "
                "the tasks"
            )

    def segment(self, position: int) -> tuple[bytes, int, int]:
        """Return the callable's digest and the call form at a position, and where they end."""
        which = bisect_right(self._ends, position)
        digest, form, _ = self._runs[which]
        return digest, form, self._ends[which]

    def constant(self, position: int) -> bytes | bytearray | None:
        """Return the constant of a task, if it has one; writable unless it is a plain pickle."""
        if not self.offsets:
            return None
        blob = self.constants[self.offsets[position] : self.offsets[position + 1]]
        return blob if blob[:1] == b"\x80" else bytearray(blob)

    def grouped(self, position: int, arguments: list[Any]) -> list[Any]:
        """Return a task's inputs with the trailing ones folded into lists."""
        lengths = self.groups[position]
        start = len(arguments) - sum(lengths)
        folded = arguments[:start]
        for length in lengths:
            folded.append(arguments[start : start + length])
            start += length
        return folded

    def recall(self, wanted: Collection[int] | None = None) -> list[int]:
        """Take back those of the wanted tasks (None: all) that have not started.

        What they would have used from the store is released; held values stay.
        """
        recalled = []
        for position in reversed(list(self.todo)):
            task = self.tasks[position]
            if wanted is not None and task not in wanted:
                continue
            try:
                self.todo.remove(position)
            except ValueError:  # it has started meanwhile
                continue
            self._release(position)
            recalled.append(task)
        recalled.reverse()
        return recalled

    def recall_others(self, task: int) -> list[int]:
        """Take back what has not started and does not need the result of a task."""
        stay = {task}
        wanted = set()
        for position in list(self.todo):
            inputs = self.inputs[self.indptr[position] : self.indptr[position + 1]]
            if stay.isdisjoint(inputs):
                wanted.add(self.tasks[position])
            else:
                stay.add(self.tasks[position])
        return self.recall(wanted)

    def _release(self, position: int) -> None:
        if self.sources:
            for key in self.inputs[self.indptr[position] : self.indptr[position + 1]]:
                source = self.sources.get(key)
                if isinstance(source, Lease):
                    source.end()


def _sources(run: Run, inline: bytes, returns: deque[tuple[int, int, int]]) -> dict[int, Source]:
    sources: dict[int, Source] = {}
    start = 0
    for key, length in run.inline:
        sources[key] = (start, start + length)
        start += length
    if start > len(inline):
        raise ProtocolError(
            f"the inline inputs of a run have {start} bytes, but its frame 1 has {len(inline)}"
        )
    if run.ranges:
        uses = Counter(run.inputs)
        for key, slab, offset, length in run.ranges:
            sources[key] = Lease((slab, offset, length), uses[key], returns)
    return sources
