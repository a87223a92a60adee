"""Direct calls into real workers and beside the scheduler; uploaded files; restarts."""

from __future__ import annotations

import asyncio
import ctypes
import importlib
import os
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from zcluster.distributed import CancelledError, Client, WorkerPlugin, get_client, get_worker
from zcluster.errors import (
    InvalidArgument,
    NotSerializable,
    ResultNotSerializable,
    UnknownWorker,
    WorkerKilledError,
)

if TYPE_CHECKING:
    from tests.processes.conftest import Commands, Log

pytestmark = pytest.mark.processes

Until = Callable[..., None]


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with Client(n_workers=2, threads_per_worker=1) as made:
        yield made


@pytest.fixture
def fresh() -> Iterator[Client]:
    """Return a client of a cluster for one test, which may end workers."""
    with Client(n_workers=2, threads_per_worker=1) as made:
        yield made


def wait_for_file(path: str) -> str:
    while not os.path.exists(path):
        time.sleep(0.005)
    return path


def names(client: Client) -> list[str]:
    return sorted(client.nthreads())


def append(path: str) -> str:
    with open(path, "a") as file:
        file.write("ran\n")
    return path


# ------------------------------------------------------------------------------------ run


def test_a_function_runs_in_each_worker(client: Client) -> None:
    pids = client.run(os.getpid)
    assert pids == {n: w["pid"] for n, w in client.scheduler_info()["workers"].items()}


def test_only_named_workers_are_asked(client: Client) -> None:
    first = names(client)[0]
    assert client.run(lambda x, y=0: x + y, 1, y=2, workers=[first]) == {first: 3}
    assert client.run(abs, -1, workers="local") == dict.fromkeys(names(client), 1)
    with pytest.raises(UnknownWorker, match="nobody"):
        client.run(abs, -1, workers="nobody")


def test_a_worker_whose_slots_are_busy_answers_all_the_same(client: Client, tmp_path: Path) -> None:
    path = str(tmp_path / "go")
    tasks = [client.submit(wait_for_file, path, pure=False) for _ in range(8)]
    began = time.monotonic()
    assert len(client.run(os.getpid) or {}) == 2
    assert time.monotonic() - began < 10
    assert not any(task.done() for task in tasks)
    Path(path).touch()
    assert client.gather(tasks) == [path] * 8


def test_a_worker_is_given_and_found(client: Client) -> None:
    def given(dask_worker: Any) -> tuple[str, int]:
        return dask_worker.name, dask_worker.nthreads

    def found() -> tuple[str, str]:
        return get_worker().name, get_worker().address

    def from_client() -> int:
        result: int = get_worker().client.submit(abs, -5).result(10)
        return result

    first, second = names(client)
    assert client.run(given) == {first: (first, 1), second: (second, 1)}
    assert client.run(found)[first] == (first, first)  # type: ignore[index]
    assert client.submit(found, workers=second).result(10) == (second, second)
    assert client.submit(from_client, pure=False).result(20) == 5


def test_what_is_set_on_a_worker_stays(client: Client) -> None:
    def put(value: int) -> None:
        get_worker().value = value

    def get() -> Any:
        return get_worker().value

    first = names(client)[0]
    client.run(put, 7, workers=first)
    assert client.submit(get, workers=first, pure=False).result(10) == 7


def test_get_worker_is_for_workers() -> None:
    with pytest.raises(ValueError, match="no worker here"):
        get_worker()


def test_asynchronous_functions_are_run(client: Client) -> None:
    async def later(x: int) -> int:
        await asyncio.sleep(0)
        return x

    assert set((client.run(later, 3) or {}).values()) == {3}


def test_errors_are_raised_returned_or_left_out(client: Client) -> None:
    first, second = names(client)

    def fail_on(name: str) -> str:
        if get_worker().name == name:
            raise KeyError("as told")
        return "fine"

    with pytest.raises(KeyError, match="as told") as caught:
        client.run(fail_on, first)
    assert any("fail_on" in note for note in caught.value.__notes__)
    returned = client.run(fail_on, first, on_error="return")
    assert returned is not None
    assert isinstance(returned[first], KeyError)
    assert returned[second] == "fine"
    assert client.run(fail_on, first, on_error="ignore") == {second: "fine"}
    with pytest.raises(InvalidArgument, match="on_error is 'so'"):
        client.run(fail_on, first, on_error="so")


def test_exits_and_interrupts_fail_the_call_alone(client: Client) -> None:
    pids = client.run(os.getpid)
    for error in (SystemExit, KeyboardInterrupt):

        def leave(kind: type[BaseException] = error) -> None:
            raise kind("told to")

        with pytest.raises(error, match="told to"):
            client.run(leave)
    assert client.run(os.getpid) == pids


