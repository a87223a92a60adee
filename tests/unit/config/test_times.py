"""Times as people write them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from zcluster.config.times import Time, parse_timedelta
from zcluster.errors import InvalidArgument


@pytest.mark.parametrize(
    ("time", "seconds"),
    [
        (3, 3.0),
        (0.5, 0.5),
        (-1, -1.0),
        ("3", 3.0),
        ("3s", 3.0),
        ("3.5 seconds", 3.5),
        (".5 s", 0.5),
        ("300ms", 0.3),
        ("1e3 us", 1e-3),
        ("2 Min", 120.0),
        ("2 minutes", 120.0),
        ("1m", 60.0),
        ("1.5 hours", 5400.0),
        ("2 hrs", 7200.0),
        ("1 day", 86400.0),
        ("2w", 1209600.0),
        ("hour", 3600.0),
        (timedelta(minutes=1, milliseconds=1), 60.001),
    ],
)
def test_spellings(time: Time, seconds: float) -> None:
    assert parse_timedelta(time) == pytest.approx(seconds)


def test_a_number_without_a_unit_has_the_default() -> None:
    assert parse_timedelta("2", default="ms") == parse_timedelta(2, default="ms") == 0.002
    assert parse_timedelta("2s", default="ms") == 2.0


@pytest.mark.parametrize("wrong", ["", "  ", "soon", "10 parsecs", "1 2 s", "-", [1], True, 1j])
def test_what_is_no_time_is_named(wrong: Any) -> None:
    with pytest.raises(InvalidArgument, match="where a time is expected; expected seconds"):
        parse_timedelta(wrong)
    with pytest.raises(InvalidArgument, match="nan where a time"):
        parse_timedelta(float("nan"))
