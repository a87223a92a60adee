"""Large results on their way to those who wait for them, and large blobs on their way to nodes.

The ports (`zcluster.client.fetching`) move bytes; here the client's core learns what came of it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from zcluster.client.fetching import DataPorts
from zcluster.client.gates import Deadline, Gate
from zcluster.core.client.core import ClientCore
from zcluster.core.client.records import PutBlob, Wanted
from zcluster.core.client.states import State
from zcluster.transport.loop import Loop

__all__ = ["Transfers"]


class Transfers:
    """What one engine gets from its nodes' data ports, and brings there.

    Parameters
    ----------
    core : ClientCore
    lock : lock
        Held around every change of the core.
    loop : Loop
    ports : DataPorts
    tell : callable
        Tells the watchers of settled records.
    """

    def __init__(
        self,
        core: ClientCore,
        lock: threading.Lock,
        loop: Loop,
        ports: DataPorts,
        tell: Callable[[list[tuple[Wanted, list[Any]]]], None],
    ) -> None:
        self._core, self._lock = core, lock
        self._loop, self._ports = loop, ports
        self._tell = tell
        self._gates: set[Gate] = set()
        self._is_over = False

    def close(self) -> None:
        """Let go of all who wait: the loop has ended."""
        with self._lock:
            self._is_over = True
        for gate in list(self._gates):
            gate.open()

    def fetch(self, records: Sequence[Wanted], deadline: Deadline) -> dict[int, memoryview]:
        """Get announced results from their nodes; returns the blobs by task.

        A result that its node does not have (any more) is missing from the answer and
        its record is pending again. None at all in time: an empty answer as well.
        """
        gate = Gate()
        left = len(records)
        views: dict[int, memoryview] = {}

        def take(
            record: Wanted, node: int, view: memoryview | None, reason: str, is_final: bool
        ) -> None:
            nonlocal left
            if view is not None:
                views[record.task] = view
            else:
                self._not_fetched(record, node, reason, is_final)
            left -= 1
            if left == 0:
                gate.open()

        with self._lock:
            if self._is_over:
                return views
            self._gates.add(gate)
        try:
            self._loop.post(lambda: self._fetch_now(records, take))
            gate.wait(deadline)
        finally:
            self._gates.discard(gate)
        return dict(views)

    def _not_fetched(self, record: Wanted, node: int, reason: str, is_final: bool) -> None:
        with self._lock:
            if is_final:
                self._core.cannot_travel(record, reason)
            else:
                self._core.unreachable(record, node)

    def _fetch_now(
        self,
        records: Sequence[Wanted],
        take: Callable[[Wanted, int, memoryview | None, str, bool], None],
    ) -> None:
        """Ask for results; on the loop's thread."""
        core = self._core
        for record in records:
            place = record.detail if record.state is State.ANNOUNCED else None
            info = None if place is None else core.nodes.get(place.node)
            if place is None:
                take(record, -1, None, "it is not announced any more", False)
            elif info is None or core.ended is not None:
                take(record, place.node, None, f"node {place.node} left", False)
            else:
                done = partial(take, record, place.node)
                self._ports.fetch(info, record.task, done, place.size)

    def put(self, effect: PutBlob) -> None:
        """Bring a blob to a node; on the loop's thread."""
        task, node, blob = effect

        def take(reason: str) -> None:
            if reason:
                self._change(lambda: self._core.not_stored(task, node, reason))
            else:
                self._change(lambda: self._core.stored(task, node, len(blob)))

        info = self._core.nodes.get(node)
        if info is None:
            take(f"node {node} left")
        else:
            is_silent = partial(self._change, partial(self._core.silent, task, node))
            self._ports.put(info, task, blob, take, is_silent)

    def _change(self, change: Callable[[], object]) -> None:
        """Change the core, and see to what follows."""
        with self._lock:
            change()
            watched = self._core.take_settled()
        self._tell(watched)
        self._loop.wake()
