"""The loop that runs tasks, driven directly: one slot, no socket."""

from __future__ import annotations

import gc
import operator
import os
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any, NoReturn

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zcluster.errors import NotSerializable
from zcluster.protocol.callables import pack_callable
from zcluster.protocol.calls import (
    CALL_ALIAS,
    CALL_INPUTS,
    CALL_PACKED,
    CALL_PACKED_LAST,
    CALL_ROW,
    CALL_SINGLE,
    CALL_VALUE,
    pack_call,
    reduce_as_input,
)
from zcluster.protocol.messages import Done, Failed, Grant, Reserve, Run, Skipped
from zcluster.protocol.objects import Plan, dumps_small, load, plan
from zcluster.servers.batches import Batch
from zcluster.servers.functions import Functions
from zcluster.servers.outbox import Outbox
from zcluster.servers.slot_pool import SlotPool
from zcluster.servers.slots import INLINE_LIMIT, Slot, Tools
from zcluster.servers.status import RUNS, StatusPage
from zcluster.servers.values import Values
from zcluster.storage.arena import Arena, Range
from zcluster.storage.slabs import SlabReader, Slabs
from zcluster.types import running_task


@dataclass
class Call:
    """One task of a batch, with every field at a default."""

    task: int
    function: Callable[..., Any] | None = None
    form: int = CALL_INPUTS
    inputs: list[int] = field(default_factory=list)
    constant: bytes = b""
    uses: int = 0
    report: int = 1
    groups: list[int] = field(default_factory=list)


