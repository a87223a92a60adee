"""Where values are found: TOML files and environment variables.

A `Source` is one file or one variable, with its values by flat key: ``worker.memory-limit``.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zcluster.config.defaults import ALIASES, OTHER_VARIABLES, PREFIX, TABLE
from zcluster.errors import InvalidArgument

__all__ = [
    "LAUNCHED",
    "VARIABLE",
    "Source",
    "check_values",
    "files",
    "flatten",
    "nearest",
    "nest",
    "normal",
    "read_environment",
    "read_file",
    "read_text",
    "user_file",
]

#: Names a file or folder to read after the others.
VARIABLE = "ZCLUSTER_CONFIG"

#: How keys of Dask's own configuration begin.
_OF_DASK = frozenset(
    {"admin", "array", "dask", "dataframe", "distributed", "optimization", "temporary-directory"}
)
#: Set for processes that another one of ours started: that one has warned already.
LAUNCHED = "ZCLUSTER_LAUNCHED"
#: What this process was warned of.
_warned: set[str] = set()

_WORDS = {"true": True, "false": False, "none": None}


@dataclass(frozen=True)
class Source:
    """One file, variable or call, and what it sets."""

    name: str
    values: dict[str, Any]


def normal(key: str) -> str:
    """Return the one spelling of a key.

    >>> normal("Worker.Memory_Limit"), normal("worker__memory_limit")
    ('worker.memory-limit', 'worker.memory-limit')
    """
    if not isinstance(key, str) or not key:
        raise InvalidArgument(f"key is {key!r}, expected text such as 'worker.memory-limit'")
    return key.lower().replace("__", ".").replace("_", "-")


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested values by flat key.

    >>> flatten({"worker": {"memory_limit": 0}, "output.rate": 1})
    {'worker.memory-limit': 0, 'output.rate': 1}
    """
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = prefix + normal(key)
        if isinstance(value, Mapping):
            flat |= flatten(value, name + ".")
        else:
            flat[name] = value
    return flat


def nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Return flat values nested.

    >>> nest({"worker.threads": 2, "progress": "auto"})
    {'worker': {'threads': 2}, 'progress': 'auto'}
    """
    nested: dict[str, Any] = {}
    for key, value in flat.items():
        *sections, last = key.split(".")
        inner = nested
        for section in sections:
            below = inner.get(section)
            if not isinstance(below, dict):
                # A value stands where an unknown key wants a section: the section is shown.
                below = inner[section] = {}
            inner = below
        if not isinstance(inner.get(last), dict):
            inner[last] = value
    return nested


def nearest(key: str) -> str:
    """Return the known key that is most like an unknown one.

    >>> nearest("worker.memory"), nearest("thread")
    ('worker.memory-limit', 'worker.threads')
    """
    import difflib  # only for those who erred

    last = key.rpartition(".")[2]
    whole = {name: difflib.SequenceMatcher(None, key, name).ratio() for name in TABLE}
    ends = {
        name: difflib.SequenceMatcher(None, last, name.rpartition(".")[2]).ratio() for name in TABLE
    }
    return max(TABLE, key=lambda name: whole[name] + ends[name])


def check_values(
    values: Mapping[str, Any], source: str, others: Collection[str] = ()
) -> dict[str, Any]:
    """Return flat values with each checked; unknown keys are kept, with a warning.

    Of the keys of Dask's own configuration, which scripts set one by one, all together give one
    warning in a process.

    Parameters
    ----------
    values : mapping
        By flat key.
    source : str
        Where they were found, in the words of an error.
    others : collection of str
        Keys that other packages read.

    Raises
    ------
    InvalidArgument
        If one is of the wrong kind.
    """
    checked = {}
    for key, value in values.items():
        known = TABLE.get(key)
        if known is None and key.partition(".")[0] in _OF_DASK:
            _warn_of_dask(key, source)
        elif known is None and key not in others and not os.environ.get(LAUNCHED):
            warnings.warn(
                f"{source} sets {key}, which nothing reads; did you mean {nearest(key)}? "
                "'zcluster config list' prints all keys",
                stacklevel=3,
            )
        checked[key] = value if known is None else known.check(value, source)
    return checked


def _warn_of_dask(key: str, source: str) -> None:
    if "dask" not in _warned and not os.environ.get(LAUNCHED):
        _warned.add("dask")
        warnings.warn(
            f"{source} sets {key}; keys of dask's own configuration, this and others, have no "
            "effect here. 'zcluster config list' prints the keys that do",
            stacklevel=4,
        )


# ---------------------------------------------------------------------------- files


def user_folder() -> Path:
    """Return the user's folder of configuration, which need not exist."""
    base = os.environ.get("XDG_CONFIG_HOME") or ""
    # The standard says that a relative path is to be ignored.
    return (Path(base) if base.startswith("/") else Path.home() / ".config") / "zcluster"


