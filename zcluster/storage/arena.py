"""Who may use which bytes of the node's store: allocation and leases, as pure arithmetic.

The store is a few large **slabs** of shared memory. A result lies in one
`Range` of a slab. This file hands ranges out and takes them back; it touches no
memory (`slabs.py` does) and knows no process (a holder is any hashable).

The life of a range::

    free ──allocate──▶ live ──free, no lease──▶ free
                        │ ▲
                  lease │ │ give_back, drop_holder
                        ▼ │
                      leased ──free──▶ waiting ──the last lease returns──▶ free

A process that can see a range, to read it or to write it, holds a lease on it.
That is the whole point: memory is used again only when its owner has freed it
**and** nobody looks at it any more, otherwise a task would see its input change.

Two things decide how ranges are chosen.

- *Memory that was used before is 5 to 30 times faster to write* than memory the
  system must first provide. So every slab has a **top**: bytes below it have been
  handed out at some time, bytes above it never. Free ranges below the tops are
  used first (the smallest that fits, then the lowest); a top rises only when
  none fits.
- *A slab costs only what is below its top*, since the system provides memory
  when it is asked for. So the limit bounds the sum of the tops. When that would
  be passed, slabs that are wholly empty are dropped to make room.

The free ranges are one sorted list of (length, address) and two dicts by start
and end, for joining neighbours: a bisection and a few dict operations per call.
An address is ``slab << 48 | offset``: one integer, and ranges of different slabs
never look like neighbours.

The driver of this file makes the memory follow: after a call it creates what is
in `Arena.new_slabs`, closes what is in `Arena.old_slabs`, and empties both.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Hashable
from typing import NamedTuple

from zcluster.errors import InvalidArgument, InvariantError

__all__ = ["PAGE", "SLAB_SIZE", "Arena", "ArenaStatistics", "NewSlab", "Range"]

PAGE = 4096
SLAB_SIZE = 256 << 20
_SHIFT = 48
_OFFSET = (1 << _SHIFT) - 1


class Range(NamedTuple):
    """A piece of the store: slab number, first byte and length in bytes, in whole pages."""

    slab: int
    offset: int
    length: int


class NewSlab(NamedTuple):
    """A slab that the driver has to create: its number and its size in bytes."""

    slab: int
    size: int


class ArenaStatistics(NamedTuple):
    """What the store holds at one moment, in bytes where not said otherwise."""

    limit: int
    #: Sum of the tops: memory the system has provided, or will when it is written.
    in_slabs: int
    #: Handed out and not yet free again.
    used: int
    #: Of those, under at least one lease.
    leased: int
    #: Of those, freed by their owner: only leases keep them.
    waiting: int
    #: Number of slabs.
    slabs: int
    #: Number of ranges handed out.
    ranges: int


class _Slab:
    __slots__ = ("live", "size", "top")

    def __init__(self, size: int) -> None:
        self.size = size
        self.top = 0
        self.live = 0  # ranges handed out; 0 means that the slab is wholly empty


class Arena:
    """Allocation and leases over slabs that grow on demand.

    Parameters
    ----------
    limit : int
        Most bytes that may lie below the tops of all slabs together.
    slab_size : int
        Size of a slab. A request larger than this gets a slab of its own.
    page : int
        Offsets and lengths are multiples of this: give the system's granularity
        for mappings where that is more than 4096.
    first_slab : int
        The number of the first slab; numbers are never used again.

    Examples
    --------
    >>> arena = Arena(limit=1 << 20)
    >>> a = arena.allocate(5000)
    >>> a
    Range(slab=0, offset=0, length=8192)
    >>> arena.lease(a, "worker-1")
    >>> arena.free(a)                      # not yet free: someone looks at it
    False
    >>> arena.give_back(a, "worker-1")
    True
    >>> arena.allocate(8192) == a
    True
    """

    def __init__(
        self, limit: int, slab_size: int = SLAB_SIZE, page: int = PAGE, first_slab: int = 0
    ) -> None:
        if page < 1 or page & (page - 1):
            raise InvalidArgument(f"page is {page}; it must be a power of two")
        if not page <= slab_size <= _OFFSET or slab_size % page:
            raise InvalidArgument(
                f"slab_size is {slab_size}; it must be a multiple of the page ({page} bytes)"
            )
        if limit < page:
            raise InvalidArgument(
                f"limit is {limit} bytes; a store needs at least one page ({page} bytes)"
            )
        self.limit = limit
        self.slab_size = slab_size
        self.page = page
        #: Slabs the driver has to create; it empties the list.
        self.new_slabs: list[NewSlab] = []
        #: Numbers of slabs the driver has to close; it empties the list.
        self.old_slabs: list[int] = []
        self._slabs: dict[int, _Slab] = {}
        self._next_slab = first_slab
        self._in_slabs = 0
        #: All and only free ranges below a top, as sorted (length, address).
        self._free: list[tuple[int, int]] = []
        #: The same ranges: start -> length, and end -> start.
        self._starts: dict[int, int] = {}
        self._ends: dict[int, int] = {}
        #: All and only ranges handed out -> number of leases.
        self._leases: dict[Range, int] = {}
        #: Ranges freed by their owner that still have a lease.
        self._waiting: set[Range] = set()
        #: Holder -> range -> number of its leases; no empty dicts, no zeros.
        self._held: dict[Hashable, dict[Range, int]] = {}
        self._used = self._leased = self._waiting_bytes = 0

    # --- allocation ---------------------------------------------------------------

    def allocate(self, size: int) -> Range | None:
        """Hand out a range of at least `size` bytes; None when the limit forbids it.

        Raises
        ------
        InvalidArgument
            `size` is below 1.
        """
        if size < 1:
            raise InvalidArgument(f"size is {size}; a range has at least 1 byte")
        need = (size + self.page - 1) & -self.page
        if need > self.limit or need > _OFFSET:
            return None
        at = bisect_left(self._free, (need, 0))
        if at < len(self._free):
            length, address = self._free.pop(at)
            del self._starts[address], self._ends[address + length]
            if length > need:
                self._add_free(address + need, length - need)
        else:
            grown = self._grow(need)
            if grown is None:
                return None
            address = grown
        number = address >> _SHIFT
        self._slabs[number].live += 1
        given = Range(number, address & _OFFSET, need)
        self._leases[given] = 0
        self._used += need
        return given

    def free(self, range_: Range) -> bool:
        """The owner needs the range no longer. True if it is free now, False if leases keep it.

        Raises
        ------
        InvariantError
            The range is not live: it was freed before, or never handed out.
        """
        count = self._leases.get(range_)
        if count is None or range_ in self._waiting:
            raise InvariantError(self._explain("free", range_))
        if count:
            self._waiting.add(range_)
            self._waiting_bytes += range_.length
            return False
        self._reclaim(range_)
        return True

    def trim(self) -> int:
        """Drop every slab that is wholly empty; bytes returned to the system.

        For quiet moments, and when the machine is short of memory: what is
        dropped has to be provided afresh, which is slow.
        """
        empty = [number for number, slab in self._slabs.items() if not slab.live]
        return sum(self._drop_slab(number) for number in empty)

    # --- leases -------------------------------------------------------------------

    def lease(self, range_: Range, holder: Hashable) -> None:
        """Note that `holder` can see the range. Leases are counted, one per mapping.

        Raises
        ------
        InvariantError
            The range is not live: what is freed may not be shown to anybody new.
        """
        count = self._leases.get(range_)
        if count is None or range_ in self._waiting:
            raise InvariantError(self._explain("lease", range_))
        if not count:
            self._leased += range_.length
        self._leases[range_] = count + 1
        held = self._held.get(holder)
        if held is None:
            self._held[holder] = {range_: 1}
        else:
            held[range_] = held.get(range_, 0) + 1

    def is_leased(self, range_: Range) -> bool:
        """Tell whether anybody can see a range."""
        return self._leases.get(range_, 0) > 0

    def give_back(self, range_: Range, holder: Hashable) -> bool:
        """One lease of `holder` returns. False if it has none there.

        False is no error: a holder's last words may be read after its end was
        noticed and `drop_holder` returned everything.
        """
        held = self._held.get(holder)
        mine = held.get(range_) if held is not None else None
        if held is None or mine is None:
            return False
        if mine > 1:
            held[range_] = mine - 1
        else:
            del held[range_]
            if not held:
                del self._held[holder]
        self._return(range_, 1)
        return True

    def drop_holder(self, holder: Hashable) -> int:
        """The holder's process has ended: all its leases return. Their number."""
        held = self._held.pop(holder, None)
        if held is None:
            return 0
        for range_, count in held.items():
            self._return(range_, count)
        return sum(held.values())

    def statistics(self) -> ArenaStatistics:
        """Bytes and counts now; costs nothing worth mentioning."""
        return ArenaStatistics(
            limit=self.limit,
            in_slabs=self._in_slabs,
            used=self._used,
            leased=self._leased,
            waiting=self._waiting_bytes,
            slabs=len(self._slabs),
            ranges=len(self._leases),
        )

    def free_ranges(self) -> list[Range]:
        """Return the ranges below the tops that nobody has."""
        return [
            Range(address >> _SHIFT, address & _OFFSET, length) for length, address in self._free
        ]

    # --- inside -------------------------------------------------------------------

    def _return(self, range_: Range, count: int) -> None:
        left = self._leases[range_] - count
        self._leases[range_] = left
        if not left:
            self._leased -= range_.length
            if range_ in self._waiting:
                self._waiting.remove(range_)
                self._waiting_bytes -= range_.length
                self._reclaim(range_)

    def _reclaim(self, range_: Range) -> None:
        """A range nobody needs or sees joins its free neighbours."""
        del self._leases[range_]
        number, offset, length = range_
        self._used -= length
        self._slabs[number].live -= 1
        address = number << _SHIFT | offset
        following = self._starts.get(address + length)
        if following is not None:
            self._remove_free(address + length, following)
            length += following
        previous = self._ends.get(address)
        if previous is not None:
            self._remove_free(previous, address - previous)
            length += address - previous
            address = previous
        self._add_free(address, length)

    def _add_free(self, address: int, length: int) -> None:
        insort(self._free, (length, address))
        self._starts[address] = length
        self._ends[address + length] = address

    def _remove_free(self, address: int, length: int) -> None:
        del self._free[bisect_left(self._free, (length, address))]
        del self._starts[address], self._ends[address + length]

    def _grow(self, need: int) -> int | None:
        """Raise a top, or add a slab, so that `need` bytes fit; their address."""
        best, extra = -1, need
        for number, slab in self._slabs.items():
            # The free range just below the top, if there is one, is used as well:
            # less new memory, and no hole is left behind.
            more = need - self._free_below_top(number, slab)
            if slab.top + more <= slab.size and (best < 0 or more < extra):
                best, extra = number, more
        if not self._make_room(extra, keep=best):
            return None
        if best < 0:
            best = self._next_slab
            self._next_slab += 1
            self._slabs[best] = _Slab(max(need, self.slab_size))
            self.new_slabs.append(NewSlab(best, self._slabs[best].size))
        slab = self._slabs[best]
        below = need - extra
        address = (best << _SHIFT | slab.top) - below
        if below:
            self._remove_free(address, below)
        slab.top += extra
        self._in_slabs += extra
        return address

    def _free_below_top(self, number: int, slab: _Slab) -> int:
        top = number << _SHIFT | slab.top
        start = self._ends.get(top)
        return 0 if start is None else top - start

    def _make_room(self, extra: int, keep: int) -> bool:
        """Drop empty slabs other than `keep` until `extra` more bytes are within the limit."""
        over = self._in_slabs + extra - self.limit
        if over <= 0:
            return True
        empty = sorted(
            (slab.top, number)
            for number, slab in self._slabs.items()
            if not slab.live and number != keep
        )
        if sum(top for top, _ in empty) < over:
            return False
        while over > 0:
            # The smallest that is enough alone, else the largest: few slabs go,
            # and little memory that is fast to use again.
            at = min(bisect_left(empty, (over, 0)), len(empty) - 1)
            over -= self._drop_slab(empty.pop(at)[1])
        return True

    def _drop_slab(self, number: int) -> int:
        slab = self._slabs.pop(number)
        if slab.top:
            self._remove_free(number << _SHIFT, slab.top)
            self._in_slabs -= slab.top
        # One that the driver has not created yet never has to be.
        waiting = NewSlab(number, slab.size)
        if waiting in self.new_slabs:
            self.new_slabs.remove(waiting)
        else:
            self.old_slabs.append(number)
        return slab.top

    def _explain(self, what: str, range_: Range) -> str:
        if range_ in self._waiting:
            state = f"was freed before and waits for {self._leases[range_]} leases"
        else:
            state = "is not handed out"
        return (
            f"cannot {what} {range_}: it {state}; expected a live range. "
            "Free each range once, and lease it only while its owner keeps it."
        )

    # --- for tests ----------------------------------------------------------------

    def check(self) -> None:
        """Walk everything and raise InvariantError where the state contradicts itself."""
        free = {(address, length) for length, address in self._free}
        self._expect(self._free == sorted(self._free), "the free list is not sorted")
        self._expect(free == set(self._starts.items()), "starts differ from the free list")
        self._expect(
            free == {(start, end - start) for end, start in self._ends.items()},
            "ends differ from the free list",
        )
        self._expect(len(free) == len(self._free), "a free range is listed twice")
        self._check_tiles(free)
        self._check_leases()
        self._expect(self._in_slabs <= self.limit, "more in slabs than the limit allows")

    def _check_tiles(self, free: set[tuple[int, int]]) -> None:
        """Free and live ranges cover each slab up to its top, with no gap and no overlap."""
        tiles = [(address, length, True) for address, length in free]
        tiles += [(r.slab << _SHIFT | r.offset, r.length, False) for r in self._leases]
        end = {number: number << _SHIFT for number in self._slabs}
        live = dict.fromkeys(self._slabs, 0)
        free_before = False
        for address, length, is_free in sorted(tiles):
            number = address >> _SHIFT
            self._expect(number in end, f"slab {number} is gone but has ranges")
            self._expect(end[number] == address, f"gap or overlap at {address:#x}")
            self._expect(length > 0 and not length % self.page, f"bad length at {address:#x}")
            joined = is_free and free_before and address & _OFFSET > 0
            self._expect(not joined, f"free neighbours at {address:#x} are not joined")
            end[number] = address + length
            live[number] += not is_free
            free_before = is_free
        for number, slab in self._slabs.items():
            self._expect(end[number] & _OFFSET == slab.top, f"slab {number} is not covered")
            self._expect(slab.top <= slab.size, f"slab {number} is too full")
            self._expect(live[number] == slab.live, f"slab {number} counts its ranges wrongly")
        tops = sum(slab.top for slab in self._slabs.values())
        self._expect(tops == self._in_slabs, "the sum of the tops is wrong")

    def _check_leases(self) -> None:
        counts = dict.fromkeys(self._leases, 0)
        for holder, held in self._held.items():
            self._expect(bool(held), f"{holder!r} holds nothing but is listed")
            for range_, count in held.items():
                self._expect(range_ in counts and count > 0, f"{holder!r} holds {range_} x {count}")
                counts[range_] += count
        self._expect(counts == self._leases, "lease counts differ from what holders hold")
        for range_ in self._waiting:
            self._expect(self._leases.get(range_, 0) > 0, f"{range_} waits for no lease")
        leased = sum(r.length for r, count in self._leases.items() if count)
        self._expect(leased == self._leased, "leased bytes are wrong")
        self._expect(sum(r.length for r in self._leases) == self._used, "used bytes are wrong")
        waiting = sum(r.length for r in self._waiting)
        self._expect(waiting == self._waiting_bytes, "waiting bytes are wrong")

    @staticmethod
    def _expect(holds: bool, otherwise: str) -> None:
        if not holds:
            raise InvariantError(f"the arena contradicts itself: {otherwise}; this is a bug")
