"""Dask's names on the command line, as subcommands of ``zcluster``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from zcluster.distributed import Client

if TYPE_CHECKING:
    from tests.processes.conftest import Commands

pytestmark = pytest.mark.processes

_PROGRAM = (sys.executable, "-P", "-m", "zcluster")


def run(*arguments: str, home: Path | None = None) -> str:
    """Run a command to its end, with a folder for the user's settings; return what it prints."""
    environment = dict(os.environ)
    if home is not None:
        environment |= {"HOME": str(home), "XDG_CONFIG_HOME": str(home)}
    done = subprocess.run(
        [*_PROGRAM, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    return done.stdout


@pytest.mark.dask(
    "dask scheduler",
    "dask scheduler --scheduler-file",
    "dask worker",
    "dask worker --scheduler-file",
    "dask worker --nworkers",
    "dask worker --nthreads",
    "dask worker --memory-limit",
    "dask worker --name",
    "dask worker --resources",
    "Client(scheduler_file=)",
)
def test_a_cluster_by_file(commands: Commands) -> None:
    commands.start_scheduler(program=("-m", "zcluster", "scheduler"))
    commands.nodes["one"] = commands.start(
        *("-m", "zcluster", "worker", f"--scheduler-file={commands.file}", "--name=one"),
        *("--nworkers=2", "--nthreads=3", "--memory-limit=300MB", "--resources", "SEAT=1 DESK=2"),
    )
    with Client(scheduler_file=commands.file, set_as_default=False) as client:
        client.wait_for_workers(2, timeout=20)
        workers = client.scheduler_info()["workers"]
        assert sorted(worker["name"] for worker in workers.values()) == ["one-0", "one-1"]
        for worker in workers.values():
            assert worker["nthreads"] == 3
            assert worker["memory_limit"] == 300_000_000
            assert worker["resources"] == {"SEAT": 1, "DESK": 2}
        assert client.submit(abs, -1, resources={"DESK": 2}).result(timeout=20) == 1


@pytest.mark.dask("dask scheduler --host", "dask scheduler --port", "dask scheduler --interface")
def test_a_scheduler_by_address(commands: Commands) -> None:
    commands.start_scheduler("--host=127.0.0.1", "--port=0", "--insecure")
    assert "127.0.0.1" in commands.address
    commands.start_node("far")
    with Client(commands.address, insecure=True, set_as_default=False) as client:
        client.wait_for_workers(1, timeout=20)
        assert client.submit(abs, -1).result(timeout=20) == 1


@pytest.mark.dask("dask scheduler --interface")
def test_a_scheduler_by_interface(commands: Commands) -> None:
    commands.start_scheduler("--interface=lo", "--port=0", "--insecure")
    assert "127.0.0.1" in commands.address


@pytest.mark.dask("dask worker --death-timeout")
def test_a_worker_that_finds_no_scheduler_ends(tmp_path: Path) -> None:
    done = subprocess.run(
        [*_PROGRAM, "worker", f"--scheduler-file={tmp_path}/none.json", "--death-timeout=0.2"],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 3
    assert "none.json" in done.stderr


@pytest.mark.dask("dask config set", "dask config get", "dask config find", "dask config list")
def test_configuration(tmp_path: Path) -> None:
    run("config", "set", "worker.memory-limit", "2GB", home=tmp_path)
    assert "2GB" in run("config", "get", "worker.memory-limit", home=tmp_path)
    assert str(tmp_path) in run("config", "find", "worker.memory-limit", home=tmp_path)
    assert "worker.memory-limit" in run("config", "list", home=tmp_path)


@pytest.mark.dask("dask info")
def test_versions() -> None:
    assert "Python" in run("version") or "python" in run("version")


@pytest.mark.dask("Client.benchmark_hardware")
def test_bench() -> None:
    assert "latency" in run("bench", "--size=1048576", "--json")
