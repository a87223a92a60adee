"""The leak check of `tests/conftest.py`, tried on a run of pytest that leaves things behind."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).resolve().parents[1] / "conftest.py"

HEAD = """
import os, subprocess, sys, tempfile, threading, time
import pytest

SLEEPER = [sys.executable, "-c", "import time; time.sleep(60)"]
"""
CLEAN = """
@pytest.mark.processes
def test_nothing():
    with subprocess.Popen(SLEEPER) as process:
        process.kill()
    with tempfile.TemporaryDirectory(prefix="zc-"):
        pass
    thread = threading.Thread(target=int)
    thread.start()
    thread.join()
"""
LEAVERS = """
@pytest.mark.processes
def test_child():
    global process  # or its finaliser warns
    process = subprocess.Popen(SLEEPER)

@pytest.mark.processes
def test_orphan():
    # A session of its own and a dead parent: only the mark in its environment tells whose it is.
    code = "import subprocess; subprocess.Popen(['sleep', '60'], start_new_session=True)"
    subprocess.run([sys.executable, "-c", code], check=True)

@pytest.mark.processes
def test_fork():
    if os.fork() == 0:
        time.sleep(60)

@pytest.mark.processes
def test_file():
    tempfile.mkdtemp(prefix="zc-")

@pytest.mark.processes
def test_thread():
    threading.Thread(target=time.sleep, args=(2,), name="forgotten").start()
"""
UNMARKED = """
def test_unmarked():
    tempfile.mkdtemp(prefix="zc-")

def test_after():
    pass
"""


def run_pytest(folder: Path, source: str, *options: str) -> subprocess.CompletedProcess[str]:
    shutil.copy(CONFTEST, folder / "conftest.py")
    (folder / "test_leaver.py").write_text(HEAD + source)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-o", "leak_grace=0.1"]
    # -rN: no summary, which in CI would say everything twice.
    command += ["-rN", "-o", "markers=processes", "--rootdir", str(folder), "-c", os.devnull]
    return subprocess.run(
        [*command, *options, str(folder)], capture_output=True, text=True, timeout=50
    )


def test_leavings_fail_the_test_and_are_named_and_removed(tmp_path: Path) -> None:
    run = run_pytest(tmp_path, CLEAN + LEAVERS)
    assert run.returncode == 1, run.stdout
    blamed = re.findall(r"left behind by test_leaver[.]py::(\w+):\n +(\w+) (.*)", run.stdout)
    assert [(test, kind) for test, kind, _ in blamed] == [
        ("test_child", "process"),
        ("test_orphan", "process"),
        ("test_fork", "process"),
        ("test_file", "file"),
        ("test_thread", "thread"),
    ]
    texts = [text for _, _, text in blamed]
    assert "time.sleep(60)" in texts[0]
    assert texts[1].endswith(": sleep 60")
    assert "/zc-" in texts[3]
    assert texts[4].startswith("forgotten ")
    # Removed after the report: the end of the run finds nothing more.
    assert "left behind by the whole run" not in run.stdout


def test_end_of_the_run_finds_what_no_marked_test_left(tmp_path: Path) -> None:
    """What fixtures of a wider scope, or unmarked tests, forget is found at the end."""
    run = run_pytest(tmp_path, UNMARKED)
    assert run.returncode == 1, run.stdout
    assert "left behind by the whole run" in run.stdout


@pytest.mark.parametrize(
    ("ci", "options", "said"),
    [
        ("", (), "not fixed"),
        ("", ("--hypothesis-seed=17",), "17"),
        ("1", (), "made from each test's text"),
    ],
)
def test_run_prints_where_its_examples_come_from_and_the_time_by_folder(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    ci: str,
    options: tuple[str, ...],
    said: str,
) -> None:
    """The seed is what makes a failure of a property test happen again."""
    monkeypatch.setenv("CI", ci)
    run = run_pytest(tmp_path, CLEAN, *options)
    assert run.returncode == 0, run.stdout
    assert f"hypothesis seed: {said}" in run.stdout
    assert "time by folder" in run.stdout


NAMED = """
@pytest.mark.dask("Client.submit")
def test_one():
    pass

@pytest.mark.dask("Client.map", "Client.submit")
def test_two():
    assert not {fails}

@pytest.mark.dask("Client.get")
def test_three():
    pytest.skip("not here")

@pytest.mark.dask("Client.close")
def test_four(capsys):
    pass
"""


def proven(folder: Path, report: str = "dask") -> dict[str, tuple[str, list[str]]]:
    """Return what the report says of each test."""
    tests = json.loads((folder / "build" / f"{report}-names.json").read_text())
    return {
        test.removeprefix("test_leaver.py::"): (line["outcome"], line["names"])
        for test, line in tests.items()
    }


def test_names_of_dask_are_kept_with_what_became_of_their_tests(tmp_path: Path) -> None:
    marker = ("-o", "markers=dask(*names)")
    run_pytest(tmp_path, NAMED.format(fails=True), *marker)
    all_four = {
        "test_one": ("passed", ["Client.submit"]),
        "test_two": ("failed", ["Client.map", "Client.submit"]),
        "test_three": ("skipped", ["Client.get"]),
        "test_four": ("passed", ["Client.close"]),
    }
    assert proven(tmp_path) == all_four
    # A run of some tests leaves what others proved; a test that is there no more proves nothing.
    changed = NAMED.format(fails=False).replace("test_four", "test_five")
    run_pytest(tmp_path, changed, *marker, "-k", "test_two")
    all_four["test_two"] = ("passed", ["Client.map", "Client.submit"])
    del all_four["test_four"]
    assert proven(tmp_path) == all_four
    # Nor does a file that cannot be read.
    run_pytest(tmp_path, "import nothing_of_that_name\n", *marker)
    assert proven(tmp_path) == {}


COMPARED = """
import pytest

@pytest.mark.parametrize("name", ["sin", "cos"])
@pytest.mark.proves("array.{name}", "array.Array.{name}")
def test_functions(name):
    assert name == "sin"

@pytest.mark.proves("array.sum")
@pytest.mark.dask("dask.array")
@pytest.mark.parametrize("size", [pytest.param(1, marks=pytest.mark.proves("array.prod"))])
def test_sum(size):
    pass
"""


def test_names_of_arrays_are_kept_apart_and_may_come_from_parameters(tmp_path: Path) -> None:
    marker = ("-o", "markers=dask(*names)\nproves(*names)")
    run_pytest(tmp_path, COMPARED, *marker)
    assert proven(tmp_path, "array") == {
        "test_functions[sin]": ("passed", ["array.Array.sin", "array.sin"]),
        "test_functions[cos]": ("failed", ["array.Array.cos", "array.cos"]),
        "test_sum[1]": ("passed", ["array.prod", "array.sum"]),
    }
    assert proven(tmp_path) == {"test_sum[1]": ("passed", ["dask.array"])}


def test_a_mark_that_no_parameter_fills_is_an_error(tmp_path: Path) -> None:
    done = run_pytest(
        tmp_path, COMPARED.replace("array.{name}", "array.{nam}"), "-o", "markers=proves(*names)"
    )
    assert "is marked with 'array.{nam}': KeyError('nam'); expected names" in done.stderr
