"""Results copied to further nodes, or moved between them, at a client's wish."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from zcluster.client.asking import Asking
from zcluster.client.future import failure_of
from zcluster.client.gates import Deadline, Gate
from zcluster.config import Time
from zcluster.core.client.records import Wanted
from zcluster.core.client.states import State
from zcluster.errors import InvalidArgument, ResultNotSerializable

__all__ = ["Copying"]

#: Seconds between two looks whether copies are there: the first, and the longest.
_FIRST_LOOK, _LAST_LOOK = 0.002, 0.1


class Copying(Asking):
    """`Client.replicate` and `Client.rebalance`."""

    def replicate(
        self, futures: Any, n: int | None = None, workers: Any = None, timeout: Time = 60.0
    ) -> None:
        """Have results on several nodes, so that losing one costs nothing; wait for it.

        Parameters
        ----------
        futures : futures
            Of this client; those that are not finished are waited for.
        n : int, optional
            On how many nodes each shall be; on all if not given.
        workers : str or list of str, optional
            Names of workers, nodes or hosts, on whose nodes the copies shall be.
        timeout : float, str or timedelta
            Seconds for everything.

        Raises
        ------
        ResultNotSerializable
            If one cannot leave the worker that made it.
        TimeoutError
            If they are not there in time, because a store is full perhaps.
        """
        if n is not None and (not isinstance(n, int) or n < 1):
            raise InvalidArgument(f"n is {n!r}, expected how many nodes shall have each result")
        deadline = Deadline(timeout)
        records = self._finished(futures, deadline)
        nodes = self._nodes_named(workers)
        text = " ".join(map(str, [n or 0, *nodes]))
        goals = self._engine.ask("replicate", [record.task for record in records], text)
        for record in records:
            if str(record.task) not in goals:
                raise ResultNotSerializable(
                    f"{record.label} cannot be copied: its result cannot leave the worker that "
                    "made it, or is being made again; return something that can be pickled"
                )
        self._wait_copied(goals, deadline)

    def rebalance(self, futures: Any = None, workers: Any = None, timeout: Time = 60.0) -> None:
        """Move results until nodes hold like amounts of them; wait for it.

        Parameters
        ----------
        futures : futures, optional
            Of this client; all results of the cluster if not given.
        workers : str or list of str, optional
            Names of workers, nodes or hosts, between whose nodes they are moved.
        timeout : float, str or timedelta
            Seconds for everything.

        Raises
        ------
        TimeoutError
            If they are not there in time, because a store is full perhaps.
        """
        deadline = Deadline(timeout)
        records = [] if futures is None else self._finished(futures, deadline)
        if futures is not None and not records:
            return
        text = " ".join(map(str, self._nodes_named(workers)))
        goals = self._engine.ask("rebalance", [record.task for record in records], text)
        self._wait_copied(goals, deadline)

    def _finished(self, futures: Any, deadline: Deadline) -> list[Wanted]:
        """Wait until tasks have results; raise what one of them raised."""
        records = self._asked(futures)
        if not self._engine.wait(records, deadline, stop_at_failure=True):
            raise TimeoutError(f"tasks to be copied were not finished after {deadline.seconds:g} s")
        for record in records:
            if record.state > State.HERE:
                raise failure_of(self._engine, record)
        return records

    def _wait_copied(self, goals: Mapping[str, Sequence[int]], deadline: Deadline) -> None:
        left = {int(task): set(nodes) for task, nodes in goals.items() if nodes}
        look = _FIRST_LOOK
        while left:
            there = self._engine.ask("holders", list(left))
            with self._engine.lock:
                here = set(self._engine.core.nodes)
            # A result that was let go meanwhile, or a node that left, is not waited for.
            left = {
                task: nodes
                for task, nodes in left.items()
                if str(task) in there and (nodes & here) - set(there[str(task)])
            }
            if left and deadline.left == 0.0:
                raise TimeoutError(
                    f"{len(left)} results were not on all nodes they should be on after "
                    f"{deadline.seconds:g} s; look whether their stores are full"
                )
            if left:
                Gate().wait(Deadline(look))
                look = min(_LAST_LOOK, 2 * look)
