"""The scheduler core alone, against peers that say whatever peers may say, in any order.

`Peers` (in the file beside this one) are honest, and late. `Strangers` adds peers who say anything
that their types allow. It ends their session, and nobody else's: what is left still adds up.
"""

from __future__ import annotations

import importlib.util
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import note, settings
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule, run_state_machine_as_test

from zcluster.core.scheduler.invariants import check_empty
from zcluster.errors import ProtocolError
from zcluster.graph.layers import Graph, GraphLayer
from zcluster.graph.lowering import slices
from zcluster.protocol.messages import (
    CLIENT_TO_SCHEDULER,
    NODE_TO_SCHEDULER,
    Acknowledge,
    Goodbye,
    Hello,
    Message,
)
from zcluster.testing.fakes import function
from zcluster.testing.samples import Sampler

if TYPE_CHECKING:
    from tests.unit.core.scheduler.peers import AT, WORKERS, Import, Member, Peers, picked
else:
    # Test files cannot be imported by name.
    _spec = importlib.util.spec_from_file_location(
        "scheduler_peers", Path(__file__).with_name("peers.py")
    )
    _peers = sys.modules[_spec.name] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(_peers)
    AT, WORKERS, picked = _peers.AT, _peers.WORKERS, _peers.picked
    Import, Member, Peers = _peers.Import, _peers.Member, _peers.Peers


def sampler(chance: random.Random, known: list[int]) -> Sampler:
    """Return what makes messages of words and numbers that mean something here."""
    numbers = [*known, *known, 0, 1, 2, 4, -1, -3, 1 << 31, 1 << 63, (1 << 64) - 1]
    words = ["", "n0", "n0-0", "x", "lock", "queue", "acquire", "put", "killed", "task"]
    return Sampler(chance, lambda: chance.choice(numbers), lambda: chance.choice(words), 3)


#: Ends of sessions, and what only their sockets say.
_NOT_FOR_THE_CORE = (Hello, Goodbye, Acknowledge)


class Strangers(Peers):
    """And peers who say anything at all."""

    @precondition(lambda self: self.live())
    @rule(
        who=AT,
        kind=st.integers(0, 99),
        chance=st.randoms(use_true_random=False),
        known=st.lists(Peers.tasks, max_size=3),
        frames=st.lists(st.binary(max_size=12), max_size=3),
    )
    def says_anything(
        self,
        who: int,
        kind: int,
        chance: random.Random,
        known: list[int],
        frames: list[bytes],
    ) -> None:
        (member,) = picked(self.live(), who)
        kinds = CLIENT_TO_SCHEDULER if member.role == "client" else NODE_TO_SCHEDULER
        allowed = [one for one in kinds if one not in _NOT_FOR_THE_CORE]
        self.try_to_say(member, sampler(chance, known).sample(allowed[kind % len(allowed)]), frames)

    @precondition(lambda self: self.idle_clients())
    @rule(
        who=AT,
        chance=st.randoms(use_true_random=False),
        known=st.lists(Peers.tasks, max_size=2, unique=True),
        limit=st.sampled_from((1 << 20, 200)),
    )
    def submits_nearly(self, who: int, chance: random.Random, known: list[int], limit: int) -> None:
        """A graph with one thing wrong in it, or in one of its layers or parts."""
        (client,) = picked(self.idle_clients(), who)
        graph = Graph()
        for task in known:
            graph.add_import(Import(task))
        last = ~(len(known) - 1) if known else 0
        indices = [0, last, 0, 1] if known else [0, 0, 1]
        graph.add_layer(GraphLayer("r", (), 1, 0, function("s")))
        graph.add_layer(
            GraphLayer(
                "s", (3,), 3, 0, function("s"), -1, [0, 1, len(indices), len(indices)], indices
            )
        )
        graph.add_layer(GraphLayer("all", (), 1, 0, function("s"), whole=[1]))
        graph.want([1, 4])
        said = list(slices(graph, client.next, known, limit))
        client.next += graph.count
        wrong = chance.randrange(len(said))
        for number, (message, frames) in enumerate(said):
            if number == wrong:
                self.try_to_say(client, sampler(chance, known).varied(message), frames)
            else:
                self.try_to_say(client, message, frames)

    def try_to_say(self, member: Member, said: Message, frames: Sequence[Any]) -> None:
        """Say what may be wrong: then its link ends, and no other."""
        note(f"{member} says {said} with {frames}")
        if member.is_away or member.is_gone:
            return
        try:
            self.say(member, said, frames)
        except ProtocolError as error:
            note(f"refused: {error}")
            member.is_away = False
            self.lose(member)

    def teardown(self) -> None:
        """What was said may wait for what never comes; that nothing is left of it is enough."""
        for member in self.live():
            self.lose(member)
        # Entries of queues are looked at when somebody could run them.
        self.rescue = self.join_node("rescue", WORKERS, 4, 2.0)
        self.settle()
        if not self.state.things.values():  # what was published stays, and what it refers to
            check_empty(self.state)


def run(machine: type[Peers], examples: int, steps: int) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(max_examples=examples, stateful_step_count=steps, deadline=None),
    )


@pytest.mark.parametrize("machine", [Peers, Strangers])
def test_it_adds_up_whatever_peers_say(machine: type[Peers]) -> None:
    run(machine, 50, 40)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("machine", [Peers, Strangers])
def test_it_adds_up_for_long(machine: type[Peers]) -> None:
    run(machine, 200, 50)
