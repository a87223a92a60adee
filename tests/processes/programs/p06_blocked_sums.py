"""Blocked sums of random numbers, and an array and its transpose in other chunks."""
# mypy: ignore-errors

import sys

import zcluster.array as da
from zcluster.distributed import Client

if __name__ == "__main__":
    if "--client" in sys.argv:
        client = Client(n_workers=2, threads_per_worker=1, memory_limit="1GB")

    x = da.random.random(20, chunks=5)
    result = x.sum()
    print("partial sums and a tree:", result.visualize(filename=None).tasks)
    print("sum", float(result.compute()))

    x = da.random.random(size=(15, 15), chunks=(10, 5))
    print(x.chunks)
    result = (x + x.T).sum()
    print("both", float(result.compute()), 2 * float(x.sum().compute()))

    if "--client" in sys.argv:
        client.restart()
        client.close()
