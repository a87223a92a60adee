"""What an executor or a pool has workers call in place of a user's function.

Workers import this, so it loads nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

__all__ = ["run_call", "run_chunk"]


def run_call(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Make a call with keywords that the client would take for its own.

    >>> run_call(max, (1, 2), {"key": abs})
    2
    """
    return function(*args, **kwargs)


def run_chunk(function: Callable[..., Any], rows: Iterable[tuple[Any, ...]]) -> list[Any]:
    """Make several calls in one task.

    >>> run_chunk(pow, [(2, 3), (3, 2)])
    [8, 9]
    """
    return [function(*row) for row in rows]
