"""What clients ask of workers and nodes beside the tasks: direct calls, files, restarts.

Such a request is passed on to the nodes it concerns, under a number of this file's own,
and answered when the last of them has answered:

* a `Call` goes to one worker, to the worker that has an actor, or to a process beside the
  scheduler (`Calls.take_aside`); the answer is passed on as it is;
* `Files` go to every node, and to those that join later; where a node refuses them, its
  reason is the answer;
* a `Restart` cancels everything first, unless it names workers, and goes to the nodes
  that have them;
* a `Retire` is answered when the workers it names are gone: whole nodes hand over what they
  have first (`zcluster.core.scheduler.retiring`).

A node that is gone answers nothing more: its calls fail (`Calls.tidy`), and files and
restarts count it as done. Answers of a node that was fenced find no request.
"""

from __future__ import annotations

from dataclasses import dataclass

from msgspec.structs import replace

from zcluster.core.scheduler.failing import cancel
from zcluster.core.scheduler.recomputing import lost_actor
from zcluster.core.scheduler.records import ClientRecord, NodeRecord
from zcluster.core.scheduler.releasing import drop_want
from zcluster.core.scheduler.retiring import begin
from zcluster.core.scheduler.state import SchedulerState
from zcluster.core.scheduler.states import UNFINISHED, State
from zcluster.errors import InvariantError, ProtocolError
from zcluster.protocol.frames import FRAME_LIMIT, span
from zcluster.protocol.messages import (
    Call,
    Called,
    Cancelled,
    ErrorInfo,
    Files,
    Leave,
    Message,
    Received,
    Restart,
    Restarted,
    Retire,
)
from zcluster.types import Buffer, Frames

__all__ = ["ASIDE", "FILES_LIMIT", "RESTARTED", "Calls"]

#: The node number that means a process beside the scheduler.
ASIDE = -1
#: Bytes of all uploaded files together, kept for nodes that join later.
FILES_LIMIT = 256 << 20
#: Why tasks were cancelled.
RESTARTED = "the cluster was restarted"

#: Bytes of files in one payload frame to a node that joins.
_FRAME = FRAME_LIMIT // 4


@dataclass(slots=True)
class Open:
    """A request that is not answered: by whom it was made, and who has not answered yet."""

    client: int
    request: int
    nodes: set[int]
    #: What is said of a call whose node is gone; files and restarts do not mind.
    lost: ErrorInfo | None = None
    error: ErrorInfo | None = None