def user_file() -> Path:
    """Return the file that ``zcluster config set`` writes."""
    return user_folder() / "zcluster.toml"


def files() -> Iterator[Path]:
    """Yield the configuration files there are, what counts most last.

    Raises
    ------
    InvalidArgument
        If the variable names nothing.
    """
    folders = [Path("/etc/zcluster"), Path(sys.prefix, "etc", "zcluster"), user_folder()]
    for folder in dict.fromkeys(folders):
        yield from sorted(folder.glob("*.toml"))
    named = os.environ.get(VARIABLE)
    if not named:
        return
    path = Path(named)
    if path.is_dir():
        yield from sorted(path.glob("*.toml"))
    elif path.exists():
        yield path
    else:
        raise InvalidArgument(
            f"{VARIABLE} names {named!r}, which does not exist; expected a TOML file or a folder "
            "of them: correct the variable, or unset it"
        )


def read_file(path: Path) -> Source:
    """Return what a file sets.

    Raises
    ------
    InvalidArgument
        If it cannot be read, is no TOML, or has a value of the wrong kind.
    """
    import tomllib  # most have no file

    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidArgument(
            f"configuration file {path} cannot be read ({error.strerror}); make it readable, or "
            "remove it"
        ) from None
    except ValueError as error:
        raise InvalidArgument(
            f"configuration file {path} is no TOML ({error}); expected lines such as "
            'memory-limit = "2GB" below [worker]'
        ) from None
    name = str(path)
    return Source(name, check_values(flatten(found), name))


# ---------------------------------------------------------------------- environment


def read_text(key: str, text: str) -> Any:
    """Return the value that text stands for: a Python literal, or the text itself.

    >>> read_text("worker.threads", "2"), read_text("progress", "false"), read_text("x", "2GB")
    (2, False, '2GB')
    >>> read_text("logging.format", "5")
    '5'
    """
    known = TABLE.get(key)
    if text.lower() in _WORDS and text.lower() != "none":
        return _WORDS[text.lower()]
    if text.lower() == "none":
        return None
    if known is not None and known.kind.is_text:
        return text
    import ast  # most set nothing

    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text


def read_environment(environment: Mapping[str, str]) -> list[Source]:
    """Return what environment variables set, each as a source.

    Raises
    ------
    InvalidArgument
        If one has a value of the wrong kind.
    """
    found = []
    for variable in sorted(environment):
        if not variable.startswith(PREFIX) or _is_other(variable):
            continue
        rest = variable.removeprefix(PREFIX)
        if not rest.strip("_"):
            continue
        key = ALIASES.get(variable) or normal(rest)
        name = f"environment variable {variable}"
        values = {key: read_text(key, environment[variable])}
        found.append(Source(name, check_values(values, name)))
    return found


def _is_other(variable: str) -> bool:
    return any(
        variable == other or (other.endswith("_") and variable.startswith(other))
        for other in OTHER_VARIABLES
    )
