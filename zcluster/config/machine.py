"""What this machine offers this process."""

from __future__ import annotations

import math
import os

from zcluster.config.cgroups import processor_quota

__all__ = ["cpu_count", "memory_total"]


def cpu_count() -> int:
    """Return how many processors this process may use: affinity and cgroup quota count."""
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    else:
        count = os.cpu_count() or 1
    quota = processor_quota(_text("/proc/self/cgroup"), _text)
    return max(1, count if quota == math.inf else min(count, math.ceil(quota)))


def memory_total() -> int:
    """Return the memory in bytes this process may use: the machine's or its cgroup's."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        limit = _text(path).strip()
        if limit.isdigit() and int(limit) > 0:
            total = min(total, int(limit))
    return total


def _text(path: str) -> str:
    try:
        with open(path) as file:
            return file.read()
    except OSError:  # no such cgroup: nothing limits us there
        return ""
