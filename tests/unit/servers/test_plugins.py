"""Plugins of a worker: set up in order, in a thread of their own, replaced and taken away."""

from __future__ import annotations

import threading
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

from zcluster.protocol.objects import plan
from zcluster.servers.calls import WorkerView, get_worker
from zcluster.servers.plugins import PLUGINS, Plugins


class Tag:
    """Notes what is done with it on the worker."""

    def __init__(self, tag: str) -> None:
        self.tag = tag

    def setup(self, worker: Any) -> None:
        if self.tag == "broken":
            raise SystemExit("broken")
        if self.tag == "slow":
            assert worker.gate.wait(10)
        assert get_worker() is worker
        worker.said.append((self.tag, threading.current_thread().name))

    def teardown(self, worker: Any) -> None:
        worker.said.append((f"no {self.tag}", ""))


class Bare:
    def setup(self, worker: Any) -> None:
        worker.said.append(("bare", ""))


class Rig:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.view = WorkerView("w", "n", 1, str(folder), "")
        self.view.said = []
        self.view.gate = threading.Event()
        self.idle: SimpleQueue[bool] = SimpleQueue()
        self.plugins = Plugins(self.view, lambda: self.idle.put(True))
        (folder / PLUGINS).mkdir()

    def put(self, name: str, plugin: Any) -> None:
        data = b"" if plugin is None else plan(plugin).tobytes()
        (self.folder / PLUGINS / name).write_bytes(data)
        self.plugins.take(str(self.folder), [f"{PLUGINS}/{name}", "other.py", "a/b/c.py"])


@pytest.fixture
def rig(tmp_path: Path) -> Any:
    made = Rig(tmp_path)
    yield made
    made.plugins.close()


def test_a_plugin_is_set_up_replaced_and_taken_away(rig: Rig) -> None:
    for plugin in (Tag("one"), Tag("one"), Tag("two"), None, None):
        rig.put("tag%20me", plugin)
        rig.plugins.outcome("tag me")
    tags = [tag for tag, _ in rig.view.said]
    assert tags == ["one", "no one", "two", "no two"]
    assert rig.view.said[0][1] == "w-plugins"
    rig.plugins.outcome("of which nobody knows")


def test_what_has_no_teardown_just_goes(rig: Rig) -> None:
    rig.put("bare", Bare())
    rig.plugins.outcome("bare")
    rig.put("bare", None)
    rig.plugins.outcome("bare")
    assert rig.view.said == [("bare", "")]


def test_it_is_busy_until_the_last_is_set_up(rig: Rig) -> None:
    rig.put("slow", Tag("slow"))
    rig.put("tag", Tag("one"))
    busy = [rig.plugins.is_busy]
    rig.view.gate.set()
    assert rig.idle.get(timeout=10)
    busy.append(rig.plugins.is_busy)
    assert busy == [True, False]
    assert [tag for tag, _ in rig.view.said] == ["slow", "one"]
    assert rig.idle.empty()


def test_one_that_fails_says_so_to_whoever_asks(
    rig: Rig, capsys: pytest.CaptureFixture[str]
) -> None:
    rig.put("tag", Tag("broken"))
    with pytest.raises(SystemExit, match="broken"):
        rig.plugins.outcome("tag")
    assert "SystemExit: broken" in capsys.readouterr().err
    rig.put("tag", Tag("fine"))
    rig.plugins.outcome("tag")
    assert [tag for tag, _ in rig.view.said] == ["fine"]


def test_other_files_are_no_plugins(rig: Rig) -> None:
    rig.plugins.take(str(rig.folder), ["module.py", f"{PLUGINS}/deep/er"])
    assert not rig.plugins.is_busy
