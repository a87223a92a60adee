"""The newest live client is the default one, for ``compute()`` and `get_client`.

Clients are remembered weakly: one that nobody holds any more is closed by its end.
What else should follow the default (the collections' runner, say) is above this
part of the tree and registers with `follow_default`.
"""

from __future__ import annotations

import atexit
import os
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from zcluster.errors import ClientClosed

if TYPE_CHECKING:
    from zcluster.client.client import Client

__all__ = ["add_client", "default_client", "follow_default", "live_clients", "remove_client"]

_live: list[weakref.ref[Client]] = []
_defaults: list[weakref.ref[Client]] = []
_followers: list[tuple[Callable[[Any], Any], Callable[[Any], Any]]] = []
_is_hooked = False


def live_clients() -> list[Client]:
    """Return the clients that are not closed, oldest first."""
    return [client for ref in list(_live) if (client := ref()) is not None]


def default_client() -> Client:
    """Return the newest live client that was made with ``set_as_default``.

    Raises
    ------
    ClientClosed
        If there is none.
    """
    for ref in reversed(_defaults):
        client = ref()
        if client is not None:
            return client
    raise ClientClosed("there is no live client in this process; make one with Client(...)")


def follow_default(push: Callable[[Any], Any], pop: Callable[[Any], Any]) -> None:
    """Call ``push(client)`` for each default client, now and later; ``pop(client)`` at its end."""
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
    for client in reversed(live_clients()):
        client.close(timeout=1.0)


def _after_fork() -> None:
    for client in live_clients():
        client._engine.after_fork()
    _defaults.clear()
