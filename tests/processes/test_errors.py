"""Errors as users meet them: the text on a script's terminal, the causes, the second look."""

from __future__ import annotations

import ctypes
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zcluster
from zcluster import delayed
from zcluster.client.client import Client
from zcluster.errors import ClusterError, DataLost, InvalidArgument, RemoteError, WorkerKilledError

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """Two workers that no test here ends."""
    with Client(n_workers=2, threads_per_worker=1) as made:
        yield made


def worker_pids(client: Client) -> list[int]:
    return [worker["pid"] for worker in client.scheduler_info()["workers"].values()]


# ------------------------------------------------------------------ what is printed

SCRIPT = """
import sys
from zcluster import Client, delayed
import zcluster

def ratio(a, b):
    return a / b

with_client = sys.argv[1] != "threads"
client = Client(n_workers=1, threads_per_worker=1) if with_client else None
try:
    if sys.argv[1] == "result":
        client.submit(ratio, 1, 0).result()
    elif sys.argv[1] == "gather":
        client.gather(client.map(ratio, [1, 2], [1, 0]))
    elif sys.argv[1] == "input":
        client.submit(ratio, client.submit(ratio, 1, 0), 2).result()
    else:
        delayed(ratio)(1, 0).compute()
finally:
    if client is not None:
        client.close()
"""


def run_script(folder: Path, how: str, **environ: str) -> list[str]:
    """Run a script that fails; return the lines of its errors."""
    script = folder / "script.py"
    script.write_text(SCRIPT)
    run = subprocess.run(
        [sys.executable, str(script), how],
        capture_output=True,
        text=True,
        timeout=30,
        env=os.environ | environ,
    )
    assert run.returncode == 1
    assert run.stdout == ""
    return run.stderr.splitlines()


@pytest.mark.parametrize(
    "how",
    [
        "result",
        "threads",
        pytest.param("compute", marks=pytest.mark.slow),
        pytest.param("gather", marks=pytest.mark.slow),
        pytest.param("input", marks=pytest.mark.slow),
    ],
)
def test_a_script_that_fails_shows_the_user_s_frames_and_six_lines_more_at_most(
    how: str, tmp_path: Path
) -> None:
    lines = run_script(tmp_path, how)
    kept = list(lines)
    mine = 0
    while kept:
        line = kept.pop(0)
        if line.startswith(f'  File "{tmp_path}'):
            mine += 1
            # Its source, and the marks under that.
            while kept and kept[0].startswith("    "):
                kept.pop(0)
                mine += 1
        elif line.startswith("ZeroDivisionError: "):
            mine += 1
    assert len(lines) - mine <= 6, "\n".join(lines)
    text = "\n".join(lines)
    assert "zcluster/" not in text
    assert text.index("<module>") < text.index("in ratio") < text.index("ZeroDivisionError")
    if how != "threads":
        assert re.search(r"\ntask .*ratio.* on worker local-0 of node local\n", text)
        assert text.endswith("called with (1, 0)") or how == "gather"


@pytest.mark.slow
def test_the_environment_shows_all_frames(tmp_path: Path) -> None:
    text = "\n".join(run_script(tmp_path, "result", ZCLUSTER_FULL_TRACEBACK="1"))
    assert "zcluster/client/future.py" in text
    assert "zcluster/servers/slots.py" in text


def fail_with(kind: Any, *arguments: Any) -> None:
    raise kind(*arguments)


def test_nothing_of_a_failure_is_on_the_worker_s_terminal(
    client: Client, capfd: pytest.CaptureFixture[str]
) -> None:
    future = client.submit(fail_with, ValueError, "told once", pure=False)
    assert isinstance(future.exception(), ValueError)
    assert future.log() == ""
    said = capfd.readouterr()
    assert "told once" not in said.out + said.err


class Locked(LookupError):
    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.lock = threading.Lock()


