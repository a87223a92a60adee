"""One delayed estimate of pi: a picture with one task, then a tuple with one result."""
# mypy: ignore-errors

import sys

import numpy as np

import zcluster as dask
from zcluster.distributed import Client


def calculate_pi(size_in_bytes):
    """Estimate pi from as many random positions as fit into so many bytes."""
    rand_array_shape = (int(size_in_bytes / 8 / 2), 2)

    # random positions (x, y) in the unit square
    xy = np.random.uniform(low=0.0, high=1.0, size=rand_array_shape)

    # those in the quarter circle
    xy_inside_circle = (xy**2).sum(axis=1) < 1

    pi = 4 * xy_inside_circle.sum() / xy_inside_circle.size

    print(f"\nfrom {xy.nbytes / 1e9} GB randomly chosen positions")
    print(f" pi estimate: {pi}")
    print(f" pi error: {abs(pi - np.pi)}")
    return pi


if __name__ == "__main__":
    if "--client" in sys.argv:
        client = Client(n_workers=2, threads_per_worker=2, memory_limit="1GB")

    dask_calpi = dask.delayed(calculate_pi)(10000)
    picture = dask.visualize(dask_calpi)
    print("drawn, not run:", picture.tasks)

    result = dask.compute(dask_calpi)
    print("result", type(result).__name__, len(result), float(result[0]))

    if "--client" in sys.argv:
        client.close()
