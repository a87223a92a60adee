"""Too much of something: messages, tasks, results nobody reads, connections.

Times are printed, and checked with room for a busy machine; what is bounded by construction,
memory above all, is checked closely.
"""

from __future__ import annotations

import os
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from zcluster.client.client import Client
from zcluster.client.cluster import LocalCluster
from zcluster.client.waiting import wait

if TYPE_CHECKING:
    from tests.processes.conftest import Commands

#: What lasts for long here takes far longer on a busy machine.
pytestmark = [pytest.mark.processes, pytest.mark.timeout(180)]

Until = Callable[..., None]
MIB = 1 << 20


def open_gate(path: str) -> None:
    Path(path).touch()


def wait_gate(path: str) -> None:
    """Hold a slot until there is a file."""
    while not os.path.exists(path):
        time.sleep(0.02)


def memory(pid: int) -> int:
    return int(psutil.Process(pid).memory_info().rss)


class Trips:
    """Round trips to the scheduler, timed."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.seconds: list[float] = []

    def make(self) -> None:
        began = time.monotonic()
        self._client.statistics()
        self.seconds.append(time.monotonic() - began)

    def report(self, what: str) -> float:
        """Print the median and the 99th percentile; return the latter in seconds."""
        worst = statistics.quantiles(self.seconds, n=100)[98]
        print(
            f"{what}: {len(self.seconds)} round trips, median "
            f"{statistics.median(self.seconds) * 1e3:.1f} ms, p99 {worst * 1e3:.0f} ms"
        )
        return worst


@contextmanager
def script(text: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run a program that talks by lines; it is ended at the end at the latest."""
    with subprocess.Popen(
        [sys.executable, "-P", "-c", text, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def hear(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, f"the script ended with {process.wait(20)}"
    return line.strip()


def tell(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


# ------------------------------------------------------------------------------- messages

FLOOD = """
import os, struct, sys, msgspec, zmq
from zcluster.protocol.messages import PROTOCOL, Hello, Release
context = zmq.Context()
link = context.socket(zmq.DEALER)
link.setsockopt(zmq.SNDHWM, 1000)
link.setsockopt(zmq.RCVTIMEO, 10000)
link.connect(sys.argv[1])
head, pack = struct.Struct("<QQ").pack, msgspec.msgpack.encode
link.send(head(0, 0) + pack(Hello("client", PROTOCOL, "1", "3", os.urandom(16), name="flood")))
assert b"welcome" in link.recv_multipart()[0]
print("ready", flush=True)
sys.stdin.readline()
for number in range(1, int(sys.argv[2]) + 1):
    link.send(head(number, 0) + pack(Release([number])))
print("sent", flush=True)
sys.stdin.readline()
link.close(0)
context.term()
"""


@pytest.mark.slow
def test_a_flood_of_tiny_messages_leaves_others_their_turn(commands: Commands) -> None:
    pid = commands.start_scheduler()
    commands.start_node("a")
    with Client(scheduler_file=commands.file) as client:
        client.wait_for_workers(1, 40)
        before = memory(pid)
        events = client.statistics()["events"]
        peak = 0
        trips = Trips(client)
        with script(FLOOD, commands.address, "100000") as flood:
            assert hear(flood) == "ready"
            tell(flood)
            began = time.monotonic()
            while client.statistics()["events"] < events + 100_000:
                assert time.monotonic() - began < 120, "the flood does not end"
                trips.make()
                assert client.submit(abs, -1, pure=False).result(20) == 1
                peak = max(peak, memory(pid))
            print(f"100,000 messages in {time.monotonic() - began:.1f} s")
            assert hear(flood) == "sent"
            tell(flood)
            flood.wait(10)
        assert trips.report("during a flood") < 5  # 0.1 on a machine with nothing else to do
        assert peak - before < 64 * MIB


# ------------------------------------------------------------------------------ not reading


@pytest.mark.slow
def test_a_node_that_does_not_read_costs_little_and_its_work_goes_elsewhere(
    commands: Commands, until: Until, stopped: Callable[[int], None], tmp_path: Path
) -> None:
    pid = commands.start_scheduler()
    commands.start_node("a")
    nanny = commands.start_node("b")
    with Client(scheduler_file=commands.file) as client:
        client.wait_for_workers(2, 40)
        gate = str(tmp_path / "gate")
        held = client.map(wait_gate, [gate] * 2, pure=False, priority=1)
        until(lambda: client.statistics()["states"]["assigned"] == 2, 30)
        futures = client.map(abs, range(100_000), pure=False)
        until(lambda: client.statistics()["rows"] == 100_002, 60, "all to be queued")
        stopped(nanny)
        open_gate(gate)
        before = memory(pid)
        peak = before
        began = time.monotonic()
        while client.statistics()["states"]["finished"] < 100_002:
            assert time.monotonic() - began < 120, "the other node does not do the work"
            peak = max(peak, memory(pid))
            time.sleep(0.05)  # between two looks
        print(f"{time.monotonic() - began:.1f} s, {(peak - before) / MIB:.0f} MiB more at most")
        assert peak - before < 64 * MIB
        assert client.gather(futures[::1000]) == list(range(0, 100_000, 1000))
        wait(held, timeout=10)
        os.kill(nanny, signal.SIGCONT)
        client.wait_for_workers(2, 40)


ASLEEP = """
import ctypes, sys
from zcluster.distributed import Client, wait
client = Client(sys.argv[1])
futures = client.map(abs, range(int(sys.argv[2])), pure=False)
large = client.map(bytes, [10_000 + number % 9 for number in range(20_000)], pure=False)
client.statistics()
print("asleep", flush=True)
ctypes.PyDLL(None).sleep(int(sys.argv[3]))  # in C, with the interpreter's lock
wait([*futures, *large], timeout=90)
assert client.gather(futures) == list(range(int(sys.argv[2])))
assert [len(each) for each in client.gather(large[:900])] == [*range(10_000, 10_009)] * 100
print("done", flush=True)
sys.stdin.readline()
"""


@pytest.mark.slow
def test_a_client_that_does_not_read_is_told_later_and_costs_little() -> None:
    """Bytes of results go to a client that acknowledges; else they stay where they were made."""
    count = 100_000
    with LocalCluster(2, 1) as cluster, Client(cluster) as client:
        client.wait_for_workers(2, 40)
        with script(ASLEEP, cluster.scheduler_address, str(count), "20") as asleep:
            assert hear(asleep) == "asleep"
            client.wait_for_workers(2, 40)
            queued = memory(cluster.pids[0])
            trips = Trips(client)
            peak = queued
            began = time.monotonic()
            while client.statistics()["states"]["finished"] < count + 20_000:
                assert time.monotonic() - began < 120, "the work stands still"
                trips.make()
                peak = max(peak, memory(cluster.pids[0]))
                time.sleep(0.01)  # between two looks
            peak = max(peak, memory(cluster.pids[0]))
            print(f"{(peak - queued) / MIB:.0f} MiB more for results of 200 MB")
            trips.report("beside a client asleep")
            # Its credit and what is on its way, which is more the busier the machine is.
            assert peak - queued < 100 * MIB
            assert hear(asleep) == "done"
            tell(asleep)
            asleep.wait(30)


# ---------------------------------------------------------------------------------- tasks


@pytest.mark.slow
@pytest.mark.timeout(800)
def test_a_million_queued_tasks_fit_and_the_scheduler_answers(until: Until, tmp_path: Path) -> None:
    count, batch = 1_000_000, 50_000
    with LocalCluster(2, 1) as cluster, Client(cluster) as client, Client(cluster) as other:
        client.wait_for_workers(2, 40)
        gate = str(tmp_path / "gate")
        held = client.map(wait_gate, [gate] * 2, pure=False, priority=1)
        before = memory(cluster.pids[0])
        trips = Trips(other)
        futures = []
        began = time.monotonic()
        for start in range(0, count, batch):
            futures.append(client.map(abs, range(start, start + batch), pure=False))
            trips.make()
        while other.statistics()["rows"] < count + 2:
            assert time.monotonic() - began < 240, "they do not arrive"
            trips.make()
        queued = memory(cluster.pids[0])
        each = (queued - before) / count
        print(f"queued in {time.monotonic() - began:.0f} s, {each:.0f} bytes a task")
        assert queued < 1024 * MIB
        open_gate(gate)
        began = time.monotonic()
        peak = queued
        while other.statistics()["states"]["finished"] < count + 2:
            assert time.monotonic() - began < 300, "the work stands still"
            trips.make()
            peak = max(peak, memory(cluster.pids[0]))
            time.sleep(0.02)  # between two looks
        print(f"run in {time.monotonic() - began:.0f} s, {peak / MIB:.0f} MiB at most")
        worst = trips.report("beside a million tasks")
        assert peak < 1024 * MIB
        assert worst < 10  # 0.1 on a machine with nothing else to do
        assert client.gather(futures[7][::5000]) == list(range(7 * batch, 8 * batch, 5000))
        wait(held, timeout=10)
        del futures, held
        until(lambda: other.statistics()["rows"] == 0, 60, "the release of all")


# -------------------------------------------------------------------------- descriptors

FEW_FILES = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (32, 64))
from zcluster.cli.scheduler import main
sys.exit(main())
"""


@pytest.mark.slow
def test_a_scheduler_without_descriptors_serves_who_is_there_and_recovers(
    commands: Commands, until: Until
) -> None:
    """The limit is 64; 150 connections come and stay, and come again when they are ended."""
    program = ("-c", FEW_FILES)
    pid = commands.start_scheduler("--host=127.0.0.1", "--port=0", "--insecure", program=program)
    assert psutil.Process(pid).rlimit(psutil.RLIMIT_NOFILE) == (64, 64), "not raised to the most"
    commands.start_node("a")
    port = int(commands.address.rpartition(":")[2])
    with Client(scheduler_file=commands.file) as client, ExitStack() as stack:
        client.wait_for_workers(1, 40)
        before = client.scheduler_info()["workers"]["a-0"]["pid"]
        trips = Trips(client)
        for _ in range(150):
            stranger = stack.enter_context(socket.create_connection(("127.0.0.1", port), 5))
            stranger.setblocking(False)
        until(lambda: "has no file descriptors left" in commands.errors(), 30, "a warning")
        began, spent = time.monotonic(), sum(psutil.Process(pid).cpu_times()[:2])
        while time.monotonic() - began < 1.5:
            trips.make()
            assert client.submit(abs, -1, pure=False).result(20) == 1
            time.sleep(0.01)  # an idle scheduler is wanted: what it spends is looked at
        share = (sum(psutil.Process(pid).cpu_times()[:2]) - spent) / (time.monotonic() - began)
        print(f"{share:.0%} of a processor")
        assert trips.report("without descriptors") < 5
        assert share < 0.6, "it spins"
        assert client.scheduler_info()["workers"]["a-0"]["pid"] == before
        stack.close()
        began = time.monotonic()
        with Client(scheduler_file=commands.file, timeout=40) as late:
            print(f"a new client {time.monotonic() - began:.2f} s later")
            assert late.submit(abs, -2).result(20) == 2
        assert client.status == "running"
