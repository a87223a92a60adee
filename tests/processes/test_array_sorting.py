"""Reductions, sorts and sets on a cluster: partial results are pickled, and cut by bytes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from zcluster.array import (
    argmax,
    argsort,
    cumsum,
    histogram,
    mean,
    median,
    nanquantile,
    sort,
    std,
    topk,
    unique,
)
from zcluster.array.core import from_numpy
from zcluster.client.client import Client
from zcluster.collection.compute import compute

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """Two workers of one thread."""
    with Client(n_workers=2, threads_per_worker=1) as client:
        yield client


def test_sorts(client: Client) -> None:
    """Parts of runs and of buckets move alone; results are those of NumPy."""
    rng = np.random.default_rng(0)
    a = np.where(rng.random(200_000) < 0.3, 7.0, rng.pareto(0.5, 200_000))
    x = from_numpy(a, 15_000)
    ordered, order, some = compute(sort(x), argsort(x), sort(x)[-5:])
    np.testing.assert_array_equal(ordered, np.sort(a))
    np.testing.assert_array_equal(order, np.argsort(a, kind="stable"))
    np.testing.assert_array_equal(some, np.sort(a)[-5:])


def test_small_blocks(client: Client) -> None:
    """Results that are small enough to travel in reports are cut as well."""
    a = np.random.default_rng(1).integers(0, 9, 100)
    x = from_numpy(a, 9)
    ordered, found, counts = compute(sort(x), *unique(x, return_counts=True))
    np.testing.assert_array_equal(ordered, np.sort(a))
    expected = np.unique(a, return_counts=True)
    np.testing.assert_array_equal(found, expected[0])
    np.testing.assert_array_equal(counts, expected[1])


def test_reductions(client: Client) -> None:
    """Partial results are tuples of arrays, and come through as such."""
    a = np.random.default_rng(2).random((300, 400))
    a[5, 7] = np.nan
    x = from_numpy(a, 70)
    made = [
        std(x[10:], 0),
        mean(x[10:], where=x[10:] > 0.5),
        argmax(x[10:]),
        cumsum(x, 1),
        topk(x[10:], 3, 0),
        histogram(x[10:], 10)[0],
        median(x[10:]),
        nanquantile(x, [0.1, 0.9]),
    ]
    b = a[10:]
    expected = [
        b.std(0),
        b.mean(where=b > 0.5),
        b.argmax(),
        np.cumsum(a, 1),
        np.sort(b, 0)[:-4:-1],
        np.histogram(b, 10)[0],
        np.median(b),
        np.nanquantile(a, [0.1, 0.9]),
    ]
    for found, wanted in zip(compute(*made), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-12)
