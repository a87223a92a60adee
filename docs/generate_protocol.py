"""Write the protocol page from the messages themselves.

Run by ``conf.py`` at every build, or by hand: ``python docs/generate_protocol.py``. What the
page says about a message is its docstring and its fields, in the order in which they travel.
A message that stands in no group is an error here: nobody could say it.
"""

from __future__ import annotations

import importlib
import inspect
import re
import sys
import typing
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import msgspec

MODULE = "zcluster.protocol.messages"
OUTPUT = Path(__file__).parent / "generated" / "protocol.md"

GROUPS = {
    "CLIENT_TO_SCHEDULER": "From a client to the scheduler",
    "SCHEDULER_TO_CLIENT": "From the scheduler to a client",
    "SCHEDULER_TO_NODE": "From the scheduler to a node",
    "NODE_TO_SCHEDULER": "From a node to the scheduler",
    "NODE_TO_WORKER": "From a nanny to its worker",
    "WORKER_TO_NODE": "From a worker to its nanny",
    "DATA_PORT": "At a data port, between nodes and clients",
}

Struct = type[msgspec.Struct]


class GenerateError(Exception):
    """The messages module is not what this page can be made from."""


def render(module: ModuleType) -> str:
    """Return the whole page, in Markdown."""
    groups = {name: group_of(module, name) for name in GROUPS}
    _check_all_grouped(module, groups)
    records = records_inside(groups)
    written: set[Struct] = set()
    lines = ["# Protocol", ""]
    lines += [f"Made from `{module.__name__}`; edit that file, not this page.", ""]
    lines += [as_markdown(inspect.getdoc(module) or ""), "", "## Overview", ""]
    for name, title in GROUPS.items():
        lines += [f"**{title}**: {', '.join(link(cls) for cls in groups[name])}", ""]
    for name, title in GROUPS.items():
        lines += [f"## {title}", ""]
        earlier = [cls for cls in groups[name] if cls in written]
        if earlier:
            lines += [f"Described above: {', '.join(link(cls) for cls in earlier)}.", ""]
        for cls in groups[name]:
            if cls not in written:
                written.add(cls)
                lines += describe(cls, records)
    lines += ["## Records inside messages", ""]
    for cls in records:
        lines += describe(cls, records)
    return "\n".join(lines).rstrip() + "\n"


def group_of(module: ModuleType, name: str) -> tuple[Struct, ...]:
    """Return one group of messages, checked."""
    found = getattr(module, name, None)
    if not isinstance(found, tuple) or not found:
        raise GenerateError(
            f"{module.__name__}.{name} is {found!r}; expected a tuple of message classes. "
            f"Define it there, or take {name} out of GROUPS in {Path(__file__).name}."
        )
    for cls in found:
        if not is_struct(cls):
            raise GenerateError(
                f"{module.__name__}.{name} holds {cls!r}; expected msgspec.Struct classes only."
            )
        if not own_docstring(cls):
            raise GenerateError(f"{cls.__name__} has no docstring: write what it says, and when.")
    return found


def _check_all_grouped(module: ModuleType, groups: dict[str, tuple[Struct, ...]]) -> None:
    grouped = {cls for group in groups.values() for cls in group}
    for cls in vars(module).values():
        if is_struct(cls) and cls.__struct_config__.tag is not None and cls not in grouped:
            raise GenerateError(
                f"{cls.__name__} is a message (it has a tag) and stands in no group of "
                f"{module.__name__}; add it to the tuple of those who say it, or delete it."
            )


def records_inside(groups: dict[str, tuple[Struct, ...]]) -> list[Struct]:
    """Return the untagged structs that messages hold, in order of appearance."""
    found: list[Struct] = []
    waiting = [cls for group in groups.values() for cls in group]
    while waiting:
        for inner in structs_in(waiting.pop(0)):
            if inner.__struct_config__.tag is None and inner not in found:
                found.append(inner)
                waiting.append(inner)
    return found


def structs_in(cls: Struct) -> Iterator[Struct]:
    """Yield the structs that a struct's annotations name, however deep."""
    waiting = list(typing.get_type_hints(cls).values())
    while waiting:
        annotation = waiting.pop(0)
        if is_struct(annotation):
            yield annotation
        waiting += typing.get_args(annotation)


def is_struct(found: object) -> typing.TypeGuard[Struct]:
    """Tell a message or record class from the rest of a module."""
    return isinstance(found, type) and issubclass(found, msgspec.Struct)


def describe(cls: Struct, records: list[Struct]) -> list[str]:
    """Return the lines about one struct: heading, docstring, table of fields."""
    tag = cls.__struct_config__.tag
    lines = [f"### {cls.__name__}", ""]
    if tag is not None:
        lines += [f"Tag `{tag}`.", ""]
    lines += [as_markdown(own_docstring(cls)), ""]
    fields = msgspec.structs.fields(cls)
    if not fields:
        return [*lines, "No fields.", ""]
    lines += ["| field | type | default |", "| --- | --- | --- |"]
    written = annotations_of(cls)
    for field in fields:
        text = written.get(field.name, str(field.type)).replace("|", r"\|")
        inner = [record for record in records if re.search(rf"\b{record.__name__}\b", text)]
        links = " ".join(f"({link(record)})" for record in inner)
        lines.append(f"| `{field.name}` | `{text}` {links} | {default_of(field)} |")
    return [*lines, ""]


def annotations_of(cls: Struct) -> dict[str, str]:
    """Return the annotations as they are written in the source, base classes first."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        for name, annotation in vars(base).get("__annotations__", {}).items():
            if not isinstance(annotation, str):
                annotation = inspect.formatannotation(annotation)
            found[name] = annotation
    return found


def default_of(field: msgspec.structs.FieldInfo) -> str:
    """Return the default as code, or nothing for a field that must be given."""
    if field.default is not msgspec.NODEFAULT:
        return f"`{field.default!r}`"
    if field.default_factory is not msgspec.NODEFAULT:
        return f"`{field.default_factory()!r}`"
    return ""


def own_docstring(cls: type) -> str:
    """Return the class's own docstring; one inherited says nothing about this message."""
    return inspect.cleandoc(cls.__dict__.get("__doc__") or "")


def link(cls: Struct) -> str:
    """Return a link to a struct's section."""
    return f"[{cls.__name__}](#{cls.__name__.lower()})"


def as_markdown(docstring: str) -> str:
    """Turn the little reStructuredText that docstrings use into Markdown.

    Headings underlined with dashes sink below the page's own; a term with an indented text
    under it becomes a definition; a double colon introduces an indented block of code.
    """
    docstring = re.sub(r"^(\S.*)\n-{3,}$", r"**\1**\n", docstring, flags=re.MULTILINE)
    docstring = re.sub(r"^(\S.*)\n {4}(?=\S)", r"\1\n:   ", docstring, flags=re.MULTILINE)
    # Definitions in a row stay one list only with a blank line between them.
    docstring = re.sub(r"^( {4}\S.*|: {3}.*)\n(?=\S)", r"\1\n\n", docstring, flags=re.MULTILINE)
    return docstring.replace("::\n", ":\n")


def generate(output: Path = OUTPUT, module: str = MODULE) -> Path:
    """Write the page and return its path."""
    text = render(importlib.import_module(module))
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(text, encoding="utf-8")
    return output


if __name__ == "__main__":
    try:
        print(generate())
    except GenerateError as error:
        sys.exit(f"{Path(__file__).name}: {error}")
