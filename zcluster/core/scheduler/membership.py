"""Who is here: clients and nodes that join, go quiet, come back, or die.

What happens when a worker dies is in `failing.on_failed` (its tasks come back as
``killed``). What happens when a node dies is here:

1. it cannot be reached: **suspect**. Nothing new goes there, and the tasks it has
   are queued again at once (not those that run at most once); if it comes back,
   whatever finishes first counts.
2. it stays away for eight seconds (ten, with the two after which a frozen one is
   noticed), says goodbye, or a new incarnation with its name
   joins: **dead**. It is fenced (its session is over, what it says later is not
   heard), and results it alone held are recomputed if they are needed.

A scheduler that was paused itself counts that time to nobody: whoever is away may have come back
meanwhile, and what it said may still be on its way.

A client in a worker's process ends with it, at once; others may be away for a while.
"""

from __future__ import annotations

from msgspec.structs import replace

from zcluster.core.scheduler.arrival import complete
from zcluster.core.scheduler.assigning import clear_ahead, give_back
from zcluster.core.scheduler.checking import check_workers
from zcluster.core.scheduler.coordination import drop_client
from zcluster.core.scheduler.failing import fail, lost_once
from zcluster.core.scheduler.pages import DATA, PAGE_BITS, WANTED
from zcluster.core.scheduler.recomputing import lose, orphaned
from zcluster.core.scheduler.records import RUNNING, ClientRecord, NodeRecord
from zcluster.core.scheduler.releasing import drop_want
from zcluster.core.scheduler.state import SchedulerState
from zcluster.core.scheduler.states import State
from zcluster.protocol.messages import Hello, Nodes, Refused, Welcome, WorkerInfo
from zcluster.types import first_task

__all__ = [
    "add_client",
    "add_node",
    "away",
    "back",
    "excuse",
    "overdue",
    "remove_client",
    "remove_node",
    "set_workers",
]


def add_client(s: SchedulerState, peer: int, hello: Hello, package: str) -> Welcome:
    """Admit a client."""
    index = s.next_client
    s.next_client += 1
    is_inner = any(
        node.info.host == hello.host and any(w.pid == hello.pid for w in node.info.workers)
        for node in s.nodes.values()
    )
    process = (hello.host, hello.pid)
    s.clients[index] = ClientRecord(index, peer, hello.name, first_task(index), is_inner, process)
    s.journal.note(s.now, "client joined", hello.name, ())
    nodes = [node.info for node in s.nodes.values()]
    return Welcome(index, b"", False, 0, s.address, package, {}, nodes)


def add_node(s: SchedulerState, peer: int, hello: Hello, package: str) -> Welcome | Refused:
    """Admit a node's incarnation; an older one of the same name is fenced."""
    info = hello.node
    if info is None:
        return Refused("a node's hello must describe the node")
    check_workers(info.workers)
    for other in list(s.nodes.values()):
        if other.info.name != info.name:
            continue
        if other.away_since is None and other.info.host != info.host:
            return Refused(
                f"a node named {info.name!r} is already here, on {other.info.host}; "
                "give each node its own --name"
            )
        remove_node(s, other, "a new incarnation took its place")
    index = s.next_node
    s.next_node += 1
    info = replace(info, index=index)
    s.nodes[index] = NodeRecord(index, peer, info, _slots(info.workers))
    s.nodes[index].known.update(worker.number for worker in info.workers)
    s.journal.note(s.now, "node joined", info.name, ())
    _tell_clients(s, Nodes([info], []))
    others = [node.info for node in s.nodes.values() if node.index != index]
    for node in s.nodes.values():
        if node.index != index:
            s.say(node.peer, Nodes([info], []))
    return Welcome(index, b"", False, 0, s.address, package, {}, others)


def set_workers(s: SchedulerState, node: NodeRecord, workers: list[WorkerInfo]) -> None:
    """Take note of a node's workers as they are now."""
    gone = _processes(node) - {(node.info.host, worker.pid) for worker in workers}
    node.info = replace(node.info, workers=workers)
    node.known.update(worker.number for worker in workers if worker.status != "retiring")
    node.slots = _slots(workers)
    if not node.slots:
        clear_ahead(s, node)
    _tell_clients(s, Nodes([node.info], []))
    _remove_inner(s, gone)


def _processes(node: NodeRecord) -> set[tuple[str, int]]:
    """Return the processes of a node's workers; those that are threads have none."""
    pids = {worker.pid for worker in node.info.workers} - {node.info.pid}
    return {(node.info.host, pid) for pid in pids}


def _remove_inner(s: SchedulerState, processes: set[tuple[str, int]]) -> None:
    """Remove the clients of workers that are gone: they will not be back."""
    for client in [client for client in s.clients.values() if client.process in processes]:
        remove_client(s, client, "its worker is gone")


def _slots(workers: list[WorkerInfo]) -> int:
    return sum(worker.slots for worker in workers if worker.status == RUNNING)


def _tell_clients(s: SchedulerState, message: Nodes) -> None:
    for client in s.clients.values():
        s.say(client.peer, message)


# -------------------------------------------------------------------------- absence


def away(s: SchedulerState, member: ClientRecord | NodeRecord) -> None:
    """A member cannot be reached for now."""
    member.away_since = s.now
    if isinstance(member, NodeRecord):
        s.journal.note(s.now, "node away", member.info.name, ())
        _requeue(s, member)