class Calls:
    """The table of open requests, and the files that were uploaded.

    Parameters
    ----------
    s : SchedulerState
    """

    def __init__(self, s: SchedulerState) -> None:
        self._s = s
        self._open: dict[int, Open] = {}
        self._at: dict[int, set[int]] = {}
        self._next = 1
        self._files: dict[str, bytes] = {}
        self._aside: list[tuple[int, list[Buffer]]] = []
        #: Workers that a request and a node wait for to be gone.
        self._leaving: dict[tuple[int, int], set[int]] = {}
        #: Requests that wait for nodes to have nothing to do, not for their end.
        self._emptied: set[int] = set()

    def __len__(self) -> int:
        return len(self._open)

    # ------------------------------------------------------------------- clients

    def call(self, client: ClientRecord, call: Call, frames: Frames) -> None:
        """Pass a call on to whoever is to make it."""
        if call.actor >= 0:
            self._call_actor(client, call, frames)
        elif call.node == ASIDE:
            number = self._enter(client, call.request, {ASIDE})
            self._aside.append((number, list(frames)))
        else:
            node = self._s.nodes.get(call.node)
            worker = None if node is None else _name_of(node, call.worker)
            if node is None or worker is None:
                error = _killed(f"worker {call.worker} of node {call.node} is not here any more")
                self._say(client, Called(call.request, error))
            else:
                lost = _killed(f"node {node.info.name} was lost while worker {worker} ran a call")
                number = self._enter(client, call.request, {node.index}, lost)
                self._s.say(node.peer, Call(number, node.index, call.worker), frames)

    def _call_actor(self, client: ClientRecord, call: Call, frames: Frames) -> None:
        s, task = self._s, call.actor
        found = s.find(task)
        state = None if found is None else found[0].state[found[1]]
        needs = None if found is None else found[0].layer[found[1]].needs
        if found is not None and state == State.FINISHED and needs is not None and needs.actor:
            node = s.nodes[found[0].node[found[1]]]
            number = self._enter(client, call.request, {node.index}, lost_actor(s, task).error)
            s.say(node.peer, Call(number, node.index, -1, task), frames)
            return
        failure = s.failures.get(task) or lost_actor(s, task)
        error = failure.error
        if error.exception is not None:
            error = replace(error, exception=(0, 0, len(failure.exception)))
        self._say(client, Called(call.request, error), [failure.exception])

    def upload(self, client: ClientRecord, message: Files, frames: Frames) -> None:
        """Keep files, and pass them on to all nodes."""
        contents = {path: bytes(span(frames, place)) for path, place in message.files}
        if any(not path or path.startswith("/") or ".." in path.split("/") for path in contents):
            raise ProtocolError("the path of an uploaded file leads out of its folder")
        size = sum(map(len, (self._files | contents).values()))
        if size > FILES_LIMIT:
            text = (
                f"all uploaded files together would have {size} bytes, expected at most "
                f"{FILES_LIMIT}; put them on a folder that all nodes share"
            )
            error = _error("store", "InvalidArgument", text)
            self._say(client, Called(message.request, error))
            return
        self._files |= contents
        nodes = list(self._s.nodes.values())
        number = self._enter(client, message.request, {node.index for node in nodes})
        for node in nodes:
            self._s.say(node.peer, Files(number, message.files), frames)
        self._end_if_answered(number)

    def restart(self, client: ClientRecord, message: Restart) -> None:
        """Have workers started anew; all of them, after everything was cancelled, if none named."""
        s = self._s
        wanted: dict[int, list[str]] = {}
        for node in s.nodes.values():
            numbers = [str(w.number) for w in node.info.workers if w.name in message.workers]
            if numbers or not message.workers:
                wanted[node.index] = numbers
        if not message.workers:
            _cancel_everything(s)
        number = self._enter(client, message.request, set(wanted))
        for index, numbers in wanted.items():
            s.say(s.nodes[index].peer, Restart(number, numbers))
        self._end_if_answered(number)

    def retire(self, client: ClientRecord, message: Retire) -> None:
        """Have workers end; whole nodes hand over what they have first."""
        s, names = self._s, set(message.workers)
        some: dict[int, set[int]] = {}
        whole: list[NodeRecord] = []
        for node in s.nodes.values():
            info = node.info
            numbers = {w.number for w in info.workers if w.name in names}
            if not names.isdisjoint((info.name, info.host, info.data)) or (
                numbers and numbers >= node.known
            ):
                whole.append(node)
            elif numbers:
                some[node.index] = numbers
        number = self._enter(client, message.request, {*some, *(node.index for node in whole)})
        if not message.close:
            self._emptied.add(number)
        for index, numbers in some.items():
            self._leaving[number, index] = numbers
            s.nodes[index].known -= numbers
            s.say(s.nodes[index].peer, Leave(sorted(numbers)))
        for node in whole:
            begin(s, node, message.close)
        self.retired()
        if number in self._open:
            self._end_if_answered(number)

    # --------------------------------------------------------------------- nodes

    def workers_changed(self, node: NodeRecord) -> None:
        """A node said which workers it has: some that were retired may be gone."""
        here = {worker.number for worker in node.info.workers}
        for (number, index), leaving in list(self._leaving.items()):
            if index == node.index and leaving.isdisjoint(here):
                self._done(number, index)

    def retired(self) -> None:
        """Answer those who wait for nodes that have nothing more to do."""
        for number in list(self._emptied):
            for index in list(self._open[number].nodes):
                node = self._s.nodes.get(index)
                if node is not None and node.retiring is not None and node.retiring.is_empty:
                    self._done(number, index)

    def joined(self, node: NodeRecord) -> None:
        """A node joined: it gets the files that were uploaded before."""
        paths = list(self._files)
        while paths:
            files: list[tuple[str, tuple[int, int, int]]] = []
            frame = bytearray()
            while paths and (not files or len(frame) + len(self._files[paths[-1]]) <= _FRAME):
                path = paths.pop()
                start = len(frame)
                frame += self._files[path]
                files.append((path, (0, start, len(frame))))
            self._s.say(node.peer, Files(0, files), [bytes(frame)])

    def answered(
        self, node: int, message: Called | Received | Restarted, frames: Frames = ()
    ) -> None:
        """A node, or the process beside the scheduler, answered."""
        number = message.request
        entry = self._open.get(number)
        if entry is None or node not in entry.nodes:
            return  # late: it was given up, or these are files sent to a node that joined
        if isinstance(message, Called):
            self._leave(number)
            client = self._s.clients.get(entry.client)
            if client is not None:
                self._say(client, Called(entry.request, message.error), frames)
            return
        if isinstance(message, Received) and message.error and entry.error is None:
            entry.error = _error("store", "ClusterError", message.error)
        self._done(number, node)

    def tidy(self) -> None:
        """Answer for the nodes that are gone."""
        for index in [index for index in self._at if index not in self._s.nodes]:
            if index == ASIDE:
                continue
            for number in sorted(self._at[index]):
                entry = self._open[number]
                entry.error = entry.error or entry.lost
                self._done(number, index)

    def take_aside(self) -> list[tuple[int, list[Buffer]]]:
        """Return the calls to make in a process beside the scheduler, as (number, payload)."""
        taken, self._aside = self._aside, []
        return taken

    # --------------------------------------------------------------------- table

    def _enter(
        self, client: ClientRecord, request: int, nodes: set[int], lost: ErrorInfo | None = None
    ) -> int:
        number = self._next
        self._next += 1
        self._open[number] = Open(client.index, request, nodes, lost)
        for node in nodes:
            self._at.setdefault(node, set()).add(number)
        return number

    def _done(self, number: int, node: int) -> None:
        self._open[number].nodes.discard(node)
        self._leaving.pop((number, node), None)
        self._forget_at(node, number)
        self._end_if_answered(number)

    def _end_if_answered(self, number: int) -> None:
        entry = self._open[number]
        if not entry.nodes:
            self._leave(number)
            client = self._s.clients.get(entry.client)
            if client is not None:
                self._say(client, Called(entry.request, entry.error))

    def _leave(self, number: int) -> None:
        self._emptied.discard(number)
        for node in self._open.pop(number).nodes:
            self._forget_at(node, number)

    def _forget_at(self, node: int, number: int) -> None:
        numbers = self._at[node]
        numbers.discard(number)
        if not numbers:
            del self._at[node]

    def _say(self, client: ClientRecord, message: Message, frames: Frames = ()) -> None:
        self._s.say(client.peer, message, frames)

    def check(self) -> None:
        """Check that the table agrees with itself, for tests.

        Raises
        ------
        InvariantError
            If it does not.
        """
        at: dict[int, set[int]] = {}
        for number, entry in self._open.items():
            if not entry.nodes:
                raise InvariantError(f"request {number} waits for nobody and is open")
            for node in entry.nodes:
                at.setdefault(node, set()).add(number)
        if at != self._at:
            raise InvariantError(f"requests by node are {self._at}, expected {at}")


