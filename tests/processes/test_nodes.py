"""Two nodes on one scheduler: results move between them, and of selections the part alone.

What moves is told by what fits: one of the nodes has a store that is too small for the whole
of what its tasks take parts of.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from zcluster.client.client import Client
from zcluster.client.waiting import wait
from zcluster.errors import ProtocolError
from zcluster.graph.layers import Graph, GraphLayer, Options
from zcluster.protocol.blobs import Parts
from zcluster.protocol.callables import pack_callable
from zcluster.protocol.calls import CALL_INPUTS, CALL_SINGLE
from zcluster.protocol.messages import Slot
from zcluster.protocol.objects import plan

pytestmark = pytest.mark.processes

MIB = 1 << 20
SMALL_STORE = 4 * MIB
WHOLE, PART, OWN_PART, BOX = Slot(0), Slot(1), Slot(2), Slot(3, 2)


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """A client of nodes ``a``, and ``b`` with a small store; no test here ends one."""
    started: list[subprocess.Popen[bytes]] = []

    def start(program: str, *options: str) -> None:
        command = [sys.executable, "-P", "-m", f"zcluster.cli.{program}"]
        started.append(subprocess.Popen([*command, f"--scheduler-file={file}", *options]))

    with tempfile.TemporaryDirectory(prefix="file-") as folder:
        file = f"{folder}/scheduler.json"
        start("scheduler")
        for name, limit in (("a", 256 * MIB), ("b", SMALL_STORE)):
            one_slot = ("--nworkers=1", "--nthreads=1")
            start("worker", f"--name={name}", f"--store-limit={limit}", *one_slot)
        try:
            with Client(scheduler_file=file) as made:
                made.wait_for_workers(2, 20)
                yield made
        finally:
            for process in reversed(started):
                process.terminate()
                process.wait(10)


# Tasks travel by value out of a test file, so each brings along what it uses.


def numbers(count: int) -> np.ndarray:
    return np.arange(count, dtype=np.int64)


def add(array: np.ndarray, *others: np.ndarray) -> np.ndarray:
    return sum(others, array + 1)


def total(array: np.ndarray) -> int:
    return int(array.sum())


def block(number: int) -> np.ndarray:
    """Return a block of 8 MiB in which each item tells where it is."""
    rows = np.arange(1024, dtype=np.int64)[:, None]
    return rows * 1_000_000 + number * 1024 + np.arange(1024)


def constants(values: Sequence[object]) -> dict[str, Any]:
    """Return the columns of a layer that give each task a constant."""
    blobs = [plan(value).tobytes() for value in values]
    offsets = [0]
    for blob in blobs:
        offsets.append(offsets[-1] + len(blob))
    return {"constants": b"".join(blobs), "offsets": offsets}


class Maker:
    """Adds layers to a graph, on a node each."""

    def __init__(self) -> None:
        self.graph = Graph()

    def values(self, name: str, node: str, function: Callable[..., object], *given: object) -> int:
        """Add a layer of calls with one constant each; return the number of its first task."""
        layer = GraphLayer(
            name,
            (len(given),),
            len(given),
            CALL_SINGLE,
            pack_callable(function),
            options=Options(workers=(f"{node}-0",)),
            **constants(given),
        )
        return self.graph.add_layer(layer)

    def calls(
        self,
        name: str,
        node: str,
        function: Callable[..., object],
        inputs: Sequence[Sequence[int]],
        slots: Sequence[Slot] = (),
        selections: Sequence[int] = (),
        **more: Any,
    ) -> int:
        """Add a layer of calls with the same number of inputs each."""
        layer = GraphLayer(
            name,
            (len(inputs),),
            len(inputs),
            CALL_INPUTS,
            pack_callable(function),
            len(inputs[0]),
            indices=[task for row in inputs for task in row],
            slots=slots,
            selections=list(selections) if selections else None,
            options=Options(workers=(f"{node}-0",)),
            **more,
        )
        return self.graph.add_layer(layer)

    def run(self, client: Client, *wanted: int) -> list[Any]:
        self.graph.want(wanted)
        return client.run_graph(self.graph)


# ---------------------------------------------------------------------------- whole results


def test_results_move_from_node_to_node(client: Client) -> None:
    """Large ones by the data port, small ones through the scheduler; both ways."""
    for size in (10, 200_000):
        first = client.submit(numbers, size, workers="a-0", pure=False)
        wait([first])
        assert client.who_has([first]) == {first.key: ["a"]}
        second = client.submit(add, first, workers="b-0", pure=False)
        third = client.submit(add, second, first, workers="a-0", pure=False)
        expected = 2 * sum(range(size)) + 2 * size
        assert client.submit(total, third, workers="b-0", pure=False).result(20) == expected
        assert client.who_has([second]) == {second.key: ["b"]}


def test_a_chain_that_changes_node_at_each_link_arrives(client: Client) -> None:
    future = client.submit(numbers, 20_000, workers="a-0", pure=False)
    for number in range(20):
        node = "ba"[number % 2]
        future = client.submit(add, future, workers=f"{node}-0", pure=False)
    assert (future.result(20) == np.arange(20_000) + 20).all()


def test_a_result_that_was_moved_stays_where_it_was_made(client: Client) -> None:
    """What a node fetched goes with its last use there: only so do many fit through a small one."""
    size = SMALL_STORE // 8 // 3
    made = client.map(numbers, [size] * 12, workers="a-0", pure=False)
    sums = client.map(total, made, workers="b-0", pure=False)
    assert client.gather(sums) == [sum(range(size))] * 12
    assert set(map(tuple, client.who_has(made).values())) == {("a",)}


# ------------------------------------------------------------------------------- selections


def test_of_a_box_the_box_alone_moves(client: Client) -> None:
    make = Maker()
    blocks = make.values("block", "a", block, *range(4))  # 32 MiB
    inputs = [[blocks + number] for number in range(4)]
    corner = [1020, 1024, 1, 0, 6, 2]
    table = [*corner, *corner, 0, 2, 1, 1023, 1024, 1, *corner]
    first = make.calls("corner", "b", lambda part: part, inputs, [BOX], table)
    found = make.run(client, *range(first, first + 4))
    for number, part in enumerate(found):
        whole = block(number)
        expected = whole[0:2, 1023:1024] if number == 2 else whole[1020:1024, 0:6:2]
        assert part.tolist() == expected.tolist()


def test_a_large_box_moves_into_the_store(client: Client) -> None:
    make = Maker()
    blocks = make.values("block", "a", block, 0, 1)
    table = [0, 1024, 1, 0, 128, 1] * 2  # 1 MiB each
    first = make.calls("edge", "b", total, [[blocks], [blocks + 1]], [BOX], table)
    assert make.run(client, first, first + 1) == [int(block(k)[:, :128].sum()) for k in (0, 1)]


def test_ghost_cells_come_from_neighbours_on_other_nodes(client: Client) -> None:
    """Each block with the nearest columns of the blocks beside it, which the other node has."""

    def narrow(number: int) -> np.ndarray:
        return np.arange(number * 100_000, (number + 1) * 100_000).reshape(100, 1000)

    def joined(*parts: np.ndarray) -> tuple[int, np.ndarray]:
        whole = np.concatenate(parts, axis=1)
        return whole.shape[1], whole.sum(axis=0)[[0, 1, 2, -3, -2, -1]]

    make = Maker()
    even = make.values("even", "a", narrow, 0, 2, 4)
    odd = make.values("odd", "b", narrow, 1, 3)
    task = {0: even, 2: even + 1, 4: even + 2, 1: odd, 3: odd + 1}
    last, first = [0, 100, 1, 998, 1000, 1], [0, 100, 1, 0, 2, 1]
    inner = {
        node: make.calls(
            f"joined-{node}",
            node,
            joined,
            [[task[k - 1], task[k], task[k + 1]] for k in middles],
            [BOX, WHOLE, BOX],
            [*last, *first] * len(middles),
        )
        for node, middles in (("a", [2]), ("b", [1, 3]))
    }
    found = make.run(client, inner["b"], inner["a"], inner["b"] + 1)
    whole = {k: narrow(k) for k in range(5)}
    for k, (width, ends) in zip((1, 2, 3), found, strict=True):
        sums = np.concatenate([whole[k - 1][:, -2:], whole[k], whole[k + 1][:, :2]], 1).sum(axis=0)
        assert width == 1004
        assert ends.tolist() == sums[[0, 1, 2, -3, -2, -1]].tolist()


def split(number: int) -> Any:
    """Return 5 parts of 1 MiB, which tell whose they are."""
    return Parts([np.full(131_072, number * 10 + part) for part in range(5)])


def split_small(number: int) -> Any:
    """Return 5 parts of 256 KiB: the small store has room for those of several tasks."""
    return Parts([np.full(32_768, number * 10 + part) for part in range(5)])


def test_of_parts_the_part_alone_moves(client: Client) -> None:
    make = Maker()
    parts = make.values("split", "a", split, 0, 1, 2)
    inputs = [[parts], [parts + 2], [parts]]
    table = [3, 0, 4]
    first = make.calls("part", "b", lambda part: (part[0], len(part)), inputs, [PART], table)
    assert make.run(client, first, first + 1, first + 2) == [
        (3, 131_072),
        (20, 131_072),
        (4, 131_072),
    ]


def test_a_shuffle_is_two_layers(client: Client) -> None:
    """Each gathering task takes its own part of all of the split layer."""
    make = Maker()
    make.values("split-a", "a", split_small, 0, 1)
    first = make.graph.count
    make.graph.add_layer(
        GraphLayer(
            "gather",
            (5,),
            5,
            CALL_INPUTS,
            pack_callable(lambda parts: [int(part[-1]) for part in parts]),
            whole=[0],
            whole_slots=[OWN_PART],
            options=Options(workers=("b-0",)),
        )
    )
    assert make.run(client, *range(first, first + 5)) == [[part, 10 + part] for part in range(5)]


def test_what_cannot_be_cut_by_bytes_moves_whole_and_is_cut_where_it_is_used(
    client: Client,
) -> None:
    make = Maker()
    parts = make.values("list", "a", lambda size: ["x" * size, {"a": size}], 10, 100_000)
    inputs = [[parts], [parts + 1]]
    first = make.calls("part", "b", lambda part: part, inputs, [PART], [1, 1])
    assert make.run(client, first, first + 1) == [{"a": 10}, {"a": 100_000}]


@pytest.mark.parametrize("node", ["a", "b"])
@pytest.mark.parametrize(
    ("slot", "table"),
    [(BOX, [0, 1, 1, 0, 1, 1]), (PART, [7])],
    ids=["too many dimensions", "no such part"],
)
def test_a_selection_that_is_not_there_is_an_error_and_not_a_hang(
    client: Client, node: str, slot: Slot, table: list[int]
) -> None:
    make = Maker()
    function = (lambda size: np.arange(size)) if slot is BOX else (lambda size: Parts([1, 2]))
    source = make.values("source", "a", function, 10)
    wanted = make.calls("part", node, lambda part: part, [[source]], [slot], table)
    make.graph.want([wanted])
    with pytest.raises(ProtocolError):
        client.run_graph(make.graph)
    assert client.submit(abs, -1, workers="a-0", pure=False).result(10) == 1
    assert client.submit(abs, -1, workers="b-0", pure=False).result(10) == 1
