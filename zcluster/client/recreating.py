"""Running a task again in this process, where a debugger can look into it."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import CancelledError
from typing import Any

from zcluster.client.base import ClientBase
from zcluster.client.engine import Engine
from zcluster.client.future import Future, failure_of
from zcluster.client.gates import Deadline
from zcluster.core.client.records import Wanted
from zcluster.core.client.states import State
from zcluster.errors import DataLost, InvalidArgument
from zcluster.protocol.callables import load_callable
from zcluster.protocol.calls import CALL_PACKED_LAST, make_call
from zcluster.protocol.objects import load_private
from zcluster.protocol.selections import apply, selection_from
from zcluster.tracebacks import hides_frames

__all__ = ["Recreating"]


class Recreating(ClientBase):
    """`Client.recreate` and the names that Dask has for it."""

    @hides_frames
    def recreate(self, future: Future) -> Any:
        """Run a task's call again, here, and return its result.

        Where it raises, a debugger (``%debug``, ``pdb.pm()``) finds the frames with their
        variables. If an input failed, the call that made the input is run.

        Parameters
        ----------
        future : Future
            Of the task; it is waited for.

        Raises
        ------
        Exception
            Whatever the call raises.
        DataLost
            If the cluster does not know the task any more.

        Examples
        --------
        >>> future = client.submit(divmod, 1, 0)             # doctest: +SKIP
        >>> client.recreate(future)                          # doctest: +SKIP
        Traceback (most recent call last):
        ZeroDivisionError: integer division or modulo by zero
        """
        if not isinstance(future, Future):
            raise InvalidArgument(f"found {future!r}, expected a future of this client")
        future._check_held()
        engine, record = self._engine, future._record
        engine.wait((record,), Deadline(None))
        info = getattr(record.detail, "info", None)
        task = record.task if info is None or info.kind != "input" else info.origin
        spec = engine.ask("spec", [task])
        if spec is None:
            raise DataLost(
                f"task {future.key} is not known to the scheduler any more, so its call cannot be "
                "made again; keep its future until then"
            )
        inputs = self._inputs_of(spec)
        function = load_callable(spec["function"]) if spec["function"] else None
        return make_call(spec["form"], function, bytearray(spec["constant"]), inputs)

    recreate_error_locally = recreate
    recreate_task_locally = recreate

    def _inputs_of(self, spec: dict[str, Any]) -> list[Any]:
        """Fetch what a call takes; results that are gone are made again for it."""
        engine = self._engine
        with engine.lock:
            engine.check_usable()
            records = [engine.core.want(task, key) for task, key, _, _ in spec["inputs"]]
        # They hold the inputs while they are fetched, and let go of them at the end.
        holds = [Future(self, record) for record in records]
        engine.wake()
        try:
            blobs = _fetch_blobs(engine, records)
        except CancelledError as error:
            raise DataLost(
                f"an argument of {spec['key']} is gone ({error}); large arguments are kept until "
                "the task that takes them has succeeded, so only one that failed can be made again"
            ) from None
        finally:
            del holds
        raw = len(records) - 1 if spec["form"] == CALL_PACKED_LAST else -1
        values: list[Any] = []
        for place, (record, (_, _, kind, chosen)) in enumerate(
            zip(records, spec["inputs"], strict=True)
        ):
            blob = blobs[record.task]
            value = blob if place == raw else load_private(blob)
            values.append(apply(value, selection_from(kind, chosen)) if kind else value)
        start = len(values) - sum(spec["groups"])
        folded = values[:start]
        for length in spec["groups"]:
            folded.append(values[start : start + length])
            start += length
        return folded


def _fetch_blobs(engine: Engine, records: Sequence[Wanted]) -> dict[int, bytes | memoryview]:
    """Return the bytes of results, by task.

    Raises
    ------
    Exception
        What a task raised that has no result.
    """
    blobs: dict[int, bytes | memoryview] = {}
    while True:
        engine.wait(records, Deadline(None), stop_at_failure=True)
        for record in records:
            if record.state > State.HERE:
                raise failure_of(engine, record)
            if record.state is State.HERE:
                blobs[record.task] = record.detail
        left = [r for r in records if r.task not in blobs]
        if not left:
            return blobs
        blobs.update(
            engine.fetch([r for r in left if r.state is State.ANNOUNCED], Deadline(None))
            if any(r.state is State.ANNOUNCED for r in left)
            else {}
        )
