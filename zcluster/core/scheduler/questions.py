"""What the scheduler tells people: what is here, and why a task is not running."""

from __future__ import annotations

from typing import Any

from zcluster.core.scheduler.pages import DATA
from zcluster.core.scheduler.placement import resolve
from zcluster.core.scheduler.records import ClientRecord
from zcluster.core.scheduler.state import SchedulerState
from zcluster.core.scheduler.states import State
from zcluster.protocol.messages import Ask

__all__ = ["answer", "explain"]


def answer(s: SchedulerState, client: ClientRecord, ask: Ask) -> Any:
    """Return the plain value that answers a question.

    Raises
    ------
    KeyError
        If the question is unknown.
    """
    return _QUESTIONS[ask.question](s, client, ask)


def _info(s: SchedulerState, client: ClientRecord, ask: Ask) -> dict[str, Any]:
    nodes = [
        {
            "name": node.info.name,
            "host": node.info.host,
            "pid": node.info.pid,
            "data": node.info.data,
            "away": node.away_since is not None,
            "store_used": node.store_used,
            "store_limit": node.info.store_limit,
            "lag": node.lag,
            "assigned": sum(node.assigned.values()),
            "workers": [
                {
                    "name": worker.name,
                    "pid": worker.pid,
                    "nthreads": worker.slots,
                    "memory_limit": worker.memory_limit,
                }
                for worker in node.info.workers
            ],
        }
        for node in s.nodes.values()
    ]
    return {"address": s.address, "nodes": nodes, "clients": len(s.clients)}


def _who_has(s: SchedulerState, client: ClientRecord, ask: Ask) -> dict[str, list[str]]:
    tasks = ask.tasks or [
        task
        for task, page, row in s.rows()
        if page.state[row] == State.FINISHED and task >> 40 == client.index
    ]
    holders: dict[str, list[str]] = {}
    for task in tasks:
        found = s.find(task)
        names: list[str] = []
        if found is not None and found[0].state[found[1]] == State.FINISHED:
            names = [s.nodes[index].info.name for index in s.holders(task, *found)]
        holders[str(task)] = names
    return holders


def _story(s: SchedulerState, client: ClientRecord, ask: Ask) -> list[tuple[float, str, str]]:
    return [entry for task in ask.tasks for entry in s.journal.story(task)]


def _explain(s: SchedulerState, client: ClientRecord, ask: Ask) -> list[str]:
    return [explain(s, task) for task in ask.tasks]


def _progress(s: SchedulerState, client: ClientRecord, ask: Ask) -> dict[str, int]:
    """Count this client's tasks by state, within ``ask.tasks`` = [first, stop] if given."""
    counts: dict[str, int] = {}
    low, high = (ask.tasks[0], ask.tasks[1]) if len(ask.tasks) == 2 else (0, 1 << 63)
    for task, page, row in s.rows():
        if task >> 40 == client.index and low <= task < high:
            name = State(page.state[row]).name.lower()
            counts[name] = counts.get(name, 0) + 1
    return counts


def _statistics(s: SchedulerState, client: ClientRecord, ask: Ask) -> dict[str, Any]:
    return {
        "events": s.events,
        "finished": s.finished_tasks,
        "rows": sum(page.live for page in s.pages.values()),
        "pages": len(s.pages),
        "layers": len(s.layers),
        "functions": len(s.functions),
        "inline_bytes": s.inline_bytes,
        "stored_bytes": s.stored_bytes,
        "refused": s.refused_messages,
        "states": s.states(),
    }


def _processing(s: SchedulerState, client: ClientRecord, ask: Ask) -> dict[str, list[str]]:
    tasks: dict[str, list[str]] = {node.info.name: [] for node in s.nodes.values()}
    for task, page, row in s.rows():
        if page.state[row] == State.ASSIGNED and page.node[row] in s.nodes:
            tasks[s.nodes[page.node[row]].info.name].append(s.key(task))
    return tasks


def explain(s: SchedulerState, task: int) -> str:
    """Return one sentence that says why a task is where it is."""
    found = s.find(task)
    if found is None:
        return f"task {task} is not known: it was released, or never submitted"
    page, row = found
    state = State(page.state[row])
    key = s.key(task)
    if state == State.FINISHED:
        names = ", ".join(s.nodes[index].info.name for index in s.holders(task, page, row))
        return f"{key} is finished; its result is at {names or 'no node any more'}"
    if state in (State.RELEASED, State.CANCELLED):
        return f"{key} is {state.name.lower()}: nobody needs it"
    if state == State.FAILED:
        error = s.failures[task].error
        return f"{key} failed ({error.kind}): {error.type_name}: {error.message}"
    if state == State.ASSIGNED:
        node = s.nodes[page.node[row]]
        tries = page.attempt[row]
        return f"{key} is assigned to {node.info.name}, attempt {tries}; it runs there or is next"
    if state == State.WAITING and page.flags[row] & DATA:
        return f"{key} is data that its client has not put into a node yet"
    if state in (State.WAITING, State.AHEAD):
        waiting = [
            s.key(source)
            for source in page.inputs(row)
            if (other := s.find(source)) and other[0].state[other[1]] != State.FINISHED
        ]
        waiting += [f"all of {layer.name}" for layer in page.layer[row].whole if layer.unfinished]
        shown = ", ".join(waiting[:5]) + (", …" if len(waiting) > 5 else "")
        return f"{key} waits for {len(waiting)} of its inputs: {shown}"
    return _explain_ready(s, key, page.layer[row].workers)


def _explain_ready(s: SchedulerState, key: str, workers: tuple[str, ...]) -> str:
    nodes = [node for node in s.nodes.values() if node.is_accepting]
    if not nodes:
        return f"{key} is ready, but no worker is here ({len(s.nodes)} nodes, none reachable)"
    if workers and not resolve(s, workers):
        known = ", ".join(worker.name for node in nodes for worker in node.info.workers)
        return (
            f"{key} is ready, but may run only on {', '.join(workers)}, and the workers here are "
            f"{known}; submit it with allow_other_workers=True, or start such a worker"
        )
    return f"{key} is ready and waits for a free slot ({sum(node.slots for node in nodes)} in all)"


_QUESTIONS = {
    "info": _info,
    "who_has": _who_has,
    "story": _story,
    "explain": _explain,
    "progress": _progress,
    "statistics": _statistics,
    "processing": _processing,
}
