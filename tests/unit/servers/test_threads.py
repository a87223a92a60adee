"""How many threads libraries compute with inside a task."""

from __future__ import annotations

import os

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from zcluster.servers.threads import default_to_one_thread, thread_limit


def blas_threads() -> set[int]:
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


def test_a_limit_holds_in_its_block_and_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    np.dot(np.ones((8, 8)), np.ones((8, 8)))
    before = blas_threads()
    with thread_limit(2):
        assert os.environ["OMP_NUM_THREADS"] == "2"
        assert blas_threads() <= {2}
    assert os.environ["OMP_NUM_THREADS"] == "7"
    assert blas_threads() == before


def test_a_limit_ends_with_an_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    with pytest.raises(KeyError), thread_limit(3):
        raise KeyError
    assert "OMP_NUM_THREADS" not in os.environ


def test_one_thread_is_the_default_unless_the_user_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    default_to_one_thread()
    assert os.environ["OMP_NUM_THREADS"] == "3"
    assert "MKL_NUM_THREADS" not in os.environ
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setenv("MKL_NUM_THREADS", "2")
    default_to_one_thread()
    assert os.environ["OMP_NUM_THREADS"] == os.environ["OPENBLAS_NUM_THREADS"] == "1"
    assert os.environ["MKL_NUM_THREADS"] == "2"
