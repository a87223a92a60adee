"""The client's calls: functions that become tasks."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from typing import Any

from zcluster.client.base import ClientBase
from zcluster.client.future import Future
from zcluster.client.graphs import started
from zcluster.client.packing import (
    check_callable,
    key_text,
    make_options,
    pack_function,
    pure_key,
    records_of,
)
from zcluster.config import Time
from zcluster.core.client.records import Wanted
from zcluster.errors import InvalidArgument
from zcluster.graph.layers import Options
from zcluster.protocol.calls import CALL_SINGLE, PackedCall, pack_call
from zcluster.protocol.tokens import tokenize
from zcluster.tracebacks import hides_frames

__all__ = ["Calls"]


class Calls(ClientBase):
    """`Client.submit` and `Client.map`."""

    @hides_frames
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
        retry_on: Any = None,
        retry_delay: float = 0.0,
        priority: int = 0,
        resources: Mapping[str, float] | None = None,
        threads: int = 1,
        timeout: Time | None = None,
        at_most_once: bool = False,
        actor: bool = False,
        actors: bool = False,
        fifo_timeout: Any = None,
        **kwargs: Any,
    ) -> Future:
        """Have ``func(*args, **kwargs)`` called on a worker.

        Function and arguments are frozen now: what happens to them afterwards does
        not matter. Futures among the arguments, at any depth, stand for their results;
        so do lazy collections, which are computed.

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
        retry_on : exception class or tuple of them, optional
            Only after these; after any if absent.
        retry_delay : float
            Seconds to wait before the second attempt, doubled for each further one.
        priority : int
            Larger runs earlier.
        resources : dict, optional
            What a worker must have, and gives up while the call runs: ``{"GPU": 1}``.
        threads : int
            How many slots of its worker it takes; libraries that compute with threads of
            their own (BLAS, OpenMP) are held to this number.
        timeout : float or str, optional
            How long one attempt may run, in seconds or as ``"5s"``; the time it waits for
            other tasks counts. Then it is stopped, and fails with `TaskTimeout` unless
            ``retries`` are left. A function's own ``timeout`` goes into a
            `functools.partial`.
        at_most_once : bool
            Never run it again once it may have begun: with a worker or node that is lost,
            it fails with `TaskLost`. Not together with ``retries``.
        actor, actors : bool
            The result stays in its worker, and `Future.result` is an `Actor` that calls
            its methods there.
        fifo_timeout
            Accepted and not needed.

        Raises
        ------
        InvalidArgument
            For an argument that cannot be meant.
        NotSerializable
            If function or arguments cannot travel; the error names the part.
        """
        check_callable(func)
        actor = actor or actors
        name, function = pack_function(func)
        call = pack_call(args, kwargs)
        self._engine.ship_for(function, call.constant)
        if key is not None:
            text: str | None = key_text(key)
        elif pure is False or actor:
            text = None
        else:
            text = pure_key(name, tokenize(func), call, args, kwargs)
        wishes = _wishes(
            workers, allow_other_workers, retries, retry_on, retry_delay, priority, resources
        )
        if threads != 1:
            wishes["threads"] = threads
        if timeout is not None:
            wishes["timeout"] = timeout
        if at_most_once:
            wishes["at_most_once"] = True
        if actor:
            wishes["actor"] = True
        options = make_options(self._engine.core.nodes, wishes)
        held = started(self, call.inputs) if call.inputs else ()
        inputs = records_of(held, self) if held else ()
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

    @hides_frames
    def map(
        self,
        func: Callable[..., Any],
        *iterables: Any,
        key: Any = None,
        pure: bool | None = None,
        workers: Any = None,
        allow_other_workers: bool = False,
        retries: int = 0,
        retry_on: Any = None,
        retry_delay: float = 0.0,
        priority: int = 0,
        resources: Mapping[str, float] | None = None,
        threads: int = 1,
        timeout: Time | None = None,
        at_most_once: bool = False,
        actor: bool = False,
        actors: bool = False,
        batch_size: int | None = None,
        fifo_timeout: Any = None,
        **kwargs: Any,
    ) -> list[Future]:
        """Have a function called on each item, or on the items of several iterables in step.

        Parameters
        ----------
        *iterables
            As for the built-in ``map``: the shortest ends it.
        key : str or list of str, optional
            How the keys begin, or all keys.
        batch_size, fifo_timeout
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
        if actor := actor or actors:
            pure = False  # each has a state of its own
        keys = self._keys_of_map(func, name, key, pure, rows, calls, kwargs)
        wishes = _wishes(
            workers, allow_other_workers, retries, retry_on, retry_delay, priority, resources
        )
        if threads != 1:
            wishes["threads"] = threads
        if timeout is not None:
            wishes["timeout"] = timeout
        if at_most_once:
            wishes["at_most_once"] = True
        if actor:
            wishes["actor"] = True
        options = make_options(self._engine.core.nodes, wishes)
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
        if pure is False:
            token = secrets.token_hex(8)  # not the keys of another such call either
            return [f"{prefix}-{token}-{place}" for place in range(len(rows))]
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
        held = [started(self, call.inputs) if call.inputs else () for call in calls]
        inputs = [records_of(futures, self) if futures else () for futures in held]
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


def _wishes(
    workers: Any,
    allow_other_workers: bool,
    retries: int,
    retry_on: Any,
    retry_delay: float,
    priority: int,
    resources: Mapping[str, float] | None,
) -> dict[str, Any]:
    """Return those of the wishes that are not the usual: mostly none."""
    wishes: dict[str, Any] = {}
    if workers is not None:
        wishes["workers"] = workers
    if allow_other_workers:
        wishes["allow_other_workers"] = True
    if retries != 0:
        wishes["retries"] = retries
    if retry_on is not None:
        wishes["retry_on"] = retry_on
    if retry_delay:
        wishes["retry_delay"] = retry_delay
    if priority != 0:
        wishes["priority"] = priority
    if resources:
        wishes["resources"] = resources
    return wishes
