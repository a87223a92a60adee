"""How a cluster is named on the command line."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from zcluster.cli.connecting import connect, is_named
from zcluster.errors import InvalidArgument, StartError


def test_an_address_or_a_file_names_a_cluster() -> None:
    assert is_named("ipc:///s", None)
    assert is_named(None, Path("s.json"))
    assert not is_named(None, None)


def test_without_either_the_two_ways_are_said() -> None:
    with pytest.raises(click.UsageError, match=r"address .* or --scheduler-file"):
        connect(None, None, False, 1)


def test_plain_tcp_is_refused_as_everywhere() -> None:
    with pytest.raises(InvalidArgument, match="insecure"):
        connect("tcp://127.0.0.1:1", None, False, 1)


def test_an_address_counts_more_than_the_variable_s_file(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="nobody"):
        connect(f"ipc://{tmp_path}/nobody", tmp_path / "none.json", False, 0.05)
