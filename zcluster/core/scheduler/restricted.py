"""Tasks that not every worker may run: those with a `Profile`.

Names, resources and slots are of workers, so such a task is assigned to a worker and
not only to its node. Resources are given with the assignment and taken back when the
task leaves the node, so a task with resources is never sent ahead.

Where nobody who is here could ever run a task, its client is told within seconds
(`tell_stuck`): a wait that cannot end says why.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator

from zcluster.core.scheduler.assigning import bind
from zcluster.core.scheduler.assignments import AssignBatch, assign
from zcluster.core.scheduler.pages import PAGE_BITS
from zcluster.core.scheduler.placement import resolve
from zcluster.core.scheduler.records import Effect, NodeRecord, Profile, StuckProfile
from zcluster.core.scheduler.state import SchedulerState
from zcluster.core.scheduler.states import State
from zcluster.protocol.messages import Stuck

__all__ = ["STUCK_SECONDS", "dispatch_restricted", "fitting", "tell_stuck", "why_nobody"]

#: Seconds that nobody may be able to run a task before its client is told.
STUCK_SECONDS = 2.0
#: The most tasks a client is told of at a time.
_MOST_TOLD = 10_000


def fitting(s: SchedulerState, profile: Profile) -> list[tuple[NodeRecord, int]]:
    """Return the (node, worker number) that could run tasks of a profile, busy or not."""
    found = resolve(s, profile.workers) if profile.workers else _all_workers(s)
    if profile.resources == () and profile.threads == 1:
        return found
    return [(node, number) for node, number in found if _is_able(node, number, profile)]


def _all_workers(s: SchedulerState) -> list[tuple[NodeRecord, int]]:
    return [
        (node, worker.number)
        for node in s.nodes.values()
        if node.is_accepting
        for worker in node.workers
    ]


def _is_able(node: NodeRecord, number: int, profile: Profile) -> bool:
    for worker in node.info.workers:
        if worker.number == number:
            has = worker.resources
            return worker.slots >= profile.threads and all(
                has.get(name, 0.0) >= amount for name, amount in profile.resources
            )
    return False


def _is_free(node: NodeRecord, number: int, profile: Profile) -> bool:
    """Whether a worker that is able has so much of its resources left."""
    spent = node.spent.get(number)
    if not spent or not profile.resources:
        return True
    has = next(worker.resources for worker in node.info.workers if worker.number == number)
    return all(
        has[name] - spent.get(name, 0.0) >= amount - 1e-9 for name, amount in profile.resources
    )


def dispatch_restricted(s: SchedulerState, batches: dict[int, AssignBatch]) -> Iterator[Effect]:
    """Assign tasks that only some workers may run; yield the messages as batches fill."""
    restricted = s.queues.restricted
    for profile, heap in list(restricted.items()):
        places = fitting(s, profile)
        while heap:
            task = heap[0][1]
            found = s.find(task)
            if found is None or found[0].state[found[1]] != State.READY:
                heapq.heappop(heap)
                continue
            open_places = [
                place for place in places if place[0].room > 0 and _is_free(*place, profile)
            ]
            if not open_places:
                break
            heapq.heappop(heap)
            node, worker = max(open_places, key=lambda place: place[0].room)
            # Take turns between the workers that may run it.
            places.remove((node, worker))
            places.append((node, worker))
            batch = batches.get(node.index)
            if batch is None:
                batch = batches[node.index] = AssignBatch(s, node)
            page = s.pages[task >> PAGE_BITS]
            if profile.resources:
                bind(s, node, worker, task, profile)
            bound = worker if profile.workers or profile.resources else -1
            assign(s, node, batch, task, page, task - page.start, bound)
            if len(batch) >= s.settings.batch:
                yield batch.take()
        if not heap:
            del restricted[profile]
            s.stuck.pop(profile, None)


def why_nobody(s: SchedulerState, profile: Profile | None) -> str:
    """Return why no worker that is here could run a task; empty if one could."""
    nodes = [node for node in s.nodes.values() if node.is_accepting]
    paused = _paused(s)
    if not nodes and paused:
        return f"all workers are paused: {paused}"
    if not nodes:
        away = sum(node.away_since is not None for node in s.nodes.values())
        leaving = sum(node.retiring is not None for node in s.nodes.values())
        others = f", and {away} nodes cannot be reached" if away else ""
        others += f", and {leaving} nodes are to leave" if leaving else ""
        return f"no worker is here{others}; start workers, or wait until they have joined"
    if profile is None or fitting(s, profile):
        return ""
    workers = [worker for node in nodes for worker in node.workers]
    wishes = []
    if profile.workers:
        wishes.append(f"one of the workers {', '.join(profile.workers)}")
    if profile.resources:
        amounts = ", ".join(f"{name}={amount:g}" for name, amount in profile.resources)
        wishes.append(f"the resources {amounts}")
    if profile.threads > 1:
        wishes.append(f"{profile.threads} threads")
    described = []
    for worker in workers[:10]:
        has = "".join(f", {name}={amount:g}" for name, amount in worker.resources.items())
        described.append(f"{worker.name} ({worker.slots} threads{has})")
    more = ", …" if len(workers) > 10 else ""
    hint = "submit it with allow_other_workers=True, or " if profile.workers else ""
    others = f" (paused: {paused})" if paused else ""
    return (
        f"it needs {' with '.join(wishes)}, and the workers here are {', '.join(described)}{more}"
        f"{others}; {hint}start such a worker"
    )


def _paused(s: SchedulerState) -> str:
    """Return which workers take no work for now, and why."""
    found = [
        f"{worker.name} ({worker.reason})"
        for node in s.nodes.values()
        if node.away_since is None
        for worker in node.info.workers
        if worker.status == "paused"
    ]
    return "; ".join(found[:3]) + (f"; and {len(found) - 3} more" if len(found) > 3 else "")


def tell_stuck(s: SchedulerState) -> None:
    """Tell clients of tasks that have waited a while and that nobody could run."""
    waiting: list[Profile | None] = list(s.queues.restricted)
    if s.queues and not any(node.is_accepting for node in s.nodes.values()):
        waiting.append(None)
    for profile in s.stuck.keys() - waiting:
        del s.stuck[profile]
    for profile in waiting:
        reason = why_nobody(s, profile)
        if not reason:
            s.stuck.pop(profile, None)
            continue
        stuck = s.stuck.setdefault(profile, StuckProfile(s.now))
        if s.now - stuck.since >= STUCK_SECONDS:
            # Looked at only now: a busy queue may be long, and this is asked four times a second.
            tasks = _first_tasks(s, profile)
            _tell(s, [task for task in tasks if task not in stuck.told], reason)
            stuck.told.update(tasks)


def _first_tasks(s: SchedulerState, profile: Profile | None) -> list[int]:
    """Return some of the tasks that are queued with a profile, or without one."""
    if profile is None:
        return s.queues.first_tasks()[:_MOST_TOLD]
    return [task for _, task, _ in s.queues.restricted[profile][:_MOST_TOLD]]


def _tell(s: SchedulerState, tasks: list[int], reason: str) -> None:
    told: dict[int, list[int]] = {}
    for task in tasks:
        client = s.client_of(task)
        found = s.find(task)
        if client and found is not None and found[0].state[found[1]] == State.READY:
            told.setdefault(client.peer, []).append(task)
    for peer, stuck in told.items():
        s.say(peer, Stuck(stuck, [0] * len(stuck), [reason]))
