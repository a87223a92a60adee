"""NumPy arrays in chunks, computed lazily: the names of NumPy, and of ``dask.array``.

>>> import zcluster.array as da
>>> x = da.asarray([1.0, 2.0, 3.0])
>>> (x + 1).compute()
array([2., 3., 4.])
"""

from __future__ import annotations

from zcluster.array import methods
from zcluster.array.core import Array, asarray

__all__ = ["Array", "asarray"]

methods.install()
