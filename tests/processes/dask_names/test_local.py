"""Dask's names of configuration and of what looks on while graphs run."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import zcluster
from zcluster.diagnostics import (
    CacheProfiler,
    Callback,
    Profiler,
    ProgressBar,
    ResourceProfiler,
)
from zcluster.distributed import get_client
from zcluster.threaded import get

pytestmark = pytest.mark.processes


def inc(x: int) -> int:
    return x + 1


def total(n: int) -> Any:
    return zcluster.delayed(sum)([zcluster.delayed(inc)(i) for i in range(n)])


# --------------------------------------------------------------------------- configuration


@pytest.mark.dask("dask.config", "dask.config.get", "dask.config.set")
def test_get_and_set() -> None:
    assert zcluster.config.get("scheduler", None) is None
    with zcluster.config.set(scheduler="sync"):
        assert zcluster.config.get("scheduler") == "sync"
        with zcluster.config.set({"scheduler": "threads"}):
            assert zcluster.config.get("scheduler") == "threads"
        assert zcluster.config.get("scheduler") == "sync"
    assert zcluster.config.get("scheduler", None) is None


@pytest.mark.dask("dask.config.set")
def test_set_chooses_the_scheduler() -> None:
    def run(dsk: Any, keys: Any, **options: Any) -> Any:
        names.append("run")
        return get(dsk, keys)

    names: list[str] = []
    with zcluster.config.set(scheduler=run):
        assert zcluster.delayed(inc)(1).compute() == 2
    assert names == ["run"]
    assert zcluster.delayed(inc)(1).compute() == 2
    assert names == ["run"]


@pytest.mark.dask("dask.config.merge", "dask.config.update")
def test_merge() -> None:
    merged = zcluster.config.merge({"x": 1, "y": {"a": 1}}, {"y": {"b": 2}})
    assert merged == {"x": 1, "y": {"a": 1, "b": 2}}
    old: dict[str, Any] = {"x": 1, "y": {"a": 1}}
    zcluster.config.update(old, {"y": {"a": 2}})
    assert old == {"x": 1, "y": {"a": 2}}


@pytest.mark.dask("dask.config.refresh", "dask.config.collect", "dask.config.config")
def test_collect_and_refresh(monkeypatch: pytest.MonkeyPatch) -> None:
    variable = f"{zcluster.__name__.upper()}_SCHEDULER"
    monkeypatch.setenv(variable, "sync")
    assert zcluster.config.collect()["scheduler"] == "sync"
    assert zcluster.config.get("scheduler", None) is None
    zcluster.config.refresh()
    assert zcluster.config.get("scheduler") == "sync"
    assert zcluster.config.config["scheduler"] == "sync"
    monkeypatch.delenv(variable)
    zcluster.config.refresh()
    assert zcluster.config.get("scheduler", None) is None


@pytest.mark.dask("DASK_*")
def test_variables() -> None:
    script = "import zcluster; print(zcluster.config.get('scheduler'))"
    variable = f"{zcluster.__name__.upper()}_SCHEDULER"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {variable: "sync"},
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert done.stdout == "sync\n"


@pytest.mark.dask("DASK_CONFIG")
def test_file(tmp_path: Path) -> None:
    is_ours = zcluster.__name__ != "da" + "sk"
    file = tmp_path / ("config.toml" if is_ours else "config.yaml")
    file.write_text('scheduler = "sync"\n' if is_ours else "scheduler: sync\n")
    done = subprocess.run(
        [sys.executable, "-c", "import zcluster; print(zcluster.config.get('scheduler'))"],
        env=os.environ | {f"{zcluster.__name__.upper()}_CONFIG": str(file)},
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert done.stdout == "sync\n"


# ----------------------------------------------------------------------------- diagnostics


@pytest.mark.dask("dask.diagnostics.ProgressBar")
def test_progress_bar() -> None:
    out = io.StringIO()
    with ProgressBar(out=out, dt=0.01):
        assert total(10).compute(scheduler="threads") == 55
    assert "[########################################] | 100% Completed" in out.getvalue()
    bar = ProgressBar(out=out)
    bar.register()
    assert total(3).compute(scheduler="sync") == 6
    bar.unregister()
    assert total(4).compute(scheduler="sync") == 10


@pytest.mark.dask("dask.diagnostics.Profiler")
def test_profiler() -> None:
    with Profiler() as profiler:
        total(3).compute(scheduler="sync")
    assert len(profiler.results) == 4
    for line in profiler.results:
        assert line.end_time >= line.start_time
        assert line.task is not None
    assert {str(line.key).partition("-")[0] for line in profiler.results} == {"inc", "sum"}
    profiler.clear()
    assert not profiler.results


@pytest.mark.dask("dask.diagnostics.ResourceProfiler")
def test_resource_profiler() -> None:
    with ResourceProfiler(dt=0.01) as profiler:
        zcluster.delayed(spend)().compute(scheduler="threads")
    assert profiler.results
    assert all(line.mem > 0 for line in profiler.results)
    assert {"time", "mem", "cpu"} <= set(profiler.results[0]._fields)


def spend() -> int:
    return sum(i * i for i in range(1_500_000))


@pytest.mark.dask("dask.diagnostics.CacheProfiler")
def test_cache_profiler() -> None:
    with CacheProfiler(metric=lambda value: 7, metric_name="sevens") as profiler:
        total(3).compute(scheduler="sync")
    assert profiler.results
    for line in profiler.results:
        assert line.metric == 7
        assert line.free_time >= line.cache_time


@pytest.mark.dask("dask.diagnostics.Callback")
def test_callback() -> None:
    seen: list[str] = []

    class Watch(Callback):
        def _start(self, dsk: Any) -> None:
            seen.append("start")

        def _pretask(self, key: Any, dsk: Any, state: Any) -> None:
            seen.append(f"pre {str(key).partition('-')[0]}")

        def _posttask(self, key: Any, result: Any, dsk: Any, state: Any, worker_id: Any) -> None:
            seen.append(f"post {result}")

        def _finish(self, dsk: Any, state: Any, errored: bool) -> None:
            seen.append(f"finish {errored}")

    with Watch():
        zcluster.delayed(inc)(1).compute(scheduler="sync")
    assert seen == ["start", "pre inc", "post 2", "finish False"]
    keys: list[Any] = []
    with Callback(pretask=lambda key, dsk, state: keys.append(key)):
        total(2).compute(scheduler="threads")
    assert len(keys) == 3


@pytest.mark.dask("dask.config.update_defaults")
def test_defaults() -> None:
    zcluster.config.update_defaults({"of-a-package": {"size": 3}})
    assert zcluster.config.get("of-a-package.size") == 3
    assert zcluster.config.pop("of-a-package.size") == 3


@pytest.mark.dask("dask.config.get of no key raises KeyError")
def test_no_such_key() -> None:
    with pytest.raises(KeyError):
        zcluster.config.get("of-nobody.size")


@pytest.mark.dask("get_client() of none raises ValueError")
def test_no_client() -> None:
    """Libraries ask like this whether there is a cluster."""
    with pytest.raises(ValueError, match=r"[Cc]lient"):
        get_client()


@pytest.mark.dask("dask.config.pop")
def test_pop() -> None:
    zcluster.config.set({"scheduler": "sync"})
    assert zcluster.config.pop("scheduler") == "sync"
    assert zcluster.config.get("scheduler", None) is None


@pytest.mark.dask("dask.config.serialize", "dask.config.deserialize")
def test_serialize() -> None:
    text = zcluster.config.serialize({"a": {"b": 1}})
    assert zcluster.config.deserialize(text) == {"a": {"b": 1}}


@pytest.mark.dask("dask.config.expand_environment_variables")
def test_expand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLACE", "there")
    expanded = zcluster.config.expand_environment_variables({"x": ["$PLACE"]})
    assert expanded == {"x": ["there"]}


@pytest.mark.dask("dask.diagnostics.visualize")
def test_visualize(tmp_path: Path) -> None:
    from zcluster.diagnostics import visualize

    with Profiler() as profiler, ResourceProfiler(dt=0.01) as resources:
        zcluster.delayed(spend)().compute(scheduler="threads")
    visualize([profiler, resources], filename=str(tmp_path / "profile.html"), show=False)
    assert (tmp_path / "profile.html").stat().st_size > 500
