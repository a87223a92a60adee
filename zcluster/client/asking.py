"""What a client can be asked about its cluster."""

from __future__ import annotations

from typing import Any

from zcluster.client import describing
from zcluster.client.base import ClientBase
from zcluster.client.future import Future
from zcluster.client.gates import Deadline, Gate
from zcluster.client.waiting import futures_in
from zcluster.errors import NoWorkers

__all__ = ["Asking"]


class Asking(ClientBase):
    """`Client.scheduler_info`, `who_has`, `explain` and their like."""

    def scheduler_info(self) -> dict[str, Any]:
        """Return the scheduler's address and what is known of each worker, by name."""
        return describing.cluster_info(self._engine.address, self._nodes())

    def nthreads(self) -> dict[str, int]:
        """Return the number of slots of each worker, by name."""
        return {worker.name: worker.slots for node in self._nodes() for worker in node.workers}

    def wait_for_workers(self, n_workers: int = 1, timeout: float | None = None) -> None:
        """Wait until there are so many workers.

        Raises
        ------
        NoWorkers
            If there are fewer after ``timeout`` seconds.
        """
        engine, deadline = self._engine, Deadline(timeout)
        while True:
            gate = Gate()
            with engine.lock:
                engine.check_usable()
                engine.node_gates.append(gate)
            found = describing.totals(self._nodes())[0]
            if found >= n_workers:
                return
            if not gate.wait(deadline):
                raise NoWorkers(
                    f"found {found} workers after {timeout:g} s, expected {n_workers}; look at "
                    "the output of the nannies, or wait longer"
                )

    def who_has(self, futures: Any = None) -> dict[str, list[str]]:
        """Return the names of the nodes that have results, by key.

        Of all futures of this client if none are given.
        """
        if futures is None:
            with self._engine.lock:
                records = list(self._engine.core.wanted.values())
        else:
            records = [future._record for future in futures_in(futures)]
        places = self._engine.ask("who_has", [record.task for record in records])
        return {record.label: places.get(str(record.task), []) for record in records}

    def story(self, future: Future) -> list[Any]:
        """Return what happened to a task at the scheduler, in order."""
        entries: list[Any] = self._engine.ask("story", [future._record.task])
        return entries

    def explain(self, future: Future) -> str:
        """Return why a task is where it is, in a sentence."""
        sentences: list[str] = self._engine.ask("explain", [future._record.task])
        return sentences[0]

    def statistics(self) -> dict[str, Any]:
        """Return the scheduler's figures."""
        figures: dict[str, Any] = self._engine.ask("statistics")
        return figures
