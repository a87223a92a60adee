"""A bench for one node core: what is said to it, and exactly what it says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import pytest

from zcluster.core.node.core import NodeCore
from zcluster.core.node.invariants import check
from zcluster.core.node.records import (
    Effects,
    FetchOrder,
    NodeSettings,
    Result,
    WorkerEnd,
    WorkerRecord,
)
from zcluster.protocol.messages import (
    Assign,
    Done,
    ErrorInfo,
    Failed,
    Message,
    NodeLayer,
    Slot,
)

Said = TypeVar("Said", bound=Message)


class Bench:
    """A node core with its workers up, who are played by the test, as is the scheduler."""

    def __init__(self, store: Any, workers: int = 1, slots: int = 1, **settings: Any) -> None:
        self.store = store()
        records = [WorkerRecord(k, f"w{k}", slots, 0) for k in range(workers)]
        self.core = NodeCore("n", records, self.store, NodeSettings(**settings))
        self.now = 1.0
        self.effects = Effects()
        self.layers: set[int] = set()
        for k in range(workers):
            self.core.on_worker_ready(k, 1, 1, self.now)
        self.flush()
        self.effects = Effects()

    def flush(self) -> None:
        found = self.core.flush(self.now)
        check(self.core)
        self.effects.to_scheduler += found.to_scheduler
        self.effects.to_workers += found.to_workers
        self.effects.to_fetch += found.to_fetch
        self.effects.to_start += found.to_start
        self.effects.to_restart += found.to_restart

    def assign(
        self,
        edges: dict[int, Sequence[int]],
        passing: Sequence[int] = (),
        attempt: int = 1,
        layer: int = 1,
        slots: Sequence[Slot] = (),
        whole: Sequence[tuple[int, int]] = (),
        whole_slots: Sequence[Slot] = (),
        selections: Sequence[int] = (),
        workers: Sequence[int] = (),
        places: Sequence[tuple[int, int, list[int]]] = (),
        inline: Sequence[tuple[int, bytes]] = (),
        first: int = 0,
        threads: int = 1,
        timeout: float = 0.0,
        at_most_once: bool = False,
    ) -> None:
        """Assign tasks, each with its inputs, in one layer."""
        layers, functions = [], []
        function = b"f%15d" % layer
        if layer not in self.layers:
            self.layers.add(layer)
            layers = [
                NodeLayer(
                    layer,
                    0,
                    first,
                    0,
                    function,
                    list(slots),
                    list(whole),
                    list(whole_slots),
                    "x",
                    threads,
                    False,
                    timeout,
                    at_most_once,
                )
            ]
            functions = [(function, (2, 0, 4))]
        message = Assign(
            layers,
            functions,
            [(layer, len(edges))],
            list(edges),
            [attempt] * len(edges),
            list(edges),
            [len(sources) for sources in edges.values()],
            [source for sources in edges.values() for source in sources],
            [int(task in passing) for task in edges],
            list(workers),
            [],
            list(selections),
            list(places),
            [(task, len(blob)) for task, blob in inline],
        )
        frames = [b"", b"".join(blob for _, blob in inline), b"code"]
        self.tell(message, frames)

    def tell(self, message: Message, frames: Sequence[bytes] = ()) -> None:
        """Have the scheduler say something."""
        self.core.on_message(message, frames, self.now)
        check(self.core)

    def hear(self, message: Message, worker: int = 0, frames: Sequence[bytes] = ()) -> None:
        """Have a worker say something."""
        self.core.on_worker(worker, message, frames, self.now)
        check(self.core)

    def done(
        self,
        tasks: Sequence[int],
        worker: int = 0,
        blob: bytes = b"blob",
        length: int | None = None,
        spent: int = 10,
    ) -> None:
        """Have a worker report results: small ones, or held (-2, -3) as ``length`` says."""
        lengths = [len(blob) if length is None else length] * len(tasks)
        payload = [blob * len(tasks)] if length is None else []
        self.hear(Done(list(tasks), lengths, [spent] * len(tasks), []), worker, payload)

    def fail(self, task: int, worker: int = 0) -> None:
        error = ErrorInfo("task", "ValueError", "no", "", task, 0, "", "", (0, 0, 3))
        self.hear(Failed([task], [0], [0], [error]), worker, [b"exc"])

    def end(self, worker: int = 0, running: Sequence[int] = (), incarnation: int = 1) -> None:
        """Have a worker process end."""
        end = WorkerEnd(worker, incarnation, "was killed by signal 9", 0, "", list(running))
        self.core.on_worker_end(end, self.now)
        check(self.core)

    def fetched(self, number: int, blob: bytes = b"fetched") -> None:
        self.core.on_fetched(number, Result(len(blob), blob), self.now)
        check(self.core)

    def said(self, kind: type[Said]) -> list[Said]:
        """Flush, and take what the scheduler was told, of a kind."""
        self.flush()
        found = [message for message, _ in self.effects.to_scheduler if isinstance(message, kind)]
        self.effects.to_scheduler = [
            (message, frames)
            for message, frames in self.effects.to_scheduler
            if not isinstance(message, kind)
        ]
        return found

    def sent(self, kind: type[Said], worker: int | None = None) -> list[Said]:
        """Flush, and take what workers (or one) were told, of a kind."""
        self.flush()
        found = [
            message
            for number, message, _ in self.effects.to_workers
            if isinstance(message, kind) and worker in (None, number)
        ]
        self.effects.to_workers = [
            (number, message, frames)
            for number, message, frames in self.effects.to_workers
            if message not in found
        ]
        return found

    def fetches(self) -> list[FetchOrder]:
        """Flush, and take what is to be fetched."""
        self.flush()
        found, self.effects.to_fetch = self.effects.to_fetch, []
        return found


@pytest.fixture
def bench(store: Any) -> Any:
    """Return what makes a bench."""

    def make(**options: Any) -> Bench:
        return Bench(store, **options)

    return make
