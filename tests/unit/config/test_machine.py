"""What the machine offers is what this process may use of it."""

from __future__ import annotations

import os

import pytest

from zcluster.config import cpu_count, memory_total


def test_the_machine_has_something_to_offer() -> None:
    assert 1 <= cpu_count() <= (os.cpu_count() or 1)
    assert memory_total() > 2**24


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
def test_an_affinity_counts() -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert cpu_count() == 1
    finally:
        os.sched_setaffinity(0, before)
