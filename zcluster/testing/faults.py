"""What goes wrong in a history: the kinds of `zcluster.testing.plans.FAULTS`.

Each function takes the history, the chance of this one action, and the action. It returns
whether it hit running work: a history in which nothing did proves little, and does not count.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from zcluster.testing.plans import Action

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
    history.world.lose_node(node, noticed=chance.random() < 0.7)
    if action.kind == "restart_node":
        history.world.restart_node(node.name, after=draw_seconds(chance, 0.05, 5.0))
    return was_working


def _freeze_node(history: History, chance: random.Random, action: Action) -> bool:
    node = history.some_node(chance)
    if node is None:
        return False
    history.model.had_losses = history.model.had_silent_ports = True
    history.world.freeze(node, draw_seconds(chance, 0.1, 20.0))
    return bool(node.core.tasks)


def _freeze_scheduler(history: History, chance: random.Random, action: Action) -> bool:
    seconds = PERMITTED_PAUSE
    if chance.random() < 0.7:
        seconds = draw_seconds(chance, 0.1, PERMITTED_PAUSE)
    history.world.freeze(history.world.scheduler, seconds)
    return history.is_working


def _freeze_client(history: History, chance: random.Random, action: Action) -> bool:
    client = history.some_client(chance)
    if client is None:
        return False
    history.note_away(client)
    history.world.freeze(client, draw_seconds(chance, 0.1, 20.0))
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
    if action.kind == "cut_client":
        history.note_away(member)
    ways = chance.choice(((True, True), (True, True), (True, False), (False, True)))
    history.world.cut(
        member,
        draw_seconds(chance, 0.1, 20.0),
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
    history.model.had_full_stores = True
    store.limit = store.used + chance.choice((0, 50, 150))

    def restore() -> None:
        store.limit = max(store.limit, limit)

    history.on_heal(draw_seconds(chance, 0.01, 5.0), restore)
    return bool(node.core.tasks)


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
}
