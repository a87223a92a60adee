"""Write the table of NumPy's and Dask's names of arrays: what is here, the way round the rest.

Run by ``conf.py`` at every build, or by hand: ``python docs/generate_array.py``. The names are in
``array_names.toml``, which `collect_array_names.py` writes. What works is in
``build/array-names.json``, which ``tests/conftest.py`` writes: a name is done if a test that
compares it with NumPy, and says so (``@pytest.mark.proves("array.sum")``), ran and passed, and none
that says so failed. Nothing else makes a name done. The ways round are those of
`zcluster.array.missing`, which the errors tell too.
"""

from __future__ import annotations

import importlib
import re
import sys
import tomllib
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from generate_dask import NO_REPORT, GenerateError, read_report

from zcluster.array.missing import way_round

HERE = Path(__file__).parent
NAMES = HERE / "array_names.toml"
REPORT = HERE.parent / "build" / "array-names.json"
OUTPUT = HERE / "generated" / "array-names.inc"  # a part of a page, and no page of its own

LIBRARIES = {"numpy": "NumPy", "dask": "Dask"}
PREFIX = "array."  # of all names in the list

#: By section and name, the libraries that have it.
Names = dict[str, dict[str, list[str]]]


def read_names(path: Path = NAMES) -> tuple[dict[str, str], Names]:
    """Return the versions that the names are from, and the names."""
    with path.open("rb") as file:
        sections = tomllib.load(file)
    versions = sections.pop("versions", {})
    names = {
        title: {name: _libraries(path, name, where) for name, where in section.items()}
        for title, section in sections.items()
    }
    return versions, names


def _libraries(path: Path, name: str, where: Any) -> list[str]:
    libraries = where.split() if isinstance(where, str) else []
    if not libraries or set(libraries) - LIBRARIES.keys() or not name.startswith(PREFIX):
        raise GenerateError(
            f"{path.name} has {name} = {where!r}; expected a name that begins with {PREFIX!r}, and "
            'who has it: "numpy", "dask" or "numpy dask". Run collect_array_names.py.'
        )
    return libraries


def is_here(name: str) -> bool:
    """Tell whether a name of the list exists, tested or not."""
    value: Any = importlib.import_module("zcluster")
    try:
        importlib.import_module("zcluster.array")
        for part in name.split("."):
            value = getattr(value, part)
    except AttributeError:
        return False
    return True


def render(
    versions: Mapping[str, str],
    names: Names,
    outcomes: Mapping[str, str] | None,
    exists: Callable[[str], bool] = is_here,
) -> str:
    """Return the tables, in Markdown."""
    check(names, outcomes or ())
    libraries = " and ".join(f"{LIBRARIES[name]} {version}" for name, version in versions.items())
    lines = [NO_REPORT if outcomes is None else _total(names, outcomes)]
    lines += [f"The names are those of {libraries}.", ""]
    for title, section in names.items():
        lines += [
            f"## {title}",
            "",
            "| name | NumPy | Dask | state | instead |",
            "| --- | --- | --- | --- | --- |",
        ]
        lines += [_row(name, where, outcomes, exists) for name, where in section.items()]
        lines.append("")
    return "\n".join(lines)


def check(names: Names, carried: Collection[str]) -> None:
    """Refuse names that tests carry and the list lacks: they would be on no page."""
    unknown = set(carried).difference(*names.values())
    if unknown:
        raise GenerateError(
            f"tests are marked with {', '.join(sorted(unknown))}, which {NAMES.name} lacks; "
            "correct the marks, or run collect_array_names.py with a newer NumPy or Dask."
        )


def _total(names: Names, outcomes: Mapping[str, str]) -> str:
    every = {name: where for section in names.values() for name, where in section.items()}

    def share(of: Iterable[str]) -> str:
        of = list(of)
        return f"{sum(outcomes.get(name) == 'passed' for name in of)} of {len(of)}"

    parts = [
        f"{share(name for name, where in every.items() if library in where)} of {title}'s"
        for library, title in LIBRARIES.items()
    ]
    return f"{share(every)} names are done: {', '.join(parts)}.\n"


def _row(
    name: str,
    where: list[str],
    outcomes: Mapping[str, str] | None,
    exists: Callable[[str], bool],
) -> str:
    outcome = None if outcomes is None else outcomes.get(name)
    state = "done" if outcome == "passed" else "not done"
    if outcomes is None:
        state = "not tried"
    elif outcome == "failed":
        state = "not done: its test failed"
    instead = ""
    if not exists(name):
        instead = _escaped(way_round(name.removeprefix(PREFIX)))
    elif state == "not done":
        instead = "it is here, but no test compares it yet"
    marks = " | ".join("yes" if library in where else "" for library in LIBRARIES)
    return f"| `{name.removeprefix(PREFIX)}` | {marks} | {state} | {instead} |"


def _escaped(text: str) -> str:
    """Return text that Markdown leaves as it is."""
    return re.sub(r"([\\`*_\[\]<>|~])", r"\\\1", text)


def generate(output: Path = OUTPUT, names: Path = NAMES, report: Path = REPORT) -> Path:
    """Write the tables, and return their path."""
    text = render(*read_names(names), read_report(report))
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(text, encoding="utf-8")
    return output


if __name__ == "__main__":
    try:
        print(generate())
    except GenerateError as error:
        sys.exit(f"{Path(__file__).name}: {error}")
