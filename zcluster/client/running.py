"""Functions called in workers at once, beside their tasks; files, and restarts.

A direct call goes through the scheduler to one worker and is made in a thread of its own
there, however busy the slots are. What it takes and gives travels as bytes with it.
"""

from __future__ import annotations

import inspect
import os
import socket as sockets
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from zcluster.client.base import ClientBase
from zcluster.client.engine import Engine, Reply
from zcluster.client.gates import Deadline, Gate
from zcluster.client.outcomes import exception_of
from zcluster.client.packing import check_callable, nodes_of, unknown_worker, worker_names
from zcluster.client.shipping import environment
from zcluster.client.uploading import collect, files_message, module_of
from zcluster.config import Time, parse_timedelta
from zcluster.core.client.records import Failure, Wanted
from zcluster.errors import InvalidArgument
from zcluster.protocol.callables import callable_name, forget_callables
from zcluster.protocol.frames import encode
from zcluster.protocol.messages import Call, Called, Message, Restart
from zcluster.protocol.objects import load_private, plan
from zcluster.tracebacks import hides_frames
from zcluster.types import Buffer, Frames

__all__ = ["CALL_LIMIT", "Running", "failed_reply", "pack_direct", "reply_value"]

#: Bytes of what a direct call takes.
CALL_LIMIT = 32 << 20

_ON_ERROR = ("raise", "return", "ignore")


