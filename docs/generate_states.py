"""Write the page of states from the transition tables of the three cores.

Run by ``conf.py`` at every build, or by hand: ``python docs/generate_states.py``. Each core has
a module ``states`` with ``TRANSITIONS: dict[tuple[State, str], State]``, from (state, event) to
the next state; further machines of the same core are called ``<SOMETHING>_TRANSITIONS``.

The picture has one column for each state and one row for each arrow of the table, so nothing
ever crosses or covers a label, however many there are, and a changed table changes one row.
"""

from __future__ import annotations

import enum
import importlib
import inspect
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from xml.sax.saxutils import escape

OUTPUT = Path(__file__).parent / "generated"
CORES = {
    "scheduler": "zcluster.core.scheduler.states",
    "node": "zcluster.core.node.states",
    "client": "zcluster.core.client.states",
}
TABLE = "TRANSITIONS"

Arrow = tuple[str, str, str]  # from, event, to

# Pixels.
LETTER = 7.2  # width of one letter of the 12 px font, generously
HEADER = 44
ROW = 30
MARGIN = 16


class GenerateError(Exception):
    """A states module is missing or is not what a picture can be made from."""


def load(core: str, module_name: str) -> ModuleType:
    """Import a core's states module."""
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise GenerateError(
            f"the {core} core has no {module_name} ({error}); expected a module with "
            f"{TABLE}: dict[tuple[State, str], State]. Write it, or take the core out of CORES."
        ) from error


def tables(module: ModuleType) -> dict[str, list[Arrow]]:
    """Return the arrows of each machine of a core, by the machine's name."""
    if not hasattr(module, TABLE):
        raise GenerateError(f"{module.__name__} has no {TABLE}; expected a table of transitions.")
    found = {}
    for name, value in vars(module).items():
        if name == TABLE or name.endswith("_" + TABLE):
            machine = name.removesuffix(TABLE).strip("_").lower().replace("_", " ")
            found[machine] = arrows(f"{module.__name__}.{name}", value)
    return found


def arrows(name: str, table: object) -> list[Arrow]:
    """Return a table as (from, event, to), in its own order."""
    if not isinstance(table, Mapping) or not table:
        raise GenerateError(f"{name} is {table!r}; expected {{(state, event): state}}.")
    found = []
    for key, after in table.items():
        if not (isinstance(key, tuple) and len(key) == 2):
            raise GenerateError(f"{name} has the key {key!r}; expected (state, event).")
        found.append((word(name, key[0]), word(name, key[1]), word(name, after)))
    return found


def word(table: str, thing: object) -> str:
    """Return how a state or an event is called on the page."""
    if isinstance(thing, enum.Enum):
        return thing.name.lower().replace("_", " ")
    if isinstance(thing, type):
        return thing.__name__
    if isinstance(thing, str):
        return thing
    raise GenerateError(
        f"{table} names {thing!r}; expected a member of an Enum, a class or a string, "
        "for a reader has to know what it means."
    )


def states_of(machine: list[Arrow]) -> list[str]:
    """Return the states in order of appearance: the first one is where a life begins."""
    return list(dict.fromkeys(state for before, _, after in machine for state in (before, after)))


def draw(machine: list[Arrow], title: str) -> str:
    """Return the picture of one machine, as SVG."""
    states = states_of(machine)
    gap = _column_width(machine, states)
    middle = {state: MARGIN + gap / 2 + gap * index for index, state in enumerate(states)}
    width = 2 * MARGIN + gap * len(states)
    bottom = HEADER + ROW * len(machine) + MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {bottom:.0f}" '
        f'width="{width:.0f}" height="{bottom:.0f}" font-family="sans-serif" font-size="12">',
        f"<title>{escape(title)}</title>",
        # Its own paper: an image does not know whether the page around it is dark.
        '<rect width="100%" height="100%" rx="6" fill="#fbfbf8"/>',
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" '
        'markerHeight="8" orient="auto"><path d="M0 0 8 4 0 8z" fill="#234"/></marker></defs>',
    ]
    for state, x in middle.items():
        parts += _draw_state(state, x, bottom)
    for index, (before, event, after) in enumerate(machine):
        y = HEADER + ROW * (index + 0.75)
        parts += _draw_arrow(middle[before], middle[after], y, event)
    return "\n".join([*parts, "</svg>", ""])


