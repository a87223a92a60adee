"""Results gathered into few messages."""

from __future__ import annotations

from zcluster.core.node.records import Result
from zcluster.core.node.reports import Reports
from zcluster.protocol.messages import Finished
from zcluster.storage.arena import Range


def test_columns_say_where_each_result_is() -> None:
    reports = Reports()
    assert not reports
    reports.inline(1, 1, b"abc", 0)
    reports.stored(2, 1, 500, 1)
    reports.passed(3, 2, 7, 0)
    reports.held(4, 1, 1)
    reports.duration(b"f", 2, 10)
    reports.duration(b"f", 1, 5)
    assert reports
    ((message, frames),) = reports.take()
    assert message == Finished(
        [1, 2, 3, 4], [1, 1, 2, 1], [3, -1, -2, -3], [3, 500, 7, 0], [0, 1, 0, 1], [(b"f", 3, 15)]
    )
    assert frames == [b"abc"]
    assert not reports


def test_what_is_here_already_is_reported_as_what_it_is() -> None:
    reports = Reports()
    reports.again(1, 5, Result(3, b"abc"))
    reports.again(2, 5, Result(500, place=Range(0, 0, 500)))
    reports.again(3, 5, Result(0, worker=1))
    ((message, frames),) = reports.take()
    assert isinstance(message, Finished)
    assert (message.lengths, message.workers) == ([3, -1, -3], [-1, -1, 1])
    assert frames == [b"abc"]


def test_nothing_small_means_no_frame() -> None:
    reports = Reports()
    reports.held(4, 1, 1)
    assert reports.take()[0][1] == []


def test_many_bytes_go_in_several_messages() -> None:
    reports = Reports()
    for task in range(300):
        reports.inline(task, 1, bytes(9_999), 0)
        reports.stored(1000 + task, 1, 1 << 20, 0)
    reports.duration(b"f", 600, 10)
    messages = reports.take()
    assert [len(frames[0]) for _, frames in messages] == [105 * 9_999, 105 * 9_999, 90 * 9_999]
    said = [message for message, _ in messages if isinstance(message, Finished)]
    assert [task for each in said for task in each.tasks] == [
        number for task in range(300) for number in (task, 1000 + task)
    ]
    assert [len(each.lengths) == len(each.tasks) == len(each.sizes) for each in said] == [True] * 3
    assert [each.durations for each in said] == [[(b"f", 600, 10)], [], []]
    assert not reports
    assert reports.take() == []
