"""Cyclic garbage goes when there is little to look through, and seldom otherwise."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from zcluster.servers.garbage import Garbage


class Knot:
    """Refers to itself."""

    def __init__(self) -> None:
        self.me = self


def tie() -> weakref.ref[Knot]:
    return weakref.ref(Knot())


@pytest.fixture
def garbage() -> Iterator[Garbage]:
    made = Garbage(100.0)
    yield made
    made.close()


def test_cycles_are_found_when_there_is_little_else(garbage: Garbage) -> None:
    assert not gc.isenabled()
    knot = tie()
    garbage.on_time(104.0, True)
    assert knot() is not None
    garbage.on_time(105.0, True)
    assert knot() is None
    knot = tie()
    garbage.on_time(109.0, True)
    assert knot() is not None


def test_where_there_is_much_they_are_looked_for_seldom(garbage: Garbage) -> None:
    knot = tie()
    garbage.on_time(600.0, False)
    assert knot() is not None
    garbage.on_time(701.0, False)
    assert knot() is None


def test_at_the_end_it_is_pythons_business_again() -> None:
    made = Garbage(0.0)
    assert gc.get_freeze_count() > 0
    made.close()
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0
