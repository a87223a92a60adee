"""A scratch folder is private, short, gone at the end, and swept when its owner died."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from zcluster.errors import InvalidAddress, StartError
from zcluster.transport.scratch import PATH_LIMIT, Scratch, ipc_address, remove_tree, sweep


@pytest.fixture
def parent(tmp_path: Path) -> Path:
    """Return an empty folder whose path is short enough for sockets."""
    return tmp_path


def test_it_is_private_short_and_gone_at_the_end(parent: Path) -> None:
    with Scratch(parent) as scratch:
        assert stat.S_IMODE(scratch.path.stat().st_mode) == 0o700
        assert scratch.path.parent == parent
        assert len(scratch.path.name) == len("zc-XXXXXXXX")
        assert scratch.address("s") == f"ipc://{scratch.path}/s"
        (scratch.path / "n0").mkdir()
        (scratch.path / "n0" / "data").write_bytes(b"x")
    assert list(parent.iterdir()) == []
    scratch.remove()  # again: nothing


def test_it_lies_under_tmpdir(parent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(parent))
    with Scratch() as scratch:
        assert scratch.path.parent == parent


def test_a_parent_that_is_not_there_is_named(parent: Path) -> None:
    with pytest.raises(StartError, match=r"no-such.*set TMPDIR"):
        Scratch(parent / "no-such")


def test_a_path_too_long_for_a_socket_is_refused_with_its_length() -> None:
    fits = Path("/" + "x" * (PATH_LIMIT - 1))
    assert ipc_address(fits) == f"ipc://{fits}"
    with pytest.raises(InvalidAddress, match=rf"{PATH_LIMIT + 1} bytes.*at most {PATH_LIMIT}"):
        ipc_address(Path(f"{fits}xx"[: PATH_LIMIT + 1]))
    with pytest.raises(InvalidAddress, match="shorter folder"):
        ipc_address(Path("/" + "ü" * 60))  # bytes count, not letters


def test_a_parent_too_long_leaves_nothing_behind(parent: Path) -> None:
    deep = parent / ("d" * 100)
    deep.mkdir()
    with pytest.raises(InvalidAddress):
        Scratch(deep)
    assert list(deep.iterdir()) == []


def test_a_living_owner_s_folder_is_left_alone(parent: Path) -> None:
    with Scratch(parent) as scratch:
        assert sweep(parent) == []
        assert scratch.path.exists()


def test_a_killed_owner_s_folder_is_swept(parent: Path) -> None:
    code = (
        "import sys, signal, os\nfrom pathlib import Path\n"
        "from zcluster.transport.scratch import Scratch\n"
        "s = Scratch(Path(sys.argv[1]))\n(s.path / 'left').write_text('x')\n"
        "print(s.path, flush=True)\nsignal.pause()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(parent)], stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        path = Path(owner.stdout.readline().strip())
        assert path.is_dir()
        assert sweep(parent) == []
        owner.send_signal(signal.SIGKILL)
    assert sweep(parent) == [path]
    assert list(parent.iterdir()) == []


def test_a_folder_without_owner_is_swept_only_when_old(parent: Path) -> None:
    folder = parent / "zc-abcdefgh"
    folder.mkdir(0o700)
    assert sweep(parent) == []  # its owner may be about to write the file
    old = time.time() - 120
    os.utime(folder, (old, old))
    assert sweep(parent) == [folder]


def test_what_is_not_ours_is_never_swept(parent: Path) -> None:
    other = parent / "zc-otherhst"
    other.mkdir()
    (other / "owner").write_text("1 some-other-host-of-a-shared-file-system\n")
    target = parent / "precious"
    target.mkdir()
    (parent / "zc-linklink").symlink_to(target)
    (parent / "zc-filefile").write_text("x")
    (parent / "zc-longer-than-ours").mkdir()
    before = sorted(parent.iterdir())
    assert sweep(parent) == []
    assert sorted(parent.iterdir()) == before


def test_links_are_removed_and_not_followed(parent: Path) -> None:
    target = parent / "precious"
    target.mkdir()
    (target / "file").write_text("x")
    folder = parent / "zc-abcdefgh"
    folder.mkdir()
    (folder / "link").symlink_to(target)
    remove_tree(folder)
    assert not folder.exists()
    assert (target / "file").exists()


def test_a_forked_copy_removes_nothing(parent: Path) -> None:
    with Scratch(parent) as scratch:
        pid = os.fork()
        if pid == 0:
            scratch.remove()
            os._exit(0)
        os.waitpid(pid, 0)
        assert scratch.path.is_dir()
        assert sweep(parent) == []  # and the lock is still held
