"""A call's arguments as a short text, for the error of a task that failed.

No code of the user runs for it and nothing large is looked through: values of the plain types
are shown, arrays and frames by type and shape, everything else by its type.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

from zcluster.protocol.calls import (
    CALL_INPUTS,
    CALL_PACKED,
    CALL_ROW,
    CALL_SINGLE,
    unpack_arguments,
)
from zcluster.protocol.objects import load_private

__all__ = ["ARGUMENTS_LIMIT", "show_arguments", "show_call"]

#: Characters of the whole text.
ARGUMENTS_LIMIT = 200
#: Items of a container, characters of a string, and levels of containers that are shown.
_ITEMS, _CHARACTERS, _LEVELS = 4, 30, 3
#: An integer with more bits is not written out.
_BITS = 128

_BRACKETS: dict[Any, str] = {list: "[]", tuple: "()", set: "{}", frozenset: "{}"}
#: Of these the repr is short, and no user's.
_PLAIN_MODULES = frozenset({"datetime", "decimal", "fractions", "pathlib", "uuid"})


def show_arguments(args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """Return the arguments of a call as people write them, at most `ARGUMENTS_LIMIT` long.

    Examples
    --------
    >>> show_arguments((1, "text" * 100, [1, 2, 3, 4, 5, 6]), {"key": {"a": object()}})
    "(1, 'texttexttexttexttexttexttextte…', [1, 2, 3, 4, …], key={'a': <object>})"
    """
    try:
        shown = [_show(value, _LEVELS) for value in islice(args, _ITEMS * 2)]
        if len(args) > len(shown):
            shown.append("…")
        shown += [f"{k}={_show(v, _LEVELS)}" for k, v in islice(kwargs.items(), _ITEMS * 2)]
        text = f"({', '.join(shown)})"
    except Exception as error:  # a class may lie about anything, even its name
        return f"(<arguments that cannot be shown: {type(error).__name__}>)"
    if len(text) > ARGUMENTS_LIMIT:
        return text[: ARGUMENTS_LIMIT - 2] + "…)"
    return text


def show_call(form: int, constant: Any, inputs: Sequence[Any] | None) -> str:
    """Return the arguments of a call that failed; empty where they are not at hand.

    Parameters
    ----------
    form : int
        Of the call, see `zcluster.protocol.calls`.
    constant : bytes-like or None
        The blob of its arguments. It is loaded once more: this is for tasks that failed.
    inputs : sequence or None
        The loaded inputs; None if they could not be loaded.
    """
    try:
        if form == CALL_SINGLE:
            return show_arguments((load_private(constant),), {})
        if inputs is None or form not in (CALL_INPUTS, CALL_PACKED, CALL_ROW):
            return ""
        if form == CALL_INPUTS:
            return show_arguments(inputs, {})
        if form == CALL_ROW:
            return show_arguments((_row(constant), *inputs), {})
        return show_arguments(*unpack_arguments(constant, inputs))
    except BaseException:  # loading them runs code of the user: it may be what failed
        return ""


def _row(constant: Any) -> Any:
    """Return the integers of a row of a table, or its bytes where they are no such row."""
    row = memoryview(b"" if constant is None else constant)
    return row.tobytes() if row.nbytes % 8 else row.cast("B").cast("q").tolist()


def _show(value: Any, levels: int) -> str:
    kind = type(value)
    if kind in (bool, float, complex, type(None), type(Ellipsis), range):
        return repr(value)
    if kind is int:
        return repr(value) if value.bit_length() <= _BITS else f"<int of {value.bit_length()} bits>"
    if kind in (str, bytes):
        cut = value[:_CHARACTERS]
        return repr(cut) if len(cut) == len(value) else f"{repr(cut)[:-1]}…{repr(cut)[-1]}"
    if kind is dict:
        pairs = islice(value.items(), _ITEMS)
        return _joined(
            [f"{_show(k, levels - 1)}: {_show(v, levels - 1)}" for k, v in pairs] if levels else [],
            len(value),
            "{}",
        )
    if kind in _BRACKETS:
        items = [_show(item, levels - 1) for item in islice(value, _ITEMS)] if levels else []
        return _joined(items, len(value), _BRACKETS[kind])
    if kind.__module__.partition(".")[0] in _PLAIN_MODULES:
        return repr(value)[: 2 * _CHARACTERS]
    return _of_type(value, kind)


def _joined(shown: list[str], length: int, brackets: str) -> str:
    more = ["…"] if length > len(shown) else []
    return brackets[0] + ", ".join(shown + more) + brackets[1]


def _of_type(value: Any, kind: type) -> str:
    name = kind.__qualname__
    if kind.__module__.partition(".")[0] in ("numpy", "pandas"):
        shape = getattr(value, "shape", None)
        if isinstance(shape, tuple):
            dtype = getattr(value, "dtype", "")
            return f"<{' '.join(filter(None, (name, str(shape), str(dtype))))}>"
    if isinstance(value, type) or kind.__name__ in ("function", "builtin_function_or_method"):
        name = str(getattr(value, "__qualname__", name))
    return f"<{name}>"
