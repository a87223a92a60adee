"""What the tests of Dask's names share: one small cluster for each file.

The tests use no name that Dask lacks, so that with other imports they also run there.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from zcluster.distributed import Client


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with Client(n_workers=2, threads_per_worker=2, memory_limit="500MB") as made:
        yield made
