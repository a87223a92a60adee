"""A scheduler file is complete or absent, and refused when others could have touched it."""

from __future__ import annotations

import json
import os
import socket
import stat
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from zcluster.errors import InvalidArgument, StartError
from zcluster.transport.scheduler_file import (
    SchedulerFile,
    is_listening,
    read_scheduler_file,
    remove_scheduler_file,
    wait_scheduler_file,
    write_scheduler_file,
)

RECORD = SchedulerFile("tcp://127.0.0.1:8786", "abc", insecure=True, pid=7, host="h", started=1.5)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "scheduler.json"


def test_what_was_written_is_read(path: Path) -> None:
    write_scheduler_file(path, RECORD)
    assert read_scheduler_file(path) == RECORD
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_the_mode_does_not_depend_on_the_umask(path: Path) -> None:
    before = os.umask(0)
    try:
        write_scheduler_file(path, RECORD)
    finally:
        os.umask(before)
    assert read_scheduler_file(path) == RECORD


def test_it_is_the_json_object_that_others_expect(path: Path) -> None:
    write_scheduler_file(path, RECORD)
    fields = json.loads(path.read_text())
    assert (fields["type"], fields["address"]) == ("scheduler", RECORD.address)


def test_fields_of_later_versions_are_passed_over(path: Path) -> None:
    write_scheduler_file(path, RECORD)
    path.write_text(json.dumps({**json.loads(path.read_text()), "later": "k"}))
    assert read_scheduler_file(path) == RECORD


def test_a_link_in_the_way_is_replaced_and_not_followed(path: Path) -> None:
    target = path.with_name("precious")
    target.write_text("x")
    path.symlink_to(target)
    write_scheduler_file(path, RECORD)
    assert target.read_text() == "x"
    assert read_scheduler_file(path) == RECORD


def test_a_folder_that_is_not_there_is_named(path: Path) -> None:
    with pytest.raises(StartError, match="cannot write the scheduler file"):
        write_scheduler_file(path.parent / "no" / "file", RECORD)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
def test_permissions_of_others_are_refused(path: Path, mode: int) -> None:
    write_scheduler_file(path, RECORD)
    path.chmod(mode)
    with pytest.raises(InvalidArgument, match=rf"mode is {mode:04o}, expected 0600"):
        read_scheduler_file(path)


def test_a_link_is_refused(path: Path) -> None:
    real = path.with_name("real.json")
    write_scheduler_file(real, RECORD)
    path.symlink_to(real)
    with pytest.raises(InvalidArgument, match="symbolic link"):
        read_scheduler_file(path)


def test_what_is_no_file_is_refused_without_waiting_for_it(path: Path) -> None:
    os.mkfifo(path, 0o600)
    with pytest.raises(InvalidArgument, match="not a regular file"):
        read_scheduler_file(path)


def test_a_foreign_owner_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_scheduler_file(path, RECORD)
    owner = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: owner + 1)  # as if another user were reading
    with pytest.raises(InvalidArgument, match=f"belongs to user {owner}, and you are {owner + 1}"):
        read_scheduler_file(path)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", "{}", '{"address": 3, "id": ""}', '{"address": "x", "id": ""}']
)
def test_what_is_no_scheduler_file_is_refused(path: Path, text: str) -> None:
    path.touch(0o600)
    path.write_text(text)
    with pytest.raises(InvalidArgument, match=r"scheduler file"):
        read_scheduler_file(path)


def test_only_the_scheduler_s_own_file_is_removed(path: Path) -> None:
    write_scheduler_file(path, RECORD)
    assert not remove_scheduler_file(path, "of an older scheduler")
    assert path.exists()
    assert remove_scheduler_file(path, RECORD.id)
    assert not path.exists()
    assert not remove_scheduler_file(path, RECORD.id)


def test_a_file_that_appears_is_waited_for(path: Path) -> None:
    writer = threading.Timer(0.05, write_scheduler_file, (path, RECORD))
    writer.start()
    assert wait_scheduler_file(path, 10) == RECORD
    writer.join()


def test_a_file_that_never_appears_is_named(path: Path) -> None:
    with pytest.raises(StartError, match=rf"waited 0.05 s.*{path.name}: it is not there"):
        wait_scheduler_file(path, 0.05)


def test_a_file_of_strangers_is_refused_at_once(path: Path) -> None:
    write_scheduler_file(path, RECORD)
    path.chmod(0o644)
    began = time.monotonic()
    with pytest.raises(InvalidArgument):
        wait_scheduler_file(path, 30)
    assert time.monotonic() - began < 5


def test_a_killed_scheduler_s_file_is_not_believed(path: Path) -> None:
    address = f"ipc://{path.with_name('s')}"
    record = replace(RECORD, address=address)
    write_scheduler_file(path, record)
    with pytest.raises(StartError, match="nobody listens"):
        wait_scheduler_file(path, 0.02)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address.removeprefix("ipc://"))
        assert not is_listening(address)  # the path alone, as SIGKILL leaves it
        listener.listen()
        assert wait_scheduler_file(path, 10) == record
