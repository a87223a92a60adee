"""Uploaded files: written by the nanny, put before all else on the import path by workers.

They lie in one folder of the node. A file that comes again takes the place of the old
one at once, with a later time than that had, so that no compiled form of the old one
passes for it. Archives are on the import path themselves.
"""

from __future__ import annotations

import importlib
import os
import sys
import time
import zipfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from zcluster.errors import ProtocolError
from zcluster.protocol.frames import span
from zcluster.protocol.messages import Files
from zcluster.protocol.modules import forget_sources
from zcluster.types import Frames

__all__ = ["ARCHIVES", "FILES", "top_names", "use_files", "write_files"]

#: The folder of uploaded files, in a node's scratch folder.
FILES = "files"

#: What is imported from as it is.
ARCHIVES = (".zip", ".egg", ".whl")

_NEVER = frozenset({"zcluster", "__main__", "__mp_main__"}) | sys.stdlib_module_names


def write_files(folder: Path, message: Files, frames: Frames) -> str:
    """Write uploaded files below a folder; return why that failed, or an empty text."""
    name = ""
    try:
        for name, place in message.files:
            parts = PurePosixPath(name).parts
            if not parts or parts[0] == "/" or ".." in parts or "\0" in name:
                return f"the path {name!r} of an uploaded file leads out of its folder"
            _write(folder.joinpath(*parts), bytes(span(frames, place)))
    except (OSError, ProtocolError) as error:
        return f"the uploaded file {name!r} cannot be written below {folder}: {error}"
    return ""


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    stamp = int(time.time())
    try:
        stamp = max(stamp, int(path.stat().st_mtime) + 1)
    except FileNotFoundError:
        pass
    new = path.with_name(path.name + ".new")
    new.write_bytes(data)
    # Compiled files say of which second their source is, and how long it was.
    os.utime(new, (stamp, stamp))
    os.replace(new, path)


def use_files(folder: str, paths: Iterable[str]) -> None:
    """Import from uploaded files, and anew what was imported under their names before."""
    paths = list(paths)
    archives = [os.path.join(folder, path) for path in paths if path.endswith(ARCHIVES)]
    for entry in (folder, *archives):
        if entry not in sys.path:
            sys.path.insert(0, entry)
    names = top_names(folder, paths)
    forget_sources(names)
    for name in [name for name in sys.modules if name.partition(".")[0] in names]:
        del sys.modules[name]
    importlib.invalidate_caches()


def top_names(folder: str, paths: Iterable[str]) -> set[str]:
    """Return the top-level modules and packages that files can be imported as.

    Examples
    --------
    >>> sorted(top_names("/nowhere", ["a.py", "pack/__init__.py", "pack/data.txt", "os.py"]))
    ['a', 'pack']
    """
    names: set[str] = set()
    for path in paths:
        first = PurePosixPath(path).parts[0]
        if path.endswith(ARCHIVES):
            try:
                with zipfile.ZipFile(os.path.join(folder, path)) as archive:
                    names |= top_names(folder, (n for n in archive.namelist() if n.strip("/")))
            except (OSError, zipfile.BadZipFile):
                continue  # an import from it will say so
        elif "/" in path or first.endswith((".py", ".so")):
            names.add(first.partition(".")[0])
    return names - _NEVER
