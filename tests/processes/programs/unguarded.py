"""A script without a guard, whose function lives in it: everything at its top runs once."""
# mypy: ignore-errors

import os

import zcluster as dask
from zcluster.distributed import Client

with open("side-effects.txt", "a") as file:
    file.write(f"{os.getpid()}\n")

client = Client(n_workers=2, threads_per_worker=1)


def where(number):
    return os.getpid()


pids = set(client.gather(client.map(where, range(50))))
pids.update(dask.compute(*[dask.delayed(where)(number) for number in range(4)]))
print("in workers only:", os.getpid() not in pids, len(pids) <= 2)
client.close()
