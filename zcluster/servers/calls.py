"""Direct calls in a worker, and its actors.

Beside the slots, so that a worker whose slots are all busy answers all the same: a call
has a thread of its own, an actor one thread for all its calls, which it makes in the
order in which they came. The loop's thread starts them and sends what came of them; it
runs no code of the user.

An actor is made by a task in a slot. The object stays here; what the task gives becomes
an `Actor` of `zcluster.client.actors` where it is unpickled, which says where to call.
"""

from __future__ import annotations

import importlib
import inspect
import os
import pickle
import sys
import threading
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextvars import ContextVar
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from zcluster.errors import ActorLost, NotSerializable, ResultNotSerializable
from zcluster.protocol.messages import Call, Called, ErrorInfo
from zcluster.protocol.objects import load, plan
from zcluster.servers.failures import describe
from zcluster.types import RunningTask, running_task

__all__ = [
    "CALL_LIMIT",
    "WorkerCalls",
    "WorkerView",
    "called_with",
    "current_worker",
    "get_worker",
    "run_call",
]

#: Bytes of what a direct call takes, and of what it gives.
CALL_LIMIT = 32 << 20

#: What a function names a parameter that wants to be given the worker.
_WORKER_PARAMETER = "dask_worker"
#: The module that has what restores an actor.
_RESTORED_BY = b"zcluster.client.actors"


class WorkerView:
    """What code in a worker may know of it; what is set on it stays as long as the worker.

    Attributes
    ----------
    name, node : str
        How the worker and its node are called.
    address : str
        What ``workers=`` of a call takes to mean this worker: its name.
    nthreads : int
        Its slots.
    local_directory : str
        The folder into which `Client.upload_file` puts files on this node.
    scheduler : str
        The scheduler's address.
    plugins : Plugins or None
        What was registered to set it up; see `zcluster.servers.plugins`.
    """

    if TYPE_CHECKING:  # users set what they like

        def __getattr__(self, name: str) -> Any: ...
        def __setattr__(self, name: str, value: Any) -> None: ...

    def __init__(
        self, name: str, node: str, nthreads: int, local_directory: str, scheduler: str
    ) -> None:
        self.name = self.id = self.address = name
        self.node = node
        self.nthreads = nthreads
        self.local_directory = local_directory
        self.scheduler = scheduler
        self.plugins: Any = None

    @property
    def client(self) -> Any:
        """A client of this worker's cluster; all code here shares it."""
        # By name: the client is beside the servers in the tree, not below.
        return importlib.import_module("zcluster.client.client").get_client(self.scheduler)

    def get_client(self) -> Any:
        """Return `client`."""
        return self.client

    def get_current_task(self) -> str:
        """Return the key of the task that this thread runs; the scheduler is asked for it.

        Raises
        ------
        ValueError
            In a call that is no task: of `Client.run`, say.
        """
        task = running_task.get()
        if task is None or task.task < 0:
            raise ValueError(
                "no task here: get_current_task() is for functions that were submitted, in their "
                "own thread"
            )
        key: str = self.client.key_of(task.task)
        return key

    def log_event(self, topic: str | Sequence[str], msg: Any) -> None:
        """Tell whoever has subscribed to a topic; as `Client.log_event`."""
        self.client.log_event(topic, msg)

    def __repr__(self) -> str:
        return f"<Worker: {self.name!r}, threads={self.nthreads}>"


#: Set in all threads of a worker that run code of the user.
current_worker: ContextVar[WorkerView | None] = ContextVar("zcluster_worker", default=None)


def get_worker() -> WorkerView:
    """Return the worker that runs this task or call.

    Raises
    ------
    ValueError
        Outside of tasks and calls.

    Examples
    --------
    >>> get_worker()
    Traceback (most recent call last):
    ...
    ValueError: no worker here: get_worker() is for code that a worker runs, in its own thread
    """
    view = current_worker.get()
    if view is None:
        raise ValueError(
            "no worker here: get_worker() is for code that a worker runs, in its own thread"
        )
    return view


class _Actor:
    """An actor, and the calls that wait for it."""

    def __init__(self, value: Any) -> None:
        self.value = value
        #: (request, blob of the call); None: let it go.
        self.calls: SimpleQueue[tuple[int, bytes] | None] = SimpleQueue()
        self.thread: threading.Thread | None = None


class _Made:
    """What a task gives that made an actor: unpickled, it is an `Actor` of the client's.

    The pickle names the function that restores it without looking at it: importing the
    client takes a tenth of a second, which only who calls the actor has to spend.
    """

    def __init__(self, described: tuple[int, str, tuple[str, ...], str]) -> None:
        self._described = described

    def __reduce__(self) -> tuple[Any, ...]:
        arguments = pickle.dumps(self._described, 2)[2:-1]  # without its frame: PROTO 2, STOP
        return pickle.loads, (b"\x80\x02c%s\nrestore\n%sR." % (_RESTORED_BY, arguments),)


