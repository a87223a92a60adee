"""Nodes whose loop is stalled: they can be reached, and say nothing all the same.

ZeroMQ answers for a nanny whose Python is busy, so it is neither suspect nor dead, and nothing is
taken from it. But whoever waits for it should find the reason in the scheduler's log.
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["SILENT_SECONDS", "Stalls"]

#: A nanny says something twice a second; one that is silent for so long is stalled.
SILENT_SECONDS = 1.5


class Stalls:
    """When each node was heard last, and which of the silent were told of.

    Examples
    --------
    >>> stalls = Stalls()
    >>> sum([stalls.look([(7, "a")], 10 + n / 2) for n in range(4)], [])
    ["the loop of node a's nanny is stalled: reachable, but silent for 1.5 s"]
    >>> stalls.hear(7, 12.0)
    >>> stalls.look([(7, "a")], 12.1)
    ["node a's nanny goes on after 2.0 s"]
    """

    def __init__(self) -> None:
        self._heard: dict[int, float] = {}
        #: Since when those are silent that were told of.
        self._told: dict[int, float] = {}
        self._looked = 0.0

    def hear(self, peer: int, now: float) -> None:
        """A node's heartbeat came."""
        self._heard[peer] = now

    def look(self, nodes: Iterable[tuple[int, str]], now: float) -> list[str]:
        """Return what there is to tell of the nodes that can be reached.

        Parameters
        ----------
        nodes : iterable of (int, str)
            Peer and name of each node that can be reached.
        now : float
        """
        if now - self._looked > SILENT_SECONDS / 2:
            # We did not listen ourselves, or have only begun: nobody is to blame.
            self._heard = dict.fromkeys(self._heard, now)
        self._looked = now
        heard, told = self._heard, self._told
        self._heard = {}
        self._told = {}
        sentences = []
        for peer, name in nodes:
            last = self._heard[peer] = heard.get(peer, now)
            since = told.get(peer)
            if since is not None and last > since:
                sentences.append(f"node {name}'s nanny goes on after {last - since:.1f} s")
            elif since is not None:
                self._told[peer] = since
            elif now - last >= SILENT_SECONDS:
                self._told[peer] = last
                sentences.append(
                    f"the loop of node {name}'s nanny is stalled: reachable, but silent for "
                    f"{now - last:.1f} s"
                )
        return sentences
