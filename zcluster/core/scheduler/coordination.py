"""Things that clients share: locks, semaphores, events, queues, variables, data, topics.

They exist here by name, while there is something to say of them. A client that vanishes
leaves nothing behind: what waited is off the lines, leases and what was on its way to it
are free again, and whoever is next gets them. What it has published stays.

=========  ===========  =============================================================
kind       action       fields, and the answer
=========  ===========  =============================================================
lock       acquire      ``number`` of the locks ``names`` (or the one ``name``)
semaphore  acquire      of ``number`` leases in all
both       release      ``number``: the request that acquired; ``names`` as there
both       count, close the leases that are out; all is forgotten
event      set, clear,  ``is_set`` answers yes or no
           wait, is_set
queue      put          ``number`` places (0: no limit), the value
queue      get          ``number`` values (0: those there are)
queue      size, close  the number of items; all items are forgotten
variable   set, get,    the value
           delete
dataset    publish      the value; ``number`` 1 replaces one of that name
dataset    get, list,   the value; the names
           unpublish
metadata   set, get     the value, under the path ``names``
topic      log          the value, to the topics ``names``; ``number``: when, in μs
topic      events       times and values
topic      list         the names
topic      subscribe,   each `Published` from then on
           unsubscribe
any        withdraw     ``number``: the request that shall wait no longer
any        taken        ``number``: the request whose values have arrived
any        refuse       ``number``: the request whose values nobody waits for any more
=========  ===========  =============================================================

`withdraw` is answered as that request, with no, unless that was answered already: then
the client, which reads answers in order, finds it. One that is not there any more to look
says `release` or `refuse` after it, which do nothing where nothing was granted. So there is
no moment in which a grant can be lost.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from zcluster.core.scheduler import coordination_leases as leases
from zcluster.core.scheduler import coordination_queues as queues
from zcluster.core.scheduler import coordination_stored as stored
from zcluster.core.scheduler.coordination_records import Ticket, Topic, Waiter
from zcluster.core.scheduler.coordination_values import answer, drop_value, leave_lines
from zcluster.core.scheduler.records import ClientRecord
from zcluster.core.scheduler.state import SchedulerState
from zcluster.errors import InvalidArgument, ProtocolError
from zcluster.protocol.messages import Coordinate
from zcluster.types import Frames

__all__ = ["coordinate", "drop_client", "expire"]

_Handler: TypeAlias = Callable[[SchedulerState, Ticket, Coordinate, Frames], None]


def coordinate(
    s: SchedulerState, client: ClientRecord, message: Coordinate, frames: Frames
) -> None:
    """Do what a client asks.

    Raises
    ------
    ProtocolError
        If there is no such action, or the message contradicts itself.
    """
    handler = _HANDLERS.get((message.kind, message.action)) or _ANY.get(message.action)
    if handler is None:
        raise ProtocolError(f"nobody can {message.action!r} a {message.kind!r}")
    ticket = Ticket(client.index, message.request)
    if ticket in s.things.waiters or ticket in s.things.deliveries:
        raise ProtocolError(f"request {message.request} was made already and is not done")
    try:
        handler(s, ticket, message, frames)
    except InvalidArgument as error:
        answer(s, ticket, False, error=str(error))
        return
    waiter = s.things.waiters.get(ticket)
    if waiter is not None and message.timeout is not None and message.timeout <= 0:
        _give_up(s, [waiter])


def expire(s: SchedulerState) -> None:
    """End the waits whose time is up: of clients that did not do so themselves."""
    late = [w for w in s.things.waiters.values() if w.until is not None and w.until <= s.now]
    _give_up(s, late)


def drop_client(s: SchedulerState, client: int) -> None:
    """Free all that a client had or waited for; it is not among the clients any more."""
    things = s.things
    waiting = [waiter for waiter in things.waiters.values() if waiter.ticket.client == client]
    # First off all lines, so that nothing is given to it; and its leases back before anybody is
    # served, so that who may take one of several is offered all that became free.
    for waiter in waiting:
        leave_lines(s, waiter)
    leases.drop_client(s, client)
    for waiter in waiting:
        _settle_left(s, waiter)
    _refuse(s, [ticket for ticket in things.deliveries if ticket.client == client])
    stored.drop_client(s, client)


def _give_up(s: SchedulerState, waiters: list[Waiter]) -> None:
    """End waits with no; nothing that becomes free by one of them goes to another."""
    for waiter in waiters:
        leave_lines(s, waiter)
        answer(s, waiter.ticket, False)
    for waiter in waiters:
        _settle_left(s, waiter)


def _settle_left(s: SchedulerState, waiter: Waiter) -> None:
    """A request left its lines with nothing: drop what it brought, see who is next."""
    if waiter.value is not None:
        drop_value(s, waiter.value)
    for name in waiter.names:
        if waiter.kind in ("lock", "semaphore"):
            leases.serve(s, waiter.kind, [name])
        elif waiter.kind == "queue":
            queues.serve_channel(s, name)
        else:
            queues.tidy(s, waiter.kind, name)


def _refuse(s: SchedulerState, tickets: list[Ticket]) -> None:
    """Nobody takes these deliveries: what came from a queue goes back, in the old order."""
    names: dict[str, None] = {}
    for ticket in reversed(tickets):
        delivery = s.things.deliveries.pop(ticket, None)
        if delivery is not None and delivery.queue is not None:
            queues.return_items(s, delivery.queue, delivery.values)
            names[delivery.queue] = None
        elif delivery is not None:
            for value in delivery.values:
                drop_value(s, value)
    for name in names:
        queues.serve_channel(s, name)


# ----------------------------------------------------------------------------- any thing


def _on_withdraw(s: SchedulerState, ticket: Ticket, message: Coordinate, _: Frames) -> None:
    waiter = s.things.waiters.get(Ticket(ticket.client, message.number))
    if waiter is not None:
        _give_up(s, [waiter])


def _on_taken(s: SchedulerState, ticket: Ticket, message: Coordinate, _: Frames) -> None:
    delivery = s.things.deliveries.pop(Ticket(ticket.client, message.number), None)
    if delivery is not None:
        for value in delivery.values:
            drop_value(s, value)


def _on_refuse(s: SchedulerState, ticket: Ticket, message: Coordinate, _: Frames) -> None:
    _refuse(s, [Ticket(ticket.client, message.number)])


# ---------------------------------------------------------------- leases, events, queues


def _on_acquire(s: SchedulerState, ticket: Ticket, message: Coordinate, _: Frames) -> None:
    leases.acquire(s, ticket, message)


def _on_release(s: SchedulerState, ticket: Ticket, message: Coordinate, _: Frames) -> None:
    lease = Ticket(ticket.client, message.number)
    leases.release(s, lease, message.kind, message.names or [message.name])
    answer(s, ticket)


def _on_count(s: SchedulerState, ticket: Ticket, message: Coordinate, _: Frames) -> None:
    answer(s, ticket, value=leases.count_leases(s, message.kind, message.name))


def _on_close(s: SchedulerState, ticket: Ticket, message: Coordinate, _: Frames) -> None:
    leases.close(s, message.kind, message.name)
    answer(s, ticket)


def _on_event_set(s: SchedulerState, ticket: Ticket, message: Coordinate, _: Frames) -> None:
    queues.set_flag(s, message.name)
    answer(s, ticket)


def _on_event_clear(s: SchedulerState, ticket: Ticket, message: Coordinate, _: Frames) -> None:
    queues.clear_flag(s, message.name)
    answer(s, ticket)


def _on_event_wait(s: SchedulerState, ticket: Ticket, message: Coordinate, _: Frames) -> None:
    queues.wait_flag(s, ticket, message)


def _on_event_is_set(s: SchedulerState, ticket: Ticket, message: Coordinate, _: Frames) -> None:
    flag = s.things.flags.get(message.name)
    answer(s, ticket, flag is not None and flag.is_set)


def _on_queue_get(s: SchedulerState, ticket: Ticket, message: Coordinate, _: Frames) -> None:
    queues.get_items(s, ticket, message)


def _on_queue_size(s: SchedulerState, ticket: Ticket, message: Coordinate, _: Frames) -> None:
    channel = s.things.channels.get(message.name)
    answer(s, ticket, value=0 if channel is None else len(channel.items))


def _on_queue_close(s: SchedulerState, ticket: Ticket, message: Coordinate, _: Frames) -> None:
    queues.close_channel(s, message.name)
    answer(s, ticket)


def _on_variable_get(s: SchedulerState, ticket: Ticket, message: Coordinate, _: Frames) -> None:
    queues.get_cell(s, ticket, message)


def _on_variable_delete(s: SchedulerState, ticket: Ticket, message: Coordinate, _: Frames) -> None:
    queues.delete_cell(s, message.name)
    answer(s, ticket)


# ------------------------------------------------------------ datasets, metadata, topics


def _on_dataset_get(s: SchedulerState, ticket: Ticket, message: Coordinate, _: Frames) -> None:
    stored.get_dataset(s, ticket, message)


def _on_dataset_list(s: SchedulerState, ticket: Ticket, message: Coordinate, _: Frames) -> None:
    answer(s, ticket, value=list(s.things.datasets))


def _on_unpublish(s: SchedulerState, ticket: Ticket, message: Coordinate, _: Frames) -> None:
    stored.unpublish(s, ticket, message)


def _on_metadata_get(s: SchedulerState, ticket: Ticket, message: Coordinate, _: Frames) -> None:
    stored.get_metadata(s, ticket, message)


def _on_log(s: SchedulerState, ticket: Ticket, message: Coordinate, frames: Frames) -> None:
    stored.log(s, message, frames)
    answer(s, ticket)


def _on_events(s: SchedulerState, ticket: Ticket, message: Coordinate, _: Frames) -> None:
    stored.events(s, ticket, message)


def _on_topics(s: SchedulerState, ticket: Ticket, message: Coordinate, _: Frames) -> None:
    topics = [name for name, topic in s.things.topics.items() if topic.events]
    answer(s, ticket, value=topics)


def _on_subscribe(s: SchedulerState, ticket: Ticket, message: Coordinate, _: Frames) -> None:
    s.things.topics.setdefault(message.name, Topic()).listeners.add(ticket.client)
    answer(s, ticket)


def _on_unsubscribe(s: SchedulerState, ticket: Ticket, message: Coordinate, _: Frames) -> None:
    topic = s.things.topics.get(message.name)
    if topic is not None:
        topic.listeners.discard(ticket.client)
        stored.tidy_topic(s, message.name)
    answer(s, ticket)


_LEASES: dict[str, _Handler] = {
    "acquire": _on_acquire,
    "release": _on_release,
    "count": _on_count,
    "close": _on_close,
}

_ANY: dict[str, _Handler] = {
    "withdraw": _on_withdraw,
    "taken": _on_taken,
    "refuse": _on_refuse,
}

_HANDLERS: dict[tuple[str, str], _Handler] = {
    **{(kind, action): _LEASES[action] for kind in ("lock", "semaphore") for action in _LEASES},
    ("event", "set"): _on_event_set,
    ("event", "clear"): _on_event_clear,
    ("event", "wait"): _on_event_wait,
    ("event", "is_set"): _on_event_is_set,
    ("queue", "put"): queues.put_item,
    ("queue", "get"): _on_queue_get,
    ("queue", "size"): _on_queue_size,
    ("queue", "close"): _on_queue_close,
    ("variable", "set"): queues.set_cell,
    ("variable", "get"): _on_variable_get,
    ("variable", "delete"): _on_variable_delete,
    ("dataset", "publish"): stored.publish,
    ("dataset", "get"): _on_dataset_get,
    ("dataset", "list"): _on_dataset_list,
    ("dataset", "unpublish"): _on_unpublish,
    ("metadata", "set"): stored.set_metadata,
    ("metadata", "get"): _on_metadata_get,
    ("topic", "log"): _on_log,
    ("topic", "events"): _on_events,
    ("topic", "list"): _on_topics,
    ("topic", "subscribe"): _on_subscribe,
    ("topic", "unsubscribe"): _on_unsubscribe,
}
