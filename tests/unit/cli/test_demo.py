"""The demonstration's task gives pi, and the same each time."""

from __future__ import annotations

import math

import pytest

from zcluster.cli.demo import count_inside


def test_points_inside_give_pi() -> None:
    assert 4 * count_inside(1, 200_000) / 200_000 == pytest.approx(math.pi, abs=0.02)
    assert count_inside(3, 1000) == count_inside(3, 1000) != count_inside(4, 1000)
