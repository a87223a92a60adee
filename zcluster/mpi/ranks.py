"""Which rank of how many this process is, as told by what its launcher left in the environment.

=====================  ============================  ==================================
started by             rank, size                    rank on its node
=====================  ============================  ==================================
``mpirun`` (Open MPI)  ``OMPI_COMM_WORLD_RANK``,     ``OMPI_COMM_WORLD_LOCAL_RANK``
                       ``OMPI_COMM_WORLD_SIZE``
``mpiexec`` (MPICH),   ``PMI_RANK``, ``PMI_SIZE``    ``MPI_LOCALRANKID``, under ``srun``
``srun --mpi=pmi2``                                  ``SLURM_LOCALID``
``srun``               ``SLURM_PROCID``,             ``SLURM_LOCALID``
                       ``SLURM_STEP_NUM_TASKS``
=====================  ============================  ==================================

The first row that is there is believed, for Slurm's variables are also there when they mean
something else:

- In a batch script, before any ``srun``, they say rank 0 of all tasks: who believed that would
  wait for ranks that nobody starts. ``SLURM_STEP_ID`` tells: a script has none, and the shell that
  ``salloc`` opens on a node has a number near 2**32.
- Under ``mpirun`` in an allocation they are those of mpirun's daemon on the node, equal for all
  ranks there. What mpirun sets itself is right, and comes first. A PMIx launcher that sets nothing
  but ``PMIX_RANK`` is known by its namespace, which is not one of Slurm's.

And where MPI is asked too, a third: under an ``--mpi=`` that does not fit, each process is rank 0
of 1 without a word, and every one of them would become the scheduler.

Nothing here reads the environment itself, or imports MPI.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from zcluster.errors import InvalidArgument, StartError

__all__ = ["Place", "find_place"]

#: Numbers from here on stand for what is no step of tasks: batch scripts, shells of ``salloc``.
_FIRST_SPECIAL_STEP = 0xFFFFFFF0
#: How the namespaces begin in which Slurm itself numbers PMIx ranks.
_SLURM_NAMESPACE = "slurm.pmix."
_HOW = "start it as in: srun python script.py, or: mpirun -n 6 python script.py"


@dataclass(frozen=True)
class Place:
    """One process among those that were started together.

    Attributes
    ----------
    rank : int
        Its number, from 0.
    size : int
        How many there are.
    node : str
        The name of the node it runs on.
    local_rank : int or None
        Its number among those on this node, from 0; None where nothing says so.
    source : str
        What says so: the variable that the rank is from, or ``"MPI"``.
    """

    rank: int
    size: int
    node: str
    local_rank: int | None
    source: str


def find_place(
    environment: Mapping[str, str], hostname: str, world: tuple[int, int] | None = None
) -> Place:
    """Return which rank of how many this process is.

    Parameters
    ----------
    environment : mapping
        The variables of the process, as `os.environ`.
    hostname : str
        The name of this machine.
    world : (int, int), optional
        Rank and size by MPI's own account, where it was asked: it must agree with what the
        launcher says, and stands in for a launcher that says nothing.

    Raises
    ------
    StartError
        If nothing says so (the process was started alone, or is a batch script), or if two
        accounts contradict each other; the message says what to do.
    InvalidArgument
        If ``world`` is not a rank and a size.

    Examples
    --------
    >>> find_place({"PMI_RANK": "1", "PMI_SIZE": "4", "MPI_LOCALRANKID": "0"}, "node2")
    Place(rank=1, size=4, node='node2', local_rank=0, source='PMI_RANK')
    """
    place = _by_launcher(environment, hostname)
    if world is not None:
        return _agreed(environment, hostname, place, world)
    if place is None:
        raise StartError(_why_unknown(environment))
    return place


def _by_launcher(environment: Mapping[str, str], hostname: str) -> Place | None:
    """Return the place that the launcher's variables tell, None if none do."""
    # Not SLURMD_NODENAME for the first two: mpiexec may have carried it here from another node.
    pair = _pair(environment, "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE")
    if pair is not None:
        local = _integer(environment, "OMPI_COMM_WORLD_LOCAL_RANK")
        return Place(*pair, hostname, local, "OMPI_COMM_WORLD_RANK")
    pair = _pair(environment, "PMI_RANK", "PMI_SIZE")
    if pair is not None:
        local = _integer(environment, "MPI_LOCALRANKID")
        step = _step(environment, hostname) if local is None else None
        if step is not None and pair == (step.rank, step.size):
            return replace(step, source="PMI_RANK")
        return Place(*pair, hostname, local, "PMI_RANK")
    if _has_foreign_pmix(environment):
        return None
    return _step(environment, hostname)


