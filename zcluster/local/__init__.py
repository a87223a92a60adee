"""Graphs in this process: the scheduler core with no socket and no other process around it.

`LocalRunner` is ``compute(x, scheduler="sync")``: tasks run in the calling thread.
`ThreadsRunner` is ``scheduler="threads"``, and ``compute(x)`` where there is no client: the threads
of a pool help the calling one. The scheduler core is the one that runs behind the socket of a
cluster; here one object plays its only client and its only node, which has one slot: it submits
the graph, and what the core assigns it calls, right here. So an exception comes out as the object
that was raised, Ctrl-C ends it at once, and a graph that misbehaves on a cluster misbehaves here
as well. With ``"sync"`` a debugger stops in tasks. Only where a few tasks form a chain, so that
there is nothing to decide, they are called one after the other without a core (`chains`).

What differs from a cluster:

- nothing is pickled. Functions and arguments are the caller's own objects, so they may be locks,
  files or lambdas over a list; a task that writes into an **argument** changes the caller's object,
  and has to see to it that no other task uses it meanwhile. Results stay what they are, on their
  way to the tasks that take them and to the caller;
- **a task that writes into the result of another one harms nobody else**, as on a cluster. The last
  taker of a result gets the object itself. One that can change and that somebody else will still
  take (another task, or the caller) is copied first: an array by ``copy``, anything else through
  pickle. What cannot be pickled is shared, and so is what is called: functions and classes;
- with ``"sync"`` every run is the same: no time is measured, tasks run in the order of their ranks.
  Threads begin them in that order too, as far as inputs and threads allow.

Where things are: what the core is told in `driver`, the threads of a run in `run`, assigned tasks
in `jobs`, results and who takes them in `shelf`, chains of a few tasks in `chains`, the pool in
`pool`, the runners in `runners`, ``get`` functions in `gets`, who looks on in `watching`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zcluster.local.gets import GetRunner, get_with
from zcluster.local.pool import close_pool
from zcluster.local.runners import ExecutorRunner, LocalRunner, ThreadsRunner, wanted_workers

__all__ = [
    "ExecutorRunner",
    "GetRunner",
    "LocalRunner",
    "ThreadsRunner",
    "close_pool",
    "get_sync",
    "get_with",
    "wanted_workers",
]

_sync = LocalRunner()


def get_sync(dsk: Mapping[Any, Any], keys: Any, **options: Any) -> Any:
    """Run a hand-written graph in the calling thread; only what the keys need is run.

    Parameters
    ----------
    dsk : mapping
        See `zcluster.graph.spec`.
    keys : key, or (nested) list of keys
        What is wanted.
    **options
        See `LocalRunner.run_graph`.

    Returns
    -------
    values : object
        One value, or tuples of values nested as the keys.

    Examples
    --------
    >>> get_sync({"x": 1, "y": (sum, ["x", 2])}, ["y", "x"])
    (3, 1)
    """
    return get_with(_sync, dsk, keys, **options)
