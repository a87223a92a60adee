"""Modules beside the script travel as source and are imported from it."""

from __future__ import annotations

import importlib
import os
import pickle
import subprocess
import sys
import traceback
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from types import ModuleType
from typing import Any

import cloudpickle
import msgspec
import pytest

from zcluster.protocol.modules import (
    ModuleSource,
    install_sources,
    module_sources,
    referenced_modules,
    remove_sources,
    script_folders,
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of modules on the path; what was imported meanwhile is forgotten afterwards."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield tmp_path
    remove_sources()
    for name in set(sys.modules) - before:
        if name.startswith("zcm_"):
            del sys.modules[name]


def write(folder: Path, **sources: str) -> None:
    """Write modules; two underscores stand for a dot, and ``__init`` for that of a package."""
    for name, source in sources.items():
        tail = name.replace("__", "/").removesuffix("/init")
        path = folder / (tail + ("/__init__.py" if name.endswith("__init") else ".py"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    importlib.invalidate_caches()


def source(name: str, text: str, is_package: bool = False) -> ModuleSource:
    data = text.encode()
    return ModuleSource(name, is_package, blake2b(data, digest_size=16).digest(), data)


def load(name: str) -> ModuleType:
    return importlib.import_module(name)


def names(found: list[ModuleSource]) -> list[str]:
    return [one.name for one in found]


def test_a_pickle_names_its_modules(folder: Path) -> None:
    """By reference, inside of code that travels by value, and in old protocols."""
    write(folder, zcm_a="def f(): pass\nclass C: pass\n")
    a = load("zcm_a")
    assert "zcm_a" in referenced_modules(pickle.dumps([1, a.f], 5))
    assert "zcm_a" in referenced_modules(pickle.dumps(a.C(), 5))
    assert "zcm_a" in referenced_modules(pickle.dumps(a.f, 0))
    assert "zcm_a" in referenced_modules(cloudpickle.dumps(lambda: a.f()))
    assert "subprocess" in referenced_modules(pickle.dumps(subprocess.Popen, 5))
    assert (
        referenced_modules(pickle.dumps(["no such module", "\x8cä", 1.5, b"\x8c\xff\xff"])) == set()
    )
    assert referenced_modules(b"\x80\x05\x8c") == set()


def test_what_a_module_needs_comes_along(folder: Path) -> None:
    """Imports anywhere in it, relative ones, parents of what is in a package; nothing else."""
    write(
        folder,
        zcm_a="import zcm_b, os, numpy\ndef f():\n    from zcm_p.sub import x\n",
        zcm_b="",
        zcm_unused="",
        zcm_p__init="",
        zcm_p__sub="from . import other\nfrom .deep.one import y\nx = 1\n",
        zcm_p__other="",
        zcm_p__deep__init="",
        zcm_p__deep__one="from ..third import z\ny = 1\n",
        zcm_p__third="z = 1\n",
        zcm_p__unused="",
    )
    found = module_sources(["zcm_a"], [str(folder)])
    assert names(found) == [
        "zcm_a",
        "zcm_b",
        "zcm_p",
        "zcm_p.deep",
        "zcm_p.deep.one",
        "zcm_p.other",
        "zcm_p.sub",
        "zcm_p.third",
    ]
    assert [one.name for one in found if one.is_package] == ["zcm_p", "zcm_p.deep"]
    assert found[1].source == b""
    assert len(found[0].sha) == 16
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(found), type=list[ModuleSource]) == found


def test_installed_modules_are_not_sent(folder: Path) -> None:
    """Neither the standard library, nor site-packages even below the folder, nor other places."""
    inside = folder / "venv" / "site-packages"
    inside.mkdir(parents=True)
    write(inside, zcm_installed="")
    write(folder, zcm_here="")
    sys.path.insert(0, str(inside))
    try:
        load("zcm_installed")
        load("zcm_here")
    finally:
        sys.path.remove(str(inside))
    every = ["zcm_installed", "zcm_here", "os", "msgspec", "zcluster", "__main__", "sys"]
    assert names(module_sources(every, [str(folder)])) == ["zcm_here"]
    assert module_sources(every, [str(folder / "elsewhere")]) == []
    assert module_sources(["os", "numpy", "zcluster.errors"], ["/"]) == []


def test_an_edited_file_is_read_again(folder: Path) -> None:
    """And one that is gone, or cannot be parsed, is no reason to fail."""
    write(folder, zcm_a="x = 1\n")
    first = module_sources(["zcm_a"], [str(folder)])
    assert module_sources(["zcm_a"], [str(folder)]) == first
    write(folder, zcm_a="x = 22\n")
    assert module_sources(["zcm_a"], [str(folder)])[0].source == b"x = 22\n"
    write(folder, zcm_a="not python\n")
    assert names(module_sources(["zcm_a"], [str(folder)])) == ["zcm_a"]
    (folder / "zcm_a.py").unlink()
    assert module_sources(["zcm_a"], [str(folder)]) == []


def test_the_folders_are_those_of_script_and_work(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In an interactive session there is the working directory alone."""
    main = ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", main)
    monkeypatch.chdir(folder)
    here = os.path.realpath(folder)
    assert script_folders() == (here,)
    main.__file__ = str(folder / "scripts" / "run.py")
    assert script_folders() == (os.path.join(here, "scripts"), here)


def test_a_missing_module_is_imported_from_its_source(folder: Path) -> None:
    """Packages with relative imports too; the import system knows the names."""
    taken = install_sources(
        [
            source("zcm_x", "from zcm_y.sub import value\n"),
            source("zcm_y", "", is_package=True),
            source("zcm_y.sub", "from . import other\nvalue = other.n + 1\n"),
            source("zcm_y.other", "n = 41\n"),
        ]
    )
    assert taken == []
    assert load("zcm_x").value == 42
    assert sys.modules["zcm_y.sub"].__package__ == "zcm_y"
    with pytest.raises(ModuleNotFoundError):
        load("zcm_y.unknown")
    remove_sources()
    with pytest.raises(ModuleNotFoundError):
        load("zcm_x")


def test_tracebacks_show_the_source(folder: Path) -> None:
    """Errors in code that was sent can be read."""
    install_sources([source("zcm_x", "def f():\n    raise ValueError('here')  # this line\n")])
    with pytest.raises(ValueError, match="here") as caught:
        load("zcm_x").f()
    text = "".join(traceback.format_exception(caught.value))
    assert "raise ValueError('here')  # this line" in text
    assert "zcm_x.py" in text


def test_the_same_content_is_imported_normally(folder: Path) -> None:
    """On a shared file system nothing changes."""
    write(folder, zcm_a="x = 1\n")
    before = load("zcm_a")
    assert install_sources([source("zcm_a", "x = 1\n")]) == []
    assert load("zcm_a") is before
    del sys.modules["zcm_a"]
    assert load("zcm_a").__file__ == str(folder / "zcm_a.py")


def test_other_content_replaces_what_is_loaded(folder: Path) -> None:
    """With the sent modules that import it, and not those that do not."""
    write(folder, zcm_a="x = 'old'\n")
    assert load("zcm_a").x == "old"
    sent = [
        source("zcm_a", "x = 'new'\n"),
        source("zcm_user", "from zcm_a import x\n"),
        source("zcm_far", "from zcm_user import x\n"),
        source("zcm_other", ""),
    ]
    assert install_sources(sent) == ["zcm_a"]
    assert load("zcm_far").x == "new"
    other = load("zcm_other")
    assert install_sources(sent) == []
    newer = source("zcm_a", "x = 'newer'\n")
    assert install_sources([newer]) == ["zcm_a", "zcm_far", "zcm_user"]
    assert load("zcm_far").x == "newer"
    assert load("zcm_other") is other


def test_a_changed_package_keeps_what_was_not_sent(folder: Path) -> None:
    """Its other modules are found where they are installed."""
    write(folder, zcm_p__init="v = 1\n", zcm_p__sub="s = 1\n", zcm_p__data="d = 1\n")
    load("zcm_p.sub")
    load("zcm_p.data")
    taken = install_sources([source("zcm_p", "v = 2\n", is_package=True)])
    assert taken == ["zcm_p", "zcm_p.data", "zcm_p.sub"]
    assert load("zcm_p").v == 2
    assert load("zcm_p.data").d == 1
    assert install_sources([source("zcm_p.sub", "s = 2\n")]) == []
    assert load("zcm_p.sub").s == 2
    assert install_sources([source("zcm_p.sub", "s = 3\n")]) == ["zcm_p.sub"]
    scope: dict[str, Any] = {}
    exec("from zcm_p import sub", scope)
    assert scope["sub"].s == 3


def test_the_standard_library_is_never_replaced(folder: Path) -> None:
    """A file called random.py beside a script must not harm the worker."""
    assert install_sources([source("random", "x = 1\n"), source("zcluster", "")]) == []
    assert not hasattr(load("random"), "x")


def test_folders_without_init_are_packages_too(folder: Path) -> None:
    """They are sent as empty packages, since their modules need parents."""
    write(folder, zcm_n__deep__a="from zcm_n.b import y\nx = y\n", zcm_n__b="y = 7\n")
    assert load("zcm_n.deep.a").x == 7
    found = module_sources(["zcm_n.deep.a"], [str(folder)])
    assert names(found) == ["zcm_n", "zcm_n.b", "zcm_n.deep", "zcm_n.deep.a"]
    for name in names(found):
        del sys.modules[name]
    sys.path.remove(str(folder))
    install_sources(found)
    assert load("zcm_n.deep.a").x == 7
