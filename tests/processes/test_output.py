"""What tasks print, log and warn of, from real workers to the terminal of a script."""

from __future__ import annotations

import ctypes
import logging
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from zcluster.client.client import Client
from zcluster.errors import WorkerKilledError

pytestmark = pytest.mark.processes

Until = Callable[..., None]


@pytest.fixture(scope="module")
def shared() -> Iterator[Client]:
    """One node with two workers."""
    with Client(n_workers=2, threads_per_worker=2) as made:
        yield made


@pytest.fixture
def client(shared: Client) -> Iterator[Client]:
    """The shared cluster, with a client of this test's own: its printer has ended at the end."""
    with Client(shared._engine.address) as made:
        yield made


def say(text: str, times: int = 1) -> int:
    for _ in range(times):
        print(text)
    return times


def say_all(number: int) -> int:
    print("printed", number)
    print("to the errors", number, file=sys.stderr)
    logging.getLogger("mine").warning("logged %d", number)
    warnings.warn(f"warned {number}", stacklevel=1)
    print("without an end", number, end="")
    return number


def test_print_log_and_warnings_are_in_the_log_of_their_task(client: Client) -> None:
    futures = client.map(say_all, range(20), pure=False)
    assert client.gather(futures) == list(range(20))
    for number, future in enumerate(futures):
        text = future.log()
        assert f"printed {number}\nto the errors {number}\nlogged {number}\n" in text
        assert f"UserWarning: warned {number}\n" in text
        assert text.endswith(f"without an end {number}")


def test_lines_are_shown_whole_with_the_worker_s_name(
    client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = [f"{letter * 50}" for letter in "abcdefgh"]
    client.gather(client.map(say, texts, [50] * 8, pure=False))
    client.close()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 400
    for line in lines:
        assert re.fullmatch(r"\[local-[01]\] ([a-h])\1{49}", line), line


def test_the_switch_silences_this_client_alone(
    client: Client, shared: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    client.forward_output = False
    future = client.submit(say, "quiet", pure=False)
    future.result()
    shared.submit(say, "loud", pure=False).result()
    assert future.log() == "quiet\n"
    client.close()
    assert re.fullmatch(r"\[local-[01]\] loud\n", capsys.readouterr().out)


def say_and_fail(text: str) -> None:
    print(text, end="")
    raise ValueError("no")


def test_what_was_printed_is_there_when_the_error_is(client: Client) -> None:
    for number in range(20):
        future = client.submit(say_and_fail, str(number), pure=False)
        assert isinstance(future.exception(), ValueError)
        assert future.log() == str(number)


def flood(lines: int) -> int:
    for number in range(lines):
        print("line", number)
    return lines


def test_a_flood_is_cut_counted_and_harms_nobody(
    client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    """Row 49 of the faults: 64 KiB/s for each worker, and the rest is counted."""
    began = time.monotonic()
    futures = client.map(flood, [60_000] * 2, pure=False)
    while not all(future.done() for future in futures):
        # Others are not held up by it.
        assert client.submit(abs, -1, pure=False).result(10) == 1
    seconds = time.monotonic() - began
    client.gather(futures)
    client.close()
    said = capsys.readouterr()
    assert len(said.out) < (64 << 10) * (seconds + 2) * 2 * 2, "with the prefixes"
    left_out = re.findall(r"… ([\d,]+) lines left out \(more than 64", said.err)
    assert left_out
    shown = said.out.count("\n")
    assert sum(int(count.replace(",", "")) for count in left_out) + shown == 120_000


def talk_beside(number: int) -> int:
    thread = threading.Thread(target=print, args=("from a thread",))
    thread.start()
    thread.join()
    subprocess.run([sys.executable, "-c", "print('from a process')"], check=True)
    return number


def test_what_threads_and_processes_of_a_task_print_is_not_the_task_s(client: Client) -> None:
    """They belong to no task that is known."""
    future = client.submit(talk_beside, 1, pure=False)
    assert future.result() == 1
    assert future.log() == ""


def close_streams() -> None:
    sys.stdout.close()
    sys.stderr.close()
    print("closed by name")


def replace_streams() -> None:
    sys.stdout = sys.stderr = None


@pytest.mark.parametrize(
    "spoil", [close_streams, pytest.param(replace_streams, marks=pytest.mark.slow)]
)
def test_a_task_that_spoils_the_streams_does_not_silence_the_next(
    spoil: Callable[[], None],
) -> None:
    with Client(n_workers=1, threads_per_worker=1) as client:
        client.submit(spoil, pure=False).exception()
        future = client.submit(say, "after", pure=False)
        assert future.result() == 1
        assert future.log() == "after\n"


def close_all_descriptors() -> None:
    os.closerange(0, 4096)
    time.sleep(0.2)


@pytest.mark.parametrize("where", ["/", "gone"])
def test_a_task_may_change_the_folder_and_the_signals(
    client: Client, where: str, tmp_path: Path
) -> None:
    folder = tmp_path if where == "gone" else Path(where)

    def spoil() -> None:
        libc = ctypes.CDLL(None)
        os.chdir(folder)
        for number in (signal.SIGTERM, signal.SIGCHLD, signal.SIGINT, signal.SIGPIPE):
            libc.signal(int(number), 1)  # ignored: only a main thread may ask Python for that
        if where == "gone":
            folder.rmdir()

    client.submit(spoil, pure=False).result(10)
    futures = client.map(say, ["fine"] * 20, pure=False)
    assert sum(client.gather(futures)) == 20


@pytest.mark.slow
def test_a_task_that_closes_all_descriptors_costs_its_worker_alone() -> None:
    """Row 49: it counts as killed, and what is beside it goes on."""
    with Client(n_workers=2, threads_per_worker=1) as client:
        bad = client.submit(close_all_descriptors, pure=False)
        others = client.map(say, ["fine"] * 50, pure=False)
        assert isinstance(bad.exception(20), WorkerKilledError)
        assert sum(client.gather(others)) == 50


@pytest.mark.slow
def test_a_script_with_a_closed_output_still_gets_its_results(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            """
            import sys
            from zcluster import Client

            def say(x):
                print("lost", x)
                return x

            client = Client(n_workers=1, threads_per_worker=1)
            sys.stdout.close()
            total = sum(client.gather(client.map(say, range(100))))
            client.close()
            sys.exit(total != 4950)
            """
        )
    )
    run = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=30)
    assert (run.returncode, run.stderr) == (0, "")
