"""The functions that write into copies of blocks; what they are told is `assigning`'s business."""

from __future__ import annotations

import numpy as np

from zcluster.array.putting import PutField, PutMasked, PutPlaces, put_where
from zcluster.protocol.tokens import tokenize

BLOCK = np.arange(6).reshape(2, 3)


def test_the_block_is_copied() -> None:
    """Others may have it, too."""
    kept = BLOCK.copy()
    mask = np.array([True, False, True])
    put_where(BLOCK, mask, 9)
    PutMasked(1)(BLOCK, mask, 9)
    PutPlaces(1, 3, 9)(BLOCK, np.array([0]), start=(0, 0))
    assert (kept == BLOCK).all()


def test_places_of_other_blocks_are_left_alone() -> None:
    """Each block looks for its own; the last of equal ones counts."""
    put = PutPlaces(0, 10, None)
    found = put(np.zeros(4), np.array([1, 5, -6, 4, 5]), np.arange(1.0, 6), start=(4,))
    assert found.tolist() == [4, 5, 0, 0]
    assert put(np.zeros(4), np.array([5]), np.array([7.0]), start=(8,)).tolist() == [0] * 4


def test_values_become_the_blocks_dtype() -> None:
    """As an assignment of NumPy's does it."""
    assert put_where(BLOCK, True, 1.9).dtype == BLOCK.dtype
    records = np.zeros(2, [("n", "i4")])
    assert PutField("n")(records, np.array([1.9, 2.9]))["n"].tolist() == [1, 2]


def test_tokens() -> None:
    """By what they do."""
    assert tokenize(PutMasked(0)) == tokenize(PutMasked(0)) != tokenize(PutMasked(1))
    assert tokenize(PutPlaces(0, 4, 1)) != tokenize(PutPlaces(0, 4, 2))
    assert tokenize(PutField("n")) != tokenize(PutField("m"))