def test_an_error_that_cannot_travel_is_caught_by_its_nearest_class(client: Client) -> None:
    """Its own class was of the test's module, by value: nobody can import that."""

    class Derived(Locked):
        pass

    with pytest.raises(LookupError, match="no key") as caught:
        client.submit(fail_with, Derived, "no key", pure=False).result(10)
    assert isinstance(caught.value, RemoteError)
    assert caught.value.type_name.endswith("Derived")


def import_it(name: str) -> Any:
    return __import__(name)


def test_a_missing_module_is_told_with_worker_path_and_fix(client: Client) -> None:
    """Row 41 of the faults."""
    before = worker_pids(client)
    began = time.monotonic()
    with pytest.raises(ModuleNotFoundError) as caught:
        client.submit(import_it, "no_such_module_here", pure=False).result(10)
    assert time.monotonic() - began < 10
    note = "\n".join(caught.value.__notes__)
    assert re.search(r"worker local-[01] of node local \(Python 3", note)
    assert os.getcwd() in note
    assert "client.upload_file('no_such_module_here.py')" in note
    assert worker_pids(client) == before


def recurse_in_c() -> Any:
    """Overflow the stack in C: on Python 3.11 this is a RecursionError, later a crash."""
    nested: Any = []
    for _ in range(1_000_000):
        nested = [nested]
    return repr(nested)


def test_recursion_in_c_is_an_error_either_way(client: Client) -> None:
    """Row 38: RecursionError, or the worker dies of SIGSEGV and that is said."""
    error = client.submit(recurse_in_c, pure=False).exception(20)
    if isinstance(error, WorkerKilledError):
        assert "SIGSEGV" in str(error)
    else:
        assert isinstance(error, RecursionError)


# ------------------------------------------------------------- a worker that is killed


