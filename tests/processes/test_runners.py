"""Graphs without a client of the user's: processes of this machine, and Ctrl-C in each runner."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from typing import Any

import pytest

import zcluster.collection.compute as door
from zcluster import config, multi_processing, multiprocessing
from zcluster.client.client import Client
from zcluster.collection.compute import compute
from zcluster.delayed import delayed
from zcluster.diagnostics import Callback, ProgressBar
from zcluster.errors import InvalidArgument

pytestmark = pytest.mark.processes

PATIENCE = 30.0


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "_stack", [])
    monkeypatch.setattr(door, "_default", None)


def pid(_: int) -> int:
    return os.getpid()


def pids(count: int = 40, **options: Any) -> set[int]:
    return set(compute(*[delayed(pid)(i) for i in range(count)], **options))


def test_processes_are_started_at_first_use_and_kept_and_replaced_and_closed() -> None:
    assert "not started" in repr(multiprocessing._processes)
    first = pids(scheduler="processes", num_workers=1)
    assert os.getpid() not in first
    assert len(first) == 1
    assert pids(scheduler="multiprocessing") == first
    with config.set(scheduler="processes"):
        assert pids() == first
    assert "1 workers" in repr(multiprocessing._processes)
    second = pids(scheduler="processes", num_workers=2)
    assert not second & first
    assert door._stack == []  # it is nobody's default
    square = 7
    assert multi_processing.get({"x": 3, "y": (lambda x: x * square, "x")}, ["y", "x"]) == (21, 3)
    multiprocessing.close()
    multiprocessing.close()
    assert "not started" in repr(multiprocessing._processes)


class Done:
    """A future of nobody's."""

    __zcluster_input__ = True

    def result(self) -> int:
        return 1


def test_futures_of_another_cluster_are_refused_before_anything_starts() -> None:
    with pytest.raises(InvalidArgument, match="expected no futures"):
        multiprocessing.get({"x": Done()}, "x")
    assert multiprocessing._cluster is None


def test_a_client_runs_graphs_and_is_asked_before_threads() -> None:
    told: list[Any] = []
    out = io.StringIO()
    callback = Callback(pretask=lambda *args: told.append(args))
    with Client(n_workers=1, threads_per_worker=1, set_as_default=False) as client:
        with callback, ProgressBar(out=out):
            theirs = pids(scheduler=client, num_workers=1)
        assert os.getpid() not in theirs
        door.push_runner(client)
        assert pids() == theirs
        assert pids(scheduler="threads") == {os.getpid()}
    assert told == []
    assert out.getvalue() == ""


def test_a_forked_process_has_a_cluster_of_its_own() -> None:
    """And the end of the program ends it: nothing is left, which is looked for after this test."""
    script = """
import os
from zcluster.multiprocessing import close, get
print(get({"x": 1}, "x", num_workers=1), flush=True)
child = os.fork()
if not child:
    print(get({"x": 2}, "x", num_workers=1), flush=True)
    close()
    os._exit(0)
print(os.waitpid(child, 0)[1], get({"x": 3}, "x"))
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-P", "-c", script],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    assert done.stdout.split() == ["1", "2", "0", "3"]
    assert done.stderr == ""


# Ctrl-C -----------------------------------------------------------------------------------------

SCRIPT = """
import sys, threading
from zcluster.collection.compute import compute
from zcluster.delayed import delayed

def long(i):
    sys.stdout.write(f"running {i}\\n")  # in one piece, as print does not
    sys.stdout.flush()
    threading.Event().wait(60)

def inc(x):
    return x + 1

runner = sys.argv[1]
try:
    compute(*[delayed(long)(i) for i in range(8)], scheduler=runner, num_workers=2)
except KeyboardInterrupt:
    print("interrupted", flush=True)
print("then", delayed(inc)(1).compute(scheduler=runner), flush=True)
"""


@pytest.mark.parametrize("runner", ["sync", "threads", "processes"])
def test_ctrl_c_ends_a_run_at_once_and_the_program_goes_on_and_ends(runner: str) -> None:
    command = [sys.executable, "-P", "-c", SCRIPT, runner]
    # A session of its own, as a shell gives each command a group.
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as script:
        assert script.stdout is not None
        try:
            for _ in range(1 if runner == "sync" else 2):
                assert "running" in script.stdout.readline()
            os.killpg(script.pid, signal.SIGINT)
            out, err = script.communicate(timeout=PATIENCE)  # a task takes twice as long
        except BaseException:
            os.killpg(script.pid, signal.SIGKILL)
            raise
    assert out.splitlines() == ["interrupted", "then 2"], (out, err)
    assert script.returncode == 0, err
