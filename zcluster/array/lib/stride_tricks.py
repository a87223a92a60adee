"""What NumPy has below ``numpy.lib.stride_tricks``."""

from __future__ import annotations

from typing import Any

from zcluster.array.manipulation import broadcast_arrays, broadcast_to
from zcluster.array.missing import missing
from zcluster.array.windows import sliding_window_view

__all__ = ["broadcast_arrays", "broadcast_to", "sliding_window_view"]


def __getattr__(name: str) -> Any:
    raise missing(f"lib.stride_tricks.{name}")
