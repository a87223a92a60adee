"""The client's core: calls and messages in, messages and effects out."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING

import msgspec
import pytest

from zcluster.core.client.core import (
    CREDIT,
    IMPORTS_OF_SUBMISSION,
    ClientCore,
)
from zcluster.core.client.records import (
    Announced,
    Failure,
    Replied,
)
from zcluster.core.client.states import State
from zcluster.core.client.submitting import KEYED_CALLS
from zcluster.errors import InvalidArgument, InvariantError, ProtocolError
from zcluster.graph.layers import Graph, GraphLayer, Options
from zcluster.protocol.callables import pack_callable
from zcluster.protocol.calls import CALL_INPUTS, CALL_SINGLE, PackedCall
from zcluster.protocol.messages import (
    Answer,
    Ask,
    Cancel,
    Cancelled,
    ErrorInfo,
    Failed,
    Goodbye,
    Message,
    Release,
    Resolved,
    Submit,
    Unreachable,
)
from zcluster.types import Frames, first_task

if TYPE_CHECKING:
    from tests.unit.core.client.conftest import Core

FUNCTION = pack_callable(operator.neg)
FIRST = first_task(3)


def failed(task: int, kind: str = "task", data: bytes = b"") -> tuple[Failed, Frames]:
    info = ErrorInfo(kind, "builtins.ValueError", "no", "", task, 2, "n", "w", (0, 0, len(data)))
    return Failed([task], [2], [0], [info]), [data]


# ------------------------------------------------------------------------ submitting


def test_tasks_are_numbered_densely_from_the_clients_range(core: Core) -> None:
    assert [core.add().task for _ in range(3)] == [FIRST, FIRST + 1, FIRST + 2]
    core.collect()
    assert core.add().task == FIRST + 3


def test_calls_made_together_leave_as_one_submission_of_wanted_tasks(core: Core) -> None:
    for _ in range(5):
        core.add()
    (submit,) = core.messages()
    assert isinstance(submit, Submit)
    assert (submit.submission, submit.count, submit.outputs) == (FIRST, 5, [(0, 5)])
    assert len(submit.layers) == 1
    assert submit.last
    assert core.submitted == 5


def test_inputs_are_tasks_of_the_submission_or_imports(core: Core) -> None:
    old = core.add()
    core.collect()
    a = core.add()
    b = core.add(a, old, a)
    c = core.add(old, b)
    _, (submit, frames) = core.sent()
    assert isinstance(submit, Submit)
    assert submit.imports == [old.task]
    assert core.edges(submit, frames) == {
        a.task: [],
        b.task: [a.task, old.task, a.task],
        c.task: [old.task, b.task],
    }


def test_a_map_is_one_layer_and_its_keys_are_shared(core: Core) -> None:
    records = core.add_map("f", FUNCTION, CALL_SINGLE, [b"\x80"] * 3, ["a", "b", "c"])
    after = core.add()
    (submit,) = core.messages()
    assert isinstance(submit, Submit)
    assert [record.task for record in records] == [FIRST, FIRST + 1, FIRST + 2]
    assert after.task == FIRST + 3
    assert submit.layers[0].keys == ["a", "b", "c"]
    assert submit.layers[0].shared
    assert core.shared("b") is records[1]


def test_options_reach_the_layer(core: Core) -> None:
    call = PackedCall(CALL_SINGLE, b"\x80", None, [])
    core.add_call("f", FUNCTION, call, options=Options(("w1",), True, 4, -2))
    core.add_map("f", FUNCTION, CALL_SINGLE, [b"\x80"], options=Options(retries=1))
    (submit,) = core.messages()
    assert isinstance(submit, Submit)
    first, second = submit.layers
    assert (first.workers, first.allow_other_workers, first.retries) == (["w1"], True, 4)
    assert first.priority == -2
    assert second.retries == 1


def test_a_task_of_a_client_who_came_later_is_an_import(core: Core) -> None:
    """Its number is past the open submission, not in it."""
    own = core.add()
    theirs = core.want(first_task(9) + 4, "theirs")
    core.add(own, theirs)
    submits = [message for message, _ in core.sent() if isinstance(message, Submit)]
    assert submits[-1].imports == [own.task, theirs.task]


def test_an_open_submission_with_many_imports_is_closed_early(core: Core) -> None:
    olds = core.add_map("f", FUNCTION, CALL_SINGLE, [b"\x80"] * (IMPORTS_OF_SUBMISSION + 1))
    core.collect()
    core.add(*olds)
    core.add(olds[0])
    submits = [
        message for message in core.messages() if isinstance(message, Submit) and message.last
    ]
    assert [len(message.outputs) for message in submits] == [1, 1, 1]


def test_a_graph_is_one_submission_and_its_outputs_are_wanted(core: Core) -> None:
    old = core.add()
    graph = Graph()
    graph.add_layer(GraphLayer("x", (3,), 3, CALL_INPUTS, FUNCTION, 1, None, [~0, 0, 1]))
    graph.imports.append("stands for old")
    graph.outputs = [(2, 1), (0, 1)]
    records = core.add_graph(graph, [old], lambda number: f"x{number}")
    assert [record.task for record in records] == [FIRST + 3, FIRST + 1]
    assert [record.label for record in records] == ["x2", "x0"]
    assert set(core.wanted) == {FIRST, FIRST + 1, FIRST + 3}
    _, (submit, frames) = core.sent()
    assert isinstance(submit, Submit)
    assert core.edges(submit, frames)[FIRST + 1] == [old.task]
    assert core.add().task == FIRST + 4


def test_a_graph_that_cannot_be_sent_is_refused_at_the_call_and_takes_no_numbers(
    core: Core,
) -> None:
    graph = Graph()
    graph.add_layer(GraphLayer("x", (3,), 3, CALL_INPUTS, FUNCTION, 0))
    graph.outputs = [(0, 1)] * 2_000_000
    with pytest.raises(InvalidArgument, match="runs of outputs"):
        core.add_graph(graph, [], str)
    assert core.add().task == FIRST
    assert len(core.messages()) == 1


def test_an_empty_graph_is_no_message(core: Core) -> None:
    assert core.add_graph(Graph(), [], str) == []
    assert core.messages() == []


def test_nothing_can_be_submitted_before_the_welcome_or_after_the_end(core: Core) -> None:
    call = PackedCall(CALL_SINGLE, b"\x80", None, [])
    with pytest.raises(InvariantError, match="between its welcome and its end"):
        ClientCore().add_call("f", FUNCTION, call)
    core.end(Failure("closed", "over"))
    with pytest.raises(InvariantError, match="between its welcome and its end"):
        core.add()
    with pytest.raises(InvariantError, match="welcomed twice"):
        core.on_welcome(4, [])


# ------------------------------------------------------------------------ credit


def test_a_map_with_more_keys_than_a_message_takes_leaves_in_several(core: Core) -> None:
    """A map of 100,000 pure calls was too much for one control frame, and ended the client."""
    count = 5 * KEYED_CALLS + 1
    keys = [f"{i:06}" + "k" * 994 for i in range(count)]  # 10 MB of them
    records = core.add_map("f", FUNCTION, CALL_SINGLE, [b"\x80"] * count, keys)
    assert [record.task for record in records] == list(range(FIRST, FIRST + count))
    core.collect()
    messages = [message for message, _ in core.outgoing(lambda: 0)]
    submits = [message for message in messages if isinstance(message, Submit)]
    assert len(submits) == len(messages)
    sent = [layer.keys for message in submits for layer in message.layers]
    assert [key for part in sent for key in part or ()] == keys


def test_slices_leave_while_there_is_credit_and_releases_stay_behind_them(core: Core) -> None:
    constants = [b"\x80" + bytes(60_000)] * 500  # 30 MB: eight slices
    records = core.add_map("f", FUNCTION, CALL_SINGLE, constants)
    core.collect()
    core.drop(records)
    core.collect()
    sizes: list[int] = []
    first = []
    for message, frames in core.outgoing(lambda: sum(sizes)):
        first.append(message)
        sizes.append(sum(len(frame) for frame in frames))
    in_flight = sum(sizes)
    assert all(isinstance(message, Submit) for message in first)
    assert CREDIT <= in_flight < CREDIT + (5 << 20)
    assert core.has_outgoing
    assert list(core.outgoing(lambda: sum(sizes))) == []
    rest = [message for message, _ in core.outgoing(lambda: 0)]
    assert isinstance(rest[-1], Release)
    assert isinstance(rest[-2], Submit)
    assert rest[-2].last
    assert not core.has_outgoing


# ------------------------------------------------------------------------ results


def test_small_results_are_cut_from_the_frame(core: Core) -> None:
    a, b, c = core.add(), core.add(), core.add()
    message = Resolved([a.task, 99, b.task], [1, 2, 3], [], [])
    core.on_message(message, [b"xyyzzz"])
    assert (a.state, a.detail) == (State.HERE, b"x")
    assert (b.state, b.detail) == (State.HERE, b"zzz")
    assert c.state is State.PENDING


@pytest.mark.parametrize("is_whole", [True, False])
def test_large_results_are_announced(core: Core, is_whole: bool) -> None:
    """Their sizes and holders may be columns of all tasks or of them alone."""
    a, b = core.add(), core.add()
    columns = ([1, 500], [0, 4]) if is_whole else ([500], [4])
    core.on_message(Resolved([a.task, b.task], [1, -1], *columns), [b"x"])
    assert a.state is State.HERE
    assert (b.state, b.detail) == (State.ANNOUNCED, Announced(4, 500))


@pytest.mark.parametrize(
    ("message", "frames"),
    [
        (Resolved([FIRST], [5], [], []), [b"four"]),
        (Resolved([FIRST], [-1], [], []), []),
        (Resolved([FIRST], [-1], [1], []), []),
        (Failed([FIRST], [1], [0], []), []),
        (Goodbye(), []),
    ],
)
def test_a_message_that_contradicts_itself_is_refused(
    core: Core, message: Message, frames: Frames
) -> None:
    core.add()
    with pytest.raises(ProtocolError):
        core.on_message(message, frames)


def test_watchers_are_handed_back_once_with_the_settled_record(core: Core) -> None:
    a, b = core.add(), core.add()
    a.watchers = ["x", "y"]
    core.resolve(a, b)
    assert core.take_settled() == [(a, ["x", "y"])]
    assert core.take_settled() == []
    assert a.watchers is None


def test_an_error_comes_with_its_fields_and_the_pickled_exception(core: Core) -> None:
    a = core.add()
    core.on_message(*failed(a.task, data=b"pickled"))
    assert a.state is State.ERROR
    assert a.detail.pickled == b"pickled"
    assert (a.detail.kind, a.detail.attempt) == ("task", 2)


def test_data_that_nobody_can_make_again_is_lost(core: Core) -> None:
    a = core.add()
    core.on_message(*failed(a.task, "lost"))
    assert a.state is State.LOST


def test_what_comes_after_the_final_word_changes_nothing(core: Core) -> None:
    a, b, c = core.add(), core.add(), core.add()
    core.resolve(a)
    core.on_message(Cancelled([b.task], "why"), [])
    core.on_message(*failed(c.task))
    before = [(record.state, record.detail) for record in (a, b, c)]
    for record in (a, b, c):
        core.on_message(*failed(record.task))
        core.on_message(Cancelled([record.task], ""), [])
        if record is not c:  # what failed may have been run again by somebody else
            core.resolve(record, blob=b"other")
            core.on_message(Resolved([record.task], [-1], [9], [0]), [])
    assert [(record.state, record.detail) for record in (a, b, c)] == before


def test_an_announced_result_that_cannot_be_fetched_is_pending_again(core: Core) -> None:
    a = core.add()
    core.collect()
    core.on_message(Resolved([a.task], [-1], [9], [0]), [])
    core.unreachable(a, 5)  # an answer to an old question
    assert core.state_of(a) is State.ANNOUNCED
    core.unreachable(a, 0)
    assert core.state_of(a) is State.PENDING
    assert core.messages()[-1] == Unreachable([a.task], 0)
    core.on_message(Resolved([a.task], [-1], [9], [1]), [])
    assert a.detail == Announced(1, 9)


# ---------------------------------------------------------------- holds and keys


def test_a_task_is_released_with_its_last_hold_and_after_its_submission(core: Core) -> None:
    a = core.add(key="k")
    assert core.shared("k") is a
    core.drop([a])
    assert a.task in core.wanted
    core.drop([a])
    assert core.wanted == {}
    assert core.keys == {}
    submit, release = core.messages()
    assert isinstance(submit, Submit)
    assert release == Release([a.task])


def test_a_key_can_be_used_again_after_a_cancellation_but_is_shared_after_an_error(
    core: Core,
) -> None:
    a, b = core.add(key="a"), core.add(key="b")
    core.on_message(*failed(a.task))
    core.cancel([b])
    assert core.shared("a") is a
    assert core.shared("b") is None
    again = core.add(key="b")
    core.drop([b])
    assert core.shared("b") is again


def test_cancelling_counts_at_once_and_only_for_what_is_pending(core: Core) -> None:
    a, b = core.add(), core.add()
    core.resolve(b)
    a.watchers = ["x"]
    core.cancel([a, b], "enough")
    assert a.state is State.CANCELLED
    assert a.detail == Failure("cancelled", "enough")
    assert b.state is State.HERE
    assert core.take_settled() == [(a, ["x"])]
    submit, cancel = core.messages()
    assert isinstance(submit, Submit)
    assert cancel == Cancel([a.task], "enough")
    core.cancel([a])
    assert core.messages() == []
    # What was cancelled may run still, and be stopped.
    core.cancel([a, b], force=True)
    assert core.messages() == [Cancel([a.task], "", True)]


@pytest.mark.parametrize(
    ("kind", "state"), [("closed", State.CANCELLED), ("scheduler", State.LOST)]
)
def test_the_end_settles_everything_that_is_open(core: Core, kind: str, state: State) -> None:
    a, b, c = core.add(), core.add(), core.add()
    core.resolve(a)
    core.on_message(Resolved([b.task], [-1], [9], [0]), [])
    c.watchers = ["x"]
    failure = Failure(kind, "gone")
    core.end(failure)
    core.end(Failure("closed", "again"))
    assert a.state is State.HERE
    assert b.state is c.state is state
    assert c.detail is core.ended is failure
    assert [record for record, _ in core.take_settled()] == [c]
    core.drop([a, b, c])
    core.collect()
    assert not core.has_news
    assert not core.has_outgoing


# -------------------------------------------------------------------- questions


def test_a_question_goes_out_and_its_answer_is_an_effect(core: Core) -> None:
    number = core.ask("story", [5], "text")
    assert core.messages() == [Ask(number, "story", [5], "text")]
    answer = Answer(number, msgspec.Raw(b"\xc0"))
    core.on_message(answer, [])
    assert core.has_effects
    assert core.take_effects() == [Replied(answer.request, answer, [])]
    assert not core.has_effects
