"""Bytes that went wrong, in every reader of bytes: refused or taken, and nothing else.

The volume is in ``benchmarks/fuzz.py``, which is run here; what shrinks is here.
"""

from __future__ import annotations

import random
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zcluster.errors import ProtocolError
from zcluster.protocol import messages
from zcluster.protocol.frames import Decoder, encode
from zcluster.protocol.messages import Message
from zcluster.testing.samples import Sampler, mutated

SCRIPT = Path(__file__).resolve().parents[3] / "benchmarks" / "fuzz.py"
GROUPS = {
    "CLIENT_TO_SCHEDULER": messages.CLIENT_TO_SCHEDULER,
    "SCHEDULER_TO_CLIENT": messages.SCHEDULER_TO_CLIENT,
    "SCHEDULER_TO_NODE": messages.SCHEDULER_TO_NODE,
    "NODE_TO_SCHEDULER": messages.NODE_TO_SCHEDULER,
    "NODE_TO_WORKER": messages.NODE_TO_WORKER,
    "WORKER_TO_NODE": messages.WORKER_TO_NODE,
    "DATA_PORT": messages.DATA_PORT,
}
DECODERS = {group: Decoder(accepts) for group, accepts in GROUPS.items()}


@pytest.mark.parametrize("group", GROUPS)
@settings(max_examples=40, deadline=None)
@given(chance=st.randoms(use_true_random=False), data=st.data())
def test_what_went_wrong_is_refused_or_a_message(
    group: str, chance: random.Random, data: st.DataObject
) -> None:
    kinds: list[type[Message]] = list(GROUPS[group])
    said = Sampler(chance).sample(data.draw(st.sampled_from(kinds)))
    assert encode(DECODERS[group].decode(encode(said))) == encode(said)
    wrong = mutated(encode(said), [encode(said)], chance)
    try:
        heard = DECODERS[group].decode(wrong)
    except ProtocolError:
        return
    assert type(heard) in kinds
    assert encode(DECODERS[group].decode(encode(heard))) == encode(heard)


def run_script(inputs: int) -> tuple[int, float]:
    """Run the script with a seed of its own; return how many it read, and seconds."""
    run = subprocess.run(
        [sys.executable, "-P", str(SCRIPT), f"--inputs={inputs}"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stdout + run.stderr  # the seed stands in its first line
    said = re.search(r"^(\d+) inputs in ([\d.]+) s", run.stdout, re.MULTILINE)
    assert said is not None, run.stdout
    return int(said[1]), float(said[2])


def test_twenty_thousand_inputs_are_refused_or_taken() -> None:
    assert run_script(20_000)[0] == 20_000


@pytest.mark.slow
@pytest.mark.timeout(330)
def test_a_million_inputs_are_refused_or_taken() -> None:
    count, seconds = run_script(1_000_000)
    assert count == 1_000_000
    assert seconds < 200  # a minute is for a machine that does nothing else
