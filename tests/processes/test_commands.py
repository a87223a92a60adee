"""The commands as people and launchers run them: addresses, signals, exit statuses, no leavings."""

from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from zcluster.client.cluster import LocalCluster
from zcluster.errors import SchedulerLost
from zcluster.transport.scheduler_file import is_listening, read_scheduler_file

pytestmark = pytest.mark.processes

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Return a function that starts a command; what still runs at the end is told to stop."""
    started: list[subprocess.Popen[str]] = []

    def start(program: str, *options: str, pass_fds: tuple[int, ...] = ()) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", f"zcluster.cli.{program}", *options],
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            pass_fds=pass_fds,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.terminate()
        process.communicate(timeout=10)


@pytest.fixture
def file() -> Iterator[Path]:
    """Return the path of a scheduler file that is not there yet."""
    with tempfile.TemporaryDirectory(prefix="file-") as folder:
        yield Path(folder) / "scheduler.json"


def wait_until(condition: Callable[[], bool], seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"the condition did not come true within {seconds} s"
        time.sleep(0.005)


def address_of(scheduler: subprocess.Popen[str]) -> str:
    assert scheduler.stderr is not None
    for line in scheduler.stderr:
        match = re.fullmatch(r"Scheduler at: (\S+)\n", line)
        if match:
            return match[1]
    raise AssertionError("the scheduler ended without saying where it is")


def is_running(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def scratch_folders() -> list[Path]:
    return sorted(Path(os.environ["TMPDIR"]).glob("zc-*"))


def data_sockets() -> list[Path]:
    return [path for folder in scratch_folders() for path in folder.rglob("data")]


# --------------------------------------------------------------------------- a command alone


@pytest.mark.parametrize("program", ["scheduler", "worker"])
@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_and_version_import_no_server(program: str, option: str) -> None:
    code = (
        f"import sys; from zcluster.cli.{program} import main; sys.argv[1:] = [{option!r}]\n"
        "status = main()\n"
        "print({'zmq', 'numpy', 'msgspec', 'cloudpickle', 'asyncio'} & set(sys.modules), status)"
    )
    run = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=30
    )
    assert run.stdout.endswith("set() 0\n"), run.stdout + run.stderr
    assert f"zcluster-{program}" in run.stdout
    assert run.stderr == ""


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_scheduler_says_where_it_is_and_leaves_nothing(
    start: Start, file: Path, number: int, status: int
) -> None:
    scheduler = start("scheduler", f"--scheduler-file={file}")
    address = address_of(scheduler)
    wait_until(file.exists)
    record = read_scheduler_file(file)
    assert (record.address, record.pid, record.insecure) == (address, scheduler.pid, False)
    assert is_listening(address)
    folder = Path(address.removeprefix("ipc://")).parent
    assert folder.parent == Path(os.environ["TMPDIR"])
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    scheduler.send_signal(number)
    assert scheduler.communicate(timeout=10)[1] == ""
    assert scheduler.returncode == status
    assert not file.exists()
    assert not folder.exists()


def test_a_killed_scheduler_s_folder_is_removed_by_the_next(start: Start) -> None:
    scheduler = start("scheduler")
    folder = Path(address_of(scheduler).removeprefix("ipc://")).parent
    scheduler.kill()
    scheduler.wait(10)
    assert folder.exists()
    address_of(start("scheduler"))
    assert not folder.exists()


def test_plain_tcp_is_warned_of_at_every_start(start: Start, file: Path) -> None:
    scheduler = start("scheduler", "--port=0", "--insecure", f"--scheduler-file={file}")
    wait_until(file.exists)
    record = read_scheduler_file(file)
    assert re.fullmatch(r"tcp://(127\.0\.0\.1|\[::ffff:127\.0\.0\.1\]):[1-9]\d*", record.address)
    assert record.insecure
    scheduler.terminate()
    said = scheduler.communicate(timeout=10)[1]
    assert said.startswith("WARNING: --insecure")
    assert scheduler.returncode == 143


def test_a_scheduler_ends_with_whoever_holds_its_lifeline(start: Start) -> None:
    read, write = os.pipe()
    options = ("--lifeline", str(read), "--parent", str(os.getpid()))
    scheduler = start("scheduler", *options, pass_fds=(read,))
    os.close(read)
    wait_until(lambda: any(folder.joinpath("scheduler").exists() for folder in scratch_folders()))
    os.close(write)
    scheduler.wait(20)
    assert scratch_folders() == []


# --------------------------------------------------------------------------- with a worker


def test_a_worker_waits_for_the_file_joins_and_ends_in_order(start: Start, file: Path) -> None:
    worker = start("worker", f"--scheduler-file={file}", "--nprocs=1", "--nthreads=1")
    start("scheduler", f"--scheduler-file={file}")
    wait_until(lambda: len(data_sockets()) == 1)
    assert worker.poll() is None
    worker.terminate()
    worker.wait(10)
    assert worker.returncode == 143
    assert data_sockets() == []


def test_a_worker_that_reaches_no_scheduler_is_status_3(start: Start) -> None:
    nowhere = Path(os.environ["TMPDIR"]) / "nowhere"
    worker = start("worker", f"ipc://{nowhere}", "--death-timeout=0.3")
    said = worker.communicate(timeout=15)[1]
    assert worker.returncode == 3, said
    assert "nowhere" in said
    assert "Traceback" not in said


def test_a_worker_that_loses_its_scheduler_is_status_4(start: Start, file: Path) -> None:
    scheduler = start("scheduler", f"--scheduler-file={file}")
    wait_until(file.exists)
    worker = start("worker", f"--scheduler-file={file}", "--nthreads=1", "--death-timeout=0.5")
    # The worker process is there once the nanny has started it, after it has joined or nearly.
    wait_until(lambda: bool(psutil.Process(worker.pid).children(recursive=True)))
    wait_until(lambda: len(data_sockets()) == 1)
    scheduler.kill()
    said = worker.communicate(timeout=20)[1]
    assert worker.returncode in (3, 4), said  # 3 if it had not quite joined
    assert "Traceback" not in said
    for folder in scratch_folders():
        for path in folder.iterdir():  # the killed scheduler's; swept at the next start
            path.unlink()
        folder.rmdir()


# --------------------------------------------------------------------------- a local cluster


def test_a_local_cluster_comes_up_and_is_gone_within_a_moment() -> None:
    cluster = LocalCluster(n_workers=1, threads_per_worker=1)
    with cluster:
        assert cluster.wait_started(15) is cluster
        wait_until(lambda: len(data_sockets()) == 1)
        assert cluster.status == "running"
        assert len(cluster.pids) == 2
        assert "processes=1 threads=1" in repr(cluster)
        began = time.monotonic()
    assert time.monotonic() - began < 4  # about 0.1 s where nothing else runs
    assert cluster.status == "closed"
    assert scratch_folders() == []
    cluster.close()  # again: nothing
    with pytest.raises(SchedulerLost, match="was closed"):
        cluster.check_running()


def test_a_cluster_nobody_holds_is_ended() -> None:
    cluster = LocalCluster(n_workers=0)
    cluster.wait_started(15)
    del cluster
    wait_until(lambda: scratch_folders() == [])


def test_two_clusters_do_not_meet() -> None:
    with LocalCluster(n_workers=0) as first, LocalCluster(n_workers=0) as second:
        first.wait_started(15)
        second.wait_started(15)
        assert first.scheduler_address != second.scheduler_address
        first.close()
        assert second.status == "running"


def test_a_lost_scheduler_ends_the_cluster_and_says_so() -> None:
    with LocalCluster(n_workers=1, threads_per_worker=1) as cluster:
        cluster.wait_started(15)
        os.kill(cluster.pids[0], signal.SIGKILL)
        wait_until(lambda: cluster.status == "failed")
        wait_until(lambda: scratch_folders() == [])
        with pytest.raises(SchedulerLost, match="killed by signal 9"):
            cluster.check_running()


@pytest.mark.slow
def test_a_lost_nanny_is_replaced() -> None:
    with LocalCluster(n_workers=1, threads_per_worker=1) as cluster:
        wait_until(lambda: len(data_sockets()) == 1)
        before = cluster.pids
        os.kill(before[1], signal.SIGKILL)
        wait_until(lambda: len(cluster.pids) == 2 and cluster.pids[1] != before[1])
        wait_until(lambda: [path.parent.name for path in data_sockets()] == ["n1"])
        assert cluster.pids[0] == before[0]


SCRIPT = """
import sys
print("begin", flush=True)
from zcluster.client.cluster import LocalCluster
cluster = LocalCluster(n_workers=1, threads_per_worker=1).wait_started()
print("started", flush=True)
if sys.argv[1] == "stay":
    import signal
    signal.pause()
