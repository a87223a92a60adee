"""What people do in a history: the kinds of `zcluster.testing.plans.WORK`, and members that come.

Each function takes the history, the chance of this one action, and the action. It does nothing
where there is nothing to do it with: the same plan must make sense with actions left out.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from zcluster.core.client.states import State as ClientState
from zcluster.core.scheduler.copying import rebalance, replicate
from zcluster.core.scheduler.states import State
from zcluster.protocol.messages import Recall
from zcluster.testing.plans import Action
from zcluster.testing.workloads import draw_graph

if TYPE_CHECKING:
    from zcluster.testing.histories import History

__all__ = ["DOINGS", "submit"]

#: Results that a graph may import, at most.
_IMPORTS = 5
#: How often somebody who lets go of a result wants it again at once.
_REGRETS = 0.5
#: Tasks of a graph that somebody thinks better of.
_FEW = 4


def _node(history: History, chance: random.Random, action: Action) -> None:
    history.add_node(f"n{len(history.world.nodes)}", chance)


def _client(history: History, chance: random.Random, action: Action) -> None:
    history.world.add_client(f"c{len(history.world.clients)}")


def _join(history: History, chance: random.Random, action: Action) -> None:
    """A node joins; one of the same name is replaced."""
    history.add_node(f"n{chance.randrange(6)}", chance)


def _submit(history: History, chance: random.Random, action: Action) -> None:
    client = history.some_client(chance)
    if client is None:
        return
    known = [task for task in client.wanted if chance.random() < 0.3][:_IMPORTS]
    submit(history, chance, client, action.size, known)
    if known and chance.random() < 0.3:
        client.release([known[0]])


def submit(
    history: History, chance: random.Random, client: Any, size: int, known: list[int]
) -> range:
    """Have a client submit a graph that may take some of its results; return its tasks."""
    drawn = draw_graph(chance, history.plan.mix, size, known, ("n0", "n1"), history.next_number)
    first = client.next
    for task, spec in drawn.placed(first):
        history.model.add(task, spec)
    tasks = range(first, first + drawn.graph.count)
    if history.is_restarting:
        history.model.cancelled.update(tasks)
    history.graphs.append(drawn.graph.count)
    client.submit(drawn.graph, known, chance.choice((300, 500, 1 << 20)))
    return tasks


def _release(history: History, chance: random.Random, action: Action) -> None:
    client = history.some_client(chance)
    if client is not None:
        some = [task for task in client.wanted if chance.random() < 0.4]
        if some:
            client.release(some)
            if chance.random() < _REGRETS:
                for task in some[:_IMPORTS]:
                    _regret(history, chance, client, task)


def _regret(history: History, chance: random.Random, client: Any, task: int) -> None:
    """Somebody wants what was just let go, builds on it, and thinks better of it again."""
    client.want([task])
    made = submit(history, chance, client, _FEW, [task])
    held = [task for task in made if task in client.wanted]
    if chance.random() < 0.7:
        client.cancel(held)
    if chance.random() < 0.8:
        client.release([task])
    if chance.random() < 0.3:
        client.release(held)


def _cancel(history: History, chance: random.Random, action: Action) -> None:
    client = history.some_client(chance)
    if client is not None and client.wanted:
        tasks = list(client.wanted)
        if action.kind == "cancel_force" and chance.random() < 0.7:
            # What runs is what may have to be stopped.
            running = {
                task
                for node in history.nodes()
                for worker in node.workers.values()
                for task in worker.current()
            }
            tasks = [task for task in tasks if task in running] or tasks
        tasks = chance.sample(tasks, min(len(tasks), chance.randint(1, 3)))
        if action.kind == "cancel_force":
            for node in history.nodes():
                for worker in node.workers.values():
                    history.world.linger(worker, tasks, 0.3)
        client.cancel(tasks, force=action.kind == "cancel_force")


def _want(history: History, chance: random.Random, action: Action) -> None:
    """A client wants what another one has."""
    client = history.some_client(chance)
    others = [o for o in history.clients() if o is not client and o.wanted]
    if client is not None and others:
        task = chance.choice(list(chance.choice(others).wanted))
        if history.world.core.state.find(task) is not None:
            client.want([task])


def _retry(history: History, chance: random.Random, action: Action) -> None:
    """Failed tasks are tried again; most fail again."""
    client = history.some_client(chance)
    if client is not None:
        failed = [t for t, o in client.wanted.items() if o is not None and not isinstance(o, bytes)]
        if failed:
            tasks = chance.sample(failed, chance.randint(1, len(failed)))
            client.retry(tasks)
            # Others who were told of the same failure may ask for the same.
            for other in history.clients() if chance.random() < 0.5 else ():
                same = [task for task in tasks if _has_failed(other, task)]
                if other is not client and same:
                    other.retry(same)


def _has_failed(client: Any, task: int) -> bool:
    record = client.core.wanted.get(task)
    return record is not None and record.state is ClientState.ERROR and task in client.wanted


def _scatter(history: History, chance: random.Random, action: Action) -> None:
    client = history.some_client(chance)
    if client is None:
        return
    blobs = []
    for _ in range(chance.randint(1, 3)):
        width = 100 if chance.random() < 0.5 else 8
        blobs.append((b"b%d " % history.next_number()).ljust(width, b"."))
    tasks = client.scatter(blobs, everywhere=chance.random() < 0.3)
    if history.is_restarting:
        history.model.cancelled.update(tasks)


def _copies(history: History, chance: random.Random, action: Action) -> None:
    """Results are copied, or moved, from node to node."""
    s = history.world.core.state
    if history.world.scheduler.is_frozen:
        return
    tasks = [task for task, _, _ in s.rows() if chance.random() < 0.5]
    nodes = [index for index in s.nodes if chance.random() < 0.5]
    if chance.random() < 0.5:
        replicate(s, tasks, nodes, chance.randrange(3))
    else:
        rebalance(s, tasks, nodes)


def _recall(history: History, chance: random.Random, action: Action) -> None:
    """The scheduler asks for tasks back."""
    s = history.world.core.state
    assigned: dict[int, list[int]] = {}
    for task, page, row in s.rows():
        if page.state[row] == State.ASSIGNED and chance.random() < 0.5:
            assigned.setdefault(page.node[row], []).append(task)
    for index, tasks in assigned.items():
        if index in s.nodes:
            s.say(s.nodes[index].peer, Recall(tasks))
    asked = {task for tasks in assigned.values() for task in tasks}
    if chance.random() < 0.4:
        # Its answer meets what was given up meanwhile.
        for client in history.clients():
            mine = [task for task, outcome in client.wanted.items() if outcome is None]
            mine = [task for task in mine if task in asked]
            if mine:
                client.cancel(mine[:3])


def _restart(history: History, chance: random.Random, action: Action) -> None:
    client = history.some_client(chance)
    if client is not None:
        history.note_restart()
        history.asking.restart(client)


def _retire(history: History, chance: random.Random, action: Action) -> None:
    """Nodes hand over what they have, and end."""
    client = history.some_client(chance)
    names = [node.name for node in history.nodes()]
    if client is not None and names:
        some = chance.sample(names, chance.randint(1, max(1, len(names) // 2)))
        # What cannot leave a heap goes with it.
        history.model.had_losses = True
        history.asking.retire(client, some, close=chance.random() < 0.8)


def _retire_workers(history: History, chance: random.Random, action: Action) -> None:
    """Single workers end what they run, and themselves."""
    client = history.some_client(chance)
    names = [w.name for node in history.nodes() for w in node.core.workers.values()]
    if client is not None and names:
        history.model.had_losses = True
        history.asking.retire(client, chance.sample(names, min(len(names), chance.randint(1, 2))))


def _call(history: History, chance: random.Random, action: Action) -> None:
    """A direct call is made, beside the tasks."""
    client = history.some_client(chance)
    if client is not None:
        history.asking.call(client, chance)


def _share(history: History, chance: random.Random, action: Action) -> None:
    """Clients meet at locks, events, queues and variables."""
    for _ in range(chance.randint(1, 4)):
        client = history.some_client(chance)
        if client is not None:
            history.asking.share(client, chance)


def _close_client(history: History, chance: random.Random, action: Action) -> None:
    """A client says goodbye, with what it wants unfinished."""
    present = history.clients()
    if len(present) > 1:
        client = chance.choice(present)
        history.model.gone.add(client.index)
        client.close()


DOINGS: Mapping[str, Callable[[Any, random.Random, Action], None]] = {
    "node": _node,
    "client": _client,
    "submit": _submit,
    "release": _release,
    "cancel": _cancel,
    "cancel_force": _cancel,
    "want": _want,
    "retry": _retry,
    "scatter": _scatter,
    "join": _join,
    "copies": _copies,
    "recall": _recall,
    "restart": _restart,
    "retire": _retire,
    "retire_workers": _retire_workers,
    "call": _call,
    "share": _share,
    "close_client": _close_client,
    "new_client": _client,
}
