"""Interleaved rounds of the contestants of a benchmark, each time in a fresh process.

Every contestant runs once per round, and the rounds are interleaved (zcluster, dask, ray,
zcluster, dask, ...; backwards every second time). So all of them see the same machine at the
same time, none runs beside the idle processes of another, and none profits from what an earlier
round left warm. The script itself is started again for that, with ``--contestant NAME``, and
answers in lines of JSON that start with ``RESULT``.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from common import Contestant, WrongAnswer, say
from table import ABSENT, Outcome, Row, show

PEERS = "ZCLUSTER_PEERS_PYTHON"
SETUP = f"""Peers are measured with the interpreter that {PEERS} names; it is not set. To set it up:
    python -m venv peers && peers/bin/pip install "dask[distributed]" ray loky numpy
    export {PEERS}=$PWD/peers/bin/python"""
DEADLINE = 400.0  # seconds a contestant may take for a round; then its process group is killed


def run(script: str, title: str, contestants: Sequence[Contestant], rows: Sequence[Row]) -> int:
    """Measure, print the table, and return the exit code: 1 if an answer was wrong, else 0."""
    parser = argparse.ArgumentParser(description=title)
    parser.add_argument("--quick", action="store_true", help="small sizes, 1 round")
    parser.add_argument("--rounds", type=int, help="rounds of each contestant (default 5)")
    parser.add_argument("--only", metavar="NAMES", help="contestants to run, by comma")
    parser.add_argument("--contestant", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contestant is not None:
        return _answer({each.name: each for each in contestants}[options.contestant], options.quick)
    rounds = (1 if options.quick else 5) if options.rounds is None else options.rounds
    if rounds < 1:
        parser.error(f"--rounds: found {rounds}, expected 1 or more")
    names = [each.name for each in contestants]
    only = options.only.split(",") if options.only else names
    if unknown := sorted(set(only) - set(names)):
        parser.error(f"--only: no contestant {', '.join(unknown)}; there are {', '.join(names)}")
    taking_part = [each for each in contestants if each.name in only]
    outcomes = _rounds(script, taking_part, rounds, options.quick)
    print(f"{title}; median of {rounds} interleaved round{'s'[: rounds > 1]}")
    show(rows, outcomes)
    if any(outcome.trouble == ABSENT for outcome in outcomes.values()):
        print(SETUP)
    if options.quick:
        print("quick: sizes are small; the bars are meant for a full run")
    return int(any(outcome.wrong for outcome in outcomes.values()))


def _answer(contestant: Contestant, quick: bool) -> int:
    """In the contestant's own process: measure, and say the result on one line."""
    try:
        say({"measured": contestant.measure(quick)})
    except WrongAnswer:
        return 1  # `check` has said it already
    except ModuleNotFoundError as error:
        say({"missing": f"{ABSENT}: no module {error.name}"})
    return 0


def _rounds(
    script: str, contestants: Sequence[Contestant], rounds: int, quick: bool
) -> dict[str, Outcome]:
    outcomes = {each.name: Outcome() for each in contestants}
    for number in range(rounds):
        for each in contestants if number % 2 == 0 else reversed(contestants):
            if not outcomes[each.name].trouble:
                _one(script, each, quick, outcomes[each.name])
    return outcomes


def _one(script: str, contestant: Contestant, quick: bool, outcome: Outcome) -> None:
    """One round of one contestant, in a fresh process of its own group."""
    python = os.environ.get(PEERS) if contestant.peer else sys.executable
    if not python:
        outcome.trouble = ABSENT
        return
    # PYTHONPATH is meant for this interpreter; another one may not even be able to load it.
    environ = {k: v for k, v in os.environ.items() if not (contestant.peer and k == "PYTHONPATH")}
    command = [python, script, "--contestant", contestant.name, *["--quick"] * quick]
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        # Files, not pipes: a grandchild that outlives its parent would hold a pipe open.
        try:
            process = subprocess.Popen(
                command, env=environ, stdout=out, stderr=err, start_new_session=True
            )
        except OSError as error:
            outcome.trouble = f"failed: cannot start {python}: {error.strerror}"
            return
        late = _wait(process)
        out.seek(0)
        err.seek(0)
        _note(outcome, out.read(), err.read(), late)


def _wait(process: subprocess.Popen[bytes]) -> bool:
    """Wait for the end, until the deadline; True if it was late.

    In any case, Ctrl-C included, the rest of its group is ended: processes that a contestant
    leaves behind would be measured together with the next one.
    """
    try:
        process.wait(DEADLINE)
    except subprocess.TimeoutExpired:
        return True
    finally:
        with suppress(ProcessLookupError):  # the usual case: nobody is left
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return False


def _note(outcome: Outcome, out: str, err: str, late: bool) -> None:
    answer: dict[str, Any] = {}
    for line in out.splitlines():
        if line.startswith("RESULT "):
            answer |= json.loads(line[7:])
    if "wrong" in answer:
        outcome.wrong, outcome.trouble = True, f"WRONG ANSWER: {answer['wrong']}"
    elif "measured" in answer:
        # A system that answers and then cannot stop has still not done its work.
        outcome.rounds.append(answer["measured"])
        outcome.trouble = f"failed: did not end within {DEADLINE:.0f} s" if late else ""
    elif late:
        outcome.trouble = f"failed: no answer within {DEADLINE:.0f} s"
    else:
        last = (err.strip().splitlines() or ["no output"])[-1]
        outcome.trouble = answer.get("missing") or f"failed: {last[:200]}"
