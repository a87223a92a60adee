"""The sum of two NumPy arrays, in four chunks."""
# mypy: ignore-errors

import numpy as np

import zcluster.array as da

x = np.random.random(10_000)
y = np.random.random(10_000)
dx = da.from_array(x, chunks=len(x) // 4)
dy = da.from_array(y, chunks=len(y) // 4)
result = (dx + dy).sum()
print(result.compute())
print(dx.numblocks, bool(np.isclose(result.compute(), (x + y).sum())))
