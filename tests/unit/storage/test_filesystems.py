"""Where results may go: on a disk of this machine, unless the user says otherwise."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from zcluster.storage.filesystems import (
    Mount,
    choose_folder,
    kind_of,
    mount_of,
    mounts,
    parse_mounts,
)

DISK = "/dev/sda1 / ext4 rw 0 0"


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("/dev/nvme0n1p2 / xfs rw 0 0", "disk"),
        ("overlay / overlay rw,lowerdir=/a 0 0", "disk"),
        ("pool/home /home zfs rw 0 0", "disk"),
        ("tmpfs /tmp tmpfs rw 0 0", "memory"),
        ("none /dev/shm tmpfs rw 0 0", "memory"),
        ("server:/home /home nfs4 rw 0 0", "elsewhere"),
        ("10.0.0.1@tcp:/fs /scratch lustre rw 0 0", "elsewhere"),
        ("/dev/gpfs0 /gpfs gpfs rw 0 0", "elsewhere"),
        ("beegfs_nodev /beegfs beegfs rw 0 0", "elsewhere"),
        ("sshfs#host: /mnt fuse.sshfs rw 0 0", "elsewhere"),
        ("/dev/fuse /run/user/doc fuse.portal rw 0 0", "elsewhere"),
        ("//server/share /mnt cifs rw 0 0", "elsewhere"),
        ("whatever /mnt newfs rw 0 0", "elsewhere"),
    ],
)
def test_kinds_of_file_systems(line: str, kind: str) -> None:
    assert [kind_of(mount) for mount in parse_mounts([line])] == [kind]


def test_a_folder_is_on_the_mount_nearest_above_it(tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    table = parse_mounts([DISK, f"tmpfs {tmp_path} tmpfs rw 0 0", f"srv:/x {inner} nfs rw 0 0"])
    found = [mount_of(folder, table) for folder in ("/", tmp_path, inner, inner / "not there")]
    assert [mount.type for mount in found if mount is not None] == ["ext4", "tmpfs", "nfs", "nfs"]


def test_of_two_mounts_on_a_folder_the_later_one_counts() -> None:
    table = parse_mounts([DISK, "/dev/sdb1 /data ext4 rw 0 0", "srv:/x /data nfs rw 0 0"])
    mount = mount_of("/data", table)
    assert mount is not None
    assert mount.type == "nfs"


def test_links_are_followed(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there")
    table = parse_mounts([DISK, f"tmpfs {tmp_path / 'there'} tmpfs rw 0 0"])
    assert kind_of(mount_of(tmp_path / "link", table)) == "memory"


def test_lines_that_make_no_sense_are_left_out() -> None:
    assert parse_mounts(["", "garbage", DISK]) == [Mount(("/dev/sda1", "/", "ext4"))]


@pytest.mark.skipif(not os.path.exists("/proc/mounts"), reason="Linux's table of mounts")
def test_this_machine_has_a_root() -> None:
    assert mount_of("/", mounts()) is not None


def test_without_a_table_there_are_no_mounts(tmp_path: Path) -> None:
    assert mounts(str(tmp_path / "none")) == []
    assert mount_of("/", []) is None


def test_the_first_folder_on_a_disk_is_chosen(tmp_path: Path) -> None:
    memory, disk = tmp_path / "memory", tmp_path / "disk"
    memory.mkdir()
    disk.mkdir()
    table = parse_mounts([DISK, f"tmpfs {memory} tmpfs rw 0 0"])
    assert choose_folder(None, [memory, disk], table) == (disk, "")
    folder, reason = choose_folder(None, [memory, tmp_path / "none"], table)
    assert folder is None
    assert reason == (
        f"{memory} is in memory (tmpfs); {tmp_path / 'none'} is not there, or not writable"
    )


def test_a_folder_that_was_named_is_taken_as_it_is(tmp_path: Path) -> None:
    table = parse_mounts([f"srv:/x {tmp_path} nfs rw 0 0"])
    assert choose_folder(None, [tmp_path], table) == (
        None,
        f"{tmp_path} is not known to be a disk of this machine (nfs)",
    )
    assert choose_folder(tmp_path, [], table) == (tmp_path, "")
