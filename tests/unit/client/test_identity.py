"""What a client says of itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from zcluster.client.client import Client
from zcluster.errors import StartError
from zcluster.transport.scheduler_file import read_scheduler_file


def test_each_client_has_an_id_that_stays(make_cluster: Callable[..., Any]) -> None:
    cluster = make_cluster()
    with Client(cluster.address) as one, Client(cluster.address, name=one.name) as other:
        assert one.id == one.id != other.id
        assert one.id.startswith(one.name)


def test_where_it_is_connected(client: Client, cluster: Any) -> None:
    assert client.scheduler.address == cluster.address
    assert client.dashboard_link is None


def test_collections_and_futures_pass(client: Client) -> None:
    future = client.submit(abs, -1)
    assert client.futures_of([future, {"a": future}]) == [future]
    assert client.normalize_collection(future) is future


def test_a_scheduler_file_leads_others_here(client: Client, cluster: Any, tmp_path: Path) -> None:
    info = {"address": cluster.address, "nodes": [], "id": "of-it"}
    cluster.answers["info"] = lambda _: info
    client.write_scheduler_file(tmp_path / "scheduler.json")
    record = read_scheduler_file(tmp_path / "scheduler.json")
    assert (record.address, record.id, record.insecure) == (cluster.address, "of-it", False)
    with pytest.raises(StartError, match="cannot write the scheduler file"):
        client.write_scheduler_file(tmp_path / "nowhere" / "scheduler.json")
