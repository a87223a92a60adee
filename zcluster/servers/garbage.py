"""Python's search for cyclic garbage, in a process that must answer within milliseconds.

With a million tasks one search through everything takes a tenth of a second, and it comes
in the middle of something: all who wait for an answer wait for that too. A scheduler makes
next to no cycles, so it looks for them itself, when it has little to look through; or,
where that never is, seldom.
"""

from __future__ import annotations

import gc

__all__ = ["Garbage"]

#: Seconds between two searches at least, and at most.
_LEAST_SECONDS, _MOST_SECONDS = 5.0, 600.0


class Garbage:
    """Takes the search over from Python, for the whole process, until `close`.

    Parameters
    ----------
    now : float
        The time, in seconds of any clock that never goes back.
    """

    def __init__(self, now: float) -> None:
        self._searched = now
        gc.collect()
        # What is here now, modules above all, is here to stay.
        gc.freeze()
        gc.disable()

    def on_time(self, now: float, is_little: bool) -> None:
        """Search if it is time to.

        Parameters
        ----------
        now : float
        is_little : bool
            Whether there is little to look through.
        """
        if now - self._searched >= (_LEAST_SECONDS if is_little else _MOST_SECONDS):
            self._searched = now
            gc.collect()

    def close(self) -> None:
        """Leave it to Python again."""
        gc.unfreeze()
        gc.enable()