def _step(environment: Mapping[str, str], hostname: str) -> Place | None:
    """Return the place that Slurm tells, None outside a step of tasks.

    Under mpirun it may be that of a daemon.
    """
    step = _integer(environment, "SLURM_STEP_ID")
    tasks = _integer(environment, "SLURM_STEP_NUM_TASKS")
    if (step is None and tasks is None) or (step is not None and step >= _FIRST_SPECIAL_STEP):
        return None
    size_name = "SLURM_NTASKS" if tasks is None else "SLURM_STEP_NUM_TASKS"
    pair = _pair(environment, "SLURM_PROCID", size_name)
    if pair is None:
        return None
    node = environment.get("SLURMD_NODENAME") or hostname
    return Place(*pair, node, _integer(environment, "SLURM_LOCALID"), "SLURM_PROCID")


def _has_foreign_pmix(environment: Mapping[str, str]) -> bool:
    """Return whether another PMIx launcher numbered us: then Slurm's rank is its daemon's."""
    namespace = environment.get("PMIX_NAMESPACE", "")
    return bool(environment.get("PMIX_RANK")) and not namespace.startswith(_SLURM_NAMESPACE)


def _agreed(
    environment: Mapping[str, str], hostname: str, place: Place | None, world: tuple[int, int]
) -> Place:
    """Return the place on which the launcher and MPI agree."""
    rank, size = world
    if not 0 <= rank < size:
        raise InvalidArgument(f"world={world!r}; expected a rank and a size, 0 <= rank < size")
    if place is None:
        if size == 1:  # MPI says so too of a process that nobody started
            raise StartError(_why_unknown(environment))
        return Place(rank, size, hostname, None, "MPI")
    if (rank, size) == (place.rank, place.size):
        return place
    if size == 1:
        raise StartError(_why_alone(environment, hostname, place))
    if place.source == "SLURM_PROCID":  # a launcher in an allocation that sets no variables we know
        return Place(rank, size, hostname, None, "MPI")
    raise StartError(
        f"MPI says rank {rank} of {size}, but by {place.source} this is rank {place.rank} of "
        f"{place.size}; expected the same. Were these variables handed on from another mpirun? "
        "Start ranks from a shell that is not a rank itself"
    )


def _why_alone(environment: Mapping[str, str], hostname: str, place: Place) -> str:
    """Say why MPI knows of one rank where several were started."""
    step = _step(environment, hostname)
    by_srun = step is not None and (step.rank, step.size) == (place.rank, place.size)
    text = (
        f"MPI says rank 0 of 1, but by {place.source} this is rank {place.rank} of {place.size}: "
        "each rank would become a scheduler of its own. "
    )
    if by_srun:
        return text + (
            "The --mpi= of srun does not fit the MPI that mpi4py has loaded; for Open MPI give "
            "srun --mpi=pmix (or set SLURM_MPI_TYPE=pmix), for MPICH --mpi=pmi2"
        )
    return text + (
        "mpi4py has loaded another MPI than that of the mpirun it was started with "
        "(mpi4py.MPI.Get_library_version() tells which); use the mpirun or mpiexec of that MPI"
    )


def _why_unknown(environment: Mapping[str, str]) -> str:
    """Say why nothing tells which rank this is."""
    if _has_foreign_pmix(environment):
        return (
            f"PMIX_RANK={environment['PMIX_RANK']} says which rank this is, but nothing says of "
            "how many; start it with mpirun (which sets OMPI_COMM_WORLD_SIZE), or install "
            "zcluster[mpi], so that MPI can be asked"
        )
    job = environment.get("SLURM_JOB_ID")
    if job:
        tasks = environment.get("SLURM_NTASKS")
        others = f", and nobody has started the {tasks} tasks of the job" if tasks else ""
        return (
            f"this process is in the allocation of Slurm's job {job}, but in no step of it: it is "
            f"the batch script itself, or a shell{others}; {_HOW}"
        )
    return (
        "this process was started alone: there is no OMPI_COMM_WORLD_RANK, PMI_RANK or "
        f"SLURM_STEP_ID, as mpirun, mpiexec or srun would set; {_HOW}"
    )


def _pair(environment: Mapping[str, str], rank_name: str, size_name: str) -> tuple[int, int] | None:
    """Return a rank and a size that belong together, None if there is neither."""
    rank, size = _integer(environment, rank_name), _integer(environment, size_name)
    if rank is None and size is None:
        return None
    if rank is None or size is None:
        there, missing = (rank_name, size_name) if size is None else (size_name, rank_name)
        raise StartError(
            f"{there} is set to {environment[there]}, and {missing} is not; expected both, as "
            f"mpirun, mpiexec and srun set them. If {there} was set by hand, unset it"
        )
    if rank >= size:
        raise StartError(
            f"{rank_name} is {rank} and {size_name} is {size}; expected a rank below the size. "
            "Were they handed on from two launchers? Start ranks from a shell that is none itself"
        )
    return rank, size


def _integer(environment: Mapping[str, str], name: str) -> int | None:
    """Return the number a variable holds, None if it is not set, or empty."""
    text = environment.get(name)
    if not text:
        return None
    if not (text.isascii() and text.isdigit()):
        raise StartError(
            f"{name} is {text!r}, expected a number from 0 on, as launchers set it; unset it if it "
            "was set by hand"
        )
    return int(text)
