"""From the arguments of ``submit`` and ``map`` to what the core takes.

Everything is frozen here, in the user's thread and before ``submit`` returns: the
callable and its arguments are bytes afterwards, and whatever cannot be sent is
refused with the call still on the stack.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import CancelledError
from hashlib import blake2b
from typing import Any

from zcluster.client.future import Future
from zcluster.core.client.records import Wanted
from zcluster.core.client.states import State
from zcluster.errors import InvalidArgument, NotCallable, NotSerializable, UnknownWorker
from zcluster.graph.annotations import current_options, options_from, worker_names
from zcluster.graph.layers import Options
from zcluster.protocol.callables import Packed, callable_name, pack_callable
from zcluster.protocol.calls import CALL_SINGLE, PackedCall
from zcluster.protocol.frames import FRAME_LIMIT
from zcluster.protocol.messages import NodeInfo
from zcluster.protocol.tokens import tokenize

__all__ = [
    "check_callable",
    "key_text",
    "make_options",
    "nodes_of",
    "pack_function",
    "pure_key",
    "records_of",
    "unknown_worker",
    "worker_names",
]

#: A task's inputs all stand in one message.
_MOST_INPUTS = 400_000
_FUNCTION_LIMIT = FRAME_LIMIT - (1 << 20)
#: Characters. The keys of a layer travel together in one message, which is bounded.
_KEY_LIMIT = 1000

_names: dict[bytes, str] = {}
_MOST_NAMES = 10_000
_LONGEST_NAME = 200


def check_callable(function: object) -> None:
    """Raise `NotCallable` unless a function can be called."""
    if not callable(function):
        raise NotCallable(
            f"found {type(function).__name__} {function!r:.80} as the function, expected a "
            "callable; submit(f, x) takes the function and its arguments apart, not submit(f(x))"
        )


def pack_function(function: Callable[..., Any]) -> tuple[str, Packed]:
    """Return a callable's name and bytes."""
    packed = pack_callable(function)
    name = _names.get(packed.digest)
    if name is None:
        if len(packed.data) > _FUNCTION_LIMIT:
            raise NotSerializable(
                f"function {callable_name(function)} has {len(packed.data)} bytes with what it "
                f"closes over, expected at most {_FUNCTION_LIMIT}; give the data as an argument"
            )
        if len(_names) >= _MOST_NAMES:
            _names.clear()
        # It begins every key, so it is cut where somebody made it very long.
        name = _names[packed.digest] = callable_name(function)[:_LONGEST_NAME]
    return name, packed


def records_of(inputs: Iterable[Any], client: Any) -> list[Wanted]:
    """Return the records behind the inputs of a call, all of them futures of a client.

    Raises
    ------
    InvalidArgument
        If one is something else, another client's, or released.
    CancelledError
        If one was cancelled.
    """
    records = []
    for item in inputs:
        if not isinstance(item, Future):
            raise InvalidArgument(
                f"found a {type(item).__name__} among the arguments, which stands for a result "
                "that no client computes yet; pass client.compute(it) instead"
            )
        if item._client is not client:
            raise InvalidArgument(
                f"future {item.key} belongs to another client ({item._client!r}); pass its "
                "result, or submit the call with that client"
            )
        item._check_held()
        record = item._record
        if record.state is State.CANCELLED:
            raise CancelledError(f"task {item.key}, an argument of this call, was cancelled")
        records.append(record)
    if len(records) > _MOST_INPUTS:
        raise InvalidArgument(
            f"a call with {len(records)} futures among its arguments, expected at most "
            f"{_MOST_INPUTS}; combine them in steps"
        )
    return records


def key_text(key: object) -> str:
    """Return a key given by the user as text.

    Raises
    ------
    InvalidArgument
        If it cannot be a key, or is too long.
    """
    if isinstance(key, str) and key:
        return _checked(key)
    try:
        hash(key)
    except TypeError:
        raise InvalidArgument(
            f"key {key!r:.80} is not hashable, expected text, a number or a tuple of those"
        ) from None
    if not isinstance(key, tuple | int | float | bytes) or key == ():
        raise InvalidArgument(f"key is {key!r:.80}, expected text, a number or a tuple of those")
    return _checked(str(key))


def _checked(text: str) -> str:
    if len(text) > _KEY_LIMIT:
        raise InvalidArgument(
            f"key {text[:40]!r}… has {len(text)} characters, expected at most {_KEY_LIMIT}; "
            "give what is long as an argument, or its hash in the key"
        )
    return text


def pure_key(
    name: str, token: str, call: PackedCall, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> str:
    """Return the key that equal calls of a function share.

    Parameters
    ----------
    name, token : str
        The function's name and its token.
    """
    if call.form == CALL_SINGLE and call.constant is not None:
        # One plain value: its bytes are as good as a token, and are here already.
        return f"{name}-{blake2b(token.encode() + call.constant, digest_size=16).hexdigest()}"
    return f"{name}-{tokenize(token, args, kwargs)}"


def make_options(nodes: Mapping[int, NodeInfo], wishes: Mapping[str, Any]) -> Options:
    """Return how a call is to be run: its own wishes upon those of `annotate`.

    Raises
    ------
    InvalidArgument
        For a wish that cannot be meant.
    UnknownWorker
        For a name that no worker has.
    """
    base = current_options()
    options = options_from(wishes, base) if wishes else base
    known = tuple(name for name in options.workers if nodes_of(nodes, name))
    if known != options.workers:
        if not options.allow_other_workers:
            unknown = next(name for name in options.workers if name not in known)
            raise unknown_worker(nodes, unknown)
        options = options._replace(workers=known)  # they are a wish only
    return options


def nodes_of(nodes: Mapping[int, NodeInfo], name: str) -> tuple[int, ...]:
    """Return the nodes on which something has a name: a worker, the node or its host."""
    return tuple(
        index
        for index, node in nodes.items()
        if name in (node.name, node.host, node.data) or any(name == w.name for w in node.workers)
    )


def unknown_worker(nodes: Mapping[int, NodeInfo], name: str) -> UnknownWorker:
    """Return the error for a worker nobody has."""
    known = sorted(worker.name for node in nodes.values() for worker in node.workers)
    return UnknownWorker(
        f"no worker, node or host is called {name!r}; the workers are "
        f"{', '.join(known[:20]) or 'none yet'}{', …' if len(known) > 20 else ''}"
    )
