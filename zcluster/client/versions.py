"""Whether the parts of a cluster run with versions that fit together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeAlias

from zcluster.errors import VersionMismatch

__all__ = ["COMPARED", "Versions", "check_versions", "differences"]

#: The versions of one process, by package; None where a package is not installed.
Versions: TypeAlias = Mapping[str, str | None]

#: What travels between processes is made by these, so they are compared unasked.
COMPARED = ("cloudpickle", "numpy", "pandas", "tblib")


def differences(by_process: Mapping[str, Versions]) -> dict[str, dict[str, str | None]]:
    """Return the packages of which two processes have unlike versions, with all of theirs.

    A process that says nothing of a package is not compared for it.

    Examples
    --------
    >>> differences({"client": {"numpy": "2.0"}, "w-0": {"numpy": "2.1"}, "w-1": {}})
    {'numpy': {'client': '2.0', 'w-0': '2.1'}}
    """
    packages = dict.fromkeys(name for versions in by_process.values() for name in versions)
    found = {}
    for package in packages:
        said = {who: said[package] for who, said in by_process.items() if package in said}
        if len(set(said.values())) > 1:
            found[package] = said
    return found


def check_versions(by_process: Mapping[str, Versions]) -> None:
    """Raise with a table if versions differ.

    Raises
    ------
    VersionMismatch
        If they do.
    """
    found = differences(by_process)
    if found:
        raise VersionMismatch(
            "versions differ between the processes of the cluster; install the same ones "
            f"everywhere:\n{_table(found)}"
        )


def _table(found: Mapping[str, Mapping[str, str | None]]) -> str:
    rows: list[tuple[str, str, str]] = [("package", "version", "where")]
    for package, said in found.items():
        groups: dict[str | None, list[str]] = {}
        for who, version in said.items():
            groups.setdefault(version, []).append(who)
        rows += [(package, str(version or "none"), _some(who)) for version, who in groups.items()]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    return "\n".join(f"{a:{widths[0]}}  {b:{widths[1]}}  {c}" for a, b, c in rows)


def _some(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
