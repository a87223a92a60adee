"""The newest live client is the default one, for ``compute()`` and `get_client`.

Clients are remembered weakly: one that nobody holds any more is closed by its end.
What else should follow the default (the collections' runner, say) is above this
part of the tree and registers with `follow_default`.
"""

from __future__ import annotations

import atexit
import os
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from zcluster.client.gates import begin_exit, leave_if_exiting
from zcluster.errors import ClientClosed

if TYPE_CHECKING:
    from zcluster.client.client import Client

__all__ = [
    "add_client",
    "as_current",
    "default_client",
    "follow_default",
    "live_clients",
    "remove_client",
]

_live: list[weakref.ref[Client]] = []
_defaults: list[weakref.ref[Client]] = []
_followers: list[tuple[Callable[[Any], Any], Callable[[Any], Any]]] = []
_is_hooked = False

#: The client whose `as_current` block this thread or coroutine is in.
_current: ContextVar[Client | None] = ContextVar("zcluster_client", default=None)
#: All clients with such a block, the newest last.
_currents: list[Client] = []


def live_clients() -> list[Client]:
    """Return the clients that are not closed, oldest first."""
    return [client for ref in list(_live) if (client := ref()) is not None]


def default_client(allow_global: bool = True) -> Client:
    """Return the client of the `as_current` block, else the newest live default one.

    Parameters
    ----------
    allow_global : bool
        Whether one outside of a block will do.

    Raises
    ------
    ClientClosed
        If there is none.
    """
    current = _current.get()
    if current is not None:
        return current
    for ref in reversed(_defaults if allow_global else ()):
        client = ref()
        if client is not None:
            return client
    leave_if_exiting()
    raise ClientClosed("there is no live client in this process; make one with Client(...)")


@contextmanager
def as_current(client: Client) -> Iterator[Client]:
    """Make a client the default one within a block.

    `default_client` returns it in this thread or coroutine; what follows the default, as
    ``compute()`` does, follows it in the whole process.
    """
    token = _current.set(client)
    _currents.append(client)
    _order_followers(client)
    try:
        yield client
    finally:
        _current.reset(token)
        for place in range(len(_currents) - 1, -1, -1):
            if _currents[place] is client:
                del _currents[place]
                break
        _order_followers(client)


def _order_followers(changed: Client) -> None:
    """Tell the followers all clients again, so that the last they hear of is the newest."""
    live = live_clients()
    defaults = [client for ref in list(_defaults) if (client := ref()) is not None]
    order = [client for client in defaults if client not in _currents]
    # Each once, where its innermost block puts it.
    order += reversed(dict.fromkeys(client for client in reversed(_currents) if client in live))
    for push, pop in _followers:
        if changed not in order:
            pop(changed)
        for client in order:
            pop(client)
            push(client)


def follow_default(push: Callable[[Any], Any], pop: Callable[[Any], Any]) -> None:
    """Call ``push(client)`` for each default client, now and later; ``pop(client)`` at its end.

    A client's place may change (`as_current`): then it is popped and pushed again. So a
    pop of one that is not there has to do nothing.
    """
    _followers.append((push, pop))
    for ref in list(_defaults):
        client = ref()
        if client is not None:
            push(client)


def add_client(client: Client, set_as_default: bool) -> None:
    """Remember a new client."""
    global _is_hooked
    if not _is_hooked:
        # With the first client, not at import, which does nothing.
        _is_hooked = True
        atexit.register(_close_all)
        os.register_at_fork(after_in_child=_after_fork)
    _live.append(weakref.ref(client, _forget))
    if set_as_default:
        _defaults.append(weakref.ref(client, _forget))
        for push, _ in _followers:
            push(client)


def remove_client(client: Client) -> None:
    """Forget a client that closes."""
    was_default = any(ref() is client for ref in _defaults)
    for refs in (_live, _defaults):
        refs[:] = [ref for ref in refs if ref() is not client and ref() is not None]
    if was_default:
        for _, pop in _followers:
            pop(client)


def _forget(gone: weakref.ref[Client]) -> None:
    for refs in (_live, _defaults):
        refs[:] = [ref for ref in refs if ref is not gone]


def _close_all() -> None:
    begin_exit()
    # A second Ctrl-C means "at once": what is left ends with this process anyway.
    with suppress(KeyboardInterrupt):
        for client in reversed(live_clients()):
            client.close(timeout=1.0)


def _after_fork() -> None:
    for client in live_clients():
        client._engine.after_fork()
    _defaults.clear()
