"""What a client leaves for others at the scheduler: datasets, metadata, events of topics."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from typing import Any

from zcluster.client.base import ClientBase
from zcluster.client.callbacks import Callbacks
from zcluster.client.coordinating import ask
from zcluster.client.shared_values import pack_value, unpack_value
from zcluster.errors import InvalidArgument
from zcluster.protocol.messages import Published
from zcluster.types import Frames

__all__ = ["Datasets", "Sharing"]

_MISSING: Any = object()


class Sharing(ClientBase):
    """`Client.publish_dataset`, `set_metadata`, `log_event` and their like."""

    #: What to call with the events of a topic.
    _handlers: dict[str, Callable[[tuple[float, Any]], Any]] | None = None

    # -------------------------------------------------------------------------- datasets

    def publish_dataset(
        self, *args: Any, name: str | None = None, override: bool = False, **kwargs: Any
    ) -> None:
        """Keep data under names, for all clients and beyond the end of this one.

        Parameters
        ----------
        *args : object
            One value, to be published as ``name``.
        name : str, optional
        override : bool
            Replace what has the name already.
        **kwargs : object
            Further values by name. Each may be a future, a collection, or contain them;
            results they stand for are kept as long as they are published.

        Raises
        ------
        KeyError
            If a name is taken.
        InvalidArgument
            If a value has more than 1 MiB.

        Examples
        --------
        >>> client.publish_dataset(squares=client.map(square, range(10)))   # doctest: +SKIP
        >>> Client(address).get_dataset("squares")                         # doctest: +SKIP
        """
        if bool(args) != (name is not None) or len(args) > 1:
            raise InvalidArgument(
                f"found {len(args)} values without a name and the name {name!r}, expected one of "
                "each, or name=value; as in publish_dataset(x, name='x') or publish_dataset(x=x)"
            )
        values = dict(kwargs)
        if name is not None:
            values[_text(name, "the name of a dataset")] = args[0]
        packed = {key: pack_value(value, self, f"dataset {key!r}") for key, value in values.items()}
        for key, shared in packed.items():
            number = int(override)
            if not ask(self, "dataset", key, "publish", number=number, shared=shared).ok:
                raise KeyError(
                    f"dataset {key!r} exists already; unpublish it, or give override=True"
                )

    def get_dataset(self, name: str, default: Any = _MISSING) -> Any:
        """Return published data, with futures of this client.

        Raises
        ------
        KeyError
            If there are none of that name, and no default was given.
        """
        _text(name, "the name of a dataset")
        outcome = ask(self, "dataset", name, "get", undo="refuse")
        if outcome.ok:
            return outcome.values()[0]
        if default is not _MISSING:
            return default
        raise KeyError(f"dataset {name!r} is not published; there are {self._dataset_names()}")

    def unpublish_dataset(self, name: str) -> None:
        """Forget published data; futures that others have of them stay.

        Raises
        ------
        KeyError
            If there are none of that name.
        """
        _text(name, "the name of a dataset")
        if not ask(self, "dataset", name, "unpublish").ok:
            raise KeyError(f"dataset {name!r} is not published; there are {self._dataset_names()}")

    def list_datasets(self) -> tuple[str, ...]:
        """Return the names of published data, in the order in which they were published."""
        return tuple(self._dataset_names())

    @property
    def datasets(self) -> Datasets:
        """Published data as a mapping: to look, to publish and to delete."""
        return Datasets(self)

    def _dataset_names(self) -> list[str]:
        names: list[str] = ask(self, "dataset", "", "list").value
        return names

    # -------------------------------------------------------------------------- metadata

    def set_metadata(self, key: str | Sequence[str], value: Any) -> None:
        """Note something at the scheduler, for all clients.

        Parameters
        ----------
        key : str or list of str
            A list leads into nested dicts.
        value : object
            Plain data of at most 1 MiB.

        Examples
        --------
        >>> client.set_metadata(["run", "seed"], 42)          # doctest: +SKIP
        >>> client.get_metadata("run")                        # doctest: +SKIP
        {'seed': 42}
        """
        path = _path(key)
        shared = pack_value(value, self, f"metadata {path}", futures=False)
        ask(self, "metadata", "", "set", names=path, shared=shared)

    def get_metadata(self, keys: str | Sequence[str], default: Any = _MISSING) -> Any:
        """Return what was noted.

        Parameters
        ----------
        keys : str or list of str
            As in `set_metadata`.
        default : object, optional
            What to return if there is nothing.

        Raises
        ------
        KeyError
            If there is nothing, and no default was given.
        """
        path = _path(keys)
        outcome = ask(self, "metadata", "", "get", names=path)
        found: Any = _MISSING
        for place, value in zip(outcome.value, outcome.values(), strict=True):
            found = _merged(found, path, place, value)
        if found is not _MISSING:
            return found
        if default is not _MISSING:
            return default
        raise KeyError(f"there are no metadata {path}; set_metadata({path}, value) makes them")

    # ---------------------------------------------------------------------------- topics

    def log_event(self, topic: str | Sequence[str], msg: Any) -> None:
        """Say something on a topic, or on several: who listens hears it, others can look.

        Parameters
        ----------
        topic : str or list of str
        msg : object
            Plain data of at most 1 MiB.
        """
        topics = _path(topic)
        shared = pack_value(msg, self, f"topic {topics}", futures=False)
        ask(self, "topic", "", "log", names=topics, number=time.time_ns() // 1000, shared=shared)

    def get_events(self, topic: str | None = None) -> Any:
        """Return the last events of a topic, at most 1000 and 16 MiB, the oldest first.

        Returns
        -------
        tuple of (float, object)
            When each was said, in seconds since 1970, and what. Without a topic: a dict
            of those, by topic.
        """
        if topic is None:
            names: list[str] = ask(self, "topic", "", "list").value
            return {name: self.get_events(name) for name in names}
        outcome = ask(self, "topic", _text(topic, "a topic"), "events")
        times = [microseconds / 1e6 for microseconds in outcome.value]
        return tuple(zip(times, outcome.values(), strict=True))

    def subscribe_topic(self, topic: str, handler: Callable[[tuple[float, Any]], Any]) -> None:
        """Have a function called with each event of a topic from now on.

        Parameters
        ----------
        topic : str
        handler : callable
            Gets (when, what), in a thread of the client's; what it raises is logged. One
            that was there for the topic is replaced.
        """
        _text(topic, "a topic")
        if not callable(handler):
            raise InvalidArgument(f"the handler is {handler!r}, expected a function of one event")
        engine = self._engine
        handlers = self._handlers
        if handlers is None:
            handlers = self._handlers = {}
            engine.callbacks.start()
            engine.listeners[Published] = _Listener(handlers, engine.callbacks)
        handlers[topic] = handler
        ask(self, "topic", topic, "subscribe")

    def unsubscribe_topic(self, topic: str) -> None:
        """Listen to a topic no more.

        Raises
        ------
        InvalidArgument
            If this client does not.
        """
        if self._handlers is None or self._handlers.pop(topic, None) is None:
            known = list(self._handlers or ())
            raise InvalidArgument(f"this client does not listen to {topic!r}, but to {known}")
        ask(self, "topic", topic, "unsubscribe")


class Datasets(MutableMapping[str, Any]):
    """The published data of a cluster, by name; looked up anew each time.

    A mapping cannot be awaited, so that it waits also where an event loop runs.

    Examples
    --------
    >>> client.datasets["x"] = future                         # doctest: +SKIP
    >>> list(client.datasets)                                 # doctest: +SKIP
    ['x']
    """

    def __init__(self, client: Sharing) -> None:
        self._client = client

    def __getitem__(self, name: str) -> Any:
        return Sharing.get_dataset(self._client, name)

    def __setitem__(self, name: str, value: Any) -> None:
        Sharing.publish_dataset(self._client, value, name=name)

    def __delitem__(self, name: str) -> None:
        Sharing.unpublish_dataset(self._client, name)

    def __contains__(self, name: object) -> bool:
        return name in Sharing.list_datasets(self._client)

    def __iter__(self) -> Iterator[str]:
        return iter(Sharing.list_datasets(self._client))

    def __len__(self) -> int:
        return len(Sharing.list_datasets(self._client))

    def __repr__(self) -> str:
        return f"<Datasets: {', '.join(self) or 'none'}>"


class _Listener:
    """Hands events on to the thread for user code; it must not keep the client alive."""

    def __init__(
        self, handlers: dict[str, Callable[[tuple[float, Any]], Any]], callbacks: Callbacks
    ) -> None:
        self._handlers = handlers
        self._callbacks = callbacks

    def __call__(self, message: Published, frames: Frames) -> None:
        self._callbacks.call(self._handle, (message, bytes(frames[0])))

    def _handle(self, event: tuple[Published, bytes]) -> None:
        message, blob = event
        handler = self._handlers.get(message.topic)
        if handler is not None:
            handler((message.time, unpack_value(blob, ())))


def _text(name: Any, what: str) -> str:
    if not isinstance(name, str) or not name:
        raise InvalidArgument(f"{what} is {name!r}, expected text that is not empty")
    return name


def _path(key: str | Sequence[str]) -> list[str]:
    path = [key] if isinstance(key, str) else list(key)
    if not path or not all(isinstance(part, str) and part for part in path):
        raise InvalidArgument(f"found {key!r}, expected text or a list of texts, none empty")
    return path


def _merged(found: Any, path: list[str], place: list[str], value: Any) -> Any:
    """Return what is found at a path, now with the value at a place above or below it."""
    if len(place) <= len(path):
        for part in path[len(place) :]:
            if not isinstance(value, dict) or part not in value:
                return _MISSING  # what is further down is newer than what is above
            value = value[part]
        return value
    found = dict(found) if isinstance(found, dict) else {}
    inner = found
    for part in place[len(path) : -1]:
        below = inner.get(part)
        inner[part] = dict(below) if isinstance(below, dict) else {}
        inner = inner[part]
    inner[place[-1]] = value
    return found
