"""A cluster whose scheduler, nanny and workers are threads of this process."""

from __future__ import annotations

import logging
import operator
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from zcluster.client.client import get_client
from zcluster.client.cluster import LocalCluster
from zcluster.distributed import Client
from zcluster.errors import UnknownWorker

pytestmark = pytest.mark.processes

seen: list[int] = []


def see(value: int) -> int:
    seen.append(value)
    return len(seen)


def ask_again(value: int) -> int:
    future = get_client().submit(operator.neg, value)
    result: int = future.result(10)
    return result


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with Client(processes=False, n_workers=2, threads_per_worker=1) as made:
        yield made


def test_tasks_run_in_this_process_and_see_its_objects(client: Client) -> None:
    assert client.submit(os.getpid, pure=False).result(10) == os.getpid()
    client.gather(client.map(see, range(5), pure=False))
    assert sorted(seen) == [0, 1, 2, 3, 4]


def test_results_of_every_size_come_back(client: Client) -> None:
    assert client.gather(client.map(operator.neg, range(2000))) == [-i for i in range(2000)]
    large = client.submit(np.arange, 1_000_000)
    assert client.submit(np.sum, large).result(10) == 499_999_500_000
    mine = large.result(10)
    mine[:] = 0
    assert large.result(10)[-1] == 999_999
    held = client.submit(iter, range(3), pure=False)  # cannot travel: used where it is
    assert client.submit(list, held).result(10) == [0, 1, 2]


def test_a_task_may_use_the_client(client: Client) -> None:
    assert client.submit(ask_again, 5, pure=False).result(10) == -5


def test_an_exit_in_a_task_is_the_tasks_own(client: Client) -> None:
    with pytest.raises(SystemExit):
        client.submit(sys.exit, 3, pure=False).result(10)
    assert client.submit(operator.neg, 1, pure=False).result(10) == -1


def test_it_is_described_as_any_other_cluster(client: Client) -> None:
    workers = client.scheduler_info()["workers"]
    assert set(workers) == {"local-0", "local-1"}
    assert {worker["pid"] for worker in workers.values()} == {os.getpid()}
    assert client.cluster.pids == ()
    html = client._repr_html_()
    assert 'Using processes</th><td style="text-align: left">False' in html
    there = client.submit(operator.neg, 7, workers="local-1", pure=False)
    assert there.result(10) == -7
    with pytest.raises(UnknownWorker):
        client.submit(operator.neg, 7, workers="local-9")


def test_what_is_the_users_stays_as_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    def mine() -> list[object]:
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD)
        return [
            os.getcwd(),
            list(sys.path),
            [signal.getsignal(number) for number in numbers],
            (sys.stdout, sys.stderr, sys.__stdout__),
            sys.getswitchinterval(),
            list(logging.getLogger().handlers),
            sys.modules["__main__"],
        ]

    before = mine()
    with Client(processes=False, threads_per_worker=2) as client:
        client.submit(print, "hello from a task", pure=False).result(10)
        assert mine() == before
    assert mine() == before
    assert "hello from a task" in capsys.readouterr().out


LEAVINGS = """
import gc, operator, os, threading, time
from zcluster.distributed import Client

def descriptors():
    gc.collect()
    return len(os.listdir("/proc/self/fd"))

def use():
    client = Client(processes=False, n_workers=2)
    scratch = client.cluster.scheduler_address.removeprefix("ipc://").rpartition("/")[0]
    assert client.submit(operator.neg, 1).result(10) == -1
    began = time.monotonic()
    client.close()
    assert time.monotonic() - began < 4
    assert not os.path.exists(scratch)

use()  # what is made once in a process is made now
threads, files = set(threading.enumerate()), descriptors()
use()
deadline = time.monotonic() + 10
while not set(threading.enumerate()) <= threads or descriptors() > files:
    assert time.monotonic() < deadline, (threading.enumerate(), descriptors(), files)
    time.sleep(0.01)
"""


def test_closing_is_quick_and_leaves_nothing() -> None:
    """In a process of its own, in which nothing else comes and goes."""
    subprocess.run([sys.executable, "-c", LEAVINGS], check=True, timeout=50)


def test_closing_does_not_wait_for_a_task_that_runs(until: Callable[..., None]) -> None:
    entered, gate, left = threading.Event(), threading.Event(), threading.Event()
    _gates.update(entered=entered, gate=gate, left=left)
    threads = set(threading.enumerate())
    client = Client(processes=False, threads_per_worker=1)
    running = client.submit(_hold, pure=False)
    waiting = client.submit(see, -1, pure=False)
    assert entered.wait(10)
    began = time.monotonic()
    client.close()
    assert time.monotonic() - began < 5
    assert not left.is_set()
    gate.set()
    assert left.wait(10)
    until(lambda: set(threading.enumerate()) <= threads, what="the end of all threads")
    assert -1 not in seen  # what waited behind it never ran
    assert running.cancelled()
    assert waiting.cancelled()


_gates: dict[str, threading.Event] = {}


def _hold() -> None:
    _gates["entered"].set()
    _gates["gate"].wait(30)
    _gates["left"].set()


def test_several_clusters_do_not_meet() -> None:
    with (
        LocalCluster(1, 1, processes=False) as one,
        LocalCluster(1, 2, processes=False) as two,
        Client(one) as first,
        Client(two) as second,
    ):
        assert one.scheduler_address != two.scheduler_address
        first.wait_for_workers(1, timeout=10)
        second.wait_for_workers(1, timeout=10)
        assert (first.nthreads(), second.nthreads()) == ({"local-0": 1}, {"local-0": 2})
        with pytest.raises(ZeroDivisionError):
            first.submit(operator.truediv, 1, 0).result(10)
        assert second.submit(operator.neg, 2).result(10) == -2


SCRIPT = """
import sys, time
from zcluster.distributed import Client
client = Client(processes=False, threads_per_worker=1)
future = client.submit(time.sleep, 60)
try:
    print("up", flush=True)
    future.result()
except KeyboardInterrupt:
    print("interrupted", flush=True)
print(client.status)
"""


def test_ctrl_c_ends_the_wait_and_the_script_ends_by_itself() -> None:
    script = subprocess.Popen(
        [sys.executable, "-c", SCRIPT], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert script.stdout is not None
    assert script.stdout.readline() == "up\n"
    script.send_signal(signal.SIGINT)
    out, err = script.communicate(timeout=20)
    assert (script.returncode, out, err) == (0, "interrupted\nrunning\n", "")
