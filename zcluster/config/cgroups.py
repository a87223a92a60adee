"""How much of the processors the control group of a process lets it have.

A batch system or container engine sets a quota on a group: so much processor time in so long a
period, in a file ``cpu.max`` of that group's folder. Groups nest, and the smallest quota on the
way to the root counts. In a container the root is often the container's own group, and the name
that the kernel tells is one outside: then folders on the way are not there, and say nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import PurePosixPath

__all__ = ["processor_quota"]

_ROOT = PurePosixPath("/sys/fs/cgroup")


def processor_quota(membership: str, read: Callable[[str], str]) -> float:
    """Return how many processors' time the groups of a process allow, infinity if all of it.

    Parameters
    ----------
    membership : str
        What is in ``/proc/self/cgroup``: the line that begins with ``0::`` has the group.
    read : callable
        Returns the text of a file by its path, ``""`` for one that is not there.

    Examples
    --------
    >>> files = {"/sys/fs/cgroup/jobs/cpu.max": "150000 100000"}
    >>> processor_quota("0::/jobs/job7", lambda path: files.get(path, ""))
    1.5
    """
    group = PurePosixPath("/")
    for line in membership.splitlines():
        if line.startswith("0::/"):
            group = PurePosixPath(line.removeprefix("0::"))
    if ".." in group.parts:  # seen from within a container, a group outside of it
        group = PurePosixPath("/")
    quota = math.inf
    for path in (group, *group.parents):
        inside = _ROOT / path.relative_to("/")
        quota = min(quota, _parse_limit(read(str(inside / "cpu.max"))))
    return quota


def _parse_limit(text: str) -> float:
    """Return the processors' worth of a ``cpu.max``; ``max`` or nothing is infinity."""
    quota, _, period = text.strip().partition(" ")
    if not (quota.isdigit() and period.isdigit() and int(period) > 0):
        return math.inf
    return int(quota) / int(period)
