"""Sizes as people write them and read them.

Sizes are decimal when they say ``kB, MB, GB`` (powers of 1000) and binary when
they say ``KiB, MiB, GiB`` (powers of 1024), and are shown binary, as Dask does:
``parse_bytes("2GB")`` is shown as ``1.86 GiB``.
"""

from __future__ import annotations

import math
import re

from zcluster.config.machine import memory_total
from zcluster.errors import InvalidArgument

__all__ = ["format_bytes", "parse_bytes", "parse_memory_limit"]

#: What each unit stands for; the first spelling of a size is the one shown in errors.
_UNITS = {
    "B": 1,
    "kB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "PB": 10**15,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
    "PiB": 2**50,
}
_FACTORS = {unit.lower(): factor for unit, factor in _UNITS.items()}
_FACTORS |= {"": 1, "byte": 1, "bytes": 1}
# '2G' and '2Gi', as Slurm and Kubernetes write them
_FACTORS |= {unit[:-1].lower(): factor for unit, factor in _UNITS.items() if len(unit) > 1}

_SIZE = re.compile(r"\s*([0-9]*\.?[0-9]+(?:e[+-]?[0-9]+)?)\s*([a-z]*)\s*", re.IGNORECASE)

# Above every address space; a number like this is a slip, and would overflow what reads it.
_LARGEST = 2**60


def parse_bytes(size: int | float | str) -> int:
    """Return a number of bytes.

    Parameters
    ----------
    size : int, float or str
        ``1000``, ``"1GB"``, ``"500 MiB"``, ``"2G"``, ``"1e9"``; units are those of
        `format_bytes` and the decimal ones.

    Raises
    ------
    InvalidArgument
        If it does not parse, is negative, or is larger than an exbibyte.

    Examples
    --------
    >>> parse_bytes("1GB"), parse_bytes("500MiB"), parse_bytes(0)
    (1000000000, 524288000, 0)
    """
    if isinstance(size, str):
        match = _SIZE.fullmatch(size)
        factor = None if match is None else _FACTORS.get(match[2].lower())
        if match is None or factor is None:
            raise InvalidArgument(
                f"size {size!r} does not parse, expected a number and a unit as in '2GB' or "
                f"'500MiB'; units are {', '.join(_UNITS)}"
            )
        value = float(match[1]) * factor
    elif isinstance(size, (int, float)) and not isinstance(size, bool):
        value = size
    else:
        raise InvalidArgument(
            f"size is a {type(size).__name__}, expected a number of bytes or text as in '2GB'"
        )
    if not (math.isfinite(value) and 0 <= value <= _LARGEST):
        raise InvalidArgument(f"size {size!r} is out of range, expected 0 to 1024 PiB")
    return int(value)


def format_bytes(size: int) -> str:
    """Return a size as people read it, in binary units.

    Examples
    --------
    >>> format_bytes(2_000_000_000), format_bytes(1536), format_bytes(12)
    ('1.86 GiB', '1.50 KiB', '12 B')
    """
    for unit in ("PiB", "TiB", "GiB", "MiB", "KiB"):
        # Up to the next unit at 90 %, so that 1000 MiB reads as 0.98 GiB.
        if size >= _UNITS[unit] * 0.9:
            return f"{size / _UNITS[unit]:.2f} {unit}"
    return f"{size} B"


def parse_memory_limit(
    limit: int | float | str | None, share: float = 1.0, total: int | None = None
) -> int:
    """Return the bytes one worker may use; 0 means no limit.

    Parameters
    ----------
    limit : int, float, str or None
        A size as for `parse_bytes`; ``"auto"`` for ``share`` of the machine; a float
        (or such text) of at most 1 for that fraction of the machine; 0 or None for no
        limit.
    share : float
        The share of the machine's memory that ``"auto"`` stands for.
    total : int, optional
        The machine's memory in bytes, `memory_total` if absent.

    Raises
    ------
    InvalidArgument
        If it does not parse or is negative.

    Examples
    --------
    >>> parse_memory_limit("auto", 0.5, 8000), parse_memory_limit(0.25, total=8000)
    (4000, 2000)
    >>> parse_memory_limit("1GB"), parse_memory_limit(0)
    (1000000000, 0)
    """
    if limit is None:
        return 0
    if isinstance(limit, str):
        text = limit.strip().lower()
        if text == "auto":
            limit = min(1.0, share)
        elif re.fullmatch(r"0?\.[0-9]+|1\.0*", text):
            limit = float(text)
    if isinstance(limit, float) and 0 <= limit <= 1:
        return int(limit * (memory_total() if total is None else total))
    try:
        return parse_bytes(limit)
    except InvalidArgument as error:
        raise InvalidArgument(
            f"memory limit: {error}; 'auto', a fraction of the machine such as 0.5, and 0 for no "
            "limit are also possible"
        ) from None
