"""More results than memory, on real disks: right, checked, and never a stall."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import pytest

from zcluster.distributed import Client
from zcluster.errors import OutOfDisk, StoreFull
from zcluster.storage.spill import SLAB_SIZE

if TYPE_CHECKING:
    from tests.processes.conftest import Commands, Log

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(sys.platform != "linux", reason="it looks into /proc"),
]

MB = 10**6
CHUNK = 4 * MB
#: A local cluster whose results go to disk from 30 MB on; the store takes 35 MB.
LIMIT = 50 * MB
Until = Callable[..., None]


def make(number: int, size: int = CHUNK) -> Any:
    return np.full(size // 8, float(number))


def noted(number: int, log: str) -> Any:
    """Make a chunk, and note that it was made."""
    with open(log, "a") as file:
        file.write(f"{number}\n")
    return make(number)


def total(*chunks: Any) -> float:
    return float(sum(chunk.sum() for chunk in chunks))


def halves(number: int) -> list[Any]:
    return [make(number), make(number + 1)]


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have only results counted: what a bare worker has for itself is much of these limits."""
    for name in ("SPILL", "PAUSE", "TERMINATE"):
        monkeypatch.setenv(f"ZCLUSTER_WORKER__MEMORY__{name}", "false")


def small(folder: Path) -> Client:
    """Return a client of a cluster with little memory, and a disk."""
    return Client(n_workers=1, threads_per_worker=2, memory_limit=LIMIT, local_directory=folder)


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    with small(tmp_path) as made:
        yield made


def wait_done(futures: list[Any], until: Until) -> None:
    until(lambda: all(future.done() for future in futures), 60)


def spilled(client: Client) -> int:
    """Return the bytes on disk, as the nodes said last."""
    workers = client.scheduler_info()["workers"].values()
    return max(int(worker["metrics"]["spilled"]) for worker in workers)


def nanny(client: Client) -> psutil.Process:
    """Return the nanny's process: the one that has the files of results on disk."""
    pid = next(iter(client.scheduler_info()["workers"].values()))["pid"]
    found = psutil.Process(pid)
    while not slabs(found.pid):
        parent = found.parent()
        assert parent is not None, "no process has results on disk"
        found = parent
    return found


def slabs(pid: int) -> list[str]:
    """Return what to open a process's files of results on disk by."""
    folder, found = f"/proc/{pid}/fd", []
    for name in os.listdir(folder):
        with contextlib.suppress(OSError):
            path = f"{folder}/{name}"
            is_memory = "memfd" in os.readlink(path)
            if not is_memory and os.stat(path).st_size == SLAB_SIZE:
                found.append(path)
    return found


