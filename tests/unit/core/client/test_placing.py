"""Where the blobs of large arguments and scattered values go."""

from __future__ import annotations

import pytest

from zcluster.core.client.core import ClientCore
from zcluster.core.client.placing import Shelf
from zcluster.core.client.records import Data, Effect, PutBlob, Wanted
from zcluster.core.client.states import State
from zcluster.protocol.messages import NodeInfo


def make_node(index: int) -> NodeInfo:
    return NodeInfo(index, f"n{index}", "h", 1, "ipc:///d", "", 0, [])


class Rig:
    def __init__(self, *nodes: int) -> None:
        self.nodes = {index: make_node(index) for index in nodes}
        self.effects: list[Effect] = []
        self.shelf = Shelf(self.nodes, self.effects)

    def add(self, task: int, places: tuple[int, ...] = (), everywhere: bool = False) -> Data:
        data = Data(task, b"x" * task, is_argument=True, places=places)
        self.shelf.add(data, everywhere)
        self.shelf.use((data,))
        return data

    def puts(self) -> list[tuple[int, int]]:
        found = [(e.task, e.node) for e in self.effects if isinstance(e, PutBlob)]
        self.effects.clear()
        return found


def test_blobs_spread_over_the_nodes_in_turn() -> None:
    rig = Rig(1, 5)
    for task in range(4):
        rig.add(task)
    assert rig.puts() == [(0, 1), (1, 5), (2, 1), (3, 5)]


def test_a_blob_goes_only_where_it_may() -> None:
    rig = Rig(1, 2, 3)
    for task in range(3):
        rig.add(task, places=(2,))
    assert {node for _, node in rig.puts()} == {2}


def test_where_the_nodes_it_may_be_on_are_gone_any_other_will_do() -> None:
    rig = Rig(1, 2)
    data = rig.add(3, places=(2,))
    assert rig.puts() == [(3, 2)]
    rig.shelf.stored(3, 2)
    del rig.nodes[2]
    assert rig.shelf.put_again(3, -1)
    assert rig.puts() == [(3, 1)]
    assert data.places == (2,)


def test_everywhere_means_one_put_for_each_node_it_may_be_on() -> None:
    rig = Rig(1, 2, 3)
    rig.add(7, everywhere=True)
    rig.add(8, places=(1, 3), everywhere=True)
    assert rig.puts() == [(7, 1), (7, 2), (7, 3), (8, 1), (8, 3)]


def test_without_nodes_a_blob_waits_for_one() -> None:
    rig = Rig()
    rig.add(1)
    gone = rig.add(2)
    rig.shelf.unuse((gone,))
    assert rig.puts() == []
    rig.nodes[4] = make_node(4)
    rig.shelf.place_waiting()
    assert rig.puts() == [(1, 4)]


def test_a_full_store_is_followed_by_the_next_and_the_last_refusal_is_told() -> None:
    rig = Rig(1, 2)
    data = rig.add(9)
    assert rig.puts() == [(9, 1)]
    assert rig.shelf.not_stored(9, 1) is None
    assert rig.puts() == [(9, 2)]
    assert rig.shelf.not_stored(9, 2) is data
    assert rig.puts() == []


def test_one_refusal_of_several_copies_is_not_the_end() -> None:
    rig = Rig(1, 2)
    rig.add(9, everywhere=True)
    rig.puts()
    assert rig.shelf.not_stored(9, 1) is None
    stored = rig.shelf.stored(9, 2)
    assert stored is not None
    assert stored.open == 0
    assert rig.puts() == []


def test_lost_data_is_put_to_another_node_than_the_one_that_lost_it() -> None:
    rig = Rig(1, 2)
    rig.add(9)
    rig.shelf.stored(9, 1)
    rig.puts()
    assert rig.shelf.put_again(9, 2)
    assert rig.puts() == [(9, 1)]
    # While that is under way nothing more is started.
    assert rig.shelf.put_again(9, 1)
    assert rig.puts() == []


def test_the_only_node_there_is_gets_it_again() -> None:
    rig = Rig(1)
    rig.add(9)
    rig.shelf.stored(9, 1)
    rig.puts()
    assert rig.shelf.put_again(9, 1)
    assert rig.puts() == [(9, 1)]


@pytest.mark.parametrize("is_argument", [True, False])
def test_a_copy_goes_with_its_last_user(is_argument: bool) -> None:
    rig = Rig(1)
    data = Data(3, b"abc", is_argument, ())
    rig.shelf.add(data)
    rig.shelf.use((data,), 2)
    assert rig.shelf.unuse((data,)) == []
    assert 3 in rig.shelf.data
    assert rig.shelf.unuse((data,)) == ([3] if is_argument else [])
    assert rig.shelf.data == {}
    assert not rig.shelf.put_again(3, 1)
    assert rig.shelf.stored(3, 1) is None
    assert rig.shelf.not_stored(3, 1) is None


