"""What goes wrong in a history: the kinds of `zcluster.testing.plans.FAULTS`.

Each function takes the history, the chance of this one action, and the action. It returns
whether it hit running work: a history in which nothing did proves little, and does not count.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from zcluster.core.node import pausing
from zcluster.testing.doings import submit
from zcluster.testing.plans import Action
from zcluster.testing.stores import AMPLE

if TYPE_CHECKING:
    from zcluster.testing.histories import History

__all__ = ["FAULT_KINDS", "PERMITTED_PAUSE", "draw_seconds"]

#: A scheduler may stand still for so long, and nobody is taken for dead.
PERMITTED_PAUSE = 10.0

#: How often a fault looks for one that is at work.
_AIMED = 0.7

#: How often the node that ends is one that has a client's data, which tasks need; and how large
#: their graph is.
_WITH_DATA, _FEW = 0.2, 6
#: How often the client ends with it, if there are others; and how often a node is replaced that
#: lives.
_WITH_OWNER, _BESIDE = 0.4, 0.4

#: How often the scheduler stands still just after it has missed somebody, and how long after.
_AFTER_LOSS, _MOMENT = 0.3, 0.002

#: How often the scheduler does not stand still, but stutters, and for how long.
_STUTTERS, _STUTTERING = 0.3, 0.3

#: How often a connection does not end, but loses or repeats messages first, and how many.
_UNTRUE, _MESSAGES = 0.6, 3


def draw_seconds(chance: random.Random, least: float, most: float) -> float:
    """Draw a time; short ones are as likely as long ones (log-uniform).

    Examples
    --------
    >>> 0.1 <= draw_seconds(random.Random(1), 0.1, 20.0) <= 20.0
    True
    """
    return least * math.exp(chance.random() * math.log(most / least))


def _kill_worker(history: History, chance: random.Random, action: Action) -> bool:
    workers = [(node, w) for node in history.nodes() for w in node.workers.values()]
    if not workers:
        return False
    busy = [pair for pair in workers if pair[1].current()]
    if busy and chance.random() < _AIMED:
        workers = busy
    node, worker = chance.choice(workers)
    was_working = bool(worker.current())
    history.world.kill_worker(node, worker)
    return was_working


def _lose_node(history: History, chance: random.Random, action: Action) -> bool:
    """A node's process ends, or its host: then nobody says so."""
    if chance.random() < _WITH_DATA:
        return _lose_data(history, chance, action)
    node = history.some_node(chance)
    if node is None:
        return False
    if action.kind == "restart_node" and chance.random() < _BESIDE:
        # It was taken for dead, and speaks when the next one comes.
        history.model.had_losses = history.model.had_silent_ports = True
        workers, slots, resources, storage = node.shape
        history.world.add_node(node.name, workers, slots, resources, storage, is_beside=True)
        _stutter(history, chance)
        return bool(node.core.tasks)
    return _end_node(history, chance, action, node)


def _end_node(history: History, chance: random.Random, action: Action, node: Any) -> bool:
    was_working = bool(node.core.tasks)
    history.model.had_losses = history.model.had_silent_ports = True
    is_noticed = chance.random() < 0.7
    if not is_noticed:
        history.watch_absence(node, math.inf)
    history.world.lose_node(node, noticed=is_noticed)
    if action.kind == "restart_node":
        history.world.restart_node(node.name, after=draw_seconds(chance, 0.05, 5.0))
    return was_working


def _lose_data(history: History, chance: random.Random, action: Action) -> bool:
    """A node ends that alone has what a client has put there, while tasks need it.

    At times the client ends too, and others wait for what nobody can put again.
    """
    client = history.some_client(chance)
    if client is None:
        return False
    data = client.scatter([b"b%d " % history.next_number()])
    if history.is_restarting:
        history.model.cancelled.update(data)

    def build_on_it() -> None:
        if not history.is_healed and client in history.clients() and data[0] in client.wanted:
            made = submit(history, chance, client, _FEW, data)
            history.world.at(draw_seconds(chance, 1e-4, 0.01), end_it, made)

    def end_it(made: range) -> None:
        others = [other for other in history.clients() if other is not client]
        if others and not history.is_healed and chance.random() < _WITH_OWNER:
            chance.choice(others).want([task for task in made if task in client.wanted])
            history.world.at(draw_seconds(chance, 1e-3, 0.02), _end_client, history, chance, client)
        for node in history.nodes() if not history.is_healed else ():
            if data[0] in node.core.results:
                _end_node(history, chance, action, node)
                return

    history.world.at(draw_seconds(chance, 0.001, 0.1), build_on_it)
    return history.is_working


