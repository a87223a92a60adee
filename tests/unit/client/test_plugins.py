"""Plugins as the client registers them: a file, and a question to each worker."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from zcluster.client.client import Client
from zcluster.client.plugins import WorkerPlugin
from zcluster.errors import InvalidArgument
from zcluster.protocol.messages import Call, Called, Files
from zcluster.protocol.objects import plan


class Named(WorkerPlugin):
    name = "a name/of mine"


class Plain:
    def setup(self, worker: Any) -> None:
        """Do nothing."""


def heard(cluster: Any, kind: Any, count: int = 1) -> list[Any]:
    cluster.until(lambda: len(cluster.told(kind)) >= count)
    return list(cluster.told(kind))


@pytest.mark.parametrize("is_there", [True, False])
def test_a_plugin_is_a_file_that_workers_are_asked_about(
    client: Client, cluster: Any, is_there: bool
) -> None:
    with ThreadPoolExecutor(1) as executor:
        if is_there:
            result = executor.submit(client.register_plugin, Named())
        else:
            result = executor.submit(client.unregister_worker_plugin, "a name/of mine")
        (files,) = heard(cluster, Files)
        ((path, place),) = files.files
        assert path == ".plugins/a%20name%2Fof%20mine"
        assert (place[2] > 0) is is_there
        cluster.say(Called(files.request))
        (call,) = heard(cluster, Call)
        cluster.say(Called(call.request), plan(None).tobytes())
        assert result.result(10) == dict.fromkeys(client.nthreads(), "OK")


def test_one_without_a_name_gets_one_of_its_content(client: Client, cluster: Any) -> None:
    with ThreadPoolExecutor(1) as executor:
        for number in (1, 2):
            result = executor.submit(client.register_plugin, Plain())
            files = heard(cluster, Files, number)[-1]
            cluster.say(Called(files.request))
            call = heard(cluster, Call, number)[-1]
            cluster.say(Called(call.request), plan(None).tobytes())
            result.result(10)
    one, two = (message.files for message in cluster.told(Files))
    assert one == two
    assert one[0][0].startswith(".plugins/Plain-")


def test_what_cannot_be_meant(client: Client) -> None:
    for found in (object(), Named):
        with pytest.raises(InvalidArgument, match="a method setup"):
            client.register_plugin(found)
    for name in ("x" * 61, 3):
        with pytest.raises(InvalidArgument, match="the name of a plugin is"):
            client.register_plugin(Plain(), name=name)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="expected text"):
        client.unregister_worker_plugin("")


def test_the_base_class_does_nothing() -> None:
    plugin = WorkerPlugin()
    plugin.setup(None)
    plugin.teardown(None)
    assert plugin.name == ""
