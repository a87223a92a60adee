"""The smallest delayed call: what it prints before and after it is computed."""
# mypy: ignore-errors

import sys

import zcluster as dask
from zcluster.distributed import Client

if "--client" in sys.argv:
    client = Client(n_workers=2)


def add(x, y):
    return x + y


delayed_add = dask.delayed(add)(5, 6)
print(delayed_add)
delayed_add.visualize()
result = delayed_add.compute()
print(result)
