"""The parts of the commands that need no server: addresses, signals, exit statuses."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import click
import psutil
import pytest

from zcluster.cli import common
from zcluster.errors import (
    ClusterError,
    InvalidArgument,
    SchedulerLost,
    StartError,
    ZClusterError,
)


class Ends:
    """A server that runs until stopped, and is sent a signal meanwhile."""

    def __init__(self, *numbers: int) -> None:
        self.numbers = numbers
        self.stopped = 0

    def run(self) -> None:
        for number in self.numbers:
            os.kill(os.getpid(), number)
        assert not self.numbers or self.stopped == 1

    def stop(self) -> None:
        self.stopped += 1


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_stops_the_server_in_order_and_sets_the_status(number: int, status: int) -> None:
    stopper = common.Stopper(launched=False)
    stopper.install()
    assert stopper.run(Ends(number)) == status


def test_a_server_that_ends_by_itself_is_status_0() -> None:
    assert common.Stopper(launched=False).run(Ends()) == 0


@pytest.mark.parametrize("signals", ["before", "twice"])
def test_a_signal_that_cannot_wait_ends_at_once_after_the_clean_up(signals: str) -> None:
    """Before there is a server, or again: even where an exception would be swallowed."""
    code = (
        "import os, signal, sys\n"
        "from zcluster.cli import common\n"
        "stopper = common.Stopper(launched=False)\n"
        "stopper.install()\n"
        "stopper.cleanups += [lambda: print('last', flush=True), lambda: print('first')]\n"
        "class Collected:\n"
        "    def __del__(self): os.kill(os.getpid(), signal.SIGTERM)\n"
        "class Deaf:\n"
        "    def run(self): Collected(); print('asked'); Collected(); print('never')\n"
        "    def stop(self): pass\n"
        "if sys.argv[1] == 'before': Collected()\n"
        "stopper.run(Deaf())\n"
    )
    run = subprocess.run(
        [sys.executable, "-P", "-c", code, signals], capture_output=True, text=True, timeout=30
    )
    asked = ["asked"] if signals == "twice" else []
    assert run.stdout.split() == [*asked, "first", "last"]
    assert (run.returncode, run.stderr) == (143, "")


@pytest.mark.parametrize("launched", [False, True])
def test_signals_during_the_clean_up_do_not_leave_it_half_done(launched: bool) -> None:
    code = (
        "import os, signal\n"
        "from zcluster.cli import common\n"
        f"stopper = common.Stopper(launched={launched})\n"
        "stopper.install()\n"
        "told = []\n"
        "def clean_up():\n"
        "    if len(told) < 2:\n"
        "        told.append(os.kill(os.getpid(), signal.SIGTERM))\n"
        "    print('whole', flush=True)\n"
        "class Ends:\n"
        "    def run(self): pass\n"
        "    def stop(self): pass\n"
        "stopper.cleanups.append(clean_up)\n"
        "stopper.run(Ends())\n"
        "stopper.clean()\n"
    )
    run = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=30
    )
    assert (run.stdout.split()[:1], run.stderr) == (["whole"], "")


def test_the_clean_up_is_done_once() -> None:
    done: list[int] = []
    stopper = common.Stopper(launched=False)
    stopper.cleanups.append(lambda: done.append(1))
    stopper.clean()
    stopper.clean()
    assert done == [1]


@pytest.mark.parametrize(
    ("soft", "hard", "expected"), [(64, 200, 200), (100, 900, 500), (200, 200, 200)]
)
def test_as_many_files_as_the_system_permits(soft: int, hard: int, expected: int) -> None:
    script = (
        "import resource, sys\n"
        "from zcluster.cli import common\n"
        "common._FILES = 500\n"
        f"resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))\n"
        "common.allow_files()\n"
        "print(*resource.getrlimit(resource.RLIMIT_NOFILE))\n"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=20)
    assert run.stdout.split() == [str(expected), str(hard)], run.stderr


def test_what_was_ignored_at_our_start_stays_ignored() -> None:
    """Nohup ignores SIGHUP, a shell SIGINT for what it runs in the background."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    common.Stopper(launched=False).install()
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InvalidArgument("bad"), 2),
        (click.UsageError("bad"), 2),
        (StartError("bad"), 3),
        (SchedulerLost("bad"), 4),
        (ClusterError("bad"), 1),
        (ZClusterError("bad"), 1),
    ],
)
def test_an_error_is_one_sentence_and_a_status(
    error: Exception, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    @click.command("zcluster-it")
    def command() -> None:
        raise error

    assert common.run_command(command, [], start_error=common.UNREACHABLE) == status
    assert capsys.readouterr().err == f"zcluster-it: {error}\n"


def test_ctrl_c_is_130_and_a_status_is_passed_on() -> None:
    @click.command("zcluster-it")
    @click.argument("what")
    def command(what: str) -> int:
        if what == "interrupt":
            raise KeyboardInterrupt
        return 7

    assert common.run_command(command, ["interrupt"]) == 130
    assert common.run_command(command, ["end"]) == 7


def test_tcp_is_loopback_unless_told_otherwise() -> None:
    assert common.tcp_address(None, None, None, 8786) == "tcp://127.0.0.1:8786"
    assert common.tcp_address("127.0.0.2", 0, None, 8786) == "tcp://127.0.0.2:0"
    assert common.tcp_address("::1", 5, None, 8786) == "tcp://[::1]:5"


def test_an_interface_is_its_address() -> None:
    loopback = next(
        name
        for name, entries in psutil.net_if_addrs().items()
        if any(entry.address == "127.0.0.1" for entry in entries)
    )
    assert common.tcp_address(None, 1, loopback, 2) == "tcp://127.0.0.1:1"


@pytest.mark.parametrize(
    ("host", "interface", "says"),
    [
        ("0.0.0.0", None, "all addresses"),
        ("::", None, "all addresses"),
        ("", None, "all addresses|not known"),
        ("no-such-host.invalid", None, "not known here"),
        (None, "zc-none", "'zc-none' does not exist on this machine, expected one of"),
        ("localhost", "lo", "both --host and --interface"),
    ],
)
def test_an_address_nobody_could_use_is_refused(
    host: str | None, interface: str | None, says: str
) -> None:
    with pytest.raises(InvalidArgument, match=says):
        common.tcp_address(host, 1, interface, 2)


def test_our_address_towards_loopback_is_loopback() -> None:
    assert common.address_towards("tcp://127.0.0.1:8786") == "127.0.0.1"
    assert common.address_towards("tcp://[::1]:8786") == "::1"
    with pytest.raises(InvalidArgument, match="no way to the scheduler"):
        common.address_towards("tcp://no-port")


def test_plain_tcp_is_warned_of(capsys: pytest.CaptureFixture[str]) -> None:
    common.warn_insecure()
    assert capsys.readouterr().err.startswith("WARNING: --insecure: anyone who can reach")
