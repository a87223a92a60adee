"""The forms in which users say what to connect to."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from zcluster.client.addresses import SCHEDULER_FILE_VARIABLE, Target, find_target
from zcluster.errors import InvalidAddress, InvalidArgument, StartError
from zcluster.transport.scheduler_file import SchedulerFile, write_scheduler_file

TCP = "tcp://127.0.0.1:8786"


def find(
    address: Any = None,
    scheduler_file: Path | None = None,
    insecure: bool = False,
    **options: Any,
) -> Target:
    return find_target(address, scheduler_file, insecure, 0.05, options)


def test_text_is_an_address() -> None:
    assert find("ipc:///tmp/x") == Target("ipc:///tmp/x")
    assert find(TCP, insecure=True) == Target(TCP)


@pytest.mark.parametrize("address", ["nonsense", "tcp://nowhere", "ipc://" + "x" * 200])
def test_an_address_has_to_parse(address: str) -> None:
    with pytest.raises(InvalidAddress):
        find(address, insecure=True)


def test_plain_tcp_has_to_be_asked_for() -> None:
    with pytest.raises(InvalidAddress, match="insecure=True"):
        find(TCP)


def test_a_cluster_says_its_own_address() -> None:
    cluster = SimpleNamespace(scheduler_address=TCP)
    assert find(cluster) == Target(TCP, cluster, method="Cluster object")
    with pytest.raises(InvalidArgument, match="expected text such as"):
        find(object())


@pytest.mark.parametrize("insecure", [True, False])
def test_a_scheduler_file_says_the_address_and_whether_tcp_was_accepted(
    tmp_path: Path, insecure: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "scheduler.json"
    write_scheduler_file(path, SchedulerFile(TCP, "id", insecure))
    monkeypatch.setenv(SCHEDULER_FILE_VARIABLE, str(path))
    target = Target(TCP, method=f"Scheduler file {path}")
    if insecure:
        assert find(scheduler_file=path) == find() == target
    else:
        with pytest.raises(InvalidAddress, match="plain TCP"):
            find(scheduler_file=path)
        assert find(scheduler_file=path, insecure=True) == target


def test_a_file_that_does_not_come_is_named(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"nothing\.json"):
        find(scheduler_file=tmp_path / "nothing.json")


def test_arguments_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="both given"):
        find("ipc:///x", tmp_path / "f")
    with pytest.raises(InvalidArgument, match="n_workers would start a cluster"):
        find("ipc:///x", n_workers=2)
    assert find("ipc:///x", host="localhost", loop=None).address == "ipc:///x"


def test_a_scheduler_file_is_a_path() -> None:
    with pytest.raises(InvalidArgument, match="scheduler_file is 5, expected the path of a file"):
        find(None, 5)  # type: ignore[arg-type]


def test_a_clusters_options_are_checked_at_the_call() -> None:
    with pytest.raises(InvalidArgument, match="n_workers is -1"):
        find(n_workers=-1)
