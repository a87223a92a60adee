"""The command ``zcluster``: its subcommands, those of other packages, exit statuses."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path

import click
import pytest

from zcluster.cli import main as program
from zcluster.cli.main import COMMANDS, main
from zcluster.errors import StartError

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_names_every_command_with_its_own_sentence(
    option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([option]) == 0
    said = " ".join(capsys.readouterr().out.split())
    for name, command in COMMANDS.items():
        module, _, attribute = command.place.partition(":")
        found = getattr(importlib.import_module(module), attribute)
        assert f"{name} {command.sentence}" in said
        assert found.help.split("\n\n")[0].replace("\n", " ") == command.sentence


def test_the_installed_commands_are_there() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["scripts"]["zcluster"] == "zcluster.cli.main:main"
    for place in project["scripts"].values():
        module, _, attribute = place.partition(":")
        assert callable(getattr(importlib.import_module(module), attribute))


def test_without_a_command_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert "Commands:" in capsys.readouterr().out


@pytest.mark.parametrize("name", [*COMMANDS])
def test_every_command_has_both_help_options(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    for option in ("-h", "--help"):
        assert main([name, option]) == 0
        assert capsys.readouterr().out.startswith(f"Usage: zcluster {name}")


def test_help_imports_no_command() -> None:
    code = (
        "import sys; from zcluster.cli.main import main; status = main(['--help'])\n"
        "print({'zmq', 'numpy', 'psutil', 'asyncio', 'zcluster.cli.worker'}"
        " & {*sys.modules}, status)"
    )
    run = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=30
    )
    assert run.stdout.endswith("set() 0\n"), run.stdout + run.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["no-such"], "zcluster: No such command 'no-such'"),
        (["--no-such"], "zcluster: No such option"),
        (["status"], "zcluster status: no cluster was named; give the address"),
        (["status", "--interval", "0"], "zcluster status: Invalid value for '--interval'"),
        (["bench", "--tasks", "0"], "zcluster bench: Invalid value for '--tasks'"),
        (["worker", "somewhere"], "expected ipc:///path or tcp://host:port"),
        (["config", "get", "worker.thread"], "did you mean 'worker.threads'?"),
    ],
)
def test_nonsense_is_status_2_and_one_sentence(
    arguments: list[str],
    says: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("ZCLUSTER_SCHEDULER_FILE", raising=False)
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert len(said.err.splitlines()) == 1
    assert says in said.err


def test_version_is_an_option_and_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert re.fullmatch(r"zcluster \d\S*\n", capsys.readouterr().out)
    assert main(["version"]) == 0
    assert re.search(r"^libzmq +\d", capsys.readouterr().out, re.MULTILINE)


def test_a_warning_is_one_line_without_our_code(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import warnings

    @click.command("warn")
    def command() -> None:
        warnings.simplefilter("always")
        warnings.warn("it is odd", stacklevel=1)

    monkeypatch.setattr(program.Program, "get_command", lambda *_: command)
    assert main(["warn"]) == 0
    assert capsys.readouterr().err == "WARNING: it is odd\n"


# --------------------------------------------------------------------------- exit statuses


@pytest.mark.parametrize(("name", "status"), [("status", 3), ("scheduler", 1), ("other", 1)])
def test_a_scheduler_that_is_not_there_is_status_3_where_one_was_named(
    name: str, status: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    @click.command(name)
    def command() -> None:
        raise StartError("nobody answered")

    monkeypatch.setattr(program.Program, "get_command", lambda *_: command)
    assert main([name]) == status
    assert capsys.readouterr().err == "zcluster: nobody answered [Z009]\n"


def test_a_status_of_a_command_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program.Program, "get_command", lambda *_: click.command("x")(lambda: 7))
    assert main(["x"]) == 7


# -------------------------------------------------------------------------------- plugins


@click.command("extra")
def extra() -> int:
    """Do more."""
    return 5


not_a_command = 3


@pytest.fixture
def plugins(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Return a function that adds an entry point, by name and what it names in this file."""
    found: list[EntryPoint] = []
    monkeypatch.setattr(program, "entry_points", lambda *, group: found)
    monkeypatch.setitem(sys.modules, "zcluster_extra", sys.modules[__name__])

    def add(name: str, place: str) -> None:
        found.append(EntryPoint(name, place, program.GROUP))

    return add


def test_another_package_s_command_is_listed_and_runs(
    plugins: Callable[[str, str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    plugins("extra", "zcluster_extra:extra")
    assert main(["--help"]) == 0
    assert re.search(r"extra +\(from zcluster_extra\)", capsys.readouterr().out)
    assert main(["extra"]) == 5


def test_names_that_are_taken_stay_ours(
    plugins: Callable[[str, str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    plugins("version", "zcluster_extra:extra")
    assert main(["version"]) == 0
    assert main(["--help"]) == 0
    assert "zcluster_extra" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("place", "says"),
    [
        ("no_such_module:x", "cannot be loaded (ModuleNotFoundError: No module named"),
        ("zcluster_extra:not_a_command", "is a int, expected a click command"),
    ],
)
def test_a_broken_plugin_harms_itself_alone(
    place: str,
    says: str,
    plugins: Callable[[str, str], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    plugins("extra", place)
    assert main(["--help"]) == 0
    capsys.readouterr()
    assert main(["extra"]) == 1
    assert says in capsys.readouterr().err
