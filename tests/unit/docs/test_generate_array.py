"""The table of NumPy's and Dask's names says done for what a passed test compared, and no more."""

from __future__ import annotations

import ast
import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[3]
NAMES = """
[versions]
numpy = "2.4.6"
dask = "2026.8.0"

["Functions"]
"array.sum" = "numpy dask"
"array.put" = "numpy"
"array.map_blocks" = "dask"

["fft"]
"array.fft.fftfreq" = "numpy"
"""


@pytest.fixture(scope="module")
def arrays() -> Iterator[Any]:
    """Import the generator, which is no part of a package."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "docs"))
        yield importlib.import_module("generate_array")


class Folder:
    """A list of names and a report in a folder of their own."""

    def __init__(self, arrays: Any, path: Path) -> None:
        self._arrays = arrays
        self._names, self._report = path / "names", path / "report"
        self._names.write_text(NAMES)

    def report(self, *lines: tuple[str, *tuple[str, ...]]) -> None:
        """Write what became of tests: each an outcome and the names it carries."""
        tests = {
            f"tests/test_it.py::test_{number}": {"outcome": outcome, "names": names}
            for number, (outcome, *names) in enumerate(lines)
        }
        self._report.write_text(json.dumps(tests))

    def names(self, text: str) -> None:
        self._names.write_text(text)

    def page(self, *here: str) -> str:
        """Return the page, where some names exist."""
        text: str = self._arrays.render(
            *self._arrays.read_names(self._names),
            self._arrays.read_report(self._report),
            here.__contains__,
        )
        return text


@pytest.fixture
def folder(arrays: Any, tmp_path: Path) -> Folder:
    return Folder(arrays, tmp_path)


def test_a_name_is_done_when_a_test_that_compares_it_passed(folder: Folder) -> None:
    folder.report(("passed", "array.sum"))
    page = folder.page("array.sum", "array.map_blocks")
    assert page.startswith("1 of 4 names are done: 1 of 3 of NumPy's, 1 of 2 of Dask's.\n")
    assert "The names are those of NumPy 2.4.6 and Dask 2026.8.0." in page
    assert "| `sum` | yes | yes | done |  |" in page
    assert "| `map_blocks` |  | yes | not done | it is here, but no test compares it yet |" in page
    assert page.index("## Functions") < page.index("## fft")


def test_a_name_that_is_not_here_has_a_way_round(folder: Folder) -> None:
    """As the error has it, with nothing in it that Markdown would take for its own."""
    folder.report(("passed", "array.sum"))
    page = folder.page("array.sum")
    assert "| `put` | yes |  | not done | arrays are not changed in place; use where" in page
    assert "| `fft.fftfreq` | yes |  | not done | use from\\_array(numpy.fft.fftfreq(n)) |" in page


def test_text_is_left_as_it_is(arrays: Any) -> None:
    assert arrays._escaped("x[:, None] ** a_b | `c`") == r"x\[:, None\] \*\* a\_b \| \`c\`"


def test_one_failure_outweighs_a_pass(folder: Folder) -> None:
    folder.report(("passed", "array.sum"), ("failed", "array.sum"))
    assert "| `sum` | yes | yes | not done: its test failed |  |" in folder.page("array.sum")


def test_without_a_report_the_page_says_that_no_test_ran(folder: Folder) -> None:
    page = folder.page("array.sum")
    assert page.startswith("**No tests ran in this build**")
    assert "done" not in page
    assert page.count("| not tried |") == 4


def test_what_cannot_be_meant_is_an_error(arrays: Any, folder: Folder) -> None:
    folder.report(("passed", "array.nothing"))
    with pytest.raises(arrays.GenerateError, match=r"marked with array\.nothing, which"):
        folder.page()
    for text in ('[a]\n"array.sum" = "scipy"\n', '[a]\n"array.sum" = ""\n', '[a]\n"sum" = "numpy"'):
        folder.names(text)
        with pytest.raises(arrays.GenerateError, match=r"names has (array\.)?sum = '.*'; expected"):
            folder.page()


def test_the_page_is_written_where_it_is_included(arrays: Any, tmp_path: Path) -> None:
    """From the real list."""
    path = arrays.generate(tmp_path / "generated" / "page.inc", report=tmp_path / "none")
    text = path.read_text()
    assert text.startswith("**No tests ran")
    assert "| `linalg.svdvals` | yes |" in text
    assert arrays.OUTPUT.name in (ROOT / "docs" / "array-names.md").read_text()


# ------------------------------------------------------------------------ the real list and marks


def marked() -> Iterator[tuple[str, ast.expr]]:
    """Find each argument of each mark in the tests, without importing them."""
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        text = path.read_text(encoding="utf-8")
        if "mark.proves" not in text:
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.proves":
                for argument in node.args:
                    yield f"{path.relative_to(ROOT)}:{argument.lineno}", argument


def test_every_marked_name_is_in_the_list(arrays: Any) -> None:
    """What is filled in from parameters is looked at when the page is made."""
    _, names = arrays.read_names()
    known = set().union(*names.values())
    for place, argument in marked():
        if isinstance(argument, ast.Constant) and "{" not in str(argument.value):
            assert argument.value in known, f"{place}: {argument.value!r} is not in the list"


def test_the_list_has_all_names_of_numpy(arrays: Any) -> None:
    """Of the version it was made from; with another one there is nothing to compare."""
    versions, names = arrays.read_names()
    if np.__version__ != versions["numpy"]:
        pytest.skip(f"the list is of NumPy {versions['numpy']}, here is {np.__version__}")
    found = importlib.import_module("collect_array_names").collect(["numpy"])
    del found["ma"]  # of which only those that Dask has are listed
    for title, section in found.items():
        listed = {name for name, where in names[title].items() if "numpy" in where}
        assert listed == set(section), title


def test_the_list_has_names_of_dask(arrays: Any) -> None:
    _, names = arrays.read_names()
    of_dask = {n for section in names.values() for n, where in section.items() if "dask" in where}
    assert {"array.map_overlap", "array.Array.rechunk", "array.linalg.tsqr"} <= of_dask
    assert len(of_dask) > 400
