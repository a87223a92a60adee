"""Stalled nodes are told of once, and whoever did not listen blames nobody."""

from __future__ import annotations

from zcluster.servers.stalls import SILENT_SECONDS, Stalls

NODES = [(1, "a"), (2, "b")]


def look_on(stalls: Stalls, start: float, stop: float, beats: tuple[int, ...]) -> list[str]:
    """Look four times a second while some beat; return all that was told."""
    told = []
    for quarter in range(int(start * 4), int(stop * 4)):
        now = quarter / 4
        for peer in beats:
            stalls.hear(peer, now)
        told += stalls.look(NODES, now)
    return told


def test_a_silent_node_is_told_of_once_and_again_when_it_goes_on() -> None:
    stalls = Stalls()
    assert look_on(stalls, 100, 103, (1, 2)) == []
    (sentence,) = look_on(stalls, 103, 108, (1,))
    assert "node b's nanny is stalled" in sentence
    assert look_on(stalls, 108, 109, (1, 2)) == ["node b's nanny goes on after 5.2 s"]
    assert look_on(stalls, 109, 112, (1, 2)) == []


def test_a_pause_of_the_scheduler_blames_nobody() -> None:
    stalls = Stalls()
    look_on(stalls, 100, 101, (1, 2))
    assert stalls.look(NODES, 120.0) == []
    assert look_on(stalls, 120.25, 120.25 + SILENT_SECONDS - 0.5, ()) == []


def test_nodes_that_are_gone_are_forgotten() -> None:
    stalls = Stalls()
    look_on(stalls, 100, 105, (1,))
    assert stalls.look([], 105.0) == []
    assert stalls._heard == stalls._told == {}
