"""Words that those who decide about the disk share with those who use it: no I/O here."""

from __future__ import annotations

from typing import NamedTuple

from zcluster.storage.arena import Range

__all__ = ["FIRST_SLAB", "DiskJob", "is_on_disk"]

#: Slabs from this number on are files on disk; below it they are memory.
FIRST_SLAB = 1 << 20


def is_on_disk(place: Range) -> bool:
    """Tell a range on disk from one in memory.

    Examples
    --------
    >>> is_on_disk(Range(FIRST_SLAB, 0, 4096)), is_on_disk(Range(0, 0, 4096))
    (True, False)
    """
    return place.slab >= FIRST_SLAB


class DiskJob(NamedTuple):
    """Something to be done with a range on disk.

    Attributes
    ----------
    ticket : int
        What the answer is called by.
    kind : str
        ``write`` (claim the range, and copy a result into it), ``claim`` (the range, which
        somebody else will write to), ``sum`` (read what somebody else wrote), ``check``.
    place : Range
    size : int
        Bytes of the result.
    source : Range, optional
        Where in memory it is, if it is to be written.
    sums : tuple of int
        Its checksums, if it is to be checked.
    """

    ticket: int
    kind: str
    place: Range
    size: int
    source: Range | None = None
    sums: tuple[int, ...] = ()
