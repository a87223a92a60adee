"""Five delayed estimates of pi in one graph: one picture of all, then all results in order."""
# mypy: ignore-errors

import sys

import numpy as np

import zcluster as dask
from zcluster.distributed import Client


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
    if "--client" in sys.argv:
        client = Client(n_workers=2, threads_per_worker=2, memory_limit="1GB")

    results = []
    for i in range(5):
        dask_calpi = dask.delayed(calculate_pi)(10000 * (i + 1))
        results.append(dask_calpi)
    picture = dask.visualize(results)
    print("drawn, not run:", picture.tasks)

    values = dask.compute(*results)
    print("results", type(values).__name__, [float(value) for value in values])

    if "--client" in sys.argv:
        client.close()
