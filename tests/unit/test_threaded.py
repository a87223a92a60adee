"""`zcluster.threaded.get`: graphs in threads, by hand."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from operator import add

import pytest

from zcluster import threaded
from zcluster.errors import InvalidArgument


def test_get_gives_values_nested_as_the_keys() -> None:
    dsk = {"x": (add, 2, 3), "y": (add, 2, "x")}
    assert threaded.get(dsk, "y") == 7
    assert threaded.get(dsk, ["x", ["y"]], num_workers=3) == (5, (7,))
    threaded.close()
    assert threaded.get(dsk, ["y"]) == (7,)


def test_get_uses_the_threads_of_a_pool_that_is_given() -> None:
    with ThreadPoolExecutor(1, thread_name_prefix="mine") as pool:
        thread = threaded.get({"x": (threading.current_thread,)}, "x", pool=pool)
    assert thread.name.startswith("mine")


def test_get_refuses_what_it_does_not_know() -> None:
    with pytest.raises(InvalidArgument, match="num_workers=0"):
        threaded.get({"x": 1}, "x", num_workers=0)
    with pytest.raises(InvalidArgument, match="'cache'"):
        threaded.get({"x": 1}, "x", cache={})
