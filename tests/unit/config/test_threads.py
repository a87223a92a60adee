"""A worker has as many threads as the job gave it, and never more than there are processors."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zcluster.config.threads import Threads, default_threads
from zcluster.errors import InvalidArgument

JOB = {"SLURM_JOB_ID": "7"}


@pytest.mark.parametrize(
    ("environment", "workers", "expected"),
    [
        ({}, 1, Threads(40, "processors", 40)),
        ({}, 3, Threads(13, "processors", 40)),
        ({}, 41, Threads(1, "processors", 40)),
        ({"SLURM_CPUS_PER_TASK": "8"}, 1, Threads(8, "SLURM_CPUS_PER_TASK", 8)),
        ({"SLURM_CPUS_PER_TASK": "8"}, 2, Threads(4, "SLURM_CPUS_PER_TASK", 8)),
        ({"SLURM_CPUS_PER_TASK": "8"}, 9, Threads(1, "SLURM_CPUS_PER_TASK", 8)),
        ({**JOB, "OMP_NUM_THREADS": "4"}, 1, Threads(4, "OMP_NUM_THREADS", 4)),
        ({**JOB, "OMP_NUM_THREADS": "4"}, 2, Threads(4, "OMP_NUM_THREADS", 4)),
        ({**JOB, "OMP_NUM_THREADS": "30"}, 2, Threads(20, "OMP_NUM_THREADS", 30)),
        ({**JOB, "OMP_NUM_THREADS": "6,2"}, 1, Threads(6, "OMP_NUM_THREADS", 6)),
        ({**JOB, "OMP_NUM_THREADS": " 6 "}, 1, Threads(6, "OMP_NUM_THREADS", 6)),
        (
            {"SLURM_CPUS_PER_TASK": "8", "OMP_NUM_THREADS": "1"},
            1,
            Threads(8, "SLURM_CPUS_PER_TASK", 8),
        ),
        ({"OMP_NUM_THREADS": "4"}, 1, Threads(40, "processors", 40)),
        (
            {**JOB, "SLURM_CPUS_PER_TASK": "", "OMP_NUM_THREADS": ""},
            1,
            Threads(40, "processors", 40),
        ),
    ],
)
def test_the_first_that_is_there_decides(
    environment: dict[str, str], workers: int, expected: Threads
) -> None:
    assert default_threads(environment, 40, workers) == expected


def test_a_process_bound_to_fewer_processors_has_fewer_threads() -> None:
    """An srun that does not repeat --cpus-per-task is bound to one, and inherits the variable."""
    assert default_threads({"SLURM_CPUS_PER_TASK": "40"}, 1) == Threads(
        1, "SLURM_CPUS_PER_TASK", 40
    )


@pytest.mark.parametrize("name", ["SLURM_CPUS_PER_TASK", "OMP_NUM_THREADS"])
@pytest.mark.parametrize("text", ["0", "-2", "four", "2.5", "²", ",4"])
def test_what_is_no_number_of_threads_is_told(name: str, text: str) -> None:
    with pytest.raises(InvalidArgument, match=f"{name} is '{text}', expected .*--nthreads"):
        default_threads({**JOB, name: text}, 40)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "SLURM_JOB_ID": st.just("7"),
            "SLURM_CPUS_PER_TASK": st.integers(1, 100).map(str),
            "OMP_NUM_THREADS": st.integers(1, 100).map(str),
        },
    ),
    st.integers(1, 64),
    st.integers(1, 64),
)
def test_workers_never_have_more_threads_than_processors(
    environment: dict[str, str], processors: int, workers: int
) -> None:
    count = default_threads(environment, processors, workers).count
    assert count >= 1
    assert count == 1 or count * workers <= processors
