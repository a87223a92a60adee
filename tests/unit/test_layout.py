"""The shape of the tree: what the package list, the build and the reader rely on."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LONGEST = 650  # lines: a file is read in one sitting
SOURCES = ("zcluster", "launchers", "tests", "docs", "examples", "benchmarks")
GENERATED = {"__pycache__", "_build", "generated"}


def python_files(*folders: str) -> Iterator[Path]:
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            if not GENERATED.intersection(path.parts):
                yield path


def packages_on_disk() -> set[str]:
    found = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for path in python_files("zcluster", "launchers")
    }
    return {
        name.replace("launchers", "zcluster.launchers", 1) if name.startswith("launchers") else name
        for name in found
    }


def test_package_list_names_every_folder_with_python_files() -> None:
    """A folder that is not listed works in the checkout and is missing from the wheel."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    listed = project["tool"]["setuptools"]["packages"]
    assert len(listed) == len(set(listed))
    assert set(listed) == packages_on_disk()


def test_every_package_has_a_docstring_file() -> None:
    """Without ``__init__.py`` a folder is a namespace: import contracts do not look inside."""
    folders = {path.parent for path in python_files("zcluster", "launchers")}
    assert [str(folder) for folder in folders if not (folder / "__init__.py").is_file()] == []


def test_launchers_are_never_imported_by_the_package() -> None:
    """They are found by entry point; import-linter would take such an import for `zcluster`."""
    named = re.compile(r"zcluster[.]launchers|from zcluster import[^#]*\blaunchers\b")
    loaded = re.compile(r"(import|from|import_module\()[ \"']*zcluster[.]launchers")
    found = []
    for path in python_files("zcluster"):
        # Finding a launcher takes the name of the entry point group, in this one place.
        pattern = loaded if path.name == "launching.py" else named
        found += [str(path) for line in path.read_text().splitlines() if pattern.search(line)]
    assert found == []


@pytest.mark.parametrize(
    "path", [*python_files(*SOURCES)], ids=lambda path: str(path.relative_to(ROOT))
)
def test_file_compiles_and_fits_a_sitting(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    compile(text, str(path), "exec", dont_inherit=True)
    lines = text.count("\n")
    assert lines <= LONGEST, (
        f"{lines} lines, at most {LONGEST}: find what it is two of and cut there"
    )


def test_types_are_announced() -> None:
    """Without this marker type checkers treat everything imported from here as untyped."""
    assert (ROOT / "zcluster" / "py.typed").is_file()


def test_version_is_said_once() -> None:
    """The build reads it from the text, so it must be a plain assignment."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "version" in project["project"]["dynamic"]
    assert "version" not in project["project"]
    text = (ROOT / "zcluster" / "version.py").read_text()
    assert text.count('\n__version__ = "') == 1
