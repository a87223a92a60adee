"""A zcluster of real commands that are killed, frozen and cut off, and started again."""

from __future__ import annotations

import contextlib
import heapq
import importlib.util
import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

#: Marks all processes of a run, however far down, so that those left over are found.
VARIABLE = "CHAOS_RUN"
_BACK_OFF_FIRST, _BACK_OFF_MOST, _FORGET = 0.1, 3.0, 5.0
_PYTHON = (sys.executable, "-P", "-m")


def load_relay() -> Any:
    """Return the class `Relay` of the tests: a network that can be broken."""
    path = Path(__file__).resolve().parents[1] / "tests" / "processes" / "links.py"
    spec = importlib.util.spec_from_file_location("links", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Relay


class Node:
    """One nanny, which is started again whenever it ends, as a launcher does."""

    def __init__(self, name: str, workers: int, command: list[str]) -> None:
        self.name, self.workers = name, workers
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None
        self._due = 0.0
        self._started = 0.0
        self._wait = _BACK_OFF_FIRST

    @property
    def pid(self) -> int:
        """The nanny's process; 0 while there is none."""
        process = self._process
        return 0 if process is None else process.pid

    def look(self, errors: Any) -> None:
        """Start it if it is due; see whether it has ended."""
        now = time.monotonic()
        if self._process is None:
            if now >= self._due:
                self._started = now
                self._process = subprocess.Popen(
                    self._command,
                    stdin=subprocess.DEVNULL,
                    stdout=errors,
                    stderr=errors,
                    start_new_session=True,
                )
        elif self._process.poll() is not None:
            if now - self._started > _FORGET:
                self._wait = _BACK_OFF_FIRST
            self._due = now + self._wait
            self._wait = min(_BACK_OFF_MOST, self._wait * 2)
            self._process = None

    def end(self) -> None:
        """End it in order; a stopped one is let go on first."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.terminate()

    def wait(self) -> bool:
        """Wait until it has ended; return whether it did by itself."""
        if self._process is None:
            return True
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(5)
            return False
        return True

    def worker_pids(self) -> list[int]:
        """Return the processes of its workers: children of its template."""
        return [child.pid for each in self.templates() for child in _children(each)]

    def templates(self) -> list[Any]:
        """Return what workers are forked from; one, if it is there."""
        import psutil

        if not self.pid:
            return []
        try:
            return _children(psutil.Process(self.pid))
        except psutil.Error:
            return []


def _children(process: Any) -> list[Any]:
    import psutil

    try:
        return list(process.children())
    except psutil.Error:  # it has ended
        return []


class Cluster:
    """A scheduler and nodes, the last of which is connected through a relay.

    Parameters
    ----------
    folder : Path
        For the scheduler file, what is written on standard error, and scratch folders.
    workers : int
        In all.
    """

    def __init__(self, folder: Path, workers: int) -> None:
        self.folder = folder
        self.file = folder / "scheduler.json"
        self._errors = (folder / "errors").open("ab")
        self._stop = threading.Event()
        self._scheduler = subprocess.Popen(
            [
                *(*_PYTHON, "zcluster.cli.scheduler", f"--scheduler-file={self.file}"),
                *("--host=127.0.0.1", "--port=0", "--insecure"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=self._errors,
            stderr=self._errors,
            start_new_session=True,
        )
        deadline = time.monotonic() + 20
        while not self.file.exists():
            if time.monotonic() > deadline or self._scheduler.poll() is not None:
                raise RuntimeError(f"the scheduler did not start: {self.errors()[-500:]}")
            time.sleep(0.02)
        from zcluster.transport.scheduler_file import read_scheduler_file

        self.address = read_scheduler_file(self.file).address
        #: Where the first node's results go that its small store has no room for.
        self.disk = folder / "disk"
        self.disk.mkdir()
        self.is_disk_small = _mount(self.disk)
        relay = load_relay()
        #: Of the last node, and of a client.
        self.relay, self.client_relay = relay(self.address), relay(self.address)
        counts = [workers - workers // 4 * 2, workers // 4, workers // 4]
        self.nodes = [
            Node(name, count, self._command(name, count, address))
            for name, count, address in zip(
                "abc", counts, [self.address, self.address, self.relay.address], strict=True
            )
            if count
        ]
        self._thread = threading.Thread(target=self._supervise, name="supervisor")
        self._thread.start()

    def _command(self, name: str, workers: int, address: str) -> list[str]:
        return [
            *(*_PYTHON, "zcluster.cli.worker", address, "--insecure", f"--name={name}"),
            *(f"--nworkers={workers}", "--nthreads=1", "--memory-limit=1GB"),
            *(["--store-limit=16MB", f"--local-directory={self.disk}"] if name == "a" else []),
        ]

    @property
    def scheduler_pid(self) -> int:
        """The scheduler's process."""
        return self._scheduler.pid

    @property
    def names(self) -> list[str]:
        """All workers there are when none is missing."""
        return [f"{node.name}-{number}" for node in self.nodes for number in range(node.workers)]

    def errors(self) -> str:
        """Return what all processes wrote."""
        return (self.folder / "errors").read_text(errors="replace")

    def _supervise(self) -> None:
        while not self._stop.wait(0.02):
            for node in self.nodes:
                node.look(self._errors)

    def close(self) -> list[str]:
        """End everything; return a sentence for whatever did not end by itself."""
        self._stop.set()
        self._thread.join(10)
        self._scheduler.send_signal(signal.SIGCONT)
        for node in self.nodes:
            node.end()
        found = [f"nanny {node.name} had to be killed" for node in self.nodes if not node.wait()]
        self._scheduler.terminate()
        try:
            self._scheduler.wait(10)
        except subprocess.TimeoutExpired:
            self._scheduler.kill()
            self._scheduler.wait(5)
            found.append("the scheduler had to be killed")
        self.relay.close()
        self.client_relay.close()
        self._errors.close()
        if self.is_disk_small:
            subprocess.run(["umount", "--lazy", str(self.disk)], check=False)
        return found


def _mount(folder: Path) -> bool:
    """Make a folder a disk of its own that is soon full; only root may."""
    command = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)]
    if os.geteuid() or shutil.which("mount") is None:
        return False
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


