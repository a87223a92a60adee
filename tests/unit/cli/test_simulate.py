"""``zcluster simulate`` is the command of the pretend cluster."""

from __future__ import annotations

import pytest

from zcluster.cli.main import main
from zcluster.cli.simulate import simulate
from zcluster.testing.command import simulate as command


def test_it_is_the_command_of_the_pretend_cluster(capsys: pytest.CaptureFixture[str]) -> None:
    assert simulate is command
    assert main(["simulate", "--seed", "5", "--without", ""]) == 0
    assert capsys.readouterr().out.startswith("seed 5 is fine")


def test_a_fault_that_does_not_exist_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", "--only", "fire"]) == 2
    assert "no fault is called 'fire'" in capsys.readouterr().err
