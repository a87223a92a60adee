"""The client: what users hold of a cluster.

`Client` turns calls into tasks and tasks into `Future` objects. It holds no state of
its own worth the name: that is in the core (what is wanted), the engine (what is on
the wire) and the futures. Its methods may be called from any thread.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any

from zcluster.client import describing
from zcluster.client.addresses import find_target
from zcluster.client.default import add_client, default_client, live_clients, remove_client
from zcluster.client.engine import Engine
from zcluster.client.future import Future, fetch_values
from zcluster.client.gates import Deadline, Gate
from zcluster.client.graphs import compute_collections, submit_graph
from zcluster.client.packing import (
    check_callable,
    key_text,
    make_options,
    nodes_of,
    pack_function,
    pure_key,
    records_of,
    unknown_worker,
    worker_names,
)
from zcluster.client.waiting import futures_in
from zcluster.core.client.records import DEFAULT_OPTIONS, Options, Wanted
from zcluster.errors import InvalidArgument, NoWorkers
from zcluster.graph.layers import Graph
from zcluster.graph.spec import fill, from_dict
from zcluster.protocol.calls import CALL_SINGLE, PackedCall, pack_call
from zcluster.protocol.objects import plan
from zcluster.protocol.tokens import tokenize
from zcluster.types import running_task

__all__ = ["Client", "get_client"]

_SKIPPED = object()
_ALL = object()  # the shape of a list of nothing but futures
_NOT_BUILT = {
    "asynchronous": "asynchronous=True (awaiting futures in an event loop) is not built yet; "
    "call the client from a thread, which works beside any event loop",
}


class Client:
    """A connection to a cluster, or to one of its own on this machine.

    Parameters
    ----------
    address : str or cluster, optional
        ``"ipc:///path"``, ``"tcp://host:port"`` or an object with a
        ``scheduler_address``. Without it: the scheduler file that
        ``ZCLUSTER_SCHEDULER_FILE`` names, or a new `LocalCluster`, which is closed
        with this client.
    n_workers, threads_per_worker, memory_limit, processes
        For the new cluster.
    scheduler_file : path, optional
        Waited for; says the address.
    timeout : float
        Seconds to wait for the cluster to answer.
    name : str, optional
        Of this client.
    set_as_default : bool
        Whether ``compute()`` should use it while it is the newest.
    insecure : bool
        Accept plain TCP, over which anyone on the network could run code as you.
    **options
        Further keywords of `LocalCluster`.

    Raises
    ------
    InvalidArgument
        If the arguments contradict each other.
    StartError
        If nobody answers in time.

    Examples
    --------
    >>> with Client(n_workers=2) as client:                     # doctest: +SKIP
    ...     futures = client.map(abs, range(-5, 5))
    ...     print(client.gather(futures))
    [5, 4, 3, 2, 1, 0, 1, 2, 3, 4]
    """

    def __init__(
        self,
        address: Any = None,
        *,
        n_workers: int | None = None,
        threads_per_worker: int | None = None,
        memory_limit: int | float | str | None = None,
        processes: bool | None = None,
        scheduler_file: str | os.PathLike[str] | None = None,
        timeout: float = 30.0,
        name: str | None = None,
        set_as_default: bool = True,
        asynchronous: bool = False,
        insecure: bool = False,
        **options: Any,
    ) -> None:
        if asynchronous:
            raise NotImplementedError(_NOT_BUILT["asynchronous"])
        if not isinstance(timeout, int | float) or timeout <= 0:
            raise InvalidArgument(f"timeout is {timeout!r}, expected seconds above zero")
        given = {
            "n_workers": n_workers,
            "threads_per_worker": threads_per_worker,
            "memory_limit": memory_limit,
            "processes": processes,
        }
        options |= {key: value for key, value in given.items() if value is not None}
        target = find_target(address, scheduler_file, insecure, timeout, options)
        self._owned = target.owned
        self.cluster = target.cluster
        self._method = "Cluster object" if target.cluster is not None else "Direct"
        try:
            if self._owned is not None:
                # It ends at once where its scheduler cannot start; a connection would wait.
                self._owned.wait_started(timeout)
            self._engine = Engine(
                target.address, name=name or f"client-{os.getpid()}", timeout=timeout
            )
            self._finalizer = weakref.finalize(self, self._engine.close, "it is not used", 1.0)
            self._finalizer.atexit = False  # `default` closes those that are left in order
            if self._owned is not None and self._owned.n_workers:
                self.wait_for_workers(self._owned.n_workers, timeout)
        except BaseException:
            self._close_parts(1.0)
            raise
        add_client(self, set_as_default)

    # -------------------------------------------------------------------- calls

    def submit(
        self,
        func: Callable[..., Any],
        /,
        *args: Any,
        key: Any = None,
        pure: bool | None = None,
        workers: Any = None,
        allow_other_workers: bool = False,
        retries: int = 0,
        priority: int = 0,
        **kwargs: Any,
    ) -> Future:
        """Have ``func(*args, **kwargs)`` called on a worker.

        Function and arguments are frozen now: what happens to them afterwards does
        not matter. Futures among the arguments, at any depth, stand for their results.

        Parameters
        ----------
        key : str, optional
            The task's name. Equal keys mean equal results: while a task of this key is
            wanted, another call under it is the same task.
        pure : bool, optional
            Whether equal arguments give equal results (the default): then an equal
            call is the same task. ``False`` is quicker to submit.
        workers : str or list of str, optional
            Names of workers, nodes or hosts where it shall run.
        allow_other_workers : bool
            Whether these are a wish only.
        retries : int
            How often it may be tried again after an exception.
        priority : int
            Larger runs earlier.

        Raises
        ------
        InvalidArgument
            For an argument that cannot be meant.
        NotSerializable
            If function or arguments cannot travel; the error names the part.
        """
        check_callable(func)
        name, function = pack_function(func)
        call = pack_call(args, kwargs)
        self._engine.ship_for(function, call.constant)
        if key is not None:
            text: str | None = key_text(key)
        elif pure is False:
            text = None
        else:
            text = pure_key(name, tokenize(func), call, args, kwargs)
        if workers is not None or retries or priority or allow_other_workers:
            nodes = self._engine.core.nodes
            options = make_options(nodes, workers, allow_other_workers, retries, priority)
        else:
            options = DEFAULT_OPTIONS
        inputs = records_of(call.inputs, self) if call.inputs else ()
        large = None if call.plan is None else call.plan.tobytes()
        engine = self._engine
        core = engine.core
        with engine.lock:
            if core.ended is not None:
                engine.check_usable()
            record = None if text is None else core.shared(text)
            if record is None:
                record = core.add_call(
                    name, function, call, inputs, large=large, key=text, options=options
                )
        engine.wake()
        return Future(self, record)

    def map(
        self,
        func: Callable[..., Any],
        *iterables: Any,
        key: Any = None,
        pure: bool | None = None,
        workers: Any = None,
        allow_other_workers: bool = False,
        retries: int = 0,
        priority: int = 0,
        batch_size: int | None = None,
        **kwargs: Any,
    ) -> list[Future]:
        """Have a function called on each item, or on the items of several iterables in step.

        Parameters
        ----------
        *iterables
            As for the built-in ``map``: the shortest ends it.
        key : str or list of str, optional
            How the keys begin, or all keys.
        batch_size
            Accepted and not needed: calls always travel together.
        **kwargs
            Passed to every call.

        Other parameters, and what it raises, are as for `submit`.
        """
        check_callable(func)
        if not iterables:
            raise InvalidArgument("map was given a function alone, expected iterables after it")
        name, function = pack_function(func)
        rows = list(zip(*iterables, strict=False))
        calls = [pack_call(row, kwargs) for row in rows]
        for call in calls:
            self._engine.ship_for(function, call.constant)
        keys = self._keys_of_map(func, name, key, pure, rows, calls, kwargs)
        nodes = self._engine.core.nodes
        options = make_options(nodes, workers, allow_other_workers, retries, priority)
        records = self._add_calls(name, function, calls, keys, options)
        self._engine.wake()
        return [Future(self, record) for record in records]

    @staticmethod
    def _keys_of_map(
        func: Callable[..., Any],
        name: str,
        key: Any,
        pure: bool | None,
        rows: list[tuple[Any, ...]],
        calls: list[PackedCall],
        kwargs: Mapping[str, Any],
    ) -> list[str] | None:
        if isinstance(key, list):
            if len(key) != len(rows):
                raise InvalidArgument(
                    f"found {len(key)} keys for {len(rows)} calls, expected one each"
                )
            return [key_text(one) for one in key]
        if pure is False and key is None:
            return None
        prefix = name if key is None else key_text(key)
        token = tokenize(func)
        return [
            pure_key(prefix, token, call, row, kwargs)
            for call, row in zip(calls, rows, strict=True)
        ]

    def _add_calls(
        self,
        name: str,
        function: Any,
        calls: list[PackedCall],
        keys: list[str] | None,
        options: Options,
    ) -> list[Wanted]:
        engine = self._engine
        core = engine.core
        is_plain = all(call.form == CALL_SINGLE for call in calls)
        inputs = [() if not call.inputs else records_of(call.inputs, self) for call in calls]
        larges = [None if call.plan is None else call.plan.tobytes() for call in calls]
        with engine.lock:
            engine.check_usable()
            is_new = keys is None or (
                len(set(keys)) == len(keys) and core.keys.keys().isdisjoint(keys)
            )
            if is_plain and is_new and calls:
                constants = [call.constant or b"" for call in calls]
                return core.add_map(name, function, CALL_SINGLE, constants, keys, options)
            records = []
            for place, call in enumerate(calls):
                key = None if keys is None else keys[place]
                record = None if key is None else core.shared(key)
                if record is None:
                    record = core.add_call(
                        name,
                        function,
                        call,
                        inputs[place],
                        large=larges[place],
                        key=key,
                        options=options,
                    )
                records.append(record)
            return records

    # ------------------------------------------------------------------ results

    def gather(self, futures: Any, errors: str = "raise", direct: bool | None = None) -> Any:
        """Wait for futures and return their results, in the same containers.

        Parameters
        ----------
        futures : futures
            Alone or nested in lists, tuples, sets and dicts; other things stay as they are.
        errors : str
            ``"raise"`` the first exception as soon as it is known, or ``"skip"`` the
            tasks that have no result.
        direct
            Accepted and not needed: large results never pass through the scheduler.
        """
        if errors not in ("raise", "skip"):
            raise InvalidArgument(f"errors is {errors!r}, expected 'raise' or 'skip'")
        found: list[Future] = []
        shape = _collect(futures, found)
        for future in found:
            if future._client is not self or future._is_released:
                records_of((future,), self)
        records = [future._record for future in found]
        skip = _SKIPPED if errors == "skip" else None
        values = fetch_values(self._engine, records, Deadline(None), skip)
        result = _fill(shape, iter(values))
        return None if result is _SKIPPED else result

    def scatter(
        self,
        data: Any,
        workers: Any = None,
        broadcast: bool = False,
        hash: bool = True,
        timeout: float = 30.0,
    ) -> Any:
        """Put values into the memory of the cluster; return futures of them.

        Parameters
        ----------
        data : list, tuple, set, dict or object
            A list, tuple or set gives the same of futures, a dict a dict; anything
            else one future.
        workers : str or list of str, optional
            Where they shall go.
        broadcast : bool
            Put each on every node (of ``workers``).
        hash : bool
            Name values by their content: an equal one that is there already is shared.
        timeout : float
            Seconds until they must be there.
        """
        if isinstance(data, dict):
            values = self._scatter(list(data.values()), workers, broadcast, hash, timeout)
            return dict(zip(data, values, strict=True))
        if isinstance(data, list | tuple | set | frozenset):
            return type(data)(self._scatter(list(data), workers, broadcast, hash, timeout))
        return self._scatter([data], workers, broadcast, hash, timeout)[0]

    def _scatter(
        self, values: list[Any], workers: Any, broadcast: bool, hash: bool, timeout: float
    ) -> list[Future]:
        engine = self._engine
        places: set[int] = set()
        for name in worker_names(workers):
            found = nodes_of(engine.core.nodes, name)
            if not found:
                raise unknown_worker(engine.core.nodes, name)
            places.update(found)
        blobs = [plan(value).tobytes() for value in values]
        futures = []
        for value, blob in zip(values, blobs, strict=True):
            name = type(value).__name__
            key = f"{name}-{tokenize(value)}" if hash else None
            with engine.lock:
                engine.check_usable()
                record = None if key is None else engine.core.shared(key)
                if record is None:
                    record = engine.core.scatter(
                        blob, name, key=key, places=tuple(places), everywhere=broadcast
                    )
            futures.append(Future(self, record))
        engine.wake()
        if not engine.wait([future._record for future in futures], Deadline(timeout)):
            workers_now = describing.totals(list(engine.core.nodes.values()))[0]
            raise NoWorkers(
                f"scattered values were in no store after {timeout:g} s; there are {workers_now} "
                "workers: start some, or wait longer"
            )
        for future in futures:
            error = future.exception()
            if error is not None:
                raise error
        return futures

    def cancel(self, futures: Any, reason: str | None = None) -> None:
        """Cancel tasks that are not finished, and with them all that need their results."""
        records = [future._record for future in futures_in(futures)]
        engine = self._engine
        with engine.lock:
            if engine.core.ended is None:
                engine.core.cancel(records, reason or "")
            watched = engine.core.take_settled()
        engine.tell(watched)
        engine.wake()

    # ------------------------------------------------------------------- graphs

    def compute(self, collections: Any, sync: bool = False) -> Any:
        """Compute lazy collections.

        Parameters
        ----------
        collections : collection, or list of them
        sync : bool
            Return results; else futures of them, at once.
        """
        return compute_collections(self, collections, sync)

    def get(self, dsk: Mapping[Any, Any], keys: Any) -> Any:
        """Run a hand-written graph and return the values of some of its keys.

        Examples
        --------
        >>> client.get({"x": 1, "y": (abs, "x")}, ["y"])         # doctest: +SKIP
        [1]
        """
        graph, numbers = from_dict(dsk, keys)
        return fill(numbers, graph, self.run_graph(graph))

    def run_graph(self, graph: Graph, **options: Any) -> list[Any]:
        """Run a graph and return the values of its outputs, in order."""
        futures = submit_graph(self, graph)
        records = [future._record for future in futures]
        return fetch_values(self._engine, records, Deadline(None))

    # ---------------------------------------------------------------- questions

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

    # ---------------------------------------------------------------------- end

    @property
    def status(self) -> str:
        """``"running"`` or ``"closed"``."""
        return "running" if self._engine.core.ended is None else "closed"

    def close(self, timeout: float = 10.0) -> None:
        """Leave the cluster, and end it if it is this client's own; again does nothing.

        Futures that are pending are settled as cancelled.
        """
        remove_client(self)
        self._finalizer.detach()
        self._close_parts(timeout)

    def _close_parts(self, timeout: float) -> None:
        engine = getattr(self, "_engine", None)
        try:
            if engine is not None:
                engine.close("the client was closed", timeout)
        finally:
            if self._owned is not None and (engine is None or engine.is_own_process):
                self._owned.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        ended = self._engine.core.ended
        reason = None if ended is None else ended.reason
        return describing.one_line("Client", self._engine.address, self._nodes(), reason)

    def _repr_html_(self) -> str:
        address = self._engine.address
        return describing.table("Client", address, self._nodes(), self._method, self.status)

    def _nodes(self) -> list[Any]:
        with self._engine.lock:
            return list(self._engine.core.nodes.values())


def _collect(value: Any, found: list[Future]) -> Any:
    """Take the futures out of containers; return the shape for `_fill`."""
    if isinstance(value, Future):
        found.append(value)
        return (Future, None)
    if type(value) is list and all(type(item) is Future for item in value):
        found += value
        return (_ALL, len(value))
    if isinstance(value, list | tuple | set | frozenset):
        kind = type(value)
        return (kind, [_collect(item, found) for item in value])
    if isinstance(value, dict):
        return (dict, [(key, _collect(item, found)) for key, item in value.items()])
    if isinstance(value, Iterator):
        return _collect(list(value), found)
    return (None, value)


def _fill(shape: Any, values: Iterator[Any]) -> Any:
    """Put values in the places of the futures; those skipped leave their containers."""
    kind, content = shape
    if kind is _ALL:
        return [value for value in islice(values, content) if value is not _SKIPPED]
    if kind is Future:
        return next(values)
    if kind is None:
        return content
    if kind is dict:
        pairs = [(key, _fill(item, values)) for key, item in content]
        return {key: value for key, value in pairs if value is not _SKIPPED}
    items = [value for item in content if (value := _fill(item, values)) is not _SKIPPED]
    # A named tuple takes its items one by one.
    return kind(*items) if hasattr(kind, "_fields") else kind(items)


def get_client(address: str | None = None, timeout: float = 30.0) -> Client:
    """Return a client: inside a task one of its cluster, else the newest live one.

    Parameters
    ----------
    address : str, optional
        Of a scheduler, to get a client of that one.
    timeout : float
        Seconds to wait for the scheduler, where a client has to be made.

    Raises
    ------
    ClientClosed
        If there is none.
    """
    task = running_task.get()
    if address is None:
        if task is None:
            return default_client()
        address = task.scheduler
    for client in reversed(live_clients()):
        if client._engine.address == address:
            return client
    # Who is in the cluster already has accepted its address.
    made = Client(address, timeout=timeout, set_as_default=False, insecure=True)
    _kept.append(made)
    return made


#: Clients made by `get_client`, which nobody else may hold: they live as long as we do.
_kept: list[Client] = []
