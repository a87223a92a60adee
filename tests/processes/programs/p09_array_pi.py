"""Pi from a chunked array of random positions."""
# mypy: ignore-errors

import sys

import numpy as np

import zcluster.array as da
from zcluster.distributed import Client


def dask_calculate_pi(size_in_bytes, number_of_chunks):
    """Estimate pi from as many random positions as fit into so many bytes."""
    rand_array_shape = (int(size_in_bytes / 8 / 2), 2)
    chunk_size = int(rand_array_shape[0] / number_of_chunks)

    xy = da.random.uniform(low=0.0, high=1.0, size=rand_array_shape, chunks=chunk_size)
    print(xy)

    xy_inside_circle = (xy**2).sum(axis=1) < 1
    pi = 4 * xy_inside_circle.sum() / xy_inside_circle.size
    result = pi.compute()

    print(f"\nfrom {xy.nbytes / 1e9} GB randomly chosen positions")
    print(f"   pi estimate: {result}")
    print(f"   pi error: {abs(result - np.pi)}\n")
    return result


if __name__ == "__main__":
    if "--client" in sys.argv:
        client = Client(n_workers=2, threads_per_worker=1, memory_limit="1GB")
    value = dask_calculate_pi(10_000_000, 20)
    print(type(float(value)).__name__, np.ndim(value))
    if "--client" in sys.argv:
        client.close()
