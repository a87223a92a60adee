"""How many threads a worker has when nobody says.

The first that is there, and never more than the process may use:

1. ``SLURM_CPUS_PER_TASK``: what the job asked for, for all workers of this task together;
2. ``OMP_NUM_THREADS`` in a Slurm job: what each process should use;
3. a fair share of the processors.

Outside of Slurm ``OMP_NUM_THREADS`` says how libraries compute, and nothing of workers: many set
it to 1 for good.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from zcluster.errors import InvalidArgument

__all__ = ["Threads", "default_threads"]

_PROCESSORS = "processors"


@dataclass(frozen=True)
class Threads:
    """A number of threads, and where it is from.

    Attributes
    ----------
    count : int
        For each worker, at least 1.
    source : str
        The variable that it is from, or ``"processors"``.
    asked : int
        What the source says; more than there are processors where the process was bound to fewer
        than the job asked for (``srun`` without a ``--cpus-per-task`` of its own, since Slurm
        22.05): worth a warning.
    """

    count: int
    source: str
    asked: int


def default_threads(environment: Mapping[str, str], processors: int, workers: int = 1) -> Threads:
    """Return how many threads each worker should have.

    Parameters
    ----------
    environment : mapping
        The variables of the process, as `os.environ`.
    processors : int
        How many this process may use: affinity and quota count.
    workers : int
        How many workers share them.

    Raises
    ------
    InvalidArgument
        If a variable that decides is not a number of threads.

    Examples
    --------
    >>> default_threads({"SLURM_CPUS_PER_TASK": "40", "OMP_NUM_THREADS": "1"}, 40, workers=2)
    Threads(count=20, source='SLURM_CPUS_PER_TASK', asked=40)
    >>> default_threads({}, 8).count
    8
    """
    asked = _positive(environment, "SLURM_CPUS_PER_TASK")
    if asked is not None:
        shared = max(1, min(asked, processors) // workers)
        return Threads(shared, "SLURM_CPUS_PER_TASK", asked)
    share = max(1, processors // workers)
    asked = _positive(environment, "OMP_NUM_THREADS") if "SLURM_JOB_ID" in environment else None
    if asked is not None:
        return Threads(min(asked, share), "OMP_NUM_THREADS", asked)
    return Threads(share, _PROCESSORS, processors)


def _positive(environment: Mapping[str, str], name: str) -> int | None:
    """Return the number that a variable holds, None if it is not set, or empty."""
    whole = environment.get(name, "").strip()
    if not whole:
        return None
    # OpenMP takes a list too, a number for each level of nesting: the outermost counts.
    text = whole.partition(",")[0].strip()
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise InvalidArgument(
            f"{name} is {whole!r}, expected a number of threads from 1 on; unset it, "
            "or give the number of threads with --nthreads"
        )
    return int(text)
