"""A minute of chaos: one kill a second and more, and every answer is right."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.processes

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "chaos.py"


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_minute_of_chaos_gives_right_answers_and_leaves_nothing() -> None:
    """A seed of its own each time; the first line says which."""
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--seconds=60", "--workers=4", "--rate=1"],
        env={key: value for key, value in os.environ.items() if key != "TMPDIR"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=380,
        check=False,
    )
    print(done.stdout)
    assert done.returncode == 0, done.stdout[-4000:]
    assert done.stdout.endswith("passed\n")
