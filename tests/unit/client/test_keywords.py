"""Keywords of Dask's that mean nothing here: which values are accepted, and what others hear."""

from __future__ import annotations

from typing import Any

import pytest

from zcluster.client.keywords import OF_CLIENTS, OF_CLUSTERS, drop_needless
from zcluster.errors import InvalidArgument


def test_what_asks_for_nothing_is_dropped_and_the_rest_stays() -> None:
    options: dict[str, Any] = {
        "host": "127.0.0.1",
        "protocol": "tcp://",
        "scheduler_port": 0,
        "interface": None,
        "security": False,
        "preload": [],
        "dashboard_address": ":8787",
        "asynchronous": False,
        "n_workers": 2,
    }
    drop_needless(options, OF_CLUSTERS)
    assert options == {"n_workers": 2}
    options = {"loop": object(), "serializers": ["dask", "pickle"], "heartbeat_interval": "1s"}
    drop_needless(options, OF_CLIENTS)
    assert options == {}


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("host", "0.0.0.0", "for other machines start 'zcluster scheduler --host'"),
        ("scheduler_port", 8786, "for other machines start 'zcluster scheduler --host'"),
        ("interface", "eth0", "only this user on this machine can reach"),
        ("protocol", "ucx", "processes of one machine talk over Unix sockets"),
        ("security", object(), "keys come with the scheduler file"),
        ("preload", ["setup.py"], "register a WorkerPlugin"),
        ("worker_class", dict, "programs and no classes"),
        ("asynchronous", True, "use Client\\(asynchronous=True\\)"),
    ],
)
def test_what_asks_for_more_is_told_what_to_do(name: str, value: Any, says: str) -> None:
    with pytest.raises(InvalidArgument, match=f"^{name} is .*; .*{says}"):
        drop_needless({name: value}, OF_CLUSTERS)


def test_serializers_have_to_know_pickles() -> None:
    with pytest.raises(InvalidArgument, match=r"serializers is \['msgpack'\]; values travel as"):
        drop_needless({"serializers": ["msgpack"]}, OF_CLIENTS)
