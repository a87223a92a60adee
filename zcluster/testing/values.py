"""What pretend tasks compute: hashes of all that goes in, so that a wrong answer shows."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

__all__ = ["BIG", "Function", "function", "part_of", "result_of"]

#: Bytes from which on a result goes into the store of a pretend node.
BIG = 100


class Function(NamedTuple):
    """A callable as it travels: the hash of its bytes, and those."""

    digest: bytes
    data: bytes


def function(name: str) -> Function:
    """Return a callable; the first letter of its name says what its results are."""
    data = name.encode()
    return Function(hashlib.blake2b(data, digest_size=16).digest(), data)


def result_of(name: bytes, constant: bytes, inputs: Sequence[Any]) -> bytes:
    """Return the blob a call makes."""
    said = b"%b|%b|%b" % (name, constant, repr(list(inputs)).encode())
    digest = hashlib.blake2b(said, digest_size=12)
    blob = name[:1] + digest.digest()
    return blob.ljust(BIG, b".") if name[:1] == b"b" else blob


def part_of(blob: bytes, number: int) -> bytes:
    """Return what a taker of a part of a blob gets."""
    if blob[:1] == b"u":
        return blob
    return b"s" + hashlib.blake2b(blob + bytes([number % 251]), digest_size=12).digest()
