"""Dask's names of what happens in workers: direct calls, actors, tasks that use the client."""

from __future__ import annotations

import os
import zipfile
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import pytest

import zcluster
from zcluster.distributed import (
    Actor,
    BaseActorFuture,
    Client,
    Event,
    as_completed,
    get_client,
    get_worker,
    rejoin,
    secede,
    worker_client,
)

pytestmark = pytest.mark.processes


def inc(x: int) -> int:
    return x + 1


class Counter:
    n = 0  # Dask looks for names of attributes in the class

    def __init__(self, n: int = 0) -> None:
        self.n = n

    def increment(self, by: int = 1) -> int:
        self.n += by
        return self.n


# --------------------------------------------------------------------------- direct calls


@pytest.mark.dask("Client.run", "run(workers=)", "run(on_error=)")
def test_run(client: Any) -> None:
    workers = sorted(client.scheduler_info()["workers"])
    pids = client.run(os.getpid)
    assert sorted(pids) == workers
    assert len(set(pids.values())) == 2
    assert client.run(inc, 1, workers=workers[:1]) == {workers[0]: 2}

    def name(dask_worker: Any) -> Any:
        return dask_worker.name

    names = {worker["name"] for worker in client.scheduler_info()["workers"].values()}
    assert set(client.run(name).values()) == names

    async def later(x: int) -> int:
        return x + 1

    assert set(client.run(later, 2).values()) == {3}
    with pytest.raises(ZeroDivisionError):
        client.run(divmod, 1, 0)
    kinds = {type(error) for error in client.run(divmod, 1, 0, on_error="return").values()}
    assert kinds == {ZeroDivisionError}
    assert client.run(divmod, 1, 0, on_error="ignore") == {}


@pytest.mark.dask("Client.run_on_scheduler")
def test_run_on_scheduler(client: Client) -> None:
    assert client.run_on_scheduler(inc, 1) == 2


# --------------------------------------------------------------------------------- actors


@pytest.mark.dask(
    "Actor",
    "Actor.method",
    "Actor.attribute",
    "ActorFuture.result",
    "ActorFuture.done",
    "BaseActorFuture",
    "submit(actor=)",
)
def test_actors(client: Client) -> None:
    counter = client.submit(Counter, 10, actor=True).result()
    assert isinstance(counter, Actor)
    assert counter.increment().result() == 11
    assert counter.increment(by=5).result(timeout=5) == 16
    assert counter.n == 16
    futures = [counter.increment() for _ in range(10)]
    assert [future.result() for future in futures] == list(range(17, 27))
    assert all(future.done() for future in futures)
    assert isinstance(futures[0], BaseActorFuture)

    def use(there: Counter) -> Any:
        return there.increment().result()  # type: ignore[attr-defined]

    assert client.submit(use, counter).result() == 27


# ------------------------------------------------------------------- tasks that make tasks


def fib(n: int) -> Any:
    if n < 2:
        return n
    client = get_client()
    a, b = client.submit(fib, n - 1), client.submit(fib, n - 2)
    a, b = client.gather([a, b])
    return a + b


def fib_seceding(n: int) -> Any:
    if n < 2:
        return n
    client = get_client()
    futures = client.map(fib_seceding, [n - 1, n - 2])
    secede()
    a, b = client.gather(futures)
    rejoin()
    return a + b


def total(n: int) -> Any:
    with worker_client() as client:
        return sum(client.gather(client.map(inc, range(n))))


@pytest.mark.dask("distributed.get_client", "distributed.secede", "distributed.rejoin")
def test_tasks_that_make_tasks(client: Client) -> None:
    # More levels than there are threads.
    assert client.submit(fib_seceding, 7).result(timeout=20) == 13
    assert get_client() is client


@pytest.mark.dask("distributed.worker_client")
def test_worker_client(client: Client) -> None:
    assert client.gather(client.map(total, range(5, 11))) == [15, 21, 28, 36, 45, 55]


@pytest.mark.dask("distributed.get_worker")
def test_get_worker(client: Client) -> None:
    def who() -> tuple[Any, Any]:
        worker = get_worker()
        return worker.name, worker.address

    name, address = client.submit(who).result()
    assert client.scheduler_info()["workers"][address]["name"] == name
    with pytest.raises(ValueError, match=r"[Ww]orker"):
        get_worker()


# -------------------------------------------------------------------------------- plugins


