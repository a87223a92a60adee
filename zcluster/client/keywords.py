"""Keywords that Dask's `LocalCluster` and `Client` take, and that mean nothing here.

Scripts pass them, so they are accepted where what they ask for is so anyway, and refused in a
sentence that says what to do where they ask for something that there is not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from zcluster.errors import InvalidArgument

__all__ = ["OF_CLIENTS", "OF_CLUSTERS", "Needless", "drop_needless"]


class Needless(NamedTuple):
    """A keyword without effect.

    Attributes
    ----------
    is_met : callable
        Tells of a value whether it asks for nothing that is not so anyway.
    instead : str
        What to do instead, where it does.
    """

    is_met: Callable[[Any], bool]
    instead: str = ""


def _is_nothing(value: Any) -> bool:
    return value is None or value is False or value == 0 or value in ("", (), [], {})


def _one_of(*values: object) -> Callable[[Any], bool]:
    return lambda value: value is None or value in values


def _can_pickle(value: Any) -> bool:
    return value is None or "pickle" in value


_ANY = Needless(lambda _: True)
_LOCAL = (
    "a local cluster listens on Unix sockets, which only this user on this machine can reach; for "
    "other machines start 'zcluster scheduler --host' and 'zcluster worker'"
)
_HOST = Needless(_one_of("localhost", "127.0.0.1", "::1"), _LOCAL)
_NO_PORTS = Needless(_is_nothing, _LOCAL)
_NO_PRELOAD = Needless(
    _is_nothing, "nothing is preloaded; register a WorkerPlugin with client.register_plugin"
)
_NO_CLASSES = Needless(
    _is_nothing,
    "schedulers and workers are programs and no classes; see WorkerPlugin for code of your own",
)
_SECURITY = Needless(
    _is_nothing,
    "keys come with the scheduler file: Client(scheduler_file=...), and Unix sockets need none",
)

#: Of `LocalCluster`.
OF_CLUSTERS: Mapping[str, Needless] = {
    "asynchronous": Needless(
        _is_nothing, "use Client(asynchronous=True), which starts a cluster of its own"
    ),
    "blocked_handlers": _NO_CLASSES,
    "dashboard_address": _ANY,
    "diagnostics_port": _ANY,
    "host": _HOST,
    "interface": Needless(_one_of("lo", "lo0"), _LOCAL),
    "ip": _HOST,
    "loop": _ANY,
    "preload": _NO_PRELOAD,
    "preload_argv": _NO_PRELOAD,
    "protocol": Needless(
        _one_of("tcp", "tcp://", "inproc", "inproc://", "ipc", "ipc://"),
        "processes of one machine talk over Unix sockets; leave it out",
    ),
    "scheduler_kwargs": _NO_CLASSES,
    "scheduler_port": _NO_PORTS,
    "scheduler_sync_interval": _ANY,
    "security": _SECURITY,
    "service_kwargs": _NO_CLASSES,
    "services": _NO_CLASSES,
    "silence_logs": _ANY,
    "start": _ANY,
    "worker_class": _NO_CLASSES,
    "worker_dashboard_address": _ANY,
    "worker_port": _NO_PORTS,
    "worker_services": _NO_CLASSES,
}

_PICKLES = Needless(
    _can_pickle, "values travel as pickles, their buffers beside them; leave it out"
)

#: Of `Client`, whatever it connects to.
OF_CLIENTS: Mapping[str, Needless] = {
    "connection_limit": _ANY,
    "deserializers": _PICKLES,
    "direct_to_workers": _ANY,
    "extensions": Needless(_is_nothing, "clients have no extensions; leave it out"),
    "heartbeat_interval": _ANY,
    "loop": _ANY,
    "security": _SECURITY,
    "serializers": _PICKLES,
}


def drop_needless(options: dict[str, Any], known: Mapping[str, Needless]) -> None:
    """Take out the keywords that have no effect.

    Raises
    ------
    InvalidArgument
        For a value that asks for what there is not.

    Examples
    --------
    >>> options = {"loop": None, "n_workers": 2}
    >>> drop_needless(options, OF_CLIENTS)
    >>> options
    {'n_workers': 2}
    """
    for name in options.keys() & known.keys():
        value = options.pop(name)
        if not known[name].is_met(value):
            raise InvalidArgument(f"{name} is {value!r:.80}; {known[name].instead}")