"""


def run_script(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-P", "-c", SCRIPT, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_a_script_that_forgets_to_close_leaves_nothing_and_says_nothing() -> None:
    with run_script("end") as script:
        said = script.communicate(timeout=20)
    assert said == ("begin\nstarted\n", "")
    assert script.returncode == 0
    assert scratch_folders() == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_client_takes_everything_along(number: int) -> None:
    with run_script("stay") as script:
        assert script.stdout is not None
        assert script.stdout.readline() == "begin\n"
        assert script.stdout.readline() == "started\n"
        children = psutil.Process(script.pid).children(recursive=True)
        assert len(children) >= 2
        script.send_signal(number)
        wait_until(lambda: not any(map(is_running, children)), 15)
    assert scratch_folders() == []


@pytest.mark.parametrize("milliseconds", [0, 20, 40, 70, 110, 160, 250])
def test_ctrl_c_in_the_middle_of_a_start_leaves_nothing(milliseconds: int) -> None:
    """To the whole foreground group, as a terminal sends it."""
    with run_script("stay") as script:
        assert script.stdout is not None
        assert script.stdout.readline() == "begin\n"
        time.sleep(milliseconds / 1000)  # the moment is what is tried
        os.killpg(script.pid, signal.SIGINT)
        script.communicate(timeout=10)
    assert script.returncode in (-signal.SIGINT, 130)
    assert scratch_folders() == []
