"""The records inside messages: what is said of nodes, layers, selections and errors.

Part of the contract in `zcluster.protocol.messages`; see there for the words.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

__all__ = [
    "ErrorInfo",
    "Layer",
    "LayerPart",
    "Message",
    "Needs",
    "NodeInfo",
    "NodeLayer",
    "Slot",
    "Span",
    "WorkerInfo",
]

Span: TypeAlias = tuple[int, int, int]


class Message(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The base of all messages and of the records inside them."""


class WorkerInfo(Message, frozen=True):
    """One worker process of a node.

    ``status`` is ``running``, ``paused`` (it takes no more work for now) or ``retiring`` (it
    ends what it runs, and then itself); ``reason`` says why in a sentence.
    """

    number: int
    name: str
    slots: int
    memory_limit: int
    pid: int
    #: What it has of each abstract resource, such as ``{"GPU": 1}``.
    resources: dict[str, float] = msgspec.field(default_factory=dict)
    status: str = "running"
    reason: str = ""


class NodeInfo(Message, frozen=True):
    """A node as others see it.

    ``data`` is the address of its data port; ``door`` the path of the socket
    that hands its store's descriptors to processes of the same host.
    """

    index: int
    name: str
    host: str
    pid: int
    data: str
    door: str
    store_limit: int
    workers: list[WorkerInfo]


class ErrorInfo(Message, frozen=True):
    """Why a task has no result, as plain bounded fields.

    ``kind`` is one of ``task`` (the function raised), ``killed`` (its worker
    died), ``serialize`` (the result cannot travel), ``lost`` (data that nobody
    can make again), ``store`` (the store is full), ``disk`` (so is the disk it spills to),
    ``input`` (one of its inputs failed; ``origin`` and ``origin_key`` say which), ``actor`` (an
    actor died with its worker), ``timeout`` (it took longer than it may), ``once`` (it may have
    run, and may not run again). A worker that ended for want of memory is ``killed`` too.
    ``exception`` is the span of the pickled exception, an extra that may be absent or
    unreadable. ``arguments`` is a short text of the call's arguments; ``bases`` are the
    qualified names of the exception's classes, its own first.
    """

    kind: str
    type_name: str
    message: str
    traceback: str
    origin: int
    attempt: int
    node: str
    worker: str
    exception: Span | None = None
    arguments: str = ""
    bases: list[str] = msgspec.field(default_factory=list)
    origin_key: str = ""


class Slot(Message, frozen=True):
    """One argument position of a layer: what part of the input it takes.

    ``kind``: 0 the whole input; 1 a part, its number in the selection table;
    2 the part whose number is the task's own index in its layer; 3 a box of
    ``ndim`` dimensions, ``3 * ndim`` integers in the selection table.
    ``fraction`` is the share of the input's bytes that this is.
    """

    kind: int = 0
    ndim: int = 0
    fraction: float = 1.0


class Needs(Message, frozen=True):
    """What the tasks of a layer need, and how they may fail, beyond the usual.

    ``resources`` are amounts of what one worker must have and gives up meanwhile;
    ``threads`` the slots of it they take. The result of an ``actor`` stays in the worker
    that made it and is lost with it. Only exceptions that one of ``retry_on`` names (all,
    if empty) are tried again, after ``retry_delay`` seconds, doubled each time. A run that
    takes longer than ``timeout`` seconds (0: any time) is stopped. What runs ``at_most_once``
    is lost, and never run again, once it may have begun.
    """

    resources: dict[str, float] = msgspec.field(default_factory=dict)
    threads: int = 1
    actor: bool = False
    retry_on: list[str] = msgspec.field(default_factory=list)
    retry_delay: float = 0.0
    timeout: float = 0.0
    at_most_once: bool = False


class Layer(Message, frozen=True):
    """A run of consecutive tasks that share one callable (client's view).

    ``shape`` turns a position in the layer into a key: ``()`` means the key is
    ``name``; otherwise ``(name, i, j, …)``. ``keys`` overrides that where users
    gave names; ``shared`` enters the keys in the scheduler's table, where an
    equal key is the same task. ``call`` is a form of `zcluster.protocol.calls`.
    ``slots`` describes listed inputs by position (the last one repeats; empty
    means whole inputs); ``whole`` lists layers of this submission of which every
    task takes all, each as one list argument after the listed ones, each with
    its own slot in ``whole_slots``.
    """

    name: str
    shape: list[int]
    first: int
    count: int
    call: int
    function: bytes
    keys: list[str] | None = None
    shared: bool = False
    slots: list[Slot] = msgspec.field(default_factory=list)
    whole: list[int] = msgspec.field(default_factory=list)
    whole_slots: list[Slot] = msgspec.field(default_factory=list)
    workers: list[str] = msgspec.field(default_factory=list)
    allow_other_workers: bool = False
    retries: int = 0
    priority: int = 0
    needs: Needs | None = None


class LayerPart(Message, frozen=True):
    """Consecutive tasks of a layer with their edges and constants.

    ``first`` counts within the submission. ``arity`` inputs each, or -1 and
    ``indptr`` (uint32, count + 1). ``indices`` (uint32) index the submission's
    own tasks, and from the end of the slice on its imports. An input always comes
    before the task that takes it. ``orders`` (int32) are ranks within the
    submission, absent when they equal the numbers. ``offsets`` (uint32,
    count + 1) cut ``constants``. ``selections`` (int64) are rows of the
    selection table.
    """

    layer: int
    first: int
    count: int
    arity: int
    indptr: Span | None = None
    indices: Span | None = None
    orders: Span | None = None
    offsets: Span | None = None
    constants: Span | None = None
    selections: Span | None = None


class NodeLayer(Message, frozen=True):
    """A layer as a node needs it. ``whole`` holds (first task, count)."""

    layer: int
    base: int
    first: int
    call: int
    function: bytes
    slots: list[Slot]
    whole: list[tuple[int, int]]
    whole_slots: list[Slot]
    name: str
    threads: int = 1
    actor: bool = False
    timeout: float = 0.0
    at_most_once: bool = False
