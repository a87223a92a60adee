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

__all__ = ["Status", "cluster_info", "format_limit", "known_info", "one_line", "totals"]


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

    The workers of a node that cannot be reached are left out.
    """
    workers = {
        worker["name"]: _worker_info(node, worker, memory)
        for node in answer["nodes"]
        if not node["away"]
        for worker, memory in zip(node["workers"], _padded(node), strict=True)
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
            "workers": [
                {
                    "name": worker.name,
                    "pid": worker.pid,
                    "nthreads": worker.slots,
                    "memory_limit": worker.memory_limit,
                    "resources": worker.resources,
                }
                for worker in node.workers
            ],
        }
        for node in nodes
    ]
    return cluster_info({"address": address, "nodes": said})


def _padded(node: Mapping[str, Any]) -> list[int]:
    """Return what each worker has in use; before the first heartbeat nobody knows."""
    memory = list(node["memory"])
    return (memory + [0] * len(node["workers"]))[: len(node["workers"])]


def _worker_info(node: Mapping[str, Any], worker: Mapping[str, Any], memory: int) -> dict[str, Any]:
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
        "metrics": {"memory": memory},
        "pid": worker["pid"],
        "nanny_pid": node["pid"],
        "data": node["data"],
    }


def totals(nodes: Iterable[NodeInfo]) -> tuple[int, int, int]:
    """Return the number of workers, their slots, and the sum of their memory limits."""
    workers = [worker for node in nodes for worker in node.workers]
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
