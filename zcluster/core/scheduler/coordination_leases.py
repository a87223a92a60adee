"""Locks and semaphores: leases, granted in the order in which they were asked for.

A lease belongs to the ticket that asked for it. Several locks may be asked for at once
(a `MultiLock`): the request then stands in the lines of all of them, and is granted when
it is the first at enough free ones. It joined all lines in the same moment, so requests
have one order, and the oldest is never behind a younger one: there is no deadlock.

A pool without leases and without waiters is forgotten.
"""

from __future__ import annotations

from collections.abc import Iterable

from zcluster.core.scheduler.coordination_records import Pool, Ticket, Waiter
from zcluster.core.scheduler.coordination_values import answer, leave_lines, stand_in
from zcluster.core.scheduler.state import SchedulerState
from zcluster.errors import InvalidArgument, ProtocolError
from zcluster.protocol.messages import Coordinate

__all__ = ["acquire", "close", "count_leases", "drop_client", "release", "serve"]


def acquire(s: SchedulerState, ticket: Ticket, message: Coordinate) -> None:
    """Ask for a lease: of a semaphore with ``number`` leases, or of ``number`` of the locks.

    Raises
    ------
    InvalidArgument
        If others say that the semaphore has another number.
    ProtocolError
        If the request cannot be meant.
    """
    names = list(dict.fromkeys(message.names)) or [message.name]
    is_lock = message.kind == "lock"
    count = message.number if is_lock else 1
    limit = 1 if is_lock else message.number
    if not 0 < count <= len(names) or limit < 1 or (len(names) > 1 and not is_lock):
        raise ProtocolError(f"nobody can acquire {message.number} of {message.kind} {names}")
    pools = s.things.pools
    for name in names:
        pool = pools.get((message.kind, name))
        if pool is None:
            pool = pools[message.kind, name] = Pool(limit)
        if pool.limit != limit:
            raise InvalidArgument(
                f"semaphore {name!r} has {pool.limit} leases for those who use it now, and "
                f"{limit} were named; give max_leases={pool.limit}, or another name"
            )
    lines = [pools[message.kind, name].line for name in names]
    stand_in(s, ticket, message, lines, names, count)
    serve(s, message.kind, names)


def release(s: SchedulerState, ticket: Ticket, kind: str, names: Iterable[str]) -> None:
    """Take a lease back, if it is one, and pass on what is free now."""
    names = list(names)
    for name in names:
        pool = s.things.pools.get((kind, name))
        if pool is not None:
            pool.leases.pop(ticket, None)
    serve(s, kind, names)


def count_leases(s: SchedulerState, kind: str, name: str) -> int:
    """Return how many leases are out."""
    pool = s.things.pools.get((kind, name))
    return 0 if pool is None else len(pool.leases)


def close(s: SchedulerState, kind: str, name: str) -> None:
    """Forget a pool with its leases; who waits is told so."""
    pool = s.things.pools.get((kind, name))
    if pool is None:
        return
    names = [name]
    for waiter in list(pool.line.values()):
        leave_lines(s, waiter)
        names += waiter.names
        error = f"{kind} {name!r} was closed while this waited for it; make a new one"
        answer(s, waiter.ticket, False, error=error)
    pool.leases.clear()
    serve(s, kind, names)


def drop_client(s: SchedulerState, client: int) -> None:
    """Take back all leases of a client; it must stand in no line any more."""
    free: list[tuple[str, str]] = []
    for place, pool in s.things.pools.items():
        gone = [ticket for ticket in pool.leases if ticket.client == client]
        for ticket in gone:
            del pool.leases[ticket]
        if gone:
            free.append(place)
    for kind, name in free:
        serve(s, kind, [name])


def serve(s: SchedulerState, kind: str, names: Iterable[str]) -> None:
    """Grant what can be granted at some pools, and forget those that are idle."""
    pools = s.things.pools
    stack = list(names)
    while stack:
        name = stack.pop()
        pool = pools.get((kind, name))
        if pool is None:
            continue
        while pool.line and len(pool.leases) < pool.limit:
            waiter = next(iter(pool.line.values()))
            ready = [other for other in waiter.names if _is_next(pools[kind, other], waiter)]
            if len(ready) < waiter.count:
                break
            leave_lines(s, waiter)
            for other in ready[: waiter.count]:
                pools[kind, other].leases[waiter.ticket] = None
            answer(s, waiter.ticket)
            # Behind it, in the lines that it left without a lease, somebody may be next.
            stack += [other for other in waiter.names if other != name]
        if not pool.line and not pool.leases:
            del pools[kind, name]


def _is_next(pool: Pool, waiter: Waiter) -> bool:
    is_free = len(pool.leases) < pool.limit
    return is_free and next(iter(pool.line.values())) is waiter
