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
    from zcluster import base as base
    from zcluster import config as config
    from zcluster.collection.base import is_collection as is_dask_collection
    from zcluster.collection.compute import compute as compute
    from zcluster.collection.compute import persist as persist
    from zcluster.collection.compute import visualize as visualize
    from zcluster.delayed import delayed as delayed
    from zcluster.distributed import Client as Client
    from zcluster.distributed import LocalCluster as LocalCluster
    from zcluster.graph.annotations import annotate as annotate
    from zcluster.graph.annotations import get_annotations as get_annotations
    from zcluster.graph.tasks import istask as istask
    from zcluster.local import get_sync as get
    from zcluster.protocol.tokens import tokenize as tokenize

__all__ = [
    "Client",
    "LocalCluster",
    "__version__",
    "annotate",
    "compute",
    "config",
    "delayed",
    "get",
    "get_annotations",
    "is_dask_collection",
    "istask",
    "persist",
    "tokenize",
    "visualize",
]

#: Where the public names are, and what they are called there if not the same. They are imported
#: when used, so that importing the package costs next to nothing and no layer loads those above.
_NAMES = {
    "Client": "zcluster.distributed",
    "annotate": "zcluster.graph.annotations",
    "get": "zcluster.local:get_sync",
    "get_annotations": "zcluster.graph.annotations",
    "is_dask_collection": "zcluster.collection.base:is_collection",
    "istask": "zcluster.graph.tasks",
    "tokenize": "zcluster.protocol.tokens",
    "LocalCluster": "zcluster.distributed",
    "compute": "zcluster.collection.compute",
    "persist": "zcluster.collection.compute",
    "visualize": "zcluster.collection.compute",
}


def __getattr__(name: str) -> Any:
    if name in ("base", "config", "delayed"):
        # The module `delayed` is callable: ``zcluster.delayed(f)`` and
        # ``from zcluster.delayed import Delayed`` are both spelled like this.
        return importlib.import_module(f"zcluster.{name}")
    place = _NAMES.get(name)
    if place is None:
        raise AttributeError(f"module 'zcluster' has no attribute {name!r}")
    module, _, there = place.partition(":")
    value = getattr(importlib.import_module(module), there or name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
