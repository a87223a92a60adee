"""What ``zcluster status`` makes of the scheduler's answer."""

from __future__ import annotations

from typing import Any

from zcluster.cli.overview import (
    Overview,
    as_text,
    headline,
    node_rows,
    shown_tasks,
    stopped_workers,
    task_rows,
)


def answer(**changes: Any) -> dict[str, Any]:
    worker = {"name": "a-0", "pid": 2, "nthreads": 2, "memory_limit": 2**30}
    worker |= {"status": "running", "reason": ""}
    node = {
        "name": "a",
        "host": "h",
        "away": False,
        "store_used": 2**20,
        "store_limit": 2**30,
        "lag": 0.002,
        "assigned": 3,
        "memory": [2**20],
        "made": [2**20],
        "spilled": 0,
        "workers": [worker],
    }
    made = {
        "address": "ipc:///s",
        "nodes": [node],
        "clients": 1,
        "now": 10.0,
        "finished": 1500,
        "tasks": {
            "old": {"finished": 900, "released": 100},
            "new": {"waiting": 1, "ahead": 2, "ready": 3, "assigned": 4, "failed": 5},
        },
    }
    return made | changes


def test_the_headline_counts_and_says_the_rate_once_there_is_one() -> None:
    first = Overview.after(None, answer())
    assert headline(first) == (
        "ipc:///s, 1 node, 1 worker, 2 threads, 1 client, 1,500 tasks finished"
    )
    second = Overview.after(first, answer(now=12.0, finished=3500))
    assert headline(second).endswith("3,500 tasks finished, 1,000 a second")
    assert Overview.after(second, answer(now=12.0, finished=3500)).rate == 1000.0


def test_a_node_is_a_row() -> None:
    (row,) = node_rows(answer())
    assert row == (
        *("a", "h", "1", "2", "3"),
        *("2.00 MiB / 1.00 GiB", "1.00 MiB / 1.00 GiB", "0 B", "2 ms"),
    )
    nodes = answer()["nodes"]
    nodes[0] |= {"away": True, "workers": [], "store_limit": 0}
    (row,) = node_rows(answer(nodes=nodes))
    assert row[1] == "h (away)"
    assert row[5:7] == ("2.00 MiB", "1.00 MiB")


def test_workers_that_take_no_work_are_counted_and_named_with_the_reason() -> None:
    said = answer()
    worker = said["nodes"][0]["workers"][0]
    reasons = {"status": "paused", "reason": "its memory is full"}
    said["nodes"][0]["workers"] += [worker | reasons | {"name": f"a-{n}"} for n in range(1, 13)]
    assert node_rows(said)[0][2] == "13 (12 paused)"
    lines = stopped_workers(said)
    assert lines[0] == "a-1 is paused: its memory is full"
    assert (len(lines), lines[-1]) == (11, "… 2 more workers take no work")
    text = as_text(Overview(said)).splitlines()
    assert text[4:7] == ["", *lines[:2]]
    assert stopped_workers(answer()) == []


def test_what_is_to_be_done_comes_first() -> None:
    rows = task_rows(answer())
    assert [row.name for row in rows] == ["new", "old"]
    assert rows[0].counts == (3, 3, 4, 0, 5, 0)
    assert rows[1].counts == (0, 0, 0, 1000, 0, 0)


def test_many_names_are_summed_up() -> None:
    tasks = {f"t{number}": {"ready": 1} for number in range(50)}
    shown = shown_tasks(answer(tasks=tasks), 10)
    assert len(shown) == 10
    assert shown[-1] == ("… 41 more names", "0", "41", "0", "0", "0", "0")
    assert len(shown_tasks(answer(tasks=tasks), 50)) == 50


def test_text_has_its_columns_in_line() -> None:
    lines = as_text(Overview(answer())).splitlines()
    assert lines[2].split()[:2] == ["node", "host"]
    assert lines[5:] == [
        "task  waiting  ready  running  done  failed  cancelled",
        "new         3      3        4     0       5          0",
        "old         0      0        0  1000       0          0",
    ]


def test_an_empty_cluster_says_what_to_do() -> None:
    text = as_text(Overview(answer(nodes=[], tasks={})))
    assert "no nodes: start some with 'zcluster worker'" in text
    assert text.endswith("no tasks")
