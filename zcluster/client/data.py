"""The client's data: results gathered, values scattered, tasks given up."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from zcluster.client import describing
from zcluster.client.base import ClientBase
from zcluster.client.future import Future, fetch_values
from zcluster.client.gates import Deadline
from zcluster.client.packing import nodes_of, records_of, unknown_worker, worker_names
from zcluster.client.waiting import DEEPEST, futures_in, too_deep
from zcluster.config import Time
from zcluster.core.client.records import Wanted
from zcluster.errors import InvalidArgument, NoWorkers
from zcluster.protocol.objects import plan
from zcluster.protocol.tokens import tokenize
from zcluster.tracebacks import hides_frames

__all__ = ["Data", "fill_gathered", "plan_gather"]

_SKIPPED = object()
_ALL = object()  # the shape of a list of nothing but futures


class Data(ClientBase):
    """`Client.gather`, `scatter`, `cancel` and their like."""

    @hides_frames
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
        shape, records, skip = plan_gather(self, futures, errors)
        return fill_gathered(shape, fetch_values(self._engine, records, Deadline(None), skip))

    def scatter(
        self,
        data: Any,
        workers: Any = None,
        broadcast: bool = False,
        hash: bool = True,
        timeout: Time = 30.0,
        direct: bool | None = None,
    ) -> Any:
        """Put values into the memory of the cluster; return futures of them.

        Parameters
        ----------
        data : list, tuple, set, dict, range or object
            A list, tuple or set gives the same of futures, a dict a dict, a range a
            list; anything else one future.
        workers : str or list of str, optional
            Where they shall go.
        broadcast : bool
            Put each on every node (of ``workers``).
        hash : bool
            Name values by their content: an equal one that is there already is shared.
        timeout : float, str or timedelta
            Seconds until they must be there.
        direct
            Accepted and not needed: data never passes through the scheduler.
        """
        if isinstance(data, range):
            data = list(data)
        if isinstance(data, dict):
            values = self._scatter(list(data.values()), workers, broadcast, hash, timeout)
            return dict(zip(data, values, strict=True))
        if isinstance(data, list | tuple | set | frozenset):
            return type(data)(self._scatter(list(data), workers, broadcast, hash, timeout))
        return self._scatter([data], workers, broadcast, hash, timeout)[0]

    def _scatter(
        self, values: list[Any], workers: Any, broadcast: bool, hash: bool, timeout: Time
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
        deadline = Deadline(timeout)
        if not engine.wait([future._record for future in futures], deadline):
            workers_now = describing.totals(list(engine.core.nodes.values()))[0]
            raise NoWorkers(
                f"scattered values were in no store after {deadline.seconds:g} s; there are "
                f"{workers_now} workers: start some, or wait longer"
            )
        for future in futures:
            error = future.exception()
            if error is not None:
                raise error
        return futures

    def cancel(self, futures: Any, reason: str | None = None, force: bool = False) -> None:
        """Cancel tasks that are not finished, and with them all that need their results.

        What another client wants too, or needs for what it wants, goes on for that one.

        Parameters
        ----------
        futures : futures
            Alone or nested in lists, tuples, sets and dicts.
        reason : str, optional
            Said by the error of whoever waits for them.
        force : bool
            Cancel them whoever else wants them, and stop those that run, too: by an exception
            in their thread, and where that does not help within two seconds, by replacing
            their worker. Without it they run on, and nobody hears of them.
        """
        records = [future._record for future in futures_in(futures)]
        self._engine.cancel(records, reason or "", bool(force))

    def retry(self, futures: Any) -> None:
        """Run failed tasks once more, and before them the failed tasks they failed of.

        Their futures are pending again, and those of tasks that failed of them. What has not
        failed stays as it is. A task that runs at most once and has begun runs again only where
        its own future is among these; else those fail that need it.

        Parameters
        ----------
        futures : futures
            Alone or nested in lists, tuples, sets and dicts.
        """
        self._engine.retry([future._record for future in futures_in(futures)])


def plan_gather(client: Any, futures: Any, errors: str) -> tuple[Any, list[Wanted], Any]:
    """Return what `Client.gather` is asked for: a shape, the records in it, and ``skip``."""
    if errors not in ("raise", "skip"):
        raise InvalidArgument(f"errors is {errors!r}, expected 'raise' or 'skip'")
    found: list[Future] = []
    shape = _collect(futures, found)
    for future in found:
        if future._client is not client or future._is_released:
            records_of((future,), client)
    return shape, [future._record for future in found], _SKIPPED if errors == "skip" else None


def fill_gathered(shape: Any, values: list[Any]) -> Any:
    """Return what `Client.gather` returns, given the values of the records."""
    result = _fill(shape, iter(values))
    return None if result is _SKIPPED else result


def _collect(value: Any, found: list[Future], depth: int = 0) -> Any:
    """Take the futures out of containers; return the shape for `_fill`."""
    if isinstance(value, Future):
        found.append(value)
        return (Future, None)
    if type(value) is list and all(type(item) is Future for item in value):
        found += value
        return (_ALL, len(value))
    if depth > DEEPEST:
        raise too_deep(value)
    if isinstance(value, list | tuple | set | frozenset):
        kind = type(value)
        return (kind, [_collect(item, found, depth + 1) for item in value])
    if isinstance(value, dict):
        return (dict, [(key, _collect(item, found, depth + 1)) for key, item in value.items()])
    if isinstance(value, Iterator):
        return _collect(list(value), found, depth + 1)
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
