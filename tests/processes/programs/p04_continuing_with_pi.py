"""Five sizes in turn with NumPy alone, then at once on five workers of one thread each."""
# mypy: ignore-errors

import time

import numpy as np

import zcluster as dask
from zcluster.distributed import Client

GB = 1e9 / 100  # a hundredth of the real sizes, which want 25 GB of memory


def calculate_pi(size_in_bytes):
    """Estimate pi from as many random positions as fit into so many bytes."""
    rand_array_shape = (int(size_in_bytes / 8 / 2), 2)
    xy = np.random.uniform(low=0.0, high=1.0, size=rand_array_shape)
    xy_inside_circle = (xy**2).sum(axis=1) < 1
    pi = 4 * xy_inside_circle.sum() / xy_inside_circle.size

    print(f"\nfrom {xy.nbytes / 1e9} GB randomly chosen positions")
    print(f" pi estimate: {pi}")
    print(f" pi error: {abs(pi - np.pi)}")
    return pi


if __name__ == "__main__":
    start = time.time()
    for i in range(5):
        calculate_pi(GB * (i + 1))
    end = time.time()
    print(f"time taken for nupmy is {end - start}")

    client = Client(n_workers=5, threads_per_worker=1, memory_limit="50GB")
    print(client)

    start = time.time()
    results = []
    for i in range(5):
        dask_calpi = dask.delayed(calculate_pi)(GB * (i + 1))
        results.append(dask_calpi)
    dask.compute(*results)
    end = time.time()
    print(f"time taken for dask w5/t1 is {end - start}")

    client.close()
