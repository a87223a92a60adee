"""Linear algebra on a cluster: its tasks and what they hand on travel between processes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import zcluster.array as da
from zcluster import Client

pytestmark = pytest.mark.processes


def near(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(found.compute(), expected, rtol=1e-8, atol=1e-9)


def test_decompositions_and_solutions_are_the_same_on_a_cluster() -> None:
    """Blocks in several chunks, so that factors, orders of rows and reflections are sent around."""
    rng = np.random.default_rng(0)
    a = rng.standard_normal((300, 300)) + 10 * np.eye(300)
    definite = a @ a.T + 300 * np.eye(300)
    with Client(n_workers=2, threads_per_worker=1):
        x, y = da.from_array(a, chunks=80), da.from_array(definite, chunks=64)
        near(x @ x, a @ a)
        near(da.einsum("ij,kj,kl->il", x, x, x, optimize=True), a @ a.T @ a)
        near(da.linalg.cholesky(y, lower=True), np.linalg.cholesky(definite))
        near(da.linalg.solve(x, a[:, :5]), np.linalg.solve(a, a[:, :5]))
        near(da.linalg.solve(y, a[:, 0], assume_a="pos"), np.linalg.solve(definite, a[:, 0]))
        p, lower, upper = da.linalg.lu(x)
        near(p @ lower @ upper, a)
        for columns in (300, 20):
            q, r = da.linalg.qr(x[:, :columns])
            near(q @ r, a[:, :columns])
        near(da.linalg.svd(x[:, :30]).S, np.linalg.svdvals(a[:, :30]))
        near(da.linalg.slogdet(x).logabsdet, np.linalg.slogdet(a).logabsdet)
        kept = da.linalg.svd_compressed(x, 3, n_power_iter=20, seed=1, compute=True)
        np.testing.assert_allclose(kept.S.compute(), np.linalg.svdvals(a)[:3], rtol=1e-2)
