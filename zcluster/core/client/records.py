"""What a client core keeps of each task, and what it tells its driver to do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

from zcluster.core.client.states import State
from zcluster.protocol.messages import ErrorInfo, Message
from zcluster.types import Frames

__all__ = [
    "Announced",
    "BareCall",
    "Data",
    "Effect",
    "Failure",
    "Heard",
    "NodesChanged",
    "PutBlob",
    "Replied",
    "Wanted",
]


class Announced(NamedTuple):
    """Where a result is that did not come unasked, and its size in bytes."""

    node: int
    size: int


class Failure(NamedTuple):
    """Why a task has no result.

    ``kind`` is one of `ErrorInfo.kind`, or ``cancelled``, ``scheduler`` (it is
    lost) or ``closed`` (this client is). ``info`` and ``pickled`` (the exception
    as bytes) are there when a task or its node reported it.
    """

    kind: str
    reason: str
    info: ErrorInfo | None = None
    pickled: bytes = b""
    attempt: int = 0


class Wanted:
    """A task that at least one future of this process holds.

    Attributes
    ----------
    name : str or callable
        The beginning of its key, or what gives the key for the task: a million
        results need no million names.
    holds : int
        Futures on it; at zero the task is released.
    detail : None, Announced, bytes or Failure
        Belongs to the state: nothing while pending, where an announced result
        is, the bytes of one that is here, and the reason in the other states.
    watchers : list or None
        Whoever waits for it; the core hands them back once with the record.
    keeps : tuple of Data
        Blobs this client keeps because the task may still need them.
    """

    __slots__ = ("detail", "holds", "keeps", "key", "name", "state", "task", "watchers")

    def __init__(
        self,
        task: int,
        name: str | Callable[[int], str],
        key: str | None,
        keeps: tuple[Data, ...] = (),
    ) -> None:
        self.task = task
        self.name = name
        self.key = key
        self.keeps = keeps
        self.holds = 1
        self.state = State.PENDING
        self.detail: Any = None
        self.watchers: list[Any] | None = None

    @property
    def label(self) -> str:
        """The key as users see it: their own, or the name with the task's number."""
        if self.key is None:
            name = self.name
            self.key = f"{name}-{self.task:x}" if isinstance(name, str) else name(self.task)
        return self.key


class Data:
    """A blob put into a node's store as the result of a data task.

    Attributes
    ----------
    users : int
        Tasks and futures that may need it put again; at zero the copy goes.
    is_argument : bool
        Whether the task is wanted only because this copy is kept (a large
        argument), and so is released with it; scattered data has futures.
    places : tuple of int
        The nodes it may be put to; empty means any.
    refused : set of int
        Nodes that had no room, or could not be reached.
    silent : set of int
        Nodes that were asked and have not answered for long; they still may.
    open : int
        Puts under way to others.
    is_stored : bool
        Whether some node has it, as far as is known here.
    failure : Failure or None
        Why no node took it.
    """

    __slots__ = (
        "blob",
        "failure",
        "is_argument",
        "is_stored",
        "open",
        "places",
        "refused",
        "silent",
        "task",
        "users",
    )

    def __init__(self, task: int, blob: bytes, is_argument: bool, places: tuple[int, ...]) -> None:
        self.task = task
        self.blob = blob
        self.is_argument = is_argument
        self.places = places
        self.refused: set[int] = set()
        self.silent: set[int] = set()
        self.users = 0
        self.open = 0
        self.is_stored = False
        self.failure: Failure | None = None


class PutBlob(NamedTuple):
    """Effect: put a blob into a node's store; then say `stored` or `not_stored`.

    While it takes long and nobody answers, `silent`.
    """

    task: int
    node: int
    blob: bytes


class Replied(NamedTuple):
    """Effect: the answer to a request arrived."""

    request: int
    message: Message
    frames: Frames


class Heard(NamedTuple):
    """Effect: the scheduler said something unasked that is not about results."""

    message: Message
    frames: Frames


class NodesChanged(NamedTuple):
    """Effect: nodes joined, changed or left."""

    left: list[int]


Effect: TypeAlias = PutBlob | Replied | Heard | NodesChanged


class BareCall(NamedTuple):
    """A packed call that brings no bytes: its arguments are a blob in a store.

    Of form ``CALL_VALUE`` (3) it is what makes a data task.
    """

    form: int
    constant: None = None
    plan: None = None
