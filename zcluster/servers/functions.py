"""The callables a worker has been sent, by the hash of their bytes.

The nanny knows what its worker has, sends each callable once and says what to forget;
so nothing is dropped here that was not discarded. A callable is unpickled by the first
slot that needs it, not by the loop's thread: that may import half of PyPI.
"""

from __future__ import annotations

import inspect
import platform
import sys
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, NoReturn

from zcluster.errors import InvariantError
from zcluster.protocol.callables import load_callable

__all__ = ["Functions"]


class Functions:
    """Callables by digest; used by all slots of a worker.

    Parameters
    ----------
    worker : str
        The worker's name, for what is said when a callable cannot be loaded.
    """

    def __init__(self, worker: str) -> None:
        self._worker = worker
        self._data: dict[bytes, bytes] = {}
        self._loaded: dict[bytes, Callable[..., Any]] = {}

    def __len__(self) -> int:
        return len(self._data)

    def put(self, digest: bytes, data: bytes) -> None:
        """Take in a callable's bytes."""
        self._data[digest] = data

    def get(self, digest: bytes) -> Callable[..., Any]:
        """Return a callable; if it cannot be loaded, one that raises why.

        So a failure is the failure of each task that calls it, and of nothing else.
        """
        function = self._loaded.get(digest)
        if function is not None:
            return function
        data = self._data.get(digest)
        try:
            if data is None:
                raise InvariantError(
                    f"callable {digest.hex()} was never sent to worker {self._worker}, or was "
                    "discarded before this task; expected it with or before the run"
                )
            function = load_callable(data)
        except BaseException as error:  # an import may raise anything, SystemExit too
            return self._raising(error)
        if inspect.iscoroutinefunction(function):
            function = _ran_to_its_end(function)
        # Two slots may have loaded it at once: the first object is kept, so that state in
        # the callable is one per worker.
        return self._loaded.setdefault(digest, function)

    def unload(self) -> None:
        """Load all callables anew when next asked for: their modules have changed."""
        self._loaded.clear()

    def discard(self, digests: Iterable[bytes]) -> None:
        """Forget callables; unknown ones are ignored."""
        for digest in digests:
            self._data.pop(digest, None)
            self._loaded.pop(digest, None)

    def _raising(self, error: BaseException) -> Callable[..., NoReturn]:
        error.add_note(
            f"While the task's function was loaded in worker {self._worker} "
            f"(Python {platform.python_version()}, sys.path {sys.path})."
        )
        trace = error.__traceback__

        def fail(*_: object, **__: object) -> NoReturn:
            raise error.with_traceback(trace)

        return fail


def _ran_to_its_end(function: Callable[..., Coroutine[Any, Any, Any]]) -> Callable[..., Any]:
    """Return what calls a coroutine function in an event loop of its own."""

    def call(*args: Any, **kwargs: Any) -> Any:
        # Imported here: few tasks need it, and it is long.
        import asyncio

        return asyncio.run(function(*args, **kwargs))

    return call