def test_while_a_node_is_silent_the_others_are_tried() -> None:
    rig = Rig(1, 2)
    data = rig.add(9)
    assert rig.puts() == [(9, 1)]
    assert rig.shelf.silent(9, 1) is data
    assert rig.puts() == [(9, 2)]
    rig.shelf.silent(9, 1)  # it is still silent
    assert rig.puts() == []
    assert data.open == 1


def test_the_only_node_there_is_may_be_silent_for_any_time() -> None:
    rig = Rig(1)
    data = rig.add(9)
    rig.puts()
    for _ in range(5):
        rig.shelf.silent(9, 1)
    assert rig.puts() == []
    assert rig.shelf.stored(9, 1) is data
    assert (data.is_stored, data.open, data.silent) == (True, 0, set())
    rig.nodes[2] = make_node(2)
    rig.shelf.place_waiting()
    assert rig.puts() == []


def test_who_joins_while_all_others_are_silent_gets_it() -> None:
    rig = Rig(1)
    rig.add(9)
    rig.puts()
    rig.shelf.silent(9, 1)
    rig.nodes[2] = make_node(2)
    rig.shelf.place_waiting()
    assert rig.puts() == [(9, 2)]


def test_a_copy_that_is_lost_while_the_other_is_on_its_way_is_put_again_if_that_one_fails() -> None:
    rig = Rig(1, 2)
    rig.add(0, everywhere=True)
    rig.puts()
    rig.shelf.stored(0, 1)
    assert rig.shelf.put_again(0, -1)
    assert not rig.puts()  # the other one may do
    rig.shelf.not_stored(0, 2)
    assert rig.puts() == [(0, 1)]


def test_full_stores_are_no_end_while_another_node_is_silent() -> None:
    rig = Rig(1, 2)
    data = rig.add(9)
    rig.shelf.silent(9, 1)
    assert rig.puts() == [(9, 1), (9, 2)]
    assert rig.shelf.not_stored(9, 2) is None
    assert rig.puts() == []
    assert rig.shelf.not_stored(9, 1) is data  # it has answered: it is full too


def test_a_silent_node_that_left_is_waited_for_no_more() -> None:
    rig = Rig(1)
    rig.add(9)
    rig.shelf.silent(9, 1)
    rig.puts()
    del rig.nodes[1]
    assert rig.shelf.not_stored(9, 1) is None
    rig.nodes[2] = make_node(2)
    rig.shelf.place_waiting()
    assert rig.puts() == [(9, 2)]


def test_a_refusal_after_a_late_store_is_no_reason_to_put_it_again() -> None:
    rig = Rig(1, 2, 3)
    data = rig.add(9)
    rig.shelf.silent(9, 1)
    rig.shelf.stored(9, 1)
    rig.puts()
    assert rig.shelf.not_stored(9, 2) is None
    assert rig.puts() == []
    assert (data.open, data.is_stored) == (0, True)


def make_core(*nodes: int) -> ClientCore:
    core = ClientCore()
    core.on_welcome(3, [make_node(index) for index in nodes])
    core.take_effects()
    return core


def state_of(record: Wanted) -> State:
    """Return a record's state, which calls change behind the type checker's back."""
    return record.state


def test_what_was_scattered_waits_for_a_silent_node() -> None:
    core = make_core(0)
    record = core.scatter(b"v", "int")
    for _ in range(3):
        core.silent(record.task, 0)
    assert state_of(record) is State.PENDING
    assert len(core.take_effects()) == 1
    core.stored(record.task, 0, 1)
    assert state_of(record) is State.HERE


@pytest.mark.parametrize("answer", ["stored", "full", "silent"])
def test_a_late_store_settles_what_was_scattered_whatever_the_other_node_says(answer: str) -> None:
    core = make_core(0, 1)
    record = core.scatter(b"v", "int")
    core.silent(record.task, 0)
    assert [effect.node for effect in core.take_effects() if isinstance(effect, PutBlob)] == [0, 1]
    core.stored(record.task, 0, 1)
    if answer == "stored":
        core.stored(record.task, 1, 1)
    elif answer == "full":
        core.not_stored(record.task, 1, "full")
    else:
        core.silent(record.task, 1)
    assert state_of(record) is State.HERE
    assert core.take_effects() == []
