"""What the doctor looks at: each check finds what is wrong, and says what to do."""

from __future__ import annotations

import os
import resource
import shutil
import socket
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import zmq

from zcluster.cli import checks
from zcluster.cli.checks import FAIL, OK, WARN


def test_this_machine_has_nothing_that_fails() -> None:
    findings = [finding for finding in checks.machine_findings() if finding.title != "encryption"]
    assert [finding for finding in findings if finding.level == FAIL] == []
    titles = {finding.title for finding in findings}
    assert titles >= {"versions", "processors", "memory", "open files", "clock", "scratch folder"}
    assert "address 127.0.0.1" in titles


def test_encryption_is_measured() -> None:
    finding = checks.curve(0.02)
    assert finding.level in (OK, WARN)
    assert "MB/s" in finding.sentence


def test_a_library_without_encryption_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zmq, "has", lambda what: False)
    assert checks.curve().level == WARN


@pytest.mark.parametrize(
    ("speed", "level", "says"),
    [(50.0, WARN, "50 MB/s"), (800.0, OK, "800"), (0.0, FAIL, "nothing")],
)
def test_slow_encryption_is_told(
    speed: float, level: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "curve_speed", lambda seconds: speed)
    finding = checks.curve()
    assert finding.level == level
    assert says in finding.sentence


@pytest.mark.parametrize(
    ("limits", "level", "says"),
    [
        ((64, 64), FAIL, "have the administrator raise it"),
        ((1024, resource.RLIM_INFINITY), WARN, "'ulimit -n 4096'"),
        ((4096, 4096), OK, "4096, at most 4096"),
        ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), OK, "no limit"),
    ],
)
def test_few_open_files_are_told(
    limits: tuple[int, int], level: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda what: limits)
    finding = checks.files()
    assert finding.level == level
    assert says in finding.sentence


def test_a_clock_of_long_ago_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 1e9)
    finding = checks.clock()
    assert finding.level == WARN
    assert "2001-09-09" in finding.sentence


def test_little_memory_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    found = SimpleNamespace(total=8 << 30, available=1 << 20)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: found)
    assert checks.memory().level == WARN


def test_processors_that_are_held_back_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "cpu_count", lambda: 1)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    assert "1 of 64 usable" in checks.processors().sentence


def test_a_folder_too_long_for_sockets_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("x" * 100)
    long.mkdir()
    monkeypatch.setenv("TMPDIR", str(long))
    (finding,) = checks.scratch_folder()
    assert finding.level == FAIL
    assert "TMPDIR" in finding.sentence
    assert [*long.iterdir()] == []


@pytest.mark.parametrize(("free", "level"), [(64 << 20, WARN), (1 << 30, OK)])
def test_little_shared_memory_is_told(
    free: int, level: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(total=free, free=free))
    (finding,) = checks.shared_memory(tmp_path)
    assert finding.level == level
    assert [*checks.shared_memory(tmp_path / "none")] == []


@pytest.mark.parametrize(
    ("addresses", "level"), [(["127.0.1.1"], WARN), (["127.0.0.1", "10.0.0.1"], OK)]
)
def test_a_name_that_means_this_machine_only_is_told(
    addresses: list[str], level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [(socket.AF_INET, 0, 0, "", (address, 0)) for address in addresses]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: found)
    (finding,) = checks.names()
    assert finding.level == level


def test_a_name_that_means_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "no-such-host.invalid")
    (finding,) = checks.names()
    assert finding.level == WARN
    assert "resolves to nothing" in finding.sentence


def test_an_address_that_cannot_be_used_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = SimpleNamespace(family=socket.AF_INET, address="192.0.2.77")  # nobody's
    monkeypatch.setattr(psutil, "net_if_addrs", lambda: {"eth9": [entry]})
    (finding,) = checks.ports()
    assert finding.level == WARN
    assert "eth9" in finding.sentence


# -------------------------------------------------------------------------- shared folder


def test_a_shared_folder_is_tried_and_left_as_it_was(tmp_path: Path) -> None:
    findings = [*checks.shared_findings(tmp_path)]
    assert [finding.level for finding in findings] == [OK, OK]
    assert [*tmp_path.iterdir()] == []


def test_a_folder_that_is_not_there_fails(tmp_path: Path) -> None:
    (finding,) = checks.shared_findings(tmp_path / "none")
    assert finding.level == FAIL
    assert "No such file" in finding.sentence


def test_files_that_others_may_read_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on file systems that know no modes."""
    there = Path.stat

    def stat(path: Path, *, follow_symlinks: bool = True) -> object:
        found = there(path, follow_symlinks=follow_symlinks)
        return SimpleNamespace(st_mode=0o100777, st_uid=found.st_uid, st_mtime=found.st_mtime)

    monkeypatch.setattr(Path, "stat", stat)
    findings = [*checks.shared_findings(tmp_path)]
    monkeypatch.undo()
    assert [finding.level for finding in findings] == [FAIL]
    assert "mode 777" in findings[0].sentence


def test_a_clock_elsewhere_that_differs_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now - 60)
    findings = [*checks.shared_findings(tmp_path)]
    assert [finding.level for finding in findings] == [OK, WARN]
    assert "by +60 s" in findings[1].sentence
