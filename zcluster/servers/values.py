"""The values of a worker: inputs on their way into a call, results that stay in its heap.

Where an input comes from
-------------------------
the store
    A range of shared memory under a lease. It is mapped privately for each call, so a
    task may write into it and harms nobody. The lease is one for a batch, however often
    the batch uses the range: `Lease` counts, and the last of these uses to end (which
    may be the death of an array, in any thread, in the midst of garbage collection)
    puts the range where the loop finds it and returns it.
the message
    A small blob; each use is loaded from bytes of its own.
the heap
    A **held** value, made by an earlier task of this worker, for a counted number of
    uses. Its only consumer gets the live object. With more consumers the live object
    must not be shared, because one of them may write into it: then its blob is kept and
    each consumer gets a copy of its own, the last one the blob itself. What cannot
    change (numbers, strings) is shared, and so is what cannot be pickled (a lock, a
    generator): it stays until it is discarded.

Results leave through `Values.write`, into a range that the nanny granted.
"""

from __future__ import annotations

import itertools
import pickle
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeAlias

from zcluster.errors import ClusterError, NotSerializable, ProtocolError
from zcluster.protocol.objects import ATOMS, Plan, load, plan
from zcluster.protocol.selections import Box, Selection, apply, can_cut, cut
from zcluster.storage.arena import Range
from zcluster.storage.slabs import SlabReader

__all__ = ["MISSING", "Lease", "Shared", "Source", "Values", "load_own"]

#: Stands for a value that is not there.
MISSING: Final[Any] = object()

#: The first byte of a plain pickle: nothing in it is a view on the bytes.
_PICKLE = 0x80


class Lease:
    """A leased range and the uses of it that have not ended.

    Parameters
    ----------
    place : tuple of int
        (slab, offset, length), as it came and as it will be returned.
    uses : int
        How many ends there will be: of mappings, and of uses that came to nothing.
    returns : deque
        Where the place goes at the last end.
    """

    __slots__ = ("_count", "_returns", "_uses", "place")

    def __init__(
        self, place: tuple[int, int, int], uses: int, returns: deque[tuple[int, int, int]]
    ) -> None:
        self.place = place
        self._uses = uses
        self._returns = returns
        # next() is one step for the interpreter: no lock, which a finaliser must not take.
        self._count = itertools.count(1)
        if uses == 0:
            returns.append(place)

    def end(self, _: object = None) -> None:
        """One use has ended."""
        if next(self._count) == self._uses:
            self._returns.append(self.place)


#: Where an input of a batch is: in a range, or at (start, stop) of the batch's inline frame.
Source: TypeAlias = Lease | tuple[int, int]


class Shared:
    """A held value with several consumers.

    ``left`` uses remain, None: until discarded. ``blob`` is None where all consumers get
    ``value`` itself.
    """

    __slots__ = ("blob", "left", "value")

    def __init__(self, value: Any, blob: bytearray | None, left: int | None) -> None:
        self.value = value
        self.blob = blob
        self.left = left


def load_own(blob: bytes | bytearray | memoryview) -> Any:
    """Load a blob as a value that shares nothing with other loads, its arrays writable."""
    return pickle.loads(blob) if blob[0] == _PICKLE else load(bytearray(blob))