class Faults:
    """Does harm at a rate, from a thread of its own, until told to stop.

    Parameters
    ----------
    cluster : Cluster
    seed : int
    rate : float
        Kills a second. What is not a kill comes at half that rate besides.

    Attributes
    ----------
    counts : Counter
        What was done how often.
    """

    def __init__(self, cluster: Cluster, seed: int, rate: float) -> None:
        self.counts: Counter[str] = Counter()
        self._cluster = cluster
        self._chance = random.Random(seed)
        self._rate = rate
        self._stop = threading.Event()
        #: What makes good again what was done: (when, number, what).
        self._undo: list[tuple[float, int, Callable[[], object]]] = []
        self._numbers = itertools.count()
        self._busy: set[str] = set()
        self._thread = threading.Thread(target=self._run, name="faults")

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Do no more harm, and make good what can be."""
        self._stop.set()
        self._thread.join(20)
        while self._undo:
            heapq.heappop(self._undo)[2]()

    def _run(self) -> None:
        now = time.monotonic()
        next_kill, next_other = now, now + 1 / self._rate
        while not self._stop.wait(0.01):
            now = time.monotonic()
            while self._undo and self._undo[0][0] <= now:
                heapq.heappop(self._undo)[2]()
            if now >= next_kill:
                next_kill = max(now - 1, next_kill + 1 / self._rate)
                self._kill()
            if now >= next_other:
                next_other += self._chance.expovariate(self._rate / 2)
                others = [
                    *(self._freeze_worker, self._freeze_worker, self._freeze_nanny),
                    *(self._freeze_scheduler, self._cut, self._cut, self._reset, self._delay),
                    *(self._reset_client, self._cut_client, self._fill_disk),
                ]
                self._chance.choice(others)()

    def _later(self, seconds: float, call: Callable[[], object]) -> None:
        heapq.heappush(self._undo, (time.monotonic() + seconds, next(self._numbers), call))

    def _signal(self, pid: int, number: int) -> bool:
        if pid <= 0:
            return False
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return False
        return True

    # ------------------------------------------------------------------------- kills

    def _kill(self) -> None:
        node = self._chance.choice(self._cluster.nodes)
        draw = self._chance.random()
        if draw < 0.3:
            self.counts["nanny killed"] += self._signal(node.pid, signal.SIGKILL)
            return
        if draw < 0.35:
            for template in node.templates():
                self.counts["template killed"] += self._signal(template.pid, signal.SIGKILL)
            return
        pids = [pid for each in self._cluster.nodes for pid in each.worker_pids()]
        if pids:
            done = self._signal(self._chance.choice(pids), signal.SIGKILL)
            self.counts["worker killed"] += done

    # ----------------------------------------------------------------------- freezes

    def _freeze(self, what: str, pid: int, most: float) -> None:
        seconds = 0.1 * (most / 0.1) ** self._chance.random()
        if self._signal(pid, signal.SIGSTOP):
            self.counts[f"{what} frozen"] += 1
            self._later(seconds, lambda: self._signal(pid, signal.SIGCONT))

    def _freeze_worker(self) -> None:
        pids = [pid for node in self._cluster.nodes for pid in node.worker_pids()]
        if pids:
            self._freeze("worker", self._chance.choice(pids), 20)

    def _freeze_nanny(self) -> None:
        self._freeze("nanny", self._chance.choice(self._cluster.nodes).pid, 20)

    def _freeze_scheduler(self) -> None:
        self._freeze("scheduler", self._cluster.scheduler_pid, 5)

    # ----------------------------------------------------------------------- network

    def _once(self, what: str, most: float, undo: Callable[[], None]) -> bool:
        """Whether a fault that lasts can be done now; it is undone after up to `most` seconds."""
        name = what.partition(" ")[0]
        if name in self._busy:
            return False
        self._busy.add(name)
        self.counts[what] += 1

        def done() -> None:
            undo()
            self._busy.discard(name)

        self._later(0.1 * (most / 0.1) ** self._chance.random(), done)
        return True

    def _cut(self) -> None:
        relay = self._cluster.relay
        up, down = self._chance.choice([(True, True), (True, False), (False, True)])
        if self._once("node cut off", 15, relay.heal):
            relay.cut(up, down)

    def _delay(self) -> None:
        relay = self._cluster.relay
        if self._once("node delayed", 5, lambda: relay.delay(0.0)):
            relay.delay(self._chance.uniform(0.01, 0.5))

    def _reset(self) -> None:
        self.counts["node reset"] += 1
        self._cluster.relay.end(reset=True)

    def _cut_client(self) -> None:
        relay = self._cluster.client_relay
        if self._once("client cut off", 7, relay.heal):
            relay.cut()

    def _reset_client(self) -> None:
        self.counts["client reset"] += 1
        self._cluster.client_relay.end(reset=True)

    # -------------------------------------------------------------------------- disk

    def _fill_disk(self) -> None:
        path = self._cluster.disk / "filler"
        if not self._cluster.is_disk_small:
            return
        if self._once("disk filled", 5, lambda: path.unlink(missing_ok=True)):
            with contextlib.suppress(OSError), path.open("wb") as file:
                while True:  # until nothing is left
                    file.write(bytes(1 << 20))


def leftovers(mark: str, folder: Path) -> list[str]:
    """Return what is there of a run that should have ended, after the sweep of a next start."""
    import psutil

    from zcluster.transport.scratch import sweep

    found = []
    deadline = time.monotonic() + 5
    while True:
        left = [p for p in psutil.process_iter() if _is_marked(p, mark) and p.pid != os.getpid()]
        if not left or time.monotonic() > deadline:
            break
        time.sleep(0.05)
    for process in left:
        with contextlib.suppress(psutil.Error):
            found.append(f"process {process.pid}: {' '.join(process.cmdline())[:120]}")
            process.kill()
    sweep()
    found += [f"file {path}" for path in folder.glob("zc-*")]
    shutil.rmtree(folder, ignore_errors=True)
    return found


def _is_marked(process: Any, mark: str) -> bool:
    import psutil

    try:
        return bool(process.environ().get(VARIABLE) == mark)
    except (psutil.Error, OSError):
        return False
