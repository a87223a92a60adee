"""Measurements as pictures."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from zcluster.diagnostics import CacheProfiler, Profiler, ResourceProfiler, visualize
from zcluster.errors import InvalidArgument
from zcluster.local import get_sync

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
