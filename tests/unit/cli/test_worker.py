"""What zcluster-worker refuses, before any server is imported, and how it counts."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zcluster.cli import worker
from zcluster.errors import InvalidArgument
from zcluster.transport.scheduler_file import SchedulerFile, write_scheduler_file


@pytest.fixture(autouse=True)
def _signals_as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("ZCLUSTER_SCHEDULER_FILE", raising=False)
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def run(monkeypatch: pytest.MonkeyPatch, *options: str) -> int:
    monkeypatch.setattr(sys, "argv", ["zcluster-worker", *options])
    return worker.main()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ([], "no scheduler was named"),
        (["somewhere"], "expected ipc:///path or tcp://host:port"),
        (["tcp://127.0.0.1:8786"], "accept the risk with --insecure"),
        (["ipc:///x", "--port", "0"], "accept the risk with --insecure"),
        (["ipc:///x", "--nprocs", "0"], "--nworkers 0 makes 0 workers"),
        (["ipc:///x", "--nworkers", "-5000"], "expected 1 to 4096"),
        (["ipc:///x", "--nworkers", "two"], "'two' is not a valid integer"),
        (["ipc:///x", "--nthreads", "0"], "0 is not in the range"),
        (["ipc:///x", "--nthreads", "-1"], "-1 is not in the range"),
        (["ipc:///x", "--memory-limit", "1XB"], "memory limit: size '1XB'"),
        (["ipc:///x", "--death-timeout", "0"], "0.0 is not in the range"),
        (["ipc:///x", "--local-directory", "/no/such"], "/no/such"),
        (["ipc:///x", "ipc:///y"], "ipc:///y"),
    ],
)
def test_nonsense_is_status_2_and_one_sentence(
    options: list[str],
    says: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert run(monkeypatch, *options) == 2
    said = capsys.readouterr().err.splitlines()
    assert said[-1].startswith("zcluster-worker: ")
    assert says in said[-1]


def test_a_scheduler_file_that_never_comes_is_status_3(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "scheduler.json"
    assert run(monkeypatch, f"--scheduler-file={path}", "--death-timeout=0.05") == 3
    assert f"waited 0.05 s for the scheduler file {path}" in capsys.readouterr().err


def test_a_scheduler_file_of_strangers_is_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "scheduler.json"
    write_scheduler_file(path, SchedulerFile("ipc:///x", "id"))
    path.chmod(0o644)
    monkeypatch.setenv("ZCLUSTER_SCHEDULER_FILE", str(path))
    assert run(monkeypatch) == 2
    assert "mode is 0644, expected 0600" in capsys.readouterr().err


def test_a_scheduler_file_without_insecure_does_not_allow_tcp(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "scheduler.json"
    write_scheduler_file(path, SchedulerFile("tcp://127.0.0.1:1", "id"))
    assert run(monkeypatch, f"--scheduler-file={path}") == 2
    assert "--insecure" in capsys.readouterr().err


def test_a_limit_above_the_machine_warns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(monkeypatch, "nowhere", "--memory-limit", "900TB") == 2
    assert "818.55 TiB is more than this machine's" in capsys.readouterr().err


@given(st.integers(-300, 300), st.integers(1, 256))
def test_workers_are_counted_as_dask_counts_them(workers: int, cpus: int) -> None:
    expected = workers if workers >= 0 else cpus + 1 + workers
    if expected >= 1:
        assert worker.count_workers(workers, cpus) == expected
    else:
        with pytest.raises(InvalidArgument, match=f"--nworkers {workers} makes {expected}"):
            worker.count_workers(workers, cpus)