def back(s: SchedulerState, member: ClientRecord | NodeRecord) -> None:
    """A member is back, with nothing lost."""
    member.away_since = None


def excuse(s: SchedulerState, pause: float) -> None:
    """Give members that are away the time in which nobody here listened to them."""
    members: list[ClientRecord | NodeRecord] = [*s.nodes.values(), *s.clients.values()]
    for member in members:
        if member.away_since is not None:
            member.away_since = min(s.now, member.away_since + pause)


def overdue(s: SchedulerState) -> float | None:
    """Remove members that were away too long; return when to look again."""
    soonest: float | None = None
    for node in list(s.nodes.values()):
        if node.away_since is not None:
            deadline = node.away_since + s.settings.dead_after
            if deadline <= s.now:
                remove_node(s, node, "it could not be reached")
            elif soonest is None or deadline < soonest:
                soonest = deadline
    for client in list(s.clients.values()):
        if client.away_since is not None:
            deadline = client.away_since + s.settings.client_grace
            if deadline <= s.now:
                remove_client(s, client)
            elif soonest is None or deadline < soonest:
                soonest = deadline
    return soonest


# -------------------------------------------------------------------------- removal


def remove_node(s: SchedulerState, node: NodeRecord, reason: str) -> None:
    """Fence a node: give its tasks to others, make again what it alone held."""
    if s.nodes.get(node.index) is not node:
        return
    _requeue(s, node, reason)
    for unaware in s.elsewhere.values():
        unaware.discard(node.index)
    del s.nodes[node.index]
    s.retiring.discard(node.index)
    s.fenced.append((node.peer, reason))
    for table in (s.frees, s.drops, s.forgotten_layers, s.forgotten_functions):
        table.pop(node.index, None)
    for layer in s.layers.values():
        layer.nodes.discard(node.index)
    for function in s.functions.values():
        function.nodes.discard(node.index)
    s.ordered = {order for order in s.ordered if order[1] != node.index}
    s.moves = {move: source for move, source in s.moves.items() if move[1] != node.index}
    lost = _forget_holder(s, node.index)
    s.journal.note(s.now, f"node gone: {reason}", node.info.name, ())
    # Before they are asked for data that was lost: they would put it there again.
    message = Nodes([], [node.index])
    _tell_clients(s, message)
    for other in s.nodes.values():
        s.say(other.peer, message)
    lose(s, lost)
    _remove_inner(s, _processes(node))


def _forget_holder(s: SchedulerState, index: int) -> set[int]:
    """Take a node off the places of results; return those that are needed and nowhere now."""
    for task, others in list(s.replicas.items()):
        others.discard(index)
        if not others:
            del s.replicas[task]
    lost: set[int] = set()
    for page in s.pages.values():
        if index not in page.node:
            continue
        for row, at in enumerate(page.node):
            if at != index or page.state[row] != State.FINISHED:
                continue
            task = page.start + row
            others = s.replicas.get(task, set())
            if others:
                page.node[row] = others.pop()
                if not others:
                    del s.replicas[task]
            elif page.refs[row]:
                lost.add(task)
    return lost


def _requeue(s: SchedulerState, node: NodeRecord, lost: str = "") -> None:
    """Queue the tasks assigned to a node again; it may still finish them first.

    What runs at most once stays with it, and fails if the node is ``lost``, and why.
    """
    index = node.index
    given: list[int] = []
    for page in list(s.pages.values()):
        if index not in page.node:
            continue
        for row, at in enumerate(page.node):
            if at == index and page.state[row] == State.ASSIGNED:
                given.append(page.start + row)
    for task in given:
        # Those sent ahead after a task given back before went with it, and are told of.
        page = s.pages[task >> PAGE_BITS]
        row = task - page.start
        if page.state[row] == State.ASSIGNED and page.node[row] == index:
            if page.layer[row].is_once:
                if lost:
                    what = f"node {node.info.name}, where it was, is gone: {lost}"
                    fail(s, task, lost_once(s, task, what))
                continue
            give_back(s, task, tell=False)
            s.elsewhere.setdefault(task, set()).add(index)
    clear_ahead(s, node)


def remove_client(
    s: SchedulerState, client: ClientRecord, reason: str = "the client was away for too long"
) -> None:
    """Release all that a client wanted; what only it wanted is cancelled."""
    if s.clients.pop(client.index, None) is None:
        return
    s.fenced.append((client.peer, reason))
    s.journal.note(s.now, "client gone", client.name, ())
    drop_client(s, client.index)
    for submission in client.submissions.values():
        complete(s, submission)
    for page in [page for number, page in s.pages.items() if number << 9 >> 40 == client.index]:
        for row in range(len(page.state)):
            if page.state[row] and page.flags[row] & WANTED:
                drop_want(s, client, page.start + row)
    for task in [task for task, clients in s.wants.items() if client.index in clients]:
        drop_want(s, client, task)
    _fail_orphaned_data(s, client)


def _fail_orphaned_data(s: SchedulerState, client: ClientRecord) -> None:
    """Data that was lost, and that the client would have put again, is gone."""
    for page in list(s.pages.values()):
        if page.start >> 40 != client.index:
            continue
        for row, flags in enumerate(page.flags):
            if flags & DATA and page.state[row] == State.WAITING:
                fail(s, page.start + row, orphaned(s, page.start + row))
