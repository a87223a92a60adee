"""Values that clients share, as bytes: pickles in which a future is a number.

The scheduler keeps them and cannot look into them; which tasks they refer to stands beside
them. Whoever loads one gets futures of its own in those places.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from zcluster.client.future import Future
from zcluster.errors import InvalidArgument, NotSerializable
from zcluster.protocol.culprits import refusal
from zcluster.protocol.objects import names_by_value_code
from zcluster.protocol.services import VALUE_LIMIT

if TYPE_CHECKING:
    from zcluster.client.base import ClientBase

__all__ = ["SharedValue", "pack_value", "unpack_value"]

#: Bytes of the keys of futures in one value: they stand in the control frame of a message.
_KEYS_LIMIT = 4 << 20


class SharedValue(NamedTuple):
    """A value's bytes, and the futures in it, by number."""

    blob: bytes
    futures: list[Future]


def pack_value(value: Any, client: ClientBase, what: str, futures: bool = True) -> SharedValue:
    """Turn a value into bytes that another client can load.

    Parameters
    ----------
    value : object
        Anything that can be pickled, with futures and lazy collections anywhere in it.
    client : Client
        The futures must be its own.
    what : str
        Where the value goes, in the words of an error.
    futures : bool
        Whether there may be futures in it.

    Raises
    ------
    InvalidArgument
        If it is too large, or has futures that cannot be shared.
    NotSerializable
        Naming the path to the part that cannot be pickled.
    """
    try:
        found, blob = _pickled(value, pickle.Pickler)
        is_plain = not names_by_value_code([blob])
    except (InvalidArgument, NotSerializable, MemoryError):
        raise
    except Exception:
        is_plain = False  # cloudpickle says why, if it cannot either
    if not is_plain:
        import cloudpickle  # as late as in `zcluster.protocol.objects`, for its 20 ms

        try:
            found, blob = _pickled(value, cloudpickle.Pickler)
        except (InvalidArgument, NotSerializable, MemoryError):
            raise
        except Exception as error:
            raise refusal(error, {"value": value}) from error
    if len(blob) > VALUE_LIMIT:
        raise InvalidArgument(
            f"the value for {what} has {len(blob)} bytes, expected at most {VALUE_LIMIT}; "
            "scatter it, and share the future"
        )
    _check_futures(found, client, what, futures)
    client._engine.ship((blob,))
    return SharedValue(blob, found)


def unpack_value(blob: bytes | memoryview, futures: Sequence[Future]) -> Any:
    """Return the value of what `pack_value` made, with these futures in it."""
    return _Unpickler(io.BytesIO(blob), futures).load()


class _Unpickler(pickle.Unpickler):
    """Puts futures in the places of their numbers."""

    def __init__(self, file: io.BytesIO, futures: Sequence[Future]) -> None:
        super().__init__(file)
        self._futures = futures

    def persistent_load(self, number: int) -> Future:
        return self._futures[number]


@cache
def _numbering(pickler: Any) -> Any:
    """Return a kind of pickler that writes a number for each future, and gathers them."""

    class Numbering(pickler):  # type: ignore[misc]
        def __init__(self, file: io.BytesIO) -> None:
            super().__init__(file, 5)
            self.found: list[Future] = []
            self._numbers: dict[int, int] = {}

        def persistent_id(self, item: Any) -> int | None:
            if not isinstance(item, Future):
                return None
            number = self._numbers.setdefault(id(item), len(self.found))
            if number == len(self.found):
                self.found.append(item)
            return number

    return Numbering


def _pickled(value: Any, kind: Any) -> tuple[list[Future], bytes]:
    file = io.BytesIO()
    pickler = _numbering(kind)(file)
    pickler.dump(value)
    return pickler.found, file.getvalue()


def _check_futures(found: list[Future], client: ClientBase, what: str, allowed: bool) -> None:
    for future in found:
        if not allowed:
            raise InvalidArgument(
                f"found {future!r} in a value for {what}, expected plain values; share futures "
                "with publish_dataset, a Queue or a Variable"
            )
        if future._client is not client:
            raise InvalidArgument(
                f"future {future.key} belongs to another client ({future._client!r}); share it "
                f"by that client: {what} with client={future._client!r}"
            )
        future._check_held()
    size = sum(len(future.key.encode()) + 16 for future in found)
    if size > _KEYS_LIMIT:
        raise InvalidArgument(
            f"the value for {what} has {len(found)} futures, whose keys have {size} bytes, "
            f"expected at most {_KEYS_LIMIT}; share it in parts"
        )
