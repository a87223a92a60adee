"""What of a path is uploaded, and under which names."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from zcluster.client import uploading
from zcluster.client.uploading import collect, files_message, module_of
from zcluster.errors import InvalidArgument


def fill(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return folder


def test_a_file_goes_under_its_name(tmp_path: Path) -> None:
    fill(tmp_path, "a.py")
    archive = tmp_path / "b.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("c.py", "")
    assert collect(tmp_path / "a.py") == {"a.py": b"a.py"}
    assert collect(archive) == {"b.zip": archive.read_bytes()}


def test_a_package_keeps_its_name_and_a_folder_of_modules_has_none(tmp_path: Path) -> None:
    package = fill(tmp_path / "pack", "__init__.py", "sub/x.py", "data/t.txt")
    assert sorted(collect(package)) == ["pack/__init__.py", "pack/data/t.txt", "pack/sub/x.py"]
    folder = fill(tmp_path / "many", "x.py", "sub/y.py")
    assert sorted(collect(folder)) == ["sub/y.py", "x.py"]
    assert module_of(package) == "pack"
    assert module_of(folder) == ""


def test_compiled_files_and_histories_stay_at_home(tmp_path: Path) -> None:
    fill(tmp_path, "a.py", "__pycache__/a.cpython-311.pyc", ".git/config", "old.pyc")
    assert list(collect(tmp_path)) == ["a.py"]


def test_what_cannot_be_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, "a.txt", "large.py", "a-b.py", "text.whl")
    with pytest.raises(InvalidArgument, match="'a-b' is no name of a module"):
        collect(tmp_path / "a-b.py")
    with pytest.raises(InvalidArgument, match="no zip archive"):
        collect(tmp_path / "text.whl")
    with pytest.raises(InvalidArgument, match="neither a module nor an archive"):
        collect(tmp_path / "a.txt")
    with pytest.raises(InvalidArgument, match="no file or folder"):
        collect(tmp_path / "b.py")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidArgument, match="no file in the folder"):
        collect(tmp_path / "empty")
    monkeypatch.setattr(uploading, "UPLOAD_LIMIT", 5)
    with pytest.raises(InvalidArgument, match="8 bytes, an upload at most 5; put it on a folder"):
        collect(tmp_path / "large.py")


def test_large_uploads_go_in_several_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploading, "_FRAME", 10)
    contents = {f"{n}.py": b"x" * n for n in (4, 5, 6, 20, 1)}
    message, frames = files_message(3, contents)
    assert message.request == 3
    assert [len(frame) for frame in frames] == [9, 6, 20, 1]
    assert {p: frames[k][i:j] for p, (k, i, j) in message.files} == contents
