"""Where a client's blobs go: copies kept here, put into nodes' stores.

The shelf holds the blobs of large arguments and of scattered values while
anything this client wants may need them. It chooses a node for each (in turn, so
that many of them spread), tries another one where a store has no room, waits
where there is no node yet, and puts a blob again where it was lost. A node that is
silent is waited for until it answers or has left; others are tried meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping

from zcluster.core.client.records import Data, Effect, PutBlob
from zcluster.protocol.messages import NodeInfo

__all__ = ["Shelf"]


class Shelf:
    """The kept blobs, by task.

    Parameters
    ----------
    nodes : mapping of int to NodeInfo
        The nodes there are; the owner changes it and then calls `place_waiting`.
    effects : list
        Receives `PutBlob` effects.
    """

    def __init__(self, nodes: Mapping[int, NodeInfo], effects: list[Effect]) -> None:
        self.data: dict[int, Data] = {}
        self._nodes = nodes
        self._effects = effects
        self._turn = 0
        self._waiting: list[Data] = []
        #: Let go of while no node had them or was asked to: nobody will bring them any more.
        self.abandoned: list[int] = []

    def add(self, data: Data, everywhere: bool = False) -> None:
        """Keep a blob and put it to one node, or to every node it may be on."""
        self.data[data.task] = data
        candidates = self._candidates(data)
        if everywhere and candidates:
            for node in candidates:
                self._put(data, node)
        else:
            self._place(data)

    def stored(self, task: int, node: int) -> Data | None:
        """Note that a put is done; return its data if it is still kept."""
        data = self.data.get(task)
        if data is not None:
            self._answered(data, node)
            data.is_stored = True
        return data

    def not_stored(self, task: int, node: int) -> Data | None:
        """Try another node; return the data if there is none left to try."""
        data = self.data.get(task)
        if data is None:
            return None
        self._answered(data, node)
        data.refused.add(node)
        if data.open or data.is_stored:
            return None  # one of several copies; the others are on their way, or there
        return None if self._place(data) else data

    def silent(self, task: int, node: int) -> Data | None:
        """Try another node meanwhile, if there is one; return the data if it is still kept."""
        data = self.data.get(task)
        if data is not None and node not in data.silent:
            data.open -= 1
            data.silent.add(node)
            if not data.open and not data.is_stored:
                self._place(data)
        return data

    @staticmethod
    def _answered(data: Data, node: int) -> None:
        if node in data.silent:
            data.silent.discard(node)
        else:
            data.open -= 1

    def put_again(self, task: int, node: int) -> bool:
        """Put a blob that was lost at a node; return whether a copy is kept here."""
        data = self.data.get(task)
        if data is None:
            return False
        # Also where a put is under way: if that one fails there is none.
        data.is_stored = False
        if not data.open:
            data.refused = {node} if len(self._candidates(data)) > 1 else set()
            self._place(data)
        return True

    def place_waiting(self) -> None:
        """Place what waited for a node; call it after nodes joined."""
        waiting, self._waiting = self._waiting, []
        for data in waiting:
            if data.task in self.data and not data.open and not data.is_stored:
                self._place(data)

    def use(self, keeps: tuple[Data, ...], times: int = 1) -> None:
        """Count more that may need these blobs."""
        for data in keeps:
            data.users += times

    def unuse(self, keeps: tuple[Data, ...]) -> list[int]:
        """Count one less; return the data tasks to release."""
        ended = []
        for data in keeps:
            data.users -= 1
            if data.users <= 0 and self.data.pop(data.task, None) is not None:
                if data.is_argument:
                    ended.append(data.task)
                elif not data.is_stored and not data.open:
                    self.abandoned.append(data.task)
        return ended

    def _candidates(self, data: Data) -> list[int]:
        # Where all places that were named are gone, any other is better than none.
        places = self._nodes.keys() & data.places or self._nodes.keys()
        return sorted(places - data.refused - data.silent)

    def _place(self, data: Data) -> bool:
        """Put a blob to the next node in turn; return False if every node refused it."""
        candidates = self._candidates(data)
        if candidates:
            self._put(data, candidates[self._turn % len(candidates)])
            self._turn += 1
            return True
        if not data.silent and any(node in data.refused for node in self._nodes):
            return False
        self._waiting.append(data)
        return True

    def _put(self, data: Data, node: int) -> None:
        data.open += 1
        self._effects.append(PutBlob(data.task, node, data.blob))
