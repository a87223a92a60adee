"""What can be meant by workers that are to leave, with a cluster of threads."""

from __future__ import annotations

import operator
import os
import time
from pathlib import Path

import pytest

from zcluster.client.client import Client
from zcluster.errors import InvalidArgument, UnknownWorker


def wait_for(path: str) -> bool:
    while not os.path.exists(path):
        time.sleep(0.005)
    return True


def test_workers_leave_and_are_described(tmp_path: Path) -> None:
    with Client(n_workers=3, threads_per_worker=1, processes=False) as client:
        known = client.scheduler_info()["workers"]
        with pytest.raises(InvalidArgument, match="None stands for those that are idle"):
            client.retire_workers([])
        with pytest.raises(UnknownWorker, match="nobody"):
            client.retire_workers("nobody")
        assert client.retire_workers() == {}  # there is but one node
        first, second, third = sorted(known)
        assert client.retire_workers(first, timeout=20) == {first: known[first]}
        assert sorted(client.nthreads()) == [second, third]
        gate = tmp_path / "gate"
        waiting = client.submit(wait_for, str(gate), workers=second, pure=False)
        while not client.call_stack():  # until it runs
            time.sleep(0.005)
        with pytest.raises(TimeoutError, match=f"{second} had not left after 0.2 s; {second}: it"):
            client.retire_workers(names=[second], timeout=0.2)
        gate.touch()
        assert waiting.result(20)
        assert client.submit(operator.neg, 1).result(20) == -1
        client.wait_for_workers(1)
        gone = client.retire_workers(known[third]["node"], timeout=20)
        assert third in gone
        assert client.scheduler_info()["workers"] == {}
