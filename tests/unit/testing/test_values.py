"""What pretend tasks compute depends on all that goes in."""

from __future__ import annotations

from zcluster.testing.values import BIG, function, part_of, result_of


def test_a_result_depends_on_the_callable_the_constant_and_the_inputs() -> None:
    results = {
        result_of(b"s1", b"c", [b"x"]),
        result_of(b"s2", b"c", [b"x"]),
        result_of(b"s1", b"d", [b"x"]),
        result_of(b"s1", b"c", [b"y"]),
        result_of(b"s1", b"c", []),
    }
    assert len(results) == 5
    assert result_of(b"s1", b"c", [b"x"]) in results


def test_big_ones_are_big_and_parts_differ() -> None:
    blob = result_of(b"b1", b"", [])
    assert len(blob) == BIG
    assert part_of(blob, 1) != part_of(blob, 2)
    whole = result_of(b"u1", b"", [])
    assert part_of(whole, 1) == whole


def test_a_callable_is_known_by_the_hash_of_its_bytes() -> None:
    assert function("s1") == function("s1") != function("s2")
    assert function("s1").data == b"s1"