def _freeze_node(history: History, chance: random.Random, action: Action) -> bool:
    node = history.some_node(chance)
    if node is None:
        return False
    history.model.had_losses = history.model.had_silent_ports = True
    seconds = draw_seconds(chance, 0.1, 20.0)
    if not node.is_frozen:
        history.watch_absence(node, seconds)
    history.world.freeze(node, seconds)
    return bool(node.core.tasks)


def _stutter(history: History, chance: random.Random) -> None:
    """The scheduler gets to run now and then only: much waits for it each time, in one go."""
    world, at = history.world, 0.0
    while at < _STUTTERING:
        seconds = draw_seconds(chance, 0.001, 0.03)
        world.at(at, world.freeze, world.scheduler, seconds)
        at += seconds + 0.002 * chance.random()
    history.note_pause(at)


def _freeze_scheduler(history: History, chance: random.Random, action: Action) -> bool:
    if chance.random() < _STUTTERS:
        _stutter(history, chance)
        return history.is_working
    seconds = PERMITTED_PAUSE
    if chance.random() < 0.7:
        seconds = draw_seconds(chance, 0.1, PERMITTED_PAUSE)
    world, members = history.world, [*history.nodes(), *history.clients()]
    if not members or chance.random() > _AFTER_LOSS:
        history.note_pause(seconds)
        world.freeze(world.scheduler, seconds)
        return history.is_working
    # Who is missed when it stops has come back long before it goes on.
    wait = chance.random() * _MOMENT
    history.note_pause(PERMITTED_PAUSE + wait, is_waited_for=True)
    world.drop_connection(chance.choice(members))
    world.at(wait, world.freeze, world.scheduler, PERMITTED_PAUSE)
    return history.is_working


def _freeze_client(history: History, chance: random.Random, action: Action) -> bool:
    client = history.some_client(chance)
    if client is None:
        return False
    seconds = draw_seconds(chance, 0.1, 20.0)
    history.model.note_away([client.index], seconds)
    history.world.freeze(client, seconds)
    return history.is_working


def _cut(history: History, chance: random.Random, action: Action) -> bool:
    """A network goes away, often in one direction only, and at times without a word."""
    if action.kind == "cut_node":
        member: Any = history.some_node(chance)
        history.model.had_losses = True
    else:
        member = history.some_client(chance)
    if member is None:
        return False
    seconds = draw_seconds(chance, 0.1, 20.0)
    if action.kind == "cut_client":
        history.model.note_away([member.index], seconds)
    ways = chance.choice(((True, True), (True, True), (True, False), (False, True)))
    if action.kind == "cut_node" and ways[0]:
        history.watch_absence(member, seconds)
    history.world.cut(
        member,
        seconds,
        to_scheduler=ways[0],
        from_scheduler=ways[1],
        noticed=chance.random() < 0.5,
    )
    return history.is_working


def _drop_connection(history: History, chance: random.Random, action: Action) -> bool:
    members = [*history.nodes(), *history.clients()]
    if not members:
        return False
    member, noticed = chance.choice(members), chance.random() < 0.5
    made = member.line.connection
    if made is None or chance.random() > _UNTRUE:
        history.world.drop_connection(member, noticed)
        return history.is_working
    network = history.world.network
    if chance.random() < 0.7:
        network.lose_next(made, chance.randint(1, _MESSAGES))
    else:
        network.repeat_next(made, chance.randrange(_MESSAGES), chance.randint(1, _MESSAGES))

    def end_it() -> None:
        # That the last one was lost nobody could know before.
        if member.line.connection is made:
            history.world.drop_connection(member)

    history.on_heal(draw_seconds(chance, 0.1, 2.0), end_it)
    return history.is_working


def _slow_link(history: History, chance: random.Random, action: Action) -> bool:
    members = [*history.nodes(), *history.clients()]
    if not members:
        return False
    delay = draw_seconds(chance, 0.01, 1.0)
    history.world.slow(chance.choice(members), draw_seconds(chance, 0.1, 5.0), delay=delay)
    return history.is_working


def _lose_client(history: History, chance: random.Random, action: Action) -> bool:
    if len(history.clients()) < 2:
        return False
    _end_client(history, chance, chance.choice(history.clients()))
    return history.is_working


