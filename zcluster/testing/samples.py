"""Messages made at random from their types, and bytes made wrong: what a fuzzer feeds a decoder.

`Sampler` knows nothing of what messages mean: it reads the types of their fields, so a new
message is tried without a word here. `mutated` takes what was right and makes it wrong, the way
memory, lengths and lines go wrong.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from msgspec import inspect

from zcluster.protocol.messages import Message

__all__ = ["Sampler", "mutated"]

#: Integers at which something ends: bytes, words, signs, columns.
_EDGES = (-(2**63), -(2**31), -3, -2, -1, 0, 1, 2, 63, 64, 255, 256, 2**31, 2**32, 2**63, 2**64 - 1)
_WORDS = ("", "n", "lock", "queue", "get", "put", "killed", "task", "\0", "é", "/../x", "ﷺ" * 40)


class Sampler:
    """Makes messages of any type.

    Parameters
    ----------
    chance : random.Random
        Decides everything. One of Hypothesis's makes the samples shrink.
    integer, word : callable, optional
        Return an integer, or a text; the default takes anything, edges more often.
    most : int
        Items of a list, at most.

    Examples
    --------
    >>> from zcluster.protocol.messages import Release
    >>> Sampler(random.Random(1), integer=lambda: 7, most=0).sample(Release)
    Release(tasks=[])
    """

    def __init__(
        self,
        chance: random.Random,
        integer: Callable[[], int] | None = None,
        word: Callable[[], str] | None = None,
        most: int = 3,
    ) -> None:
        self._chance = chance
        self._integer = integer or self._any_integer
        self._word = word or (lambda: chance.choice(_WORDS))
        self._most = most
        self._types: dict[type[Message], inspect.StructType] = {}

    def sample(self, kind: type[Message]) -> Message:
        """Return a message of a type, which its decoder accepts."""
        made = self._struct(self._type(kind))
        assert isinstance(made, Message)
        return made

    def varied(self, message: Message) -> Message:
        """Return a message with another value in one of its fields, or of a record in it."""
        chosen = self._chance.choice(self._type(type(message)).fields)
        value = getattr(message, chosen.name)
        changed: Any
        if isinstance(value, list) and value and isinstance(value[0], Message):
            at = self._chance.randrange(len(value))
            changed = [*value[:at], self.varied(value[at]), *value[at + 1 :]]
        else:
            changed = self._value(chosen.type)
        return msgspec.structs.replace(message, **{chosen.name: changed})

    def _type(self, kind: type[Message]) -> inspect.StructType:
        found = self._types.get(kind)
        if found is None:
            read = inspect.type_info(kind)
            assert isinstance(read, inspect.StructType), f"{kind} is no message"
            found = self._types[kind] = read
        return found

    def _struct(self, kind: inspect.StructType) -> Any:
        return kind.cls(*(self._value(field.type) for field in kind.fields))

    def _any_integer(self) -> int:
        if self._chance.random() < 0.5:
            return self._chance.choice(_EDGES)
        return self._chance.randrange(-4, 1 << 42)

    def _value(self, kind: inspect.Type) -> Any:
        chance = self._chance
        match kind:
            case inspect.IntType():
                return self._integer()
            case inspect.StrType():
                return self._word()
            case inspect.BytesType():
                return bytes(chance.randrange(256) for _ in range(chance.randrange(4)))
            case inspect.BoolType():
                return chance.random() < 0.5
            case inspect.FloatType():
                return chance.choice((0.0, 1.0, -1.0, 0.5, 1e300, float("inf")))
            case inspect.NoneType():
                return None
            case inspect.RawType():
                return msgspec.Raw(msgspec.msgpack.encode(self._integer()))
            case inspect.UnionType(types=types):
                return self._value(chance.choice(types))
            case inspect.ListType(item_type=item):
                return [self._value(item) for _ in range(chance.randrange(self._most + 1))]
            case inspect.TupleType(item_types=items):
                return tuple(self._value(item) for item in items)
            case inspect.DictType(key_type=key, value_type=value):
                count = chance.randrange(self._most + 1)
                return {self._value(key): self._value(value) for _ in range(count)}
            case inspect.StructType():
                return self._struct(kind)
        raise NotImplementedError(f"no sample of {kind} is known; say here how to make one")


def mutated(data: bytes, others: Sequence[bytes], chance: random.Random) -> bytes:
    """Return bytes with something wrong: a bit, a length, a piece too few, too many, or another's.

    Parameters
    ----------
    data : bytes
        What was right.
    others : sequence of bytes
        Of what pieces may come.
    chance : random.Random

    Examples
    --------
    >>> mutated(b"hello", [b"world"], random.Random(3)) != b"hello"
    True
    """
    wrong = bytearray(data)
    for _ in range(1 if chance.random() < 0.7 else chance.randrange(2, 6)):
        at = int(chance.random() * (len(wrong) + 1))
        choice = int(chance.random() * 7)
        if choice == 0:  # a bit, or a whole byte
            if at < len(wrong):
                wrong[at] ^= 1 << int(chance.random() * 8)
        elif choice == 1:  # cut off
            del wrong[at:]
        elif choice == 2:  # a piece is missing
            del wrong[at : at + 1 + int(chance.random() * 8)]
        elif choice == 3:  # a piece too many
            wrong[at:at] = chance.randbytes(1 + int(chance.random() * 8))
        elif choice == 4:  # said again
            piece = wrong[at : at + 16]
            wrong[at:at] = piece * (1 + int(chance.random() * 4))
        elif choice == 5:  # another length, or another type
            wrong[at : at + 1] = chance.choice(_MARKS)
        elif others:  # a piece of something else
            other = others[int(chance.random() * len(others))]
            start = int(chance.random() * (len(other) + 1))
            wrong[at : at + 8] = other[start : start + 16]
    return bytes(wrong)


#: How MessagePack begins what is long, deep, of another type, or no type at all.
_MARKS = (
    b"\xdd\xff\xff\xff\xff",  # a list of four thousand million items
    b"\xdd\x00\xff\xff\xff",
    b"\xdc\xff\xff",
    b"\xdf\xff\xff\xff\xff",  # a map
    b"\xdb\xff\xff\xff\xff",  # a text
    b"\xc6\xff\xff\xff\xff",  # bytes
    b"\xc9\xff\xff\xff\xff\x01",  # an extension
    b"\x91" * 40,  # lists in lists
    b"\x91" * 2000,
    b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\xd3\x80\x00\x00\x00\x00\x00\x00\x00",
    b"\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00",  # no number
    b"\xc0",
    b"\xc1",
    b"\xc3",
    b"\xa1\xff",  # no text
    b"\x80",
    b"\x90",
)
