"""The smallest quota between a process's control group and the root counts."""

from __future__ import annotations

import math

import pytest

from zcluster.config.cgroups import processor_quota

ROOT = "/sys/fs/cgroup"
#: What the kernel tells a step of a Slurm that uses cgroup v2.
STEP = "0::/system.slice/slurmstepd.scope/job_7/step_0/user/task_2\n"


@pytest.mark.parametrize(
    ("membership", "files", "quota"),
    [
        ("0::/\n", {}, math.inf),
        ("", {}, math.inf),
        ("0::/\n", {"/cpu.max": "max 100000\n"}, math.inf),
        ("0::/\n", {"/cpu.max": "50000 100000\n"}, 0.5),
        ("0::/\n", {"/cpu.max": "what is this\n"}, math.inf),
        ("0::/\n", {"/cpu.max": "1 0\n"}, math.inf),
        (STEP, {"/system.slice/slurmstepd.scope/job_7/cpu.max": "400000 100000\n"}, 4.0),
        (
            STEP,
            {
                "/system.slice/cpu.max": "300000 100000\n",
                "/system.slice/slurmstepd.scope/job_7/cpu.max": "max 100000\n",
                "/system.slice/slurmstepd.scope/job_7/step_0/cpu.max": "800000 200000\n",
            },
            3.0,
        ),
        # In a container that is told its name outside, the root is its own group.
        ("0::/docker/0123abcd\n", {"/cpu.max": "150000 100000\n"}, 1.5),
        ("0::/../../other\n", {"/cpu.max": "150000 100000\n"}, 1.5),
        # Version 1 and 2 side by side: the line that begins with 0 is version 2.
        ("4:cpu,cpuacct:/one\n0::/two\n", {"/two/cpu.max": "70000 10000\n"}, 7.0),
        ("4:cpu,cpuacct:/one\n", {"/one/cpu.max": "70000 10000\n"}, math.inf),
    ],
)
def test_the_smallest_quota_on_the_way_counts(
    membership: str, files: dict[str, str], quota: float
) -> None:
    asked = []

    def read(path: str) -> str:
        asked.append(path)
        return files.get(path.removeprefix(ROOT), "")

    assert processor_quota(membership, read) == quota
    assert all(path.startswith(f"{ROOT}/") and ".." not in path for path in asked)
