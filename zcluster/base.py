"""The names of ``dask.base`` that are used most, from where they are here.

>>> from zcluster.base import tokenize
>>> tokenize([1, "a"]) == tokenize([1, "a"])
True
"""

from __future__ import annotations

from zcluster.collection.base import is_collection as is_dask_collection
from zcluster.collection.compute import compute, persist, visualize
from zcluster.graph.annotations import annotate, get_annotations
from zcluster.protocol.tokens import normalize_token, tokenize

__all__ = [
    "annotate",
    "compute",
    "get_annotations",
    "is_dask_collection",
    "normalize_token",
    "persist",
    "tokenize",
    "visualize",
]
