"""What the slots of a worker have to say, on its way to the loop's thread.

Slots put records in, one at a time and without a lock; the loop's thread takes all
there are and makes messages of them. So results of several slots leave in one
message, and a result waits in nobody's hands: whatever was put in before a wake-up
leaves with it.

The order on the wire keeps what readers rely on: leases are returned before room is
asked for, and a task that failed is told before those skipped because of it.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import TypeAlias

import msgspec

from zcluster.protocol.messages import (
    Blocked,
    Done,
    ErrorInfo,
    Failed,
    Grant,
    Message,
    Recalled,
    Reserve,
    Return,
    Skipped,
)
from zcluster.servers.output import Output

__all__ = ["DoneRecord", "Outbox"]

#: (task, what `Done.lengths` says, µs, blob).
DoneRecord: TypeAlias = tuple[int, int, int, bytes]

#: The most records of one message: with blobs of 16 KiB, 32 MiB of payload.
_RECORDS = 2048
#: The most errors of one message: with texts of 110 KiB, 7 MiB of control frame.
_ERRORS = 64


class Outbox:
    """Records from slots, and the answers that slots wait for.

    Parameters
    ----------
    returns : deque
        Places of leases that have ended, filled by finalisers.
    wake : callable
        Ends the wait of the loop's thread.

    Attributes
    ----------
    done : deque of DoneRecord
    skipped : deque of int
    blocked : deque of (int, bool)
        Running tasks that hold no slot any more (True) or do again.
    recalled : deque of int
        Tasks that would have waited behind one of those.
    output : Output or None
        What tasks print; all that a task has printed leaves before its record.
    ranges : dict
        The (slab, offset, length) of results written to the store, put in before the
        task's record.
    """

    def __init__(
        self,
        returns: deque[tuple[int, int, int]],
        wake: Callable[[], None],
        output: Output | None = None,
    ) -> None:
        self.done: deque[DoneRecord] = deque()
        self.failed: deque[tuple[ErrorInfo, bytes]] = deque()
        self.skipped: deque[int] = deque()
        self.blocked: deque[tuple[int, bool]] = deque()
        self.recalled: deque[int] = deque()
        self.ranges: dict[int, tuple[int, int, int]] = {}
        self.wake = wake
        self.output = output
        self._returns = returns
        self._requests: deque[Reserve] = deque()
        self._numbers = itertools.count(1)
        self._waiting: dict[int, tuple[int, SimpleQueue[Grant]]] = {}

    # -------------------------------------------------------------------- slots

    def reserve(self, task: int, size: int, timeout: float) -> Grant | None:
        """Ask for room in the store and wait for the answer; None: none came in time."""
        number = next(self._numbers)
        answer: SimpleQueue[Grant] = SimpleQueue()
        self._waiting[number] = task, answer
        self._requests.append(Reserve(number, task, size))
        self.wake()
        try:
            return answer.get(timeout=timeout)
        except Empty:
            return None
        finally:
            del self._waiting[number]

    # --------------------------------------------------------------- the loop

    def grant(self, grant: Grant) -> None:
        """Hand an answer to the slot that waits; one that gave up has failed its task."""
        waiting = self._waiting.get(grant.request)
        if waiting is not None:
            waiting[1].put(grant)

    def refuse(self, task: int, reason: str) -> None:
        """Let a task wait for room no longer."""
        for number, (waiting, answer) in list(self._waiting.items()):
            if waiting == task:
                answer.put(Grant(number, -1, 0, 0, reason))

    def drain(self) -> list[tuple[Message, list[bytes]]]:
        """Return messages of everything there is, with their payload frames."""
        # Counted first: the failure that a skipped task follows from was put in before it.
        skipped = len(self.skipped)
        failed = len(self.failed)
        messages: list[tuple[Message, list[bytes]]] = []
        if self._returns:
            places = [self._returns.popleft() for _ in range(len(self._returns))]
            messages.append((Return(places), []))
        while self.blocked:
            # Before the record of the task, which ends all that is known of it.
            task, away = self.blocked.popleft()
            messages.append((Blocked([task], away), []))
        if self.recalled:
            back = [self.recalled.popleft() for _ in range(len(self.recalled))]
            messages.append((Recalled(back, [0] * len(back)), []))
        while self.done:
            messages.append(self._take_done(min(len(self.done), _RECORDS)))
        while failed > 0:
            messages.append(self._take_failed(min(failed, _ERRORS)))
            failed -= _ERRORS
        if skipped:
            messages.append((Skipped([self.skipped.popleft() for _ in range(skipped)]), []))
        while self._requests:
            messages.append((self._requests.popleft(), []))
        if self.output is not None:
            # Taken last and said first: a task printed it before its record was put in.
            messages[:0] = self.output.take()
        return messages

    def _take_done(self, count: int) -> tuple[Message, list[bytes]]:
        take = self.done.popleft
        tasks, lengths, durations, blobs = zip(*[take() for _ in range(count)], strict=True)
        ranges: list[tuple[int, int, int, int]] = []
        if -1 in lengths:
            stored = [task for task, length in zip(tasks, lengths, strict=True) if length == -1]
            ranges = [(task, *self.ranges.pop(task)) for task in stored]
        payload = b"".join(blobs)
        done = Done(list(tasks), list(lengths), list(durations), ranges)
        return done, [payload] if payload else []

    def _take_failed(self, count: int) -> tuple[Message, list[bytes]]:
        infos: list[ErrorInfo] = []
        payload = bytearray()
        for _ in range(count):
            info, pickled = self.failed.popleft()
            if pickled:
                place = (0, len(payload), len(payload) + len(pickled))
                info = msgspec.structs.replace(info, exception=place)
                payload += pickled
            infos.append(info)
        tasks = [info.origin for info in infos]
        message = Failed(tasks, [0] * count, list(range(count)), infos)
        return message, [bytes(payload)] if payload else []
