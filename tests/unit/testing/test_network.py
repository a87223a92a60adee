"""The pretend network: order, cuts, silence, and connections that end or are replaced."""

from __future__ import annotations

import random

import pytest

from zcluster.testing.clock import Clock, Process
from zcluster.testing.network import Connection, Network, Path


class End:
    """A member, as the network sees it."""

    def __init__(self, net: Net) -> None:
        self.process = Process(net.clock, net.random, lambda: None)
        self.path = Path()
        self.told: list[str] = []
        self.heard: list[bytes] = []

    def on_connected(self, connection: Connection) -> None:
        self.told.append("connected")

    def on_refused(self, connection: Connection) -> None:
        self.told.append("refused")

    def on_disconnected(self, connection: Connection) -> None:
        self.told.append("disconnected")

    def on_frames(self, connection: Connection, frames: list[bytes]) -> None:
        self.heard += frames


class Net:
    """A network and its listening end."""

    def __init__(self, seed: int = 1) -> None:
        self.clock = Clock()
        self.random = random.Random(seed)
        self.network = Network(self.clock, self.random)
        self.heard: list[tuple[bytes, bytes]] = []
        self.ended = 0
        self.scheduler = Process(self.clock, self.random, lambda: None)
        self.network.listener = self.scheduler
        self.network.on_frames = lambda frames: self.heard.append((frames[0], frames[1]))
        self.network.on_ended = self._on_ended

    def _on_ended(self) -> None:
        self.ended += 1

    def join(self) -> tuple[End, Connection]:
        end = End(self)
        made = self.network.connect(end.process, end.path, end)
        self.run(0.1)
        assert end.told == ["connected"]
        return end, made

    def run(self, seconds: float) -> None:
        end = self.clock.now + seconds
        while self.clock.next_time is not None and self.clock.next_time <= end:
            self.clock.step()
        self.clock.now = end

    def texts(self) -> list[bytes]:
        return [text for _, text in self.heard]


@pytest.fixture
def net() -> Net:
    return Net()


def numbered(count: int) -> list[bytes]:
    return [b"%d" % number for number in range(count)]


def test_order_is_kept_in_each_direction(net: Net) -> None:
    end, made = net.join()
    for text in numbered(50):
        net.network.send_up(made, [text])
        assert net.network.send_down(made.route, [text])
    net.run(1.0)
    assert net.texts() == end.heard == numbered(50)


def test_what_is_sent_before_the_connection_stands_follows_it(net: Net) -> None:
    end = End(net)
    made = net.network.connect(end.process, end.path, end)
    net.network.send_up(made, [b"hello"])
    net.run(1.0)
    assert net.texts() == [b"hello"]


def test_a_short_cut_holds_what_is_sent(net: Net) -> None:
    end, made = net.join()
    net.network.cut(end.path, up=True, down=False)
    net.network.send_up(made, [b"1"])
    net.network.send_down(made.route, [b"2"])
    net.run(1.0)
    assert (net.texts(), end.heard) == ([], [b"2"])
    net.network.mend(end.path, up=True, down=False)
    net.network.send_up(made, [b"3"])
    net.run(1.0)
    assert net.texts() == [b"1", b"3"]
    assert end.told == ["connected"]


@pytest.mark.parametrize(("up", "down"), [(True, True), (True, False), (False, True)])
def test_a_long_cut_ends_the_connection_at_both_ends(net: Net, up: bool, down: bool) -> None:
    end, made = net.join()
    net.network.cut(end.path, up=up, down=down)
    net.network.send_up(made, [b"lost, if it goes nowhere"])
    net.run(5.0)
    assert end.told == ["connected", "disconnected"]
    assert net.ended == 1
    assert not net.network.send_down(made.route, [b"x"])
    net.network.mend(end.path, up=up, down=down)
    net.run(1.0)
    assert len(net.heard) == (0 if up else 1)


def test_no_connection_comes_about_through_a_cut_and_none_is_refused(net: Net) -> None:
    end = End(net)
    net.network.cut(end.path, up=False, down=True)
    net.network.connect(end.process, end.path, end)
    net.run(10.0)
    assert end.told == []
    net.network.mend(end.path, up=False, down=True)
    net.run(1.0)
    assert end.told == ["connected"]


def test_without_a_listener_connections_are_refused(net: Net) -> None:
    net.scheduler.is_dead = True
    end = End(net)
    net.network.connect(end.process, end.path, end)
    net.run(0.25)
    assert set(end.told) == {"refused"}


def test_a_frozen_listener_accepts_and_does_not_answer(net: Net) -> None:
    net.scheduler.is_frozen = True
    end = End(net)
    made = net.network.connect(end.process, end.path, end)
    net.network.send_up(made, [b"hello"])
    net.run(5.0)
    assert end.told == ["connected", "disconnected"]
    net.scheduler.thaw()
    net.run(1.0)
    assert net.heard == []


