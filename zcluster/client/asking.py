"""What a client can be asked about its cluster."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from operator import itemgetter
from typing import Any

from zcluster.client import describing
from zcluster.client.base import ClientBase
from zcluster.client.future import Future
from zcluster.client.gates import Deadline, Gate
from zcluster.client.packing import nodes_of, unknown_worker, worker_names
from zcluster.client.waiting import futures_in
from zcluster.config import Time
from zcluster.core.client.records import Wanted
from zcluster.errors import InvalidArgument, NoWorkers
from zcluster.tracebacks import hides_frames

__all__ = ["LOOK", "Asking"]

#: Seconds after which workers are counted again: one that was out of reach and is back
#: is not announced.
LOOK = 0.25


class Asking(ClientBase):
    """`Client.scheduler_info`, `who_has`, `explain` and their like.

    Results live in the store of a node, and it is the node that hands out tasks to its
    workers; so `who_has`, `has_what` and `processing` name nodes. A name of a worker in
    ``workers`` stands for its node there.
    """

    def scheduler_info(self) -> dict[str, Any]:
        """Return what is known of the scheduler, and of each worker by its name.

        Workers that cannot be reached at the moment are left out.
        """
        return describing.cluster_info(self._engine.ask("info"))

    def nthreads(self, workers: Any = None) -> dict[str, int]:
        """Return the number of slots of each worker, by name."""
        nodes = self._nodes()
        named = worker_names(workers)
        found: dict[str, int] = {}
        for name in named:
            if not nodes_of(dict(enumerate(nodes)), name):
                raise unknown_worker(dict(enumerate(nodes)), name)
        for node in nodes:
            is_whole = not named or node.name in named or node.host in named
            found |= {w.name: w.slots for w in node.workers if is_whole or w.name in named}
        return found

    #: The name that Dask has for it too.
    ncores = nthreads

    @hides_frames
    def wait_for_workers(self, n_workers: int = 1, timeout: Time | None = None) -> None:
        """Wait until there are so many workers that can be reached.

        Raises
        ------
        NoWorkers
            If there are fewer after ``timeout`` seconds.
        """
        if not isinstance(n_workers, int) or n_workers < 0:
            raise InvalidArgument(f"n_workers is {n_workers!r}, expected a whole number from 0 on")
        engine, deadline = self._engine, Deadline(timeout)
        while True:
            gate = Gate()
            with engine.lock:
                engine.check_usable()
                engine.node_gates.append(gate)
            try:
                found = len(self.scheduler_info()["workers"])
                if found >= n_workers:
                    return
                left = deadline.left
                if left == 0.0:
                    raise NoWorkers(
                        f"found {found} workers after {deadline.seconds:g} s, expected "
                        f"{n_workers}; look at the output of the nannies, or wait longer"
                    )
                gate.wait(Deadline(LOOK if left is None else min(left, LOOK)))
            finally:
                with suppress(ValueError):  # opened, and taken out
                    engine.node_gates.remove(gate)

    # -------------------------------------------------------------------- results

    def who_has(self, futures: Any = None) -> dict[str, list[str]]:
        """Return the names of the nodes that have results, by key.

        Of all futures of this client if none are given.
        """
        records = self._asked(futures)
        if not records:
            return {}
        places = self._engine.ask("who_has", [record.task for record in records])
        return {record.label: places.get(str(record.task), []) for record in records}

    def has_what(self, workers: Any = None) -> dict[str, list[str]]:
        """Return the keys of the results that each node has, by the node's name.

        Of the nodes of some workers, or all.
        """
        return self._labelled(self._engine.ask("has_what", self._nodes_named(workers)))

    def nbytes(self, keys: Any = None, summary: bool = True) -> dict[str, int]:
        """Return the bytes of results.

        Parameters
        ----------
        keys : futures or keys, optional
            Of this client; all results of the cluster if not given.
        summary : bool
            Add up those whose keys begin with the same name; else one by one.
        """
        if keys is None:
            sizes: dict[str, int] = self._engine.ask("nbytes", text="" if summary else "keys")
            return sizes
        records = self._asked(keys)
        if not records:
            return {}
        by_task = self._engine.ask("nbytes", [record.task for record in records])
        found: dict[str, int] = {}
        for record in records:
            if str(record.task) in by_task:
                name = record.label.rpartition("-")[0] if summary else record.label
                name = name or record.label
                found[name] = found.get(name, 0) + by_task[str(record.task)]
        return found

    # ---------------------------------------------------------------------- tasks

    def processing(self, workers: Any = None) -> dict[str, list[str]]:
        """Return the keys of the tasks that each node has been given, by the node's name.

        They run there, or are next. Of the nodes of some workers, or all.
        """
        return self._labelled(self._engine.ask("processing", self._nodes_named(workers)))

    def story(self, *futures: Future | str) -> list[Any]:
        """Return what happened to some tasks at the scheduler, in order.

        Parameters
        ----------
        *futures : Future or str
            Of this client, or their keys.
        """
        entries: list[Any] = self._engine.ask("story", self._tasks_of(*futures))
        return sorted(entries, key=itemgetter(0)) if len(futures) > 1 else entries

    def explain(self, future: Future | str) -> str:
        """Return why a task, given by its future or key, is where it is: in a sentence."""
        sentences: list[str] = self._engine.ask("explain", self._tasks_of(future))
        return sentences[0]

    def overview(self) -> dict[str, Any]:
        """Return the nodes with their load, and the tasks by name and state.

        It costs the scheduler a count by layer of tasks, not by task.
        """
        found: dict[str, Any] = self._engine.ask("overview")
        return found

    def statistics(self) -> dict[str, Any]:
        """Return the scheduler's figures."""
        figures: dict[str, Any] = self._engine.ask("statistics")
        return figures

    # --------------------------------------------------------------- who is meant

    def _asked(self, asked: Any) -> list[Wanted]:
        """Return the tasks that futures, keys or containers of them mean; None: all held."""
        if asked is None:
            with self._engine.lock:
                return list(self._engine.core.wanted.values())
        texts = [asked] if isinstance(asked, str) else []
        if isinstance(asked, Iterable) and not isinstance(asked, str | dict):
            asked = list(asked)
            texts = [item for item in asked if isinstance(item, str)]
            asked = [item for item in asked if not isinstance(item, str)]
        futures = [] if isinstance(asked, str) else futures_in(asked)
        return [self._held(future) for future in futures] + self._keyed(texts)

    def _labelled(self, tasks: dict[str, list[tuple[int, str]]]) -> dict[str, list[str]]:
        """Return keys for tasks; of this client's futures those that the futures have."""
        with self._engine.lock:
            wanted = self._engine.core.wanted
            return {
                name: [wanted[task].label if task in wanted else key for task, key in pairs]
                for name, pairs in tasks.items()
            }

    def _held(self, future: Any) -> Wanted:
        if not isinstance(future, Future):
            raise InvalidArgument(
                f"found a {type(future).__name__} ({future!r:.80}), expected a future of this "
                "client; results and numbers stand for no task"
            )
        if future._client is not self:
            raise InvalidArgument(
                f"future {future.key} belongs to another client ({future._client!r}); ask that one"
            )
        future._check_held()
        return future._record

    def _tasks_of(self, *futures: Any) -> list[int]:
        return [
            (self._keyed([one])[0] if isinstance(one, str) else self._held(one)).task
            for one in futures
        ]

    def _keyed(self, keys: list[str]) -> list[Wanted]:
        if not keys:
            return []
        with self._engine.lock:
            known = {record.label: record for record in self._engine.core.wanted.values()}
        for key in keys:
            if key not in known:
                raise InvalidArgument(
                    f"this client holds no future with the key {key!r}; pass the future, or one "
                    f"of the {len(known)} keys it holds"
                )
        return [known[key] for key in keys]

    def _nodes_named(self, workers: Any) -> list[int]:
        """Return the numbers of the nodes that names stand for; empty for all."""
        with self._engine.lock:
            nodes = dict(self._engine.core.nodes)
        found: dict[int, None] = {}
        for name in worker_names(workers):
            of_name = nodes_of(nodes, name)
            if not of_name:
                raise unknown_worker(nodes, name)
            found.update(dict.fromkeys(of_name))
        return list(found)
