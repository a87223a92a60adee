"""What the scheduler tells people: what is here, and why a task is not running."""

from __future__ import annotations

import re
from itertools import islice
from typing import Any, TypeAlias

from zcluster.core.scheduler import copying, retiring
from zcluster.core.scheduler.pages import DATA, PAGE_BITS
from zcluster.core.scheduler.records import ClientRecord, LayerRecord, NodeRecord, Profile
from zcluster.core.scheduler.restricted import fitting, why_nobody
from zcluster.core.scheduler.state import SchedulerState
from zcluster.core.scheduler.states import State
from zcluster.graph.columns import slot_width
from zcluster.protocol.messages import Ask, Slot, WorkerInfo

__all__ = ["answer", "explain"]

#: Layers that an overview counts one by one, the newest: a million single submissions are as many
#: layers, and nothing else goes on here while they are counted.
_LAYERS_COUNTED = 5_000
#: The states as people read them, by number.
_WORDS = [state.name.lower() for state in State]
#: A worker that has not answered for so many seconds is said to be unresponsive.
_SILENT = 1.0
#: Tasks of other layers, in an overview.
_OTHERS = "(others)"
#: A key's name ends in a token where equal calls are one task; it tells people nothing.
_TOKEN = re.compile(r"-[0-9a-f]{8,}$")


def answer(s: SchedulerState, client: ClientRecord, ask: Ask) -> Any:
    """Return the plain value that answers a question.

    Raises
    ------
    KeyError
        If the question is unknown.
    """
    return _QUESTIONS[ask.question](s, client, ask)


def _name(layer: LayerRecord) -> str:
    return _TOKEN.sub("", layer.name)


def _info(s: SchedulerState, client: ClientRecord, ask: Ask) -> dict[str, Any]:
    nodes = [
        {
            "name": node.info.name,
            "host": node.info.host,
            "pid": node.info.pid,
            "data": node.info.data,
            "door": node.info.door,
            "away": node.away_since is not None,
            "store_used": node.store_used,
            "store_limit": node.info.store_limit,
            "lag": node.lag,
            "memory": list(node.memory),
            "made": list(node.made),
            "spilled": node.spilled,
            "sent": node.sent,
            "assigned": sum(node.assigned.values()),
            "workers": [
                {
                    "number": worker.number,
                    "name": worker.name,
                    "pid": worker.pid,
                    "nthreads": worker.slots,
                    "memory_limit": worker.memory_limit,
                    "resources": worker.resources,
                    **_status(node, worker),
                }
                for worker in node.info.workers
            ],
        }
        for node in s.nodes.values()
    ]
    return s.about | {"address": s.address, "nodes": nodes, "clients": len(s.clients)}


def _status(node: NodeRecord, worker: WorkerInfo) -> dict[str, str]:
    """Return how a worker is in a word, and why."""
    if node.retiring is not None:
        return {"status": "retiring", "reason": node.retiring.reason}
    silent = node.silent[worker.number] if worker.number < len(node.silent) else 0.0
    if silent < _SILENT or worker.status != "running":
        return {"status": worker.status, "reason": worker.reason}
    reason = (
        f"unresponsive for {silent:.1f} s; a task there holds the interpreter's lock, or the "
        "process is stopped"
    )
    return {"status": "unresponsive", "reason": reason}


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


def _replicate(s: SchedulerState, client: ClientRecord, ask: Ask) -> dict[str, list[int]]:
    """Have results copied; the text has the number of copies, and the nodes."""
    copies, *nodes = map(int, ask.text.split())
    return copying.replicate(s, ask.tasks, nodes, copies)


def _rebalance(s: SchedulerState, client: ClientRecord, ask: Ask) -> dict[str, list[int]]:
    """Have results moved (all, if none are named); the text has the nodes."""
    tasks = ask.tasks or (task for task, _, _ in s.rows())
    return copying.rebalance(s, tasks, map(int, ask.text.split()))


def _retiring(s: SchedulerState, client: ClientRecord, ask: Ask) -> dict[str, str]:
    """Return what nodes and workers that are to leave wait for, by name."""
    return retiring.reasons(s)


def _holders(s: SchedulerState, client: ClientRecord, ask: Ask) -> dict[str, list[int]]:
    """Return the numbers of the nodes that have results."""
    found = ((task, s.find(task)) for task in ask.tasks)
    return {
        str(task): s.holders(task, *place)
        for task, place in found
        if place is not None and place[0].state[place[1]] == State.FINISHED
    }


