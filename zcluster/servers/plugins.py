"""Plugins of a worker: objects that set it up before it runs tasks.

A plugin reaches the node as an uploaded file, its pickle, below `PLUGINS`; so workers
that start later find it as well. It is loaded and set up in a thread of its own, as that
is code of the user; meanwhile the worker holds back what it is to run. A file of no bytes
takes a plugin away.
"""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from queue import SimpleQueue
from typing import Any
from urllib.parse import unquote

from zcluster.protocol.objects import load
from zcluster.servers.calls import WorkerView, current_worker
from zcluster.types import RunningTask, running_task

__all__ = ["PLUGINS", "Plugins"]

#: The folder of plugins among the uploaded files.
PLUGINS = ".plugins"


class Plugins:
    """The plugins of one worker.

    Parameters
    ----------
    view : WorkerView
        What they are given.
    on_idle : callable
        Called in the plugins' thread when all have been set up.
    """

    def __init__(self, view: WorkerView, on_idle: Callable[[], Any]) -> None:
        self._view = view
        self._on_idle = on_idle
        self._queue: SimpleQueue[tuple[str, Path, _Outcome] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._outcomes: dict[str, _Outcome] = {}
        self._loaded: dict[str, tuple[bytes, Any]] = {}
        #: How many are being set up: counted up by the loop's thread, down by the plugins'.
        self._begun = self._ended = 0

    @property
    def is_busy(self) -> bool:
        """Whether a plugin is still being set up."""
        return self._begun > self._ended

    def take(self, folder: str, paths: list[str]) -> None:
        """Set up, set up anew, or take away the plugins among some uploaded files."""
        for path in paths:
            parts = PurePosixPath(path).parts
            if len(parts) != 2 or parts[0] != PLUGINS:
                continue
            name = unquote(parts[1])
            outcome = self._outcomes[name] = _Outcome()
            self._begun += 1
            self._queue.put((name, Path(folder, path), outcome))
            if self._thread is None:
                thread_name = f"{self._view.name}-plugins"
                self._thread = threading.Thread(target=self._serve, name=thread_name, daemon=True)
                self._thread.start()

    def outcome(self, name: str) -> None:
        """Wait until a plugin is set up or gone, and raise what that raised."""
        found = self._outcomes.get(name)
        if found is not None:
            found.ready.wait()
            if found.error is not None:
                raise found.error

    def close(self) -> None:
        """End the thread."""
        if self._thread is not None:
            self._queue.put(None)

    def _serve(self) -> None:
        running_task.set(RunningTask(-1, self._view.name, self._view.scheduler))
        current_worker.set(self._view)
        while (entry := self._queue.get()) is not None:
            name, path, outcome = entry
            try:
                self._change(name, path.read_bytes())
            except BaseException as error:  # SystemExit too: the worker lives
                # Nobody may ask: workers that come later set up by themselves.
                traceback.print_exc()
                outcome.error = error
            self._ended += 1
            outcome.ready.set()
            if not self.is_busy:
                self._on_idle()

    def _change(self, name: str, data: bytes) -> None:
        before, plugin = self._loaded.get(name, (b"", None))
        if before == data:
            return
        if plugin is not None:
            del self._loaded[name]
            if hasattr(plugin, "teardown"):
                plugin.teardown(self._view)
        if data:
            plugin = load(bytearray(data))
            plugin.setup(self._view)
            self._loaded[name] = data, plugin


class _Outcome:
    """What came of setting up a plugin."""

    def __init__(self) -> None:
        self.ready = threading.Event()
        self.error: BaseException | None = None
