"""Sizes are read and shown as people mean them, and nonsense names the units."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zcluster.config import format_bytes, parse_bytes, parse_memory_limit
from zcluster.errors import InvalidArgument


@pytest.mark.parametrize(
    ("text", "size"),
    [
        (0, 0),
        ("0", 0),
        ("1GB", 10**9),
        ("1 gb", 10**9),
        ("500MiB", 500 * 2**20),
        ("2G", 2 * 10**9),
        ("2Gi", 2 * 2**30),
        ("1e3 kB", 10**6),
        (".5KiB", 512),
        ("12 bytes", 12),
        (1.9, 1),
    ],
)
def test_a_size_is_read(text: int | float | str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "GB", "1XB", "one", "1 GB 2", "-1GB", "1..2MB", "0x10"])
def test_text_that_is_no_size_names_the_units(text: str) -> None:
    with pytest.raises(InvalidArgument, match=r"does not parse.*kB, MB, GB.*GiB"):
        parse_bytes(text)


@pytest.mark.parametrize("size", [-1, math.nan, math.inf, 2**61, "1e300GB"])
def test_a_size_out_of_range_is_refused(size: float | str) -> None:
    with pytest.raises(InvalidArgument, match="out of range"):
        parse_bytes(size)


@pytest.mark.parametrize("size", [None, True, [1]])
def test_what_is_not_a_size_at_all_is_refused(size: object) -> None:
    with pytest.raises(InvalidArgument, match=type(size).__name__):
        parse_bytes(size)  # type: ignore[arg-type]


@given(st.integers(0, 2**60))
def test_what_is_shown_reads_back_to_within_its_digits(size: int) -> None:
    assert parse_bytes(format_bytes(size)) == pytest.approx(size, rel=0.006)


def test_the_specification_s_size_is_shown_as_it_says() -> None:
    assert format_bytes(2 * parse_bytes("1GB")) == "1.86 GiB"


@pytest.mark.parametrize(
    ("limit", "bytes_"),
    [
        ("auto", 250),
        (" Auto ", 250),
        (0.5, 500),
        ("0.5", 500),
        (1.0, 1000),
        ("1.0", 1000),
        ("1", 1),
        (1, 1),
        (0, 0),
        (0.0, 0),
        (None, 0),
        ("2kB", 2000),
    ],
)
def test_a_memory_limit_is_read(limit: int | float | str | None, bytes_: int) -> None:
    assert parse_memory_limit(limit, 0.25, 1000) == bytes_


def test_a_share_above_one_is_the_whole_machine() -> None:
    assert parse_memory_limit("auto", 3.0, 1000) == 1000


def test_a_bad_memory_limit_says_what_it_may_be() -> None:
    with pytest.raises(InvalidArgument, match=r"memory limit: size 'lots'.*'auto'"):
        parse_memory_limit("lots")
