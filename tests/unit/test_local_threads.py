"""Graphs in threads of this process: order, copies, failures, Ctrl-C, nesting, and who helps."""

from __future__ import annotations

import asyncio
import copy
import gc
import heapq
import random
import signal
import sys
import threading
import traceback
import weakref
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import zcluster.collection.compute as door
from zcluster import config
from zcluster.collection.compute import compute, current_runner
from zcluster.delayed import delayed
from zcluster.errors import InvalidArgument, InvariantError
from zcluster.graph.spec import from_dict
from zcluster.local import (
    ExecutorRunner,
    LocalRunner,
    ThreadsRunner,
    close_pool,
    get_with,
    wanted_workers,
)
from zcluster.local.jobs import Job
from zcluster.local.pool import shared_pool
from zcluster.local.run import Run

PATIENCE = 30.0  # seconds after which a test that waits has failed


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No client; a pool of this test's own."""
    monkeypatch.setattr(door, "_stack", [])
    monkeypatch.setattr(door, "_default", None)
    close_pool()
    yield
    close_pool()


@pytest.fixture
def quick_switches() -> Iterator[None]:
    """Have threads take turns a hundred times as often."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(5e-5)
    yield
    sys.setswitchinterval(before)


def helpers() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith("zcluster-threads")]


def inc(x: int) -> int:
    return x + 1


# What a test's tasks wait for, by name: tasks are packed, and what they are given is copied.
barriers: dict[str, threading.Barrier] = {}
events: dict[str, threading.Event] = {}
calls: dict[str, Any] = {}


def meet(name: str) -> int:
    barriers[name].wait(PATIENCE)
    return threading.get_ident()


def await_event(name: str) -> None:
    assert events[name].wait(PATIENCE)


def _call(name: str, *args: Any) -> Any:
    return calls[name](*args)


# Who runs what ----------------------------------------------------------------------------------


def test_threads_are_the_default_where_there_is_no_client() -> None:
    assert isinstance(current_runner(), ThreadsRunner)
    for name in ("threads", "threading", "threaded"):
        assert isinstance(current_runner(name), ThreadsRunner)
    assert "pool of threads" in repr(current_runner())


def test_as_many_tasks_run_at_a_time_as_there_are_workers() -> None:
    """Tasks that wait for each other would never end with one worker less."""
    barriers["all"] = threading.Barrier(4)
    threads = compute(*[delayed(meet)("all") for _ in range(4)], num_workers=4)
    assert len(set(threads)) == 4
    assert threading.get_ident() in threads
    assert len(helpers()) == 3


def test_threads_stay_and_are_used_again_and_closing_ends_them() -> None:
    for _ in range(3):
        barriers["two"] = threading.Barrier(2)
        compute(*[delayed(meet)("two") for _ in range(2)], num_workers=2)
    (helper,) = helpers()
    close_pool()
    assert not helper.is_alive()
    barriers["two"] = threading.Barrier(2)
    compute(*[delayed(meet)("two") for _ in range(2)], num_workers=2)


def test_one_task_and_one_worker_need_no_other_thread() -> None:
    assert delayed(threading.get_ident)().compute(num_workers=8) == threading.get_ident()
    idents = compute(*[delayed(threading.get_ident)() for _ in range(50)], num_workers=1)
    assert set(idents) == {threading.get_ident()}
    assert helpers() == []


def test_the_number_of_workers_comes_from_the_call_or_the_configuration() -> None:
    with config.set(num_workers=3):
        assert wanted_workers() == 3
        assert wanted_workers(2) == 2
    with config.set(num_workers=None):
        assert wanted_workers() == config.cpu_count()
    for wrong in (0, -1, 2.0, "two", True):
        with pytest.raises(InvalidArgument, match=r"num_workers=.*from 1 on"):
            delayed(inc)(1).compute(num_workers=wrong)


def test_quick_tasks_behind_a_long_one_do_not_wait_for_it() -> None:
    """They are known to be quick, so at first no second thread is wanted."""
    events["go"] = threading.Event()
    done: list[int] = []

    def quick(i: int) -> None:
        done.append(i)
        if len(done) == 400:
            events["go"].set()

    def make(i: int) -> Any:
        return delayed(await_event)("go") if i == 200 else delayed(_call)("quick", i)

    calls["quick"] = quick
    compute(*[make(i) for i in range(401)], num_workers=2)
    assert len(done) == 400


def test_a_helper_runs_quick_tasks_while_the_caller_has_a_long_one() -> None:
    """Then nobody else is there to do it, however quick they are."""
    events["go"] = threading.Event()
    caller = threading.get_ident()
    count = 0

    def some(i: int) -> None:
        nonlocal count
        if threading.get_ident() == caller:
            await_event("go")
            return
        count += 1
        if count == 1000:
            events["go"].set()

    calls["some"] = some
    compute(*[delayed(_call)("some", i) for i in range(1001)], num_workers=2)
    assert count == 1000


def test_a_task_may_compute_and_all_threads_may_at_once() -> None:
    """Whoever computes inside a task takes part, so nobody waits for a thread that waits."""
    barriers["outer"] = threading.Barrier(3)

    def outer(x: int) -> int:
        meet("outer")
        return sum(compute(*[delayed(inc)(x) for _ in range(20)], num_workers=3))

    calls["outer"] = outer
    totals = compute(*[delayed(_call)("outer", x) for x in range(3)], num_workers=3)
    assert totals == (20, 40, 60)


def test_under_an_event_loop_the_calling_thread_waits() -> None:
    """A task may want a loop of its own, which cannot be nested."""

    def runs_a_loop(x: int) -> int:
        async def answer() -> int:
            return x + 1

        return asyncio.run(answer())

    async def main() -> Any:
        return compute(*[delayed(runs_a_loop)(x) for x in range(30)], num_workers=1)

    assert asyncio.run(main()) == tuple(range(1, 31))


# Turns ------------------------------------------------------------------------------------------


def run_in_two_threads(dsk: dict[str, Any], keys: list[str]) -> Run:
    """Return a run with one helper, to which `calls["asleep"]` refers."""
    graph, _ = from_dict(dsk, keys)
    run = Run(graph, 1, lambda run: shared_pool().give(run.help, 1))
    calls["asleep"] = lambda: run._is_asleep
    return run


def until_asleep(caller: int) -> None:
    """In the helper: run until the calling thread has found nothing more to do."""
    meet("begin")
    while threading.get_ident() != caller and not calls["asleep"]():
        pass


def test_a_sleeping_caller_is_woken_for_more_than_one_thread_can_do() -> None:
    barriers["begin"], barriers["end"] = threading.Barrier(2), threading.Barrier(2)
    this = threading.get_ident()
    dsk = {
        "a": (until_asleep, this),
        "b": (until_asleep, this),
        "c": (_meet_after, "a", "b"),
        "d": (_meet_after, "a", "b"),
    }
    run = run_in_two_threads(dsk, ["c", "d"])
    assert run.run() is None
    assert this in run.outputs()


def _meet_after(*_: Any) -> int:
    return meet("end")


def test_a_sleeping_caller_hears_when_the_last_helper_leaves_and_all_is_not_done() -> None:
    barriers["begin"] = threading.Barrier(2)
    this = threading.get_ident()
    run = run_in_two_threads({"a": (until_asleep, this), "b": (until_asleep, this)}, ["a", "b"])
    run._unresolved.add(-1)
    with pytest.raises(InvariantError, match="1 outputs are not finished"):
        run.run()


def begin_first(run: Run) -> Job:
    """Take the first task that is ready, as a thread does."""
    assert run._drive()
    job = heapq.heappop(run._ready)[-1]
    return run._jobs.pop(job.task)


def late(run: Run, tell: Any) -> None:
    """Have another thread tell something when the one that talks to the core has looked already."""
    looks = run._drive_on

    def look_then_tell() -> None:
        run._drive_on = looks  # type: ignore[method-assign]
        tell()

    run._drive_on = look_then_tell  # type: ignore[method-assign]


def test_what_is_told_while_another_thread_has_the_turn_is_reported_by_that_one() -> None:
    run = Run(from_dict({"x": (inc, 1), "y": (inc, "x")}, "y")[0])
    job = begin_first(run)
    run._put(job.task, 2)
    run._ready.clear()  # another thread is running it
    late(run, lambda: run._done.append(job))
    run._drive()
    assert run._done == []


def test_a_failure_is_reported_before_more_is_begun() -> None:
    run = Run(from_dict({"x": (inc, 1), "y": (inc, 2)}, ["x", "y"])[0])
    job = begin_first(run)
    assert len(run._ready) == 1
    late(run, lambda: run._failed.append((job, Special("it"))))
    run._drive()
    assert isinstance(run.run(), Special)
    assert len(run._ready) == 1


# Results ----------------------------------------------------------------------------------------


def mix(*inputs: list[int]) -> list[int]:
    """Write into all inputs, and return the first of them where there is one."""
    result = inputs[0] if inputs else []
    result.extend([sum(map(len, inputs)), *(item for some in inputs[1:] for item in some)][:20])
    for some in inputs[1:]:
        some.clear()
    return result


@settings(max_examples=40)
@given(st.integers(0, 1 << 32), st.integers(1, 5), st.integers(2, 120))
def test_results_are_those_of_a_plain_evaluation(seed: int, workers: int, count: int) -> None:
    chance = random.Random(seed)
    dag = [
        chance.sample(range(max(0, task - 20), task), min(task, chance.randrange(5)))
        for task in range(count)
    ]
    expected: list[list[int]] = []
    for inputs in dag:
        expected.append(mix(*(copy.deepcopy(expected[i]) for i in inputs)))
    dsk = {f"t{task}": (mix, *(f"t{i}" for i in inputs)) for task, inputs in enumerate(dag)}
    wanted = chance.sample(range(count), chance.randrange(1, count))
    before = sys.getswitchinterval()
    sys.setswitchinterval(5e-5)
    try:
        values = get_with(ThreadsRunner(), dsk, [f"t{i}" for i in wanted], num_workers=workers)
    finally:
        sys.setswitchinterval(before)
    assert values == tuple(expected[task] for task in wanted)


def test_many_tasks_with_many_takers(quick_switches: None) -> None:
    leaves = [delayed(list)((i,)) for i in range(300)]
    sums = [delayed(mix)(*leaves[i : i + 30]) for i in range(270)]
    first, second = compute(*sums), compute(*sums, num_workers=1)
    assert first == second


def zeroed(array: np.ndarray[Any, Any], name: str) -> float:
    """Write into the input while the others hold theirs."""
    meet(name)
    total = float(array.sum())
    meet(name)
    array[...] = 0
    return total


def test_tasks_that_run_at_once_have_inputs_of_their_own() -> None:
    barriers["three"] = threading.Barrier(3)
    base = delayed(np.ones)(1000)
    sums = compute(*[delayed(zeroed)(base, "three") for _ in range(3)], num_workers=3)
    assert sums == (1000.0, 1000.0, 1000.0)


class Slow:
    """Takes its time to be copied."""

    def __init__(self, items: list[int]) -> None:
        self.items = items

    def __reduce__(self) -> Any:
        events["copying"].set()
        assert events["changed"].wait(PATIENCE)
        return Slow, (list(self.items),)


def change(slow: Slow) -> int:
    """The first taker copies; the last one, which might have the object, runs meanwhile."""
    slow.items.append(2)
    events["changed"].set()
    return len(slow.items)


def test_the_last_taker_has_a_copy_while_another_copies() -> None:
    events["copying"], events["changed"] = threading.Event(), threading.Event()
    shelf = Run(from_dict({"x": 1}, "x")[0])._shelf
    shelf.values[shelf.base] = Slow([1])
    shelf.left[:] = [2]
    taken: list[Any] = []
    first = threading.Thread(target=lambda: taken.append(shelf.take([shelf.base], False)[0]))
    first.start()
    assert events["copying"].wait(PATIENCE)
    second = threading.Thread(target=lambda: taken.append(shelf.take([shelf.base], False)[0]))
    second.start()
    while shelf.values:
        pass  # until the second has taken it, and copies too
    events["changed"].set()
    first.join()
    second.join()
    assert taken[0] is not taken[1]
    assert [slow.items for slow in taken] == [[1], [1]]
    assert shelf._copying == {}


# Failures ---------------------------------------------------------------------------------------


class Special(Exception):
    """Cannot be pickled."""

    def __reduce__(self) -> Any:
        raise TypeError("not this one")


raised: list[Exception] = []


def fails_elsewhere(caller: int) -> None:
    meet("fail")
    if threading.get_ident() != caller:
        error = Special("there")
        raised.append(error)
        raise error


def test_the_exception_of_a_helper_is_the_object_it_raised_with_its_frames() -> None:
    raised.clear()
    barriers["fail"] = threading.Barrier(2)
    lazies = [delayed(fails_elsewhere)(threading.get_ident()) for _ in range(2)]
    with pytest.raises(Special) as caught:
        compute(*lazies, num_workers=2)
    assert caught.value is raised[0]
    frames = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert frames[-1] == "fails_elsewhere"
    assert len(frames) == 2


def fails(x: int) -> None:
    raise Special(x)


def test_without_the_door_only_the_runner_stands_between_the_caller_and_the_task() -> None:
    with pytest.raises(Special) as caught:
        get_with(ThreadsRunner(), {"x": (fails, 1)}, "x")
    frames = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert frames[-3:] == ["get_with", "run_graph", "fails"]


def exits(caller: int) -> None:
    meet("exit")
    if threading.get_ident() != caller:
        sys.exit(3)


def test_a_task_that_exits_in_a_helper_ends_the_program() -> None:
    barriers["exit"] = threading.Barrier(2)
    with pytest.raises(SystemExit):
        compute(*[delayed(exits)(threading.get_ident()) for _ in range(2)], num_workers=2)
    assert compute(*[delayed(inc)(i) for i in range(20)], num_workers=2) == tuple(range(1, 21))


def test_nothing_begins_after_a_failure() -> None:
    begun: list[int] = []

    def first(i: int) -> None:
        begun.append(i)
        raise Special(i)

    calls["first"] = first
    with pytest.raises(Special):
        compute(*[delayed(_call)("first", i) for i in range(500)], num_workers=2)
    assert len(begun) <= 2


class Token:
    """Can be referred to weakly."""


def test_nothing_stays_after_a_failure() -> None:
    alive: weakref.WeakSet[Token] = weakref.WeakSet()

    def make(i: int) -> Token:
        token = Token()
        alive.add(token)
        return token

    def divide(token: Token) -> float:
        return 1 / 0

    calls.update(make=make, divide=divide)
    tokens = [delayed(_call)("make", i) for i in range(20)]
    with pytest.raises(ZeroDivisionError):
        compute(*tokens, *[delayed(_call)("divide", token) for token in tokens], num_workers=3)
    gc.collect()
    assert len(alive) == 0


def interrupts(caller: int) -> str:
    """In the caller: be interrupted while the other one is in the middle of a task."""
    if threading.get_ident() == caller:
        meet("interrupt")
        signal.raise_signal(signal.SIGINT)
    else:
        meet("interrupt")
        await_event("after")
        events["ended"].set()
    return "done"


def test_ctrl_c_ends_the_run_at_once_and_another_one_works() -> None:
    barriers["interrupt"] = threading.Barrier(2)
    events["after"], events["ended"] = threading.Event(), threading.Event()
    lazies = [delayed(interrupts)(threading.get_ident()) for _ in range(10)]
    with pytest.raises(KeyboardInterrupt):
        compute(*lazies, num_workers=2)
    # The helper is still in its task; a run goes on without it, and what it gives is dropped.
    assert compute(*[delayed(inc)(i) for i in range(20)], num_workers=2) == tuple(range(1, 21))
    events["after"].set()
    assert events["ended"].wait(PATIENCE)


def test_an_output_that_no_task_makes_is_told_and_not_waited_for() -> None:
    graph, _ = from_dict({"x": (list,)}, "x")
    graph.outputs.append((7, 1))
    with pytest.raises(InvariantError, match="1 outputs are not finished"):
        ThreadsRunner().run_graph(graph, num_workers=2)


# Executors --------------------------------------------------------------------------------------


def test_an_executor_of_threads_runs_all_tasks() -> None:
    with ThreadPoolExecutor(2, thread_name_prefix="mine") as executor:
        names = compute(*[delayed(_call)("name") for _ in range(50)], scheduler=executor)
        assert isinstance(current_runner(executor), ExecutorRunner)
    assert {name.split("_")[0] for name in names} == {"mine"}


calls["name"] = lambda: threading.current_thread().name


def test_an_executor_of_processes_is_refused() -> None:
    with (
        ProcessPoolExecutor(1, get_context("spawn")) as executor,
        pytest.raises(InvalidArgument, match=r"other processes.*scheduler='processes'"),
    ):
        delayed(inc)(1).compute(scheduler=executor)


def test_an_executor_that_is_shut_down_before_it_begins_is_told() -> None:
    """Tasks that it took and never ran would be waited for for ever."""
    events["hold"] = threading.Event()
    executor = ThreadPoolExecutor(1)
    runner = ExecutorRunner(executor)
    executor.submit(await_event, "hold")
    stopper = threading.Thread(target=_shut_down, args=(executor,))
    stopper.start()
    with pytest.raises(RuntimeError, match="shutdown"):
        get_with(runner, {"x": (inc, 1)}, "x")
    events["hold"].set()
    stopper.join()
    executor.shutdown()


def _shut_down(executor: ThreadPoolExecutor) -> None:
    while not executor._work_queue.qsize():
        pass  # until the run has asked for a thread
    executor.shutdown(wait=False, cancel_futures=True)


def test_a_run_says_how_much_the_core_heard() -> None:
    runner = LocalRunner()
    get_with(runner, {"x": (inc, 1), "y": (inc, 2)}, ["x", "y"])
    assert runner.last_events >= 3  # callables are quick; the graph; they are done
    get_with(runner, {"x": (inc, 1)}, "x")
    assert runner.last_events == 0  # one call after the other needs no core
