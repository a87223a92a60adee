"""Tasks stopped while they run, forced or as their time is over; and what runs at most once."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any

import pytest

from zcluster.distributed import Client, Event
from zcluster.errors import InvalidArgument, TaskLost, TaskTimeout

if TYPE_CHECKING:
    from tests.processes.conftest import Log

pytestmark = pytest.mark.processes

#: Seconds after which a worker is replaced that does not stop a task.
REPLACED = 2.0


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """A cluster with one worker of two slots, which stays."""
    with Client(n_workers=1, threads_per_worker=2, set_as_default=False) as client:
        yield client


@pytest.fixture
def own_client() -> Iterator[Client]:
    """Such a cluster for one test, as its worker is replaced."""
    with Client(n_workers=1, threads_per_worker=2, set_as_default=False) as client:
        yield client


def write(path: str, word: str) -> None:
    """Append a line: it says that a task began, or went on to its end."""
    with open(path, "a") as file:
        file.write(f"{word}\n")


def pid_of_worker(client: Client) -> int:
    (info,) = client.scheduler_info()["workers"].values()
    return int(info["pid"])


def wait_for_another(client: Client, pid: int, until: Callable[..., None]) -> None:
    """Wait until there is a worker, and it is another."""

    def is_replaced() -> bool:
        found = {info["pid"] for info in client.scheduler_info()["workers"].values()}
        return bool(found) and pid not in found

    until(is_replaced, 30, "another worker")


def endless(path: str) -> None:
    write(path, "began")
    try:
        while True:
            pass
    finally:
        write(path, "ended")


def sleep(path: str, seconds: float = 1000.0) -> int:
    write(path, "began")
    time.sleep(seconds)
    write(path, "slept")
    return os.getpid()


def spin_until(path: str, gate: str) -> str:
    """Run until there is a file."""
    write(path, "began")
    while not os.path.exists(gate):
        pass
    return "done"


def wait_for_event(path: str) -> bool:
    event = Event("never set")
    write(path, "began")
    return event.wait()


def hold(path: str, seconds: float) -> int:
    """Sleep in C with the interpreter's lock held."""
    write(path, "began")
    ctypes.PyDLL(None).usleep(int(seconds * 1e6))
    return os.getpid()


def made(path: str, size: int) -> bytes:
    write(path, "made")
    return b"x" * size


def sleep_once(path: str, seconds: float) -> str:
    """Sleep in the first attempt alone."""
    write(path, "began")
    with open(path) as file:
        if len(file.readlines()) == 1:
            time.sleep(seconds)
    return "done"


def spin_once(path: str) -> str:
    """Run for ever in the first attempt alone."""
    write(path, "began")
    with open(path) as file:
        while len(file.readlines()) == 1:
            file.seek(0)
    return "done"


# --- force --------------------------------------------------------------------------------------


def test_an_endless_loop_is_stopped_and_its_worker_stays(client: Client, log: Log) -> None:
    pid = pid_of_worker(client)
    future = client.submit(endless, log.path)
    log.wait_lines(1)
    assert future.cancel(force=True)
    log.wait_lines(2)
    with pytest.raises(CancelledError):
        future.result()
    # Both slots are free again, in the same process.
    assert set(client.gather(client.map(sleep, [log.path] * 2, [0.1] * 2, pure=False))) == {pid}


def test_what_was_cancelled_and_runs_on_can_be_stopped_later(client: Client, log: Log) -> None:
    future = client.submit(endless, log.path)
    log.wait_lines(1)
    client.cancel(future)
    client.submit(abs, -1).result()
    assert log.lines() == ["began"]
    client.cancel(future, force=True)
    log.wait_lines(2)


def test_what_two_clients_want_goes_on_until_it_is_forced(client: Client, log: Log) -> None:
    gate = log.path + "-gate"
    with Client(client.cluster, set_as_default=False) as other:
        mine = client.submit(spin_until, log.path, gate)
        theirs = other.submit(spin_until, log.path, gate)
        log.wait_lines(1)
        other.statistics()  # the answer says that the scheduler has heard of the call
        assert mine.cancel()
        with open(gate, "w"):
            assert theirs.result(30) == "done"
        assert mine.cancelled()
        assert log.lines() == ["began"]

        mine = client.submit(endless, log.path)
        theirs = other.submit(endless, log.path)
        log.wait_lines(2)
        for one in (client, other):
            one.statistics()  # the answers say as much again
        assert theirs.cancel(force=True)
        with pytest.raises(CancelledError):
            mine.result(30)
        log.wait_lines(3)
        assert log.lines() == ["began", "began", "ended"]


def test_a_task_that_waits_for_others_is_stopped(
    client: Client, log: Log, until: Callable[..., None]
) -> None:
    pid = pid_of_worker(client)
    future = client.submit(wait_for_event, log.path)
    log.wait_lines(1)
    client.cancel(future, force=True)
    until(lambda: client.call_stack() == {}, 30, "no task that runs")
    assert set(client.gather(client.map(sleep, [log.path] * 2, [0.1] * 2, pure=False))) == {pid}


