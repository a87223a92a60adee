"""What the parts of a client share: its engine."""

from __future__ import annotations

from zcluster.client.engine import Engine
from zcluster.client.output import TaskOutput
from zcluster.protocol.messages import NodeInfo

__all__ = ["ClientBase"]


class ClientBase:
    """The lowest part of `Client`; each family of its methods is a class upon this one."""

    _engine: Engine
    _output: TaskOutput

    #: Whether methods that wait are to be awaited, where an event loop runs.
    asynchronous: bool = False

    def _nodes(self) -> list[NodeInfo]:
        with self._engine.lock:
            return list(self._engine.core.nodes.values())