class Rig:
    """A slot with a store behind it; what it says is gathered by `drain`."""

    def __init__(self) -> None:
        self.arena = Arena(limit=64 << 20)
        self.slabs = Slabs()
        self.values = Values(SlabReader(), lambda slab: os.dup(self.slabs.descriptor(slab)))
        self.page = StatusPage.create(1)
        self.wakes = 0
        self.full = ""
        self.outbox = Outbox(self.values.returns, self._wake)
        self.ended: SimpleQueue[BaseException | None] = SimpleQueue()
        batches: SimpleQueue[Batch | None] = SimpleQueue()
        self.pool = SlotPool(1, self.page.lines, lambda number: Slot(number, self.tools), batches)
        self.tools = Tools(
            node="n",
            worker="w",
            scheduler="ipc:///s",
            values=self.values,
            functions=Functions("w"),
            outbox=self.outbox,
            status=self.page,
            batches=batches,
            pool=self.pool,
            on_end=self.ended.put,
            grant_timeout=0.05,
        )
        self.slot = Slot(0, self.tools)
        self.done: dict[int, Any] = {}
        self.lengths: dict[int, int] = {}
        self.failed: dict[int, Any] = {}
        self.exceptions: dict[int, Any] = {}
        self.skipped: list[int] = []
        self.reserved: list[Reserve] = []

    def close(self) -> None:
        self.values.close()
        self.slabs.close()
        self.page.close()

    def _wake(self) -> None:
        self.wakes += 1
        self.drain()

    def drain(self) -> None:
        """Play the loop and the nanny."""
        for message, frames in self.outbox.drain():
            if isinstance(message, Reserve):
                self.reserved.append(message)
                self.outbox.grant(self._grant(message))
            elif isinstance(message, Done):
                self._on_done(message, frames)
            elif isinstance(message, Failed):
                for info in message.errors:
                    self.failed[info.origin] = info
                    if info.exception is not None:
                        _, start, stop = info.exception
                        self.exceptions[info.origin] = pickle.loads(frames[0][start:stop])
            elif isinstance(message, Skipped):
                self.skipped += message.tasks

    def _grant(self, reserve: Reserve) -> Grant:
        if self.full:
            return Grant(reserve.request, -1, 0, 0, self.full)
        where = self.arena.allocate(reserve.size)
        assert where is not None
        self.slabs.follow(self.arena)
        self.slabs.reserve(where)
        return Grant(reserve.request, *where)

    def _on_done(self, done: Done, frames: list[bytes]) -> None:
        at = 0
        ranges = {task: place for task, *place in done.ranges}
        for task, length in zip(done.tasks, done.lengths, strict=True):
            self.lengths[task] = length
            if length >= 0:
                self.done[task] = load(frames[0][at : at + length])
                at += length
            elif length == -1:
                slab, offset, size = ranges[task]
                view = self.slabs.view(Range(slab, offset, size))
                self.done[task] = pickle.loads(pickle.dumps(load(view)))
        assert at == (len(frames[0]) if frames else 0)

    def put(self, value: object) -> tuple[int, int, int]:
        """Put a value into the store."""
        return self.store(plan(value))

    def store(self, planned: Plan) -> tuple[int, int, int]:
        """Put a blob into the store."""
        where = self.arena.allocate(planned.size)
        assert where is not None
        self.slabs.follow(self.arena)
        self.slabs.reserve(where)
        planned.write_into(self.slabs.view(where))
        return where.slab, where.offset, planned.size

    def batch(
        self,
        calls: list[Call],
        ranges: dict[int, tuple[int, int, int]] | None = None,
        inline: dict[int, bytes] | None = None,
    ) -> Batch:
        runs = []
        for call in calls:
            digest = b""
            if call.function is not None:
                digest, data = pack_callable(call.function)
                self.tools.functions.put(digest, data)
            runs.append((digest, call.form, 1))
        offsets = [0]
        for call in calls:
            offsets.append(offsets[-1] + len(call.constant))
        grouped = any(call.groups for call in calls)
        run = Run(
            functions=[],
            runs=runs,
            tasks=[call.task for call in calls],
            arities=[len(call.inputs) for call in calls],
            inputs=[key for call in calls for key in call.inputs],
            groups=[call.groups for call in calls] if grouped else [],
            offsets=offsets if offsets[-1] else [],
            ranges=[(key, *place) for key, place in (ranges or {}).items()],
            inline=[(key, len(blob)) for key, blob in (inline or {}).items()],
            uses=[call.uses for call in calls],
            report=[call.report for call in calls],
        )
        frames = [b"".join(call.constant for call in calls), b"".join((inline or {}).values())]
        return Batch(run, frames, self.values.returns)

    def run(self, *calls: Call, **sources: Any) -> None:
        self.slot.run(self.batch(list(calls), **sources))
        self.drain()


@pytest.fixture
def rig() -> Iterator[Rig]:
    made = Rig()
    yield made
    made.close()


def blob(value: object) -> bytes:
    return plan(value).tobytes()


# --- calls


def test_the_six_forms_of_a_call(rig: Rig) -> None:
    class Input:
        __zcluster_input__ = True

        def __reduce__(self) -> Any:
            return reduce_as_input(self)

    packed = pack_call((Input(), [Input(), 3]), {})
    large = pack_call((Input(), b"x" * 100_000), {})
    assert packed.constant is not None
    assert large.plan is not None
    rig.run(
        Call(1, operator.sub, CALL_INPUTS, [100, 101]),
        Call(2, lambda a, b: (a, b), CALL_PACKED, [100, 101], packed.constant),
        Call(3, lambda a, b: (a, len(b)), CALL_PACKED_LAST, [100, -5]),
        Call(4, None, CALL_VALUE, [], blob("literal")),
        Call(5, None, CALL_ALIAS, [101]),
        Call(6, operator.neg, CALL_SINGLE, [], blob(6)),
        inline={100: blob(10), 101: blob(4)},
        ranges={-5: rig.store(large.plan)},
    )
    assert rig.failed == {}
    assert rig.done == {1: 6, 2: (10, [4, 3]), 3: (10, 100_000), 4: "literal", 5: 4, 6: -6}


