"""A second and a third client in one notebook, the first never closed."""
# mypy: ignore-errors

import zcluster as dask
from zcluster.distributed import Client, default_client


def add(x, y):
    return x + y


client = Client(n_workers=1, threads_per_worker=1)
first = client
client = Client(n_workers=2, threads_per_worker=2, memory_limit="1GB")
print(
    default_client() is client,
    first.scheduler_info()["address"] != client.scheduler_info()["address"],
)
print(client)
print(dask.delayed(add)(1, 2).compute())
client.close()
print(dask.delayed(add)(3, 4).compute())  # with the first again
client = Client(n_workers=1, threads_per_worker=1)
print(dask.delayed(add)(5, 6).compute())
print(dask.delayed(add)(7, 8).compute(scheduler=first))
