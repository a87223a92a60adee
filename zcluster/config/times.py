"""Times as people write them: seconds as numbers, ``"10s"``, ``"1 min"``, a `timedelta`."""

from __future__ import annotations

import math
import re
from datetime import timedelta
from numbers import Real
from typing import TypeAlias, overload

from zcluster.errors import InvalidArgument

__all__ = ["Time", "parse_timedelta"]

#: Some time, as users may give it.
Time: TypeAlias = float | str | timedelta

_UNITS = {
    "ns": 1e-9,
    "us": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "min": 60.0,
    "h": 3600.0,
    "day": 86400.0,
    "week": 7 * 86400.0,
}
_SECONDS = _UNITS | {
    "nanosecond": 1e-9,
    "microsecond": 1e-6,
    "millisecond": 1e-3,
    "second": 1.0,
    "sec": 1.0,
    "m": 60.0,
    "minute": 60.0,
    "hour": 3600.0,
    "hr": 3600.0,
    "d": 86400.0,
    "w": 7 * 86400.0,
}
_TIME = re.compile(r"\s*([0-9]*\.?[0-9]+(?:e[+-]?[0-9]+)?|[0-9]+\.)?\s*([a-z]*)\s*", re.IGNORECASE)


@overload
def parse_timedelta(time: None, default: str = "seconds") -> None: ...
@overload
def parse_timedelta(time: Time, default: str = "seconds") -> float: ...
def parse_timedelta(time: Time | None, default: str = "seconds") -> float | None:
    """Return seconds; None stays None.

    Parameters
    ----------
    time : float, str, timedelta or None
        ``3``, ``"3s"``, ``"300 ms"``, ``"1.5 hours"``, ``timedelta(minutes=1)``.
    default : str
        The unit of a number without one.

    Raises
    ------
    InvalidArgument
        If it does not parse.

    Examples
    --------
    >>> parse_timedelta("10s"), parse_timedelta("500ms"), parse_timedelta("1 min")
    (10.0, 0.5, 60.0)
    >>> parse_timedelta(2), parse_timedelta("2", "minutes"), parse_timedelta(None) is None
    (2.0, 120.0, True)
    """
    if time is None:
        return None
    if type(time) is float and default == "seconds" and not math.isnan(time):
        return time  # nearly always: every wait asks
    if isinstance(time, timedelta):
        return time.total_seconds()
    number: object = time
    unit = default
    if isinstance(time, str):
        match = _TIME.fullmatch(time)
        if match is None or not time.strip():
            raise _not_parsed(time)
        number, unit = float(match[1] or 1), match[2] or default
    factor = _SECONDS.get(unit.lower()) or _SECONDS.get(unit.lower().removesuffix("s"))
    if factor is None or isinstance(number, bool) or not isinstance(number, Real):
        raise _not_parsed(time)
    seconds = float(number) * factor
    if math.isnan(seconds):
        raise _not_parsed(time)
    return seconds


def _not_parsed(time: object) -> InvalidArgument:
    return InvalidArgument(
        f"found {time!r:.80} where a time is expected; expected seconds as a number, text such as "
        f"'10s', '500ms' or '1 min' (units are {', '.join(_UNITS)}), or a timedelta"
    )
