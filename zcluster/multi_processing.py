"""An older spelling of `zcluster.multiprocessing`."""

from __future__ import annotations

from zcluster.multiprocessing import ProcessesRunner, close, get

__all__ = ["ProcessesRunner", "close", "get"]