class Running(ClientBase):
    """`Client.run`, `run_on_scheduler`, `upload_file` and `restart`."""

    @hides_frames
    def run(
        self,
        function: Callable[..., Any],
        /,
        *args: Any,
        workers: Any = None,
        wait: bool = True,
        nanny: bool = False,
        on_error: str = "raise",
        **kwargs: Any,
    ) -> dict[str, Any] | None:
        """Call a function in each worker at once, beside its tasks.

        Parameters
        ----------
        function : callable
            Asynchronous ones are run to their end. One with a parameter ``dask_worker``
            is given the worker, as `get_worker` returns it.
        workers : str or list of str, optional
            Names of workers, nodes or hosts; all if absent.
        wait : bool
            Wait for the results; else return None at once.
        nanny : bool
            Not possible: nannies run no code of users.
        on_error : str
            ``"raise"`` the first exception, ``"return"`` exceptions in the places of
            results, or ``"ignore"``, which leaves those workers out.

        Returns
        -------
        dict
            Results by the names of the workers.

        Examples
        --------
        >>> client.run(os.getpid)                                # doctest: +SKIP
        {'node-0': 4711, 'node-1': 4712}
        """
        if nanny:
            raise InvalidArgument(
                "nanny=True asks nannies to run the function, but a nanny keeps a node's results "
                "and never runs code of users; run it in the workers, or log in on the host"
            )
        if on_error not in _ON_ERROR:
            raise InvalidArgument(f"on_error is {on_error!r}, expected one of {_ON_ERROR}")
        check_callable(function)
        targets = self._targets(workers)
        replies = self._begin(targets, function, args, kwargs)
        if not wait:
            return None
        self._engine.flush()
        replies.wait(Deadline(None))
        label = callable_name(function)
        results: dict[str, Any] = {}
        for name in targets:
            reply = replies.replies[name]
            if reply is None:
                self._engine.check_usable()
            try:
                results[name] = reply_value(reply, label)
            except Exception as error:
                if on_error == "raise":
                    raise
                if on_error == "return":
                    results[name] = error
        return results

    def _begin(
        self,
        targets: dict[str, tuple[int, int]],
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> _Replies:
        blob = pack_direct(self._engine, (function, args, kwargs))
        replies = _Replies(len(targets))
        for name, (node, worker) in targets.items():
            make = partial(_call, node=node, worker=worker)
            self._engine.send_request(make, [blob], partial(replies.take, name))
        return replies

    def _run_within(self, function: Callable[[], Any], seconds: float) -> dict[str, Any]:
        """Call a function in each worker; return the results of those that answer in time.

        For those that do not, None; without those in which it raised.
        """
        targets = self._targets(None)
        replies = self._begin(targets, function, (), {})
        self._engine.flush()
        replies.wait(Deadline(seconds))
        results: dict[str, Any] = {}
        for name in targets:
            reply = replies.replies.get(name)
            with suppress(Exception):  # the worker ended meanwhile, say
                results[name] = None if reply is None else reply_value(reply, name)
        return results

    @hides_frames
    def run_on_scheduler(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Call a function on the scheduler's host, in a process of its own.

        The scheduler itself runs no code of users, so there is no scheduler object to
        look into: ask `scheduler_info`, `story` or `statistics` for that. The process
        ends with the call, and after five minutes.
        """
        check_callable(function)
        if "dask_scheduler" in _parameters(function):
            raise InvalidArgument(
                f"{callable_name(function)} wants dask_scheduler, but the scheduler runs no code "
                "of users; ask client.scheduler_info(), story(), explain() or statistics() instead"
            )
        blob = pack_direct(self._engine, (function, args, kwargs))
        place = encode(environment(sockets.gethostname()))
        reply = self._engine.request(_call, [blob, place], timeout=None, what="run_on_scheduler")
        return reply_value(reply, callable_name(function))

    # ---------------------------------------------------------------------- files

    @hides_frames
    def upload_file(self, filename: str | os.PathLike[str], load: bool = True) -> None:
        """Put modules on the import path of all workers, also of those that come later.

        What they have imported under these names before is imported anew: a changed file
        takes effect. Data files of a folder lie beside its modules.

        Parameters
        ----------
        filename : path
            A ``.py`` file, a ``.zip``, ``.egg`` or ``.whl`` archive, a package, or a folder
            of modules; at most 64 MiB.
        load : bool
            Import a module or package there at once, and raise what that raises.

        Raises
        ------
        InvalidArgument
            If it cannot be meant, or is too large.
        """
        if not isinstance(filename, str | os.PathLike):
            raise InvalidArgument(
                f"filename is {filename!r}, expected the path of a file or folder"
            )
        path = Path(filename).expanduser().absolute()
        contents = collect(path)
        self._upload(contents, f"upload_file({path.name})")
        forget_callables()
        module = module_of(path)
        if load and module:
            self.run(exec, f"import {module}", {})

    def _upload(self, contents: dict[str, bytes], label: str) -> None:
        """Put files on all nodes, and wait until they are there."""
        files, frames = files_message(0, contents)

        def make(number: int) -> Message:
            return replace(files, request=number)

        reply_value(self._engine.request(make, frames, timeout=None, what=label), label)

    # ------------------------------------------------------------------- restarts

    def restart(self, timeout: Time | None = 60.0, wait_for_workers: bool = True) -> None:
        """Cancel all tasks of all clients, drop all results, and start all workers anew.

        Workers are killed, whatever they do. Uploaded files stay, and so do values that a
        client has fetched already; its other futures are cancelled.

        Parameters
        ----------
        timeout : float, str or timedelta, optional
            Seconds until the workers are up again.
        wait_for_workers : bool
            Wait for that.

        Raises
        ------
        TimeoutError
            If they are not up in time.
        """
        self._restart([], timeout, wait_for_workers)
        forget_callables()

    def restart_workers(
        self, workers: Any, timeout: Time | None = 60.0, raise_for_error: bool = True
    ) -> dict[str, str]:
        """Start some workers anew; their tasks run again, there or elsewhere.

        Parameters
        ----------
        workers : str or list of str
            Names of workers, nodes or hosts.
        timeout : float, str or timedelta, optional
            Seconds until they are up again.
        raise_for_error : bool
            Raise if they are not; else say so in what is returned.

        Returns
        -------
        dict
            ``"OK"`` or ``"timed out"`` by worker.
        """
        names = list(self._targets(workers)) if worker_names(workers) else []
        if not names:
            raise InvalidArgument(f"found workers {workers!r}, expected names; or use restart()")
        word = "OK"
        try:
            self._restart(names, timeout, True)
        except TimeoutError:
            if raise_for_error:
                raise
            word = "timed out"
        return dict.fromkeys(names, word)

    def _restart(self, names: list[str], timeout: Time | None, wait: bool) -> None:
        def make(number: int) -> Message:
            return Restart(number, names)

        if wait:
            self._engine.request(make, timeout=parse_timedelta(timeout), what="restart")
        else:
            self._engine.send_request(make, (), lambda _: None)
            self._engine.flush()

    # -------------------------------------------------------------------- workers

    def _targets(self, workers: Any) -> dict[str, tuple[int, int]]:
        """Return (node, worker number) by worker name, of all that some names mean."""
        nodes = {node.index: node for node in self._nodes()}
        names = worker_names(workers)
        for name in names:
            if not nodes_of(nodes, name):
                raise unknown_worker(nodes, name)
        return {
            worker.name: (node.index, worker.number)
            for node in nodes.values()
            for worker in node.workers
            if worker.pid  # else it could not be started yet
            if not names or {worker.name, node.name, node.host} & set(names)
        }


class _Replies:
    """Collects replies in the loop's thread, for one who waits for all of them."""

    def __init__(self, count: int) -> None:
        self.replies: dict[str, Reply | None] = {}
        self._left = count
        self._gate = Gate()
        if not count:
            self._gate.open()

    def take(self, name: str, reply: Reply | None) -> None:
        """Take one."""
        self.replies[name] = reply
        self._left -= 1
        if not self._left:
            self._gate.open()

    def wait(self, deadline: Deadline) -> None:
        """Wait for all, or until it is late."""
        self._gate.wait(deadline)


def _call(number: int, node: int = -1, worker: int = -1) -> Message:
    return Call(number, node, worker)


def _parameters(function: Callable[..., Any]) -> Iterable[str]:
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError):  # it was written in C and does not say
        return ()


def pack_direct(engine: Engine, call: tuple[Any, Any, Any]) -> Buffer:
    """Return the blob of a direct call; modules that it needs are sent before it.

    Raises
    ------
    NotSerializable
        If a part of it cannot travel.
    InvalidArgument
        If it is too large.
    """
    planned = plan(call, "call")
    if planned.size > CALL_LIMIT:
        raise InvalidArgument(
            f"a direct call with {planned.size} bytes of arguments, expected at most {CALL_LIMIT}; "
            "have a task take what is large: scatter it, or submit the call"
        )
    blob = planned.tobytes()
    engine.ship((blob,))
    return blob


def reply_value(reply: Reply | None, label: str) -> Any:
    """Return the value a direct call gave, or raise its exception.

    Parameters
    ----------
    reply : Reply
        With a `Called`.
    label : str
        The call, in the words of the error.
    """
    assert reply is not None
    called, frames = reply
    if called.error is not None:
        raise failed_reply(called, frames, label)
    return load_private(bytes(frames[0])) if frames else None


def failed_reply(called: Called, frames: Frames, label: str) -> BaseException:
    """Return the exception of a direct call that failed."""
    info = called.error
    assert info is not None
    pickled = b""
    if info.exception is not None and frames:
        pickled = bytes(frames[0][info.exception[1] : info.exception[2]])
    record = Wanted(-1, label, label)
    record.detail = Failure(info.kind, info.message, info, pickled)
    return exception_of(record)
