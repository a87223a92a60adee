"""`compute`, `persist` and `visualize`: the one door from lazy collections to whatever runs them.

A **runner** is any object with ``run_graph(graph, **kwargs) -> values``, the values of the graph's
outputs in order: a client, or a scheduler in this process. Which one runs a graph:

1. the one given as ``scheduler=``: a runner, a name that was registered (``"sync"``), a function
   of the shape ``get(dsk, keys)``, or an executor of threads;
2. else what the configuration names as ``scheduler``: any of the same;
3. else the newest one that is live: a client pushes itself when it starts and pops itself when it
   closes (``scheduler="distributed"`` asks for that one, and raises where there is none);
4. else the one set with `set_default_runner`;
5. else the one registered as ``"threads"``: the threads of this process (`zcluster.local`).

A runner whose ``takes_objects`` is true runs tasks in this process: graphs for it hold the very
functions and arguments, and nothing is pickled (`zcluster.protocol.held`).

Nothing here knows clients or schedulers; they come by `push_runner` and `register_runner`, or are
imported by name when they are first asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any, Protocol, TypeAlias

from zcluster import config
from zcluster.collection.base import Lowered, is_collection, keeper, lower
from zcluster.errors import InvalidArgument
from zcluster.graph.drawing import Picture, check_filename, draw
from zcluster.graph.layers import Graph
from zcluster.graph.mapping import GraphView
from zcluster.protocol.held import container_parts, passing_objects
from zcluster.tracebacks import hides_frames
from zcluster.types import Key

__all__ = [
    "Computable",
    "Runner",
    "compute",
    "current_runner",
    "persist",
    "pop_runner",
    "push_runner",
    "register_runner",
    "set_default_runner",
    "visualize",
]


class Runner(Protocol):
    """Whatever can run a graph."""

    def run_graph(self, graph: Graph, **kwargs: Any) -> Sequence[Any]:
        """Run a graph; return the values of its outputs, in order."""
        ...


#: Makes a runner, or says where the function is that does: ``"package.module:name"``.
RunnerFactory: TypeAlias = "Callable[[], Runner] | str"

_DEFAULT = "threads"
#: Names that stand for the newest client.
_LIVE = ("distributed", "dask.distributed")
_GET = "zcluster.local:GetRunner"
_EXECUTOR = "zcluster.local:ExecutorRunner"

_stack: list[Runner] = []
_default: Runner | None = None
_factories: dict[str, RunnerFactory] = {
    **dict.fromkeys(("sync", "synchronous", "single-threaded"), "zcluster.local:LocalRunner"),
    **dict.fromkeys(("threads", "threading", "threaded"), "zcluster.local:ThreadsRunner"),
    **dict.fromkeys(("processes", "multiprocessing"), "zcluster.multiprocessing:ProcessesRunner"),
}
_made: dict[str, Runner] = {}


# Which runner --------------------------------------------------------------------------------


def push_runner(runner: Runner) -> None:
    """Make a runner the one that `compute` uses from now on."""
    _stack.append(runner)


def pop_runner(runner: Runner) -> None:
    """Take a runner back, wherever it stands; no error if it is not there."""
    for place in range(len(_stack) - 1, -1, -1):
        if _stack[place] is runner:
            del _stack[place]
            return


def set_default_runner(runner: Runner | None) -> None:
    """Set the runner for when no client is live; None: back to threads."""
    global _default
    _default = runner


def register_runner(name: str, factory: RunnerFactory) -> None:
    """Give a name to a runner, which is made when it is first asked for, and kept.

    Parameters
    ----------
    name : str
        As in ``compute(x, scheduler="sync")``; large and small letters are alike.
    factory : callable or str
        Makes the runner; or ``"package.module:name"`` of what makes it, imported when needed.
    """
    _factories[name.lower()] = factory
    _made.pop(name.lower(), None)


def current_runner(scheduler: Any = None) -> Runner:
    """Return the runner that a graph would run on; see the top of this file.

    Raises
    ------
    InvalidArgument
        If `scheduler`, or what the configuration says, is nothing of these.
    """
    if scheduler is None:
        scheduler = config.get("scheduler", None)
    if scheduler is None:
        if _stack:
            return _stack[-1]
        if _default is not None:
            return _default
        scheduler = _DEFAULT
    if isinstance(scheduler, str):
        return _named_runner(scheduler)
    runner: Runner | None = None
    if isinstance(scheduler, type):
        pass  # a client's class has all that a client has
    elif callable(getattr(scheduler, "run_graph", None)):
        runner = scheduler
    elif callable(getattr(scheduler, "submit", None)):
        runner = _found(_EXECUTOR)(scheduler)
    elif callable(scheduler):
        runner = _found(_GET)(scheduler)
    if runner is None:
        raise InvalidArgument(
            f"scheduler={scheduler!r} cannot run a graph; expected a client, a function of the "
            f"shape get(dsk, keys), an executor of threads, or {_known_names()}"
        )
    return runner


def _named_runner(given: str) -> Runner:
    name = given.lower()
    if name in _LIVE:
        if not _stack:
            raise InvalidArgument(
                f"scheduler={given!r} means the client that is open, and none is; start one with "
                "zcluster.Client(), or leave the scheduler out"
            )
        return _stack[-1]
    runner = _made.get(name)
    if runner is None:
        factory = _factories.get(name)
        if factory is None:
            raise InvalidArgument(
                f"no scheduler is called {given!r}; expected {_known_names()}, or a client"
            )
        if isinstance(factory, str):
            factory = _found(factory)
        assert callable(factory)  # what a name stands for is registered by zcluster itself
        runner = _made[name] = factory()
    return runner


def _found(where: str) -> Callable[..., Any]:
    """Return what ``"package.module:name"`` names."""
    module, _, attribute = where.partition(":")
    found: Callable[..., Any] = getattr(import_module(module), attribute)
    return found


def _known_names() -> str:
    if not _factories:
        return "the name of one, of which none is registered"
    return "one of " + ", ".join(repr(name) for name in sorted((*_factories, _LIVE[0])))


# Collections among arguments -----------------------------------------------------------------


class _Found:
    """The collections in nested arguments, each once, and where they stood."""

    def __init__(self) -> None:
        self.collections: list[Any] = []
        self._places: dict[int, int] = {}

    def take_out(self, value: Any, traverse: bool = True) -> Callable[[Sequence[Any]], Any] | None:
        """Find the collections in a value.

        Returns
        -------
        make : callable or None
            Makes the value again with results in place of collections; None if it has none.
        """
        if is_collection(value):
            place = self._places.setdefault(id(value), len(self.collections))
            if place == len(self.collections):
                self.collections.append(value)
            return lambda results: results[place]
        children = container_parts(value) if traverse else None
        if children is None:
            return None
        parts, rebuild = children
        makers = [self.take_out(part) for part in parts]
        if not any(makers):
            return None
        pairs = list(zip(makers, parts, strict=True))
        return lambda results: rebuild(*[make(results) if make else part for make, part in pairs])


def _lowered_for(runner: Runner, collections: list[Any]) -> Lowered:
    with passing_objects(getattr(runner, "takes_objects", False)):
        return lower(collections)


def _lowered_here(collections: list[Any]) -> Lowered:
    """Return a graph that is only looked at: nothing in it has to be picklable."""
    with passing_objects(True):
        return lower(collections)


# The door ------------------------------------------------------------------------------------


@hides_frames
def compute(
    *args: Any,
    scheduler: Any = None,
    traverse: bool = True,
    optimize_graph: bool = True,
    **kwargs: Any,
) -> tuple[Any, ...]:
    """Compute collections together: what they share is made once.

    Parameters
    ----------
    *args
        Collections, also within lists, tuples, dicts (as values), sets and dataclasses. Anything
        else passes through.
    scheduler : runner, str, callable or executor, optional
        What runs them: a client, ``"threads"``, ``"sync"``, ``"processes"``, a function
        ``get(dsk, keys, **options)``, an executor of threads. By default the newest client; threads
        where there is none.
    traverse : bool
        Look for collections inside containers.
    optimize_graph : bool
        Accepted for collections that can be simplified.
    **kwargs
        Passed on to the runner, such as ``num_workers=4``.

    Returns
    -------
    results : tuple
        One for each argument, always a tuple.

    Examples
    --------
    >>> compute(1, [2])
    (1, [2])
    """
    found = _Found()
    makers = [found.take_out(arg, traverse) for arg in args]
    if not found.collections:
        return args
    runner = current_runner(scheduler)
    graph, rebuild = _lowered_for(runner, found.collections)
    values = runner.run_graph(graph, **kwargs) if graph.outputs else []
    results = rebuild(values)
    pairs = zip(makers, args, strict=True)
    return tuple(make(results) if make else arg for make, arg in pairs)


@hides_frames
def persist(
    *args: Any,
    scheduler: Any = None,
    traverse: bool = True,
    optimize_graph: bool = True,
    **kwargs: Any,
) -> tuple[Any, ...]:
    """Compute collections together, and return the like with their results in them.

    On a cluster the results stay there, and this returns at once. Parameters are those of
    `compute`.

    Returns
    -------
    collections : tuple
        One for each argument, always a tuple.

    Examples
    --------
    >>> import zcluster
    >>> total = zcluster.delayed(sum)([1, 2])
    >>> (kept,) = persist(total)
    >>> kept.key == total.key, (kept + 1).compute()
    (True, 4)
    """
    found = _Found()
    makers = [found.take_out(arg, traverse) for arg in args]
    if not found.collections:
        return args
    runner = current_runner(scheduler)
    graph, rebuild = _lowered_for(runner, found.collections)
    submit = getattr(runner, "submit_graph", None) or runner.run_graph
    made = keeper(rebuild)(submit(graph, **kwargs))
    pairs = zip(makers, args, strict=True)
    return tuple(make(made) if make else arg for make, arg in pairs)


def visualize(
    *args: Any,
    filename: Any = "mydask",
    optimize_graph: bool = False,
    traverse: bool = True,
    format: str | None = None,
    **kwargs: Any,
) -> Picture:
    """Draw the graph of collections; nothing is run.

    Parameters
    ----------
    *args
        As for `compute`; a hand-written graph (a mapping) may also be given.
    filename : str, path or None
        Where to write the picture, as SVG (``.svg`` is added); None: nowhere.
    optimize_graph : bool
        Draw the graph as it would run. Calls made one by one always are.
    format : str, optional
        ``"svg"``.

    Raises
    ------
    InvalidArgument
        For a format other than SVG, or where there is nothing to draw.
    """
    if kwargs:
        raise InvalidArgument(
            f"visualize takes no {', '.join(map(repr, kwargs))}; expected filename, "
            "optimize_graph, traverse or format"
        )
    if filename is not None:
        check_filename(f"{filename}.{format}" if format else filename)
    found = _Found()
    for arg in args:
        found.take_out(arg, traverse)
    if found.collections:
        graph, _ = _lowered_here(found.collections)
        return draw(graph, filename)
    merged: dict[Any, Any] = {}
    for arg in args:
        if not isinstance(arg, Mapping):
            raise InvalidArgument(
                f"found a {type(arg).__qualname__} with nothing lazy in it; expected a collection, "
                "or a graph as a mapping from keys to tasks"
            )
        merged |= arg
    return draw(merged, filename)


class Computable:
    """The methods that every collection has.

    Subclasses have a static method ``__zcluster_lower__``; see `zcluster.collection.base`.
    """

    __slots__ = ()

    @hides_frames
    def compute(self, **kwargs: Any) -> Any:
        """Compute this collection; return its result. The options are those of `compute`."""
        (result,) = compute(self, traverse=False, **kwargs)
        return result

    @hides_frames
    def persist(self, **kwargs: Any) -> Any:
        """Compute this collection; return the like with its result in it. See `persist`."""
        (made,) = persist(self, traverse=False, **kwargs)
        return made

    def visualize(
        self, filename: Any = "mydask", *, optimize_graph: bool = False, **kwargs: Any
    ) -> Picture:
        """Draw this collection's graph; nothing is run. See `visualize`."""
        return visualize(
            self, filename=filename, optimize_graph=optimize_graph, traverse=False, **kwargs
        )

    @property
    def dask(self) -> Mapping[Key, Any]:
        """The graph, as a lazy mapping from keys to tasks."""
        graph, _ = _lowered_here([self])
        return GraphView(graph)
