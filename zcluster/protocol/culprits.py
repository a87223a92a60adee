"""Naming the part of a value that cannot be pickled.

"cannot pickle '_thread.lock' object" helps nobody who passed a model with forty attributes. So
when pickling a value has failed, its parts are pickled one by one, going down into the first that
fails, and the error names the path: ``args[0].cache.lock: _thread.lock``. This costs time, but
only where an error is coming anyway, and it is bounded in depth, width and tries.
"""

from __future__ import annotations

import types
from collections.abc import Iterator
from functools import partial
from itertools import islice
from typing import Any

from zcluster.errors import NotSerializable

__all__ = ["refusal"]

# Types whose repr is short or can be cut, and runs no code of the user's.
_PLAIN = frozenset({int, float, bool, type(None), str, bytes})


def refusal(error: BaseException, roots: dict[str, Any]) -> NotSerializable:
    """Make the error for values that cannot be pickled, naming the path to the bad part.

    Parameters
    ----------
    error : BaseException
        What pickling raised.
    roots : dict
        Where to look, by the name it shall have in the message.
    """
    path, culprit = _find_culprit(roots)
    kind = type(culprit)
    name = kind.__qualname__
    if kind.__module__ != "builtins":
        name = f"{kind.__module__}.{name}"
    return NotSerializable(
        f"cannot be pickled: {path}: {name} ({type(error).__name__}: {error}). "
        "Make it inside the task that uses it, pass what it is made from, or leave it out in "
        "the __getstate__ of the class that holds it."
    )


def _find_culprit(roots: dict[str, Any]) -> tuple[str, Any]:
    """Descend to the deepest part that fails by itself; bounded in depth, width and tries."""
    path, culprit = next(iter(roots.items()))
    children: Iterator[tuple[str, Any]] = iter(roots.items())
    seen: set[int] = set()
    tries = 1000
    for _ in range(20):
        for name, child in islice(children, 1000):
            tries -= 1
            if tries < 0:
                return path, culprit
            if id(child) not in seen and _fails(child):
                seen.add(id(child))
                path, culprit = name, child
                break
        else:
            break
        children = _children(path, culprit)
    return path, culprit


class _Null:
    def write(self, data: bytes) -> None:
        """Forget the data."""


def _fails(value: object) -> bool:
    # Imported here: it takes 20 ms, and most processes never need it.
    import cloudpickle

    try:
        cloudpickle.Pickler(_Null(), 5, buffer_callback=lambda _: False).dump(value)
    except Exception:
        return True
    return False


def _children(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the parts of a value that pickling it would pickle, with their paths."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield f"{path}[{_label(key)}]", item
            yield f"{path}, key {_label(key)}", key
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield f"{path}[{index}]", item
    elif isinstance(value, set | frozenset):
        for item in value:
            yield f"{path}, element {_label(item)}", item
    elif isinstance(value, partial):
        yield f"{path}.func", value.func
        yield f"{path}.args", value.args
        yield f"{path}.keywords", value.keywords
    elif isinstance(value, types.MethodType):
        yield f"{path}.__self__", value.__self__
    elif isinstance(value, types.FunctionType):
        for name, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=False):
            yield f"{path}.{name}", _cell_content(cell)
        for name in value.__code__.co_names:
            if name in value.__globals__:
                yield f"{path}.{name}", value.__globals__[name]
    if not isinstance(value, type | types.FunctionType | types.ModuleType):
        for name, item in dict(getattr(value, "__dict__", None) or {}).items():
            yield f"{path}.{name}", item
        for base in type(value).__mro__:
            slots = base.__dict__.get("__slots__", ())
            for name in (slots,) if isinstance(slots, str) else slots:
                if hasattr(value, name):
                    yield f"{path}.{name}", getattr(value, name)


def _label(key: object) -> str:
    """Return a short name; the repr of a stranger's class is not to be trusted here."""
    if type(key) in _PLAIN:
        return f"{key!r:.40}"
    return f"<{type(key).__qualname__}>"


def _cell_content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not assigned yet
        return None
