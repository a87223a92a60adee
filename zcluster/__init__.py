"""zcluster: Dask's programming model on a ZeroMQ engine of its own.

>>> import zcluster
>>> total = zcluster.delayed(sum)([1, 2, 3])
>>> total.compute()
6
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from zcluster.version import __version__

if TYPE_CHECKING:
    from zcluster import config as config
    from zcluster.collection.compute import compute as compute
    from zcluster.collection.compute import persist as persist
    from zcluster.collection.compute import visualize as visualize
    from zcluster.delayed import delayed as delayed
    from zcluster.distributed import Client as Client
    from zcluster.distributed import LocalCluster as LocalCluster
    from zcluster.graph.annotations import annotate as annotate

__all__ = [
    "Client",
    "LocalCluster",
    "__version__",
    "annotate",
    "compute",
    "config",
    "delayed",
    "persist",
    "visualize",
]

#: Where the public names are; they are imported when used, so that importing the
#: package costs next to nothing and no layer loads those above it.
_NAMES = {
    "Client": "zcluster.distributed",
    "annotate": "zcluster.graph.annotations",
    "LocalCluster": "zcluster.distributed",
    "compute": "zcluster.collection.compute",
    "persist": "zcluster.collection.compute",
    "visualize": "zcluster.collection.compute",
}


def __getattr__(name: str) -> Any:
    if name in ("config", "delayed"):
        # The module `delayed` is callable: ``zcluster.delayed(f)`` and
        # ``from zcluster.delayed import Delayed`` are both spelled like this.
        return importlib.import_module(f"zcluster.{name}")
    module = _NAMES.get(name)
    if module is None:
        raise AttributeError(f"module 'zcluster' has no attribute {name!r}")
    value = getattr(importlib.import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
