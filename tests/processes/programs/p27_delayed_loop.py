"""Delayed values in a loop, each computed in turn; operators on them are lazy too."""
# mypy: ignore-errors

import sys

import zcluster as dask
from zcluster.distributed import Client


def inc(x):
    return x + 1


def dec(x):
    return x - 1


def add(x, y):
    return x + y


if __name__ == "__main__":
    if "--client" in sys.argv:
        client = Client(threads_per_worker=4, n_workers=1)

    results = []
    for i in range(20):
        x = dask.delayed(inc(i))
        y = dask.delayed(dec(x))
        z = dask.delayed(add(x, y))
        z = z.compute()
        results.append(z)
    print(results)

    if "--client" in sys.argv:
        client.close()
