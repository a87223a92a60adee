"""``zcluster config``: what it prints, and that it changes a line of a file and nothing else."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from zcluster import config as configuration
from zcluster.cli.config import edited
from zcluster.cli.main import main
from zcluster.config.defaults import KEYS
from zcluster.errors import InvalidArgument


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return the user's file, which is not there yet."""
    for name in list(os.environ):
        if name.startswith("ZCLUSTER_") and not name.startswith("ZCLUSTER_TEST_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    configuration.refresh()
    yield tmp_path / "zcluster" / "zcluster.toml"
    monkeypatch.undo()
    configuration.refresh()


def test_without_a_subcommand_it_tells_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config"]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("Usage: zcluster config ")
    assert said.err == ""


def test_list_has_every_key_and_who_set_it(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.parent.mkdir()
    file.write_text("progress = false\n")
    configuration.refresh()
    assert main(["config", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [key.name for key in KEYS]
    assert f"false    # {file}" in lines[2]
    assert "#" not in lines[0]


def test_get_prints_a_value_or_a_section(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "get", "output.prefix"]) == 0
    assert capsys.readouterr().out == "true\n"
    assert main(["config", "get", "output"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "output.forward  true",
        "output.rate  65536",
        "output.prefix  true",
    ]


def test_set_writes_the_user_s_file_for_everybody_after(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["config", "set", "worker.memory_limit", "2GB"]) == 0
    assert main(["config", "set", "progress", "false"]) == 0
    assert tomllib.loads(file.read_text()) == {
        "progress": False,
        "worker": {"memory-limit": "2GB"},
    }
    assert configuration.get("worker.memory-limit") == "2GB"
    assert [*file.parent.iterdir()] == [file]
    capsys.readouterr()
    assert main(["config", "find", "worker.memory-limit"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["default", "auto"]
    assert lines[1].split() == ["*", str(file), "2GB"]
    assert lines[2].startswith("Memory of each worker. Expected: a size")


def test_set_says_when_something_else_counts_more(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZCLUSTER_PROGRESS", "auto")
    assert main(["config", "set", "progress", "true"]) == 0
    said = capsys.readouterr().err
    assert "WARNING: environment variable ZCLUSTER_PROGRESS sets it to auto" in said


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["set", "progres", "true"], "did you mean 'progress'?"),
        (["find", "worker"], "configuration has no key 'worker'"),
        (["set", "worker.threads", "-1"], "the command line sets worker.threads to -1"),
        (["set", "worker.threads", "none"], "take its line out of"),
        (["set", "worker.threads"], "Missing argument 'VALUE'"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    arguments: list[str], says: str, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["config", *arguments]) == 2
    assert says in capsys.readouterr().err
    assert not file.exists()


def test_a_folder_that_cannot_be_written_is_named(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file.parent.write_text("in the way")
    assert main(["config", "set", "worker.threads", "2"]) == 1
    said = capsys.readouterr().err
    assert str(file) in said
    assert "ZCLUSTER_WORKER__THREADS" in said


@pytest.mark.parametrize(
    ("text", "key", "value", "after"),
    [
        ("", "progress", True, "progress = true\n"),
        ("", "worker.threads", 2, "[worker]\nthreads = 2\n"),
        ("# x\n", "worker.threads", 2, "# x\n\n[worker]\nthreads = 2\n"),
        ("progress = false # y\n", "progress", "auto", 'progress = "auto"\n'),
        ("[a]\nprogress = 1\n", "progress", True, "progress = true\n[a]\nprogress = 1\n"),
        (
            "[worker] # w\nmemory_limit = 1\n[z]\nmemory-limit = 2\n",
            "worker.memory-limit",
            "3GB",
            '[worker] # w\nmemory-limit = "3GB"\n[z]\nmemory-limit = 2\n',
        ),
        ("", "logging.format", 'a"\\\n', '[logging]\nformat = "a\\"\\\\\\n"\n'),
    ],
)
def test_one_line_changes(text: str, key: str, value: Any, after: str) -> None:
    assert edited(text, key, value) == after


@pytest.mark.parametrize(
    "text",
    ["worker = {threads = 1}\n", "worker.threads = 1\n", "[worker]\nthreads = [\n1]\n", "x = \n"],
)
def test_what_a_program_cannot_change_is_left_alone(text: str) -> None:
    with pytest.raises(InvalidArgument, match=r"set threads = 2 below \[worker\] by hand"):
        edited(text, "worker.threads", 2)