def test_a_row_is_the_first_argument(rig: Rig) -> None:
    """As bytes, whatever they begin with, and also where there are none."""

    def numbers(row: Any, *inputs: Any) -> Any:
        return [*memoryview(row).cast("q"), *inputs] if len(row) else list(inputs)

    rows = [np.array(one, np.int64).tobytes() for one in ([3, -1], [0x80, 4], [])]
    rig.run(
        Call(1, numbers, CALL_ROW, [100], rows[0]),
        Call(2, numbers, CALL_ROW, [100, 100], rows[1]),
        Call(3, numbers, CALL_ROW, [100], rows[2]),
        inline={100: blob("x")},
    )
    rig.run(Call(4, numbers, CALL_ROW, [100]), inline={100: blob("x")})
    assert rig.failed == {}
    assert rig.done == {1: [3, -1, "x"], 2: [0x80, 4, "x", "x"], 3: ["x"], 4: ["x"]}


def test_array_arguments_are_writable(rig: Rig) -> None:
    def fill(array: Any) -> Any:
        array[:] = 7
        return array

    rig.run(Call(1, fill, CALL_SINGLE, [], blob(np.zeros(3))))
    assert rig.done[1].tolist() == [7, 7, 7]


def test_groups_become_list_arguments(rig: Rig) -> None:
    inline = {n: blob(n) for n in range(1, 5)}
    rig.run(Call(9, lambda a, b, c: [a, b, c], inputs=[1, 2, 3, 4], groups=[2, 1]), inline=inline)
    assert rig.done[9] == [1, [2, 3], [4]]


def test_a_chain_never_leaves_the_heap(rig: Rig) -> None:
    rig.run(
        Call(1, operator.neg, CALL_SINGLE, [], blob(5), uses=1, report=0),
        Call(2, operator.neg, inputs=[1], uses=1, report=0),
        Call(3, operator.neg, inputs=[2]),
    )
    assert rig.lengths == {1: -2, 2: -2, 3: len(blob(-5))}
    assert rig.done == {3: -5}
    assert rig.values.held == {}


def test_held_values_reach_a_later_batch(rig: Rig) -> None:
    rig.run(Call(1, list, CALL_SINGLE, [], blob("ab"), uses=2, report=1))
    rig.run(Call(2, lambda x, y: (x.append(1), y), inputs=[1, 1]))
    assert rig.done == {1: ["a", "b"], 2: (None, ["a", "b"])}


def test_a_result_nobody_takes_is_dropped(rig: Rig) -> None:
    rig.run(Call(1, operator.neg, CALL_SINGLE, [], blob(5), report=0))
    assert rig.lengths == {1: -2}
    assert rig.values.held == {}


# --- large results


def test_a_large_result_is_written_into_the_store(rig: Rig) -> None:
    rig.run(Call(1, np.arange, CALL_SINGLE, [], blob(50_000)))
    assert rig.lengths == {1: -1}
    assert rig.done[1].tolist() == list(range(50_000))
    ((reserve),) = rig.reserved
    assert (reserve.task, reserve.size) == (1, plan(np.arange(50_000)).size)


def test_a_result_just_small_enough_travels_inline(rig: Rig) -> None:
    rig.run(Call(1, bytes, CALL_SINGLE, [], blob(INLINE_LIMIT - 100)))
    assert rig.lengths[1] > 0
    assert rig.reserved == []


def test_a_full_store_fails_the_task(rig: Rig) -> None:
    rig.full = "the store of 5 GiB is full"
    rig.run(
        Call(1, np.arange, CALL_SINGLE, [], blob(50_000), uses=1),
        Call(2, len, inputs=[1]),
        Call(3, operator.neg, CALL_SINGLE, [], blob(1)),
    )
    assert rig.failed[1].kind == "store"
    assert "the store of 5 GiB is full" in rig.failed[1].message
    assert rig.failed[1].type_name == "zcluster.errors.StoreFull"
    assert rig.skipped == [2]
    assert rig.done == {3: -1}


