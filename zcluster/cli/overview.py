"""A cluster at one moment, as rows of text: what ``zcluster status`` shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from zcluster.config import format_bytes

__all__ = [
    "NODE_COLUMNS",
    "TASK_COLUMNS",
    "Overview",
    "as_text",
    "headline",
    "node_rows",
    "shown_tasks",
    "stopped_workers",
    "task_rows",
]

NODE_COLUMNS = (
    *("node", "host", "workers", "threads", "tasks", "memory", "results", "on disk", "lag"),
)
TASK_COLUMNS = ("task", "waiting", "ready", "running", "done", "failed", "cancelled")

#: The columns of tasks, and the states of the scheduler that each stands for.
_STATES = {
    "waiting": ("waiting", "ahead"),
    "ready": ("ready",),
    "running": ("assigned",),
    "done": ("finished", "released"),
    "failed": ("failed",),
    "cancelled": ("cancelled",),
}


@dataclass(frozen=True)
class Overview:
    """An answer of the scheduler, and tasks finished in a second since the one before."""

    answer: Mapping[str, Any]
    rate: float | None = None

    @classmethod
    def after(cls, earlier: Overview | None, answer: Mapping[str, Any]) -> Overview:
        """Return an overview with the rate since an earlier one.

        >>> first = Overview.after(None, {"now": 1.0, "finished": 0})
        >>> first.rate is None, Overview.after(first, {"now": 3.0, "finished": 500}).rate
        (True, 250.0)
        """
        if earlier is None:
            return cls(answer)
        seconds = answer["now"] - earlier.answer["now"]
        if seconds <= 0:
            return cls(answer, earlier.rate)
        return cls(answer, (answer["finished"] - earlier.answer["finished"]) / seconds)


class TaskRow(NamedTuple):
    """Tasks of one name."""

    name: str
    counts: tuple[int, ...]

    @property
    def is_active(self) -> bool:
        """Whether anything of it is still to be done."""
        return any(self.counts[:3])


def node_rows(answer: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return a row for each node."""
    rows: list[tuple[str, ...]] = []
    for node in answer["nodes"]:
        limit = sum(worker["memory_limit"] for worker in node["workers"])
        rows.append(
            (
                node["name"],
                node["host"] + (" (away)" if node["away"] else ""),
                _workers(node),
                str(sum(worker["nthreads"] for worker in node["workers"])),
                str(node["assigned"]),
                _of(sum(node["memory"]) + sum(node["made"]), limit),
                _of(node["store_used"], node["store_limit"]),
                format_bytes(node["spilled"]),
                f"{1000 * node['lag']:.0f} ms",
            )
        )
    return rows


def _workers(node: Mapping[str, Any]) -> str:
    """Return how many workers a node has, and how many of them take no work."""
    count = str(len(node["workers"]))
    stopped = Counter(w["status"] for w in node["workers"] if w["status"] != "running")
    words = ", ".join(f"{number} {status}" for status, number in stopped.items())
    return f"{count} ({words})" if words else count


def stopped_workers(answer: Mapping[str, Any], most: int = 10) -> list[str]:
    """Return a line for each worker that takes no work, with the reason."""
    lines = [
        f"{worker['name']} is {worker['status']}: {worker['reason']}"
        for node in answer["nodes"]
        for worker in node["workers"]
        if worker["status"] != "running"
    ]
    more = len(lines) - most
    return lines if more <= 0 else [*lines[:most], f"… {more} more workers take no work"]


def _of(used: int, limit: int) -> str:
    return f"{format_bytes(used)} / {format_bytes(limit)}" if limit else format_bytes(used)


def task_rows(answer: Mapping[str, Any]) -> list[TaskRow]:
    """Return a row for each name of tasks: what is still to be done first, then by number."""
    rows = [
        TaskRow(
            # What would move the cursor stays text.
            name if name.isprintable() else repr(name),
            tuple(sum(counts.get(state, 0) for state in states) for states in _STATES.values()),
        )
        for name, counts in answer["tasks"].items()
    ]
    rows.sort(key=lambda row: (not row.is_active, -sum(row.counts), row.name))
    return rows


def shown_tasks(answer: Mapping[str, Any], most: int) -> list[tuple[str, ...]]:
    """Return the first rows of tasks, and one that sums up the others."""
    rows = task_rows(answer)
    kept = rows if len(rows) <= most else rows[: most - 1]
    shown = [(row.name, *map(str, row.counts)) for row in kept]
    left = rows[len(kept) :]
    if left:
        sums = [sum(column) for column in zip(*(row.counts for row in left), strict=True)]
        shown.append((f"… {len(left)} more names", *map(str, sums)))
    return shown


def headline(overview: Overview) -> str:
    """Return the cluster in one line."""
    answer = overview.answer
    workers = [worker for node in answer["nodes"] for worker in node["workers"]]
    parts = [
        answer["address"],
        _number(len(answer["nodes"]), "node"),
        _number(len(workers), "worker"),
        _number(sum(worker["nthreads"] for worker in workers), "thread"),
        _number(answer["clients"], "client"),
        f"{answer['finished']:,} tasks finished",
    ]
    if overview.rate is not None:
        parts.append(f"{overview.rate:,.0f} a second")
    return ", ".join(parts)


def _number(count: int, what: str) -> str:
    return f"{count} {what}" + ("" if count == 1 else "s")


def as_text(overview: Overview, nodes: int | None = None, names: int = 40) -> str:
    """Return an overview as plain text, with at most so many nodes and names of tasks."""
    lines = [headline(overview), ""]
    rows = node_rows(overview.answer)
    shown = rows[:nodes]
    lines += (
        _table(NODE_COLUMNS, shown, 2) if shown else ["no nodes: start some with 'zcluster worker'"]
    )
    if len(rows) > len(shown):
        lines.append(f"… {len(rows) - len(shown)} more nodes")
    stopped = stopped_workers(overview.answer)
    lines += ["", *stopped] if stopped else []
    tasks = shown_tasks(overview.answer, names)
    lines += ["", *(_table(TASK_COLUMNS, tasks, 1) if tasks else ["no tasks"])]
    return "\n".join(lines)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], left: int) -> list[str]:
    """Return the lines of a table; so many columns stand at the left, the others at the right."""
    widths = [max(map(len, cells)) for cells in zip(columns, *rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if place < left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in (columns, *rows)
    ]
