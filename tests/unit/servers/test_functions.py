"""The callables a worker has been sent."""

from __future__ import annotations

import functools
import operator
import pickle

import pytest

from zcluster.errors import InvariantError
from zcluster.protocol.callables import pack_callable
from zcluster.servers.functions import Functions


def test_a_callable_is_loaded_once() -> None:
    functions = Functions("w")
    digest, data = pack_callable(lambda x: x + 1)
    functions.put(digest, data)
    function = functions.get(digest)
    assert function(2) == 3
    assert functions.get(digest) is function


def test_a_coroutine_function_is_run_to_its_end() -> None:
    async def add(x: int, y: int = 1) -> int:
        return x + y

    functions = Functions("w")
    digest, data = pack_callable(add)
    functions.put(digest, data)
    assert functions.get(digest)(2, y=3) == 5
    assert functions.get(digest) is functions.get(digest)
    functions.put(*pack_callable(functools.partial(add, 10)))
    assert functions.get(pack_callable(functools.partial(add, 10)).digest)() == 11


def test_after_unload_it_is_loaded_anew() -> None:
    """A module that it uses was sent again."""
    functions = Functions("w")
    digest, data = pack_callable(lambda x: x + 1)
    functions.put(digest, data)
    before = functions.get(digest)
    functions.unload()
    assert functions.get(digest) is not before


def test_a_discarded_callable_is_gone_and_calling_it_says_so() -> None:
    functions = Functions("w")
    functions.put(*pack_callable(operator.neg))
    digest = pack_callable(operator.neg).digest
    assert len(functions) == 1
    functions.discard([digest, b"unknown"])
    assert len(functions) == 0
    with pytest.raises(InvariantError, match=f"{digest.hex()} was never sent to worker w"):
        functions.get(digest)(1)


def test_a_callable_that_cannot_be_loaded_fails_each_call_with_a_note() -> None:
    functions = Functions("w")
    functions.put(b"d", pickle.dumps(operator.neg).replace(b"_operator", b"_operatos"))
    function = functions.get(b"d")
    for _ in range(2):
        with pytest.raises(ModuleNotFoundError, match="_operatos") as caught:
            function(1)
        assert any("loaded in worker w (Python 3." in note for note in caught.value.__notes__)
        assert len(caught.value.__notes__) == 1
