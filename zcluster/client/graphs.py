"""Whole graphs through a client: hand-written ones, and those of collections.

A client knows of collections one thing: that they have ``__zcluster_lower__``, which
turns several of a kind into one graph and a function that makes their results out of
the values of the graph's outputs (see `zcluster.collection`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from zcluster.client.future import Future
from zcluster.client.packing import make_options, records_of
from zcluster.client.waiting import DEEPEST, too_deep
from zcluster.core.client.records import Wanted
from zcluster.errors import InvalidArgument
from zcluster.graph.layers import DEFAULT_OPTIONS, Graph, LargeArgument, Options

if TYPE_CHECKING:
    from zcluster.client.client import Client

__all__ = ["compute_collections", "persist_collections", "started", "submit_graph", "wish"]

#: What Dask's functions take and nothing here needs.
_NEEDLESS = frozenset({"fifo_timeout", "num_workers", "optimize_graph", "sync", "traverse"})

_CONTAINERS = (list, tuple, set, frozenset, dict)

#: From the values of a graph's outputs to the results of the collections.
Rebuild: TypeAlias = Callable[[Sequence[Any]], list[Any]]
Lower: TypeAlias = Callable[[Sequence[Any]], tuple[Graph, Rebuild]]


def submit_graph(client: Client, graph: Graph) -> list[Future]:
    """Submit a graph; return the futures of its outputs, in order.

    The graph may import futures of this client and large arguments.
    """
    imports: list[Wanted | bytes] = []
    for item in graph.imports:
        if isinstance(item, LargeArgument):
            imports.append(item.plan.tobytes())
        else:
            imports += records_of((item,), client)

    def name_of(number: int) -> str:
        return str(graph.key(number))

    engine = client._engine
    for layer in graph.layers:
        if layer.function is not None:
            engine.ship_for(layer.function, layer.constants)
    with engine.lock:
        engine.check_usable()
        records = engine.core.add_graph(graph, imports, name_of)
    engine.wake()
    return [Future(client, record) for record in records]


def wish(client: Client, graph: Graph, wishes: Mapping[str, Any]) -> None:
    """Have all tasks of a graph run as wished; what a task wishes itself comes first.

    Raises
    ------
    InvalidArgument
        For a wish that nobody knows or that cannot be meant.
    UnknownWorker
        For a name that no worker has.
    """
    given = {name: value for name, value in wishes.items() if name not in _NEEDLESS}
    if not given:
        return
    options = make_options(client._engine.core.nodes, given)
    for layer in graph.layers:
        mine = layer.options
        if mine is DEFAULT_OPTIONS:
            layer.options = options
        elif mine != options:
            layer.options = Options(
                mine.workers or options.workers,
                mine.allow_other_workers if mine.workers else options.allow_other_workers,
                mine.retries or options.retries,
                mine.priority or options.priority,
                mine.needs or options.needs,
            )


def compute_collections(
    client: Client, collections: Any, sync: bool, wishes: Mapping[str, Any]
) -> Any:
    """Compute collections; return futures of their results, or with ``sync`` the results.

    Parameters
    ----------
    collections : collection, or list, tuple or set of them
        Another container with collections in it, at any depth, gives one result. Other
        objects pass through.
    wishes : mapping
        As for `Client.submit`, for all tasks.
    """
    if not isinstance(collections, list | tuple | set | frozenset):
        return compute_collections(client, [collections], sync, wishes)[0]
    items = list(collections)
    results: list[Any] = list(items)
    for place, item in enumerate(items):
        lazy = _lazy_in(item) if wishes.get("traverse", True) else []
        if lazy:
            futures = compute_collections(client, lazy, False, wishes)
            parts: dict[int, Any] = dict(zip(map(id, lazy), futures, strict=True))
            whole = client.submit(_same, _replaced(item, parts), pure=False)
            results[place] = client.gather(whole) if sync else whole
    for places, futures, rebuild in _submitted(client, items, wishes):
        if sync:
            made = rebuild(client.gather(futures))
        else:
            made = _rebuilt_there(client, futures, rebuild, len(places))
        if len(made) != len(places):
            raise InvalidArgument(
                f"{len(places)} collections of type {type(items[places[0]]).__name__} gave "
                f"{len(made)} results; __zcluster_lower__ has to return one for each"
            )
        for place, result in zip(places, made, strict=True):
            results[place] = result
    return results


def started(client: Any, inputs: Sequence[Any]) -> Sequence[Any]:
    """Return the inputs of a call with a future in the place of each lazy collection.

    Whoever asks holds what is returned until the call is submitted.
    """
    lazy = [item for item in inputs if _is_lazy(item)]
    if not lazy:
        return inputs
    futures = iter(compute_collections(client, lazy, False, {}))
    return [next(futures) if _is_lazy(item) else item for item in inputs]


def persist_collections(client: Client, collections: Any, wishes: Mapping[str, Any]) -> Any:
    """Start computing collections; return the like, made of the futures of their parts."""
    if not isinstance(collections, list | tuple):
        return persist_collections(client, [collections], wishes)[0]
    items = list(collections)
    results: list[Any] = list(items)
    for places, futures, rebuild in _submitted(client, items, wishes):
        made = rebuild.kept(futures)  # type: ignore[attr-defined]
        for place, result in zip(places, made, strict=True):
            results[place] = result
    return type(collections)(results)


def _submitted(
    client: Client, items: list[Any], wishes: Mapping[str, Any]
) -> list[tuple[list[int], list[Future], Rebuild]]:
    """Submit collections, those of a kind together; return where each kind stands."""
    kinds: dict[Lower, list[int]] = {}
    for place, item in enumerate(items):
        lower = getattr(type(item), "__zcluster_lower__", None)
        if lower is not None:
            kinds.setdefault(lower, []).append(place)
    submitted = []
    for lower, places in kinds.items():
        graph, rebuild = lower([items[place] for place in places])
        wish(client, graph, wishes)
        submitted.append((places, submit_graph(client, graph), rebuild))
    return submitted


def _rebuilt_there(
    client: Client,
    futures: list[Future],
    rebuild: Rebuild,
    count: int,
) -> list[Future]:
    """Return one future for each collection, made of the futures of its parts."""
    picked = _picked(rebuild, futures)
    if picked is not None:
        return picked
    whole = client.submit(rebuild, futures, pure=False)
    return [client.submit(_item, whole, place, pure=False) for place in range(count)]


def _picked(rebuild: Rebuild, futures: list[Future]) -> list[Future] | None:
    """Return the collections' futures if results are just picked from the parts.

    That is found out by trying it on things that are nothing else.
    """
    probes = [object() for _ in futures]
    places = {id(probe): place for place, probe in enumerate(probes)}
    try:
        made = [places.get(id(item)) for item in rebuild(probes)]
    except Exception:  # it wanted real values: then it does something with them
        return None
    picked = [futures[place] for place in made if place is not None]
    return picked if len(picked) == len(made) else None


def _is_lazy(value: object) -> bool:
    return hasattr(type(value), "__zcluster_lower__")


def _lazy_in(container: Any) -> list[Any]:
    """Return the collections in a container, at any depth; none of what is no container."""
    found = []
    stack = [container] if isinstance(container, _CONTAINERS) else []
    seen: set[int] = set()
    while stack:
        value = stack.pop()
        if _is_lazy(value):
            found.append(value)
        elif isinstance(value, _CONTAINERS) and id(value) not in seen:
            seen.add(id(value))
            stack += value.values() if isinstance(value, dict) else value
    return found


def _replaced(value: Any, parts: dict[int, Any], depth: int = 0) -> Any:
    """Return a container of the same shape with futures in the places of collections.

    What became of each object is put into ``parts``, by its id.
    """
    if id(value) in parts:
        return parts[id(value)]
    if type(value) not in _CONTAINERS:
        return value
    if depth > DEEPEST:
        raise too_deep(value)
    if type(value) is dict:
        made: Any = {key: _replaced(item, parts, depth + 1) for key, item in value.items()}
    else:
        made = type(value)(_replaced(item, parts, depth + 1) for item in value)
    parts[id(value)] = made
    return made


def _same(value: Any) -> Any:
    return value


def _item(values: Sequence[Any], place: int) -> Any:
    return values[place]
