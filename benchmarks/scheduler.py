"""What a task costs the scheduler itself: its time and its memory, in a large graph.

`SchedulerCore` is driven in this process, without sockets, through graphs of a million tasks
(independent ones; a binary tree) in the slices a client would send. A pretend node reports
whatever it is assigned as finished. Counted is the time inside the core only, arrival and
release of the graph included. Memory is the growth of the process from before the graph
arrived until it waits there whole, less the bytes of constants and edges that came.
"""

from __future__ import annotations

import ctypes
import gc
import os
import sys
import time
from typing import Any

from common import Contestant, check
from rounds import run
from table import Row

SHAPES = ("independent", "tree")


def size(quick: bool) -> int:
    return 1 << 14 if quick else 1 << 20


def resident() -> int:
    """Bytes of memory this process has in use."""
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def build(shape: str, leaves: int) -> Any:
    """The graph as a collection would emit it: whole layers, no loop over tasks."""
    import numpy as np

    from zcluster.graph.layers import Graph, GraphLayer
    from zcluster.graph.order import order_graph
    from zcluster.protocol.callables import Packed

    def layer(name: str, count: int, **edges: Any) -> Any:
        function = Packed(name.encode().ljust(16, b"."), b"never called")
        return GraphLayer(name, (count,), count, call=5, function=function, **edges)

    graph = Graph()
    offsets = np.arange(leaves + 1, dtype=np.uint32) * 6
    graph.add_layer(layer("leaf", leaves, constants=b"abcdef" * leaves, offsets=offsets))
    graph.outputs = [(0, leaves)]
    if shape == "tree":
        first, count = 0, leaves
        while count > 1:
            indices = np.arange(first, first + count, dtype=np.int64)
            sums = layer(f"sum-{count}", count // 2, arity=2, indices=indices)
            sums.call = 0
            first, count = graph.add_layer(sums), count // 2
        graph.outputs = [(first, 1)]
        order_graph(graph)  # depth first, as collections are sent
    return graph


class Drive:
    """A scheduler core, a pretend client, a pretend node, and a stopwatch."""

    def __init__(self) -> None:
        from zcluster.core.scheduler.core import SchedulerCore
        from zcluster.protocol.messages import PROTOCOL, Hello, NodeInfo, WorkerInfo

        self.core = SchedulerCore("benchmark", "")
        self.spent = 0.0
        self.resolved = 0
        workers = [WorkerInfo(0, "a", 1, 0, 1), WorkerInfo(1, "b", 1, 0, 2)]
        node = NodeInfo(0, "node", "host", 1, "", "", 0, workers)
        self.core.on_hello(1, Hello("client", PROTOCOL, "", "", b"c" * 16), 0.0)
        self.core.on_hello(2, Hello("node", PROTOCOL, "", "", b"n" * 16, node=node), 0.0)

    def say(self, peer: int, message: Any, frames: Any) -> None:
        began = time.process_time()
        self.core.on_message(peer, message, frames, began)
        self.spent += time.process_time() - began

    def flush(self) -> list[Any]:
        began = time.process_time()
        effects = list(self.core.flush(began))
        self.spent += time.process_time() - began
        return effects

    def run(self) -> None:
        """Report assigned tasks as finished until nothing is assigned any more."""
        from zcluster.protocol.messages import Assign, Finished, Resolved

        queue: list[Assign] = []
        while True:
            for _, message, _ in self.flush():
                if isinstance(message, Assign):
                    queue.append(message)
                elif isinstance(message, Resolved):
                    self.resolved += len(message.tasks)
            if not queue:
                if self.core.is_idle:
                    return
                continue
            assigned = queue.pop(0)
            names = {layer.function for layer in self.core.state.layers.values()}
            lengths = [-2 if flag else 1 for flag in assigned.flags]
            blobs = b"x" * lengths.count(1)
            count = len(lengths)
            durations = [(name, 1, 5) for name in names]
            report = Finished(
                assigned.tasks, assigned.attempts, lengths, [1] * count, [0] * count, durations
            )
            self.say(2, report, [blobs])


def measure(quick: bool) -> dict[str, float]:
    from zcluster.graph.lowering import slices
    from zcluster.protocol.messages import Release

    figures: dict[str, float] = {}
    for shape in SHAPES:
        graph = build(shape, size(quick) if shape == "independent" else size(quick) // 2)
        drive = Drive()
        messages = list(slices(graph, 1, ()))
        payload = sum(len(frame) for _, frames in messages for frame in frames)
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)  # or the second graph would live in the first one's memory
        before = resident()
        for message, frames in messages:
            drive.say(1, message, frames)
        grown = resident() - before - payload
        wanted = sum(count for _, count in graph.outputs)
        drive.run()
        check("results told", drive.resolved, wanted)
        start = graph.outputs[0][0]
        first = (1 << 40) + start
        drive.say(1, Release(list(range(first, first + wanted))), ())
        drive.run()
        check("rows left", drive.core.state.pages, {})
        figures[f"{shape}, µs a task"] = drive.spent / graph.count * 1e6
        figures[f"{shape}, bytes a task"] = max(0, grown) / graph.count
    return figures


ROWS = [Row(f"{shape}, µs a task", 2, less_is_better=True, bar=8.0) for shape in SHAPES] + [
    Row(f"{shape}, bytes a task", less_is_better=True, bar=200) for shape in SHAPES
]

if __name__ == "__main__":
    title = "Time and memory of the scheduler in a graph of a million tasks"
    sys.exit(run(__file__, title, [Contestant("zcluster", measure)], ROWS))
