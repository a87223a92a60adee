"""What graphs that run in this process cost: times of tasks, memory and load, results kept.

Each has its measurements in ``results``, adds to them until `clear`, prints a ``summary()``, and
draws itself with ``visualize()``.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate
from threading import Event, Thread
from time import perf_counter
from typing import Any, NamedTuple

from zcluster.diagnostics.callback import Callback, Graph
from zcluster.diagnostics.drawing import Panel, visualize
from zcluster.diagnostics.progress import format_seconds
from zcluster.errors import InvalidArgument
from zcluster.graph.drawing import Picture
from zcluster.graph.tasks import istask
from zcluster.local.watching import State
from zcluster.types import Key

__all__ = [
    "CacheData",
    "CacheProfiler",
    "Profiler",
    "ResourceData",
    "ResourceProfiler",
    "TaskData",
]


class TaskData(NamedTuple):
    """When and where a task ran; times in seconds of `time.perf_counter`."""

    key: Key
    task: Any
    start_time: float
    end_time: float
    worker_id: int


class ResourceData(NamedTuple):
    """What this process used at a time: megabytes, and percent of one processor."""

    time: float
    mem: float
    cpu: float


class CacheData(NamedTuple):
    """How long a result was kept, and what it counted."""

    key: Key
    task: Any
    metric: float
    cache_time: float
    free_time: float


class Profiler(Callback):
    """Notes when and where each task ran.

    Attributes
    ----------
    results : list of TaskData

    Examples
    --------
    >>> from zcluster.local import get_sync
    >>> with Profiler() as profiler:
    ...     get_sync({"x": 1, "y": (abs, "x")}, "y")
    1
    >>> [(result.key, result.task) for result in profiler.results]
    [('x', 1), ('y', (<built-in function abs>, 'x'))]
    """

    def __init__(self) -> None:
        super().__init__()
        self.results: list[TaskData] = []
        self._begun: dict[tuple[int, Key], float] = {}
        self._ended: dict[int, list[tuple[Key, float, float, int]]] = {}

    def clear(self) -> None:
        """Forget what was measured."""
        self.results.clear()

    def _pretask(self, key: Key, dsk: Graph, state: State) -> None:
        self._begun[id(state), key] = perf_counter()

    def _posttask(self, key: Key, result: Any, dsk: Graph, state: State, worker_id: int) -> None:
        end = perf_counter()
        begun = self._begun.pop((id(state), key))
        self._ended.setdefault(id(state), []).append((key, begun, end, worker_id))

    def _finish(self, dsk: Graph, state: State, errored: bool) -> None:
        for key, begun, end, worker in self._ended.pop(id(state), ()):
            self.results.append(TaskData(key, dsk[key], begun, end, worker))
        for of_run, key in list(self._begun):  # what failed, or did not end
            if of_run == id(state):
                del self._begun[of_run, key]

    def summary(self) -> str:
        """Return a table: how often each function ran, and how long."""
        rows: dict[str, list[float]] = {}
        for result in self.results:
            rows.setdefault(name_of(result), []).append(result.end_time - result.start_time)
        lines = [f"{'function':<24} {'tasks':>8} {'total':>12} {'mean':>12} {'longest':>12}"]
        for name, times in sorted(rows.items(), key=lambda row: -sum(row[1])):
            cells = (sum(times), sum(times) / len(times), max(times))
            lines.append(
                f"{name[:24]:<24} {len(times):>8} "
                + " ".join(f"{format_seconds(cell):>12}" for cell in cells)
            )
        return "\n".join(lines)

    def panel(self) -> Panel:
        """Return what `visualize` draws: a row for each thread."""
        workers = list(dict.fromkeys(result.worker_id for result in self.results))
        return Panel(
            "tasks",
            [
                (workers.index(r.worker_id), r.start_time, r.end_time, name_of(r))
                for r in self.results
            ],
            [f"thread {number}" for number in range(len(workers))],
        )

    def visualize(self, filename: str | None = "profile.svg") -> Picture:
        """Draw what ran when in which thread; see `zcluster.diagnostics.visualize`."""
        return visualize(self, filename=filename)

    def __repr__(self) -> str:
        return f"<Profiler: {len(self.results)} tasks>"


def name_of(result: TaskData) -> str:
    """Return the name of the function that a task calls."""
    if not istask(result.task):
        return "value"
    function = result.task[0]
    return str(getattr(function, "__name__", type(function).__name__))


class ResourceProfiler(Callback):
    """Notes what this process uses, at intervals, while graphs run.

    Parameters
    ----------
    dt : float
        Seconds between two looks.

    Attributes
    ----------
    results : list of ResourceData
        Of each graph, one at its start and one at its end at least.
    """

    def __init__(self, dt: float = 1) -> None:
        super().__init__()
        if dt <= 0:
            raise InvalidArgument(f"dt={dt!r}; expected seconds above zero between two looks")
        self.results: list[ResourceData] = []
        self._dt = dt
        self._state: State | None = None

    def clear(self) -> None:
        """Forget what was measured."""
        self.results.clear()

    def _start_state(self, dsk: Graph, state: State) -> None:
        if self._state is not None:
            return  # it is measured already
        import psutil  # not at the top: who only wants a bar does not need it

        self._state = state
        self._process = psutil.Process()
        self._process.cpu_percent()  # counts from here
        self._look()
        self._is_over = Event()
        self._thread = Thread(target=self._look_again, name="zcluster-resources", daemon=True)
        self._thread.start()

    def _finish(self, dsk: Graph, state: State, errored: bool) -> None:
        if state is self._state:
            self._is_over.set()
            self._thread.join()
            self._look()
            self._state = None

    def _look_again(self) -> None:
        while not self._is_over.wait(self._dt):
            self._look()

    def _look(self) -> None:
        with self._process.oneshot():
            megabytes = self._process.memory_info().rss / 1e6
            percent = self._process.cpu_percent()
        self.results.append(ResourceData(perf_counter(), megabytes, percent))

    def summary(self) -> str:
        """Return a sentence: the most memory, and the mean load."""
        if not self.results:
            return "nothing was measured"
        most = max(result.mem for result in self.results)
        mean = sum(result.cpu for result in self.results) / len(self.results)
        return f"at most {most:,.0f} MB, {mean:.0f} % of a processor in the mean"

    def panel(self) -> Panel:
        """Return what `visualize` draws: memory and load."""
        lines = {
            "memory in MB": [(result.time, result.mem) for result in self.results],
            "processor in %": [(result.time, result.cpu) for result in self.results],
        }
        return Panel("this process", lines=lines)

    def visualize(self, filename: str | None = "resources.svg") -> Picture:
        """Draw memory and load over time; see `zcluster.diagnostics.visualize`."""
        return visualize(self, filename=filename)

    def __repr__(self) -> str:
        return f"<ResourceProfiler: {len(self.results)} looks>"


class CacheProfiler(Callback):
    """Notes from when to when each result is kept.

    Parameters
    ----------
    metric : callable, optional
        What a result counts, such as its size in bytes: by default 1.
    metric_name : str, optional
        What that is called.

    Attributes
    ----------
    results : list of CacheData

    Examples
    --------
    >>> from zcluster.local import get_sync
    >>> with CacheProfiler(metric=len, metric_name="letters") as profiler:
    ...     get_sync({"x": "abc", "y": (str.upper, "x")}, "y")
    'ABC'
    >>> [(result.key, result.metric) for result in profiler.results]
    [('x', 3), ('y', 3)]
    """

    def __init__(
        self,
        metric: Callable[[Any], float] | None = None,
        metric_name: str | None = None,
    ) -> None:
        super().__init__()
        self.results: list[CacheData] = []
        self.metric_name = metric_name or getattr(metric, "__name__", None) or "results"
        self._metric = metric
        self._kept: dict[int, dict[Key, tuple[float, float]]] = {}

    def clear(self) -> None:
        """Forget what was measured."""
        self.results.clear()

    def _start_state(self, dsk: Graph, state: State) -> None:
        self._kept[id(state)] = {}

    def _posttask(self, key: Key, result: Any, dsk: Graph, state: State, worker_id: int) -> None:
        now = perf_counter()
        kept = self._kept[id(state)]
        kept[key] = (1.0 if self._metric is None else self._metric(result), now)
        for gone in kept.keys() & state["released"]:
            self._end(gone, dsk, kept, now)

    def _finish(self, dsk: Graph, state: State, errored: bool) -> None:
        now = perf_counter()
        kept = self._kept.pop(id(state), {})
        for key in list(kept):
            self._end(key, dsk, kept, now)

    def _end(self, key: Key, dsk: Graph, kept: dict[Key, tuple[float, float]], now: float) -> None:
        metric, since = kept.pop(key)
        self.results.append(CacheData(key, dsk[key], metric, since, now))

    def _course(self) -> list[tuple[float, float]]:
        """Return (time, how much is kept from then on)."""
        events = [(result.cache_time, result.metric) for result in self.results]
        events += [(result.free_time, -result.metric) for result in self.results]
        events.sort()
        sums = accumulate(change for _, change in events)
        return [(when, now) for (when, _), now in zip(events, sums, strict=True)]

    def summary(self) -> str:
        """Return a sentence: the most that was kept at a time."""
        most = max((now for _, now in self._course()), default=0)
        return f"{len(self.results)} results; at most {most:,g} {self.metric_name} kept at a time"

    def panel(self) -> Panel:
        """Return what `visualize` draws: how much is kept."""
        return Panel("results kept", lines={self.metric_name: self._course()})

    def visualize(self, filename: str | None = "cache.svg") -> Picture:
        """Draw what was kept over time; see `zcluster.diagnostics.visualize`."""
        return visualize(self, filename=filename)

    def __repr__(self) -> str:
        return f"<CacheProfiler: {len(self.results)} results>"
