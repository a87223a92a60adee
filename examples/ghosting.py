"""Ghosting: functions that need the neighbours of an element, on an array in blocks.

Three steps of heat flow on a periodic plate, a sliding maximum, and the slope of a curve; each is
compared with the same on one NumPy array. Run it with ``python examples/ghosting.py``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import zcluster.array as da
from zcluster.distributed import Client


def flow(block: Any) -> Any:
    """Return the plate a moment later: a fifth of itself and of each of its four neighbours."""
    neighbours = [np.roll(block, shift, axis) for shift in (1, -1) for axis in (0, 1)]
    return (block + sum(neighbours)) / 5


def sliding_maximum(block: Any) -> Any:
    """Return the maximum over five places around each."""
    return np.maximum.reduce([np.roll(block, shift) for shift in range(-2, 3)])


def heat() -> bool:
    plate = np.random.default_rng(1).random((1_000, 1_000))
    lazy, expected = da.from_array(plate, chunks=(250, 500)), plate
    for _ in range(3):
        lazy = da.map_overlap(flow, lazy, depth=1, boundary="periodic")
        expected = flow(expected)
    print(lazy)
    return bool(np.array_equal(lazy.compute(), expected))


def maximum() -> bool:
    curve = np.sin(np.linspace(0, 20, 100_000)) ** 3
    lazy = da.map_overlap(
        sliding_maximum, da.from_array(curve, 10_000), depth=2, boundary="nearest"
    )
    grown = np.pad(curve, 2, mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(grown, 5)
    return bool(np.array_equal(lazy.compute(), windows.max(axis=1)))


def slope() -> bool:
    curve = np.linspace(0, 3, 10_000) ** 2
    return bool(np.allclose(da.gradient(da.from_array(curve, 1_000)).compute(), np.gradient(curve)))


def main() -> None:
    with Client(n_workers=2, threads_per_worker=1, memory_limit="1GB"):
        print("heat flow, three steps: equal", heat())
        print("sliding maximum: equal", maximum())
        print("slope: equal", slope())


if __name__ == "__main__":
    main()
