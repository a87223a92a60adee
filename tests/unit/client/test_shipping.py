"""Sources go out once, before the first task that needs them."""

from __future__ import annotations

import importlib
import os
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from zcluster.client import shipping
from zcluster.client.shipping import BY_NAME, Shipper, environment
from zcluster.protocol.frames import span
from zcluster.protocol.messages import Sources


@pytest.fixture
def beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a folder that counts as the script's; what is imported from it is forgotten."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    script = tmp_path / "script.py"
    script.touch()
    monkeypatch.setattr(sys.modules["__main__"], "__file__", str(script), raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("zcs_")]:
        del sys.modules[name]


def write(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    importlib.invalidate_caches()


def load(name: str) -> ModuleType:
    return importlib.import_module(name)


def told(answer: tuple[Sources, list[bytes]] | None) -> dict[str, tuple[bool, bytes]]:
    """Return what a message brings: (is a package, source) by name."""
    if answer is None:
        return {}
    message, frames = answer
    return {
        name: (is_package, bytes(span(frames, place)))
        for name, is_package, place in message.modules
    }


def test_a_module_beside_the_script_is_sent_once_with_what_it_imports(beside: Path) -> None:
    write(beside, "zcs_a.py", "import zcs_b\ndef f(): return zcs_b.g()\n")
    write(beside, "zcs_b.py", "def g(): return 1\n")
    module = load("zcs_a")
    shipper = Shipper()
    first = told(shipper.sources([pickle.dumps(module.f)]))
    assert first == {
        "zcs_a": (False, b"import zcs_b\ndef f(): return zcs_b.g()\n"),
        "zcs_b": (False, b"def g(): return 1\n"),
    }
    assert shipper.sources([pickle.dumps(module.f)]) is None
    # It was sent with the first already, under no name of a pickle.
    assert shipper.sources([pickle.dumps(load("zcs_b").g)]) is None


def test_only_what_is_new_is_sent(beside: Path) -> None:
    write(beside, "zcs_common.py", "def c(): pass\n")
    for name in ("zcs_one", "zcs_two"):
        write(beside, f"{name}.py", "import zcs_common\ndef f(): pass\n")
    shipper = Shipper()
    assert set(told(shipper.sources([pickle.dumps(load("zcs_one").f)]))) == {
        "zcs_one",
        "zcs_common",
    }
    assert set(told(shipper.sources([pickle.dumps(load("zcs_two").f)]))) == {"zcs_two"}


def test_several_pickles_of_any_kind_of_buffer_make_one_message(beside: Path) -> None:
    for name in ("zcs_one", "zcs_two"):
        write(beside, f"{name}.py", "def f(): pass\n")
    pickles = [pickle.dumps(load(name).f) for name in ("zcs_one", "zcs_two")]
    shipper = Shipper()
    answer = shipper.sources([memoryview(pickles[0]), bytearray(pickles[1]), b"no pickle"])
    assert set(told(answer)) == {"zcs_one", "zcs_two"}
    assert answer is not None
    assert len(answer[1]) == 1  # one frame holds all


def test_a_package_is_marked_as_one(beside: Path) -> None:
    write(beside, "zcs_pkg/__init__.py", "from zcs_pkg.inner import f\n")
    write(beside, "zcs_pkg/inner.py", "def f(): pass\n")
    sent = told(Shipper().sources([pickle.dumps(load("zcs_pkg").f)]))
    assert {name: is_package for name, (is_package, _) in sent.items()} == {
        "zcs_pkg": True,
        "zcs_pkg.inner": False,
    }


def test_what_is_installed_is_not_sent(beside: Path) -> None:
    assert Shipper().sources([pickle.dumps(os.path.join), pickle.dumps(pytest.raises)]) is None


def test_bytes_that_name_nothing_are_not_searched(
    beside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Arguments are mostly such bytes, and a search of megabytes would cost a task its time."""
    searched: list[bytes] = []

    def referenced(data: bytes) -> set[str]:
        searched.append(data)
        return set()

    monkeypatch.setattr(shipping, "referenced_modules", referenced)
    plain, named = pickle.dumps([1, "two", b"three"]), pickle.dumps(os.path.join)
    assert BY_NAME not in plain
    assert BY_NAME in named
    assert Shipper().sources([plain, named]) is None
    assert searched == [named]


def test_a_callable_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipping, "_MOST_SEEN", 3)
    shipper = Shipper()
    assert [shipper.has_seen(digest) for digest in (b"a", b"b", b"a", b"c")] == [
        False,
        False,
        True,
        False,
    ]
    assert not shipper.has_seen(b"d")  # past the limit all are forgotten
    assert not shipper.has_seen(b"a")
    assert shipper.has_seen(b"d")


def test_the_environment_is_how_this_process_imports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path: list[Any] = ["", "/x/../y", "relative", "/y", str(tmp_path)]
    monkeypatch.setattr(sys, "path", path)
    told = environment("this-host")
    assert told.paths == [str(tmp_path), "/y", str(tmp_path / "relative")]
    assert (told.cwd, told.host) == (str(tmp_path), "this-host")
