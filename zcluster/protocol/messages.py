"""Every message zcluster's processes say to each other: the contract.

A message on the wire is a list of frames: a head (sequence numbers, see
`zcluster.protocol.session`), one **control frame** (one of the structs below,
msgpack, validated on arrival) and then opaque **payload frames**. What a struct
says about its payload frames stands in its docstring.

The vocabulary of this file
---------------------------
task
    ``client << 40 | number``: the client's index at the scheduler and a number
    the client counts densely. All tasks on the wire are such integers.
columns
    Messages about many tasks hold parallel lists, not a list of records.
span
    ``(frame, start, stop)``: a run of bytes in payload frame ``frame`` of the
    same message (0 is the first payload frame). ``None`` where there is none.
blob
    An object in one of the self-describing stored forms of
    `zcluster.protocol.objects`. The scheduler and the nanny never unpickle one.
rank
    The order in which ready tasks run: smaller first. A layer has a ``base``,
    given by the scheduler from (user priority, age), a task has its ``order``.

Messages are grouped by who says them to whom in the tuples at the end of the
file; the protocol page of the documentation is made from them.
"""

from __future__ import annotations

from zcluster.protocol.meeting import (
    Acknowledge,
    Goodbye,
    Heartbeat,
    Hello,
    Nodes,
    Reconnect,
    Refused,
    Welcome,
    Workers,
)
from zcluster.protocol.orders import (
    Assign,
    Blocked,
    Copied,
    Copy,
    Drop,
    Finished,
    Free,
    Leave,
    Lost,
    Recall,
    Recalled,
)
from zcluster.protocol.records import (
    ErrorInfo,
    Layer,
    LayerPart,
    Message,
    Needs,
    NodeInfo,
    NodeLayer,
    Slot,
    Span,
    WorkerInfo,
)
from zcluster.protocol.requests import (
    Answer,
    Ask,
    Cancel,
    Cancelled,
    Failed,
    Release,
    Resolved,
    Retire,
    Retry,
    Scattered,
    Stuck,
    Submit,
    Unreachable,
    Want,
)
from zcluster.protocol.runs import (
    Discard,
    Done,
    Grant,
    Interrupt,
    Reserve,
    Return,
    Run,
    Skipped,
    Stop,
    WorkerHello,
)
from zcluster.protocol.services import (
    Call,
    Called,
    Coordinate,
    Coordinated,
    Environment,
    Files,
    Output,
    Published,
    Received,
    Restart,
    Restarted,
    Sources,
)
from zcluster.protocol.transfers import Fetch, Map, Mapped, Missing, More, Put, Slice, Stored

__all__ = [
    "CLIENT_TO_SCHEDULER",
    "DATA_PORT",
    "NODE_TO_SCHEDULER",
    "NODE_TO_WORKER",
    "PROTOCOL",
    "SCHEDULER_TO_CLIENT",
    "SCHEDULER_TO_NODE",
    "WORKER_TO_NODE",
    "Acknowledge",
    "Answer",
    "Ask",
    "Assign",
    "Blocked",
    "Call",
    "Called",
    "Cancel",
    "Cancelled",
    "Coordinate",
    "Coordinated",
    "Copied",
    "Copy",
    "Discard",
    "Done",
    "Drop",
    "Environment",
    "ErrorInfo",
    "Failed",
    "Fetch",
    "Files",
    "Finished",
    "Free",
    "Goodbye",
    "Grant",
    "Heartbeat",
    "Hello",
    "Interrupt",
    "Layer",
    "LayerPart",
    "Leave",
    "Lost",
    "Map",
    "Mapped",
    "Message",
    "Missing",
    "More",
    "Needs",
    "NodeInfo",
    "NodeLayer",
    "Nodes",
    "Output",
    "Published",
    "Put",
    "Recall",
    "Recalled",
    "Received",
    "Reconnect",
    "Refused",
    "Release",
    "Reserve",
    "Resolved",
    "Restart",
    "Restarted",
    "Retire",
    "Retry",
    "Return",
    "Run",
    "Scattered",
    "Skipped",
    "Slice",
    "Slot",
    "Sources",
    "Span",
    "Stop",
    "Stored",
    "Stuck",
    "Submit",
    "Unreachable",
    "Want",
    "Welcome",
    "WorkerHello",
    "WorkerInfo",
    "Workers",
]

#: (major, minor). Peers with another major are refused.
PROTOCOL = (1, 0)

CLIENT_TO_SCHEDULER = (
    Hello,
    Submit,
    Release,
    Cancel,
    Scattered,
    Unreachable,
    Ask,
    Sources,
    Environment,
    Heartbeat,
    Acknowledge,
    Goodbye,
    Want,
    Retry,
    Retire,
    Files,
    Call,
    Restart,
    Coordinate,
)
SCHEDULER_TO_CLIENT = (
    Welcome,
    Refused,
    Reconnect,
    Resolved,
    Failed,
    Cancelled,
    Nodes,
    Answer,
    Unreachable,
    Heartbeat,
    Acknowledge,
    Goodbye,
    Stuck,
    Output,
    Called,
    Coordinated,
    Published,
)
SCHEDULER_TO_NODE = (
    Welcome,
    Refused,
    Reconnect,
    Assign,
    Free,
    Drop,
    Recall,
    Nodes,
    Sources,
    Environment,
    Heartbeat,
    Acknowledge,
    Goodbye,
    Files,
    Call,
    Restart,
    Copy,
    Leave,
)
NODE_TO_SCHEDULER = (
    Hello,
    Finished,
    Failed,
    Recalled,
    Unreachable,
    Lost,
    Workers,
    Heartbeat,
    Acknowledge,
    Goodbye,
    Blocked,
    Output,
    Called,
    Received,
    Restarted,
    Copied,
)
NODE_TO_WORKER = (
    Run,
    Grant,
    Discard,
    Recall,
    Sources,
    Environment,
    Stop,
    Interrupt,
    Files,
    Call,
)
WORKER_TO_NODE = (
    WorkerHello,
    Done,
    Failed,
    Skipped,
    Reserve,
    Return,
    Recalled,
    Blocked,
    Output,
    Called,
)
DATA_PORT = (Hello, Fetch, Slice, More, Missing, Put, Stored, Map, Mapped, Return)