def _column_width(machine: list[Arrow], states: list[str]) -> float:
    """Return a width at which every label fits over its own arrow."""
    place = {state: index for index, state in enumerate(states)}
    widest = max(len(state) for state in states) * LETTER + 24
    for before, event, after in machine:
        columns = abs(place[before] - place[after])
        # A loop's label stands to the right of the loop and has half a column.
        text = len(event) * LETTER
        needed = 2 * (text + 28) if columns == 0 else text + 24
        widest = max(widest, needed / max(columns, 1))
    return widest


def _draw_state(state: str, x: float, bottom: float) -> list[str]:
    width = len(state) * LETTER + 12
    return [
        f'<line x1="{x:.1f}" y1="{HEADER - 8}" x2="{x:.1f}" y2="{bottom - 8:.1f}" '
        'stroke="#bbc" stroke-dasharray="2 3"/>',
        f'<rect x="{x - width / 2:.1f}" y="12" width="{width:.1f}" height="24" rx="12" '
        'fill="#dde7f0" stroke="#567"/>',
        f'<text x="{x:.1f}" y="28" text-anchor="middle" fill="#123">{escape(state)}</text>',
    ]


def _draw_arrow(start: float, end: float, y: float, event: str) -> list[str]:
    if start == end:
        path = f"M{start:.1f} {y - 7:.1f} h18 v10 h-18"
        place = f'x="{start + 24:.1f}" y="{y + 2:.1f}"'
    else:
        path = f"M{start:.1f} {y:.1f} H{end:.1f}"
        place = f'x="{(start + end) / 2:.1f}" y="{y - 5:.1f}" text-anchor="middle"'
    label = escape(event)
    return [
        f'<circle cx="{start:.1f}" cy="{y - 7 if start == end else y:.1f}" r="2.5" fill="#234"/>',
        f'<path d="{path}" fill="none" stroke="#234" marker-end="url(#tip)"/>',
        # Drawn twice, the first time as a pale border: a dashed line may run behind the text.
        f'<text {place} fill="none" stroke="#fbfbf8" stroke-width="3">{label}</text>',
        f'<text {place} fill="#234">{label}</text>',
    ]


def describe(machine: list[Arrow]) -> list[str]:
    """Return the table of one machine, in Markdown: what each event does in each state."""
    lines = ["| in state | event | goes to |", "| --- | --- | --- |"]
    for before, event, after in machine:
        lines.append(f"| {before} | {event} | {'(stays)' if before == after else after} |")
    return [*lines, ""]


def generate(output: Path = OUTPUT, cores: Mapping[str, str] = CORES) -> Path:
    """Write the page and its pictures, and return the page's path."""
    lines = ["# States", "", "Made from the transition tables of the cores. A pair of state and"]
    lines += ["event that is not in a table is an error that names both and the key.", ""]
    output.mkdir(parents=True, exist_ok=True)
    for core, module_name in cores.items():
        module = load(core, module_name)
        lines += [f"## The {core}'s", "", _opening(module), "", f"Table: `{module_name}`.", ""]
        for machine, found in tables(module).items():
            title = f"{core} {machine}".strip()
            picture = f"states-{title.replace(' ', '-')}.svg"
            (output / picture).write_text(draw(found, f"States: {title}"), encoding="utf-8")
            if machine:
                lines += [f"### {machine.capitalize()}", ""]
            lines += [f"![States of the {title} and the events between them]({picture})", ""]
            lines += describe(found)
    page = output / "states.md"
    page.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")
    return page


def _opening(module: ModuleType) -> str:
    """Return the first paragraph of the module's docstring."""
    return (inspect.getdoc(module) or "").partition("\n\n")[0]


if __name__ == "__main__":
    try:
        print(generate())
    except GenerateError as error:
        sys.exit(f"{Path(__file__).name}: {error}")
