"""A process knows its rank by the right account, and does not believe the ones that mislead.

The variables are those that the launchers were seen to set: Slurm 22.05, Open MPI 4.1 and 5.0,
MPICH 5.0.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zcluster.errors import InvalidArgument, StartError
from zcluster.mpi.ranks import Place, find_place

#: Rank 2 of ``srun --overcommit --distribution=cyclic --nodes=2 --ntasks=4``: back on node 1.
SRUN = {
    "SLURMD_NODENAME": "node1",
    "SLURM_DISTRIBUTION": "cyclic",
    "SLURM_GTIDS": "0,2",
    "SLURM_JOB_ID": "7",
    "SLURM_LAUNCH_NODE_IPADDR": "10.99.0.1",
    "SLURM_LOCALID": "1",
    "SLURM_NNODES": "2",
    "SLURM_NODEID": "0",
    "SLURM_NPROCS": "4",
    "SLURM_NTASKS": "4",
    "SLURM_PROCID": "2",
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NODELIST": "node[1-2]",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_STEP_TASKS_PER_NODE": "2(x2)",
}
#: A batch script of six tasks, before any srun.
BATCH = {
    "SLURMD_NODENAME": "node1",
    "SLURM_JOB_ID": "8",
    "SLURM_JOB_NODELIST": "node[1-3]",
    "SLURM_LOCALID": "0",
    "SLURM_NODEID": "0",
    "SLURM_NTASKS": "6",
    "SLURM_PROCID": "0",
}
#: What Open MPI 4 and 5 add to what their daemon has.
OPEN_MPI = {
    "OMPI_COMM_WORLD_LOCAL_RANK": "1",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
    "OMPI_COMM_WORLD_RANK": "3",
    "OMPI_COMM_WORLD_SIZE": "6",
    "PMIX_NAMESPACE": "prterun-node1-12@1",
    "PMIX_RANK": "3",
}
MPICH = {"MPI_LOCALNRANKS": "2", "MPI_LOCALRANKID": "1", "PMI_RANK": "3", "PMI_SIZE": "6"}
#: The daemon of a launcher on the second and third nodes of the job of BATCH.
DAEMON = {
    **BATCH,
    "SLURMD_NODENAME": "node2",
    "SLURM_NTASKS": "2",
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NUM_TASKS": "2",
}
PMIX_OF_SLURM = {"PMIX_RANK": "2", "PMIX_NAMESPACE": "slurm.pmix.7.0"}


@pytest.mark.parametrize("more", [{}, PMIX_OF_SLURM], ids=["none", "pmix"])
def test_srun_says_it_by_slurms_variables(more: dict[str, str]) -> None:
    assert find_place(SRUN | more, "host") == Place(2, 4, "node1", 1, "SLURM_PROCID")


def test_srun_with_pmi2_says_it_twice() -> None:
    environment = SRUN | {"PMI_RANK": "2", "PMI_SIZE": "4", "PMI_FD": "11"}
    assert find_place(environment, "host") == Place(2, 4, "node1", 1, "PMI_RANK")


def test_slurms_count_of_tasks_stands_in_for_that_of_the_step() -> None:
    environment = {name: SRUN[name] for name in ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_STEP_ID")}
    assert find_place(environment, "host") == Place(2, 4, "host", None, "SLURM_PROCID")
    # srun --preserve-env leaves the count of the job in place
    assert find_place(SRUN | {"SLURM_NTASKS": "8"}, "host").size == 4


def test_a_step_is_known_by_its_count_alone() -> None:
    environment = {name: text for name, text in SRUN.items() if name != "SLURM_STEP_ID"}
    assert find_place(environment, "host").rank == 2


@pytest.mark.parametrize("around", [{}, BATCH, DAEMON], ids=["alone", "first node", "other node"])
def test_mpirun_is_believed_before_slurm(around: dict[str, str]) -> None:
    assert find_place(around | OPEN_MPI, "node2") == Place(3, 6, "node2", 1, "OMPI_COMM_WORLD_RANK")
    assert find_place(around | MPICH, "node2") == Place(3, 6, "node2", 1, "PMI_RANK")


def test_a_launcher_that_counts_no_local_ranks_is_believed_too() -> None:
    environment = DAEMON | {"PMI_RANK": "3", "PMI_SIZE": "6"}
    assert find_place(environment, "node2") == Place(3, 6, "node2", None, "PMI_RANK")
    del environment["PMI_RANK"], environment["PMI_SIZE"]
    environment |= {"OMPI_COMM_WORLD_RANK": "3", "OMPI_COMM_WORLD_SIZE": "6"}
    assert find_place(environment, "node2").local_rank is None


def test_mpiexec_may_carry_the_name_of_another_node_along() -> None:
    assert find_place(BATCH | MPICH, "node3").node == "node3"


def test_a_batch_script_is_not_rank_0_of_all() -> None:
    """Else it would wait for five ranks that nobody starts."""
    with pytest.raises(StartError, match=r"job 8, but in no step.*nobody has started the 6 tasks"):
        find_place(BATCH, "node1")


def test_nor_is_the_shell_that_salloc_opens_on_a_node() -> None:
    shell = BATCH | {"SLURM_STEP_ID": "4294967290", "SLURM_STEP_NUM_TASKS": "1"}
    with pytest.raises(StartError, match="in no step of it"):
        find_place(shell, "node1")


def test_nor_is_the_shell_of_salloc_on_the_login_node() -> None:
    with pytest.raises(StartError, match=r"it is the batch script itself, or a shell; start it"):
        find_place({"SLURM_JOB_ID": "9"}, "login")


def test_a_process_that_nobody_started_is_told_how() -> None:
    for environment in ({}, {"PMI_RANK": "", "SLURM_PROCID": "0", "HOME": "/root"}):
        with pytest.raises(StartError, match=r"started alone.*srun python.*mpirun -n 6"):
            find_place(environment, "laptop")


def test_a_rank_of_pmix_alone_has_no_size() -> None:
    """A daemon's Slurm variables may be there too: its rank is not this one's."""
    alone = {"PMIX_RANK": "1", "PMIX_NAMESPACE": "prterun-node1-12@1"}
    for environment in (alone, DAEMON | {"SLURM_PROCID": "1"} | alone):
        with pytest.raises(StartError, match=r"PMIX_RANK=1 says which.*zcluster\[mpi\]"):
            find_place(environment, "node2")
        assert find_place(environment, "node2", (1, 6)) == Place(1, 6, "node2", None, "MPI")


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({"PMI_RANK": "1"}, "PMI_RANK is set to 1, and PMI_SIZE is not"),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, "SIZE is set to 2, and OMPI_COMM_WORLD_RANK is not"),
        (MPICH | {"PMI_RANK": "6"}, "PMI_RANK is 6 and PMI_SIZE is 6"),
        (SRUN | {"SLURM_PROCID": "x"}, "SLURM_PROCID is 'x', expected a number"),
        (SRUN | {"SLURM_PROCID": "-1"}, "SLURM_PROCID is '-1', expected a number"),
        (SRUN | {"SLURM_STEP_ID": "batch"}, "SLURM_STEP_ID is 'batch', expected a number"),
        (MPICH | {"PMI_SIZE": "²"}, "PMI_SIZE is '²', expected a number"),
    ],
)
def test_variables_that_cannot_be_meant_are_named(environment: dict[str, str], says: str) -> None:
    with pytest.raises(StartError, match=says):
        find_place(environment, "host")


# --------------------------------------------------------------------------- MPI's own account


@pytest.mark.parametrize(
    ("environment", "world"),
    [(SRUN, (2, 4)), (SRUN | PMIX_OF_SLURM, (2, 4)), (OPEN_MPI, (3, 6)), (DAEMON | MPICH, (3, 6))],
    ids=["srun", "srun pmix", "Open MPI", "MPICH in an allocation"],
)
def test_mpi_that_agrees_changes_nothing(
    environment: dict[str, str], world: tuple[int, int]
) -> None:
    assert find_place(environment, "host", world) == find_place(environment, "host")


@pytest.mark.parametrize(
    "more",
    [{}, {"PMI_RANK": "2", "PMI_SIZE": "4"}, PMIX_OF_SLURM],
    ids=["none: both of PyPI", "pmi2: Open MPI", "pmix: MPICH"],
)
def test_four_times_rank_0_of_1_under_srun_is_the_wrong_kind_of_mpi(more: dict[str, str]) -> None:
    """Each rank would become a scheduler, and nobody a worker."""
    with pytest.raises(StartError, match=r"rank 2 of 4.*--mpi= of srun.*--mpi=pmix.*--mpi=pmi2"):
        find_place(SRUN | more, "host", (0, 1))


@pytest.mark.parametrize("environment", [OPEN_MPI, MPICH, DAEMON | MPICH])
def test_under_mpirun_it_is_another_mpi_than_mpiruns(environment: dict[str, str]) -> None:
    with pytest.raises(StartError, match=r"rank 3 of 6.*another MPI.*Get_library_version"):
        find_place(environment, "host", (0, 1))


@pytest.mark.parametrize("environment", [{}, BATCH], ids=["nowhere", "batch script"])
def test_mpi_alone_tells_where_no_variable_does(environment: dict[str, str]) -> None:
    assert find_place(environment, "host", (4, 5)) == Place(4, 5, "host", None, "MPI")
    with pytest.raises(StartError, match=r"started alone|in no step"):
        find_place(environment, "host", (0, 1))


def test_a_launcher_nobody_knows_is_believed_through_mpi() -> None:
    """In an allocation the variables of Slurm are those of its daemon."""
    assert find_place(DAEMON, "node2", (5, 6)) == Place(5, 6, "node2", None, "MPI")


def test_two_accounts_that_contradict_each_other_are_an_error() -> None:
    with pytest.raises(StartError, match=r"MPI says rank 1 of 2, but by PMI_RANK .* rank 3 of 6"):
        find_place(MPICH, "host", (1, 2))


def test_a_single_rank_is_no_contradiction() -> None:
    environment = {"PMI_RANK": "0", "PMI_SIZE": "1"}
    assert find_place(environment, "host", (0, 1)) == Place(0, 1, "host", None, "PMI_RANK")


@pytest.mark.parametrize("world", [(0, 0), (4, 4), (-1, 4)])
def test_a_world_that_is_none_is_refused(world: tuple[int, int]) -> None:
    with pytest.raises(InvalidArgument, match="expected a rank and a size"):
        find_place(SRUN, "host", world)


# ---------------------------------------------------------------------------------- all at once

_NUMBER = st.sampled_from(["", "0", "1", "3", "4294967290", "x"])
_NAMES = sorted({*SRUN, *OPEN_MPI, *MPICH} - {"SLURMD_NODENAME"})


@given(
    st.dictionaries(st.sampled_from(_NAMES), _NUMBER),
    st.none() | st.tuples(st.integers(0, 3), st.integers(4, 6)),
)
def test_any_variables_make_a_place_or_one_kind_of_error(
    environment: dict[str, str], world: tuple[int, int] | None
) -> None:
    try:
        place = find_place(environment, "host", world)
    except StartError:  # anything else fails the test
        return
    assert 0 <= place.rank < place.size
    assert place.source == "MPI" or environment[place.source] == str(place.rank)


@given(st.integers(1, 8), st.integers(1, 8), st.data())
def test_cyclic_ranks_need_no_neighbours(nodes: int, tasks: int, data: st.DataObject) -> None:
    """Rank r of ``--distribution=cyclic`` is on node r modulo nodes."""
    rank = data.draw(st.integers(0, tasks - 1))
    environment = SRUN | {
        "SLURMD_NODENAME": f"node{rank % nodes}",
        "SLURM_LOCALID": str(rank // nodes),
        "SLURM_PROCID": str(rank),
        "SLURM_STEP_NUM_TASKS": str(tasks),
    }
    expected = Place(rank, tasks, f"node{rank % nodes}", rank // nodes, "SLURM_PROCID")
    assert find_place(environment, "host") == expected