def test_what_came_before_the_end_of_a_connection_is_heard_before_it(net: Net) -> None:
    _, made = net.join()
    net.scheduler.is_frozen = True
    for text in numbered(10):
        net.network.send_up(made, [text])
    net.run(0.5)
    net.network.close(made, is_last_word_sent=True)
    net.run(0.5)
    assert net.ended == 0
    net.scheduler.thaw()
    net.run(1.0)
    assert net.texts() == numbered(10)
    assert net.ended == 1


def test_a_frozen_member_is_given_up_after_two_seconds(net: Net) -> None:
    end, _ = net.join()
    end.process.is_frozen = True
    net.network.frozen(end.process)
    net.run(1.0)
    assert net.ended == 0
    net.run(2.0)
    assert net.ended == 1
    assert end.told == ["connected"]
    end.process.thaw()
    net.run(1.0)
    assert end.told == ["connected", "disconnected"]


@pytest.mark.parametrize("is_noticed", [True, False])
def test_the_end_of_a_process_is_told_by_its_kernel_or_found_by_silence(
    net: Net, is_noticed: bool
) -> None:
    end, _ = net.join()
    end.process.is_dead = True
    net.network.died(end.process, is_noticed)
    net.run(0.1)
    assert net.ended == int(is_noticed)
    net.run(5.0)
    assert net.ended == 1


def test_a_reset_loses_what_is_under_way_and_both_ends_know(net: Net) -> None:
    end, made = net.join()
    route = made.route
    net.network.send_up(made, [b"1"])
    net.network.send_down(route, [b"2"])
    net.network.reset(made)
    net.run(1.0)
    assert (net.heard, end.heard) == ([], [])
    assert end.told == ["connected", "disconnected"]
    assert net.ended == 1
    assert not net.network.send_down(route, [b"x"])


def test_a_connection_that_is_replaced_speaks_by_a_route_that_nobody_knows(net: Net) -> None:
    end, made = net.join()
    route = made.route
    net.network.send_up(made, [b"1"])
    net.network.replace(made)
    net.network.send_up(made, [b"2"])
    net.run(1.0)
    assert end.told == ["connected"]
    ((new, text),) = net.heard
    assert (text, new == route) == (b"2", False)
    assert not net.network.send_down(route, [b"x"])
    assert net.network.send_down(new, [b"answer"])
    net.run(1.0)
    assert end.heard == [b"answer"]


def test_messages_of_a_session_may_be_lost_or_come_twice(net: Net) -> None:
    """Those outside of it, whose number is zero, are not: nobody would say them again."""
    end, made = net.join()
    net.network.lose_next(made, 1)
    for text in (bytes(9), b"first of session", b"next of session"):
        net.network.send_down(made.route, [text])
    net.run(1.0)
    assert end.heard == [bytes(9), b"next of session"]
    assert made.down.has_gaps
    net.network.repeat_next(made, up=1, down=0)
    for text in (bytes(9), b"first of session", b"next of session"):
        net.network.send_up(made, [text])
    net.run(1.0)
    heard = net.texts()
    assert sorted(heard) == sorted([bytes(9), *[b"first of session"] * 2, b"next of session"])
    assert heard.index(b"first of session") < heard.index(b"next of session")
    assert not made.up.has_gaps


def test_a_slow_way_is_slow_and_keeps_the_order(net: Net) -> None:
    end, made = net.join()
    end.path.up.delay = 3.0
    net.network.send_up(made, [b"1"])
    end.path.up.delay = 0.0
    net.network.send_up(made, [b"2"])
    net.run(2.5)
    assert net.heard == []
    net.run(1.0)
    assert net.texts() == [b"1", b"2"]


def test_the_hash_tells_what_was_said_and_when() -> None:
    hashes = []
    for text, pause in ((b"1", 0.0), (b"1", 0.0), (b"2", 0.0), (b"1", 0.1)):
        net = Net()
        _, made = net.join()
        net.run(pause)
        net.network.send_up(made, [text])
        hashes.append(net.network.trace_hash)
    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == 3


def test_some_connections_end_at_once_and_are_heard_late(net: Net) -> None:
    """After what is said on the next one, but in their own order."""
    for _ in range(4):
        net.join()
    end = End(net)
    made = net.network.connect(end.process, end.path, end)
    net.network.send_up(made, [b"old 1"])
    net.network.send_up(made, [b"old 2"])
    net.run(0.1)
    assert end.told == ["connected", "disconnected"]
    after = net.network.connect(end.process, end.path, end)
    net.network.send_up(after, [b"new"])
    net.run(5.0)
    assert net.texts() == [b"new", b"old 1", b"old 2"]
    assert not net.network.send_down(made.route, [b"x"])
    assert net.network.send_down(after.route, [b"x"])