def _keys(s: SchedulerState, client: ClientRecord, ask: Ask) -> dict[str, str]:
    return {str(task): s.key(task) for task in ask.tasks}


def _story(s: SchedulerState, client: ClientRecord, ask: Ask) -> list[tuple[float, str, str]]:
    return [entry for task in ask.tasks for entry in s.journal.story(task)]


def _explain(s: SchedulerState, client: ClientRecord, ask: Ask) -> list[str]:
    return [explain(s, task) for task in ask.tasks]


def _progress(s: SchedulerState, client: ClientRecord, ask: Ask) -> dict[str, int]:
    """Count this client's tasks by state, within ``ask.tasks`` = [first, stop] if given."""
    counts: dict[str, int] = {}
    if not ask.tasks:  # asked twice a second by those who wait: a few counts for each page
        for page in s.pages.values():
            if page.start >> 40 == client.index:
                for state in State:
                    if state and (count := page.state.count(state)):
                        name = state.name.lower()
                        counts[name] = counts.get(name, 0) + count
        return counts
    low, high = ask.tasks
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
        "sent_bytes": sum(node.sent for node in s.nodes.values()),
        "refused": s.refused_messages,
        "states": s.states(),
    }


#: Tasks by node: number and key.
_Tasks: TypeAlias = dict[str, list[tuple[int, str]]]


def _processing(s: SchedulerState, client: ClientRecord, ask: Ask) -> _Tasks:
    return _tasks_by_node(s, State.ASSIGNED, ask.tasks)


def _has_what(s: SchedulerState, client: ClientRecord, ask: Ask) -> _Tasks:
    found = _tasks_by_node(s, State.FINISHED, ask.tasks)
    for task, holders in s.replicas.items():
        for index in holders:
            node = s.nodes.get(index)
            if node is not None and node.info.name in found:
                found[node.info.name].append((task, s.key(task)))
    return found


def _tasks_by_node(s: SchedulerState, state: State, nodes: list[int]) -> _Tasks:
    """Return the tasks in a state that are at some nodes (all, if none are named)."""
    names = {index: s.nodes[index].info.name for index in nodes or s.nodes if index in s.nodes}
    found: _Tasks = {name: [] for name in names.values()}
    for page in s.pages.values():
        if state not in page.state:  # a look at bytes, for pages with nothing to tell
            continue
        for row, is_state in enumerate(page.state):
            name = names.get(page.node[row]) if is_state == state else None
            if name is not None:
                task = page.start + row
                found[name].append((task, str(page.layer[row].key(task))))
    return found


def _nbytes(s: SchedulerState, client: ClientRecord, ask: Ask) -> dict[str, int]:
    """Return the bytes of results: of some tasks by number, or of all by name.

    With the text ``keys`` by their keys, else those that share a name together.
    """
    if ask.tasks:
        places = {task: s.find(task) for task in ask.tasks}
        return {
            str(task): found[0].size[found[1]]
            for task, found in places.items()
            if found is not None and found[0].state[found[1]] == State.FINISHED
        }
    sizes: dict[str, int] = {}
    for page in s.pages.values():
        if State.FINISHED not in page.state:
            continue
        for row, state in enumerate(page.state):
            if state == State.FINISHED:
                layer = page.layer[row]
                is_by_key = ask.text == "keys"
                name = str(layer.key(page.start + row)) if is_by_key else _name(layer)
                sizes[name] = sizes.get(name, 0) + page.size[row]
    return sizes


def _overview(s: SchedulerState, client: ClientRecord, ask: Ask) -> dict[str, Any]:
    """Return what `zcluster status` shows: nodes and their load, and tasks by name and state.

    ``finished`` counts since the start: rates are the differences of two answers.
    """
    found = _info(s, client, ask)
    for shown, node in zip(found["nodes"], s.nodes.values(), strict=True):
        shown["slots"] = node.slots
    tasks = _tasks_by_name(s)
    return found | {
        "now": s.now,
        "finished": s.finished_tasks,
        "stored_bytes": s.stored_bytes,
        "tasks": tasks,
    }


