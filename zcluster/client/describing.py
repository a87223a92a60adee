"""The cluster as a client's user sees it: dictionaries, one line of text, a table."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Any

from zcluster.config import format_bytes
from zcluster.protocol.messages import NodeInfo, WorkerInfo

__all__ = ["cluster_info", "one_line", "table", "totals"]


def cluster_info(address: str, nodes: Iterable[NodeInfo]) -> dict[str, Any]:
    """Return what `Client.scheduler_info` returns."""
    workers = {}
    for node in nodes:
        for worker in node.workers:
            workers[worker.name] = _worker_info(node, worker)
    return {"type": "Scheduler", "address": address, "workers": workers}


def _worker_info(node: NodeInfo, worker: WorkerInfo) -> dict[str, Any]:
    return {
        "type": "Worker",
        "name": worker.name,
        "host": node.host,
        "nthreads": worker.slots,
        "memory_limit": worker.memory_limit,
        "pid": worker.pid,
        "node": node.name,
        "nanny_pid": node.pid,
        "data": node.data,
    }


def totals(nodes: Iterable[NodeInfo]) -> tuple[int, int, int]:
    """Return the number of workers, their slots, and the sum of their memory limits."""
    workers = [worker for node in nodes for worker in node.workers]
    return len(workers), sum(w.slots for w in workers), sum(w.memory_limit for w in workers)


def one_line(kind: str, address: str, nodes: Iterable[NodeInfo], ended: str | None) -> str:
    """Return the plain-text form of a client."""
    if ended is not None:
        return f"<{kind}: {address!r} closed ({ended})>"
    workers, threads, memory = totals(nodes)
    limit = format_bytes(memory) if memory else "no limit"
    return f"<{kind}: {address!r} processes={workers} threads={threads}, memory={limit}>"


def table(kind: str, address: str, nodes: Iterable[NodeInfo], method: str, status: str) -> str:
    """Return the HTML form of a client, for notebooks."""
    nodes = list(nodes)
    workers, threads, memory = totals(nodes)
    rows = {
        "Connection method": method,
        "Scheduler": address,
        "Status": status,
        "Workers": str(workers),
        "Total threads": str(threads),
        "Total memory": format_bytes(memory) if memory else "no limit",
    }
    body = "".join(
        f"<tr><th style='text-align:left'>{escape(name)}</th><td>{escape(value)}</td></tr>"
        for name, value in rows.items()
    )
    details = "".join(
        f"<tr><td>{escape(worker.name)}</td><td>{worker.slots}</td>"
        f"<td>{escape(format_bytes(worker.memory_limit) if worker.memory_limit else 'no limit')}"
        f"</td><td>{escape(node.host)}</td></tr>"
        for node in nodes
        for worker in node.workers
    )
    return (
        f"<div><h3>{escape(kind)}</h3><table>{body}</table>"
        "<details><summary>Workers</summary><table><tr><th>Name</th><th>Threads</th>"
        f"<th>Memory</th><th>Host</th></tr>{details}</table></details></div>"
    )