def die(number: int) -> None:
    print("last words of", number)
    print("half a line", end="")
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("kills", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_a_killed_worker_is_told_quickly_with_its_cause(
    kills: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """N08: signal, memory, task, last lines and attempts; within 1 s where none is made again."""
    monkeypatch.setenv("ZCLUSTER_CLUSTER__ALLOWED_FAILURES", str(kills))
    with Client(n_workers=1, threads_per_worker=1, memory_limit="1GiB") as client:
        assert client.submit(abs, -1).result() == 1
        future = client.submit(die, 7, pure=False)
        began = time.monotonic()
        with pytest.raises(WorkerKilledError) as caught:
            future.result(20)
        assert time.monotonic() - began < 15  # 1 s at most where nothing else runs
        text = "\n".join([str(caught.value), *caught.value.__notes__])
        for part in (
            "was killed by SIGKILL",
            "MiB of the 1024 MiB it may have",
            "last words of 7\nhalf a line",
            future.key,
            "[Z016]",
        ):
            assert part in text
        assert ("attempt 3" in text) == (kills == 3)
        assert client.submit(abs, -2).result(10) == 2


def crash() -> None:
    print("before it")
    ctypes.string_at(0)


def test_a_fault_is_told_once_in_the_error(capfd: pytest.CaptureFixture[str]) -> None:
    with Client(n_workers=1, threads_per_worker=1, allowed_failures=1) as client:
        future = client.submit(crash)
        error = future.exception(20)
    assert isinstance(error, WorkerKilledError)
    text = str(error)
    assert "Segmentation fault" in text
    assert "in crash [Z016]" in text
    assert "before it\n" in text
    assert "slots.py" not in text
    assert "Segmentation fault" not in capfd.readouterr().err


FAILING_CALLS = """
import sys, threading
from zcluster.distributed import Client

def ratio(a):
    return 1 / a

client = Client(n_workers=1, threads_per_worker=1)
how = sys.argv[1]
if how == "run":
    client.run(ratio, 0)
elif how == "lock":
    client.submit(ratio, threading.Lock())
elif how == "recreate":
    client.recreate(client.submit(ratio, 0))
elif how == "upload":
    client.upload_file(sys.argv[2])
elif how == "client":
    Client(n_workers="two")
"""


@pytest.mark.parametrize(
    "how",
    [
        "run",
        *(
            pytest.param(how, marks=pytest.mark.slow)
            for how in ("client", "lock", "recreate", "upload")
        ),
    ],
)
def test_no_call_of_a_client_shows_frames_of_zcluster(tmp_path: Path, how: str) -> None:
    module = tmp_path / "broken_module.py"
    module.write_text("1 / 0\n")
    run = subprocess.run(
        [sys.executable, "-c", FAILING_CALLS, how, str(module)],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert run.returncode == 1
    assert "Error: " in run.stderr or "InvalidArgument: " in run.stderr
    assert f'File "{Path(zcluster.__file__).parent}' not in run.stderr
    assert "cloudpickle.py" not in run.stderr


# ------------------------------------------------------------------------ a second look


def ratio(a: float, b: float = 1, *, add: float = 0) -> float:
    here = a, b
    return here[0] / here[1] + add


def locals_of(call: Callable[[], Any]) -> dict[str, Any]:
    """Return the variables of the frame that raised."""
    with pytest.raises(ZeroDivisionError) as caught:
        call()
    trace = caught.value.__traceback__
    assert trace is not None
    while trace.tb_next is not None:
        trace = trace.tb_next
    return dict(trace.tb_frame.f_locals)


def test_a_failed_call_is_made_again_here_with_its_variables(client: Client) -> None:
    future = client.submit(ratio, 1, b=0, add=2)
    assert locals_of(lambda: client.recreate(future)) == {"a": 1, "b": 0, "add": 2, "here": (1, 0)}
    assert client.recreate_error_locally.__name__ == client.recreate_task_locally.__name__


def test_the_input_that_failed_is_made_again_not_its_consumer(client: Client) -> None:
    future = client.submit(ratio, client.submit(ratio, 5, 0), 3)
    assert locals_of(lambda: client.recreate(future))["a"] == 5


def test_inputs_are_fetched_or_made_again(client: Client) -> None:
    """Those of a graph were let go of when the graph was done."""
    future = client.compute(delayed(ratio)(delayed(ratio)(6, 2), delayed(ratio)(0)))
    assert isinstance(future.exception(20), ZeroDivisionError)
    assert locals_of(lambda: client.recreate(future))["here"] == (3, 0)


def total(array: np.ndarray, divisor: int) -> float:
    return float(array.sum()) / divisor


def test_large_arguments_of_a_failed_call_are_still_there(client: Client) -> None:
    large = np.ones(100_000)
    bad = client.submit(total, large, 0, pure=False)
    assert isinstance(bad.exception(20), ZeroDivisionError)
    array = locals_of(lambda: client.recreate(bad))["array"]
    assert (array == large).all()
    good = client.submit(total, large, 2, pure=False)
    assert good.result() == 50_000
    with pytest.raises(DataLost, match="large arguments are kept until"):
        client.recreate(good)
    made = client.submit(np.ones, 50_000)
    assert client.recreate(client.submit(total, made, 5)) == 10_000


def test_a_call_without_error_gives_its_result(client: Client) -> None:
    assert client.recreate(client.submit(ratio, 4, 2)) == 2
    assert client.recreate(client.map(abs, [-3])[0]) == 3


def test_a_nanny_that_cannot_do_what_it_is_told_ends_the_cluster(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """It would be started for ever; and whoever waits for workers is told."""
    variable = "ZCLUSTER_WORKER__MEMORY__TARGET"
    with pytest.raises(ClusterError, match=r"ended with exit status 2: .* says on standard error"):
        Client(n_workers=1, threads_per_worker=1, env={variable: "x"})
    assert f"{variable} sets worker.memory.target to 'x', expected" in capfd.readouterr().err


def test_what_cannot_be_meant_is_told_at_the_call(client: Client) -> None:
    with pytest.raises(InvalidArgument, match="name is 5, expected text"):
        Client(name=5)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="n_workers is 'two', expected a whole number"):
        client.wait_for_workers("two")  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="filename is 5, expected the path"):
        client.upload_file(5)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="found 5, expected a future of this client"):
        client.recreate(5)  # type: ignore[arg-type]
