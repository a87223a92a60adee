"""What notebooks show: valid, escaped, with the fields people look for."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

import pytest

from zcluster.client.describing import known_info
from zcluster.client.html import client_html, cluster_html, future_html, time_ago
from zcluster.protocol.messages import NodeInfo, WorkerInfo

VOID = {"br", "hr", "img", "input", "meta", "link"}
#: What may stand directly in what.
INSIDE = {"tr": {"table"}, "th": {"tr"}, "td": {"tr"}, "summary": {"details"}}


class Checker(HTMLParser):
    """Checks that elements are closed in order, and gathers the tables by their fold."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.folds: list[str] = [""]
        self.rows: dict[str, dict[str, str]] = {}
        self._cells: list[str] = []
        self._text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert self.open or tag in ("div", "b", "span"), f"{tag} stands alone"
        assert tag not in INSIDE or self.open[-1] in INSIDE[tag], f"{tag} in {self.open[-1]}"
        if tag == "details":
            self.folds.append("")
        if tag == "a":
            self.links += [value or "" for name, value in attrs if name == "href"]
        if tag not in VOID:
            self.open.append(tag)
        self._text = ""

    def handle_data(self, data: str) -> None:
        self._text += data

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        if tag == "summary":
            self.folds[-1] = self._text
        elif tag in ("th", "td"):
            self._cells.append(self._text)
        elif tag == "tr":
            name, value = self._cells
            self.rows.setdefault(self.folds[-1], {})[name] = value
            self._cells = []
        elif tag == "details":
            self.folds.pop()


def parsed(html: str) -> Checker:
    checker = Checker()
    checker.feed(html)
    checker.close()
    assert checker.open == []
    return checker


def make_info(host: str = "host", **more: Any) -> dict[str, Any]:
    workers = [WorkerInfo(n, f"w{n}", 2, 10**9, 50 + n, {"GPU": 1.0}) for n in range(2)]
    node = NodeInfo(0, "n0", host, 40, "ipc:///d", "/scratch/n0/door", 0, workers)
    return known_info("ipc:///s", [node]) | more


def shown(info: dict[str, Any], **more: Any) -> str:
    given: dict[str, Any] = {
        "name": "client-1",
        "method": "Cluster object",
        "status": "running",
        "cluster_type": "zcluster.LocalCluster",
        "now": 1000.0,
    }
    return client_html(info, **(given | more))


def test_a_client_with_a_cluster_has_the_fields_people_know() -> None:
    rows = parsed(shown(make_info(started=990.0))).rows
    assert rows[""] == {
        "Connection method": "Cluster object",
        "Cluster type": "zcluster.LocalCluster",
        "Dashboard": "not started",
    }
    assert rows["Cluster Info"] == {
        "Dashboard": "not started",
        "Workers": "2",
        "Total threads": "4",
        "Total memory": "1.86 GiB",
        "Status": "running",
        "Using processes": "True",
    }
    assert rows["Scheduler Info"] == {
        "Comm": "ipc:///s",
        "Dashboard": "not started",
        "Workers": "2",
        "Total threads": "4",
        "Total memory": "1.86 GiB",
        "Started": "Just now",
    }
    assert rows["Worker: w1"] == {
        "Comm": "ipc:///d",
        "Total threads": "2",
        "Dashboard": "not started",
        "Memory": "0.93 GiB",
        "Nanny": "n0 (pid 40)",
        "Local directory": "/scratch/n0",
        "Resources": "GPU: 1",
    }


def test_a_client_that_was_told_an_address_has_no_cluster() -> None:
    rows = parsed(shown(make_info(), cluster_type="", method="Direct")).rows
    assert rows[""]["Connection method"] == "Direct"
    assert rows[""]["Status"] == "running"
    assert "Cluster Info" not in rows
    assert rows["Scheduler Info"]["Started"] == "unknown"
    assert parsed(shown(known_info("ipc:///s", []))).rows["Scheduler Info"]["Workers"] == "0"


def test_a_dashboard_is_a_link_when_there_is_one() -> None:
    link = "http://127.0.0.1:8787/?a=1&b=2"
    checker = parsed(shown(make_info(services={"dashboard": link})))
    assert set(checker.links) == {link}
    assert checker.rows[""]["Dashboard"] == link
    assert parsed(shown(make_info())).links == []


def test_nothing_gets_out_of_its_cell() -> None:
    evil = '<script>alert("1")</script>&amp;'
    info = make_info(address=evil, services={"dashboard": f"http://x/{evil}"})
    info["workers"] = {evil: info["workers"]["w0"] | {"address": evil, "nanny": evil}}
    html = shown(info, name=evil, method=evil, status=evil, cluster_type=evil)
    html += future_html(evil, evil, evil)
    html += cluster_html(
        evil, [], kind=evil, name=evil, status=evil, processes=True, started=0.0, now=1.0
    )
    assert "<script" not in html
    rows = parsed(html).rows
    assert rows["Scheduler Info"]["Comm"] == evil
    assert rows[f"Worker: {evil}"]["Nanny"] == f"{evil} (pid 40)"


def test_a_cluster_and_a_future_by_themselves() -> None:
    worker = {"nthreads": 2, "memory_limit": 10**9}
    html = cluster_html(
        "ipc:///s",
        [worker, worker],
        kind="LocalCluster",
        name="local",
        status="running",
        processes=False,
        started=1.0,
        now=7300.0,
    )
    rows = parsed(html).rows
    assert rows[""]["Total memory"] == "1.86 GiB"
    assert rows[""]["Using processes"] == "False"
    assert rows["Scheduler Info"]["Started"] == "2 hours ago"
    parsed(future_html("k", "pending", ""))
    assert "type" not in future_html("k", "pending", "")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "Just now"), (59, "Just now"), (60, "1 minute ago"), (86399, "23 hours ago")],
)
def test_times_are_said_as_people_do(seconds: float, text: str) -> None:
    assert time_ago(seconds) == text
