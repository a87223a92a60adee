"""Launchers are found by name among what is installed; commands become argument lists."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from zcluster.errors import InvalidArgument, StartError
from zcluster.launching import Command, find_launcher, find_launcher_names


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder on the path with a package that brings two launchers, one broken."""
    info = tmp_path / "somesite-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: somesite\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[zcluster.launchers]\nmoon = zc_moon_launcher:Moon\nbroken = zc_no_such_module:X\n"
    )
    (tmp_path / "zc_moon_launcher.py").write_text(
        "class Moon:\n    def start(self, command):\n        return command.as_arguments('py')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "zc_moon_launcher", raising=False)
    return tmp_path


@pytest.mark.usefixtures("installed")
def test_a_launcher_of_another_package_is_found_by_name() -> None:
    launcher = find_launcher("moon")
    assert type(launcher).__name__ == "Moon"
    assert "moon" in find_launcher_names()


@pytest.mark.usefixtures("installed")
def test_an_unknown_name_lists_those_there_are() -> None:
    with pytest.raises(InvalidArgument, match=r"no launcher is called 'mars'.*broken.*moon"):
        find_launcher("mars")


@pytest.mark.usefixtures("installed")
def test_a_launcher_that_does_not_load_says_what_is_missing() -> None:
    with pytest.raises(StartError, match=r"'broken' \(zc_no_such_module:X\).*No module named"):
        find_launcher("broken")


def test_a_command_runs_the_module_without_the_working_directory() -> None:
    command = Command("worker", ("ipc:///x", "--nthreads", "1"))
    assert command.as_arguments("python") == [
        *("python", "-P", "-m", "zcluster.cli.worker"),
        *("ipc:///x", "--nthreads", "1"),
    ]
