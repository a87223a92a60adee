"""Cholesky factors in small and large chunks, and NumPy's; then a slice of an exponential."""
# mypy: ignore-errors

import sys
import time

import numpy as np

import zcluster.array as da

side = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000

base = np.random.random((side, side))
base = np.dot(base, base.transpose()) + np.eye(side)

small = da.from_array(base, chunks=(side // 100))
large = da.from_array(base, chunks=(side // 10))
print(small.numblocks, large.numblocks)

for what, call in (
    ("small chunks", lambda: da.linalg.cholesky(small)),
    ("large chunks", lambda: da.linalg.cholesky(large)),
    ("numpy", lambda: np.linalg.cholesky(base)),
):
    begin = time.perf_counter()
    made = call()
    print(f"{what}: {type(made).__name__} in {time.perf_counter() - begin:.4f} s")

factor = da.linalg.cholesky(large, lower=True).compute()
print("equal", bool(np.allclose(factor, np.linalg.cholesky(base))))

np_ones = np.ones((side, side))
da_ones = da.ones((side, side), chunks=(side // 100))
begin = time.perf_counter()
one = np.exp(np_ones)[1 : side // 100, 1 : side // 100]
middle = time.perf_counter()
other = da.exp(da_ones)[1 : side // 100, 1 : side // 100].compute()
end = time.perf_counter()
print(one.shape, other.shape, "equal", bool((one == other).all()))
print(f"numpy {middle - begin:.4f} s, lazy {end - middle:.4f} s")
