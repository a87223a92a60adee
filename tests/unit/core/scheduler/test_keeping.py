"""A task waits for the node that has its large inputs, and for no node for ever.

::

    a0 … an at node one   b0 … bm at node two     (large)
     |       |             |       |
    t0      tn            tn+1    tn+m
"""

from __future__ import annotations

from typing import Any

import pytest

from zcluster.protocol.messages import Cancel, Workers

MB = 1_000_000


class Halves:
    """Two nodes with one slot each; results at both, and tasks that take one each."""

    def __init__(self, desk: Any, graph_of: Any, at_one: int, at_two: int, size: int = 100 * MB):
        self.d = d = desk(window=0.04)
        self.graph_of = graph_of
        self.client = d.client()
        self.nodes = {"one": d.node("one"), "two": d.node("two")}
        count = at_one + at_two
        made = d.submit(self.client, graph_of(("make", [()] * count)))
        self.inputs = list(range(made, made + count))
        self._finish_all()
        for number, task in enumerate(self.inputs):
            page, row = d.row(task)
            page.node[row] = self.nodes["one" if number < at_one else "two"].index
            page.size[row] = size
        graph = graph_of(("take", [(-1 - k,) for k in range(count)]))
        graph.imports = [object()] * count
        first = d.submit(self.client, graph, self.inputs)
        self.tasks = list(range(first, first + count))
        self.ones, self.twos = self.tasks[:at_one], self.tasks[at_one:]

    def _finish_all(self) -> None:
        while given := self.d.assigned():
            for name, tasks in given.items():
                self.d.finish(self.nodes[name], tasks, length=-1, seconds=0.01)

    def finish(self, name: str, tasks: list[int], seconds: float) -> dict[str, list[int]]:
        """Have a node finish tasks that took so long each; return what is assigned then."""
        self.d.finish(self.nodes[name], tasks, seconds=seconds)
        given: dict[str, list[int]] = self.d.assigned()
        return given

    @property
    def kept(self) -> dict[str, list[int]]:
        state = self.d.state
        return {
            state.nodes[index].info.name: [task for _, task in kept.tasks]
            for index, kept in state.queues.kept.items()
            if kept.tasks
        }


def test_each_node_takes_what_it_has_though_all_of_one_comes_first(
    desk: Any, graph_of: Any
) -> None:
    h = Halves(desk, graph_of, 6, 6)
    given: dict[str, list[int]] = {"one": [], "two": []}
    news = h.d.assigned()
    while news:
        for name, tasks in news.items():
            given[name] += tasks
            h.d.finish(h.nodes[name], tasks, seconds=0.02)
        news = h.d.assigned()
    assert given == {"one": h.ones, "two": h.twos}
    assert h.kept == {}


def test_small_inputs_go_where_there_is_room(desk: Any, graph_of: Any) -> None:
    h = Halves(desk, graph_of, 4, 0, size=1000)
    assert sorted(h.d.assigned()) == ["one", "two"]
    assert h.kept == {}


def test_an_idle_node_takes_what_would_wait_longer_than_its_way(desk: Any, graph_of: Any) -> None:
    h = Halves(desk, graph_of, 5, 0)
    assert h.d.assigned() == {"one": h.ones[:1]}  # 40 ms each are expected, the way takes 200
    assert h.kept == {"one": h.ones[1:]}
    # They take a second: the last of them are sooner at the other node, in spite of the way.
    assert h.finish("one", h.ones[:1], 1.0) == {"one": [h.ones[1]], "two": [h.ones[-1]]}
    assert h.kept == {"one": h.ones[2:-1]}


def test_inputs_come_one_after_the_other_and_each_once(desk: Any, graph_of: Any) -> None:
    """Tasks that all take one large input are shared, as it is on its way once."""
    d = desk(window=0.04)
    client, one = d.client(), d.node("one")
    made = d.submit(client, graph_of(("make", [()])))
    d.assigned()
    d.finish(one, [made], length=-1)
    d.row(made)[0].size[d.row(made)[1]] = 100 * MB
    d.node("two")
    graph = graph_of(("take", [(-1,)] * 40))
    graph.imports = [object()]
    first = d.submit(client, graph, [made])
    # The last of 40 is worth a way of 200 ms,
    assert d.assigned() == {"one": [first], "two": [first + 39]}
    for last in range(38, 30, -1):
        # and then all that node two has time for, on the same way.
        d.finish(one, [first + 38 - last], seconds=0.004)
        d.assigned()
    assert d.row(first + 30)[0].node[d.row(first + 30)[1]] == 1


