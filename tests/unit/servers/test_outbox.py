"""What slots say, as messages."""

from __future__ import annotations

import threading
from collections import deque

from zcluster.protocol.messages import Done, ErrorInfo, Failed, Grant, Reserve, Return, Skipped
from zcluster.protocol.messages import Output as OutputMessage
from zcluster.servers.outbox import Outbox
from zcluster.servers.output import STDOUT, Output
from zcluster.servers.status import TASK, StatusPage


def make() -> tuple[Outbox, list[None], deque[tuple[int, int, int]]]:
    wakes: list[None] = []
    returns: deque[tuple[int, int, int]] = deque()
    return Outbox(returns, lambda: wakes.append(None)), wakes, returns


def error(task: int) -> ErrorInfo:
    return ErrorInfo("task", "T", "m", "t", task, 0, "n", "w")


def test_nothing_to_say_is_no_message() -> None:
    assert make()[0].drain() == []


def test_results_leave_as_columns_with_their_blobs_joined() -> None:
    outbox, _, _ = make()
    outbox.done.extend([(1, 2, 5, b"ab"), (2, -2, 6, b""), (3, 1, 7, b"c")])
    assert outbox.drain() == [(Done([1, 2, 3], [2, -2, 1], [5, 6, 7], []), [b"abc"])]
    assert outbox.drain() == []


def test_stored_results_name_their_range() -> None:
    outbox, _, _ = make()
    outbox.ranges.update({1: (0, 4096, 99), 7: (0, 0, 5)})
    outbox.done.append((1, -1, 5, b""))
    assert outbox.drain() == [(Done([1], [-1], [5], [(1, 0, 4096, 99)]), [])]
    assert list(outbox.ranges) == [7], "the record of task 7 has not been put in yet"


def test_exceptions_are_spans_of_one_frame() -> None:
    outbox, _, _ = make()
    outbox.failed.extend([(error(1), b"abc"), (error(2), b""), (error(3), b"de")])
    ((message, frames),) = outbox.drain()
    assert isinstance(message, Failed)
    assert (message.tasks, message.attempts, message.which) == ([1, 2, 3], [0] * 3, [0, 1, 2])
    assert [info.exception for info in message.errors] == [(0, 0, 3), None, (0, 3, 5)]
    assert frames == [b"abcde"]


def test_leases_return_first_and_skipped_tasks_follow_failures() -> None:
    outbox, _, returns = make()
    outbox.skipped.append(4)
    outbox.failed.append((error(3), b""))
    outbox.done.append((2, -2, 0, b""))
    returns.append((0, 4096, 1))
    kinds = [type(message) for message, _ in outbox.drain()]
    assert kinds == [Return, Done, Failed, Skipped]


def test_messages_stay_within_the_limits_of_a_frame() -> None:
    """2048 results of 16 KiB are 32 MiB, half of what a frame may have."""
    outbox, _, _ = make()
    outbox.done.extend((n, 1, 0, b"x") for n in range(5000))
    outbox.failed.extend((error(n), b"y") for n in range(150))
    messages = outbox.drain()
    assert [len(m.tasks) for m, _ in messages if isinstance(m, Done)] == [2048, 2048, 904]
    assert [len(m.tasks) for m, _ in messages if isinstance(m, Failed)] == [64, 64, 22]


def test_a_reservation_waits_for_its_own_grant() -> None:
    outbox, wakes, _ = make()
    granted: list[Grant | None] = []
    threads = [
        threading.Thread(target=lambda n=n: granted.append(outbox.reserve(n, 100 * n, 30)))
        for n in (1, 2)
    ]
    for thread in threads:
        thread.start()
    requests: list[Reserve] = []
    while len(requests) < 2:
        requests += [m for m, _ in outbox.drain() if isinstance(m, Reserve)]
    assert len(wakes) == 2
    outbox.grant(Grant(999, 0, 0, 1))  # somebody else's, or one that came too late
    for request in requests:
        outbox.grant(Grant(request.request, request.task, 0, request.size))
    for thread in threads:
        thread.join(30)
    assert sorted((g.slab, g.length) for g in granted if g) == [(1, 100), (2, 200)]


def test_a_reservation_gives_up_in_time() -> None:
    outbox, _, _ = make()
    assert outbox.reserve(1, 100, timeout=0.01) is None
    ((request, _),) = outbox.drain()
    assert isinstance(request, Reserve)
    outbox.grant(Grant(request.request, 0, 0, 100))  # nobody waits any more


def test_what_a_task_printed_leaves_before_its_result() -> None:
    page = StatusPage.create(1)
    output = Output("w", page, 1000)
    outbox = Outbox(deque(), lambda: None, output)
    page.cells[TASK] = 3
    output.slot(0).write(STDOUT, "a line\n")
    outbox.done.append((3, 1, 7, b"c"))
    assert [type(message) for message, _ in outbox.drain()] == [OutputMessage, Done]
    page.close()
