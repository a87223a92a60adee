"""Hand-written graphs in the threads of this process: the runner of ``scheduler="threads"``.

The threads are made when they are first needed and stay; `close` ends them, as the end of the
program does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from zcluster.local import ExecutorRunner, ThreadsRunner, close_pool, get_with

if TYPE_CHECKING:
    from concurrent.futures import Executor

__all__ = ["close", "get"]

_threads = ThreadsRunner()


def get(
    dsk: Mapping[Any, Any],
    keys: Any,
    num_workers: int | None = None,
    *,
    pool: Executor | None = None,
    **options: Any,
) -> Any:
    """Run a hand-written graph; only what the keys need is run.

    Parameters
    ----------
    dsk : mapping
        See `zcluster.graph.spec`.
    keys : key, or (nested) list of keys
        What is wanted.
    num_workers : int, optional
        How many tasks may run at a time; by default as many as there are processors.
    pool : executor, optional
        Run tasks in the threads of this one.
    **options
        See `zcluster.local.LocalRunner.run_graph`.

    Returns
    -------
    values : object
        One value, or tuples of values nested as the keys.

    Examples
    --------
    >>> from operator import add
    >>> get({"x": 1, "y": (add, "x", 2)}, ["y", ["x"]])
    (3, (1,))
    """
    runner = _threads if pool is None else ExecutorRunner(pool)
    return get_with(runner, dsk, keys, num_workers=num_workers, **options)


def close() -> None:
    """End the threads; the next run makes new ones."""
    close_pool()
