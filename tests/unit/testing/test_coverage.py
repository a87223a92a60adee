"""What was seen is counted, added up, and told apart from what was not."""

from __future__ import annotations

from zcluster.testing.coverage import ARROWS, Arrow, Coverage, Pair, every_pair
from zcluster.testing.impossible import IMPOSSIBLE_ARROWS, IMPOSSIBLE_PAIRS


def test_coverage_adds_up_and_comes_back_from_text() -> None:
    one, two = Coverage(), Coverage()
    one.arrows[ARROWS[0]] = 2
    two.arrows[ARROWS[0]] = 3
    two.pairs[Pair("node", "Drop", "SENT")] = 1
    two.strange[Arrow("node", "SENT", "why", "SENT")] = 1
    one.add(Coverage.from_plain(two.as_plain()))
    assert one.arrows == {ARROWS[0]: 5}
    assert one.pairs == two.pairs
    assert one.strange == two.strange


def test_what_is_missing_is_what_was_not_seen() -> None:
    seen = Coverage()
    seen.arrows[ARROWS[3]] = 1
    pair = every_pair()[5]
    seen.pairs[pair] = 1
    assert seen.missing_arrows() == [arrow for arrow in ARROWS if arrow != ARROWS[3]]
    assert pair not in seen.missing_pairs()
    assert len(seen.missing_pairs()) == len(every_pair()) - 1


def test_what_is_declared_impossible_exists() -> None:
    assert {*IMPOSSIBLE_ARROWS} <= {*ARROWS}
    assert {*IMPOSSIBLE_PAIRS} <= {*every_pair()}
    assert all([*IMPOSSIBLE_ARROWS.values(), *IMPOSSIBLE_PAIRS.values()])