def test_large_values_travel_and_too_large_ones_are_refused(client: Client) -> None:
    first = names(client)[0]
    array = np.arange(2_000_000)
    back = client.run(lambda x: x + 1, array, workers=first)
    assert back is not None
    assert np.array_equal(back[first], array + 1)
    with pytest.raises(InvalidArgument, match="at most 33554432"):
        client.run(len, bytes(40 << 20))
    with pytest.raises(ResultNotSerializable, match="at most 33554432"):
        client.run(bytes, 40 << 20, workers=first)
    with pytest.raises(ResultNotSerializable, match="cannot leave its worker"):
        client.run(lambda: (x for x in "ab"), workers=first)
    with pytest.raises(NotSerializable):
        client.run(len, (x for x in "ab"))


def test_nannies_run_nothing(client: Client) -> None:
    with pytest.raises(InvalidArgument, match="never runs code of users"):
        client.run(os.getpid, nanny=True)


def test_one_need_not_wait(client: Client, log: Log) -> None:
    assert client.run(append, log.path, wait=False) is None
    log.wait_lines(2)


def test_a_worker_that_dies_meanwhile_is_an_error_at_once(fresh: Client) -> None:
    client = fresh
    first, second = names(client)

    def die(name: str) -> int:
        if get_worker().name == name:
            os._exit(7)
        return 1

    began = time.monotonic()
    returned = client.run(die, first, on_error="return")
    assert time.monotonic() - began < 15
    assert returned is not None
    assert isinstance(returned[first], WorkerKilledError)
    assert "exited with status 7" in str(returned[first])
    assert returned[second] == 1
    client.wait_for_workers(2, 20)


# ----------------------------------------------------------------------- beside the scheduler


def test_a_call_beside_the_scheduler(client: Client) -> None:
    pids = {client.run_on_scheduler(os.getpid), client.run_on_scheduler(os.getpid)}
    assert len(pids) == 2
    assert os.getpid() not in pids
    assert client.run_on_scheduler(lambda x, y: [x, y], 1, y=np.arange(3))[1].sum() == 3
    assert client.run_on_scheduler(os.getcwd) == os.getcwd()


def test_errors_beside_the_scheduler(client: Client) -> None:
    def out_of_the_way() -> None:
        os._exit(3)

    with pytest.raises(ValueError, match="invalid literal"):
        client.run_on_scheduler(int, "x")
    with pytest.raises(WorkerKilledError, match="ended during the call"):
        client.run_on_scheduler(out_of_the_way)
    with pytest.raises(ResultNotSerializable, match="cannot travel"):
        client.run_on_scheduler(lambda: (x for x in "ab"))
    with pytest.raises(InvalidArgument, match="scheduler_info"):
        client.run_on_scheduler(lambda dask_scheduler: 1)
    assert client.run_on_scheduler(abs, -1) == 1


def test_printing_beside_the_scheduler_does_not_spoil_the_answer(client: Client) -> None:
    assert client.run_on_scheduler(lambda: sys.stdout.write("x" * 10_000)) == 10_000


# ------------------------------------------------------------------------------------ files


def test_a_changed_module_takes_effect(client: Client, tmp_path: Path) -> None:
    def value() -> Any:
        return importlib.import_module("uploaded_one").VALUE

    path = tmp_path / "uploaded_one.py"
    for number in (1, 2, 3):  # within a second, and of one length
        path.write_text(f"VALUE = {number}\n")
        client.upload_file(path)
        assert client.run(value) == dict.fromkeys(names(client), number)
        assert client.submit(value, pure=False).result(10) == number


def test_packages_archives_and_folders(client: Client, tmp_path: Path) -> None:
    def values() -> tuple[Any, ...]:
        names = ("packed", "zipped.inner", "in_folder")
        modules = [importlib.import_module(name) for name in names]
        data = os.path.join(os.path.dirname(modules[0].__file__ or ""), "data", "some.txt")
        with open(data) as file:
            return (*(module.VALUE for module in modules), file.read())

    package = tmp_path / "packed"
    (package / "data").mkdir(parents=True)
    (package / "__init__.py").write_text("VALUE = 1\n")
    (package / "data" / "some.txt").write_text("data")
    client.upload_file(package)
    archive = tmp_path / "zipped-1.0.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("zipped/__init__.py", "")
        file.writestr("zipped/inner.py", "VALUE = 2\n")
    client.upload_file(archive)
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "in_folder.py").write_text("VALUE = 3\n")
    client.upload_file(folder)
    assert client.run(values) == dict.fromkeys(names(client), (1, 2, 3, "data"))


