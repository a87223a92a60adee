"""The cluster as dictionaries and one line."""

from __future__ import annotations

from typing import Any

from zcluster.client.describing import cluster_info, known_info, one_line, totals
from zcluster.protocol.messages import NodeInfo, WorkerInfo

NOTHING_KNOWN = {
    **dict.fromkeys(("memory", "managed", "unmanaged", "spilled", "limit"), 0),
    "status": "running",
    "reason": "",
}


def make_node(index: int, workers: int = 2, memory: int = 10**9) -> NodeInfo:
    made = [WorkerInfo(n, f"w{index}.{n}", 2, memory, 50 + n, {"GPU": 1.0}) for n in range(workers)]
    return NodeInfo(index, f"n{index}", "host", 40, "ipc:///d", "/scratch/door", 0, made)


def test_totals_add_up_over_nodes() -> None:
    assert totals([make_node(0), make_node(1, 1)]) == (3, 6, 3 * 10**9)
    assert totals([]) == (0, 0, 0)


def test_info_is_by_worker_with_the_names_dask_has() -> None:
    info = known_info("ipc:///s", [make_node(0)])
    assert (info["type"], info["address"], info["services"]) == ("Scheduler", "ipc:///s", {})
    assert list(info["workers"]) == ["w0.0", "w0.1"]
    assert info["workers"]["w0.1"] == {
        "type": "Worker",
        "id": "w0.1",
        "name": "w0.1",
        "host": "host",
        "address": "ipc:///d",
        "nanny": "n0",
        "node": "n0",
        "nthreads": 2,
        "memory_limit": 10**9,
        "resources": {"GPU": 1.0},
        "local_directory": "/scratch",
        "services": {},
        "status": "running",
        "metrics": NOTHING_KNOWN | {"limit": 10**9},
        "pid": 51,
        "nanny_pid": 40,
        "data": "ipc:///d",
    }


def answer(**more: Any) -> dict[str, Any]:
    worker: dict[str, Any] = {"number": 0, "name": "w", "pid": 1, "nthreads": 1, "memory_limit": 0}
    worker |= {"resources": {}, "status": "running", "reason": ""}
    workers = [worker, worker | {"name": "v", "number": 1}]
    node = {"name": "n", "host": "h", "pid": 2, "data": "ipc:///d", "door": "/x/door"}
    node |= {"away": False, "memory": [], "made": [], "spilled": 0, "workers": workers}
    return {"address": "ipc:///s", "id": "7", "started": 5.0, "nodes": [node | more]}


def test_memory_is_told_as_soon_as_it_is_known() -> None:
    assert cluster_info(answer())["workers"]["v"]["metrics"] == NOTHING_KNOWN
    info = cluster_info(answer(memory=[10, 20, 30], made=[5, 0, 0], spilled=7))
    metrics = [worker["metrics"] for worker in info["workers"].values()]
    assert [(m["memory"], m["managed"], m["unmanaged"]) for m in metrics] == [
        (15, 5, 10),
        (20, 0, 20),
    ]
    assert metrics[0]["spilled"] == 7


def test_a_worker_that_could_not_be_started_yet_is_left_out_and_keeps_its_number() -> None:
    said = answer(memory=[10, 20])
    said["nodes"][0]["workers"][0] |= {"pid": 0, "status": "paused", "reason": "no processes"}
    workers = cluster_info(said)["workers"]
    assert list(workers) == ["v"]
    assert workers["v"]["metrics"]["memory"] == 20


def test_workers_that_cannot_be_reached_are_left_out() -> None:
    info = cluster_info(answer(away=True))
    assert (info["workers"], info["id"], info["started"]) == ({}, "7", 5.0)


def test_one_line_reads_as_dask_users_know_it() -> None:
    line = one_line("Client", "ipc:///s", [make_node(0)], None)
    assert line == "<Client: 'ipc:///s' processes=2 threads=4, memory=1.86 GiB>"
    assert "no limit" in one_line("Client", "ipc:///s", [make_node(0, memory=0)], None)
    assert one_line("Client", "ipc:///s", [], "gone") == "<Client: 'ipc:///s' closed (gone)>"
