"""The methods of `Array`: functions of the families, hung onto the class.

A family file says in ``METHODS`` which of its functions are methods, and in ``PROPERTIES`` which
are properties.
"""

from __future__ import annotations

from types import ModuleType

from zcluster.array import (
    assigning,
    blockwise,
    cumulative,
    functions,
    indexing,
    io,
    manipulation,
    moments,
    overlap,
    positions,
    protocols,
    rechunking,
    reductions,
    reshaping,
    routines,
    searching,
    sorting,
    storing,
    triangles,
)
from zcluster.array.core import Array
from zcluster.array.linalg import products

__all__ = ["install"]

_FAMILIES: tuple[ModuleType, ...] = (
    assigning,
    blockwise,
    cumulative,
    functions,
    indexing,
    io,
    manipulation,
    moments,
    overlap,
    positions,
    products,
    protocols,
    rechunking,
    reductions,
    reshaping,
    routines,
    searching,
    sorting,
    storing,
    triangles,
)


def install() -> None:
    """Give `Array` the methods of all families."""
    for family in _FAMILIES:
        for name, function in getattr(family, "METHODS", {}).items():
            setattr(Array, name, function)
        for name, function in getattr(family, "PROPERTIES", {}).items():
            said = (function.__doc__ or "").partition("\n")[0]  # examples stand at the function
            setattr(Array, name, property(function, doc=said))