@pytest.mark.dask(
    "distributed.WorkerPlugin", "Client.register_plugin", "Client.unregister_worker_plugin"
)
def test_worker_plugins(client: Client) -> None:
    from zcluster.distributed import WorkerPlugin

    class Mark(WorkerPlugin):
        name = "mark"

        def setup(self, worker: Any) -> None:
            worker.marked = 7

        def teardown(self, worker: Any) -> None:
            worker.marked = 8

    client.register_plugin(Mark())
    assert client.submit(lambda: get_worker().marked, pure=False).result() == 7
    client.unregister_worker_plugin("mark")
    assert client.submit(lambda: get_worker().marked, pure=False).result() == 8


# ---------------------------------------------------------------------------------- files


@pytest.mark.dask("Client.upload_file")
def test_upload_file(client: Client, tmp_path: Path) -> None:
    module = tmp_path / "uploaded_here.py"
    module.write_text("def answer():\n    return 41\n")
    client.upload_file(str(module))

    def ask() -> Any:
        import uploaded_here  # type: ignore[import-not-found]

        return uploaded_here.answer()

    assert client.submit(ask, pure=False).result() == 41
    module.write_text("def answer():\n    return 42\n")
    client.upload_file(str(module))
    assert client.submit(ask, pure=False).result() == 42
    archive = tmp_path / "zipped.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("zipped_here.py", "value = 43\n")
    client.upload_file(str(archive))

    def ask_zipped() -> Any:
        import zipped_here  # type: ignore[import-not-found]

        return zipped_here.value

    assert client.submit(ask_zipped).result() == 43


# -------------------------------------------------------------------------------- restart


@pytest.mark.dask("Client.restart_workers", "Client.restart", "Client.wait_for_workers")
def test_restart() -> None:
    own: Any
    with Client(n_workers=2, threads_per_worker=1, set_as_default=False) as own:
        before = own.run(os.getpid)
        first, second = sorted(before)
        own.restart_workers(workers=[first])
        own.wait_for_workers(2, timeout=20)
        after = set(own.run(os.getpid).values())
        assert before[second] in after
        assert before[first] not in after
        future = own.submit(Event("never").wait, pure=False)
        own.restart()
        own.wait_for_workers(2, timeout=20)
        assert not after & set(own.run(os.getpid).values())
        assert future.status == "cancelled"
        with pytest.raises(CancelledError):
            future.result(timeout=10)
        assert own.submit(inc, 2000).result() == 2001


# ------------------------------------------------------------------------------ old names


@pytest.mark.dask("distributed.Executor")
def test_executor_is_the_old_client() -> None:
    from zcluster.distributed import Executor

    assert Executor is Client


@pytest.mark.dask("distributed.local_client")
def test_local_client(client: Client) -> None:
    from zcluster.distributed import local_client

    def task() -> Any:
        with local_client() as here:
            return here.submit(inc, 1).result()

    assert client.submit(task).result(timeout=10) == 2


@pytest.mark.dask("get_worker().get_current_task")
def test_the_current_task(client: Client) -> None:
    future = client.submit(lambda: get_worker().get_current_task(), key="who-am-i")
    assert future.result() == "who-am-i"


@pytest.mark.dask("distributed.print", "distributed.warn")
def test_print(client: Client, capfd: pytest.CaptureFixture[str]) -> None:
    from zcluster.distributed import print as print_there

    client.submit(print_there, "from a task", pure=False).result()
    seen = ""
    for _ in as_completed([client.submit(inc, 3000 + i) for i in range(200)]):
        seen += "".join(capfd.readouterr())
    assert "from a task" in seen


def test_lazy_calls_within_tasks(client: Client) -> None:
    """Not a name of Dask's: a task that computes a collection waits for itself without harm."""

    def outer(n: int) -> Any:
        lazy = zcluster.delayed(sum)([zcluster.delayed(inc)(i) for i in range(n)])
        with worker_client():
            return lazy.compute()

    assert client.gather(client.map(outer, range(1, 7))) == [1, 3, 6, 10, 15, 21]


@pytest.mark.dask("distributed.Reschedule")
def test_reschedule(client: Client) -> None:
    from zcluster.distributed import Reschedule, Variable

    def elsewhere() -> str:
        seen = Variable("seen")
        if not seen.get():
            seen.set(True)
            raise Reschedule
        return "done"

    Variable("seen").set(False)
    assert client.submit(elsewhere).result(timeout=10) == "done"