def test_no_answer_from_the_nanny_fails_the_task_in_time(rig: Rig) -> None:
    rig.outbox.grant = lambda _: None  # type: ignore[method-assign,assignment]
    rig.run(Call(1, np.arange, CALL_SINGLE, [], blob(50_000)))
    assert rig.failed[1].kind == "store"
    assert "no answer within 0.05 s" in rig.failed[1].message


def test_a_large_result_with_several_consumers_is_stored_and_held(rig: Rig) -> None:
    def spoil(array: Any) -> int:
        total = int(array.sum())
        array[:] = 0
        return total

    rig.run(
        Call(1, np.arange, CALL_SINGLE, [], blob(50_000), uses=2),
        Call(2, spoil, inputs=[1]),
        Call(3, spoil, inputs=[1]),
    )
    assert rig.done[2] == rig.done[3] == sum(range(50_000))
    assert rig.done[1][1] == 1
    assert rig.values.held == {}


# --- results that cannot be pickled


def test_a_result_that_cannot_travel_fails_with_its_type_and_a_way_out(rig: Rig) -> None:
    rig.run(Call(1, threading.Lock))
    assert rig.failed[1].kind == "serialize"
    assert rig.failed[1].type_name == "zcluster.errors.ResultNotSerializable"
    assert "_thread.lock" in rig.failed[1].message
    assert "Make it inside the task" in rig.failed[1].message


@pytest.mark.parametrize(("uses", "report"), [(0, 2), (1, 1), (2, 0), (2, 1), (1, 2)])
def test_a_result_that_cannot_travel_is_held_where_that_will_do(
    rig: Rig, uses: int, report: int
) -> None:
    rig.run(Call(1, threading.Lock, uses=uses, report=report))
    assert rig.lengths == {1: -3}
    for task in (2, 3, 4):
        rig.run(Call(task, lambda lock: lock.locked(), inputs=[1]))
    assert rig.done == {2: False, 3: False, 4: False}
    rig.values.discard([1])
    assert rig.values.held == {}


def test_a_generator_goes_to_its_only_consumer(rig: Rig) -> None:
    rig.run(Call(1, lambda: (n for n in range(3)), uses=1, report=0), Call(2, list, inputs=[1]))
    assert rig.done == {2: [0, 1, 2]}


def test_a_task_that_itself_raises_our_error_has_failed_as_a_task(rig: Rig) -> None:
    def fail() -> NoReturn:
        raise NotSerializable("mine")

    rig.run(Call(1, fail))
    assert rig.failed[1].kind == "task"
    assert isinstance(rig.exceptions[1], NotSerializable)


# --- failures


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit, IndexError])
def test_whatever_a_task_raises_the_slot_goes_on(rig: Rig, kind: type[BaseException]) -> None:
    def fail() -> NoReturn:
        raise kind("bye")

    rig.run(Call(1, fail), Call(2, operator.neg, CALL_SINGLE, [], blob(1)))
    assert rig.failed[1].type_name == f"builtins.{kind.__name__}"
    assert "in fail" in rig.failed[1].traceback
    assert "/slots.py" not in rig.failed[1].traceback
    assert rig.done == {2: -1}


def test_what_follows_from_a_failure_is_skipped_and_lets_go_of_its_inputs(rig: Rig) -> None:
    place = rig.put(np.arange(100))
    rig.run(
        Call(1, operator.truediv, inputs=[100, 101], uses=1),
        Call(2, list, uses=1, report=0),
        Call(3, lambda *_: 0, inputs=[1, 2, 102], uses=1),
        Call(4, operator.neg, inputs=[3]),
        inline={100: blob(1), 101: blob(0)},
        ranges={102: place},
    )
    assert list(rig.failed) == [1]
    assert rig.skipped == [3, 4]
    assert rig.values.held == {}
    gc.collect()
    assert list(rig.values.returns) == [] or list(rig.values.returns) == [place]