class WorkerCalls:
    """The calls and actors of one worker.

    Parameters
    ----------
    view : WorkerView
    reply : callable
        Takes a `Called` and its payload frames, in any thread.
    """

    def __init__(self, view: WorkerView, reply: Callable[[Called, list[bytes]], None]) -> None:
        self.view = view
        self._reply = reply
        self._actors: dict[int, _Actor] = {}

    def start(self, call: Call, frames: list[bytes]) -> None:
        """Have a call made; in the loop's thread."""
        blob = bytes(frames[0]) if frames else b""
        if call.actor < 0:
            name = f"{self.view.name}-call-{call.request}"
            thread = threading.Thread(
                target=self._run, args=(call.request, blob), name=name, daemon=True
            )
            thread.start()
            return
        actor = self._actors.get(call.actor)
        if actor is None:
            error = ActorLost(f"worker {self.view.name} has no such actor any more")
            self._reply(*self._failed(call.request, error, "actor", call.actor))
            return
        self._put(call.actor, actor, (call.request, blob))

    def _put(self, task: int, actor: _Actor, entry: tuple[int, bytes] | None) -> None:
        actor.calls.put(entry)
        if actor.thread is None:
            name = f"{self.view.name}-actor-{task:x}"
            actor.thread = threading.Thread(
                target=self._serve, args=(task, actor), name=name, daemon=True
            )
            actor.thread.start()

    def discard(self, tasks: Iterable[int]) -> None:
        """Let go of actors, once they have made the calls they were given; in the loop's thread."""
        for task in tasks:
            actor = self._actors.pop(task, None)
            if actor is not None:
                # Its thread ends it, though it may have had nothing to do until now.
                self._put(task, actor, None)

    def close(self) -> None:
        """Let go of all actors: the worker ends, and the process it is in may go on."""
        self.discard(list(self._actors))

    def creator(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that keeps what another makes, and gives what stands for it."""

        def make(*args: Any, **kwargs: Any) -> Any:
            value = function(*args, **kwargs)
            running = running_task.get()
            assert running is not None
            task = running.task
            self._actors[task] = _Actor(value)
            kind = type(value)
            methods = tuple(
                name
                for name in dir(kind)
                if not name.startswith("__") and callable(getattr(kind, name, None))
            )
            return _Made((task, kind.__name__, methods, self.view.scheduler))

        return make

    # ------------------------------------------------------------------ in threads

    def _enter(self, task: int) -> None:
        running_task.set(RunningTask(task, self.view.name, self.view.scheduler))
        current_worker.set(self.view)

    def _run(self, request: int, blob: bytes) -> None:
        """Make one call, in a thread of its own."""
        self._enter(-1)
        process = os.getpid()
        try:
            reply = self._answer(request, lambda: run_call(blob, self.view), -1)
        finally:
            _end_child(process)
        self._reply(*reply)

    def _serve(self, task: int, actor: _Actor) -> None:
        """Make the calls of one actor until it is let go."""
        self._enter(task)
        process = os.getpid()
        run = _Coroutines()
        while (entry := actor.calls.get()) is not None:
            request, blob = entry
            make = partial(_finish_call, actor, blob, run)
            reply = self._answer(request, make, task)
            _end_child(process)
            self._reply(*reply)
            del entry, blob, make, reply  # not kept while it waits for the next
        run.close()
        actor.value = None

    def _answer(
        self, request: int, make: Callable[[], Any], task: int
    ) -> tuple[Called, list[bytes]]:
        try:
            value = make()
            try:
                planned = plan(value)
            except NotSerializable as error:
                kind = type(value)
                text = (
                    f"the result of the call, a {kind.__module__}.{kind.__qualname__}, cannot "
                    f"leave its worker: {error}"
                )
                return self._failed(request, ResultNotSerializable(text), "serialize", task)
            if planned.size > CALL_LIMIT:
                text = (
                    f"the result of the call has {planned.size} bytes, a direct call gives at "
                    f"most {CALL_LIMIT}; have a task make it, or put it into the cluster with "
                    "get_client().scatter"
                )
                return self._failed(request, ResultNotSerializable(text), "serialize", task)
            return Called(request), [planned.tobytes()]
        except BaseException as error:  # SystemExit too: the call failed, the worker lives
            return self._failed(request, error, "task", task)

    def _failed(
        self, request: int, error: BaseException, kind: str, task: int
    ) -> tuple[Called, list[bytes]]:
        info, pickled = describe(error, task, kind, self.view.node, self.view.name)
        return called_with(request, info, pickled)


def called_with(request: int, info: ErrorInfo, pickled: bytes) -> tuple[Called, list[bytes]]:
    """Return the answer of a call that raised."""
    if not pickled:
        return Called(request, info), []
    return Called(request, replace(info, exception=(0, 0, len(pickled)))), [pickled]


def run_call(blob: bytes, view: WorkerView | None) -> Any:
    """Make the call that a blob describes, to its end if it is asynchronous."""
    function, args, kwargs = load(bytearray(blob))
    if view is not None and _wants_worker(function):
        kwargs[_WORKER_PARAMETER] = view
    run = _Coroutines()
    try:
        return run.finish(function(*args, **kwargs))
    finally:
        run.close()


def _finish_call(actor: _Actor, blob: bytes, run: _Coroutines) -> Any:
    """Call a method, or read an attribute: then there are no arguments."""
    name, args, kwargs = load(bytearray(blob))
    found = getattr(actor.value, name)
    return found if args is None else run.finish(found(*args, **kwargs))


def _wants_worker(function: Callable[..., Any]) -> bool:
    try:
        return _WORKER_PARAMETER in inspect.signature(function).parameters
    except (TypeError, ValueError):  # it was written in C and does not say
        return False


class _Coroutines:
    """Runs coroutines to their end, all in the same event loop, made for the first."""

    def __init__(self) -> None:
        self._runner: Any = None

    def finish(self, value: Any) -> Any:
        """Return a value, or what it comes to if it is a coroutine."""
        if not isinstance(value, Coroutine):
            return value
        if self._runner is None:
            # Not at the top: it takes 30 ms, and few calls need it.
            import asyncio

            self._runner = asyncio.Runner()
        return self._runner.run(value)

    def close(self) -> None:
        if self._runner is not None:
            self._runner.close()


def _end_child(process: int) -> None:
    """End a child that a call forked, where it comes out of the call; see `slots`."""
    if os.getpid() != process:
        sys.stdout.flush()
        os._exit(0)
