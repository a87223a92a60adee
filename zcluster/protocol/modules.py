"""Shipping plain Python modules that lie beside the user's script.

A function of an importable module travels as a reference. If that module is a file next to the
script, the workers may not have it, or have an older copy. So the client looks which modules a
pickle refers to (`referenced_modules`), collects those that lie beside the script together with
what they import from there (`module_sources`), and sends their sources along. Installed packages
and the standard library are never sent.

In the worker, `install_sources` puts a finder in front of the import system. For a module it was
sent, it first looks what the normal search would find: the very same content is imported normally;
nothing, or other content, and the source that was sent is used.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import os
import re
import sys
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from importlib.machinery import ModuleSpec, PathFinder
from types import CodeType, ModuleType
from typing import Any

import msgspec

__all__ = [
    "ModuleSource",
    "forget_sources",
    "install_sources",
    "module_sources",
    "referenced_modules",
    "remove_sources",
    "script_folders",
]


class ModuleSource(msgspec.Struct, frozen=True, array_like=True):
    """A module as its source.

    Attributes
    ----------
    name : str
        Dotted name.
    is_package : bool
        Whether it is the ``__init__`` of a package.
    sha : bytes
        Hash of the source, 16 bytes.
    source : bytes
    """

    name: str
    is_package: bool
    sha: bytes
    source: bytes


def _hash(source: bytes) -> bytes:
    return blake2b(source, digest_size=16).digest()


# The client's side ----------------------------------------------------------------------------

# SHORT_BINUNICODE with its length, and the GLOBAL that old protocols wrote. Looking for opcodes
# without following the pickle finds too much, never too little.
_STRING = re.compile(rb"\x8c(?=(.))", re.DOTALL)
_GLOBAL = re.compile(rb"c([\w.]+)\n[\w.]+\n")


def referenced_modules(data: bytes) -> set[str]:
    """Return the loaded modules that a pickle may refer to by name.

    A quick scan, not a parser: a string that happens to be the name of a loaded module counts.
    """
    known = sys.modules
    found = set()
    for match in _STRING.finditer(data):
        start = match.end() + 1
        text = data[start : start + data[match.end()]]
        try:
            name = text.decode()
        except UnicodeDecodeError:
            continue
        if name in known:
            found.add(name)
    for text in _GLOBAL.findall(data):
        name = text.decode("latin-1")
        if name in known:
            found.add(name)
    return found


def script_folders() -> tuple[str, ...]:
    """Return the folder of the running script, if there is one, and the working directory."""
    main = getattr(sys.modules.get("__main__"), "__file__", None)
    folders = [os.path.dirname(os.path.abspath(main))] if main else []
    folders.append(os.getcwd())
    return tuple(dict.fromkeys(os.path.realpath(folder) for folder in folders))


_OWN = __name__.partition(".")[0]
_NEVER = frozenset({_OWN, "__main__", "__mp_main__"}) | sys.stdlib_module_names
_INSTALLED = ("site-packages", "dist-packages")


class _File(msgspec.Struct, frozen=True):
    """A source file as it was read, with the absolute names it may import."""

    stamp: tuple[int, int]
    source: bytes
    sha: bytes
    imports: tuple[str, ...]


_files: dict[tuple[str, str], _File] = {}


def module_sources(names: Iterable[str], root_paths: Sequence[str]) -> list[ModuleSource]:
    """Return the sources of those modules that lie beside the script, and of what they need.

    That is: plain ``.py`` files under one of the folders, outside of installed packages and the
    standard library; their parent packages; and, again under those folders, what any of them
    imports, also inside functions.

    Parameters
    ----------
    names : iterable of str
        Module names, such as `referenced_modules` returns.
    root_paths : sequence of str
        Folders, such as `script_folders` returns.

    Returns
    -------
    list of ModuleSource
        In the order of their names.
    """
    roots = [os.path.realpath(root) for root in root_paths]
    found: dict[str, ModuleSource] = {}
    seen: set[str] = set()
    parents: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        if name.partition(".")[0] in _NEVER:
            continue
        place = _locate(name, roots)
        if place is None:
            if name in parents:  # a folder without __init__.py: its modules need a parent
                found[name] = ModuleSource(name, True, _hash(b""), b"")
            continue
        path, is_package = place
        file = _read(path, name, is_package)
        if file is None:
            continue
        found[name] = ModuleSource(name, is_package, file.sha, file.source)
        waiting += file.imports
        parent = name.rpartition(".")[0]
        if parent and parent not in found:
            parents.add(parent)
            seen.discard(parent)
            waiting.append(parent)
    return [found[name] for name in sorted(found)]


def _locate(name: str, roots: Sequence[str]) -> tuple[str, bool] | None:
    """Return (path, is package) of a module beside the script, else None."""
    module = sys.modules.get(name)
    if module is not None:
        path = getattr(module, "__file__", None)
        if not isinstance(path, str) or not path.endswith(".py") or not _beside(path, roots):
            return None
        return path, hasattr(module, "__path__")
    stem = name.replace(".", os.sep)
    for root in roots:
        for tail, is_package in ((os.path.join(stem, "__init__.py"), True), (stem + ".py", False)):
            path = os.path.join(root, tail)
            if os.path.isfile(path) and _beside(path, roots):
                return path, is_package
    return None


def _beside(path: str, roots: Sequence[str]) -> bool:
    path = os.path.realpath(path)
    library = os.path.dirname(os.path.realpath(os.__file__)) + os.sep
    if path.startswith(library) or any(part in _INSTALLED for part in path.split(os.sep)):
        return False
    return any(path.startswith(root.rstrip(os.sep) + os.sep) for root in roots)


def _read(path: str, name: str, is_package: bool) -> _File | None:
    """Read a source file, or return what was read if it has not changed since."""
    try:
        status = os.stat(path)
        stamp = (status.st_mtime_ns, status.st_size)
        file = _files.get((path, name))
        if file is not None and file.stamp == stamp:
            return file
        with open(path, "rb") as stream:
            source = stream.read()
    except OSError:  # removed since it was imported: the worker's own error will name it
        return None
    if len(_files) > 1000:
        _files.clear()
    imports = _imports(source, name if is_package else name.rpartition(".")[0])
    file = _files[path, name] = _File(stamp, source, _hash(source), imports)
    return file


def _imports(source: bytes, package: str) -> tuple[str, ...]:
    """Return the absolute names of all modules that a source may import."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):  # importing it will say so, with the line
        return ()
    names: dict[str, None] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(dict.fromkeys(alias.name for alias in node.names))
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")
                parents = parents[: len(parents) - node.level + 1]
                base = ".".join([*parents, base] if base else parents)
            names[base] = None
            names.update(dict.fromkeys(f"{base}.{alias.name}" for alias in node.names))
    names.pop("", None)
    return tuple(names)


