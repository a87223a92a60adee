"""What no history can see, each with the reason: the rest of the coverage is to be reached."""

from __future__ import annotations

from collections.abc import Mapping

from zcluster.testing.coverage import Arrow, Pair

__all__ = ["IMPOSSIBLE_ARROWS", "IMPOSSIBLE_PAIRS"]

#: Arrows that the code takes only by way of another state.
IMPOSSIBLE_ARROWS: Mapping[Arrow, str] = {}

#: Messages that never find their tasks in such a state.
IMPOSSIBLE_PAIRS: Mapping[Pair, str] = {}
