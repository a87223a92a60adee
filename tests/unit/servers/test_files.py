"""Uploaded files: written where they belong and nowhere else, imported anew when they change."""

from __future__ import annotations

import importlib
import os
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from zcluster.protocol.messages import Files
from zcluster.protocol.modules import ModuleSource, install_sources, remove_sources
from zcluster.servers.files import top_names, use_files, write_files


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Return an empty folder; what is imported from it is forgotten at the end."""
    path, modules = list(sys.path), set(sys.modules)
    yield tmp_path / "files"
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        del sys.modules[name]
    importlib.invalidate_caches()


def upload(folder: Path, **texts: str) -> None:
    files, frame = [], b""
    for name, text in texts.items():
        files.append((f"{name}.py", (0, len(frame), len(frame) + len(text))))
        frame += text.encode()
    assert write_files(folder, Files(1, files), [frame]) == ""
    use_files(str(folder), [path for path, _ in files])


def test_files_lie_below_their_folder(folder: Path) -> None:
    files = Files(1, [("a.py", (0, 0, 3)), ("p/q/b.txt", (1, 1, 3))])
    assert write_files(folder, files, [b"abc", b"defg"]) == ""
    assert (folder / "a.py").read_bytes() == b"abc"
    assert (folder / "p" / "q" / "b.txt").read_bytes() == b"ef"
    assert [path.name for path in sorted(folder.iterdir())] == ["a.py", "p"]


@pytest.mark.parametrize("path", ["/etc/zc", "../x", "a/../../x", "", "a\0b"])
def test_no_file_gets_out_of_its_folder(folder: Path, path: str) -> None:
    assert "leads out of its folder" in write_files(folder, Files(1, [(path, (0, 0, 0))]), [b""])
    assert not folder.exists()


def test_what_cannot_be_written_is_told(folder: Path) -> None:
    assert write_files(folder, Files(1, [("a", (0, 0, 1))]), [b"x"]) == ""
    said = write_files(folder, Files(1, [("a/b.py", (0, 0, 1))]), [b"x"])
    assert "'a/b.py' cannot be written" in said
    assert "lies outside" in write_files(folder, Files(1, [("c", (3, 0, 1))]), [b"x"])


def test_a_changed_file_is_imported_anew(folder: Path) -> None:
    """Within one second and of one length: the compiled file of the old one would fit it."""
    for number in range(4):
        upload(folder, zc_changed=f"VALUE = {number}")
        assert number == importlib.import_module("zc_changed").VALUE
    assert sys.path[0] == str(folder)
    assert sys.path.count(str(folder)) == 1


def test_submodules_go_with_their_package(folder: Path) -> None:
    def load(number: int) -> int:
        data = f"VALUE = {number}".encode()
        files = Files(1, [("zc_pack/__init__.py", (0, 0, 0)), ("zc_pack/inner.py", (0, 0, 9))])
        assert write_files(folder, files, [data]) == ""
        use_files(str(folder), [path for path, _ in files.files])
        value: int = importlib.import_module("zc_pack.inner").VALUE
        return value

    assert [load(1), load(2)] == [1, 2]


def test_archives_are_on_the_import_path(folder: Path) -> None:
    folder.mkdir()
    for number in (1, 2):
        with zipfile.ZipFile(folder / "zc.zip", "w") as archive:
            archive.writestr("zc_zipped.py", f"VALUE = {number}")
        use_files(str(folder), ["zc.zip"])
        assert number == importlib.import_module("zc_zipped").VALUE
    assert str(folder / "zc.zip") in sys.path


def test_an_archive_that_is_none_is_left_to_the_import(folder: Path) -> None:
    folder.mkdir()
    (folder / "bad.zip").write_bytes(b"no")
    assert top_names(str(folder), ["bad.zip", "gone.whl"]) == set()


def test_modules_of_the_standard_library_stay(folder: Path) -> None:
    upload(folder, json="raise RuntimeError", zcluster="raise RuntimeError")
    assert "zcluster" in sys.modules
    assert top_names(str(folder), ["json.py", "zcluster/x.py", "mine.cpython-311.so"]) == {"mine"}


def test_uploaded_files_take_the_place_of_sent_sources(folder: Path) -> None:
    try:
        install_sources([ModuleSource("zc_sent", False, b"sha", b"VALUE = 'sent'")])
        assert importlib.import_module("zc_sent").VALUE == "sent"
        upload(folder, zc_sent="VALUE = 'uploaded'")
        assert importlib.import_module("zc_sent").VALUE == "uploaded"
        assert os.path.dirname(sys.modules["zc_sent"].__file__ or "") == str(folder)
    finally:
        remove_sources()
