"""Networks that break: cut for a while, in one direction, in the middle of a message, for good.

A node is connected to its scheduler through a relay, the node beside it is not. What ran and how
often is seen in a log of calls; that nothing was fenced, by the processes of the workers, which
an incarnation that starts over starts anew.
"""

from __future__ import annotations

import operator
import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pytest

from zcluster.client.client import Client
from zcluster.client.waiting import wait

if TYPE_CHECKING:
    from tests.processes.conftest import Commands, Log
    from tests.processes.links import Relay

#: What lasts for long here takes far longer on a busy machine.
pytestmark = [pytest.mark.processes, pytest.mark.timeout(180)]

Until = Callable[..., None]
Relays = Callable[[str], "Relay"]
MIB = 1 << 20


def note(path: str, text: object) -> None:
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, f"{text}\n".encode())
    os.close(file)


def step(path: str, number: int, seconds: float) -> int:
    note(path, number)
    time.sleep(seconds)
    return number * number


def make_large(path: str, size: int) -> np.ndarray:
    note(path, f"large {size}")
    return np.full(size, 7, np.uint8)


def total(array: np.ndarray) -> int:
    return int(array.sum())


class Net:
    """A scheduler on TCP with node ``a`` beside it and node ``b`` behind a relay."""

    def __init__(self, commands: Commands, relays: Relays) -> None:
        self.commands = commands
        commands.start_scheduler("--host=127.0.0.1", "--port=0", "--insecure")
        self.relay = relays(commands.address)
        self.nannies = {
            "a": commands.start_node("a"),
            "b": commands.start_node("b", address=self.relay.address),
        }
        self.client = Client(scheduler_file=commands.file)
        self.client.wait_for_workers(2, 40)
        #: The process of b's worker, which a new incarnation does not have.
        self.pid = self.worker_pid("b")

    def worker_pid(self, node: str) -> int:
        """Return the process of a node's worker; 0 while the node is away."""
        return int(self.client.scheduler_info()["workers"].get(f"{node}-0", {"pid": 0})["pid"])


@pytest.fixture
def net(commands: Commands, relays: Relays) -> Iterator[Net]:
    made = Net(commands, relays)
    yield made
    made.relay.heal()
    made.client.close()


def pause(until: Until, seconds: float) -> None:
    """Let a fault last: the only sleep there is, since a fault that lasts is what is tested."""
    end = time.monotonic() + seconds
    until(lambda: time.monotonic() > end, seconds + 5)


# ------------------------------------------------------------------------------ cut off


@pytest.mark.parametrize(
    ("seconds", "up", "down"),
    [
        pytest.param(1.0, True, True, marks=pytest.mark.slow),
        pytest.param(6.0, True, True, marks=pytest.mark.slow),
        pytest.param(6.0, True, False, marks=pytest.mark.slow),
        pytest.param(6.0, False, True, marks=pytest.mark.slow),
    ],
)
def test_a_node_cut_off_for_less_than_ten_seconds_loses_nothing(
    net: Net, log: Log, until: Until, seconds: float, up: bool, down: bool
) -> None:
    client = net.client
    kept = client.submit(make_large, log.path, 100_000, workers="b", allow_other_workers=True)
    wait([kept])
    futures = client.map(step, [log.path] * 200, range(200), [0.02] * 200, pure=False)
    log.wait_lines(30)
    net.relay.cut(up, down)
    pause(until, seconds)
    net.relay.heal()
    healed = time.monotonic()
    probe = client.submit(os.getpid, workers="b", pure=False, priority=10)
    assert probe.result(20) == net.pid, "the node was fenced"
    print(f"back {time.monotonic() - healed:.2f} s after {seconds} s")
    assert client.gather(futures) == [number * number for number in range(200)]
    assert client.submit(total, kept).result(20) == 700_000
    counts = log.counts()
    assert counts["large 100000"] == 1, "what the node held was made again"
    # What it had been given runs elsewhere too; no more than that.
    assert sum(counts[str(number)] - 1 for number in range(200)) <= 20
    assert time.monotonic() - healed < 20


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["up", "down", "deaf"])
def test_a_node_cut_off_for_longer_starts_over_soon_after(
    net: Net, log: Log, until: Until, running: Callable[[int], bool], kind: str
) -> None:
    client = net.client
    kept = client.submit(make_large, log.path, 100_000, workers="b", allow_other_workers=True)
    wait([kept])
    futures = client.map(step, [log.path] * 60, range(60), [0.02] * 60, pure=False)
    log.wait_lines(10)
    began = time.monotonic()
    if kind == "deaf":
        net.relay.deafen()  # its packets go nowhere: it is not even refused
    else:
        net.relay.cut(kind != "down", kind != "up")
    assert client.gather(futures) == [number * number for number in range(60)]
    assert time.monotonic() - began < 9.5, "its work went elsewhere too late"
    until(lambda: len(client.overview()["nodes"]) == 1, 30, "the node's end")
    assert time.monotonic() - began > 6, "it may come back for that long"
    # What it held is made again, where it is needed.
    assert client.submit(total, kept).result(20) == 700_000
    pause(until, max(0.0, began + 14 - time.monotonic()))
    net.relay.heal()
    healed = time.monotonic()
    client.wait_for_workers(2, 40)
    took = time.monotonic() - healed
    print(f"{kind}: a new incarnation {took:.2f} s after the heal")
    assert net.worker_pid("b") != net.pid
    assert running(net.nannies["b"]), "the nanny gave up"
    assert took < 20  # five, on a machine with nothing else to do
    until(lambda: not running(net.pid), 20, "the end of the fenced incarnation's worker")
    assert client.submit(os.getpid, workers="b", pure=False).result(20) == net.worker_pid("b")


