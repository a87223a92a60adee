"""The thread that runs the callbacks of futures.

Callbacks are user code: they may take long, raise, or wait for other futures. None
of that may hold up the loop thread, so they have one thread of their own for each
client (and one for each executor, whose futures may be waited for in callbacks), started
with the first callback.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from typing import Any

__all__ = ["Callbacks"]

_log = logging.getLogger(__name__)


class Callbacks:
    """Runs calls one after the other in a thread of its own."""

    def __init__(self, name: str = "zcluster-callbacks") -> None:
        self._name = name
        self._queue: queue.SimpleQueue[tuple[Callable[[Any], Any], Any] | None] = (
            queue.SimpleQueue()
        )
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def start(self) -> None:
        """Start the thread unless it runs."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()

    def call(self, function: Callable[[Any], Any], argument: Any) -> None:
        """Have a function called; `start` must have been."""
        self._queue.put((function, argument))

    def stop(self) -> None:
        """End the thread once it has made the calls it was given."""
        self._queue.put(None)

    def join(self, seconds: float) -> None:
        """Wait for the thread's end, unless this is it."""
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(seconds)

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            function, argument = item
            try:
                function(argument)
            except Exception:
                _log.exception("a future's callback %r failed", function)
            del item, function, argument  # a future must not live on because it was the last