def test_an_input_that_cannot_be_loaded_fails_its_task_and_names_it(rig: Rig) -> None:
    place = rig.put(np.arange(100))
    bad = pickle.dumps(operator.neg, 5).replace(b"_operator", b"_operatos")
    rig.run(
        Call(1, list, uses=1, report=0),
        Call(2, lambda *_: 0, inputs=[100, 1, 101]),
        inline={100: bad},
        ranges={101: place},
    )
    assert rig.failed[2].type_name == "builtins.ModuleNotFoundError"
    assert "While input 0 of the task was loaded." in rig.failed[2].traceback
    assert rig.values.held == {}


def test_a_callable_that_cannot_be_loaded_fails_its_tasks_only(rig: Rig) -> None:
    batch = rig.batch(
        [Call(1, operator.pos, inputs=[100]), Call(2, operator.neg, inputs=[100])],
        inline={100: blob(3)},
    )
    digest = pack_callable(operator.pos).digest
    rig.tools.functions.discard([digest])
    rig.tools.functions.put(digest, b"\x80\x05.")
    rig.slot.run(batch)
    rig.drain()
    assert list(rig.failed) == [1]
    assert rig.done == {2: -3}


def test_leases_return_after_a_task_that_failed_with_its_input(rig: Rig) -> None:
    """A traceback keeps frames, and frames keep arguments: it must be let go."""
    place = rig.put(np.arange(100_000))

    def fail(array: Any) -> NoReturn:
        view = array[5:]
        raise ValueError(f"sum {view.sum()}")

    returned: list[Any] = []
    rig.outbox.drain = _spying(rig.outbox.drain, returned)  # type: ignore[method-assign]
    rig.run(Call(1, fail, inputs=[100]), ranges={100: place})
    gc.collect()
    rig.drain()
    assert "sum" in rig.failed[1].message
    assert returned == [place]


def _spying(drain: Callable[[], Any], returned: list[Any]) -> Callable[[], Any]:
    def spy() -> Any:
        messages = drain()
        for message, _ in messages:
            if type(message).__name__ == "Return":
                returned.extend(message.ranges)
        return messages

    return spy


# --- what is told meanwhile

#: What `_look` and `_note` do; pickled by reference, so that they are the test's own.
_hooks: dict[str, Callable[[], object]] = {}


def test_the_status_page_and_the_context_name_the_running_task(rig: Rig) -> None:
    seen: list[Any] = []
    _hooks["seen"] = lambda: seen.append((rig.page.slot(0), running_task.get()))
    queue = rig.tools.batches
    queue.put(
        rig.batch(
            [Call(0, _look, inputs=[100]), Call(8, _look, inputs=[100])], inline={100: blob(1)}
        )
    )
    queue.put(None)
    rig.slot.start()
    assert rig.ended.get(timeout=30) is None
    assert rig.slot.join(30)
    assert [status.task for status, _ in seen] == [0, 8]
    # What the context holds is asked for later here, when the slot runs nothing.
    assert seen[0][1].worker == "w"
    assert seen[0][1].scheduler == "ipc:///s"
    assert seen[0][1].task == -1
    assert rig.page.read()[0].task is None
    assert rig.page.cells[RUNS] == 2


def _look(value: Any) -> int:
    _hooks["seen"]()
    current = running_task.get()
    assert current is not None
    return current.task


def test_a_long_task_s_predecessors_and_itself_are_reported_at_once(rig: Rig) -> None:
    """The wake-up comes before the next task starts, not at the end of the batch."""
    wakes: list[int] = []

    def long() -> None:
        time.sleep(0.0012)  # longer than LONG_TASK, shorter than REPORT_EVERY

    _hooks["seen"] = lambda: wakes.append(rig.wakes)
    rig.slot.run(rig.batch([Call(1, long), Call(2, _note, inputs=[100])], inline={100: blob(1)}))
    assert wakes == [1]
    rig.drain()