# ------------------------------------------------------------------- broken connections


@pytest.mark.parametrize("reset", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_connections_that_end_in_the_middle_of_messages_lose_and_double_nothing(
    net: Net, log: Log, reset: bool
) -> None:
    client, relay = net.client, net.relay
    futures = []
    for start in range(0, 400, 100):
        before = relay.made
        if reset:
            relay.end(reset=True)
        else:
            relay.left = 3000 + 177 * start  # somewhere within what comes
        numbers = range(start, start + 100)
        futures += client.map(step, [log.path] * 100, numbers, [0.0] * 100, pure=False, workers="b")
        assert client.gather(futures[start:]) == [number * number for number in numbers]
        if relay.left is not None:
            relay.left = None
            relay.end(reset=True)
        assert client.submit(os.getpid, workers="b", pure=False).result(20) == net.pid
        assert relay.made > before, "nothing was broken"
    assert set(log.counts().values()) == {1}


@pytest.mark.slow
def test_what_a_replaced_connection_brings_late_is_not_heard_twice(
    net: Net, log: Log, until: Until
) -> None:
    """The old connection's bytes come when the session goes on over a new one already."""
    client, relay = net.client, net.relay
    futures = client.map(step, [log.path] * 60, range(60), [0.02] * 60, pure=False, workers="b")
    log.wait_lines(10)
    before = relay.made
    relay.cut(new=True)
    until(lambda: relay.made > before, 20, "a new connection")
    # It answers over the new one while what it said over the old one has yet to arrive.
    assert client.submit(os.getpid, workers="b", pure=False, priority=9).result(20) == net.pid
    relay.heal()
    assert client.gather(futures) == [number * number for number in range(60)]
    assert set(log.counts().values()) == {1}
    assert net.worker_pid("b") == net.pid


@pytest.mark.slow
def test_a_network_of_much_delay_loses_nobody(net: Net, log: Log) -> None:
    """There and back, a second each way, is longer than a heartbeat's timeout."""
    client, relay = net.client, net.relay
    relay.delay(1.0)
    futures = client.map(step, [log.path] * 4, range(4), [0.01] * 4, pure=False, workers="b")
    assert client.gather(futures) == [number * number for number in range(4)]
    relay.delay(0.0)
    assert client.submit(os.getpid, workers="b", pure=False).result(20) == net.pid
    assert set(log.counts().values()) == {1}


@pytest.mark.slow
def test_an_idle_connection_is_never_silent_for_long(net: Net, until: Until) -> None:
    net.relay.heal()
    net.relay.silence = 0.0
    pause(until, 2.5)
    print(f"longest silence {net.relay.silence:.2f} s")
    assert 0 < net.relay.silence < 5  # what firewalls forget is silent for minutes


# ------------------------------------------------------------------------------- clients


def _append(called: list[int], number: int, _: object) -> None:
    called.append(number)


@pytest.mark.parametrize(
    ("seconds", "kind"),
    [
        (1.0, "cut"),
        pytest.param(5.0, "deaf", marks=pytest.mark.slow),
        pytest.param(7.0, "cut", marks=pytest.mark.slow),
    ],
)
def test_a_client_s_blip_keeps_its_futures_and_each_resolves_once(
    net: Net, log: Log, until: Until, seconds: float, kind: str
) -> None:
    relay = net.relay  # the node's; the client gets one of its own
    wire = type(relay)(net.commands.address)
    called: list[int] = []
    try:
        with Client(wire.address, insecure=True) as client:
            kept = client.submit(np.arange, 100_000)
            wait([kept])
            futures = client.map(step, [log.path] * 300, range(300), [0.01] * 300, pure=False)
            for number, future in enumerate(futures):
                future.add_done_callback(partial(_append, called, number))
            log.wait_lines(20)
            if kind == "deaf":
                wire.deafen()
            else:
                wire.cut()
            during = client.map(operator.neg, range(50), pure=False)
            pause(until, seconds)
            wire.heal()
            healed = time.monotonic()
            assert client.gather(during) == [-i for i in range(50)]
            print(f"back {time.monotonic() - healed:.2f} s after {seconds} s ({kind})")
            assert client.gather(futures) == [number * number for number in range(300)]
            assert time.monotonic() - healed < 20
            assert client.submit(np.sum, kept).result(20) == 4_999_950_000
            until(lambda: len(called) == 300, 20, "a callback for each")
            assert client.status == "running"
    finally:
        wire.close()
    assert sorted(called) == list(range(300))
    assert set(log.counts().values()) == {1}
