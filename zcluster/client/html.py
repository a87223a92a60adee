"""Clients, clusters and futures as notebooks show them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from zcluster.client.describing import format_limit

__all__ = ["client_html", "cluster_html", "future_html", "time_ago"]

_STYLE = 'style="text-align: left"'
_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def client_html(
    info: Mapping[str, Any],
    *,
    name: str,
    method: str,
    status: str,
    cluster_type: str = "",
    processes: bool = True,
    now: float,
) -> str:
    """Return a client, and behind folds its cluster, scheduler and workers.

    Parameters
    ----------
    info : mapping
        As `Client.scheduler_info` returns it.
    name : str
        The client's.
    method : str
        How it found its scheduler.
    status : str
    cluster_type : str
        The class of the cluster object, if the client has one.
    processes : bool
        Whether the workers are processes.
    now : float
        Seconds since the epoch.
    """
    rows = {"Connection method": method}
    inner = _scheduler(info, now)
    if cluster_type:
        rows["Cluster type"] = cluster_type
        figures = _figures(info) | {"Status": status, "Using processes": str(processes)}
        inner = _fold("Cluster Info", _table({"Dashboard": _dashboard(info)} | figures), inner)
    else:
        rows["Status"] = status
    rows["Dashboard"] = _dashboard(info)
    return f"<div><h3>Client</h3><p>{escape(name)}</p>{_table(rows)}{inner}</div>"


def cluster_html(
    address: str,
    workers: Sequence[Mapping[str, int]],
    *,
    kind: str,
    name: str,
    status: str,
    processes: bool,
    started: float,
    now: float,
) -> str:
    """Return a cluster, and behind a fold its scheduler.

    ``workers`` are those it has started, each with ``nthreads`` and ``memory_limit``.
    """
    info = {
        "address": address,
        "services": {},
        "started": started,
        "workers": dict(enumerate(workers)),
    }
    rows = {"Dashboard": _dashboard(info)} | _figures(info)
    rows |= {"Status": status, "Using processes": str(processes)}
    title = f"<h3>{escape(kind)}</h3><p>{escape(name)}</p>"
    inner = _fold("Scheduler Info", _table(_scheduler_rows(info, now)))
    return f"<div>{title}{_table(rows)}{inner}</div>"


def future_html(key: str, status: str, type_name: str) -> str:
    """Return a future in one line.

    Examples
    --------
    >>> future_html("neg-1", "finished", "int")
    '<b>Future: neg-1</b> <span>status: finished, type: int</span>'
    """
    more = f", type: {escape(type_name)}" if type_name else ""
    return f"<b>Future: {escape(key)}</b> <span>status: {escape(status)}{more}</span>"


def time_ago(seconds: float) -> str:
    """Return how long ago something was, as people say it.

    Examples
    --------
    >>> time_ago(3), time_ago(61), time_ago(7300), time_ago(200_000)
    ('Just now', '1 minute ago', '2 hours ago', '2 days ago')
    """
    for unit, length in (("day", _DAY), ("hour", _HOUR), ("minute", _MINUTE)):
        count = int(seconds // length)
        if count > 0:
            return f"{count} {unit}{'s' if count > 1 else ''} ago"
    return "Just now"


def _figures(info: Mapping[str, Any]) -> dict[str, str]:
    workers = info["workers"].values()
    return {
        "Workers": str(len(workers)),
        "Total threads": str(sum(worker["nthreads"] for worker in workers)),
        "Total memory": format_limit(sum(worker["memory_limit"] for worker in workers)),
    }


def _dashboard(info: Mapping[str, Any]) -> str:
    return str(info["services"].get("dashboard", "not started"))


def _scheduler(info: Mapping[str, Any], now: float) -> str:
    workers = "".join(_worker(name, worker) for name, worker in info["workers"].items())
    rows = _table(_scheduler_rows(info, now))
    return _fold("Scheduler Info", rows, _fold("Workers", workers) if workers else "")


def _scheduler_rows(info: Mapping[str, Any], now: float) -> dict[str, str]:
    rows = {"Comm": info["address"], "Dashboard": _dashboard(info)} | _figures(info)
    rows["Started"] = time_ago(now - info["started"]) if info["started"] else "unknown"
    return rows


def _worker(name: str, worker: Mapping[str, Any]) -> str:
    rows = {
        "Comm": worker["address"],
        "Total threads": str(worker["nthreads"]),
        "Dashboard": str(worker["services"].get("dashboard", "not started")),
        "Memory": format_limit(worker["memory_limit"]),
        "Nanny": f"{worker['nanny']} (pid {worker['nanny_pid']})",
        "Local directory": worker["local_directory"],
    }
    if worker["metrics"]["memory"]:
        rows["Memory in use"] = format_limit(worker["metrics"]["memory"])
    if worker["resources"]:
        amounts = worker["resources"].items()
        rows["Resources"] = ", ".join(f"{what}: {amount:g}" for what, amount in amounts)
    return _fold(f"Worker: {name}", _table(rows))


def _fold(title: str, *content: str) -> str:
    return f"<details><summary>{escape(title)}</summary>{''.join(content)}</details>"


def _table(rows: Mapping[str, str]) -> str:
    cells = "".join(
        f"<tr><th {_STYLE}>{escape(name)}</th><td {_STYLE}>{_value(value)}</td></tr>"
        for name, value in rows.items()
    )
    return f"<table>{cells}</table>"


def _value(text: str) -> str:
    """Return a cell's content; addresses of pages are links."""
    shown = escape(text)
    if text.startswith(("http://", "https://")):
        return f'<a href="{shown}" target="_blank" rel="noopener">{shown}</a>'
    return shown