def test_a_worker_whose_task_does_not_stop_is_replaced_and_others_run_again(
    own_client: Client, log: Log, tmp_path: Any, until: Callable[..., None]
) -> None:
    client = own_client
    pid = pid_of_worker(client)
    logs = [str(tmp_path / name) for name in ("kept", "neighbour")]
    kept = client.submit(made, logs[0], 1_000_000)
    assert len(kept.result()) == 1_000_000
    future = client.submit(sleep, log.path)
    log.wait_lines(1)
    neighbour = client.submit(sleep_once, logs[1], 1000.0)
    until(lambda: os.path.exists(logs[1]))
    started = time.monotonic()
    client.cancel(future, force=True)
    assert neighbour.result(60) == "done"
    assert time.monotonic() - started > REPLACED - 0.5
    assert pid_of_worker(client) != pid
    with open(logs[1]) as file:
        assert file.read().splitlines() == ["began", "began"]
    # The store outlives workers.
    assert len(client.submit(len, kept).result(30) * b"x") == 1_000_000
    with open(logs[0]) as file:
        assert file.read().splitlines() == ["made"]


def test_in_a_cluster_of_threads_too(log: Log) -> None:
    with Client(processes=False, n_workers=1, threads_per_worker=1) as client:
        future = client.submit(endless, log.path)
        log.wait_lines(1)
        client.cancel(future, force=True)
        log.wait_lines(2)
        assert client.submit(abs, -1).result(30) == 1


# --- time limits --------------------------------------------------------------------------------


def test_a_task_that_takes_too_long_fails_and_frees_its_slot(client: Client, log: Log) -> None:
    pid = pid_of_worker(client)
    started = time.monotonic()
    future = client.submit(endless, log.path, timeout="200ms")
    with pytest.raises(TaskTimeout, match=r"'endless' has run for more than the 0\.2 s it may"):
        future.result(30)
    assert time.monotonic() - started < 15
    with pytest.raises(TimeoutError):
        future.result()
    log.wait_lines(2)
    assert set(client.gather(client.map(sleep, [log.path] * 2, [0.1] * 2, pure=False))) == {pid}


def test_it_is_tried_again_as_often_as_was_said(client: Client, log: Log) -> None:
    # On a busy machine an attempt may be over before it begins.
    future = client.submit(spin_once, log.path, timeout=0.5, retries=9, retry_on=TaskTimeout)
    assert future.result(30) == "done"
    assert 2 <= len(log.lines()) <= 10


def test_quick_tasks_with_a_limit_are_as_others(client: Client) -> None:
    futures = client.map(abs, range(-200, 0), timeout=60, pure=False)
    assert client.gather(futures) == list(range(200, 0, -1))


@pytest.mark.slow
@pytest.mark.parametrize("function", [hold, sleep])
def test_a_task_that_cannot_be_interrupted_ends_with_its_worker(
    own_client: Client, log: Log, function: Any, until: Callable[..., None]
) -> None:
    client = own_client
    pid = pid_of_worker(client)
    started = time.monotonic()
    future = client.submit(function, log.path, 1000.0, timeout=1)
    with pytest.raises(TaskTimeout):
        future.result(30)
    assert time.monotonic() - started < 20
    wait_for_another(client, pid, until)
    assert client.submit(abs, -1).result(30) == 1


class _Hangs:
    def __reduce__(self) -> Any:
        return time.sleep, (1000,)


@pytest.mark.slow
def test_an_argument_whose_unpickling_hangs_counts_too(
    own_client: Client, until: Callable[..., None]
) -> None:
    client = own_client
    pid = pid_of_worker(client)
    with pytest.raises(TaskTimeout):
        client.submit(id, _Hangs(), timeout=0.5).result(30)
    wait_for_another(client, pid, until)


# --- at most once -------------------------------------------------------------------------------


def kill_me(path: str) -> None:
    write(path, "began")
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_task_that_may_have_run_is_lost_with_its_worker(own_client: Client, log: Log) -> None:
    client = own_client
    future = client.submit(kill_me, log.path, at_most_once=True)
    with pytest.raises(TaskLost, match=r"worker \S+ .* was killed by SIGKILL .* at most once"):
        future.result(30)
    client.submit(abs, -1).result(30)
    assert log.lines() == ["began"]


def test_it_is_not_tried_again_either(client: Client) -> None:
    with pytest.raises(InvalidArgument, match="at_most_once=True with retries=2"):
        client.submit(abs, -1, at_most_once=True, retries=2)


@pytest.mark.slow
def test_force_waits_for_a_neighbour_that_runs_at_most_once(
    own_client: Client, log: Log, tmp_path: Any, until: Callable[..., None]
) -> None:
    client = own_client
    pid = pid_of_worker(client)
    other = str(tmp_path / "once")
    once = client.submit(sleep, other, 2 * REPLACED, at_most_once=True)
    until(lambda: os.path.exists(other))
    future = client.submit(sleep, log.path)
    log.wait_lines(1)
    client.cancel(future, force=True)
    assert once.result(30) == pid
    wait_for_another(client, pid, until)
    with open(other) as file:
        assert file.read().splitlines() == ["began", "slept"]


# --- workers that do not answer -----------------------------------------------------------------


def _status(client: Client) -> tuple[str, str]:
    (info,) = client.scheduler_info()["workers"].values()
    return info["status"], info["metrics"]["reason"]


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_worker_that_does_not_answer_for_a_minute_is_not_taken_for_dead(
    client: Client, log: Log, until: Callable[..., None]
) -> None:
    pid = pid_of_worker(client)
    future = client.submit(hold, log.path, 60.0)
    log.wait_lines(1)
    until(lambda: _status(client)[0] == "unresponsive", 30, "a worker shown unresponsive")
    assert _status(client)[1].startswith("unresponsive for ")
    assert "is unresponsive for" in client.explain(future)
    stacks = client.call_stack()
    assert list(next(iter(stacks.values()))) == ["unresponsive"], stacks
    assert future.result(120) == pid
    assert log.lines() == ["began"]
    until(lambda: _status(client) == ("running", ""), 30, "a worker that answers again")
