"""Bars in a real terminal: a pseudo-terminal with a script behind it."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.processes

SCRIPT = """
import sys, time
from zcluster import Client

def nap(number):
    time.sleep(0.3)
    if number == 7:
        print("seven")
    return number

with Client(n_workers=2, threads_per_worker=1) as client:
    client.submit(nap, -1).result()
    print("began", flush=True)
    try:
        print("sum", sum(client.gather(client.map(nap, range(int(sys.argv[1]))))))
    except KeyboardInterrupt:
        print("interrupted")
print("end")
"""


def in_terminal(folder: Path, *arguments: str, watch: Callable[[str, int], None]) -> str:
    """Run the script in a terminal; ``watch`` is called with all it has said so far."""
    script = folder / "script.py"
    script.write_text(textwrap.dedent(SCRIPT))
    ours, theirs = pty.openpty()
    said = b""
    with subprocess.Popen(
        [sys.executable, str(script), *arguments],
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        env=os.environ | {"COLUMNS": "80"},
    ) as process:
        os.close(theirs)
        while True:
            try:
                piece = os.read(ours, 4096)
            except OSError:  # how Linux says that the other side is closed
                break
            if not piece:
                break
            said += piece
            watch(said.decode(errors="replace"), process.pid)
        os.close(ours)
        assert process.wait(10) == 0
    return said.decode()


def rows(said: str) -> list[str]:
    """Return what is left on the screen, line by line."""
    lines = []
    for line in said.replace("\r\n", "\n").split("\n"):
        drawn = ""
        for part in line.split("\r"):
            drawn = part + drawn[len(part) :]
        lines.append(drawn.rstrip())
    return lines


def test_a_wait_of_more_than_a_second_shows_a_bar_and_leaves_the_screen_clean(
    tmp_path: Path,
) -> None:
    said = in_terminal(tmp_path, "12", watch=lambda *_: None)
    assert "/12 [" in said
    left = [row for row in rows(said) if row]
    assert left[0] == "began"
    assert left[1] in ("[local-0] seven", "[local-1] seven")
    assert left[2:] == ["sum 66", "end"]


def test_ctrl_c_ends_the_bar(tmp_path: Path) -> None:
    sent = False

    def interrupt(said: str, pid: int) -> None:
        nonlocal sent
        if not sent and "/200 [" in said:
            sent = True
            os.kill(pid, signal.SIGINT)

    said = in_terminal(tmp_path, "200", watch=interrupt)
    assert sent
    left = [row for row in rows(said) if row and "seven" not in row]
    assert left == ["began", "interrupted", "end"]


@pytest.mark.slow
def test_no_terminal_no_bar(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT))
    run = subprocess.run(
        [sys.executable, str(script), "10"], capture_output=True, text=True, timeout=30
    )
    assert run.stderr == ""
    assert run.stdout.splitlines()[-2:] == ["sum 45", "end"]
