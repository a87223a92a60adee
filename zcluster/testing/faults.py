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
from zcluster.testing.plans import Action
from zcluster.testing.stores import AMPLE

if TYPE_CHECKING:
    from zcluster.testing.histories import History

__all__ = ["FAULT_KINDS", "PERMITTED_PAUSE", "draw_seconds"]

#: A scheduler may stand still for so long, and nobody is taken for dead.
PERMITTED_PAUSE = 10.0

#: How often a fault looks for one that is at work.
_AIMED = 0.7


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
    node = history.some_node(chance)
    if node is None:
        return False
    was_working = bool(node.core.tasks)
    history.model.had_losses = history.model.had_silent_ports = True
    is_noticed = chance.random() < 0.7
    if not is_noticed:
        history.watch_absence(node, math.inf)
    history.world.lose_node(node, noticed=is_noticed)
    if action.kind == "restart_node":
        history.world.restart_node(node.name, after=draw_seconds(chance, 0.05, 5.0))
    return was_working


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


def _freeze_scheduler(history: History, chance: random.Random, action: Action) -> bool:
    seconds = PERMITTED_PAUSE
    if chance.random() < 0.7:
        seconds = draw_seconds(chance, 0.1, PERMITTED_PAUSE)
    history.note_pause(seconds)
    history.world.freeze(history.world.scheduler, seconds)
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
    history.world.drop_connection(chance.choice(members), noticed=chance.random() < 0.5)
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
    client = chance.choice(history.clients())
    history.model.gone.add(client.index)
    history.world.lose_client(client, noticed=chance.random() < 0.7)
    return history.is_working


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
