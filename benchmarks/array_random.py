"""What random numbers cost that do not depend on chunks: a block, beside NumPy's default generator.

A block of 1000 x 1000 of an array of 10,000 x 10,000, drawn in this process without any graph.
NumPy draws an array of that shape from one stream. The last measure has an array of prime lengths,
where no border of a block is one of the cells that zcluster draws.
"""

from __future__ import annotations

import importlib
import os
import statistics
import sys
from collections.abc import Callable
from typing import Any

from common import Contestant, check, timed
from rounds import run
from table import Row

SIDE = 1000
#: By measure, the method, its parameters, and the side of the whole array.
DRAWS: dict[str, tuple[str, tuple[Any, ...], int]] = {
    "random, ns a value": ("random", (), 10_000),
    "uniform(2, 3), ns a value": ("uniform", (2.0, 3.0), 10_000),
    "standard_normal, ns a value": ("standard_normal", (), 10_000),
    "integers(100), ns a value": ("integers", (0, 100), 10_000),
    "poisson(3), ns a value": ("poisson", (3.0,), 10_000),
    "random, blocks across cells": ("random", (), 9_973),
}


def measured(draws: dict[str, Callable[[], Any]], quick: bool) -> dict[str, float]:
    """Nanoseconds a value, the median of some blocks after a first one."""
    found = {}
    for measure, draw in draws.items():
        check(measure, draw().shape, (SIDE, SIDE))
        spent = [timed(draw)[0] for _ in range(3 if quick else 21)]
        found[measure] = statistics.median(spent) * 1e9 / SIDE**2
    return found


def with_zcluster(quick: bool) -> dict[str, float]:
    numpy = importlib.import_module("numpy")
    samplers = importlib.import_module("zcluster.array.random.samplers")
    draws = {}
    for measure, (name, parameters, side) in DRAWS.items():
        dtype = numpy.dtype(int if name in ("integers", "poisson") else float)
        draw = samplers.Draw(samplers.Method(name, parameters), (1, 2), (side, side), dtype)
        part = draw((3300, 5500), (20, 30))
        whole = draw((3000, 5000), (SIDE, SIDE))
        check(measure, (whole[300:320, 500:530] == part).all(), True)
        draws[measure] = lambda draw=draw: draw((3000, 5000), (SIDE, SIDE))
    return measured(draws, quick)


def with_numpy(quick: bool) -> dict[str, float]:
    generator = importlib.import_module("numpy").random.default_rng(1)
    return measured(
        {
            measure: lambda name=name, parameters=parameters: getattr(generator, name)(
                *parameters, size=(SIDE, SIDE)
            )
            for measure, (name, parameters, _) in DRAWS.items()
        },
        quick,
    )


CONTESTANTS = [Contestant("zcluster", with_zcluster), Contestant("numpy", with_numpy)]
BARS = {"random": 1.2, "standard_normal": 2.0}
ROWS = [
    Row(
        measure,
        digits=2,
        less_is_better=True,
        ratios={"numpy": BARS[name]} if name in BARS and side == 10_000 else {},
    )
    for measure, (name, _, side) in DRAWS.items()
]

if __name__ == "__main__":
    sys.exit(run(os.path.abspath(__file__), "array_random: a block", CONTESTANTS, ROWS))
