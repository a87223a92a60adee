"""Direct calls and actors in a worker, without a socket: calls go in, answers come out."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
from queue import SimpleQueue
from types import ModuleType
from typing import Any

import pytest

from zcluster.protocol.messages import Call, Called
from zcluster.protocol.objects import load, plan
from zcluster.servers import calls as module
from zcluster.servers.calls import WorkerCalls, WorkerView, current_worker, get_worker, run_call
from zcluster.types import RunningTask, running_task

TASK = 77


class Rig:
    """The calls of a worker; what they answer is taken one by one."""

    def __init__(self) -> None:
        self.view = WorkerView("n-0", "n", 2, "/folder", "ipc:///nowhere")
        self.answers: SimpleQueue[tuple[Called, list[bytes]]] = SimpleQueue()
        self.calls = WorkerCalls(
            self.view, lambda called, frames: self.answers.put((called, frames))
        )
        self.number = 0

    def begin(self, function: Any, *args: Any, actor: int = -1, **kwargs: Any) -> None:
        self.number += 1
        blob = plan((function, args, kwargs)).tobytes()
        self.calls.start(Call(self.number, 0, 0, actor), [blob])

    def take(self) -> Any:
        """Return the next answer's value, or its `ErrorInfo`."""
        called, frames = self.answers.get(timeout=10)
        return called.error if called.error is not None else load(frames[0])

    def ask(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        self.begin(function, *args, **kwargs)
        return self.take()

    def make(self, function: Any, *args: Any, task: int = TASK) -> Any:
        """Make an actor as a slot does."""
        token = running_task.set(RunningTask(task, "n-0", "ipc:///nowhere"))
        try:
            return self.calls.creator(function)(*args)
        finally:
            running_task.reset(token)


@pytest.fixture
def rig() -> Rig:
    return Rig()


class Numbers:
    def __init__(self) -> None:
        self.seen: list[int] = []
        self.ends: SimpleQueue[str] | None = None

    def see(self, number: int) -> int:
        self.seen.append(number)
        return number

    def where(self) -> tuple[str, int, str]:
        task = running_task.get()
        assert task is not None
        return threading.current_thread().name, task.task, get_worker().name

    async def later(self) -> Any:
        import asyncio

        await asyncio.sleep(0)
        return id(asyncio.get_running_loop())

    def leave(self) -> None:
        raise SystemExit("left")

    def __del__(self) -> None:
        if self.ends is not None:
            self.ends.put(threading.current_thread().name)


def test_a_call_is_made_in_a_thread_of_its_own(rig: Rig) -> None:
    name = rig.ask(lambda: threading.current_thread().name)
    assert name == "n-0-call-1"
    assert rig.ask(divmod, 7, 2) == (3, 1)


def test_calls_do_not_wait_for_each_other(rig: Rig) -> None:
    gate = threading.Event()
    module_gates["gate"] = gate
    rig.begin(wait_for_gate)
    assert rig.ask(abs, -1) == 1
    gate.set()
    assert rig.take() == "open"


module_gates: dict[str, threading.Event] = {}


def wait_for_gate() -> str:
    module_gates["gate"].wait(10)
    return "open"


def test_the_worker_is_given_and_found(rig: Rig) -> None:
    assert rig.ask(given) == ("n-0", 2)
    assert rig.ask(lambda: get_worker().local_directory) == "/folder"
    assert current_worker.get() is None
    assert "n-0" in repr(rig.view)


def given(dask_worker: Any = None) -> tuple[str, int]:
    return dask_worker.name, dask_worker.nthreads


def test_a_call_that_is_no_task_has_no_key() -> None:
    view = WorkerView("w", "n", 1, "/tmp", "ipc:///nowhere")
    token = running_task.set(RunningTask(-1, "w", "ipc:///nowhere"))
    try:
        with pytest.raises(ValueError, match="no task here: get_current_task"):
            view.get_current_task()
    finally:
        running_task.reset(token)
    with pytest.raises(ValueError, match="no task here"):
        view.get_current_task()


def test_functions_written_in_c_need_not_say_their_parameters() -> None:
    assert run_call(plan((dict, (), {"a": 1})).tobytes(), Rig().view) == {"a": 1}


def test_errors_are_described(rig: Rig) -> None:
    error = rig.ask(int, "x")
    assert (error.kind, error.type_name, error.worker) == ("task", "builtins.ValueError", "n-0")
    assert error.exception is not None
    assert "threads" not in error.traceback


def test_results_that_cannot_travel(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    error = rig.ask(lambda: (x for x in "ab"))
    assert (error.kind, error.exception) == ("serialize", None)
    assert "generator" in error.message
    monkeypatch.setattr(module, "CALL_LIMIT", 1000)
    error = rig.ask(bytes, 2000)
    assert error.kind == "serialize"
    assert "at most 1000" in error.message


def test_an_actor_is_kept_and_called_in_order(rig: Rig) -> None:
    made = pickle.loads(pickle.dumps(rig.make(Numbers)).replace(b"zcluster.client.actors", HERE))
    task, kind, methods, scheduler = made
    assert (task, kind, scheduler) == (TASK, "Numbers", "ipc:///nowhere")
    assert set(methods) == {"see", "where", "later", "leave"}
    for number in range(100):
        rig.begin("see", number, actor=TASK)
    assert [rig.take() for _ in range(100)] == list(range(100))
    rig.number += 1
    rig.calls.start(Call(rig.number, 0, 0, TASK), [plan(("seen", None, None)).tobytes()])
    assert rig.take() == list(range(100))


#: As long as the name of the module that it stands for.
HERE = b"zc_pretend_of_actors__"


@pytest.fixture(autouse=True)
def _pretend(monkeypatch: pytest.MonkeyPatch) -> None:
    """Restore actors by a module of ours, which gives what it gets."""
    pretend = ModuleType(HERE.decode())
    pretend.restore = lambda *described: described  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, HERE.decode(), pretend)


def test_an_actor_has_one_thread_and_one_event_loop(rig: Rig) -> None:
    rig.make(Numbers)
    assert rig.ask("where", actor=TASK) == ("n-0-actor-4d", TASK, "n-0")
    assert rig.ask("later", actor=TASK) == rig.ask("later", actor=TASK)
    assert rig.ask("leave", actor=TASK).type_name == "builtins.SystemExit"
    assert rig.ask("see", 1, actor=TASK) == 1


@pytest.mark.parametrize("is_used", [True, False])
def test_an_actor_ends_in_its_thread_after_its_calls(rig: Rig, is_used: bool) -> None:
    """Its end may be code of the user, which must not run in the loop's thread."""
    ends: SimpleQueue[str] = SimpleQueue()

    def make() -> Numbers:
        made = Numbers()
        made.ends = ends
        return made

    rig.make(make)
    if is_used:
        rig.begin("see", 1, actor=TASK)
    rig.calls.discard([TASK, 5])
    assert ends.get(timeout=10) == "n-0-actor-4d"
    if is_used:
        assert rig.take() == 1
    error = rig.ask("see", 2, actor=TASK)
    assert error.kind == "actor"


def test_the_end_of_the_worker_ends_its_actors(rig: Rig) -> None:
    ends: SimpleQueue[str] = SimpleQueue()

    def make() -> Numbers:
        made = Numbers()
        made.ends = ends
        return made

    for task in (1, 2):
        rig.make(make, task=task)
    rig.calls.close()
    assert {ends.get(timeout=10) for _ in range(2)} == {"n-0-actor-1", "n-0-actor-2"}


def test_a_forked_child_does_not_answer() -> None:
    """It would answer a second time, on the parent's socket."""
    code = """
import os, sys
from zcluster.protocol.messages import Call
from zcluster.protocol.objects import plan
from zcluster.servers.calls import WorkerCalls, WorkerView
from queue import SimpleQueue
answers = SimpleQueue()
def reply(called, frames):
    os.write(1, b"answered\\n")
    answers.put(called)
calls = WorkerCalls(WorkerView("w", "n", 1, "", ""), reply)
def fork():
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)
calls.start(Call(1, 0, 0), [plan((fork, (), {})).tobytes()])
answers.get(timeout=10)
"""
    run = subprocess.run([sys.executable, "-P", "-W", "ignore", "-c", code], capture_output=True,
                         text=True, timeout=30, env={**os.environ})  # fmt: skip
    assert run.stdout == "answered\n", run.stderr
