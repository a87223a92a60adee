"""The arena against a naive model, and the choices it promises."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from zcluster.errors import InvalidArgument, InvariantError
from zcluster.storage.arena import Arena, NewSlab, Range

PAGE = 4096
SLAB = 16 * PAGE


def give(arena: Arena, pages: int) -> Range:
    """A range that must be there."""
    given = arena.allocate(pages * PAGE)
    assert given is not None
    return given


def test_ranges_are_whole_pages_and_follow_each_other() -> None:
    """Mappings start at page borders, so a range must too."""
    arena = Arena(limit=4 * SLAB, slab_size=SLAB)
    assert arena.allocate(1) == Range(0, 0, PAGE)
    assert arena.allocate(PAGE + 1) == Range(0, PAGE, 2 * PAGE)
    assert arena.new_slabs == [NewSlab(0, SLAB)]


def test_another_page_size_is_honoured() -> None:
    """Some machines map in 16 or 64 KiB steps."""
    arena = Arena(limit=1 << 20, slab_size=1 << 18, page=1 << 16)
    assert arena.allocate(1) == Range(0, 0, 1 << 16)
    assert arena.allocate(1) == Range(0, 1 << 16, 1 << 16)


def test_memory_used_before_is_preferred_to_new_memory() -> None:
    """A loop over results of one size must not touch fresh pages after its first round."""
    arena = Arena(limit=100 * SLAB, slab_size=SLAB)
    first = give(arena, 5)
    give(arena, 1)
    arena.free(first)
    touched = arena.statistics().in_slabs
    assert give(arena, 5) == first
    assert arena.statistics().in_slabs == touched


def test_the_smallest_free_range_that_fits_is_taken_then_the_lowest() -> None:
    """Large free ranges are kept for large requests."""
    arena = Arena(limit=SLAB, slab_size=SLAB)
    ranges = [give(arena, pages) for pages in (4, 1, 2, 1, 2, 1)]
    for range_ in (ranges[0], ranges[2], ranges[4]):
        arena.free(range_)
    assert give(arena, 2) == ranges[2]
    assert give(arena, 1) == Range(0, ranges[4].offset, PAGE)


def test_free_neighbours_join_on_both_sides() -> None:
    """Three small free ranges in a row serve one large request."""
    arena = Arena(limit=SLAB, slab_size=SLAB)
    a, b, c = (give(arena, 2) for _ in range(3))
    give(arena, 1)
    for range_ in (a, c, b):
        arena.free(range_)
    assert give(arena, 6) == Range(0, 0, 6 * PAGE)


def test_the_free_range_below_the_top_is_extended() -> None:
    """A request that is larger than it uses it, and only the rest is new memory."""
    arena = Arena(limit=SLAB, slab_size=SLAB)
    give(arena, 1)
    arena.free(give(arena, 2))
    assert give(arena, 5) == Range(0, PAGE, 5 * PAGE)
    assert arena.statistics().in_slabs == 6 * PAGE
    arena.check()


def test_a_request_larger_than_a_slab_gets_its_own() -> None:
    """Nothing is limited by the size of a slab."""
    arena = Arena(limit=10 * SLAB, slab_size=SLAB)
    assert give(arena, 40) == Range(0, 0, 40 * PAGE)
    assert arena.new_slabs == [NewSlab(0, 40 * PAGE)]
    assert give(arena, 1) == Range(1, 0, PAGE)


def test_a_new_slab_is_made_when_no_old_one_has_room() -> None:
    """The rest of a full slab stays usable for smaller requests."""
    arena = Arena(limit=10 * SLAB, slab_size=SLAB)
    give(arena, 10)
    assert give(arena, 10).slab == 1
    assert give(arena, 6) == Range(0, 10 * PAGE, 6 * PAGE)


def test_the_limit_counts_touched_bytes_not_slab_sizes() -> None:
    """A limit below one slab still works, to the page."""
    arena = Arena(limit=3 * PAGE + 5, slab_size=SLAB)
    give(arena, 3)
    assert arena.allocate(1) is None
    assert arena.allocate(10 * SLAB) is None
    arena.check()


def test_empty_slabs_make_room_only_when_they_are_enough() -> None:
    """A request that fails anyway must cost no memory that is fast to use again."""
    arena = Arena(limit=4 * SLAB, slab_size=SLAB)
    big = give(arena, 32)
    small = give(arena, 4)
    arena.new_slabs.clear()
    arena.free(big)
    assert arena.allocate(61 * PAGE) is None
    assert arena.old_slabs == []
    assert give(arena, 60) == Range(2, 0, 60 * PAGE)
    assert arena.old_slabs == [big.slab]
    assert arena.statistics().in_slabs == 64 * PAGE
    arena.free(small)
    arena.check()


def test_no_more_empty_slabs_go_than_needed() -> None:
    """The smallest that is enough is chosen."""
    arena = Arena(limit=100 * PAGE, slab_size=SLAB)
    ranges = [give(arena, pages) for pages in (20, 30, 40)]
    arena.new_slabs.clear()
    for range_ in ranges:
        arena.free(range_)
    give(arena, 35)
    assert give(arena, 38).slab == 3  # 128 pages, 28 too many: the slab of 30 goes
    assert arena.old_slabs == [1]


def test_a_slab_that_was_never_created_is_dropped_silently() -> None:
    """The driver must not be told to close what it has not made."""
    arena = Arena(limit=SLAB, slab_size=SLAB)
    arena.free(give(arena, 3))
    assert arena.trim() == 3 * PAGE
    assert arena.new_slabs == []
    assert arena.old_slabs == []
    assert arena.statistics().slabs == 0


def test_trim_keeps_slabs_in_use() -> None:
    """Only what is wholly empty goes."""
    arena = Arena(limit=10 * SLAB, slab_size=SLAB)
    kept, gone = give(arena, 9), give(arena, 9)
    arena.new_slabs.clear()
    arena.free(gone)
    assert arena.trim() == 9 * PAGE
    assert arena.old_slabs == [gone.slab]
    assert kept.slab == 0
    assert give(arena, 9).slab == 2  # numbers are never used again
    arena.check()


def test_a_leased_range_waits_for_its_last_lease() -> None:
    """Freed by the owner, still seen by two processes."""
    arena = Arena(limit=SLAB, slab_size=SLAB)
    range_ = give(arena, 1)
    for holder in ("a", "a", "b"):
        arena.lease(range_, holder)
    assert not arena.free(range_)
    assert arena.statistics().waiting == PAGE
    assert give(arena, 1) != range_
    assert arena.drop_holder("a") == 2
    assert give(arena, 1) != range_
    assert arena.give_back(range_, "b")
    assert give(arena, 1) == range_


def test_a_range_that_is_still_owned_survives_its_leases() -> None:
    """Returning a lease is not freeing."""
    arena = Arena(limit=SLAB, slab_size=SLAB)
    range_ = give(arena, 1)
    arena.lease(range_, "a")
    assert arena.give_back(range_, "a")
    assert arena.statistics().used == PAGE
    assert arena.free(range_)


def test_words_of_the_dead_are_ignored() -> None:
    """A return that is read after the holder was dropped changes nothing."""
    arena = Arena(limit=SLAB, slab_size=SLAB)
    range_ = give(arena, 1)
    arena.lease(range_, "a")
    arena.lease(range_, "b")
    arena.drop_holder("a")
    assert not arena.give_back(range_, "a")
    assert not arena.give_back(Range(9, 0, PAGE), "b")
    assert arena.drop_holder("a") == 0
    assert arena.statistics().leased == PAGE
    arena.check()


@pytest.mark.parametrize("what", ["free", "lease"])
def test_a_range_that_is_not_live_is_refused(what: str) -> None:
    """Freeing twice, or showing freed memory to someone new, is a bug to be heard of."""
    arena = Arena(limit=SLAB, slab_size=SLAB)
    waiting, gone = give(arena, 1), give(arena, 1)
    arena.lease(waiting, "a")
    arena.free(waiting)
    arena.free(gone)
    for range_, words in ((waiting, "waits for 1 leases"), (gone, "not handed out")):
        call = partial(arena.free, range_) if what == "free" else partial(arena.lease, range_, "b")
        with pytest.raises(InvariantError, match=words):
            call()
    arena.check()


@pytest.mark.parametrize(
    ("limit", "slab_size", "page", "name"),
    [(0, SLAB, PAGE, "limit"), (SLAB, 100, PAGE, "slab_size"), (SLAB, SLAB, 3000, "page")],
)
def test_sizes_that_cannot_be_meant_are_refused(
    limit: int, slab_size: int, page: int, name: str
) -> None:
    """The message names the argument."""
    with pytest.raises(InvalidArgument, match=f"^{name} is"):
        Arena(limit=limit, slab_size=slab_size, page=page)


def test_an_empty_request_is_refused() -> None:
    """No range is shorter than a byte."""
    with pytest.raises(InvalidArgument, match="size is 0"):
        Arena(limit=SLAB, slab_size=SLAB).allocate(0)


def _break_free(arena: Arena) -> None:
    arena._free.append((PAGE, 0))


def _break_top(arena: Arena) -> None:
    arena._slabs[0].top += PAGE


def _break_live(arena: Arena) -> None:
    arena._slabs[0].live += 1


def _break_lease(arena: Arena) -> None:
    arena._held["a"][Range(0, 0, PAGE)] += 1


def _break_bytes(arena: Arena) -> None:
    arena._used += 1


@pytest.mark.parametrize("harm", [_break_free, _break_top, _break_live, _break_lease, _break_bytes])
def test_check_sees_contradictions(harm: Callable[[Arena], None]) -> None:
    """An invariant check that cannot fail would be worth nothing."""
    arena = Arena(limit=SLAB, slab_size=SLAB)
    arena.lease(give(arena, 1), "a")
    arena.check()
    harm(arena)
    with pytest.raises(InvariantError, match="contradicts itself"):
        arena.check()


class AgainstModel(RuleBasedStateMachine):
    """Random calls; the model is a list of ranges with an owner flag and lease counts."""

    LIMIT = 5 * SLAB + 3 * PAGE

    @initialize()
    def start(self) -> None:
        self.arena = Arena(limit=self.LIMIT, slab_size=SLAB)
        self.owned: dict[Range, bool] = {}
        self.leases: dict[Range, Counter[str]] = {}
        self.sizes: dict[int, int] = {}  # slabs that the driver has made

    def follow(self) -> None:
        """What the driver does after a call."""
        for number in self.arena.old_slabs:
            assert all(range_.slab != number for range_ in self.owned)
            del self.sizes[number]
        for new in self.arena.new_slabs:
            assert new.slab not in self.sizes
            self.sizes[new.slab] = new.size
        self.arena.old_slabs.clear()
        self.arena.new_slabs.clear()

    def settle(self) -> None:
        for range_ in [r for r, owned in self.owned.items() if not owned and not self.leases[r]]:
            del self.owned[range_], self.leases[range_]

    @rule(pages=st.one_of(st.integers(1, 8), st.integers(1, 100)), less=st.integers(0, PAGE - 1))
    def allocate(self, pages: int, less: int) -> None:
        used = sum(range_.length for range_ in self.owned)
        given = self.arena.allocate(pages * PAGE - less)
        self.follow()
        if given is None:
            tops: dict[int, int] = {}
            for r in self.owned:
                tops[r.slab] = max(tops.get(r.slab, 0), self.arena._slabs[r.slab].top)
            assert sum(tops.values()) + pages * PAGE > self.LIMIT
            assert used or pages * PAGE > self.LIMIT
            return
        assert given.length == pages * PAGE
        assert given.offset + given.length <= self.sizes[given.slab]
        for other in self.owned:
            apart = (
                other.slab != given.slab
                or other.offset + other.length <= given.offset
                or given.offset + given.length <= other.offset
            )
            assert apart, f"{given} overlaps {other}"
        self.owned[given] = True
        self.leases[given] = Counter()

    @precondition(lambda self: any(self.owned.values()))
    @rule(data=st.data())
    def free(self, data: st.DataObject) -> None:
        range_ = data.draw(st.sampled_from(sorted(r for r, owned in self.owned.items() if owned)))
        assert self.arena.free(range_) is (not self.leases[range_])
        self.owned[range_] = False
        self.settle()

    @precondition(lambda self: any(self.owned.values()))
    @rule(data=st.data(), holder=st.sampled_from("abc"))
    def lease(self, data: st.DataObject, holder: str) -> None:
        range_ = data.draw(st.sampled_from(sorted(r for r, owned in self.owned.items() if owned)))
        self.arena.lease(range_, holder)
        self.leases[range_][holder] += 1

    @precondition(lambda self: bool(self.owned))
    @rule(data=st.data(), holder=st.sampled_from("abc"))
    def give_back(self, data: st.DataObject, holder: str) -> None:
        range_ = data.draw(st.sampled_from(sorted(self.owned)))
        assert self.arena.give_back(range_, holder) is (self.leases[range_][holder] > 0)
        self.leases[range_] -= Counter({holder: 1})
        self.settle()

    @rule(holder=st.sampled_from("abc"))
    def drop_holder(self, holder: str) -> None:
        expected = sum(counts.pop(holder, 0) for counts in self.leases.values())
        assert self.arena.drop_holder(holder) == expected
        self.settle()

    @rule()
    def trim(self) -> None:
        self.arena.trim()
        self.follow()
        assert set(self.sizes) == {range_.slab for range_ in self.owned}

    @invariant()
    def agrees(self) -> None:
        self.arena.check()
        seen = self.arena.statistics()
        assert seen.used == sum(r.length for r in self.owned)
        assert seen.leased == sum(r.length for r, counts in self.leases.items() if counts.total())
        assert seen.waiting == sum(r.length for r, owned in self.owned.items() if not owned)
        assert seen.ranges == len(self.owned)
        assert seen.slabs == len(self.sizes)
        assert seen.used <= seen.in_slabs <= self.LIMIT

    def teardown(self) -> None:
        for holder in "abc":
            self.drop_holder(holder)
        for range_ in [r for r, owned in self.owned.items() if owned]:
            assert self.arena.free(range_)
            del self.owned[range_]
        self.arena.check()
        self.arena.trim()
        self.follow()
        seen = self.arena.statistics()
        assert (seen.in_slabs, seen.used, seen.leased, seen.waiting, seen.slabs) == (0,) * 5
        assert self.sizes == {}


TestAgainstModel = AgainstModel.TestCase
TestAgainstModel.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


def test_who_is_looked_at_and_what_nobody_has_is_known() -> None:
    arena = Arena(1 << 20)
    first, second = arena.allocate(4096), arena.allocate(8192)
    assert first is not None
    assert second is not None
    arena.lease(second, "reader")
    assert (arena.is_leased(first), arena.is_leased(second)) == (False, True)
    assert arena.free_ranges() == []
    arena.free(first)
    arena.free(second)
    assert arena.free_ranges() == [first]
    assert not arena.is_leased(first)
    arena.give_back(second, "reader")
    assert arena.free_ranges() == [(0, 0, 12288)]
