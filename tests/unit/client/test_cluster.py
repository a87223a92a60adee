"""A local cluster refuses nonsense at the call and divides the machine as Dask does.

What it starts is tried with the commands themselves, in ``tests/processes``.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zcluster.client.client import Client
from zcluster.client.cluster import LocalCluster, split_machine
from zcluster.errors import InvalidArgument


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"n_workers": -1}, r"n_workers is -1, expected 0 to"),
        ({"n_workers": "2"}, r"n_workers is a str \('2'\)"),
        ({"n_workers": True}, r"n_workers is a bool"),
        ({"n_workers": 1e9}, r"n_workers is a float"),
        ({"n_workers": 10**9}, r"expected 0 to 4096"),
        ({"threads_per_worker": 0}, r"threads_per_worker is 0, expected 1 to"),
        ({"memory_limit": "1XB"}, r"memory limit: size '1XB'.*GiB"),
        ({"memory_limit": -1}, r"out of range"),
        ({"processes": 2}, r"processes is 2, expected True, or False"),
        ({"resources": {"a b": 1}}, r"resources has 'a b': 1; expected names"),
        ({"resources": {"GPU": -1}}, r"resources has 'GPU': -1"),
        ({"resources": {"GPU": "1"}}, r"resources has 'GPU': '1'"),
        ({"resources": "GPU"}, r"resources is 'GPU', expected a dict"),
        ({"local_directory": 5}, r"local_directory is 5, expected the path"),
        ({"name": ""}, r"name is ''"),
        ({"name": "--help"}, r"name is '--help'"),
        ({"local_directory": "/no/such"}, r"'/no/such' is not a folder"),
        ({"env": {"A=B": "1"}}, r"env has 'A=B': '1'; expected names and text"),
        ({"env": {"A": None}}, r"env has 'A': None"),
        ({"env": {"A": "1"}, "processes": False}, r"with processes=False there are none"),
        ({"allowed_failures": 0}, r"allowed_failures is 0, expected 1 to 4096"),
        ({"allowed_failures": "x"}, r"allowed_failures is a str"),
        ({"death_timeout": "soon"}, r"'soon' where a time is expected"),
        ({"interface": "eth0"}, r"interface is 'eth0'; a local cluster listens on Unix sockets"),
        ({"n_wokers": 2}, r"no option n_wokers; expected n_workers"),
    ],
)
def test_nonsense_is_refused_at_the_call(options: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidArgument, match=says):
        LocalCluster(**options)


@given(st.none() | st.integers(1, 64), st.none() | st.integers(1, 64), st.integers(1, 256))
def test_what_is_given_is_kept_and_the_rest_fits_the_machine(
    workers: int | None, threads: int | None, cpus: int
) -> None:
    chosen, each = split_machine(workers, threads, cpus)
    assert chosen == workers or (workers is None and chosen >= 1)
    assert each == threads or (threads is None and each >= 1)
    if workers is None and threads is None:
        assert chosen * each == cpus
        assert chosen >= each
    elif workers is None or threads is None:
        assert chosen * each <= max(cpus, workers or 1, threads or 1)


def test_no_workers_at_all_is_possible() -> None:
    assert split_machine(0, None, 8)[0] == 0


@pytest.mark.skipif(sys.platform != "linux", reason="there /proc takes no files")
def test_a_folder_for_results_that_cannot_be_written_to_is_refused_at_the_call() -> None:
    with pytest.raises(InvalidArgument, match="'/proc/self' cannot be written to; name another"):
        LocalCluster(local_directory="/proc/self")


def test_a_limit_above_the_machine_warns_and_does_not_fail() -> None:
    for make in (LocalCluster, Client):  # what comes after is wrong, so that nothing is started
        with (
            pytest.warns(UserWarning, match=r"memory_limit of 818\.55 TiB .* more than") as caught,
            pytest.raises(InvalidArgument, match="is not a folder"),
        ):
            make(memory_limit="900TB", local_directory="/no/such")
        assert [warning.filename for warning in caught] == [__file__]


def test_importing_it_is_quick_and_has_no_effect(tmp_path: Path) -> None:
    code = (
        "import sys, threading\n"
        "import zcluster.client.cluster\n"
        "heavy = {'numpy', 'pandas', 'asyncio', 'multiprocessing', 'importlib.metadata'}\n"
        "print(sorted(heavy & set(sys.modules)), threading.active_count())\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=30
    )
    assert run.stdout == "[] 1\n", run.stderr
    assert list(tmp_path.iterdir()) == []
