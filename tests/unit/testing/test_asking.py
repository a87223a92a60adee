"""What clients ask beside tasks is answered once, and wrong answers are seen."""

from __future__ import annotations

import random
from typing import Any

import pytest

from zcluster.core.client.records import Replied
from zcluster.errors import InvariantError
from zcluster.protocol.messages import Call, Called, Retire
from zcluster.testing import History, Plan
from zcluster.testing.asking import Asking
from zcluster.testing.workloads import Mix


@pytest.fixture
def made() -> tuple[History, Any, Any]:
    """A history in which nothing happens by itself, and two clients of it."""
    history = History(Plan(1, (), {}, Mix()))
    one, other = (history.world.add_client(name) for name in ("a", "b"))
    history.world.add_node("n", workers=2)
    history.world.settle_members()
    history.world.run_for(1.0)
    return history, one, other


def until_answered(history: History) -> None:
    assert history.world.run_until(lambda: not history.asking.waiting(), 20.0)


def test_calls_are_answered_with_what_was_sent(made: Any) -> None:
    history, client, _ = made
    chance = random.Random(1)
    for _ in range(20):
        history.asking.call(client, chance)
    kinds = {type(message) for message in history.asking.waiting()}
    assert kinds == {Call}
    until_answered(history)
    history.asking.check_empty()


def test_clients_share_things_until_they_forget_them(made: Any) -> None:
    history, *clients = made
    chance = random.Random(2)
    for k in range(80):
        history.asking.share(clients[k % 2], chance)
        history.world.run_for(0.01)
    until_answered(history)
    with pytest.raises(InvariantError, match="no client is here"):
        history.asking.check_empty()
    history.world.run_for(2.0)
    history.asking.forget_things(clients[0])
    history.world.run_for(2.0)
    history.asking.check_empty()


def test_workers_and_nodes_retire(made: Any) -> None:
    history, client, _ = made
    history.asking.retire(client, ["n-0"])
    until_answered(history)
    assert [*history.world.nodes[0].workers] == [1]
    history.asking.retire(client, ["n"])
    assert isinstance(history.asking.waiting()[0], Retire)
    until_answered(history)
    assert history.world.nodes == []
    assert [why for _, _, why in history.world.ends] == ["it was retired"]


def ask(asking: Asking, client: Any) -> int:
    asking.call(client, random.Random(1))
    (number,) = [number for index, number in asking.open if index == client.index]
    return number


def test_a_second_answer_is_seen(made: Any) -> None:
    history, client, _ = made
    number = ask(history.asking, client)
    until_answered(history)
    with pytest.raises(InvariantError, match="answered twice"):
        history.asking.on_effect(client, Replied(number, Called(number), []))


def test_a_wrong_answer_is_seen(made: Any) -> None:
    history, client, _ = made
    while True:
        number = ask(history.asking, client)
        request = history.asking.open[client.index, number].message
        if isinstance(request, Call) and request.node >= 0:
            break
        until_answered(history)
    with pytest.raises(InvariantError, match="not b'value"):
        history.asking.on_effect(client, Replied(number, Called(number), [b"else"]))


def test_a_lock_with_two_holders_is_seen(made: Any) -> None:
    history, one, two = made
    history.asking._hold(one, "x")
    with pytest.raises(InvariantError, match="was given to b; a has it"):
        history.asking._hold(two, "x")
    # Who was away for long may have been given up, and does not know it.
    history.model.note_away([one.index], 60.0)
    history.asking._hold(two, "x")
