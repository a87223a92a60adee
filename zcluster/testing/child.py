"""One of the processes of `zcluster.testing.running.run`."""

from __future__ import annotations

import gc
import sys

import msgspec

from zcluster.testing.coverage import Coverage
from zcluster.testing.running import Order, outcomes

__all__ = ["main"]

#: Objects made until garbage is looked for; then how many such rounds until older ones are.
_GARBAGE = (20_000, 20, 50)


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
    # Worlds are full of cycles, but small: looking for garbage at each few hundred objects, among
    # all that was imported, is a tenth of the time.
    gc.freeze()
    gc.set_threshold(*_GARBAGE)
    coverage = Coverage()
    out = sys.stdout.buffer
    for outcome in outcomes(order, coverage, step):
        out.write(b"O" + msgspec.json.encode(outcome) + b"\n")
        out.flush()
    out.write(b"C" + msgspec.json.encode(coverage.as_plain()) + b"\n")
    out.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
