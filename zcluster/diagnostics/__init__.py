"""Looking on while graphs run in this process: a bar, times, memory, results that are kept.

All of it is made of `Callback`, which is told when a graph begins and ends, and before and after
each task. It acts on the runners of this process (``"threads"``, ``"sync"``); on a cluster, where
tasks run elsewhere, it is told nothing: there `zcluster.distributed.progress` shows a bar.

>>> from zcluster.threaded import get
>>> with Profiler() as profiler:
...     get({"x": 1, "y": (abs, "x")}, "y")
1
>>> [result.key for result in profiler.results]
['x', 'y']
"""

from __future__ import annotations

from zcluster.diagnostics.callback import Callback
from zcluster.diagnostics.drawing import visualize
from zcluster.diagnostics.profile import CacheProfiler, Profiler, ResourceProfiler
from zcluster.diagnostics.progress import ProgressBar

__all__ = [
    "CacheProfiler",
    "Callback",
    "Profiler",
    "ProgressBar",
    "ResourceProfiler",
    "visualize",
]
