"""A script that ends with an exception of a task, the client open."""
# mypy: ignore-errors

from zcluster.distributed import Client


def divide(x, y):
    return x / y


client = Client(n_workers=2, threads_per_worker=1)
print(client.submit(divide, 1, 2).result())
print(client.submit(divide, 1, 0).result())
print("not reached")
