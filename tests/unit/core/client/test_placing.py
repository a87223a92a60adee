"""Where the blobs of large arguments and scattered values go."""

from __future__ import annotations

import pytest

from zcluster.core.client.placing import Shelf
from zcluster.core.client.records import Data, Effect, PutBlob
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
    rig.shelf.stored(3)
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
    stored = rig.shelf.stored(9)
    assert stored is not None
    assert stored.open == 0
    assert rig.puts() == []


def test_lost_data_is_put_to_another_node_than_the_one_that_lost_it() -> None:
    rig = Rig(1, 2)
    rig.add(9)
    rig.shelf.stored(9)
    rig.puts()
    assert rig.shelf.put_again(9, 2)
    assert rig.puts() == [(9, 1)]
    # While that is under way nothing more is started.
    assert rig.shelf.put_again(9, 1)
    assert rig.puts() == []


def test_the_only_node_there_is_gets_it_again() -> None:
    rig = Rig(1)
    rig.add(9)
    rig.shelf.stored(9)
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
    assert rig.shelf.stored(3) is None
    assert rig.shelf.not_stored(3, 1) is None