def _tasks_by_name(s: SchedulerState) -> dict[str, dict[str, int]]:
    """Count the tasks by name and state: a count of bytes for each layer and page, none by task."""
    names: dict[str, list[int]] = {}
    for layer in islice(reversed(s.layers.values()), _LAYERS_COUNTED):
        _count_layer(s, layer, names.setdefault(_TOKEN.sub("", layer.name), [0] * len(State)))
    if len(s.layers) > _LAYERS_COUNTED:
        all_states = s.states()
        counted = [sum(column) for column in zip(*names.values(), strict=True)]
        names[_OTHERS] = [
            all_states.get(word, 0) - count for word, count in zip(_WORDS, counted, strict=True)
        ]
    return {
        name: {word: count for word, count in zip(_WORDS, counts, strict=True) if count > 0}
        for name, counts in names.items()
    }


def _count_layer(s: SchedulerState, layer: LayerRecord, counts: list[int]) -> None:
    """Add a layer's tasks to counts by state."""
    first, stop = layer.first, layer.first + layer.arrived
    for number in range(first >> PAGE_BITS, ((stop - 1) >> PAGE_BITS) + 1):
        page = s.pages.get(number)
        if page is not None:
            rows = page.state[max(0, first - page.start) : max(0, stop - page.start)]
            for state in set(rows):
                if state:  # not forgotten
                    counts[state] += rows.count(state)


def _spec(s: SchedulerState, client: ClientRecord, ask: Ask) -> dict[str, Any] | None:
    """Return how to make the call of a task; None if the task is forgotten.

    ``inputs`` are (task, key, kind of selection, selection), in the order of the arguments;
    ``groups`` the lengths of the lists into which the trailing ones are folded.
    """
    found = s.find(ask.tasks[0])
    if found is None:
        return None
    page, row = found
    layer = page.layer[row]
    table = page.selections.get(row, [])
    inputs: list[tuple[int, str, int, list[int]]] = []
    at = 0

    def take(task: int, slot: Slot) -> None:
        chosen = table[at : at + slot_width(slot)]
        if slot.kind == 2:  # the part with the task's own number in its layer
            inputs.append((task, s.key(task), 1, [ask.tasks[0] - layer.first]))
        else:
            inputs.append((task, s.key(task), slot.kind, chosen))

    for position, task in enumerate(page.inputs(row)):
        slot = layer.slots[min(position, len(layer.slots) - 1)] if layer.slots else Slot()
        take(task, slot)
        at += slot_width(slot)
    for whole, slot in zip(layer.whole, layer.whole_slots, strict=True):
        for task in range(whole.first, whole.first + whole.count):
            take(task, slot)
        at += slot_width(slot)
    function = s.functions.get(layer.function)
    return {
        "key": s.key(ask.tasks[0]),
        "form": layer.call,
        "function": b"" if function is None else function.data,
        "constant": page.constant(row),
        "inputs": inputs,
        "groups": [whole.count for whole in layer.whole],
    }


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
        told = [(w.name, _status(node, w)) for w in node.info.workers]
        silent = [f"; {w} is {how['reason']}" for w, how in told if how["status"] == "unresponsive"]
        return (
            f"{key} is assigned to {node.info.name}, attempt {tries}; it runs there or is next"
            + "".join(silent[:5])
        )
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
    return _explain_ready(s, key, page.layer[row].profile)


def _explain_ready(s: SchedulerState, key: str, profile: Profile | None) -> str:
    reason = why_nobody(s, profile)
    if reason:
        return f"{key} is ready, but {reason}"
    if profile is None:
        slots = sum(node.slots for node in s.nodes.values() if node.is_accepting)
        return f"{key} is ready and waits for a free slot ({slots} in all)"
    names = ", ".join(
        sorted(
            worker.name
            for node, number in fitting(s, profile)
            for worker in node.info.workers
            if worker.number == number
        )[:10]
    )
    return f"{key} is ready and waits for what it needs at {names} to be free"


_QUESTIONS = {
    "info": _info,
    "who_has": _who_has,
    "story": _story,
    "explain": _explain,
    "overview": _overview,
    "progress": _progress,
    "statistics": _statistics,
    "processing": _processing,
    "has_what": _has_what,
    "holders": _holders,
    "keys": _keys,
    "rebalance": _rebalance,
    "replicate": _replicate,
    "retiring": _retiring,
    "nbytes": _nbytes,
    "spec": _spec,
}
