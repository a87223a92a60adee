"""The live view: it fits the terminal, and takes keys for what they are."""

from __future__ import annotations

from typing import Any

import pytest

from zcluster.cli.overview import Overview
from zcluster.cli.status import redrawn


def overview(nodes: int, names: list[str]) -> Overview:
    made: list[dict[str, Any]] = [
        {
            "name": f"n{number}",
            "host": "h",
            "away": False,
            "store_used": 0,
            "store_limit": 0,
            "lag": 0.0,
            "assigned": 0,
            "memory": [],
            "made": [],
            "spilled": 0,
            "workers": [],
        }
        for number in range(nodes)
    ]
    tasks = {name: {"ready": 1} for name in names}
    return Overview(
        {"address": "ipc:///s", "nodes": made, "clients": 0, "finished": 0, "tasks": tasks}
    )


def render(view: Overview, height: int = 24, width: int = 100) -> list[str]:
    text = redrawn(view, width, height)
    assert text.startswith("\x1b[H")
    assert text.endswith("\x1b[J")
    return [line.removesuffix("\x1b[K") for line in text[3:-3].splitlines()]


@pytest.mark.parametrize("height", [15, 24, 50])
def test_it_fits_the_terminal(height: int) -> None:
    lines = render(overview(30, [f"t{number}" for number in range(60)]), height)
    assert len(lines) < height
    assert any("more nodes" in line for line in lines)
    assert any("more names" in line for line in lines)


def test_everything_is_shown_where_it_fits() -> None:
    lines = render(overview(2, ["a", "b"]), 30)
    assert not any("more" in line for line in lines)
    assert sum(line.startswith(("n0", "n1", "a", "b")) for line in lines) == 4


def test_lines_are_cut_at_the_edge() -> None:
    assert all(len(line) < 30 for line in render(overview(3, ["x" * 200]), width=30))


def test_control_characters_in_a_key_do_not_reach_the_terminal() -> None:
    lines = render(overview(0, ["\x1b[2J", "a\nb"]))
    assert any(line.startswith(r"'\x1b[2J'") for line in lines)
    assert any(line.startswith(r"'a\nb'") for line in lines)