def _note(value: Any) -> None:
    _hooks["seen"]()


def test_many_short_tasks_make_few_wakes(rig: Rig) -> None:
    calls = [Call(n, operator.neg, CALL_SINGLE, [], blob(1)) for n in range(500)]
    started = time.monotonic()
    rig.slot.run(rig.batch(calls))
    elapsed = time.monotonic() - started
    assert rig.wakes <= elapsed / 0.001 + 1


def test_a_slot_that_breaks_says_so_instead_of_hanging(
    rig: Rig, capsys: pytest.CaptureFixture[str]
) -> None:
    batch = rig.batch([Call(1, operator.neg, CALL_SINGLE, [], blob(1))])
    batch.tasks = []  # cannot come from a message: the columns are checked
    rig.tools.batches.put(batch)
    rig.slot.start()
    assert isinstance(rig.ended.get(timeout=30), IndexError)
    assert rig.slot.join(30)
    assert "IndexError" in capsys.readouterr().err


# --- a model


def _mix(number: int, *lists: list[int]) -> list[int]:
    """Write into every input, and return something that depends on all of them."""
    if number % 7 == 3:
        raise ValueError(number)
    result = [number]
    for each in lists:
        result.append(sum(each) % 1009)
        each.append(10_000 + number)  # a consumer after this one must not see it
        each[0] = -1
    return result


def _model(graph: list[list[int]]) -> dict[int, list[int] | None]:
    """Evaluate plainly, with fresh copies of all inputs; None: failed or skipped."""
    results: dict[int, list[int] | None] = {}
    for number, inputs in enumerate(graph):
        taken = [results[key] for key in inputs]
        try:
            results[number] = (
                None
                if any(value is None for value in taken)
                else _mix(number, *[list(value or ()) for value in taken])
            )
        except ValueError:
            results[number] = None
    return results


@st.composite
def graphs(draw: st.DrawFn) -> list[list[int]]:
    size = draw(st.integers(1, 12))
    return [
        draw(st.lists(st.integers(0, number - 1), max_size=3)) if number else []
        for number in range(size)
    ]


@settings(max_examples=100, deadline=None)
@given(graphs(), st.data())
def test_any_graph_gives_what_plain_evaluation_gives(
    graph: list[list[int]], data: st.DataObject
) -> None:
    """Inputs are isolated, uses are counted, failures cascade, nothing stays in the heap."""
    rig = Rig()
    try:
        uses = [sum(inputs.count(number) for inputs in graph) for number in range(len(graph))]
        calls = []
        for number, inputs in enumerate(graph):
            report = data.draw(st.integers(0, 2)) if uses[number] else 1
            taken = [-1 - number, *[1000 + key for key in inputs]]
            calls.append(Call(1000 + number, _mix, inputs=taken, uses=uses[number], report=report))
        cut = data.draw(st.integers(0, len(calls)))
        numbers = {-1 - number: blob(number) for number in range(len(graph))}
        rig.run(*calls[:cut], inline=numbers)
        rig.run(*calls[cut:], inline=numbers)
        model = _model(graph)
        reported = {call.task - 1000 for call in calls if call.report}
        good = {number for number, value in model.items() if value is not None}
        assert {task - 1000: value for task, value in rig.done.items()} == {
            number: model[number] for number in good & reported
        }
        assert {task - 1000 for task in (*rig.failed, *rig.skipped)} == set(model) - good
        assert rig.values.held == {}
    finally:
        rig.close()


def test_small_blobs_are_what_objects_say(rig: Rig) -> None:
    rig.run(Call(1, dict, CALL_SINGLE, [], blob({"a": 1})))
    assert rig.lengths[1] == len(dumps_small({"a": 1}, INLINE_LIMIT) or b"")
