"""Ordinary calls while an event loop runs in the same thread, as in a notebook."""
# mypy: ignore-errors

import asyncio

import zcluster as dask
from zcluster.distributed import Client


def add(x, y):
    return x + y


async def cell():
    client = Client(n_workers=2, threads_per_worker=1)
    print(dask.delayed(add)(dask.delayed(add)(1, 2), 3).compute())
    client.close()


asyncio.run(cell())
