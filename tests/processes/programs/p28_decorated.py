"""Decorated functions: each z in turn, then a list of lazy values computed together."""
# mypy: ignore-errors

import sys
import time

import zcluster as dask
from zcluster.distributed import Client


@dask.delayed
def inc(x):
    time.sleep(0.02)
    return x + 1


@dask.delayed
def dec(x):
    time.sleep(0.02)
    return x - 1


@dask.delayed
def add(x, y):
    time.sleep(0.02)
    return x + y


def lazy(i):
    x = inc(i)
    y = dec(x)
    return add(x, y)


if __name__ == "__main__":
    if "--client" in sys.argv:
        client = Client(threads_per_worker=4, n_workers=1)

    start = time.time()
    results = []
    for i in range(20):
        z = lazy(i)
        results.append(z.compute())
    serial = time.time() - start
    print(results)

    start = time.time()
    together = dask.compute([lazy(i) for i in range(20)])[0]
    parallel = time.time() - start
    print(together)
    print(f"ratio {serial / parallel}")

    if "--client" in sys.argv:
        client.close()
