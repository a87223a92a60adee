"""Random arrays are the same in other processes, and on the workers of a cluster."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest

from zcluster.array import random
from zcluster.array.core import Array
from zcluster.client.client import Client

pytestmark = pytest.mark.processes

_PROGRAM = """
import hashlib
from zcluster.array import random

generator = random.default_rng(5)
for array in (
    generator.random((300, 200), chunks=70),
    generator.poisson(3.0, (50, 40), chunks=11),
    generator.multivariate_normal([1.0, 2.0], [[2.0, 1.0], [1.0, 3.0]], 500, chunks=99),
    generator.choice(100_000, 1000, replace=False, chunks=300),
    generator.choice(5, 100, p=[0.1, 0.2, 0.3, 0.2, 0.2]),
):
    found = array.compute(scheduler="sync")
    print(array.name, hashlib.sha256(found.tobytes()).hexdigest())
"""


def test_two_processes_draw_the_same() -> None:
    """Names and values, whatever their hash seeds."""
    outputs = []
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", _PROGRAM],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        outputs.append(done.stdout)
    assert outputs[0] == outputs[1]
    array = random.default_rng(5).random((300, 200), chunks=70)
    digest = hashlib.sha256(array.compute(scheduler="sync").tobytes()).hexdigest()
    assert outputs[0].splitlines()[0] == f"{array.name} {digest}"


def test_workers_draw_the_same_as_this_process() -> None:
    """In other chunks, twice, and with lazy parameters."""

    def arrays(chunks: int) -> list[Array]:
        generator = random.default_rng(5)
        scale = generator.uniform(1, 2, (300, 200), chunks=chunks)
        return [scale, generator.gamma(2.0, scale, chunks=chunks), generator.permutation(scale)]

    here = [array.compute(scheduler="sync") for array in arrays(300)]
    with Client(n_workers=2, threads_per_worker=1) as client:
        for chunks in (64, 150):
            made = arrays(chunks)
            for _ in range(2):
                found = [future.result() for future in client.compute(made)]
                assert all(map(np.array_equal, found, here))
