"""Small wrong edits to the cores, as a measure of what the simulation can find.

Each replaces a piece of text that stands exactly once in a file. They were chosen from the
sources of the cores alone: what would somebody forget, mistake or simplify away? Some repeat, in
this code, what has hung or misled other systems; ``after`` names where that was told.

``python tests/planted/run.py`` applies one at a time to a copy and looks how long the simulation
takes to find it.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["BUGS", "Bug"]


@dataclass(frozen=True)
class Bug:
    """One wrong edit.

    Attributes
    ----------
    name : str
        What is wrong, in a few words.
    file : str
        Below ``zcluster/``.
    old, new : str
        The text that is there, once, and what takes its place.
    after : str
        The report of another project that this repeats, if any.
    """

    name: str
    file: str
    old: str
    new: str
    after: str = ""


_S = "core/scheduler/"
_N = "core/node/"

BUGS = (
    # ------------------------------------------------------------ scheduler: members
    Bug(
        "the tasks of a dead node are not queued again",
        _S + "membership.py",
        "        return\n    _requeue(s, node, reason)\n",
        "        return\n",
    ),
    Bug(
        "results that were lost with a node are not made again",
        _S + "membership.py",
        "    lose(s, lost)\n",
        "",
    ),
    Bug(
        "a fenced node is not told that it is",
        _S + "membership.py",
        "    s.fenced.append((node.peer, reason))\n",
        "",
    ),
    Bug(
        "what a fenced node says is heard",
        _S + "core.py",
        "isinstance(member, NodeRecord) and s.nodes.get(member.index) is member",
        "isinstance(member, NodeRecord)",
    ),
    Bug(
        "copies on a dead node still count as copies",
        _S + "membership.py",
        "        others.discard(index)\n        if not others:\n",
        "        if not others:\n",
        "ray 65660",
    ),
    Bug(
        "a client that is gone goes on wanting what it submitted",
        _S + "membership.py",
        "            if page.state[row] and page.flags[row] & WANTED:\n",
        "            if False:\n",
    ),
    Bug(
        "a client that is gone goes on wanting what others submitted",
        _S + "membership.py",
        "    for task in [task for task, clients in s.wants.items() if client.index in clients]:\n"
        "        drop_want(s, client, task)\n",
        "",
    ),
    Bug(
        "lost data of a client that is gone is waited for",
        _S + "membership.py",
        "    _fail_orphaned_data(s, client)\n",
        "",
    ),
    # ------------------------------------------------------------ scheduler: results
    Bug(
        "the result of an attempt that was taken back counts as that of the newest",
        _S + "results.py",
        "elif page.attempt[row] != attempt:",
        "elif page.attempt[row] < attempt:",
        "distributed 5370",
    ),
    Bug(
        "the failure of an attempt that was taken back is believed",
        _S + "failing.py",
        "            or page.attempt[row] != attempt\n",
        "",
        "distributed 8787",
    ),
    Bug(
        "what was said to be freed is freed though it was assigned once more",
        _S + "assigning.py",
        "    s.unfree(task, node)\n",
        "",
        "distributed 5370",
    ),
    Bug(
        "a result of no use stays at the node that made it",
        _S + "results.py",
        "        s.frees.setdefault(index, []).extend(stale)\n",
        "        pass\n",
    ),
    Bug(
        "nodes are not told that others were quicker",
        _S + "results.py",
        "        if node != but:\n            s.drop(task, node)\n",
        "        pass\n",
    ),
    Bug(
        "a client that wants another's task is not told of its result",
        _S + "results.py",
        "            _tell_others(s, task, frame[start:stop] if length >= 0 else None)\n",
        "            pass\n",
    ),
    Bug(
        "a consumer wakes one input too early",
        _S + "results.py",
        "    if missing == 0 and page.state[row] in (_WAITING, _AHEAD):\n",
        "    if missing <= 1 and page.state[row] in (_WAITING, _AHEAD):\n",
    ),
    Bug(
        "tasks ahead do not wake when their inputs are done",
        _S + "results.py",
        "page.state[row] in (_WAITING, _AHEAD):\n        page.node[row] = -1",
        "page.state[row] == _WAITING:\n        page.node[row] = -1",
    ),
    Bug(
        "the inputs of a task that ended without a result stay referenced",
        _S + "failing.py",
        "            drop_ref(s, task_in, *found)\n",
        "            pass\n",
    ),
    Bug(
        "tasks that nobody needs any more run on",
        _S + "releasing.py",
        "        s.unneeded.append(task)\n",
        "",
    ),
    Bug(
        "rows are forgotten while consumers may need them again",
        _S + "releasing.py",
        "        if page.kin[row] or page.refs[row] or page.state[row] not in _ENDED:\n",
        "        if page.refs[row] or page.state[row] not in _ENDED:\n",
    ),
    # -------------------------------------------------------- scheduler: going back
    Bug(
        "what was sent ahead after a task that comes back stays where it is",
        _S + "assigning.py",
        "        stack.extend((heir, True) for heir in unplace_heirs(s, page, row))\n",
        "        unplace_heirs(s, page, row)\n",
    ),
    Bug(
        "inputs of a task that leaves a node still count as passing",
        _S + "assigning.py",
        "            # The node keeps the inputs of what leaves it, passing or not.\n"
        "            found[0].flags[found[1]] &= ~PASSING & 0xFF\n",
        "            pass\n",
    ),
    Bug(
        "a task is sent ahead of inputs that are assigned to several nodes",
        _S + "assigning.py",
        "            if source.node[at] != node:\n                return\n",
        "            pass\n",
    ),
    Bug(
        "resources of a task that leaves its node are not given back",
        _S + "assigning.py",
        "    unbind(s, task)\n    node.blocked.pop(task, None)\n",
        "    node.blocked.pop(task, None)\n",
    ),
    Bug(
        "tasks that a node gives back are not taken",
        _S + "core.py",
        "            assigning.give_back(self.state, task, tell=False)\n",
        "            pass\n",
    ),
    Bug(
        "that a node does not have a result is not believed",
        _S + "core.py",
        "        recomputing.lose(s, {t for t in tasks if self._is_lost_with(t, node)})\n",
        "",
        "distributed 5951",
    ),
    Bug(
        "workers that a task took down are not counted",
        _S + "failing.py",
        "        s.kills[task] = s.kills.get(task, 0) + 1\n",
        "        s.kills[task] = s.kills.get(task, 0)\n",
    ),
    Bug(
        "consumers of what is made again run on without it",
        _S + "recomputing.py",
        "        give_back(s, task, tell=True)\n    for task in again:\n",
        "        pass\n    for task in again:\n",
    ),
    Bug(
        "inputs that were let go are not made again with what needs them",
        _S + "recomputing.py",
        "            if source.state[at] == _RELEASED:\n                stack.append(task_in)\n",
        "",
    ),
    Bug(
        "clients are not asked to put lost data again",
        _S + "recomputing.py",
        "                s.say(owner.peer, Unreachable([task], -1))\n",
        "                pass\n",
    ),
    Bug(
        "a layer that takes all of another does not notice that some is made again",
        _S + "recomputing.py",
        "    layer.unfinished += 1\n    if layer.unfinished != 1:\n",
        "    if layer.unfinished != 1:\n",
    ),
    # ------------------------------------------------------------------- the node
    Bug(
        "all that a dead worker had is blamed, not what ran",
        _N + "attempts.py",
        "        running = set(end.running)\n",
        "        running = {assignment.task for assignment in sent}\n",
        "distributed 5234",
    ),
    Bug(
        "what a dead worker had not begun is not given back",
        _N + "attempts.py",
        "        self._return([a for a in sent if a.task not in running])\n",
        "",
    ),
    Bug(
        "results in the heap of a dead worker are not missed",
        _N + "attempts.py",
        "            self.effects.to_scheduler.append((Lost(lost), ()))\n            self._return(",
        "            self._return(",
    ),
    Bug(
        "room that was given to a dead worker is not taken back",
        _N + "attempts.py",
        "            for granted in self.grants.pop(key):\n"
        "                self.memory.free(granted)\n        blamed",
        "            self.grants.pop(key)\n        blamed",
    ),
    Bug(
        "leases of a dead worker are kept",
        _N + "attempts.py",
        "        self.memory.drop_holder(worker.number)\n",
        "",
    ),
    Bug(
        "a worker looks at an input without a lease",
        _N + "batches.py",
        "            core.memory.lease(place, self._worker.number)\n",
        "",
    ),
    Bug(
        "a lease that is returned stays out",
        _N + "attempts.py",
        "                self.memory.give_back(Range(slab, offset, length), number)\n",
        "                pass\n",
    ),
    Bug(
        "results are freed while tasks here still take them",
        _N + "core.py",
        "            if task in uses:\n",
        "            if False:\n",
    ),
    Bug(
        "a recall of what waits at the node is not answered",
        _N + "core.py",
        "        self._return(given)\n        for number, wanted in asked.items():\n",
        "        for number, wanted in asked.items():\n",
    ),
    Bug(
        "what a worker gives back on the scheduler's wish stays at the node",
        _N + "attempts.py",
        "                task in self.recalling\n"
        "                or self._has_lost_input(assignment)\n",
        "                self._has_lost_input(assignment)\n",
    ),
    Bug(
        "a dropped attempt that still runs may run beside its successor",
        _N + "batches.py",
        "                or assignment.task in worker.ghosts\n",
        "",
    ),
    Bug(
        "tasks whose input could not be fetched go on waiting",
        _N + "inputs.py",
        "        self._return(waiting)\n",
        "",
        "distributed 5951",
    ),
    Bug(
        "uses of inputs of a task that leaves are not counted down",
        _N + "inputs.py",
        "                maker.heirs = [heir for heir in maker.heirs if heir is not assignment]\n"
        "            self._unuse(source)\n",
        "                maker.heirs = [heir for heir in maker.heirs if heir is not assignment]\n",
    ),
    Bug(
        "a result that was passing is reported though its consumers went elsewhere",
        _N + "attempts.py",
        "                or (length == -2 and not self._is_consumed(assignment))\n",
        "",
    ),
    # ------------------------------------------------- limits, leaving, room and disk
    Bug(
        "what does not stop when it should is left running",
        _N + "stopping.py",
        "        self.effects.to_restart.append(worker.number)\n",
        "",
    ),
    Bug(
        "tasks are given to others though they run at most once and may have begun",
        _S + "membership.py",
        "page.layer[row].is_once",
        "False",
    ),
    Bug(
        "a node leaves before what it has has come to others",
        _S + "retiring.py",
        "    if retirement.reason or moving:\n",
        "    if retirement.reason:\n",
    ),
    Bug(
        "a node that retires keeps what it has not begun",
        _S + "retiring.py",
        "        s.say(node.peer, Recall(assigned))\n",
        "        pass\n",
    ),
    Bug(
        "copies that could not be made are waited for",
        _S + "retiring.py",
        "        failed = [task for task in message.failed if moving.get(task) == to.index]\n",
        "        failed: list[int] = []\n",
    ),
    Bug(
        "what comes back from disk is believed whatever it is",
        _N + "spilling.py",
        "        elif error and is_here:\n",
        "        elif False:\n",
    ),
    Bug(
        "what could not be written to disk is taken to be there",
        _N + "spilling.py",
        "        if error or core.results.get(job.number) is not result:\n",
        "        if core.results.get(job.number) is not result:\n",
    ),
    Bug(
        "memory stays taken by what is on disk",
        _N + "spilling.py",
        "        result.sums = sums\n        core.memory.free(source)\n",
        "        result.sums = sums\n",
    ),
    Bug(
        "a worker that ended still waits for room",
        _N + "attempts.py",
        "        self.room.withdraw(worker.number)\n",
        "",
    ),
    Bug(
        "the scheduler holds its own pause against the others",
        _S + "membership.py",
        "            member.away_since = min(s.now, member.away_since + pause)\n",
        "            pass\n",
    ),
    # ------------------------------------------------------------ sessions, clients
    Bug(
        "a late hello of an old connection takes over",
        "protocol/reception.py",
        "        if hello.connection <= peer.connection:\n            return Reconnect()\n",
        "",
    ),
    Bug(
        "a fenced peer may come back as it was",
        "protocol/reception.py",
        "        if hello.token or hello.incarnation in self._ended:\n"
        "            return Refused(_OVER)\n",
        "",
    ),
    Bug(
        "a gap in what was heard is not noticed",
        "protocol/session.py",
        "        if sequence != self.heard + 1:\n"
        '            raise ProtocolError(f"message {sequence} came after message {self.heard}")\n',
        "",
    ),
    Bug(
        "what was heard before is heard again",
        "protocol/session.py",
        "        if sequence <= self.heard:\n            return False\n",
        "",
    ),
    Bug(
        "what was on its way when a connection broke is not said again",
        "protocol/session.py",
        "            again.append(kept.frames)\n",
        "            pass\n",
        "distributed 5480",
    ),
    Bug(
        "a client does not say that it could not fetch a result",
        "core/client/core.py",
        "            self.say(Unreachable([record.task], node))\n",
        "            pass\n",
    ),
    Bug(
        "a client does not put again what its node has lost",
        "core/client/core.py",
        "        gone = [t for t in message.tasks if not self._shelf.put_again(t, message.node)]\n",
        "        gone: list[int] = []\n",
    ),
)
