"""A history: a whole pretend cluster lives through a plan.

First the **safety phase**: what people do, and what goes wrong, at the times of the plan. Whatever
a client is told is compared with the model; the states of the cores are walked on the way (I1 to
I8). Then the **liveness phase**: faults stop, networks heal, and one more node joins that is left
alone. Within 120 virtual seconds everything that is wanted must be there or have failed for a
permitted reason (I10), and what can run must not wait beside an idle node (I9). In the end all is
released, and nothing may be left anywhere (I11). An exception that gets out of a core, a message
nobody takes: all of that ends the history with a failure (I12).
"""

from __future__ import annotations

import random
import re
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from zcluster.core.node.invariants import check_empty as check_node_empty
from zcluster.core.scheduler.invariants import check_empty
from zcluster.core.scheduler.questions import explain
from zcluster.core.scheduler.states import State
from zcluster.errors import InvariantError
from zcluster.protocol.messages import Message, Retire
from zcluster.testing.asking import Asking
from zcluster.testing.coverage import Coverage
from zcluster.testing.doings import DOINGS
from zcluster.testing.faults import FAULT_KINDS, PERMITTED_PAUSE
from zcluster.testing.model import Model
from zcluster.testing.plans import Action, Plan
from zcluster.testing.promises import check_left, check_places
from zcluster.testing.stores import AMPLE, Storage
from zcluster.testing.watching import Watcher
from zcluster.testing.world import World

__all__ = ["LIVENESS_SECONDS", "Failure", "History", "Outcome", "live"]

#: Virtual seconds after the last fault within which everything must be final.
LIVENESS_SECONDS = 120.0

#: Virtual seconds within which what can run beside an idle node must be on its way.
_PROGRESS_SECONDS = 1.0

#: Why members are fenced that nobody has heard of for too long.
_FALSE_DEATHS = ("it could not be reached", "the client was away for too long")

#: Of those where a node falls silent, how many wait, and how long, before all is healed.
_WAITING, _LONG_WAIT = 0.15, 12.0

#: How long a scheduler is watched that has stood still.
_AFTER_PAUSE = 0.5

#: Faults after which nobody may be taken for dead.
_HARMLESS = {
    "freeze_scheduler",
    "kill_worker",
    "fill_store",
    "fail_fetches",
    "spoil_disk",
    "press_memory",
    "pause_workers",
}

#: In how many histories failed tasks are tried again in the end.
_ENCORE = 0.2

#: How nodes end that nothing has happened to.
_ENDS = ("killed", "it was retired")

#: For so long a restart may be on its way whose client is gone.
_RESTART_SECONDS = 60.0

#: Seconds within which the work of a node that is silent is given to others, and within which
#: it is fenced.
_SUSPECT_SECONDS, _FENCE_SECONDS = 3.0, 11.5

#: In one of so many histories work arrives before the first workers have started.
_EARLY = 4

#: How often a fault looks for a node that is at work.
_AIMED = 0.7

#: Tasks of a failure whose stories are told.
_STORIES = 3


@dataclass(frozen=True)
class Failure:
    """What was wrong with a history.

    Attributes
    ----------
    kind : str
        The class of the exception.
    text : str
        Its message.
    tasks : list of int
        Those it names.
    place : str
        Where in the source it was raised.
    at : float
        Virtual seconds after the start.
    """

    kind: str
    text: str
    tasks: list[int]
    place: str
    at: float
    traceback: str = ""

    @property
    def signature(self) -> str:
        """What two failures have in common that are likely to have one cause.

        Examples
        --------
        >>> one = Failure("E", "task 12 waits", [12], "f:3", 1.0)
        >>> one.signature == Failure("E", "task 7 waits", [7], "f:3", 9.0).signature
        True
        """
        # Values and numbers are another history's.
        said = re.split(r"['\"\n;\[{]", self.text, maxsplit=1)[0]
        return f"{self.kind} {self.place} {' '.join(re.findall(r'[A-Za-z]+', said))}"


