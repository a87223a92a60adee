"""What NumPy has below ``numpy.lib``."""

from __future__ import annotations

from zcluster.array.lib import stride_tricks

__all__ = ["stride_tricks"]
