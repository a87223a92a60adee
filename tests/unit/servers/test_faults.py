"""A fault's dump is told apart from what else a worker prints."""

from __future__ import annotations

import os

import zcluster
from zcluster.servers.faults import FaultDump

OURS = os.fsencode(os.path.join(os.path.dirname(zcluster.__file__), "servers", "slots.py"))
DUMP = [
    b"Fatal Python error: Segmentation fault",
    b"",
    b"Current thread 0x0 (most recent call first):",
    b'  File "my.py", line 1 in f',
    b'  File "%s", line 274 in run' % OURS,
    b'  File "/lib/threading.py", line 982 in run',
    b"",
    b"Extension modules: msgspec._core (total: 1)",
]


def test_a_dump_in_pieces_is_kept_and_its_news_are_the_user_s_frames() -> None:
    dump = FaultDump()
    assert dump.take([b"before", *DUMP[:4]]) == [b"before"]
    assert dump.take(DUMP[4:]) == []
    assert dump.lines == DUMP
    assert dump.news() == DUMP[:4]


def test_what_never_ends_is_no_dump() -> None:
    dump = FaultDump()
    assert dump.take([DUMP[0], *[b"x"] * 400]) == [b"x"] * 101
    assert dump.take([b"y"]) == [b"y"]
    assert len(dump.lines) == 300


def test_without_a_fault_all_is_passed_on() -> None:
    dump = FaultDump()
    assert dump.take([b"a", b" Fatal Python error:"]) == [b"a", b" Fatal Python error:"]
    assert dump.news() == []