@dataclass
class Outcome:
    """How a history went, in numbers."""

    seed: int
    counts: bool = False
    graphs: list[int] = field(default_factory=list)
    clients: int = 0
    nodes: int = 0
    faults: dict[str, int] = field(default_factory=dict)
    hits: dict[str, int] = field(default_factory=dict)
    events: int = 0
    seconds: float = 0.0
    trace_hash: str = ""
    failure: Failure | None = None


class History:
    """One plan, and the world it happens in.

    Parameters
    ----------
    plan : Plan
    coverage : Coverage, optional
        Where to count what was seen.
    check : bool
        Walk the states of the cores on the way.

    Examples
    --------
    >>> from zcluster.testing.plans import draw_plan
    >>> history = History(draw_plan(3))
    >>> history.run()
    >>> history.outcome().failure is None
    True
    """

    def __init__(self, plan: Plan, coverage: Coverage | None = None, check: bool = True) -> None:
        self.plan = plan
        self.watcher = Watcher(Coverage() if coverage is None else coverage)
        self.world = World(plan.seed, check, on_core=self.watcher.watch, **plan.settings)
        self.world.blocking = plan.blocking
        model = self.world.model
        self.watcher.had_losses = lambda: model.had_losses or model.had_silent_ports
        self.graphs: list[int] = []
        self.faults: Counter[str] = Counter()
        self.hits: Counter[str] = Counter()
        self._members = [0, 0]
        self._healing: list[Callable[[], None]] = []
        self._number = 0
        self._restarted_at = -_RESTART_SECONDS
        self._paused_until = -1.0
        #: When the scheduler has gone on, if that is to be seen.
        self._waited_for = -1.0
        #: Whether all faults are over.
        self.is_healed = False
        #: Nodes that fell silent.
        self._watched = 0
        self.asking = Asking(self)
        self.world.on_effect = self.asking.on_effect

    @property
    def model(self) -> Model:
        return self.world.model

    def run(self) -> None:
        """Live through the whole plan.

        Raises
        ------
        InvariantError, AssertionError
            If something is wrong.
        """
        with self.watcher.watching():
            self.safety()
            self.liveness()
            self.end()

    def outcome(self) -> Outcome:
        """Return how it went so far."""
        return Outcome(
            self.plan.seed,
            bool(self.hits),
            self.graphs,
            self._members[0],
            self._members[1],
            dict(self.faults),
            dict(self.hits),
            self.world.events,
            self.world.now,
            self.world.trace_hash,
        )

    # ------------------------------------------------------------------- phases

    def safety(self) -> None:
        """Do all actions at their times."""
        started = False
        for action in self.plan.actions:
            if action.at < 0:
                self.do(action)
                continue
            if not started:
                self._settle_members()
                started, start = True, self.world.now
            if start + action.at > self.world.now:
                self.world.run_for(start + action.at - self.world.now)
            self.do(action)
        # Some wait long enough to see what becomes of a node that is silent.
        chance = random.Random(self.plan.seed).random()
        self.world.run_for(_LONG_WAIT if self._watched and chance < _WAITING else 0.01)
        if self._waited_for > self.world.now:
            self.world.run_for(self._waited_for - self.world.now)

    def _settle_members(self) -> None:
        self._members = [len(self.world.clients), len(self.world.nodes)]
        self.world.settle_members()
        if self.plan.seed % _EARLY:
            nodes = self.world.nodes
            self.world.run_until(lambda: not any(node.starting for node in nodes), 1.0)

    def do(self, action: Action) -> None:
        """Do one action."""
        chance = random.Random(action.seed)
        if action.is_fault:
            hit = FAULT_KINDS[action.kind](self, chance, action)
            self.faults[action.kind] += 1
            self.hits[action.kind] += hit
            self.hits = +self.hits
        else:
            DOINGS[action.kind](self, chance, action)
        self.model.check_blamed(self.world.core.state.kills)

    def liveness(self) -> None:
        """No more faults: everything that is wanted must come."""
        w = self.world
        self.is_healed = True
        w.heal()
        for restore in self._healing:
            restore()
        w.add_node("rescue", 2, 2, {"GPU": 2.0})
        self._until_all_is_there()
        if self._try_again():
            self._until_all_is_there()
        check_places(w.core.state, w.node)
        self.model.check_blamed(w.core.state.kills)
        self._check_no_false_deaths()

    def _try_again(self) -> bool:
        """In some histories all who were told of failures ask for those tasks once more."""
        chance, action = random.Random(self.plan.seed), Action(0, 0.0, "retry", 0)
        if chance.random() > _ENCORE:
            return False
        for client in self.clients():
            DOINGS["retry"](self, chance, action)
            self.world.run_for(chance.choice((0.0, 0.0, 0.0005, 0.005)))
            if client.is_ready and chance.random() < 0.3:
                DOINGS["cancel"](self, chance, action)
        return True

    def _until_all_is_there(self) -> None:
        w = self.world
        deadline = w.now + LIVENESS_SECONDS
        while not w.is_quiet:
            if w.now > deadline:
                raise InvariantError(self._describe_waiting())
            before = self._idle_beside()
            w.run_for(_PROGRESS_SECONDS)
            self._check_progress(before)

    def end(self) -> None:
        """Release everything and close: nothing may be left."""
        w = self.world
        for client in self.clients():
            client.release(list(client.wanted))
        w.run_until_quiet(LIVENESS_SECONDS)
        # What retires waits for actors there, and shared values may refer to those.
        self._until_answered(Retire)
        self._forget_things()
        self._until_answered()
        for client in self.clients():
            client.close()
        w.run_until(lambda: not w.core.state.clients and not len(w.core.calls), LIVENESS_SECONDS)
        w.run_until_quiet(LIVENESS_SECONDS)
        check_empty(w.core.state)
        w.run_until(lambda: not any(node.retiring for node in w.core.state.nodes.values()), 10.0)
        check_left(w.core.state)
        if w.core.state.clients:
            left = [client.name for client in w.core.state.clients.values()]
            raise InvariantError(f"all clients have said goodbye, and {left} are still known")
        self.asking.check_empty()
        w.sweep()
        for node in w.nodes:
            check_node_empty(node.core)
            if node.core.calls or node.core.restarting:
                raise InvariantError(
                    f"node {node.name} still has the calls {node.core.calls}, and to restart "
                    f"{node.core.restarting}"
                )

    def _until_answered(self, *but: type[Message]) -> None:
        """Let time pass until all requests have their answers, apart from some kinds."""

        def waiting() -> list[Message]:
            return [message for message in self.asking.waiting() if not isinstance(message, but)]

        if not self.world.run_until(lambda: not waiting(), LIVENESS_SECONDS):
            raise InvariantError(f"never answered: {waiting()[0]}")

    def _forget_things(self) -> None:
        """Have somebody forget what clients shared, and what that refers to."""
        w = self.world
        client = next(iter(self.clients()), None) or w.add_client("last")
        w.run_until(lambda: client.is_ready, LIVENESS_SECONDS)
        self.asking.forget_things(client)
        client.release(list(client.wanted))
        w.run_until_quiet(LIVENESS_SECONDS)

    # ----------------------------------------------------------------- liveness

    def _describe_waiting(self) -> str:
        state = self.world.core.state
        waiting = [t for c in self.clients() for t, outcome in c.wanted.items() if outcome is None]
        if not waiting:
            return f"it is not quiet after {LIVENESS_SECONDS:g} s; {self.world.unrest()}"
        lines = [f"task {task} waits: {explain(state, task)}" for task in waiting[:_STORIES]]
        more = f" and {len(waiting) - _STORIES} more" if len(waiting) > _STORIES else ""
        return "\n".join(lines) + more

    def _idle_beside(self) -> tuple[set[int], set[int]]:
        """Return the ready tasks that any worker may run, and the nodes with nothing to do."""
        s = self.world.core.state
        delayed = {task for _, _, task in s.queues.delayed}
        ready = {
            task
            for task, page, row in s.rows()
            if page.state[row] == State.READY
            and page.layer[row].profile is None
            and task not in delayed
        }
        idle = {
            node.index
            for node in s.nodes.values()
            if node.is_accepting and not any(node.assigned.values())
        }
        return ready, idle

    def _check_progress(self, before: tuple[set[int], set[int]]) -> None:
        after = self._idle_beside()
        ready, idle = before[0] & after[0], before[1] & after[1]
        if ready and idle:
            task = min(ready)
            raise InvariantError(
                f"task {task} is ready and node {min(idle)} idle for {_PROGRESS_SECONDS:g} s: "
                f"{explain(self.world.core.state, task)}"
            )

    def _check_no_false_deaths(self) -> None:
        """A scheduler that stood still takes nobody for dead."""
        if set(self.faults) - _HARMLESS:
            return
        # Who ends meanwhile cannot say so, and is missed later.
        node, client = _FALSE_DEATHS
        reasons = [] if any(why in _ENDS for _, _, why in self.world.ends) else [node]
        reasons += [] if any(c.is_gone for c in self.world.clients) else [client]
        for peer, reason in self.watcher.fenced:
            if reason in reasons:
                raise InvariantError(
                    f"peer {peer} was taken for dead ({reason}); nothing happened to it, and the "
                    f"scheduler stood still for {PERMITTED_PAUSE:g} s at most"
                )

    # ------------------------------------------------------------- for actions

    @property
    def is_working(self) -> bool:
        """Whether any node has a task."""
        return any(node.core.tasks for node in self.nodes())

    @property
    def is_restarting(self) -> bool:
        """Whether what is submitted now may still be cancelled by a restart."""
        is_recent = self.world.now - self._restarted_at < _RESTART_SECONDS
        return is_recent and self.asking.is_restarting

    def note_restart(self) -> None:
        """All tasks there are may be cancelled; what workers run may be lost."""
        self._restarted_at = self.world.now
        self.model.cancelled.update(self.model.specs)
        self.model.had_losses = True

    def note_pause(self, seconds: float, is_waited_for: bool = False) -> None:
        """The scheduler will stand still, and hear nobody; what becomes of it may be waited for."""
        self._paused_until = max(self._paused_until, self.world.now + seconds)
        if is_waited_for:
            self._waited_for = self._paused_until + _AFTER_PAUSE
        self.model.note_away([client.index for client in self.world.clients], seconds)

    def watch_absence(self, node: Any, seconds: float) -> None:
        """Look whether a node that is silent for some time is given up as soon as it should be.

        Work that it has goes to others within three seconds, and after ten it is fenced.
        """
        s = self.world.core.state
        record = s.nodes.get(node.index)
        if record is None or record.away_since is not None:
            return
        self._watched += 1
        if seconds > _SUSPECT_SECONDS:
            had = [
                (task, page.attempt[row])
                for task, page, row in s.rows()
                if page.state[row] == State.ASSIGNED
                and page.node[row] == node.index
                and not page.layer[row].is_once
            ]
            began = self.world.now
            self.world.at(_SUSPECT_SECONDS, self._check_given_away, node, began, had)
        if seconds > _FENCE_SECONDS:
            self.world.at(_FENCE_SECONDS, self._check_fenced, node, self.world.now)

    def _was_watched(self, since: float) -> bool:
        """Whether the fault lasted, and the scheduler was there to see it."""
        return not self.is_healed and self._paused_until < since

    def _check_given_away(self, node: Any, since: float, had: list[tuple[int, int]]) -> None:
        if not self._was_watched(since):
            return
        for task, attempt in had:
            found = self.world.core.state.find(task)
            if found is None:
                continue
            page, row = found
            is_there = page.state[row] == State.ASSIGNED and page.node[row] == node.index
            if is_there and page.attempt[row] == attempt:
                raise InvariantError(
                    f"task {task} is still at node {node.name}, of which nothing was heard for "
                    f"{_SUSPECT_SECONDS:g} s"
                )

    def _check_fenced(self, node: Any, since: float) -> None:
        if self._was_watched(since) and node.index in self.world.core.state.nodes:
            raise InvariantError(
                f"node {node.name} is not fenced, and nothing was heard of it for "
                f"{_FENCE_SECONDS:g} s"
            )

    def on_heal(self, seconds: float, restore: Callable[[], None]) -> None:
        """Undo a fault after some time, or when all faults end."""
        self._healing.append(restore)
        self.world.at(seconds, restore)

    def next_number(self) -> int:
        """Return a number nobody has."""
        self._number += 1
        return self._number

    def clients(self) -> list[Any]:
        """Return the clients that can be used."""
        return [c for c in self.world.clients if c.is_ready and not c.is_gone and not c.is_over]

    def nodes(self) -> list[Any]:
        """Return the nodes that are there, as far as anybody knows."""
        return [node for node in self.world.nodes if not node.is_gone and node.index >= 0]

    def some_client(self, chance: random.Random) -> Any:
        """Return any of the clients, or None."""
        clients = self.clients()
        return chance.choice(clients) if clients else None

    def some_node(self, chance: random.Random) -> Any:
        """Return any of the nodes, one with tasks more often, or None."""
        nodes = self.nodes()
        busy = [node for node in nodes if node.core.tasks]
        if busy and chance.random() < _AIMED:
            nodes = busy
        return chance.choice(nodes) if nodes else None

    def add_node(self, name: str, chance: random.Random) -> None:
        """Have a node join."""
        if any(node.name == name for node in self.nodes()):
            self.model.had_losses = True
        resources = {"GPU": chance.choice((1.0, 2.0))} if chance.random() < 0.5 else None
        workers, slots = chance.randint(1, 3), chance.randint(1, 3)
        self.world.add_node(name, workers, slots, resources, _draw_storage(chance))


