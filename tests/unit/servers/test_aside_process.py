"""The program that makes a call beside the scheduler: what it reads, runs and answers."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from zcluster.protocol.frames import encode
from zcluster.protocol.messages import Environment
from zcluster.protocol.objects import load, plan
from zcluster.servers import aside_process
from zcluster.servers.aside import HEAD
from zcluster.servers.aside_process import make_call


def blob(function: Any, *args: Any) -> bytes:
    return plan((function, args, {})).tobytes()


def test_a_call_and_its_answer() -> None:
    called, frames = make_call([blob(divmod, 7, 2)])
    assert called.error is None
    assert load(frames[0]) == (3, 1)


def test_errors_are_described() -> None:
    called, frames = make_call([blob(int, "x")])
    assert called.error is not None
    assert called.error.type_name == "builtins.ValueError"
    assert isinstance(load(frames[0]), ValueError)
    called, _ = make_call([b"nonsense"])
    assert called.error is not None


def test_results_that_cannot_travel(monkeypatch: pytest.MonkeyPatch) -> None:
    called, _ = make_call([blob(iter, [1])])
    assert called.error is None
    called, _ = make_call([blob(lambda: (x for x in "ab"))])
    assert called.error is not None
    assert called.error.kind == "serialize"
    monkeypatch.setattr(aside_process, "CALL_LIMIT", 10)
    called, _ = make_call([blob(bytes, 100)])
    assert called.error is not None
    assert "at most 10" in called.error.message


def test_on_the_clients_host_it_imports_as_the_client(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    other = tmp_path / "other"
    other.mkdir()
    for host in ("elsewhere", socket.gethostname()):
        place = encode(Environment([str(other)], str(other), host))
        assert make_call([blob(os.getcwd), place])[0].error is None
    assert str(other) in sys.path
    assert sys.path.count(str(other)) == 1
    assert os.getcwd() == str(other)
    place = encode(Environment([], "/nowhere", socket.gethostname()))
    assert make_call([blob(abs, 1), place])[0].error is None


@pytest.mark.processes
def test_what_is_printed_is_no_answer() -> None:
    data = blob(lambda: print("printed") or [1])
    run = subprocess.run(
        [sys.executable, "-m", "zcluster.servers.aside_process", str(os.getpid())],
        input=HEAD.pack(len(data), 0) + data,
        capture_output=True,
        timeout=30,
    )
    assert run.stderr == b"printed\n"
    first, second = HEAD.unpack_from(run.stdout)
    at = HEAD.size + first
    assert msgspec.msgpack.decode(run.stdout[HEAD.size : at]) is None
    assert load(run.stdout[at : at + second]) == [1]
