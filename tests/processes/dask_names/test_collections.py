"""Dask's names of lazy calls and graphs, and what runs them without a client."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock, get_ident
from typing import Any

import pytest

import zcluster
from zcluster.delayed import Delayed
from zcluster.distributed import Client
from zcluster.local import get_sync

pytestmark = pytest.mark.processes


def inc(x: int) -> int:
    return x + 1


def run_in_order(dsk: Any, keys: Any, **options: Any) -> Any:
    """Run a graph in the calling thread: a scheduler of the shape in which users write them."""
    return get_sync(dsk, keys)


# --------------------------------------------------------------------------------- delayed


@pytest.mark.dask("dask.delayed", "Delayed.compute", "Delayed.key")
def test_delayed() -> None:
    lazy = zcluster.delayed(inc)(1)
    assert isinstance(lazy, Delayed)
    assert lazy.key.startswith("inc-")
    assert lazy.compute() == 2

    @zcluster.delayed
    def double(x: int) -> int:
        """Twice as much."""
        return 2 * x

    assert double.__doc__ == "Twice as much."
    assert double(double(3)).compute() == 12
    assert zcluster.delayed(sum)([double(1), double(2)]).compute() == 6
    assert zcluster.delayed({"a": double(1), "b": [double(2)]}).compute() == {"a": 2, "b": [4]}


@pytest.mark.dask("delayed(pure=)", "delayed(name=)", "dask_key_name=")
def test_keys_of_delayed() -> None:
    assert zcluster.delayed(inc, pure=True)(1).key == zcluster.delayed(inc, pure=True)(1).key
    assert zcluster.delayed(inc)(1).key != zcluster.delayed(inc)(1).key
    assert zcluster.delayed(inc)(1, dask_key_name="first").key == "first"
    assert zcluster.delayed(3, name="three").key == "three"


@pytest.mark.dask("delayed(nout=)", "Delayed.__iter__")
def test_delayed_with_several_results() -> None:
    quotient, rest = zcluster.delayed(divmod, nout=2)(7, 2)
    assert zcluster.compute(quotient, rest) == (3, 1)
    with pytest.raises(TypeError):
        list(zcluster.delayed(divmod)(7, 2))


@pytest.mark.dask("delayed(traverse=)")
def test_delayed_that_looks_into_nothing() -> None:
    inner = zcluster.delayed(inc)(1)
    assert zcluster.delayed([inner]).compute() == [2]
    (left,) = zcluster.delayed([inner], traverse=False).compute()
    assert isinstance(left, Delayed)


@pytest.mark.dask("Delayed operators", "Delayed.__getattr__", "Delayed.__getitem__")
def test_delayed_behaves_as_its_value() -> None:
    x = zcluster.delayed(inc)(4)
    assert ((x + 1) * 2 - 3).compute() == 9
    assert zcluster.compute(10 // x, 2**x, -x, x > 4, x % 3) == (2, 32, -5, True, 2)
    text = zcluster.delayed("a,b")
    assert text.split(",")[1].upper().compute() == "B"
    assert zcluster.delayed(3 + 4j).imag.compute() == 4
    with pytest.raises(TypeError):
        bool(x)


@pytest.mark.dask("Delayed.dask")
def test_the_graph_of_a_delayed() -> None:
    lazy = zcluster.delayed(inc)(zcluster.delayed(inc)(1))
    assert len(lazy.dask) == 2
    assert lazy.key in lazy.dask
    assert set(lazy.dask) == set(dict(lazy.dask))


@pytest.mark.dask("Delayed.visualize", "dask.visualize")
def test_visualize(tmp_path: Path) -> None:
    lazy = zcluster.delayed(inc)(zcluster.delayed(inc)(1))
    lazy.visualize(filename=str(tmp_path / "one.svg"))
    zcluster.visualize(lazy, lazy + 1, filename=str(tmp_path / "two.svg"))
    for name in ("one.svg", "two.svg"):
        assert "<svg" in (tmp_path / name).read_text()


# ------------------------------------------------------------------- all collections at once


@pytest.mark.dask("dask.compute")
def test_compute_together(tmp_path: Path) -> None:
    log = tmp_path / "log"
    shared = zcluster.delayed(write_down)(str(log))
    assert zcluster.compute(shared + 1, [shared + 2, 5]) == (11, [12, 5])
    assert log.read_text() == "x"
    assert zcluster.compute(1, "text") == (1, "text")


def write_down(path: str) -> int:
    with open(path, "a") as file:
        file.write("x")
    return 10


@pytest.mark.dask("functions run as they are, in threads")
def test_functions_share_what_the_caller_has() -> None:
    calls: list[int] = []
    lock = Lock()

    def call(x: int) -> int:
        with lock:
            calls.append(x)
        return x

    for scheduler in ("sync", "threads"):
        zcluster.compute([zcluster.delayed(call)(i) for i in range(3)], scheduler=scheduler)
    assert sorted(calls) == [0, 0, 1, 1, 2, 2]


@pytest.mark.dask("dask.persist")
def test_persist(tmp_path: Path) -> None:
    log = tmp_path / "log"
    (kept,) = zcluster.persist(zcluster.delayed(write_down)(str(log)))
    assert log.read_text() == "x"
    assert (kept + 1).compute() == 11
    assert log.read_text() == "x"


@pytest.mark.dask("dask.annotate")
def test_annotate_takes_what_is_known() -> None:
    with zcluster.annotate(priority=1, retries=2), zcluster.annotate(priority=3):
        lazy = zcluster.delayed(inc)(1)
    assert lazy.compute() == 2


@pytest.mark.dask("annotate(workers=)", "annotate(allow_other_workers=)")
def test_annotate_workers(client: Client) -> None:
    place = sorted(client.scheduler_info()["workers"])[1]
    pid = client.submit(os.getpid, workers=[place], pure=False).result()
    with zcluster.annotate(workers=[place], allow_other_workers=False):
        there = [zcluster.delayed(os.getpid, pure=False)() for _ in range(6)]
    assert set(client.gather(client.compute(there))) == {pid}


# ----------------------------------------------------------------- what runs without client


def graph() -> dict[str, Any]:
    return {"x": 1, "y": (inc, "x"), "z": (sum, ["x", "y", (inc, 10)])}


@pytest.mark.dask("dask.threaded.get")
def test_threaded_get() -> None:
    from zcluster.threaded import get

    assert get(graph(), "z") == 14
    assert tuple(get(graph(), ["y", "z"], num_workers=2)) == (2, 14)


@pytest.mark.dask("dask.local.get_sync")
def test_get_sync() -> None:
    assert get_sync(graph(), "z") == 14
    assert tuple(get_sync(graph(), ["y", "z"])) == (2, 14)


@pytest.mark.dask(
    "dask.multiprocessing.get", "scheduler='processes'", "num_workers=", "scheduler=get"
)
def test_processes() -> None:
    from zcluster import multiprocessing

    assert multiprocessing.get(graph(), "z", num_workers=1) == 14
    pid = zcluster.delayed(os.getpid, pure=False)()
    assert pid.compute(scheduler="processes", num_workers=1) != os.getpid()
    assert pid.compute(scheduler=multiprocessing.get, num_workers=1) != os.getpid()
    if hasattr(multiprocessing, "close"):
        multiprocessing.close()


@pytest.mark.dask("scheduler='sync'", "scheduler='threads'", "scheduler=get")
def test_named_schedulers() -> None:
    lazy = zcluster.delayed(get_ident, pure=False)()
    for name in ("sync", "synchronous", "single-threaded"):
        assert lazy.compute(scheduler=name) == get_ident()
    for name in ("threads", "threading"):
        assert zcluster.delayed(inc)(1).compute(scheduler=name) == 2
    assert zcluster.delayed(inc)(1).compute(scheduler=run_in_order) == 2
    with ThreadPoolExecutor(1) as pool:
        assert lazy.compute(scheduler=pool) == pool.submit(get_ident).result()


@pytest.mark.dask("scheduler=client")
def test_client_as_scheduler(client: Client) -> None:
    pid = zcluster.delayed(os.getpid, pure=False)()
    assert pid.compute(scheduler=client) != os.getpid()
    assert pid.compute() != os.getpid()
    assert pid.compute(scheduler="sync") == os.getpid()


# -------------------------------------------------------------------------- below the surface


@pytest.mark.dask("dask.is_dask_collection")
def test_what_is_lazy() -> None:
    assert zcluster.is_dask_collection(zcluster.delayed(1))
    assert not zcluster.is_dask_collection(1)


@pytest.mark.dask("dask.istask")
def test_what_is_a_task() -> None:
    assert zcluster.istask((inc, 1))
    assert not zcluster.istask((1, inc))


@pytest.mark.dask("annotate(anything=)")
def test_annotate_takes_anything() -> None:
    with zcluster.annotate(colour="blue"):
        assert zcluster.delayed(inc)(1).compute() == 2


@pytest.mark.dask("dask.get_annotations")
def test_get_annotations() -> None:
    with zcluster.annotate(priority=1), zcluster.annotate(retries=2):
        assert zcluster.get_annotations() == {"priority": 1, "retries": 2}
    assert zcluster.get_annotations() == {}


@pytest.mark.dask("dask.get")
def test_get() -> None:
    assert tuple(zcluster.get(graph(), ["y", "z"])) == (2, 14)


@pytest.mark.dask("scheduler='distributed'")
def test_the_current_client_by_name(client: Client) -> None:
    pid = zcluster.delayed(os.getpid, pure=False)()
    assert pid.compute(scheduler="distributed") != os.getpid()


@pytest.mark.dask("dask.base.tokenize")
def test_tokenize() -> None:
    from zcluster.base import tokenize

    assert tokenize([1, "a"], x=2) == tokenize([1, "a"], x=2)
    assert tokenize(1) != tokenize(2)
