"""Failed tasks that run again, tasks of others, tasks that nobody can run."""

from __future__ import annotations

import operator

from zcluster.core.client.core import ClientCore
from zcluster.core.client.records import Failure, Wanted
from zcluster.core.client.states import State
from zcluster.protocol.callables import pack_callable
from zcluster.protocol.calls import CALL_SINGLE, PackedCall
from zcluster.protocol.messages import (
    Cancel,
    ErrorInfo,
    Failed,
    Message,
    Release,
    Resolved,
    Retry,
    Want,
)

FUNCTION = pack_callable(operator.neg)
CALL = PackedCall(CALL_SINGLE, b"\x80", None, [])


def make_core() -> ClientCore:
    core = ClientCore()
    core.on_welcome(3, [])
    return core


def add(core: ClientCore) -> Wanted:
    return core.add_call("neg", FUNCTION, CALL)


def messages(core: ClientCore) -> list[Message]:
    core.collect()
    return [message for message, _ in core.outgoing(lambda: 0)]


def fail(core: ClientCore, record: Wanted, origin: Wanted | None = None) -> None:
    kind = "task" if origin is None else "input"
    task = record.task if origin is None else origin.task
    error = ErrorInfo(kind, "builtins.ValueError", "no", "", task, 1, "n", "w")
    core.on_message(Failed([record.task], [1], [0], [error]), [b""])


def test_a_failed_task_is_pending_again_after_a_retry_and_settles_once_more() -> None:
    core = make_core()
    first, second = add(core), add(core)
    messages(core)
    fail(core, first)
    fail(core, second)
    assert core.retry([first]) == [first]
    assert first.state is State.PENDING
    assert core.retry([first]) == []
    assert messages(core) == [Retry([first.task])]
    # The second was run again by somebody else.
    core.on_message(Resolved([first.task, second.task], [1, 1], [1, 1], [0, 0]), [b"ab"])
    assert (first.state, first.detail) == (State.HERE, b"a")
    assert (second.state, second.detail) == (State.HERE, b"b")


def test_what_failed_of_a_task_runs_again_with_it() -> None:
    core = make_core()
    root, heir, other, stranger = (add(core) for _ in range(4))
    messages(core)
    fail(core, root)
    fail(core, heir, root)
    fail(core, other, stranger)
    assert core.retry([root]) == [root, heir]
    assert messages(core) == [Retry([root.task, heir.task])]
    assert other.state is State.ERROR


def test_a_task_of_another_client_is_held_and_let_go_of_as_ones_own() -> None:
    core = make_core()
    record = core.want(77 << 40, "theirs")
    assert core.want(77 << 40, "theirs") is record
    assert messages(core) == [Want([77 << 40])]
    core.drop([record])
    assert messages(core) == []
    core.drop([record])
    assert messages(core) == [Release([77 << 40])]


def test_what_is_wanted_again_is_let_go_of_before() -> None:
    """The scheduler goes by what it hears last."""
    core = make_core()
    record = add(core)
    messages(core)
    core.drop([record])
    assert core.want(record.task, "again") is not record
    assert messages(core) == [Release([record.task]), Want([record.task])]


def test_tasks_that_nobody_can_run_are_given_up_here_and_there() -> None:
    core = make_core()
    record = add(core)
    messages(core)
    core.give_up([record.task, 5], "no such worker")
    assert record.state is State.ERROR
    assert record.detail == Failure("workers", "no such worker")
    (said,) = messages(core)
    assert said == Cancel([record.task, 5], "no such worker")
