"""Direct calls, uploads and restarts as the client says them, and what it makes of the answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future as Answered
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from zcluster.client import running
from zcluster.client.client import Client
from zcluster.errors import (
    ClientClosed,
    InvalidArgument,
    SchedulerLost,
    UnknownWorker,
    WorkerKilledError,
)
from zcluster.protocol.messages import Call, Called, ErrorInfo, Files, Restart
from zcluster.protocol.objects import plan


@pytest.fixture
def beside() -> Iterator[Callable[..., Answered[Any]]]:
    """Return what makes a call in another thread."""
    with ThreadPoolExecutor(4) as executor:
        yield executor.submit


def heard(cluster: Any, kind: Any, count: int = 1) -> list[Any]:
    cluster.until(lambda: len(cluster.told(kind)) >= count)
    return list(cluster.told(kind))


def blob(value: object) -> bytes:
    return plan(value).tobytes()


def test_each_worker_is_asked_and_answers_for_itself(
    make_cluster: Callable[..., Any], beside: Callable[..., Answered[Any]]
) -> None:
    cluster = make_cluster(nodes=2)
    with Client(cluster.address) as client:
        result = beside(client.run, abs, -1)
        one, two = heard(cluster, Call, 2)
        assert [(call.node, call.worker, call.actor) for call in (one, two)] == [
            (node.info.index, 0, -1) for node in cluster.nodes.values()
        ]
        cluster.say(Called(two.request), blob("second"))
        cluster.say(Called(one.request), blob("first"))
        assert list(result.result(10).values()) == ["first", "second"]


def test_only_those_named_are_asked(client: Client, cluster: Any) -> None:
    (name,) = client.nthreads()
    assert client.run(abs, 1, workers=[name], wait=False) is None
    assert len(heard(cluster, Call)) == 1
    with pytest.raises(UnknownWorker, match="nobody"):
        client.run(abs, 1, workers="nobody")


def test_without_workers_nothing_waits(make_cluster: Callable[..., Any]) -> None:
    cluster = make_cluster(nodes=0)
    with Client(cluster.address) as client:
        assert client.run(abs, 1) == {}


def test_errors_become_exceptions(
    client: Client, cluster: Any, beside: Callable[..., Answered[Any]]
) -> None:
    killed = ErrorInfo("killed", "x", "it died", "", -1, 0, "n", "w")
    raised = ErrorInfo(
        "task", "builtins.KeyError", "'k'", "", -1, 0, "n", "w", (0, 0, len(blob(KeyError("k"))))
    )
    for number, (error, frame, expected) in enumerate(
        [(killed, b"", WorkerKilledError), (raised, blob(KeyError("k")), KeyError)], 1
    ):
        result = beside(client.run, abs, 1)
        cluster.say(Called(heard(cluster, Call, number)[-1].request, error), frame)
        assert isinstance(result.exception(10), expected)


def test_the_end_of_the_client_ends_the_wait(
    cluster: Any, beside: Callable[..., Answered[Any]]
) -> None:
    with Client(cluster.address) as client:
        result = beside(client.run, abs, 1)
        heard(cluster, Call)
    assert isinstance(result.exception(10), ClientClosed)


def test_the_end_of_the_scheduler_ends_the_wait(
    client: Client, cluster: Any, beside: Callable[..., Answered[Any]]
) -> None:
    result = beside(client.run, abs, 1, on_error="return")
    heard(cluster, Call)
    cluster.close()
    assert isinstance(result.exception(10), SchedulerLost)


def test_arguments_that_cannot_be_meant(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidArgument, match="as the function"):
        client.run(3)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="on_error"):
        client.run(abs, 1, on_error="maybe")
    with pytest.raises(InvalidArgument, match="nannies"):
        client.run(abs, 1, nanny=True)
    with pytest.raises(InvalidArgument, match="dask_scheduler"):
        client.run_on_scheduler(lambda dask_scheduler: 0)
    with pytest.raises(InvalidArgument, match="expected names"):
        client.restart_workers(None)
    monkeypatch.setattr(running, "CALL_LIMIT", 100)
    with pytest.raises(InvalidArgument, match="at most 100; have a task take"):
        client.run(len, bytes(200))


def test_a_call_beside_the_scheduler_says_where_it_comes_from(
    client: Client, cluster: Any, beside: Callable[..., Answered[Any]]
) -> None:
    result = beside(client.run_on_scheduler, abs, -1)
    (call,) = heard(cluster, Call)
    assert (call.node, call.worker) == (-1, -1)
    cluster.say(Called(call.request), blob(1))
    assert result.result(10) == 1


def test_an_upload_waits_until_all_have_it(
    client: Client, cluster: Any, beside: Callable[..., Answered[Any]], tmp_path: Path
) -> None:
    path = tmp_path / "zc_mine.py"
    path.write_text("x = 1")
    result = beside(client.upload_file, str(path), load=False)
    (files,) = heard(cluster, Files)
    assert files.files == [("zc_mine.py", (0, 0, 5))]
    assert not result.done()
    cluster.say(Called(files.request))
    assert result.result(10) is None
    assert cluster.told(Call) == []
    result = beside(client.upload_file, path)
    files = heard(cluster, Files, 2)[-1]
    cluster.say(Called(files.request))
    (call,) = heard(cluster, Call)  # it is imported there
    cluster.say(Called(call.request), blob(None))
    assert result.result(10) is None


def test_an_upload_that_fails_says_why(
    client: Client, cluster: Any, beside: Callable[..., Answered[Any]], tmp_path: Path
) -> None:
    path = tmp_path / "zc_mine.py"
    path.touch()
    result = beside(client.upload_file, path)
    (files,) = heard(cluster, Files)
    error = ErrorInfo("store", "zcluster.errors.ClusterError", "no room", "", -1, 0, "", "")
    cluster.say(Called(files.request, error))
    assert "no room" in str(result.exception(10))


def test_restarts(client: Client, cluster: Any, beside: Callable[..., Answered[Any]]) -> None:
    (name,) = client.nthreads()
    result = beside(client.restart)
    (restart,) = heard(cluster, Restart)
    assert restart.workers == []
    cluster.say(Called(restart.request))
    assert result.result(10) is None
    result = beside(client.restart_workers, name)
    restart = heard(cluster, Restart, 2)[-1]
    assert restart.workers == [name]
    cluster.say(Called(restart.request))
    assert result.result(10) == {name: "OK"}
    client.restart(wait_for_workers=False)
    with pytest.raises(TimeoutError):
        client.restart(timeout=0.01)
    assert client.restart_workers(name, 0.01, raise_for_error=False) == {name: "timed out"}
