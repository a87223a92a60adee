"""The client's switch for what tasks print."""

from __future__ import annotations

from typing import Any

import pytest

import zcluster.config
from zcluster.client.client import Client
from zcluster.protocol.messages import Output


def test_a_task_s_output_is_shown_and_logged(
    client: Client, cluster: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    future = client.submit(abs, -1)
    assert future.result() == 1
    assert future.log() == ""
    task = future._record.task
    assert client.forward_output
    cluster.say(Output("w", [task], [1], [6]), b"shown\n")
    cluster.until(future.log)
    client.forward_output = False
    cluster.say(Output("w", [task], [1], [7]), b"hidden\n")
    cluster.until(lambda: "hidden" in future.log())
    client.close()
    assert future.log() == "shown\nhidden\n"
    assert capsys.readouterr().out == "[w] shown\n"


def test_the_configuration_switches_it_off(cluster: Any) -> None:
    with (
        zcluster.config.set({"output.forward": False}),
        Client(cluster.address, set_as_default=False) as client,
    ):
        assert not client.forward_output
