"""The cluster as dictionaries, one line, and a table."""

from __future__ import annotations

from zcluster.client.describing import cluster_info, one_line, table, totals
from zcluster.protocol.messages import NodeInfo, WorkerInfo


def make_node(index: int, workers: int = 2, memory: int = 10**9) -> NodeInfo:
    made = [WorkerInfo(n, f"w{index}.{n}", 2, memory, 50 + n) for n in range(workers)]
    return NodeInfo(index, f"n{index}", "host", 40, "ipc:///d", "/door", 0, made)


def test_totals_add_up_over_nodes() -> None:
    assert totals([make_node(0), make_node(1, 1)]) == (3, 6, 3 * 10**9)
    assert totals([]) == (0, 0, 0)


def test_info_is_by_worker() -> None:
    info = cluster_info("ipc:///s", [make_node(0)])
    assert info["address"] == "ipc:///s"
    assert list(info["workers"]) == ["w0.0", "w0.1"]
    worker = info["workers"]["w0.1"]
    assert worker["nthreads"] == 2
    assert worker["memory_limit"] == 10**9
    assert (worker["pid"], worker["nanny_pid"], worker["node"]) == (51, 40, "n0")


def test_one_line_reads_as_dask_users_know_it() -> None:
    line = one_line("Client", "ipc:///s", [make_node(0)], None)
    assert line == "<Client: 'ipc:///s' processes=2 threads=4, memory=1.86 GiB>"
    assert "no limit" in one_line("Client", "ipc:///s", [make_node(0, memory=0)], None)
    assert one_line("Client", "ipc:///s", [], "gone") == "<Client: 'ipc:///s' closed (gone)>"


def test_the_table_escapes_what_it_shows() -> None:
    html = table("Client", "ipc:///<s>", [make_node(0)], "Direct", "running")
    assert "ipc:///&lt;s&gt;" in html
    assert "<s>" not in html
    for text in ("Total threads", "1.86 GiB", "w0.1", "Direct", "running"):
        assert text in html