def _draw_storage(chance: random.Random) -> Storage | None:
    """Draw the memory of a node: many have more than they need, the others mostly a disk."""
    if chance.random() < 0.5:
        return None
    limit = chance.choice((400, 1000, 3000))
    target = chance.choice((0, 1, limit // 2))
    return Storage(limit, target, chance.choice((0, 500, AMPLE, AMPLE, AMPLE)))


def live(
    plan: Plan,
    coverage: Coverage | None = None,
    check: bool = True,
    history: History | None = None,
) -> Outcome:
    """Live through a plan; return how it went, whatever happened.

    With a ``history`` it is that one that is lived through.

    Examples
    --------
    >>> from zcluster.testing.plans import draw_plan
    >>> live(draw_plan(5)).failure is None
    True
    """
    if history is None:
        history = History(plan, coverage, check)
    try:
        history.run()
    except Exception as error:  # whatever gets out of a core is what we look for
        outcome = history.outcome()
        outcome.failure = _failure(error, history)
        return outcome
    return history.outcome()


def _failure(error: Exception, history: History) -> Failure:
    frames = traceback.extract_tb(error.__traceback__)
    last = frames[-1]
    text = str(error) or type(error).__name__
    named = [int(word) for word in re.findall(r"\btask (\d+)", text)]
    return Failure(
        type(error).__name__,
        text,
        list(dict.fromkeys(named))[:_STORIES],
        f"{last.filename.rpartition('/')[2]}:{last.name}",
        history.world.now,
        "".join(traceback.format_list(frames[-6:])),
    )