def test_an_upload_that_cannot_be_imported_says_so(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "broken_one.py"
    path.write_text("raise RuntimeError('broken')\n")
    with pytest.raises(RuntimeError, match="broken"):
        client.upload_file(path)
    client.upload_file(path, load=False)
    with pytest.raises(InvalidArgument, match="there is no file"):
        client.upload_file(tmp_path / "not_there.py")


def test_workers_and_nodes_that_come_later_have_the_files(
    commands: Commands, tmp_path: Path, until: Until
) -> None:
    def value() -> Any:
        return importlib.import_module("for_later").VALUE

    path = tmp_path / "for_later.py"
    path.write_text("VALUE = 5\n")
    commands.start_scheduler()
    commands.start_node("a")
    with Client(scheduler_file=commands.file) as client:
        client.wait_for_workers(1, 20)
        client.upload_file(path)
        commands.start_node("b")
        client.wait_for_workers(2, 20)
        assert client.run(value) == {"a-0": 5, "b-0": 5}
        client.restart_workers(["a-0"])
        assert client.run(value) == {"a-0": 5, "b-0": 5}


# ---------------------------------------------------------------------------------- restart


def test_a_restart_cancels_and_starts_anew(fresh: Client, tmp_path: Path) -> None:
    client = fresh

    def hang(path: str) -> None:
        Path(path).touch()
        time.sleep(1000)

    def hang_in_c(path: str) -> None:
        Path(path).touch()
        ctypes.PyDLL(None).sleep(1000)  # and keeps the interpreter's lock

    pids = set((client.run(os.getpid) or {}).values())
    large = client.submit(np.ones, 100_000, pure=False)
    large.result(10)
    paths = [str(tmp_path / "hangs"), str(tmp_path / "hangs-in-c")]
    hanging, in_c = (
        client.submit(function, path, pure=False)
        for function, path in zip((hang, hang_in_c), paths, strict=True)
    )
    for path in paths:
        wait_for_file(path)
    with Client(client.cluster, set_as_default=False) as other:
        others = other.submit(time.sleep, 1000, pure=False)
        assert "sleep" in other.explain(others)  # it is there
        began = time.monotonic()
        client.restart()
        assert time.monotonic() - began < 15
        with pytest.raises(CancelledError, match="the cluster was restarted"):
            others.result(20)
    for future in (hanging, in_c):
        with pytest.raises(CancelledError, match="the cluster was restarted"):
            future.result(20)
    with pytest.raises(CancelledError, match="the cluster was restarted"):
        large.result(20)
    assert pids.isdisjoint((client.run(os.getpid) or {}).values())
    assert client.submit(abs, -3).result(10) == 3


def test_a_worker_started_anew_costs_its_tasks_nothing(fresh: Client, log: Log) -> None:
    """They run again, and the third time too, which would be one too many for a crash."""
    client = fresh
    first, second = names(client)
    go = log.path + ".go"

    def run_on(path: str, go: str) -> str:
        with open(path, "a") as file:
            file.write("began\n")
        return wait_for_file(go)

    task = client.submit(run_on, log.path, go, workers=first, pure=False)
    for times in range(1, 5):
        log.wait_lines(times)
        kept = client.run(os.getpid, workers=second)
        assert client.restart_workers(first) == {first: "OK"}
        assert client.run(os.getpid, workers=second) == kept
    Path(go).touch()
    assert task.result(10) == go
    with pytest.raises(InvalidArgument, match="expected names"):
        client.restart_workers([])


def test_the_client_in_a_call_is_the_workers_own(client: Client) -> None:
    def ask() -> int:
        result: int = get_client().submit(abs, -9).result(10)
        return result

    assert set((client.run(ask) or {}).values()) == {9}


# ---------------------------------------------------------------------------------- plugins


class Tagging(WorkerPlugin):
    """Sets a tag on workers, and says in a file that it came and went."""

    name = "tagging"

    def __init__(self, path: str, tag: str) -> None:
        self.path, self.tag = path, tag

    def setup(self, worker: Any) -> None:
        if self.tag == "broken":
            raise RuntimeError("cannot be set up")
        worker.tag = self.tag
        append(self.path)

    def teardown(self, worker: Any) -> None:
        del worker.tag
        append(self.path)


def tag() -> str:
    return str(get_worker().tag)


def test_plugins_set_up_workers_before_they_run_anything(fresh: Client, log: Log) -> None:
    """Also those that start later, and a task that is sent there at once finds it done."""
    first, second = names(fresh)
    assert fresh.register_plugin(Tagging(log.path, "one")) == {first: "OK", second: "OK"}
    assert fresh.run(tag) == {first: "one", second: "one"}
    assert len(log.lines()) == 2
    fresh.register_plugin(Tagging(log.path, "two"))  # takes the place of the first
    assert fresh.run(tag) == {first: "two", second: "two"}
    fresh.restart()
    assert fresh.gather([fresh.submit(tag, workers=name, pure=False) for name in (first, second)])
    assert fresh.run(tag) == {first: "two", second: "two"}
    count = len(log.lines())
    fresh.unregister_worker_plugin("tagging")
    assert len(log.lines()) == count + 2
    with pytest.raises(AttributeError):
        fresh.run(tag)


def test_a_plugin_that_fails_says_so_and_keeps_nobody_from_work(fresh: Client, log: Log) -> None:
    with pytest.raises(RuntimeError, match="cannot be set up"):
        fresh.register_plugin(Tagging(log.path, "broken"))
    assert fresh.submit(abs, -1).result(10) == 1
    with pytest.raises(InvalidArgument, match=r"method setup\(worker\)"):
        fresh.register_plugin(object())
    with pytest.raises(InvalidArgument, match="name of a plugin"):
        fresh.register_plugin(Tagging(log.path, "x"), name="x" * 100)