def _end_client(history: History, chance: random.Random, client: Any) -> None:
    if history.is_healed:
        return
    history.model.gone.add(client.index)
    history.world.lose_client(client, noticed=chance.random() < 0.7)


def _fail_fetches(history: History, chance: random.Random, action: Action) -> bool:
    """A node's data port refuses what others ask of it."""
    node = history.some_node(chance)
    if node is None:
        return False
    rate = chance.choice((0.5, 1.0))
    history.model.had_silent_ports = True
    history.world.fail_fetches(node, draw_seconds(chance, 0.01, 3.0), rate=rate)
    return history.is_working


def _fill_store(history: History, chance: random.Random, action: Action) -> bool:
    """A node's store has hardly any room for a while: tasks may fail for it."""
    node = history.some_node(chance)
    if node is None:
        return False
    store, limit = node.store, node.store.limit
    # With a disk results go there.
    store.is_tight |= not store.has_disk or store.disk_limit < AMPLE
    store.limit = store.used + chance.choice((0, 50, 150))

    def restore() -> None:
        store.limit = max(store.limit, limit)

    history.on_heal(draw_seconds(chance, 0.01, 5.0), restore)
    return bool(node.core.tasks)


def _spoil_disk(history: History, chance: random.Random, action: Action) -> bool:
    """A node's disk is full, gives errors, or does not give back what was written to it."""
    nodes = [node for node in history.nodes() if node.store.has_disk]
    if not nodes:
        return False
    nodes = [node for node in nodes if node.core.spilling.recent or node.store.spilled] or nodes
    node = chance.choice(nodes)
    store, space = node.store, node.store.disk_limit
    # What was lost is not made again if it may run once; and a disk may be given up.
    history.model.had_losses = store.is_tight = True
    way, rate = chance.choice(("full", "errors", "flips", "flips")), chance.choice((0.3, 1.0))
    if way == "full":
        store.disk_limit = min(space, store.spilled + chance.choice((0, 150)))
    elif way == "errors":
        store.disk_errors = rate
    else:
        store.disk_flips = rate

    def restore() -> None:
        store.disk_errors = store.disk_flips = 0.0
        store.disk_limit = max(store.disk_limit, space)

    history.on_heal(draw_seconds(chance, 0.1, 10.0), restore)
    for seconds in (0.0, 0.003, 0.02) if chance.random() < 0.7 else ():
        # So that something is written meanwhile.
        history.world.at(seconds, _press, node)
    return bool(node.core.tasks)


def _press(node: Any) -> None:
    node.process.deliver(node.core.on_pressure, 1000, node.world.now)


def _press_memory(history: History, chance: random.Random, action: Action) -> bool:
    """A node's memory is short: what is not in use goes to disk, if there is one."""
    nodes = [node for node in history.nodes() if node.store.has_disk and not node.is_frozen]
    if not nodes:
        return False
    node = chance.choice(nodes)
    node.process.deliver(node.core.on_pressure, chance.choice((100, 1000)), history.world.now)
    return bool(node.core.tasks)


def _pause_workers(history: History, chance: random.Random, action: Action) -> bool:
    """Workers have more memory than they should, and get no more work for a while."""
    node = history.some_node(chance)
    if node is None:
        return False
    numbers = [number for number in node.core.workers if chance.random() < 0.7]
    reason = "it has more memory than it should"
    node.process.deliver(pausing.pause, node.core, pausing.MEMORY, reason, numbers)

    def resume() -> None:
        node.process.deliver(pausing.resume, node.core, pausing.MEMORY, numbers)

    history.on_heal(draw_seconds(chance, 0.01, 5.0), resume)
    return bool(numbers) and bool(node.core.tasks)


FAULT_KINDS: Mapping[str, Callable[[Any, random.Random, Action], bool]] = {
    "kill_worker": _kill_worker,
    "lose_node": _lose_node,
    "restart_node": _lose_node,
    "freeze_node": _freeze_node,
    "freeze_scheduler": _freeze_scheduler,
    "freeze_client": _freeze_client,
    "cut_node": _cut,
    "cut_client": _cut,
    "drop_connection": _drop_connection,
    "slow_link": _slow_link,
    "lose_client": _lose_client,
    "fail_fetches": _fail_fetches,
    "fill_store": _fill_store,
    "spoil_disk": _spoil_disk,
    "press_memory": _press_memory,
    "pause_workers": _pause_workers,
}
