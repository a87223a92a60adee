"""Defaults in one record, sizes as people write them, and what this machine offers.

`Settings` is made once at the edge (a command, a client) and passed down; nothing
below reads configuration in the middle of a method. Tests make one with shorter
times: ``Settings(stop_grace=0.1)``.

Sizes are decimal when they say ``kB, MB, GB`` (powers of 1000) and binary when
they say ``KiB, MiB, GiB`` (powers of 1024), and are shown binary, as Dask does:
``parse_bytes("2GB")`` is shown as ``1.86 GiB``.
"""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass

from zcluster.errors import InvalidArgument

__all__ = [
    "Settings",
    "cpu_count",
    "format_bytes",
    "memory_total",
    "parse_bytes",
    "parse_memory_limit",
]

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


@dataclass(frozen=True)
class Settings:
    """Timings in seconds and limits in bytes, with the defaults of a local cluster.

    Attributes
    ----------
    start_timeout : float
        How long a start may take before it is an error.
    stop_grace : float
        How long a process told to stop may take before it is killed.
    restart_first, restart_most : float
        Wait before a nanny that died is started again: the first, and the longest
        after doubling.
    restart_forget : float
        A nanny that lived this long starts again with the first wait.
    death_timeout : float
        How long a nanny waits for its scheduler, at start and after losing it.
    store_share : float
        Share of a node's memory that results may fill before they go to disk.
    """

    start_timeout: float = 30.0
    stop_grace: float = 1.0
    restart_first: float = 0.1
    restart_most: float = 30.0
    restart_forget: float = 60.0
    death_timeout: float = 60.0
    store_share: float = 0.6


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


def cpu_count() -> int:
    """Return how many processors this process may use: affinity and cgroup quota count."""
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    else:
        count = os.cpu_count() or 1
    quota, _, period = _first_line("/sys/fs/cgroup/cpu.max").partition(" ")
    if quota.isdigit() and period.isdigit() and int(period) > 0:
        count = min(count, math.ceil(int(quota) / int(period)))
    return max(1, count)


def memory_total() -> int:
    """Return the memory in bytes this process may use: the machine's or its cgroup's."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        limit = _first_line(path)
        if limit.isdigit() and int(limit) > 0:
            total = min(total, int(limit))
    return total


def _first_line(path: str) -> str:
    try:
        with open(path) as file:
            return file.readline().strip()
    except OSError:  # no such cgroup: nothing limits us there
        return ""
