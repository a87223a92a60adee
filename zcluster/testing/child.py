"""One of the processes of `zcluster.testing.running.run`."""

from __future__ import annotations

import sys

import msgspec

from zcluster.testing.coverage import Coverage
from zcluster.testing.running import Order, outcomes

__all__ = ["main"]


def main(words: list[str]) -> None:
    """Live through some histories, and print a line for each.

    Parameters
    ----------
    words : list of str
        The first seed, the distance to the next, how many (-1: any), seconds (-1: any), and the one
        kind of fault (empty: any).
    """
    first, step, count = map(int, words[:3])
    seconds = float(words[3])
    order = Order(
        first,
        schedules=None if count < 0 else count,
        seconds=None if seconds < 0 else seconds,
        only=words[4] or None,
    )
    coverage = Coverage()
    out = sys.stdout.buffer
    for outcome in outcomes(order, coverage, step):
        out.write(b"O" + msgspec.json.encode(outcome) + b"\n")
        out.flush()
    out.write(b"C" + msgspec.json.encode(coverage.as_plain()) + b"\n")
    out.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