def test_what_a_node_kept_goes_back_when_it_takes_no_more(desk: Any, graph_of: Any) -> None:
    h = Halves(desk, graph_of, 3, 0)
    h.d.assigned()
    assert h.kept == {"one": h.ones[1:]}
    h.d.tell(h.nodes["one"], Workers([]))
    assert h.d.assigned() == {"two": [h.ones[1]]}
    assert h.kept == {}
    assert h.d.words(h.ones[1:]) == ["assigned", "ready"]


def test_a_node_that_is_gone_keeps_nothing(desk: Any, graph_of: Any) -> None:
    h = Halves(desk, graph_of, 3, 0)
    h.d.assigned()
    h.d.core.on_gone(h.nodes["one"].peer, "killed", h.d.now)
    assert set(h.d.assigned()) == {"two"}  # what was lost is made again
    assert h.kept == {}


def test_nobody_waits_for_a_node_that_hangs(desk: Any, graph_of: Any) -> None:
    """What takes far longer than was expected is noticed by the time that has passed."""
    h = Halves(desk, graph_of, 2, 0)
    assert h.d.assigned() == {"one": [h.ones[0]]}
    h.d.now += 0.1
    assert h.d.assigned() == {}
    h.d.now += 0.15
    assert h.d.assigned() == {"two": [h.ones[1]]}


def test_a_stalled_task_is_taken_before_younger_ones(desk: Any, graph_of: Any) -> None:
    h = Halves(desk, graph_of, 2, 0)
    h.d.assigned()
    other = h.d.submit(h.client, h.graph_of(("other", [()] * 9)))
    assert h.d.assigned() == {"two": [other]}
    h.d.now += 0.6
    h.d.finish(h.nodes["two"], [other], seconds=0.04)
    assert h.d.assigned()["two"] == [h.ones[1]]


def test_a_kept_task_that_is_cancelled_is_left_out(desk: Any, graph_of: Any) -> None:
    h = Halves(desk, graph_of, 4, 0)
    h.d.assigned()
    h.d.tell(h.client, Cancel([h.ones[1]]))
    given = h.finish("one", h.ones[:1], 0.01)
    assert given == {"one": h.ones[2:4]}
    h.d.flush()
    assert h.d.state.queues.kept == {}


@pytest.mark.parametrize("priority", [0, 5])
def test_priority_goes_before_what_is_kept(desk: Any, graph_of: Any, priority: int) -> None:
    h = Halves(desk, graph_of, 4, 0)
    h.d.assigned()
    h.d.submit(h.client, h.graph_of(("block", [()])))
    h.d.assigned()  # the other node is full too
    urgent = h.d.submit(h.client, h.graph_of(("urgent", [()]), priority=priority))
    given = h.finish("one", h.ones[:1], 0.04)
    assert given == {"one": [urgent if priority else h.ones[1]]}


def test_clients_take_turns_with_what_is_kept(desk: Any, graph_of: Any) -> None:
    h = Halves(desk, graph_of, 4, 0)
    h.d.assigned()
    h.d.submit(h.client, h.graph_of(("block", [()])))
    h.d.assigned()
    other = h.d.submit(h.d.client("other"), h.graph_of(("other", [()] * 6)))
    given: list[int] = [h.ones[0]]
    for _ in range(4):
        news = h.finish("one", given[-1:], 0.05)
        given += news["one"]
    assert sum(task in h.ones for task in given[1:]) == 2
    assert sum(task >= other and task not in h.ones for task in given[1:]) == 2


def test_an_input_that_can_no_longer_travel_takes_its_task_along(desk: Any, graph_of: Any) -> None:
    from zcluster.core.scheduler.pages import HELD

    h = Halves(desk, graph_of, 3, 0)
    h.d.assigned()
    page, row = h.d.row(h.inputs[1])
    page.flags[row] |= HELD
    page.node[row] = h.nodes["two"].index
    assert h.finish("one", h.ones[:1], 0.01) == {"one": [h.ones[2]], "two": [h.ones[1]]}