def test_five_times_the_memory_is_kept_and_right(client: Client, until: Until) -> None:
    count = 5 * LIMIT // CHUNK
    futures = client.map(make, range(count), pure=False)
    wait_done(futures, until)
    until(lambda: spilled(client) > 3 * LIMIT, 10)
    for number, future in enumerate(futures):
        value = future.result(timeout=60)
        assert value.shape == (CHUNK // 8,)
        assert (value == number).all(), number
        del value
    client_sum = client.submit(total, *futures[:3]).result(timeout=60)
    assert client_sum == (0 + 1 + 2) * (CHUNK // 8)
    del futures, future
    until(lambda: spilled(client) == 0, 15)


@pytest.mark.slow
def test_a_sum_of_more_than_memory_by_one_task_and_by_a_tree(client: Client) -> None:
    """The one task maps all at once: they are used where they are."""
    count = 30
    chunks = client.map(make, range(count), pure=False)
    wanted = sum(range(count)) * (CHUNK // 8)
    assert client.submit(total, *chunks).result(timeout=120) == wanted
    parts = [client.submit(total, *chunks[at : at + 3]) for at in range(0, count, 3)]
    assert client.submit(sum, parts).result(timeout=120) == wanted


@pytest.mark.slow
def test_a_result_larger_than_memory_is_made_and_used(client: Client) -> None:
    size = 80 * MB
    big = client.submit(make, 3, size)
    assert client.submit(total, big).result(timeout=120) == 3 * (size // 8)
    value = big.result(timeout=120)
    assert value.nbytes == size
    assert (value == 3).all()


@pytest.mark.slow
def test_results_on_disk_move_to_another_node(commands: Commands, tmp_path: Path) -> None:
    commands.start_scheduler()
    options = (f"--memory-limit={LIMIT}", f"--local-directory={tmp_path}")
    commands.start_node("one", *options)
    commands.start_node("two", *options)
    with Client(scheduler_file=str(commands.file)) as client:
        client.wait_for_workers(2, timeout=30)
        names = {worker["name"]: at for at, worker in client.scheduler_info()["workers"].items()}
        chunks = client.map(make, range(20), workers=[names["one-0"]], pure=False)
        sums = [client.submit(total, chunk, workers=[names["two-0"]]) for chunk in chunks]
        assert client.gather(sums) == [number * (CHUNK // 8) for number in range(20)]


# ------------------------------------------------------------------------------ trouble


def test_a_byte_that_changed_on_disk_makes_a_result_again(
    client: Client, log: Log, until: Until
) -> None:
    """Never a wrong value: it is lost as with a node that is gone."""
    count = 20
    futures = [client.submit(noted, number, log.path, pure=False) for number in range(count)]
    wait_done(futures, until)
    until(lambda: spilled(client) > LIMIT / 2, 15)
    assert sorted(map(int, log.lines())) == list(range(count))
    flipped = 0
    for path in slabs(nanny(client).pid):
        with open(path, "r+b", buffering=0) as file:
            end = os.fstat(file.fileno()).st_size
            # The highest byte of a number in each of some results.
            for at in range(2 * MB + 7, min(end, 20 * CHUNK), CHUNK):
                file.seek(at)
                if file.read(1) not in (b"", b"\0"):
                    file.seek(at)
                    file.write(b"\x5a")
                    flipped += 1
                if flipped == 2:
                    break
    for number, future in enumerate(futures):
        value = future.result(timeout=60)
        assert (value == number).all(), number
        del value
    assert flipped
    assert len(log.lines()) > count


@pytest.mark.slow
def test_a_folder_that_is_removed_is_not_missed(
    client: Client, tmp_path: Path, until: Until
) -> None:
    futures = client.map(make, range(20), pure=False)
    wait_done(futures, until)
    until(lambda: spilled(client) > LIMIT / 2, 15)
    assert list(tmp_path.iterdir()) == []  # nothing has a name
    shutil.rmtree(tmp_path)
    for number, future in enumerate(futures):
        assert float(future.result(timeout=60)[-1]) == number


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Return a folder on a file system of 100 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=100m", "tmpfs", str(folder)]
    if os.getuid() or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("only root may mount a file system")
    yield folder
    deadline = time.monotonic() + 15
    while subprocess.run(["umount", str(folder)], capture_output=True).returncode:
        assert time.monotonic() < deadline, "somebody keeps the file system"
        time.sleep(0.05)


def check_out_of_disk(client: Client, count: int, until: Until) -> None:
    """Make more than memory and disk take: some tasks fail, within seconds, and it goes on."""
    futures = client.map(make, range(count), pure=False)
    wait_done(futures, until)
    errors = [future for future in futures if future.status == "error"]
    assert errors
    with pytest.raises(OutOfDisk, match=r"no room for 4\d+ bytes .*free.*--local-directory"):
        errors[0].result(timeout=10)
    for number, future in enumerate(futures):
        if future.status == "finished":
            value = future.result(timeout=30)
            assert (value == number).all()
            del value
    del futures, errors, future
    again = client.map(make, range(10), pure=False)
    assert [float(value[0]) for value in client.gather(again)] == list(range(10))


@pytest.mark.slow
def test_a_full_disk_fails_the_task_that_needs_it_and_stalls_nobody(
    small_disk: Path, until: Until
) -> None:
    with small(small_disk) as client:
        check_out_of_disk(client, 40, until)


@pytest.mark.slow
def test_a_limit_on_what_goes_to_disk_is_a_full_disk(
    tmp_path: Path, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZCLUSTER_WORKER__SPILL_LIMIT", str(20 * MB))
    with small(tmp_path) as client:
        check_out_of_disk(client, 16, until)


@pytest.mark.slow
def test_without_a_limit_of_memory_nothing_of_it_is_there(tmp_path: Path) -> None:
    with Client(n_workers=1, threads_per_worker=1, memory_limit=0, local_directory=tmp_path) as c:
        assert c.submit(total, c.submit(make, 1)).result(timeout=30) == CHUNK // 8
        pid = next(iter(c.scheduler_info()["workers"].values()))["pid"]
        parents = psutil.Process(pid).parents()
        names = [thread for p in parents for thread in _threads(p.pid)]
        assert not any("zcluster-disk" in name for name in names)
        assert spilled(c) == 0


def _threads(pid: int) -> list[str]:
    folder = Path(f"/proc/{pid}/task")
    return [(task / "comm").read_text() for task in folder.iterdir()]


@pytest.mark.slow
def test_without_a_disk_a_full_store_is_an_error_with_figures(
    until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZCLUSTER_WORKER__MEMORY__TARGET", "false")
    with Client(n_workers=1, threads_per_worker=1, memory_limit=LIMIT) as client:
        futures = client.map(make, range(12), pure=False)
        wait_done(futures, until)
        failed = [future for future in futures if future.status == "error"]
        assert failed
        with pytest.raises(StoreFull, match="results do not go to disk here"):
            failed[0].result(timeout=10)
        kept = [n for n, future in enumerate(futures) if future.status == "finished"]
        assert len(kept) >= 6
        for number in kept:
            assert float(futures[number].result(timeout=10)[0]) == number
