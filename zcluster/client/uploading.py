"""The files of an upload, as they will lie on the nodes."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

from zcluster.errors import InvalidArgument
from zcluster.protocol.messages import Files, Span

__all__ = ["UPLOAD_LIMIT", "collect", "files_message", "module_of"]

#: Bytes of one upload.
UPLOAD_LIMIT = 64 << 20

_ARCHIVES = (".zip", ".egg", ".whl")
_SKIPPED = frozenset({"__pycache__", ".git", ".hg", ".svn"})
#: Bytes of files in one payload frame, if there are several.
_FRAME = 16 << 20


def collect(path: Path) -> dict[str, bytes]:
    """Return the contents of a file or folder by its paths on the nodes.

    A package keeps its name; a folder that is none gives what is in it.

    Raises
    ------
    InvalidArgument
        If it is not there, nothing that can be imported, or too large.
    """
    if path.is_file():
        if path.suffix not in (".py", *_ARCHIVES):
            raise InvalidArgument(
                f"{path} is neither a module nor an archive of modules; expected a .py, .zip, "
                ".egg or .whl file, or a folder (which may have data files in it)"
            )
        if path.suffix in _ARCHIVES and not zipfile.is_zipfile(path):
            raise InvalidArgument(
                f"{path} is no zip archive, though it is named as one; make it anew"
            )
        if path.suffix == ".py" and not path.stem.isidentifier():
            raise InvalidArgument(
                f"{path} cannot be imported: {path.stem!r} is no name of a module; rename it, "
                "expected letters, digits and underscores"
            )
        files = [(path.name, path)]
    elif path.is_dir():
        root = path.parent if (path / "__init__.py").is_file() else path
        files = [(found.relative_to(root).as_posix(), found) for found in _files_in(path)]
    else:
        raise InvalidArgument(f"there is no file or folder {path}; expected one to upload")
    size = sum(found.stat().st_size for _, found in files)
    if size > UPLOAD_LIMIT:
        raise InvalidArgument(
            f"{path} has {size} bytes, an upload at most {UPLOAD_LIMIT}; put it on a folder that "
            "all nodes share, and that folder on sys.path"
        )
    return {name: found.read_bytes() for name, found in files}


def _files_in(folder: Path) -> list[Path]:
    found = []
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(set(folders) - _SKIPPED)
        found += [Path(parent, name) for name in sorted(names) if not name.endswith(".pyc")]
    if not found:
        raise InvalidArgument(f"there is no file in the folder {folder}; expected some to upload")
    return found


def files_message(request: int, contents: dict[str, bytes]) -> tuple[Files, list[bytes]]:
    """Return the message that brings files, and its payload.

    Examples
    --------
    >>> message, frames = files_message(1, {"a.py": b"x = 1", "b.py": b""})
    >>> message.files, frames
    ([('a.py', (0, 0, 5)), ('b.py', (0, 5, 5))], [b'x = 1'])
    """
    frames = [bytearray()]
    files: list[tuple[str, Span]] = []
    for name, data in contents.items():
        if frames[-1] and len(frames[-1]) + len(data) > _FRAME:
            frames.append(bytearray())
        start = len(frames[-1])
        frames[-1] += data
        files.append((name, (len(frames) - 1, start, start + len(data))))
    return Files(request, files), [bytes(frame) for frame in frames]


def module_of(path: Path) -> str:
    """Return the module or package that a path is imported as; empty if it has several.

    Examples
    --------
    >>> module_of(Path("/somewhere/tools.py")), module_of(Path("/somewhere/tools.zip"))
    ('tools', '')
    """
    if path.suffix == ".py":
        return path.stem
    return path.name if (path / "__init__.py").is_file() else ""
