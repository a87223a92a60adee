"""The documents hold what they say: tests that exist, links that lead somewhere, no lost examples.

Examples in them run as doctests; the scripts in ``examples/`` and the commands of the README are
run by ``tests/processes/test_acceptance.py``.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from zcluster.protocol import messages as protocol

_ROOT = Path(__file__).parents[2]
_PAGES = sorted([*_ROOT.glob("*.md"), *_ROOT.glob("docs/*.md"), *_ROOT.glob("docs/decisions/*.md")])
_ROW = re.compile(r"^\| (\d+) \| [^|]+ \| (done|in part|not yet) \| ([^|]*)\|$", re.MULTILINE)
_TEST = re.compile(r"`([\w/]+)::(\w+)`")


def rows() -> list[tuple[int, str, str]]:
    """Return number, state and remarks of each row of the fault table."""
    text = (_ROOT / "docs" / "faults.md").read_text()
    return [(int(number), state, rest) for number, state, rest in _ROW.findall(text)]


def functions(path: Path) -> set[str]:
    """Return the names of the functions of a file, without importing it."""
    tree = ast.parse(path.read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_the_fault_table_has_every_row_once() -> None:
    assert [number for number, _, _ in rows()] == list(range(1, 76))


def test_every_test_that_the_fault_table_names_exists() -> None:
    known: dict[str, set[str]] = {}
    for number, _, rest in rows():
        for file, name in _TEST.findall(rest):
            place = file if "/" in file else f"processes/{file}"
            path = _ROOT / "tests" / f"{place}.py"
            assert path.is_file(), f"row {number} names {file}, which is not there"
            if file not in known:
                known[file] = functions(path)
            assert name in known[file], f"row {number} names {file}::{name}, which is not there"


def test_a_row_is_done_by_a_test_and_in_part_says_what_is_missing() -> None:
    for number, state, rest in rows():
        if state != "not yet":
            assert _TEST.search(rest), f"row {number} is {state}, and names no test"
        if state == "in part":
            words = _TEST.sub("", rest).strip(" ,;:")
            assert words, f"row {number} does not say what is missing"


@pytest.mark.parametrize("page", _PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#\s]+)", text):
        if "://" in target or target.startswith("generated/"):  # made by the documentation's build
            continue
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_life_of_a_task_is_told_in_real_messages() -> None:
    text = (_ROOT / "docs" / "architecture.md").read_text()
    life = text[text.index("## The life of a task") : text.index("## Who keeps a result")]
    messages = set(protocol.__all__)
    named = set(re.findall(r"`([A-Z][A-Za-z]+)`", life))
    assert named, "the page names no message"
    assert named <= messages, f"no such messages: {sorted(named - messages)}"


def test_the_use_in_the_readme_fits_one_screen() -> None:
    lines = (_ROOT / "README.md").read_text().splitlines()
    end = next(place for place, line in enumerate(lines) if "client.close()" in line)
    assert end < 40
