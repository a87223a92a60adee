"""Beside the tasks: sources and files, output, direct calls, things that clients share.

Part of the contract in `zcluster.protocol.messages`; see there for the words.
"""

from __future__ import annotations

import msgspec

from zcluster.protocol.records import ErrorInfo, Message, Span

__all__ = [
    "VALUE_LIMIT",
    "Call",
    "Called",
    "Coordinate",
    "Coordinated",
    "Environment",
    "Files",
    "Output",
    "Published",
    "Received",
    "Restart",
    "Restarted",
    "Sources",
]

#: Bytes of one value that clients share through the scheduler; what is larger goes into a
#: store, and a future of it is shared.
VALUE_LIMIT = 1 << 20


class Sources(Message, frozen=True, tag="sources"):
    """Source files of plain modules: (name, is package, span in frame 0)."""

    modules: list[tuple[str, bool, Span]]


class Environment(Message, frozen=True, tag="environment"):
    """How a client imports: its ``sys.path`` and its folder, of use on its host."""

    paths: list[str]
    cwd: str
    host: str


class Files(Message, frozen=True, tag="files"):
    """Files for the workers' import path: (path within the folder, span in frame 0).

    Where an earlier file has the same path it is replaced, and modules that were imported
    of these files are imported anew; what lies in ``.plugins`` sets up workers instead.
    ``request`` numbers what a node answers by `Received`, and the scheduler, to the client,
    by `Called`. Workers are told the names alone: the files are in their node's folder.
    """

    request: int
    files: list[tuple[str, Span]]


class Received(Message, frozen=True, tag="received"):
    """The files are in place; ``error`` says why not, or is empty."""

    request: int
    error: str = ""


class Output(Message, frozen=True, tag="output"):
    """What tasks have printed: pieces of text of one worker, in order.

    ``streams``: 1 standard output, 2 standard error. ``lengths`` cut payload frame 0
    (UTF-8). ``dropped`` counts the bytes left out because they were too many, and
    ``dropped_lines`` the lines, with the task whose were the last in an empty piece.
    """

    worker: str
    tasks: list[int]
    streams: list[int]
    lengths: list[int]
    dropped: int = 0
    dropped_lines: int = 0


class Call(Message, frozen=True, tag="call"):
    """Call a function in a worker, beside its slots; answered by `Called`.

    Payload frame 0 is a blob: (function, arguments, keywords), or with ``actor``, a task
    whose result is an actor, (method's name, arguments, keywords). Calls of an actor run
    one after the other, in the order in which they arrive; others in threads of their own.
    ``node`` and ``worker`` are numbers; with an actor the scheduler knows them. Node -1
    is a process beside the scheduler; frame 1 is then the client's `Environment`, encoded.
    A method's arguments are None where an attribute is read. The scheduler numbers requests
    anew on their way.
    """

    request: int
    node: int
    worker: int
    actor: int = -1


class Called(Message, frozen=True, tag="called"):
    """What came of a call: payload frame 0 is the result's blob, or the pickled exception."""

    request: int
    error: ErrorInfo | None = None


class Restart(Message, frozen=True, tag="restart"):
    """Start workers anew; answered when the last is ready: by a node with `Restarted`, by
    the scheduler, to the client, with `Called`.

    ``workers`` are names (at a node its numbers, as text); empty means all, and then all
    tasks of all clients are cancelled first.
    """

    request: int
    workers: list[str] = msgspec.field(default_factory=list)


class Restarted(Message, frozen=True, tag="restarted"):
    """The workers that were to be started anew are ready."""

    request: int


class Coordinate(Message, frozen=True, tag="coordinate"):
    """Do something with a thing that clients share; answered by `Coordinated`.

    ``kind`` is ``lock``, ``semaphore``, ``event``, ``queue``, ``variable``, ``dataset``,
    ``metadata`` or ``topic``; which ``action`` each has, and what it does with the other
    fields, stands in `zcluster.core.scheduler.coordination`. Payload frame 0 is the value,
    if there is one: a pickle that the scheduler passes on. ``tasks`` are results that it
    refers to, with their ``keys``: the thing wants them as long as it has the value.
    ``timeout`` is in seconds; None waits for ever. Request 0 wants no answer.
    """

    request: int
    kind: str
    name: str
    action: str
    names: list[str] = msgspec.field(default_factory=list)
    number: int = 0
    tasks: list[int] = msgspec.field(default_factory=list)
    keys: list[str] = msgspec.field(default_factory=list)
    timeout: float | None = None


class Coordinated(Message, frozen=True, tag="coordinated"):
    """The answer: ``value`` is msgpack; ``lengths`` cut payload frame 0 into values.

    ``ok`` is false where time ran out, or where the answer is no. ``tasks`` are those that
    the values refer to, ``counts`` of them for each, with their ``keys``. What was taken
    from a queue, or refers to tasks, is kept until the client says ``taken``, so that
    nothing is lost on the way. ``error`` is a sentence, or empty.
    """

    request: int
    ok: bool
    value: msgspec.Raw
    tasks: list[int] = msgspec.field(default_factory=list)
    error: str = ""
    keys: list[str] = msgspec.field(default_factory=list)
    lengths: list[int] = msgspec.field(default_factory=list)
    counts: list[int] = msgspec.field(default_factory=list)


class Published(Message, frozen=True, tag="published"):
    """Something was said on a topic this client listens to; payload frame 0 is the pickle.

    ``time`` is that of the clock of whoever said it, in seconds: it is for people.
    """

    topic: str
    time: float