# The worker's side ----------------------------------------------------------------------------


class _Loader:
    """Runs a module from the source that was sent."""

    def __init__(self, sent: ModuleSource) -> None:
        self.sent = sent
        # Not in angle brackets: the traceback module asks get_source for other names only.
        tail = "/__init__.py" if sent.is_package else ".py"
        self.path = "sent-by-client/" + sent.name.replace(".", "/") + tail

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        exec(self.get_code(module.__name__), module.__dict__)

    def get_code(self, name: str) -> CodeType:
        code: CodeType = compile(self.sent.source, self.path, "exec", dont_inherit=True)
        return code

    def get_source(self, name: str) -> str:
        return importlib.util.decode_source(self.sent.source)

    def is_package(self, name: str) -> bool:
        return self.sent.is_package


class _Finder:
    """Stands first in ``sys.meta_path`` and knows the modules that were sent."""

    def __init__(self) -> None:
        self.sources: dict[str, ModuleSource] = {}

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        sent = self.sources.get(name)
        if sent is None:
            return None
        normal = PathFinder.find_spec(name, path)
        if normal is not None and _same_content(normal.origin, sent):
            return normal
        loader: Any = _Loader(sent)
        spec = ModuleSpec(name, loader, origin=loader.path, is_package=sent.is_package)
        spec.has_location = True
        if sent.is_package and normal is not None and normal.submodule_search_locations:
            # What was not sent of this package is still found where it is installed.
            spec.submodule_search_locations = list(normal.submodule_search_locations)
        return spec


def _same_content(path: str | None, sent: ModuleSource) -> bool:
    if not path or not path.endswith(".py"):
        return False
    try:
        with open(path, "rb") as stream:
            return _hash(stream.read()) == sent.sha
    except OSError:  # it cannot be imported from there either
        return False


_finder = _Finder()


def install_sources(sources: Iterable[ModuleSource]) -> list[str]:
    """Make modules importable from the sources that were sent.

    Modules that are loaded already with other content are taken out of ``sys.modules``, and so are
    the sent modules that import those, so that the next import runs the new source. Modules of the
    standard library are never replaced.

    Returns
    -------
    list of str
        The modules that were taken out. If there are any, callables unpickled earlier refer to
        old code: empty their cache.
    """
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)
    stale = set()
    for sent in sources:
        if sent.name.partition(".")[0] in _NEVER:
            continue
        before = _finder.sources.get(sent.name)
        if before is not None and before.sha == sent.sha:
            continue
        _finder.sources[sent.name] = sent
        module = sys.modules.get(sent.name)
        if module is not None and not _is_from(module, sent):
            stale.add(sent.name)
    return _take_out(stale)


def forget_sources(names: Iterable[str]) -> None:
    """Forget the sources of some top-level modules and packages: other files take their place."""
    names = set(names)
    for name in [name for name in _finder.sources if name.partition(".")[0] in names]:
        del _finder.sources[name]


def remove_sources() -> list[str]:
    """Forget all sources that were sent; return the modules taken out of ``sys.modules``."""
    if _finder in sys.meta_path:
        sys.meta_path.remove(_finder)
    loaded = {
        name
        for name in _finder.sources
        if isinstance(getattr(sys.modules.get(name), "__loader__", None), _Loader)
    }
    taken = _take_out(loaded)
    _finder.sources.clear()
    return taken


def _is_from(module: ModuleType, sent: ModuleSource) -> bool:
    loader = getattr(module, "__loader__", None)
    if isinstance(loader, _Loader):
        return loader.sent.sha == sent.sha
    return _same_content(getattr(module, "__file__", None), sent)


def _take_out(stale: set[str]) -> list[str]:
    """Take modules out of ``sys.modules``, with the sent modules that import them."""
    importers = {
        name: set(_imports(sent.source, name if sent.is_package else name.rpartition(".")[0]))
        for name, sent in (_finder.sources.items() if stale else ())
    }
    grown = True
    while grown:
        more = {name for name, imports in importers.items() if imports & stale} - stale
        stale |= more
        grown = bool(more)
    # A package that is imported anew does not know submodules that stayed behind.
    stale |= {n for n in list(sys.modules) if any(n.startswith(f"{s}.") for s in stale)}
    taken = sorted(name for name in stale if _forget(name))
    if taken:
        importlib.invalidate_caches()
    return taken


def _forget(name: str) -> bool:
    """Take one module out, and out of its package: ``from package import x`` looks there first."""
    module = sys.modules.pop(name, None)
    parent, _, tail = name.rpartition(".")
    package = sys.modules.get(parent)
    if package is not None and getattr(package, tail, None) is module:
        vars(package).pop(tail, None)
    return module is not None
