"""The table of Dask's names says done for what a passed test carries, and for nothing else."""

from __future__ import annotations

import ast
import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
NAMES = """
[Client]
"Client.submit" = ""
"Client.map" = "in one message"

["Command line"]
"dask worker" = {here = "`zcluster worker`", note = ""}
"""


@pytest.fixture(scope="module")
def dask() -> Iterator[Any]:
    """Import the generator, which is no part of a package."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "docs"))
        yield importlib.import_module("generate_dask")


class Folder:
    """A list of names and a report in a folder of their own."""

    def __init__(self, dask: Any, path: Path) -> None:
        self._dask = dask
        self._files = {name: path / name for name in ("output", "names", "report")}
        self._files["names"].write_text(NAMES)

    def report(self, *lines: tuple[str, *tuple[str, ...]]) -> None:
        """Write what became of tests: each an outcome and the names it carries."""
        tests = {
            f"tests/test_it.py::test_{number}": {"outcome": outcome, "names": names}
            for number, (outcome, *names) in enumerate(lines)
        }
        self._files["report"].write_text(json.dumps(tests))

    def names(self, text: str) -> None:
        self._files["names"].write_text(text)

    def page(self) -> str:
        text: str = self._dask.generate(**self._files).read_text()
        return text


@pytest.fixture
def folder(dask: Any, tmp_path: Path) -> Folder:
    return Folder(dask, tmp_path)


def test_a_name_is_done_when_a_test_that_carries_it_passed(folder: Folder) -> None:
    folder.report(("passed", "Client.submit", "dask worker"))
    page = folder.page()
    assert page.startswith("2 of 3 names are done.\n")
    assert "| `Client.submit` | `Client.submit` | done |  |" in page
    assert "| `Client.map` |  | not done | in one message |" in page
    assert "| `dask worker` | `zcluster worker` | done |  |" in page
    assert page.index("### Client") < page.index("### Command line")


def test_one_failure_outweighs_any_number_of_passes(folder: Folder) -> None:
    for lines in (["passed", "failed", "passed"], ["failed", "skipped"]):
        folder.report(*[(line, "Client.map") for line in lines])
        assert "| `Client.map` |  | not done: its test failed | in one message |" in folder.page()


def test_a_skipped_test_proves_nothing_and_harms_nothing(folder: Folder) -> None:
    folder.report(("skipped", "Client.map"))
    assert "| `Client.map` |  | not done |" in folder.page()
    folder.report(("skipped", "Client.map"), ("passed", "Client.map"), ("skipped", "Client.map"))
    assert "| `Client.map` | `Client.map` | done |" in folder.page()


def test_without_a_report_nothing_is_done_and_the_page_says_why(folder: Folder) -> None:
    page = folder.page()
    assert "**No tests ran in this build**" in page
    assert "done" not in page
    assert page.count("| not tried |") == 3


def test_modules_are_spelled_as_they_are_called_here(dask: Any, folder: Folder) -> None:
    folder.names('[dask]\n"dask.compute" = ""\n"distributed.wait" = ""\n')
    folder.report(("passed", "dask.compute", "distributed.wait"))
    assert "| `dask.compute` | `zcluster.compute` |" in folder.page()
    assert "| `distributed.wait` | `zcluster.distributed.wait` |" in folder.page()


def test_what_cannot_be_meant_is_an_error(dask: Any, folder: Folder) -> None:
    folder.report(("passed", "Client.nothing"))
    with pytest.raises(dask.GenerateError, match=r"marked with Client\.nothing, which"):
        folder.page()
    folder.report(("perhaps", "Client.map"))
    with pytest.raises(dask.GenerateError, match="test_0 perhaps; expected passed"):
        folder.page()
    folder.names('[a]\n"Client.map" = ""\n[b]\n"Client.map" = ""\n')
    with pytest.raises(dask.GenerateError, match=r"has Client\.map twice"):
        folder.page()
    folder.names('[a]\n"Client.map" = 3\n')
    with pytest.raises(dask.GenerateError, match=r"Client\.map has 3; expected a note"):
        folder.page()


# ------------------------------------------------------------------------ the real list and marks


def marked() -> Iterator[tuple[str, ast.expr]]:
    """Find each argument of each mark in the tests, without importing them."""
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        text = path.read_text(encoding="utf-8")
        if "mark.dask" not in text:
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.dask":
                for argument in node.args:
                    yield f"{path.relative_to(ROOT)}:{argument.lineno}", argument


def test_every_marked_name_is_in_the_list(dask: Any) -> None:
    known = {name.name for name in dask.each(dask.read_names())}
    found = list(marked())
    assert found
    for place, argument in found:
        assert isinstance(argument, ast.Constant), f"{place}: expected a name in quotes"
        assert argument.value in known, f"{place}: {argument.value!r} is not in dask_names.toml"


def test_the_list_names_what_users_know(dask: Any) -> None:
    names = dask.read_names()
    assert {"dask", "Client", "Future", "as_completed", "dask.config"} <= names.keys()
    assert sum(map(len, names.values())) > 250
