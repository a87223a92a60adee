"""``zcluster simulate``: the pretend cluster, from the command line."""

from __future__ import annotations

from zcluster.testing.command import simulate

__all__ = ["simulate"]
