"""Slurm's short form of lists of nodes, read and written without ``scontrol``.

``node[1-3,07-10],gpu[01-02]-ib,a[1-2]b[3-4]`` is a list of names with brackets. A bracket holds
numbers and ranges; a range counts with as many digits as its first number is written with
(``07-10`` is 07, 08, 09, 10, and ``8-10`` is 8, 9, 10). With several brackets in a name, the last
one counts fastest. Order and repetitions are kept both ways.

Slurm (22.05) itself reads no name that goes on after its last bracket, such as
``gpu[01-02]-ib``. Here it is read, for lists that people write, and never written.

What comes out may go on a command line, so a name has only letters, digits, ``.``, ``_`` and
``-``, and does not begin with ``-``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import product
from math import prod

from zcluster.errors import InvalidArgument

__all__ = ["LONGEST_NAME", "MOST_NODES", "compress_nodelist", "expand_nodelist"]

#: How many nodes a list may have; Slurm itself stops a range there.
MOST_NODES = 65536
#: How many characters a name may have, as in DNS.
LONGEST_NAME = 255

#: A piece of plain name, a whole bracket, or one of what else there may be.
_PIECE = re.compile(
    r"(?P<plain>[A-Za-z0-9._-]+)|\[(?P<bracket>[^\[\]]*)\]|(?P<comma>,)|(?P<other>.)", re.DOTALL
)
_RANGE = re.compile(r"([0-9]+)(?:-([0-9]+))?")
_NAME = re.compile(rf"(?!-)[A-Za-z0-9._-]{{1,{LONGEST_NAME}}}")
#: The number that a name ends with is the one that counts.
_NUMBERED = re.compile(r"(.*?)([0-9]+)")
_AROUND = 20  # characters of a list that an error shows on each side


def expand_nodelist(text: str) -> tuple[str, ...]:
    """Return the names of the nodes of a list, in its order.

    Parameters
    ----------
    text : str
        As in ``SLURM_JOB_NODELIST``. An empty one has no nodes.

    Raises
    ------
    InvalidArgument
        If the list cannot be meant, or has more than `MOST_NODES` nodes; the message shows where.
    """
    names: list[str] = []
    for start, parts in _split(text):
        if len(names) + prod(map(len, parts)) > MOST_NODES:
            raise _error(text, start, f"this makes more than {MOST_NODES} nodes")
        if sum(max(map(len, part)) for part in parts) > LONGEST_NAME:
            raise _error(text, start, f"this name has more than {LONGEST_NAME} characters")
        if parts[0][0].startswith("-"):
            raise _error(text, start, "a name begins with '-'")
        names += map("".join, product(*parts))
    return tuple(names)


def compress_nodelist(names: Iterable[str]) -> str:
    """Return the short form of some names of nodes: expanded, it gives the same names again.

    Neighbours in the order given that differ in the number at their end share a bracket.

    Raises
    ------
    InvalidArgument
        If a name is not one of a node, or there are more than `MOST_NODES`.
    """
    names = list(names)
    if len(names) > MOST_NODES:
        raise InvalidArgument(
            f"{len(names)} names of nodes were given, expected {MOST_NODES} at most"
        )
    entries: list[str] = []
    head = ""
    numbers: list[str] = []  # of the names gathered so far, all of them head + number
    for name in names:
        if not _NAME.fullmatch(name):
            raise InvalidArgument(
                f"{name[:LONGEST_NAME]!r} is not the name of a node, expected 1 to {LONGEST_NAME} "
                "letters, digits, '.', '_' and '-', the last not in front"
            )
        match = _NUMBERED.fullmatch(name)
        if numbers and (match is None or match[1] != head):
            entries.append(_entry(head, numbers))
            numbers = []
        if match is None:
            entries.append(name)
        else:
            head = match[1]
            numbers.append(match[2])
    if numbers:
        entries.append(_entry(head, numbers))
    return ",".join(entries)


def _split(text: str) -> Iterator[tuple[int, list[list[str]]]]:
    """Yield where each entry of a list starts, and its parts: the spellings of each, in order."""
    start, parts = 0, list[list[str]]()
    for match in _PIECE.finditer(text):
        at, kind = match.start(), match.lastgroup
        if kind == "plain":
            parts.append([match["plain"]])
        elif kind == "bracket":
            parts.append(_numbers(text, match.start("bracket"), match["bracket"]))
        elif kind == "comma":
            if not parts:
                raise _error(text, at, "there is no name before ','")
            yield start, parts
            start, parts = match.end(), []
        else:
            raise _error(text, at, _wrong(match["other"]))
    if parts:
        yield start, parts
    elif text:
        raise _error(text, len(text), "there is no name after ','")


def _wrong(character: str) -> str:
    """Say what is wrong with a character that is no part of a list."""
    if character == "[":
        return "this '[' has no ']' of its own"
    if character == "]":
        return "this ']' closes nothing"
    return f"{character!r} is not in names of nodes"


def _numbers(text: str, start: int, bracket: str) -> list[str]:
    """Return the numbers of a bracket as they are written; it starts at ``start`` in ``text``."""
    numbers: list[str] = []
    for item in bracket.split(","):
        match = _RANGE.fullmatch(item)
        if match is None:
            what = f"{item!r}" if item else "nothing"
            raise _error(text, start, f"{what} stands where a number or a range belongs")
        first, last = match[1], match[2] or match[1]
        if len(last) < len(first) or (last[0] == "0" and len(last) != len(first)):
            raise _error(text, start, f"the ends of {item!r} are not written with as many digits")
        if len(last) > LONGEST_NAME:
            raise _error(text, start, f"a number has more than {LONGEST_NAME} digits")
        count = int(last) - int(first) + 1
        if count < 1:
            raise _error(text, start, f"{item!r} runs backwards")
        if len(numbers) + count > MOST_NODES:
            raise _error(text, start, f"this makes more than {MOST_NODES} nodes")
        numbers += [f"{int(first) + i:0{len(first)}}" for i in range(count)]
        start += len(item) + 1
    return numbers


def _entry(head: str, numbers: list[str]) -> str:
    """Return what stands for names that differ in a number alone."""
    if len(numbers) == 1:
        return head + numbers[0]
    ranges: list[list[str]] = []
    for number in numbers:
        if ranges and number == _successor(ranges[-1]):
            ranges[-1][1:] = [number]
        else:
            ranges.append([number])
    return f"{head}[{','.join(map('-'.join, ranges))}]"


def _successor(ends: list[str]) -> str:
    """Return the number that a range would go on with."""
    return f"{int(ends[-1]) + 1:0{len(ends[0])}}"


def _error(text: str, at: int, what: str) -> InvalidArgument:
    """Return the error for a list that is wrong at a position."""
    before, after = text[max(0, at - _AROUND) : at], text[at : at + _AROUND]
    ahead = "…" if at > _AROUND else ""
    behind = "…" if len(text) > at + _AROUND else ""
    return InvalidArgument(
        f"the list of nodes {ahead + before + ' >>> ' + after + behind!r} is wrong at >>>, its "
        f"character {at + 1}: {what}; expected a form such as 'node[01-04,7],login1'"
    )
