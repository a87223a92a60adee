"""A run made ready for a slot, and what can be taken back from it."""

from __future__ import annotations

import pickle
import threading
from collections import deque
from typing import Any

import msgspec
import pytest

from zcluster.errors import ProtocolError
from zcluster.protocol.messages import Run
from zcluster.servers.batches import Batch

RUN = Run(
    functions=[],
    runs=[(b"f", 0, 2), (b"g", 5, 1)],
    tasks=[10, 11, 12],
    arities=[2, 1, 0],
    inputs=[1, 2, 1],
    groups=[],
    offsets=[0, 0, 0, 3],
    ranges=[(1, 0, 4096, 100)],
    inline=[(2, 4)],
    uses=[0, 0, 0],
    report=[1, 1, 1],
)


def batch_of(returns: deque[tuple[int, int, int]] | None = None, **changes: Any) -> Batch:
    run = msgspec.structs.replace(RUN, **changes)
    return Batch(run, [b"\x80ab", b"blob"], deque() if returns is None else returns)


def test_segments_say_callable_form_and_end() -> None:
    batch = batch_of()
    assert [batch.segment(n) for n in range(3)] == [(b"f", 0, 2), (b"f", 0, 2), (b"g", 5, 3)]


def test_inputs_and_sources() -> None:
    batch = batch_of()
    assert batch.inputs[batch.indptr[0] : batch.indptr[1]] == [1, 2]
    assert batch.inputs[batch.indptr[1] : batch.indptr[2]] == [1]
    assert batch.sources[2] == (0, 4)
    assert batch.inline == b"blob"


def test_constants_are_cut_and_writable_unless_pickles() -> None:
    assert batch_of().constant(2) == b"\x80ab"
    assert batch_of(offsets=[]).constant(2) is None
    blob = Batch(RUN, [b"ZB1", b"blob"], deque()).constant(2)
    assert type(blob) is bytearray


def test_groups_fold_trailing_inputs() -> None:
    batch = batch_of(groups=[[2, 0, 1], [], []])
    assert batch.grouped(0, ["a", "b", "c", "d"]) == ["a", ["b", "c"], [], ["d"]]
    assert batch.grouped(1, ["a"]) == ["a"]


@pytest.mark.parametrize(
    "changes",
    [
        {"uses": [0]},
        {"report": []},
        {"arities": [1, 1, 0]},
        {"groups": [[]]},
        {"offsets": [0, 1]},
        {"runs": [(b"f", 0, 2)]},
        {"inline": [(2, 5)]},
    ],
)
def test_columns_that_do_not_fit_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError, match=r"expected|has 4"):
        batch_of(**changes)


def test_recall_gives_back_what_has_not_started_in_order() -> None:
    batch = batch_of()
    assert batch.todo.popleft() == 0  # as a slot does
    assert batch.recall({10, 12, 11, 99}) == [11, 12]
    assert not batch.todo
    assert batch.recall({11}) == []


def test_recalling_all() -> None:
    assert batch_of().recall() == [10, 11, 12]


def test_recalled_uses_of_a_lease_end() -> None:
    returns: deque[tuple[int, int, int]] = deque()
    batch = batch_of(returns)
    batch.recall({10})
    assert not returns, "task 11 still needs it"
    batch.recall({11})
    assert list(returns) == [(0, 4096, 100)]


def test_a_task_is_started_or_recalled_never_both() -> None:
    count = 3000
    for _ in range(5):
        batch = Batch(
            msgspec.structs.replace(
                RUN,
                runs=[(b"f", 0, count)],
                tasks=list(range(count)),
                arities=[0] * count,
                inputs=[],
                offsets=[],
                ranges=[],
                inline=[],
                uses=[0] * count,
                report=[0] * count,
            ),
            [],
            deque(),
        )
        started: list[int] = []

        def slot(batch: Batch = batch, started: list[int] = started) -> None:
            while True:
                try:
                    started.append(batch.tasks[batch.todo.popleft()])
                except IndexError:
                    return

        thread = threading.Thread(target=slot)
        thread.start()
        recalled = batch.recall(set(range(0, count, 2)))
        thread.join()
        assert sorted(started + recalled) == list(range(count))


def test_a_batch_can_be_made_of_frames_that_are_missing() -> None:
    run = msgspec.structs.replace(RUN, inline=[], offsets=[])
    assert Batch(run, [], deque()).inline == b""
    assert pickle.dumps(run)  # plain data
