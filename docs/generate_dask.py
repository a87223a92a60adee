"""Write the table of Dask's names: which of them work here, as the tests found.

Run by ``conf.py`` at every build, or by hand: ``python docs/generate_dask.py``. The names are in
``dask_names.toml``. What works is in ``build/dask-names.json``, which ``tests/conftest.py`` writes:
a name is done if a test that carries it (``@pytest.mark.dask("Client.submit")``) ran and passed,
and none that carries it failed. Nothing else makes a name done.
"""

from __future__ import annotations

import json
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
NAMES = HERE / "dask_names.toml"
REPORT = HERE.parent / "build" / "dask-names.json"
OUTPUT = HERE / "generated" / "dask-names.inc"  # a part of a page, and no page of its own

NO_REPORT = """\
**No tests ran in this build**, so nothing here is known to work: `make test` comes before `make
docs`.
"""

#: How modules are called here; every other name is spelled as in Dask.
MODULES = {"dask.": "zcluster.", "distributed.": "zcluster.distributed."}


class GenerateError(Exception):
    """The list of names or the report of the tests is not what a table can be made from."""


@dataclass(frozen=True)
class Name:
    """One public name of Dask."""

    name: str
    here: str  # how it is spelled here, in Markdown
    note: str
    is_renamed: bool  # the list itself says how it is spelled here


def read_names(path: Path = NAMES) -> dict[str, list[Name]]:
    """Return the names by section, in the order of the file."""
    with path.open("rb") as file:
        sections = tomllib.load(file)
    names = {
        title: [_name(name, value) for name, value in section.items()]
        for title, section in sections.items()
    }
    seen: set[str] = set()
    for name in each(names):
        if name.name in seen:
            raise GenerateError(f"{path.name} has {name.name} twice; say it in one section.")
        seen.add(name.name)
    return names


def each(names: Mapping[str, list[Name]]) -> Iterator[Name]:
    """Go through the names of all sections."""
    for section in names.values():
        yield from section


def _name(name: str, value: Any) -> Name:
    if isinstance(value, str):
        return Name(name, _spelled_here(name), value, False)
    if isinstance(value, dict) and value.keys() == {"here", "note"}:
        return Name(name, value["here"], value["note"], True)
    raise GenerateError(
        f'the name {name} has {value!r}; expected a note, or {{here = "...", note = "..."}}.'
    )


def _spelled_here(name: str) -> str:
    for there, here in MODULES.items():
        if name.startswith(there):
            return f"`{here}{name.removeprefix(there)}`"
    return f"`{name}`"


def read_report(path: Path = REPORT) -> dict[str, str] | None:
    """Return each name's outcome over all tests that carry it, or None where no test ran."""
    if not path.exists():
        return None
    outcomes: dict[str, str] = {}
    for test, line in json.loads(path.read_text(encoding="utf-8")).items():
        outcome = line["outcome"]
        if outcome not in ("passed", "failed", "skipped"):
            raise GenerateError(
                f"{path.name} says that {test} {outcome}; expected passed, failed or skipped. "
                "Delete the file, and run the tests again."
            )
        for name in line["names"]:
            if outcome == "failed" or outcomes.get(name) in (None, "skipped"):
                outcomes[name] = outcome
    return outcomes


def render(names: Mapping[str, list[Name]], outcomes: Mapping[str, str] | None) -> str:
    """Return the tables, in Markdown."""
    check(names, outcomes or {})
    lines = [NO_REPORT if outcomes is None else _total(names, outcomes)]
    for title, section in names.items():
        lines += [
            f"### {title}",
            "",
            "| in Dask | here | state | note |",
            "| --- | --- | --- | --- |",
        ]
        lines += [_row(name, outcomes) for name in section]
        lines.append("")
    return "\n".join(lines)


def check(names: Mapping[str, list[Name]], carried: Mapping[str, Any]) -> None:
    """Refuse names that tests carry and the list lacks: they would be on no page."""
    unknown = carried.keys() - {name.name for name in each(names)}
    if unknown:
        raise GenerateError(
            f"tests are marked with {', '.join(sorted(unknown))}, which {NAMES.name} lacks; "
            "add each with its section there, or correct the mark."
        )


def _total(names: Mapping[str, list[Name]], outcomes: Mapping[str, str]) -> str:
    every = [name.name for name in each(names)]
    done = sum(outcomes.get(name) == "passed" for name in every)
    return f"{done} of {len(every)} names are done.\n"


def _row(name: Name, outcomes: Mapping[str, str] | None) -> str:
    outcome = None if outcomes is None else outcomes.get(name.name)
    is_done = outcome == "passed"
    state = "done" if is_done else "not done"
    if outcomes is None:
        state = "not tried"
    elif outcome == "failed":
        state = "not done: its test failed"
    here = name.here if is_done or name.is_renamed else ""
    return f"| `{name.name}` | {here} | {state} | {name.note} |"


def generate(output: Path = OUTPUT, names: Path = NAMES, report: Path = REPORT) -> Path:
    """Write the tables, and return their path."""
    text = render(read_names(names), read_report(report))
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(text, encoding="utf-8")
    return output


if __name__ == "__main__":
    try:
        print(generate())
    except GenerateError as error:
        sys.exit(f"{Path(__file__).name}: {error}")
