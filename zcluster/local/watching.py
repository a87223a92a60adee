"""Who looks on while a graph runs in this process: what `zcluster.diagnostics` is made of.

A watcher is told when a graph begins and ends, and before and after each task. Calls come from
whichever thread runs the task, one at a time. Where nobody watches, nothing of this exists.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from threading import Lock
from typing import Any, Protocol

from zcluster.graph.layers import Graph
from zcluster.graph.mapping import GraphView
from zcluster.types import Key

__all__ = ["Watcher", "Watching", "add_watcher", "remove_watcher", "watching"]

#: The states a task goes through, and what has become of results.
State = dict[str, Any]


class Watcher(Protocol):
    """What is told of a run. ``state`` has these keys:

    ``waiting``, ``ready``, ``running``, ``finished``: sets of keys of tasks; ``cache``: the results
    that are kept, by key; ``released``: the keys of those that were let go.
    """

    def on_start(self, dsk: Mapping[Key, Any]) -> None: ...

    def on_start_state(self, dsk: Mapping[Key, Any], state: State) -> None: ...

    def on_task(self, key: Key, dsk: Mapping[Key, Any], state: State) -> None: ...

    def on_result(
        self, key: Key, result: Any, dsk: Mapping[Key, Any], state: State, worker: int
    ) -> None: ...

    def on_finish(self, dsk: Mapping[Key, Any], state: State, errored: bool) -> None: ...


_watchers: list[Watcher] = []


def add_watcher(watcher: Watcher) -> None:
    """Tell somebody of all runs that begin from now on."""
    if not any(other is watcher for other in _watchers):
        _watchers.append(watcher)


def remove_watcher(watcher: Watcher) -> None:
    """Tell somebody no more; no error if nobody did."""
    _watchers[:] = [other for other in _watchers if other is not watcher]


def watching(graph: Graph) -> Watching | None:
    """Return what tells the watchers of a run; None if there are none."""
    return Watching(graph, list(_watchers)) if _watchers else None


class Watching:
    """Keeps the state that watchers see, by key, and tells them of events, one at a time."""

    def __init__(self, graph: Graph, watchers: list[Watcher]) -> None:
        self._watchers = watchers
        self._guard = Lock()
        self._dsk = GraphView(graph)
        self._keys = list(self._dsk)
        self._missing: dict[Key, set[Key]] = {}
        self._takers: dict[Key, list[Key]] = {}
        self._first = 0
        ready = set(self._keys)
        for task, key in enumerate(self._keys):
            for source in _inputs(graph, task):
                self._takers.setdefault(self._keys[source], []).append(key)
                self._missing.setdefault(key, set()).add(self._keys[source])
        ready -= self._missing.keys()
        self.state: State = {
            "waiting": set(self._missing),
            "ready": ready,
            "running": set(),
            "finished": set(),
            "cache": {},
            "released": set(),
        }

    def start(self, first: int) -> None:
        """A run begins; its first task has this number."""
        self._first = first
        with self._guard:
            for watcher in self._watchers:
                watcher.on_start(self._dsk)
            for watcher in self._watchers:
                watcher.on_start_state(self._dsk, self.state)

    def task(self, number: int) -> None:
        """A task is about to run."""
        with self._guard:
            key = self._keys[number - self._first]
            self.state["ready"].discard(key)
            self.state["running"].add(key)
            for watcher in self._watchers:
                watcher.on_task(key, self._dsk, self.state)

    def result(self, number: int, value: Any) -> None:
        """A task gave its result."""
        state = self.state
        with self._guard:
            key = self._keys[number - self._first]
            state["running"].discard(key)
            state["finished"].add(key)
            if key not in state["released"]:
                state["cache"][key] = value
            for taker in self._takers.get(key, ()):
                missing = self._missing[taker]
                missing.discard(key)
                if not missing and taker in state["waiting"]:
                    state["waiting"].discard(taker)
                    state["ready"].add(taker)
            worker = threading.get_ident()
            for watcher in self._watchers:
                watcher.on_result(key, value, self._dsk, state, worker)

    def dropped(self, number: int) -> None:
        """A result is let go; what is no task of the graph is passed over."""
        if number >= self._first:
            with self._guard:
                key = self._keys[number - self._first]
                self.state["cache"].pop(key, None)
                self.state["released"].add(key)

    def finish(self, errored: bool) -> None:
        """The run is over."""
        with self._guard:
            for watcher in self._watchers:
                watcher.on_finish(self._dsk, self.state, errored)
            self.state["cache"].clear()


def _inputs(graph: Graph, task: int) -> list[int]:
    layer = graph.layer_of(task)
    sources = [source for source in layer.inputs(task - layer.first) if source >= 0]
    for number in layer.whole:
        taken = graph.layers[number]
        sources += range(taken.first, taken.first + taken.count)
    return sources
