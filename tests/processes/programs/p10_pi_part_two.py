"""Pi from an array that is larger than all workers' memory. The size is the first argument."""
# mypy: ignore-errors

import sys
import time

import numpy as np

import zcluster.array as da
from zcluster.distributed import Client


def calculate_pi(size_in_bytes):
    """Estimate pi; the array is in 40 chunks."""
    array_shape = (int(size_in_bytes / 8 / 2), 2)
    chunk_size = int(array_shape[0] / 40)
    print(chunk_size)

    xy = da.random.uniform(low=0.0, high=1.0, size=array_shape, chunks=(chunk_size, 2))
    print("Created xy")
    print(f"Number of partitions/chunks is {xy.numblocks}")

    in_circle = (xy**2).sum(axis=-1) < 1
    pi = 4 * in_circle.mean()
    return pi.compute()


if __name__ == "__main__":
    client = Client(n_workers=5, threads_per_worker=1, memory_limit="2GB")
    print(client)
    begin = time.time()
    estimate = calculate_pi(float(sys.argv[1]) if len(sys.argv) > 1 else 100e9)
    print(f"pi estimate: {estimate} error: {abs(estimate - np.pi)}")
    print(f"time taken is {time.time() - begin}")
    client.close()
