"""Making a failing history short: what can be left out while it still fails in the same way.

Actions are left out in halves, then quarters, down to single ones; then graphs are made smaller.
Leaving something out changes when all else happens, so a history may cease to fail without having
lost what matters; that only makes the result longer than it could be.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from zcluster.testing.histories import Failure, live
from zcluster.testing.plans import Cut, Plan

__all__ = ["shrink"]

_SMALLEST = 3


def shrink(
    plan: Plan, failure: Failure, seconds: float = 30.0, tell: Callable[[str], None] | None = None
) -> tuple[Cut, Failure]:
    """Return what to leave out of a plan that fails, and how it fails then.

    Parameters
    ----------
    plan : Plan
    failure : Failure
        How it fails as a whole.
    seconds : float
        For how long to try.
    tell : callable, optional
        Told how far it is.

    Examples
    --------
    >>> from zcluster.testing.plans import draw_plan
    >>> never = Failure("E", "task 1 waits", [1], "nowhere", 0.0)
    >>> str(shrink(draw_plan(1), never, seconds=0.0)[0])
    ''
    """
    search = _Search(plan, failure, time.monotonic() + seconds, tell)
    search.leave_out()
    search.make_smaller()
    search.leave_out()
    return search.cut, search.failure


class _Search:
    """The shortest way to fail that was found so far."""

    def __init__(
        self, plan: Plan, failure: Failure, end: float, tell: Callable[[str], None] | None
    ) -> None:
        self.cut = Cut()
        self.failure = failure
        self._plan, self._end, self._tell = plan, end, tell
        self._signature = failure.signature

    def leave_out(self) -> None:
        """Leave out as many actions as possible."""
        numbers = [a.number for a in self._plan.actions if a.number not in self.cut.without]
        width = max(1, len(numbers) // 2)
        while True:
            start = 0
            while start < len(numbers):
                chosen = numbers[start : start + width]
                if self._fails(Cut(self.cut.without | set(chosen), self.cut.sizes)):
                    del numbers[start : start + width]
                else:
                    start += width
            if width == 1:
                return
            width = (width + 1) // 2

    def make_smaller(self) -> None:
        """Make the graphs that are left as small as possible."""
        for action in self._plan.after(self.cut).actions:
            size = action.size
            while size > _SMALLEST:
                smaller = max(_SMALLEST, size // 2)
                if not self._fails(
                    Cut(self.cut.without, {**self.cut.sizes, action.number: smaller})
                ):
                    break
                size = smaller

    def _fails(self, cut: Cut) -> bool:
        if time.monotonic() >= self._end:
            return False
        plan = self._plan.after(cut)
        failure = live(plan).failure
        if failure is None or failure.signature != self._signature:
            return False
        self.cut, self.failure = cut, failure
        if self._tell is not None:
            self._tell(f"{len(plan.actions)} of {len(self._plan.actions)} actions still fail")
        return True