class Values:
    """What the slots of one worker share: its heap, and its door to the store.

    Parameters
    ----------
    reader : SlabReader
    descriptor : callable, optional
        Waits for the descriptor of a slab, which becomes the reader's. None where the
        worker has no store.

    Attributes
    ----------
    held : dict
        Values by task. A plain entry has one consumer left, who takes it out; other
        entries are `Shared`.
    returns : deque
        Ranges whose lease has ended; the loop takes them.
    """

    def __init__(self, reader: SlabReader, descriptor: Callable[[int], int] | None) -> None:
        self.held: dict[int, Any] = {}
        self.returns: deque[tuple[int, int, int]] = deque()
        self._reader = reader
        self._descriptor = descriptor
        self._held_lock = threading.Lock()
        self._door_lock = threading.Lock()

    # ------------------------------------------------------------------- inputs

    def take(self, task: int) -> Any:
        """Return a held value, using up one use of it; `MISSING` if it is not there."""
        value = self.held.get(task, MISSING)
        if type(value) is Shared:
            return self._take_shared(task, value)
        if value is not MISSING:
            self.held.pop(task, None)
        return value

    def _take_shared(self, task: int, shared: Shared) -> Any:
        with self._held_lock:
            last = shared.left == 1
            if shared.left is not None:
                shared.left -= 1
            if last:
                self.held.pop(task, None)
        if shared.blob is None:
            return shared.value
        # The last consumer may have the buffer itself: nobody else will look at it.
        return load(shared.blob) if last else load_own(shared.blob)

    def open(self, source: Source, inline: bytes, raw: bool = False) -> Any:
        """Return an input that is in the store or came with the message.

        Parameters
        ----------
        source : Source
        inline : bytes
            The frame of the batch that small inputs are in.
        raw : bool
            Return the blob, writable, instead of its value.
        """
        if type(source) is tuple:
            blob = inline[source[0] : source[1]]
            return bytearray(blob) if raw else load_own(blob)
        assert isinstance(source, Lease)
        view = self._map(source)
        return view if raw else load(view)

    def open_part(self, source: Source, inline: bytes, selection: Selection) -> Any:
        """Return a part of an input: for a box whose rows lie apart, a copy.

        Pages of the slab that this process has seen before are mapped already; a mapping of its
        own for each input would have each page with a row in it mapped again, which takes longer
        than to copy the row.
        """
        if type(source) is tuple or type(selection) is not Box:
            return apply(self.open(source, inline), selection)
        assert isinstance(source, Lease)
        slab, offset, length = source.place
        try:
            self._know(slab)
            view = self._reader.map_shared(Range(slab, offset, length))
            planned = _cut_out(view, selection)
            copied = None if planned is None else load(planned.written())
        except BaseException:
            source.end()
            raise
        if planned is None:
            return apply(self.open(source, inline), selection)
        source.end()
        return copied

    def _map(self, lease: Lease) -> memoryview:
        slab, offset, length = lease.place
        try:
            self._know(slab)
            return self._reader.map_private(Range(slab, offset, length), lease.end)
        except BaseException:
            lease.end()  # there is no mapping whose death would end this use
            raise

    def _know(self, slab: int) -> None:
        if slab in self._reader:
            return
        with self._door_lock:
            if slab in self._reader:
                return
            if self._descriptor is None:
                raise ClusterError(
                    f"an input lies in slab {slab}, but this worker was started without a door "
                    "to the node's store; give its settings the door's path"
                )
            self._reader.add(slab, self._descriptor(slab))

    # ------------------------------------------------------------------ results

    def hold(
        self, task: int, value: Any, uses: int, blob: bytes | None, planned: Plan | None
    ) -> bool:
        """Keep a result for later tasks of this worker. False: it cannot be pickled.

        Parameters
        ----------
        task : int
        value : object
        uses : int
            How many inputs of later tasks take it; at least 1.
        blob, planned
            The value's blob, or the plan of it, if it was made already.
        """
        if uses == 1:
            self.held[task] = value
            return True
        if _cannot_change(value):
            self.held[task] = Shared(value, None, uses)
            return True
        try:
            kept = _kept(value, blob, planned)
        except NotSerializable:
            self.hold_live(task, value)
            return False
        self.held[task] = Shared(None, kept, uses)
        return True

    def hold_live(self, task: int, value: Any) -> None:
        """Keep a result that cannot be pickled, shared by all consumers, until discarded."""
        self.held[task] = Shared(value, None, None)

    def write(self, place: tuple[int, int, int], planned: Plan) -> None:
        """Write a blob into a granted range."""
        slab, offset, length = place
        self._know(slab)
        planned.write_into(self._reader.map_shared(Range(slab, offset, length)))

    def discard(self, tasks: Iterable[int]) -> None:
        """Forget held values; unknown ones are ignored."""
        for task in tasks:
            self.held.pop(task, None)

    def close(self) -> None:
        """Forget everything and close the descriptors."""
        self.held.clear()
        self._reader.close()


def _cut_out(view: memoryview, box: Box) -> Plan | None:
    """Return the plan of a box whose rows lie apart; None if they do not, or it cannot be cut."""
    try:
        if not can_cut(view, box):
            return None
        planned = cut(view, box)
    except ProtocolError:
        return None  # whoever applies it to the value says what is wrong
    return planned if planned.is_scattered else None


def _cannot_change(value: Any) -> bool:
    if type(value) in ATOMS:
        return True
    numpy = sys.modules.get("numpy")
    if numpy is None or not hasattr(numpy, "generic"):
        return False
    return isinstance(value, numpy.generic) and not isinstance(value, numpy.void)


def _kept(value: Any, blob: bytes | None, planned: Plan | None) -> bytearray:
    if blob is not None:
        return bytearray(blob)
    if planned is None:
        planned = plan(value)
    kept = bytearray(planned.size)
    planned.write_into(memoryview(kept))
    return kept
