"""The module where Dask users look for the cluster's names."""

from __future__ import annotations

import concurrent.futures
import gc
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import zcluster.distributed as distributed
from zcluster.client.client import Client
from zcluster.collection.compute import current_runner, set_default_runner
from zcluster.errors import ClientClosed


def test_names_are_the_ones_of_the_client() -> None:
    assert distributed.Client is distributed.Executor is Client
    assert distributed.CancelledError is concurrent.futures.CancelledError
    assert distributed.TimeoutError is TimeoutError
    assert distributed.BaseActorFuture is distributed.ActorFuture
    assert distributed.Status.running == "running"
    with pytest.raises(NotImplementedError, match=r"use Client\(...\).get_executor"):
        distributed.CompatibleExecutor("address")
    assert all(hasattr(distributed, name) for name in distributed.__all__)


def test_importing_it_loads_nothing_heavy() -> None:
    code = (
        "import sys, zcluster.distributed; "
        "print([m for m in ('numpy', 'pandas', 'asyncio', 'tqdm', 'multiprocessing') "
        "if m in sys.modules])"
    )
    root = Path(distributed.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root
    )
    assert done.stdout.strip() == "[]"


class _Runner:
    """Stands for a client here: what runs graphs."""

    def run_graph(self, graph: Any, **options: Any) -> list[Any]:
        return ["ran", graph]


def test_the_newest_live_client_computes_collections_and_is_not_kept_alive() -> None:
    first: Any = _Runner()
    set_default_runner(first)
    try:
        newest: Any = _Runner()
        distributed._push(newest)
        graph: Any = "graph"
        assert current_runner(None) is not first
        assert current_runner(None).run_graph(graph) == ["ran", "graph"]
        distributed._pop(newest)
        distributed._pop(newest)
        assert current_runner(None) is first
        distributed._push(newest)
        runner = current_runner(None)
        del newest
        gc.collect()
        assert current_runner(None) is first
        with pytest.raises(ClientClosed, match="is gone"):
            runner.run_graph(graph)
    finally:
        set_default_runner(None)
