"""Measurements as pictures."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from zcluster.diagnostics import CacheProfiler, Profiler, ResourceProfiler, visualize
from zcluster.errors import InvalidArgument
from zcluster.local import get_sync

ROOT = Path(__file__).resolve().parents[3]
SVG = "{http://www.w3.org/2000/svg}"
DSK = {"a": "<&>", "b": (len, "a"), "c": (abs, "b")}


def test_panels_share_one_picture(tmp_path: Path) -> None:
    with Profiler() as tasks, ResourceProfiler() as resources, CacheProfiler() as kept:
        get_sync(DSK, "c")
    path = tmp_path / "all.svg"
    picture = visualize([tasks, resources, kept], filename=path)
    assert path.read_text() == picture.svg
    assert picture.tasks == 3
    root = ElementTree.fromstring(picture.svg)
    titles = [each.text or "" for each in root.iter(f"{SVG}title")]
    assert [title.split(":")[0] for title in titles] == ["value", "len", "abs"]
    assert len(list(root.iter(f"{SVG}polyline"))) == 3
    texts = [each.text for each in root.iter(f"{SVG}text")]
    assert {"tasks", "this process", "results kept", "thread 0", "0 s"} <= set(texts)


def test_a_page_for_browsers(tmp_path: Path) -> None:
    with Profiler() as tasks:
        get_sync(DSK, "c")
    path = tmp_path / "tasks.html"
    picture = visualize(tasks, filename=path)
    assert path.read_text().startswith("<!DOCTYPE html>")
    assert path.read_text().endswith(picture.svg)


def test_it_is_shown_only_to_who_asks(tmp_path: Path) -> None:
    """In a process of its own, where the browser is a program that notes what it opens."""
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" >> {tmp_path}/opened\n')
    browser.chmod(0o755)
    code = (
        "from zcluster.diagnostics import Profiler, visualize\n"
        "from zcluster.local import get_sync\n"
        "with Profiler() as profiler:\n"
        "    get_sync({'x': (abs, -1)}, 'x')\n"
        "visualize(profiler, filename='quiet.svg')\n"
        "visualize(profiler, filename='shown.svg', show=True)\n"
    )
    subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        cwd=tmp_path,
        env=os.environ | {"BROWSER": str(browser), "PYTHONPATH": str(ROOT)},
    )
    assert (tmp_path / "opened").read_text() == f"{(tmp_path / 'shown.svg').as_uri()}\n"


def test_each_draws_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with Profiler() as tasks, ResourceProfiler() as resources, CacheProfiler() as kept:
        get_sync(DSK, "c")
    for profiler in (tasks, resources, kept):
        profiler.visualize()
        assert profiler.visualize(filename=None).svg.startswith("<svg")
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["cache.svg", "profile.svg", "resources.svg"]


def test_without_measurements_there_is_nothing_to_draw(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match=r"found no measurements.*with profiler"):
        visualize([Profiler()], filename=tmp_path / "x.svg")
    assert list(tmp_path.iterdir()) == []
