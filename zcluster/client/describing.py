"""The cluster as a client's user sees it: dictionaries and one line of text.

The form for notebooks is in `zcluster.client.html`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any

from zcluster.config import format_bytes
from zcluster.protocol.messages import NodeInfo

__all__ = [
    "Status",
    "cluster_info",
    "format_limit",
    "known_info",
    "memory_metrics",
    "one_line",
    "totals",
]


class Status(StrEnum):
    """What clusters and clients are; each is equal to its word.

    Examples
    --------
    >>> Status.running == "running", f"{Status.closed}"
    (True, 'closed')
    """

    running = "running"
    closed = "closed"
    failed = "failed"


def cluster_info(answer: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `Client.scheduler_info` returns, of the scheduler's answer to ``info``.

    The workers of a node that cannot be reached are left out, and those whose process could
    not be started yet.
    """
    workers = {
        worker["name"]: _worker_info(node, worker)
        for node in answer["nodes"]
        if not node["away"]
        for worker in node["workers"]
        if worker["pid"]
    }
    return {
        "type": "Scheduler",
        "id": answer.get("id", ""),
        "address": answer["address"],
        "services": {},
        "started": answer.get("started", 0.0),
        "workers": workers,
    }


def known_info(address: str, nodes: Iterable[NodeInfo]) -> dict[str, Any]:
    """Return the same of what a client has heard, where the scheduler does not answer."""
    said = [
        {
            "name": node.name,
            "host": node.host,
            "pid": node.pid,
            "data": node.data,
            "door": node.door,
            "away": False,
            "memory": [],
            "made": [],
            "spilled": 0,
            "workers": [
                {
                    "number": worker.number,
                    "name": worker.name,
                    "pid": worker.pid,
                    "nthreads": worker.slots,
                    "memory_limit": worker.memory_limit,
                    "resources": worker.resources,
                    "status": worker.status,
                    "reason": worker.reason,
                }
                for worker in node.workers
            ],
        }
        for node in nodes
    ]
    return cluster_info({"address": address, "nodes": said})


def memory_metrics(node: Mapping[str, Any], worker: Mapping[str, Any]) -> dict[str, Any]:
    """Return what memory a worker of a node uses, in bytes, of the answer to ``info``.

    ``managed`` is what results that it made take of the store, ``unmanaged`` what it has for
    itself, ``memory`` both together; ``spilled`` is what its whole node has on disk. Before the
    node's first heartbeat nobody knows, and all are 0.
    """
    number = worker["number"]
    managed, unmanaged = (
        figures[number] if number < len(figures) else 0
        for figures in (node["made"], node["memory"])
    )
    return {
        "memory": managed + unmanaged,
        "managed": managed,
        "unmanaged": unmanaged,
        "spilled": node["spilled"],
        "limit": worker["memory_limit"],
        "status": worker["status"],
        "reason": worker["reason"],
    }


def _worker_info(node: Mapping[str, Any], worker: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "Worker",
        "id": worker["name"],
        "name": worker["name"],
        "host": node["host"],
        "address": node["data"],
        "nanny": node["name"],
        "node": node["name"],
        "nthreads": worker["nthreads"],
        "memory_limit": worker["memory_limit"],
        "resources": dict(worker["resources"]),
        "local_directory": os.path.dirname(node["door"]),
        "services": {},
        "status": worker["status"],
        "metrics": memory_metrics(node, worker),
        "pid": worker["pid"],
        "nanny_pid": node["pid"],
        "data": node["data"],
    }


def totals(nodes: Iterable[NodeInfo]) -> tuple[int, int, int]:
    """Return the number of workers, their slots, and the sum of their memory limits."""
    workers = [worker for node in nodes for worker in node.workers if worker.pid]
    return len(workers), sum(w.slots for w in workers), sum(w.memory_limit for w in workers)


def format_limit(limit: int) -> str:
    """Return a memory limit as people read it.

    Examples
    --------
    >>> format_limit(2 * 10**9), format_limit(0)
    ('1.86 GiB', 'no limit')
    """
    return format_bytes(limit) if limit else "no limit"


def one_line(kind: str, address: str, nodes: Iterable[NodeInfo], ended: str | None) -> str:
    """Return the plain-text form of a client."""
    if ended is not None:
        return f"<{kind}: {address!r} closed ({ended})>"
    workers, threads, memory = totals(nodes)
    limit = format_limit(memory)
    return f"<{kind}: {address!r} processes={workers} threads={threads}, memory={limit}>"
