"""What the benchmark calls on workers, and that a wrong answer ends it."""

from __future__ import annotations

import pytest

from zcluster.cli.bench import _check, increment, length, make
from zcluster.errors import ClusterError


def test_what_workers_are_asked_to_do() -> None:
    assert increment(2) == 3
    assert make(100, 7) != make(100, 8)
    assert length(make(100, 7)) == 100


def test_a_wrong_answer_is_no_figure() -> None:
    _check("a result", 3, 3)
    with pytest.raises(ClusterError, match="a result is 4, expected 3: the cluster computes"):
        _check("a result", 4, 3)
