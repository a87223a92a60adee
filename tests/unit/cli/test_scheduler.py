"""What zcluster-scheduler refuses, before any server is imported."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from zcluster.cli import scheduler


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--port", "8786"], "TCP was asked for"),
        (["--host", "127.0.0.1"], "where to put them with --scheduler-file=FILE"),
        (["--interface", "lo"], "--insecure"),
        (["--address", "tcp://127.0.0.1:1"], "--insecure"),
        (["--port", "70000", "--insecure"], "70000 is not in the range"),
        (["--port", "x"], "'x' is not a valid integer"),
        (["--host", "0.0.0.0", "--insecure"], "all addresses"),
        (["--log-level", "loud"], "'loud' is not one of"),
        (["--allowed-failures", "0"], "0 is not in the range"),
        (["--local-directory", "/no/such"], "/no/such"),
        (["--no-such-option"], "--no-such-option"),
        (["word"], "word"),
    ],
)
def test_nonsense_is_status_2_and_one_sentence(
    options: list[str],
    says: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "argv", ["zcluster-scheduler", *options])
    assert scheduler.main() == 2
    said = capsys.readouterr().err.splitlines()
    assert said[-1].startswith("zcluster-scheduler: ")
    assert says in said[-1]


def test_a_folder_too_long_for_a_socket_is_status_2_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    monkeypatch.setattr(sys, "argv", ["zcluster-scheduler", "--local-directory", str(deep)])
    assert scheduler.main() == 2
    assert "at most 107" in capsys.readouterr().err or sys.platform == "darwin"
    assert list(deep.iterdir()) == []