def _cancel_everything(s: SchedulerState) -> None:
    """Cancel all tasks of all clients, and let go of all results."""
    wanted: dict[int, list[int]] = {}
    for task, page, row in s.rows():
        for client in s.wanters(task, page, row):
            wanted.setdefault(client.index, []).append(task)
    for index, tasks in wanted.items():
        s.clients[index].forget_news()
        ended = [task for task in tasks if not _is_open(s, task)]
        if ended:
            s.say(s.clients[index].peer, Cancelled(ended, RESTARTED))
    cancel(s, [task for task, page, row in s.rows() if page.state[row] in UNFINISHED], RESTARTED)
    for index, tasks in wanted.items():
        for task in tasks:
            drop_want(s, s.clients[index], task)
    s.journal.note(s.now, "restarted", "", ())


def _is_open(s: SchedulerState, task: int) -> bool:
    found = s.find(task)
    return found is not None and found[0].state[found[1]] in UNFINISHED


def _name_of(node: NodeRecord, number: int) -> str | None:
    return next((w.name for w in node.info.workers if w.number == number), None)


def _killed(text: str) -> ErrorInfo:
    return _error("killed", "WorkerKilledError", text)


def _error(kind: str, name: str, text: str) -> ErrorInfo:
    return ErrorInfo(kind, f"zcluster.errors.{name}", text, "", -1, 0, "", "")
