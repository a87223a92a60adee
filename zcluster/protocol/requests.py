"""What clients and the scheduler say of tasks: wanted, settled, asked about.

Part of the contract in `zcluster.protocol.messages`; see there for the words.
"""

from __future__ import annotations

import msgspec

from zcluster.protocol.records import ErrorInfo, Layer, LayerPart, Message, Span

__all__ = [
    "Answer",
    "Ask",
    "Cancel",
    "Cancelled",
    "Failed",
    "Release",
    "Resolved",
    "Retire",
    "Retry",
    "Scattered",
    "Stuck",
    "Submit",
    "Unreachable",
    "Want",
]


class Submit(Message, frozen=True, tag="submit"):
    """A slice of a submission: its tasks ``first`` to ``first + count``.

    A client's tasks are numbered in the order they arrive. Slices of one
    submission follow each other, with no other submission of the client between
    them; ``layers`` are those that begin in this slice, ``imports`` and
    ``outputs`` come with the first.
    ``outputs`` are (start, count) runs, within the submission, of the wanted
    tasks. ``functions`` are (digest, span) of the callables of ``layers``.
    Payload: arrays, constants and callables, as the spans say.
    """

    submission: int
    first: int
    count: int
    layers: list[Layer]
    parts: list[LayerPart]
    imports: list[int]
    outputs: list[tuple[int, int]]
    functions: list[tuple[bytes, Span]]
    last: bool


class Want(Message, frozen=True, tag="want"):
    """The client wants these tasks too, whoever numbered them; each counts once.

    It learns their state as of tasks of its own; of a task that is not known, that it is
    lost. Somebody must still hold them, so they come with the answer that named them.
    """

    tasks: list[int]


class Release(Message, frozen=True, tag="release"):
    """The client holds these tasks no more (each was wanted once)."""

    tasks: list[int]


class Cancel(Message, frozen=True, tag="cancel"):
    """Stop these tasks and what depends on them, unless they are finished.

    Those that run now run on, and nobody hears of them, and what others want or need goes on for
    them, unless there is ``force``.
    """

    tasks: list[int]
    reason: str = ""
    force: bool = False


class Retire(Message, frozen=True, tag="retire"):
    """Have these workers (of those names, or on nodes or hosts of those names) end.

    What they hold is handed to others first. Answered with `Called` when they are gone; or,
    without ``close``, when they run nothing and hold nothing that is needed.
    """

    request: int
    workers: list[str]
    close: bool = True


class Retry(Message, frozen=True, tag="retry"):
    """Run these failed tasks again, and the failed tasks they failed of."""

    tasks: list[int]


class Scattered(Message, frozen=True, tag="scattered"):
    """Data the client has put into nodes' stores, as results of data tasks."""

    tasks: list[int]
    nodes: list[int]
    sizes: list[int]


class Unreachable(Message, frozen=True, tag="unreachable"):
    """These results were not found at that node (or it does not answer)."""

    tasks: list[int]
    node: int


class Ask(Message, frozen=True, tag="ask"):
    """A question that gets one `Answer` with the same number.

    ``question`` is one of those in `zcluster.core.scheduler.questions`: ``info``,
    ``overview``, ``who_has``, ``has_what``, ``nbytes``, ``story``, ``explain``, …
    """

    request: int
    question: str
    tasks: list[int] = msgspec.field(default_factory=list)
    text: str = ""


class Answer(Message, frozen=True, tag="answer"):
    """The answer: ``value`` is msgpack; ``error`` is a sentence or empty."""

    request: int
    value: msgspec.Raw
    error: str = ""


class Resolved(Message, frozen=True, tag="resolved"):
    """Results. ``lengths`` cut payload frame 0 into blobs, -1: not here.

    A result that is not here is at ``holders`` (node index) with ``sizes``.
    """

    tasks: list[int]
    lengths: list[int]
    sizes: list[int]
    holders: list[int]


class Failed(Message, frozen=True, tag="failed"):
    """Errors, to clients and from nodes. ``which`` indexes ``errors``.

    Payload: frame 0 holds the pickled exceptions, as spans.
    """

    tasks: list[int]
    attempts: list[int]
    which: list[int]
    errors: list[ErrorInfo]


class Cancelled(Message, frozen=True, tag="cancelled"):
    """These tasks were cancelled."""

    tasks: list[int]
    reason: str


class Stuck(Message, frozen=True, tag="stuck"):
    """These ready tasks can be run by nobody who is here; ``which`` indexes ``reasons``."""

    tasks: list[int]
    which: list[int]
    reasons: list[str]
