"""The methods of `Array`: functions of the families, hung onto the class.

A family file says in ``METHODS`` which of its functions are methods, and in ``PROPERTIES`` which
are properties.
"""

from __future__ import annotations

from types import ModuleType

from zcluster.array import slicing
from zcluster.array.core import Array

__all__ = ["install"]

_FAMILIES: tuple[ModuleType, ...] = (slicing,)


def install() -> None:
    """Give `Array` the methods of all families."""
    for family in _FAMILIES:
        for name, function in getattr(family, "METHODS", {}).items():
            setattr(Array, name, function)
        for name, function in getattr(family, "PROPERTIES", {}).items():
            setattr(Array, name, property(function))
