"""NumPy's arange beside a lazy one: what it says of itself, a picture, and squares."""
# mypy: ignore-errors

import numpy as np

import zcluster.array as da

a_np = np.arange(1, 50, 3)
print(a_np)

a_da = da.arange(1, 50, 3, chunks=5)
print(a_da)
print(a_da.dtype)
print(a_da.shape)
print(a_da.chunks)
print(a_da.chunksize)
print("tasks", a_da.visualize(filename=None).tasks, (a_da**2).visualize(filename=None).tasks)
print((a_da**2).compute())
print(type((a_da**2).compute()).__name__, bool(((a_da**2).compute() == a_np**2).all()))
