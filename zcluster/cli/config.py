"""``zcluster config``: show the configuration, say where a value comes from, change it."""

from __future__ import annotations

import json
import os
import re
import tomllib
from pathlib import Path
from typing import Any

import click

from zcluster import config as configuration
from zcluster.config.defaults import KEYS, TABLE
from zcluster.config.sources import flatten, nearest, normal, read_text, user_file
from zcluster.errors import InvalidArgument, ZClusterError

__all__ = ["config", "edited"]


@click.group("config", invoke_without_command=True)
@click.pass_context
def config(ctx: click.Context) -> None:
    """Show and change the configuration."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


@config.command("list")
def list_keys() -> None:
    """Print every key with its value, and who set it unless it is the default."""
    width = max(len(key.name) for key in KEYS)
    for key in KEYS:
        last = configuration.places(key.name)[-1]
        where = "" if last.source == "default" else f"    # {last.source}"
        click.echo(f"{key.name:<{width}}  {_shown(last.value)}{where}")


@config.command("get")
@click.argument("key")
def get_key(key: str) -> None:
    """Print the value of KEY, or of a section."""
    value = configuration.get(key)
    if not isinstance(value, dict):
        click.echo(_shown(value))
        return
    for name, inner in flatten(value, normal(key) + ".").items():
        click.echo(f"{name}  {_shown(inner)}")


@config.command("find")
@click.argument("key")
def find_key(key: str) -> None:
    """Print every place that sets KEY; the last one counts."""
    name = _known(key)
    found = configuration.places(name)
    width = max(len(place.source) for place in found)
    for place in found:
        mark = "*" if place is found[-1] else " "
        click.echo(f"{mark} {place.source:<{width}}  {_shown(place.value)}")
    click.echo(f"{TABLE[name].sentence} Expected: {TABLE[name].expected}.")


@config.command("set", context_settings={"ignore_unknown_options": True})
@click.argument("key")
@click.argument("value")
def set_key(key: str, value: str) -> None:
    """Write KEY = VALUE into the user's file."""
    name = _known(key)
    found = TABLE[name].check(read_text(name, value), "the command line")
    if found is None:
        raise InvalidArgument(
            f"TOML has no value for none; to unset {name}, take its line out of {user_file()}"
        )
    path = user_file()
    try:
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        text = edited(text, name, found, path)
        path.parent.mkdir(parents=True, exist_ok=True)
        _replace(path, text)
    except OSError as error:
        raise ZClusterError(
            f"cannot write {path} ({error.strerror}); make its folder writable, or set "
            f"{TABLE[name].variable} in the environment"
        ) from None
    click.echo(f"{name} = {_shown(found)} in {path}", err=True)
    configuration.refresh()
    counts = configuration.places(name)[-1]
    if counts.source != str(path):
        click.echo(
            f"WARNING: {counts.source} sets it to {_shown(counts.value)}, and counts more", err=True
        )


def _known(key: str) -> str:
    name = normal(key)
    if name not in TABLE:
        raise InvalidArgument(
            f"configuration has no key {key!r}; did you mean {nearest(name)!r}? "
            "'zcluster config list' prints all keys"
        )
    return name


def _shown(value: Any) -> str:
    """Return a value as people and TOML write it.

    >>> _shown(True), _shown(None), _shown("2GB"), _shown(3.0)
    ('true', 'none', '2GB', '3.0')
    """
    if isinstance(value, bool):
        return str(value).lower()
    return "none" if value is None else str(value)


def _replace(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    other = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        other.write_text(text, encoding="utf-8")
        os.replace(other, path)
    finally:
        other.unlink(missing_ok=True)


def edited(text: str, key: str, value: Any, path: Path | str = "the file") -> str:
    r"""Return the text of a TOML file with a key set, and all else as it was.

    Raises
    ------
    InvalidArgument
        If it is no TOML, or sets the key in a way that takes a person to change.

    Examples
    --------
    >>> print(edited("# mine\n[worker]\nthreads = 2\n", "worker.memory-limit", "2GB"))
    # mine
    [worker]
    memory-limit = "2GB"
    threads = 2
    <BLANKLINE>
    """
    section, _, last = key.rpartition(".")
    line = f"{last} = {_as_toml(value)}"
    lines = text.splitlines()
    try:
        wanted = flatten(tomllib.loads(text)) | {key: value}
        result = "\n".join(_with_line(lines, section, last, line)) + "\n"
        if flatten(tomllib.loads(result)) == wanted:
            return result
    except tomllib.TOMLDecodeError:
        pass
    where = f" below [{section}]" if section else " at the top"
    raise InvalidArgument(f"{path} cannot be changed by a program; set {line}{where} by hand")


def _with_line(lines: list[str], section: str, name: str, line: str) -> list[str]:
    headers = [place for place, text in enumerate(lines) if text.lstrip().startswith("[")]
    start = 0
    if section:
        found = [place for place in headers if lines[place].split("#")[0].strip() == f"[{section}]"]
        if not found:
            return [*lines, *([""] if lines else []), f"[{section}]", line]
        start = found[0] + 1
    stop = next((place for place in headers if place >= start), len(lines))
    spelled = re.compile(rf"\s*[\"']?{name.replace('-', '[-_]')}[\"']?\s*=", re.IGNORECASE)
    for place in range(start, stop):
        if spelled.match(lines[place]):
            return [*lines[:place], line, *lines[place + 1 :]]
    return [*lines[:start], line, *lines[start:]]


def _as_toml(value: bool | int | float | str) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    # A JSON string is one of TOML, and so are its numbers.
    return json.dumps(value)
